"""The torch twin is held to the numba kernels, in values and gradients, in double and in single precision."""

import copy

import numpy as np
import pytest
import torch

from popcat.forward.histories import load_bases
from popcat.forward.photometry import Photometry
from popcat.forward.table_arrays import in_double
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import load_survey

SURVEY = load_survey("sdss")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(scope="module")
def photometry():
    return Photometry(SURVEY, GalaxyModel())


@pytest.fixture(scope="module")
def precise(photometry):
    """The same with tables in float64: float32 leaves 1e-4 of the difference between two redshifts."""
    result = copy.copy(photometry)
    result.kernel_tables = in_double(photometry.kernel_tables)
    return result


def draws(n, seed=1, changes=None, settings=None):
    """theta (n, d) and redshift (n,) from the prior, with parameters changed by the number of their column."""
    rng, prior = np.random.default_rng(seed), make_prior(settings or GalaxyModel())
    theta = prior.from_unit(rng.random((n, prior.n_unconstrained)))
    for column, value in (changes or {}).items():
        theta[:, column] = value
    return theta, rng.uniform(*SURVEY.redshift_range, n)


def vjp(twin, theta, redshift, v):
    """Flux and gradients of sum(v flux) by autograd, as numpy."""
    theta, redshift, v = (torch.tensor(x).to(twin.component) for x in (theta, redshift, v))
    theta.requires_grad_()
    redshift.requires_grad_()
    flux = twin(theta, redshift)
    torch.sum(v * flux).backward()
    return tuple(x.detach().cpu().double().numpy() for x in (flux, theta.grad, redshift.grad))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", [{}, {5: 0.0}, {5: 1.0}, {6: 13.2}, {6: 0.05}, {9: 3.0, 10: 3.0, 11: -2.0},
                                     {7: -4.5, 8: -4.5}, {7: -1.5, 8: -1.5}], ids=str)  # fmt: skip
def test_values_and_gradients_agree_in_double_precision(precise, changes, device):
    theta, redshift = draws(300, changes=changes)
    v = np.random.default_rng(2).normal(size=(300, 5))
    expected = precise.flux_vjp(theta, redshift, v)
    size = np.sum(np.abs(v * expected[0]), axis=1)
    flux, grad, grad_z = vjp(TorchPhotometry(precise, dtype=torch.float64).to(device), theta, redshift, v)
    np.testing.assert_allclose(flux, expected[0], rtol=1e-5)
    assert np.max(np.abs(grad - expected[1]) / (size[:, None] + np.abs(expected[1]))) < 1e-5
    assert np.max(np.abs(grad_z - expected[2]) / (size + np.abs(expected[2]))) < 1e-5


@pytest.mark.parametrize("device", DEVICES)
def test_single_precision_is_good_to_a_few_parts_in_a_hundred_thousand(photometry, device):
    theta, redshift = draws(1000, changes={5: 0.3})
    twin = TorchPhotometry(photometry).to(device)
    with torch.no_grad():
        flux = twin(torch.tensor(theta).to(twin.component), torch.tensor(redshift).to(twin.component)).cpu().numpy()
    expected = photometry.flux(theta, redshift)
    # float32 may put a burst or the age of the universe on the other side of an edge
    error = np.abs(flux / expected - 1.0)[expected > 1e-10 * expected.max(axis=1, keepdims=True)]
    assert np.quantile(error, 0.99) < 2e-5


@pytest.fixture
def two_and_three(tmp_path):
    """A CSV file of two star-formation and three metallicity bases."""
    popcat = load_bases("popcat")
    table = np.column_stack([popcat.lookback_gyr, *popcat.sfh[:2], *popcat.zh, popcat.zh[0]])[:-1]
    np.savetxt(tmp_path / "b.csv", table, delimiter=",", header="lookback_gyr,sfh1,sfh2,zh1,zh2,zh3", comments="")
    return str(tmp_path / "b.csv")


@pytest.mark.parametrize("settings", [{"binning": "midpoint"}, {"birth_cloud_age_gyr": 0.0},
                                      {"metallicity": "constant"}, {"bases": "two and three"}], ids=str)  # fmt: skip
def test_variants_of_the_model_agree(settings, two_and_three):
    narrow = SURVEY.model_copy(update={"redshift_range": (0.3, 0.34)})
    own = {"bases": two_and_three, "n_sfh_bases": 2, "n_metallicity_bases": 3}
    settings = GalaxyModel(**settings | (own if "bases" in settings else {}))
    photometry = Photometry(narrow, settings)
    theta, _ = draws(50, settings=settings)
    redshift = np.linspace(0.3, 0.34, 50)
    twin = TorchPhotometry(photometry, dtype=torch.float64)
    flux = twin(torch.tensor(theta), torch.tensor(redshift)).numpy()
    np.testing.assert_allclose(flux, photometry.flux(theta, redshift), rtol=1e-5)


def test_no_galaxy_has_no_flux(photometry):
    assert TorchPhotometry(photometry)(torch.zeros(0, 12), torch.zeros(0)).shape == (0, 5)


def test_the_memory_of_a_galaxy_is_what_the_module_says(photometry):
    theta, redshift = draws(1000)
    twin, kept = TorchPhotometry(photometry), {}
    own = {buffer.untyped_storage().data_ptr() for buffer in twin.buffers()}

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        flux = twin(torch.tensor(theta, dtype=torch.float32, requires_grad=True),
                    torch.tensor(redshift, dtype=torch.float32))  # fmt: skip
    assert flux.requires_grad
    assert sum(kept.values()) / 1000 == pytest.approx(6.5e3, rel=0.15)
