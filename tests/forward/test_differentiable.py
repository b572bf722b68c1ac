"""Fluxes under autograd: the values of the kernel, and gradients that torch itself checks."""

import numpy as np
import pytest
import torch

from popcat.errors import PopcatError
from popcat.forward.photometry import Photometry
from popcat.forward.table_arrays import in_double
from popcat.forward.torch_photometry import differentiable_flux
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import load_survey


@pytest.fixture(scope="module")
def photometry():
    """Tables in float64, so that torch's finite differences mean something."""
    survey = load_survey("sdss").model_copy(update={"redshift_range": (0.05, 0.2)})
    photometry = Photometry(survey, GalaxyModel())
    photometry.kernel_tables = in_double(photometry.kernel_tables)
    return photometry


def tensors(n, seed=1):
    """theta (n, 12), redshift (n,) that want gradients; light enough for fluxes of about one."""
    rng = np.random.default_rng(seed)
    theta = make_prior(GalaxyModel()).from_unit(rng.random((n, 11)))
    theta[:, 0] = 7.0 + rng.random(n)
    redshift = rng.uniform(0.06, 0.19, n)
    return torch.tensor(theta, requires_grad=True), torch.tensor(redshift, requires_grad=True)


def test_values_are_those_of_the_kernel(photometry):
    theta, redshift = tensors(20)
    expected = photometry.flux(theta.detach().numpy(), redshift.detach().numpy())
    np.testing.assert_array_equal(differentiable_flux(photometry, theta, redshift).detach().numpy(), expected)


def test_torch_finds_the_gradient_right(photometry):
    assert torch.autograd.gradcheck(lambda *x: differentiable_flux(photometry, *x), tensors(4), eps=1e-6, atol=1e-6)


def test_a_loss_reaches_theta_and_redshift(photometry):
    theta, redshift = tensors(5)
    torch.log(differentiable_flux(photometry, theta, redshift)).sum().backward()
    assert torch.all(torch.isfinite(theta.grad))
    torch.testing.assert_close(theta.grad[:, 0], torch.full((5,), 5 * np.log(10.0), dtype=torch.float64))
    assert torch.all(redshift.grad < 0)


def test_the_type_of_theta_is_kept(photometry):
    theta, redshift = (x.detach().float().requires_grad_() for x in tensors(5))
    flux = differentiable_flux(photometry, theta, redshift)
    flux.sum().backward()
    assert flux.dtype == theta.grad.dtype == torch.float32


def test_a_redshift_outside_the_range_is_refused(photometry):
    theta, redshift = tensors(2)
    with pytest.raises(PopcatError, match="outside the survey's range"):
        differentiable_flux(photometry, theta, redshift + 1.0)
