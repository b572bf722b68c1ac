"""Observed spectra of many galaxies at once: the sum of `spectrum.py` as one product of matrices a chunk."""

import numpy as np

from popcat.sps.dust import birth_cloud_curve, diffuse_curve
from popcat.sps.model import GalaxyModel
from popcat.sps.spectrum import Population, population
from popcat.units import C_AA_S, LSUN_ERG_S, NMGY_FNU, PC_CM

_CHUNK = 128


def observed_spectra(theta: np.ndarray, redshift: np.ndarray, model: GalaxyModel, wave_aa: np.ndarray) -> np.ndarray:
    """Flux density f_nu in nMgy (n, n_wave) at observed wavelengths `wave_aa` (n_wave,).

    theta : (n, d), in the order of popcat.schema.parameter_fields
    redshift : (n,)

    Light is linear in the weights of the grid's SSPs, so a chunk of galaxies is (weights) @ (grid); held by a test to
    `popcat.sps.spectrum.observed_spectrum`, galaxy by galaxy, of which it takes a fifth of the time.
    """
    redshift = np.asarray(redshift, dtype=float)
    near = _wavelengths_used(model.grid.wave_aa, wave_aa, redshift)
    grid_wave, lum = model.grid.wave_aa[near], model.grid.lum[:, :, near].reshape(-1, int(near.sum()))
    out = np.empty((len(theta), len(wave_aa)))
    for start in range(0, len(theta), _CHUNK):
        rows = slice(start, start + _CHUNK)
        weights = np.array([_ssp_weights(row, z, model) for row, z in zip(theta[rows], redshift[rows], strict=True)])
        light = weights.reshape(-1, lum.shape[0]) @ lum
        light = light.reshape(-1, 2, len(grid_wave))
        out[rows] = [_observed(*pair, row, z, model, grid_wave, wave_aa)
                     for pair, row, z in zip(light, theta[rows], redshift[rows], strict=True)]  # fmt: skip
    return out


def _wavelengths_used(grid_wave, wave_aa, redshift):
    """Mask of the grid's wavelengths that these observed ones lie between, at any of the redshifts."""
    low = np.searchsorted(grid_wave, np.min(wave_aa) / (1.0 + redshift.max()), side="right") - 1
    high = np.searchsorted(grid_wave, np.max(wave_aa) / (1.0 + redshift.min()))
    at = np.arange(len(grid_wave))
    return (at >= low) & (at <= high)


def _ssp_weights(theta: np.ndarray, redshift: float, model: GalaxyModel) -> np.ndarray:
    """Mass fraction of every SSP of the grid, (2, n_Z x n_age): stars that left their birth clouds, and the others."""
    stars = population(theta, redshift, model)
    left, fraction = _between(model.grid.log_z_abs, stars)
    share = np.zeros((2, len(model.grid.log_z_abs), len(stars.mass)))
    young, each = stars.young.astype(int), np.arange(len(stars.mass))
    share[young, left, each] = (1.0 - fraction) * stars.mass
    share[young, left + 1, each] = fraction * stars.mass
    return (share @ stars.age_weights).reshape(2, -1)


def _between(log_z_abs: np.ndarray, stars: Population) -> tuple[np.ndarray, np.ndarray]:
    """The grid's metallicity below each population, and how far it is to the next, in ln Z."""
    left = np.clip(np.searchsorted(log_z_abs, stars.log_z, side="right") - 1, 0, len(log_z_abs) - 2)
    return left, (stars.log_z - log_z_abs[left]) / (log_z_abs[left + 1] - log_z_abs[left])


def _observed(old, young, theta, redshift, model, grid_wave, wave_aa):
    """f_nu in nMgy from the light of old and young stars in Lsun / A per Msun: dust, distance, units."""
    wave = wave_aa / (1.0 + redshift)
    tau_bc, tau_ism, n_dust = theta[-3:]
    old, young = np.interp(wave, grid_wave, old), np.interp(wave, grid_wave, young)
    lum = (old + young * np.exp(-tau_bc * birth_cloud_curve(wave))) * np.exp(-tau_ism * diffuse_curve(wave, n_dust))
    dist_cm = float(model.cosmology.luminosity_distance(redshift)) * 1e6 * PC_CM
    scale = 10.0 ** theta[0] * LSUN_ERG_S / (4.0 * np.pi * dist_cm**2 * (1.0 + redshift))
    return scale * lum * wave_aa**2 / C_AA_S / NMGY_FNU
