"""A flow on disk comes back bit for bit; anything else is refused, and nothing is unpickled."""

import json

import pytest
import safetensors.torch
import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow, flow_from_file, flow_to_bytes, round_weights

ARCHITECTURE = Architecture(features=3, context=2, n_blocks=2, hidden=16, n_layers=1)


@pytest.fixture
def flow():
    torch.manual_seed(0)
    return build_flow(ARCHITECTURE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flow.safetensors"


def refused(path):
    with pytest.raises(PopcatError, match=r"flow.safetensors holds no flow that popcat stored: "):
        flow_from_file(path)


def test_a_stored_flow_comes_back_bit_for_bit(flow, path):
    path.write_bytes(flow_to_bytes(flow, ARCHITECTURE))
    again, architecture = flow_from_file(path)
    assert architecture == ARCHITECTURE
    assert not again.training
    assert again.state_dict().keys() == flow.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in flow.state_dict().items())
    x, context = torch.randn(9, 3), torch.randn(9, 2)
    assert torch.equal(again.log_prob(x, context), flow.eval().log_prob(x, context))


@pytest.mark.parametrize("family", ["maf", "spline", "coupling"])
def test_every_family_comes_back(path, family):
    architecture = ARCHITECTURE.model_copy(update={"family": family, "n_bins": 5, "activation": "silu"})
    flow = build_flow(architecture).eval()
    path.write_bytes(flow_to_bytes(flow, architecture))
    again, stored = flow_from_file(path)
    x, context = torch.randn(9, 3), torch.randn(9, 2)
    assert stored == architecture
    assert torch.equal(again.log_prob(x, context), flow.log_prob(x, context))


def test_rounded_weights_take_half_the_room_and_come_back_bit_for_bit(path):
    flow = build_flow(ARCHITECTURE.model_copy(update={"hidden": 64})).eval()
    architecture = ARCHITECTURE.model_copy(update={"hidden": 64})
    whole, before = flow_to_bytes(flow, architecture), [value.clone() for value in flow.parameters()]
    round_weights(flow)
    for value, old in zip(flow.parameters(), before, strict=True):
        torch.testing.assert_close(value, old, rtol=2**-11, atol=2**-24)
    path.write_bytes(flow_to_bytes(flow, architecture))
    assert path.stat().st_size < 0.6 * len(whole)
    again, _ = flow_from_file(path)
    x, context = torch.randn(9, 3), torch.randn(9, 2)
    assert torch.equal(again.log_prob(x, context), flow.log_prob(x, context))
    assert all(value.dtype == torch.float32 for value in again.parameters())


def test_the_same_flow_gives_the_same_bytes(flow, path):
    path.write_bytes(flow_to_bytes(flow, ARCHITECTURE))
    assert flow_to_bytes(*flow_from_file(path)) == path.read_bytes()


def test_a_missing_file_is_refused(path):
    refused(path)


@pytest.mark.parametrize("n_bytes", [0, 5, 300, -1])
def test_a_cut_file_is_refused(flow, path, n_bytes):
    path.write_bytes(flow_to_bytes(flow, ARCHITECTURE)[:n_bytes])
    refused(path)


def test_safetensors_of_something_else_are_refused(path):
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}))
    refused(path)


OTHER_HEADERS = {
    "no architecture": {"format": "pt"},
    "not JSON": {"architecture": "maf"},
    "another family": {"architecture": json.dumps(ARCHITECTURE.model_dump() | {"family": "nsf"})},
    "another shape": {"architecture": ARCHITECTURE.model_copy(update={"hidden": 32}).model_dump_json()},
    "more blocks": {"architecture": ARCHITECTURE.model_copy(update={"n_blocks": 3}).model_dump_json()},
}


@pytest.mark.parametrize("case", OTHER_HEADERS)
def test_a_header_that_does_not_fit_the_weights_is_refused(flow, path, case):
    path.write_bytes(safetensors.torch.save(dict(flow.state_dict()), metadata=OTHER_HEADERS[case]))
    refused(path)


class _Trap:
    """Unpickling it touches a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def test_a_pickle_is_refused_and_not_run(path, tmp_path):
    torch.save({"weights": torch.zeros(2), "trap": _Trap(tmp_path / "sprung")}, path)
    refused(path)
    assert not (tmp_path / "sprung").exists()


def test_weights_that_a_mask_hides_are_zero(flow):
    masked = [module for module in flow.modules() if hasattr(module, "mask")]
    assert masked and all(torch.equal(module.weight, module.weight * module.mask) for module in masked)
    assert any((module.mask == 0).any() for module in masked)
