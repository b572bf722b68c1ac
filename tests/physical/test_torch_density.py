"""The physical prior in torch is that of the numba kernel, for every kind of galaxy model, and on the device alone."""

import numpy as np
import pytest
import torch
from devices import DEVICES, NothingElsewhere

from popcat.flows.placement import moved
from popcat.galaxy_model import GalaxyModel
from popcat.physical import torch_density
from popcat.physical.density import Known
from popcat.physical.induced import summarise
from popcat.physical.prior import JointPrior, _evaluate
from popcat.physical.torch_density import TorchJointPrior

REDSHIFTS = (0.05, 1.2)
MODELS = {
    "default": {},
    "steps": {"history": "continuity"},
    "fractional": {"history": "fractional", "dust_law": "charlot_fall"},
    "formula": {"history": "delayed_tau", "metallicity": "constant", "dust_law": "calzetti"},
    "two formulae": {"history": "lognormal", "dust_law": "salim"},
    "no law of the mass": {"priors": {"log_mstar_formed": {"family": "fixed", "value": 10.0},
                                      "tau_ism": {"family": "tied", "to": "tau_bc", "factor": 0.5}}},
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def joint(request):
    return JointPrior(GalaxyModel.model_validate(MODELS[request.param]), REDSHIFTS, n_draws=3000)


def draws(joint, n=2000, seed=1):
    random = np.random.default_rng(seed)
    theta = joint.prior.from_unit(random.uniform(size=(n, joint.prior.n_unconstrained)))
    return theta, random.uniform(*joint.redshift_range, n)


def tensors(device, *arrays):
    return [torch.from_numpy(np.ascontiguousarray(one, dtype=float)).to(device) for one in arrays]


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_factors_are_about_is_that_of_the_kernel(joint, device, monkeypatch):
    monkeypatch.setattr(torch_density, "_HISTORIES", 300)
    theta, z = draws(joint)
    expected = joint._known(theta, z, summarise(joint.stars, joint.cosmology, theta, z))
    found = moved(TorchJointPrior(joint), device).known(*tensors(device, theta, z))
    for name, ours, theirs in zip(Known._fields, found, expected, strict=True):
        np.testing.assert_allclose(ours.cpu().numpy(), theirs, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_the_ratio_is_that_of_the_kernel(joint, device):
    theta, z = draws(joint)
    known = joint._known(theta, z, summarise(joint.stars, joint.cosmology, theta, z))
    masses = np.random.default_rng(2).uniform(6.0, 13.5, (len(z), 7))  # beyond the tables' ends too
    twin = moved(TorchJointPrior(joint), device)
    found = twin.log_ratio_of_masses(Known(*tensors(device, *known)), *tensors(device, masses))
    np.testing.assert_allclose(found.cpu().numpy(), _evaluate(joint.factors, known, masses), atol=1e-9)
    np.testing.assert_allclose(twin(*tensors(device, theta, z)).cpu().numpy(), joint.log_ratio(theta, z), atol=1e-9)


def test_beyond_the_ranges_and_for_what_is_no_number_it_looks_nowhere_else(joint):
    known = Known(*torch.tensor([[-5.0, 9.0, torch.nan, torch.inf]], dtype=torch.float64).expand(len(Known._fields), 4))
    assert TorchJointPrior(joint).log_ratio_of_masses(known, known.s[:, None].expand(4, 3)).shape == (4, 3)


def test_draws_of_some_galaxies_are_those_of_all(joint):
    theta, z = draws(joint, 60)
    theta, z = tensors("cpu", theta.reshape(12, 5, -1), z.reshape(12, 5))
    masses = torch.linspace(8.0, 12.0, 4, dtype=torch.float64).expand(60, 4)
    twin = TorchJointPrior(joint)
    expected = twin.log_ratio_of_masses(twin.known(theta.flatten(0, 1), z.flatten()), masses)
    some = twin.of_draws(theta, z)(slice(3, 8), masses[15:40])
    torch.testing.assert_close(some, expected[15:40], rtol=1e-12, atol=1e-12)


def test_all_of_it_happens_on_the_device(joint):
    twin = moved(TorchJointPrior(joint), "meta")
    theta = torch.empty(6, 5, len(joint.prior.names), dtype=torch.float64, device="meta")
    with NothingElsewhere():
        ratio = twin.of_draws(theta, theta[..., 0])(slice(0, 6), theta[..., :3].flatten(0, 1))
    assert ratio.shape == (30, 3) and ratio.device.type == "meta"
