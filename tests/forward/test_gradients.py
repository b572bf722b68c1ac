"""The gradient of the fast path against central finite differences, in float64 and away from kinks."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.photometry import Photometry
from popcat.forward.table_arrays import in_double
from popcat.galaxy_model import GalaxyModel

STEP = 1e-7


@pytest.fixture(scope="module")
def precise(survey):
    """Photometry whose tables are float64: differences of fluxes mean something."""
    photometry = Photometry(survey.model_copy(update={"redshift_range": (0.05, 0.2)}), GalaxyModel())
    photometry.kernel_tables = in_double(photometry.kernel_tables)
    return photometry


@pytest.fixture(scope="module")
def inside(draw):
    """(n, seed) -> theta, redshift, v: prior draws far enough inside the redshift range for a step."""

    def function(n, seed=1):
        theta, redshift = draw(n, seed, z_range=(0.051, 0.199))
        return theta, redshift, np.random.default_rng(seed + 100).normal(size=(n, 5))

    return function


def one_sided(photometry, theta, redshift, v, column):
    """Slopes of sum(v flux) to either side in one of the 13 parameters, (2, n)."""
    def value(step):
        moved, z = theta.copy(), redshift.copy()
        if column == 12:
            z += step
        else:
            moved[:, column] += step
        return np.sum(v * photometry.flux(moved, z), axis=1)

    here = value(0.0)
    return np.stack([(value(sign * STEP) - here) / (sign * STEP) for sign in (-1, 1)])


def relative_errors(photometry, theta, redshift, v, column):
    """Error of the gradient relative to the size of the terms in it, kinks (where the sides disagree) left out."""
    flux, grad, grad_z = photometry.flux_vjp(theta, redshift, v)
    left, right = one_sided(photometry, theta, redshift, v, column)
    exact = np.column_stack([grad, grad_z])[:, column]
    size = np.sum(np.abs(v * flux), axis=1) + np.abs(exact)
    smooth = np.abs(left - right) < 1e-5 * size
    assert np.mean(smooth) > 0.98
    return np.abs(0.5 * (left + right) - exact)[smooth] / size[smooth]


@pytest.mark.parametrize("column", range(13))
def test_every_derivative_agrees_with_finite_differences(precise, inside, column):
    assert np.max(relative_errors(precise, *inside(400), column)) < 1e-6


@pytest.mark.parametrize("change", [{5: 0.0}, {5: 1.0}, {6: 0.0517}, {9: 0.0}, {10: 0.0}, {11: -1.9}], ids=str)
@pytest.mark.parametrize("column", [1, 6, 8, 10, 11, 12])
def test_corners_agree_too(precise, inside, change, column):
    theta, redshift, v = inside(100)
    for index, value in change.items():
        theta[:, index] = value
    assert np.max(relative_errors(precise, theta, redshift, v, column)) < 1e-6


def test_single_precision_tables_give_the_same_gradient(precise, inside):
    theta, redshift, v = inside(300)
    single = Photometry(precise.survey, GalaxyModel())
    for ours, theirs in zip(single.flux_vjp(theta, redshift, v)[1:], precise.flux_vjp(theta, redshift, v)[1:],
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_the_flux_is_that_of_flux(photometry, draw):
    theta, redshift = draw(100)
    flux, _, _ = photometry.flux_vjp(theta, redshift, np.zeros((100, 5)))
    np.testing.assert_array_equal(flux, photometry.flux(theta, redshift))


def test_the_gradient_is_linear_in_v(photometry, inside):
    theta, redshift, v = inside(50)
    _, one, one_z = photometry.flux_vjp(theta, redshift, v)
    _, two, two_z = photometry.flux_vjp(theta, redshift, -2.0 * v)
    np.testing.assert_allclose(two, -2.0 * one, rtol=1e-6, atol=1e-6 * np.abs(one).max())
    np.testing.assert_allclose(two_z, -2.0 * one_z, rtol=1e-6, atol=1e-6 * np.abs(one_z).max())


def test_mass_scales_the_flux_by_ln_10(photometry, inside):
    theta, redshift, v = inside(50)
    flux, grad, _ = photometry.flux_vjp(theta, redshift, v)
    np.testing.assert_allclose(grad[:, 0], np.log(10.0) * np.sum(v * flux, axis=1), rtol=1e-12)


def test_an_impossible_burst_has_no_gradient(photometry, galaxy):
    _, grad, _ = photometry.flux_vjp(galaxy({6: 13.0})[None], np.array([0.5]), np.ones((1, 5)))
    assert np.all(grad[0, 5:7] == 0.0)
    assert np.all(grad[0, 1:5] != 0.0)


def test_a_clipped_metallicity_has_no_gradient(photometry, galaxy):
    _, grad, _ = photometry.flux_vjp(galaxy({7: -9.0, 8: -9.0})[None], np.array([0.1]), np.ones((1, 5)))
    assert np.all(grad[0, 7:9] == 0.0)


def test_the_total_of_the_weights_is_a_gauge(photometry, inside):
    """Scaling all star-formation weights changes nothing: beta . grad_beta = 0."""
    theta, redshift, v = inside(200)
    flux, grad, _ = photometry.flux_vjp(theta, redshift, v)
    along = np.sum(theta[:, 1:5] * grad[:, 1:5], axis=1)
    assert np.max(np.abs(along) / np.sum(np.abs(v * flux), axis=1)) < 1e-5


def test_no_galaxy_has_no_gradient(photometry):
    _, grad, grad_z = photometry.flux_vjp(np.empty((0, 12)), np.empty(0), np.empty((0, 5)))
    assert grad.shape == (0, 12)
    assert grad_z.shape == (0,)


def test_a_v_of_another_shape_is_refused(photometry, draw):
    with pytest.raises(PopcatError, match=r"expected one v a flux, \(3, 5\)"):
        photometry.flux_vjp(*draw(3), np.ones(5))
