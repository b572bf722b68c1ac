"""What popcat uses of nflows and torch that is not public is named in one module each, and is still there."""

import pytest
import torch
from upstream import still_there, users_of

from popcat.flows import autoregressive
from popcat.flows.architecture import Architecture, Halves, Made, blocks_of, build_flow

HOME = "popcat/flows/architecture.py (blocks_of, _made, _halves)"
NFLOWS = ("_transforms", "_permutation", "autoregressive_net", "initial_layer", "final_layer", "context_layer",
          "transform_net", "identity_features", "transform_features", "num_bins", "tail_bound")  # fmt: skip


def blocks(family):
    shape = Architecture(family=family, features=4, context=2, n_blocks=2, hidden=16, n_layers=2, n_bins=6)
    with still_there("the parts of a flow", "nflows", HOME):
        return blocks_of(build_flow(shape))


def test_parts_of_nflows_are_named_in_one_module():
    assert users_of(*NFLOWS) == {"flows/architecture.py"}


def test_torchs_product_through_onednn_is_named_in_one_module():
    assert users_of("mkldnn", "_linear_pointwise") == {"flows/autoregressive.py"}


@pytest.mark.parametrize("family", ["maf", "spline"])
def test_an_autoregressive_block_has_the_parts_of_a_made(family):
    for block in blocks(family):
        made, n_out = block.network, 3 * 6 - 1 if family == "spline" else 2
        assert isinstance(made, Made)
        assert sorted(block.permutation.tolist()) == [0, 1, 2, 3]
        assert [tuple(layer.weight.shape) for layer in made.layers] == [(16, 4), (16, 16), (16, 16), (4 * n_out, 16)]
        assert all(layer.mask.shape == layer.weight.shape for layer in made.layers)
        assert tuple(made.context.weight.shape) == (16, 2)
        assert made.activation is torch.nn.functional.relu
        assert (block.n_bins, block.bound) == ((6, 5.0) if family == "spline" else (0, torch.inf))


def test_a_mask_joins_units_to_what_their_degrees_allow():
    made = blocks("maf")[0].network
    below = torch.arange(1, 5)
    for layer in made.layers[:-1]:
        assert torch.equal(layer.mask.bool(), layer.degrees[:, None] >= below)
        below = layer.degrees
    assert torch.equal(made.layers[-1].mask.bool(), torch.arange(1, 5).repeat_interleave(2)[:, None] > below)


def test_a_coupling_block_has_a_network_and_two_halves():
    for block in blocks("coupling"):
        halves = block.network
        assert isinstance(halves, Halves)
        assert sorted([*halves.given.tolist(), *halves.changed.tolist()]) == [0, 1, 2, 3]
        assert halves.net(torch.zeros(3, 2), torch.zeros(3, 2)).shape == (3, 2 * 17)
        assert (block.n_bins, block.bound, halves.scale) == (6, 5.0, 0.25)


def test_torch_multiplies_through_onednn():
    a = torch.arange(12.0).reshape(3, 4)
    with still_there("torch.ops.mkldnn._linear_pointwise", "torch", "popcat/flows/autoregressive.py"):
        assert torch.equal(torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""), a @ a.t())
    assert autoregressive.onednn_works()
