"""The slow, obvious reference: one galaxy, its full-resolution spectrum, then photometry.

Everything fast in popcat is held to this module by tests.

Observed spectra of many galaxies at once: the sum of `spectrum.py` as one product of matrices a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.components import Clear, attenuated, escaping, gas_of, through_dust, values
from popcat.forward.filters import FilterCurve
from popcat.forward.gas import CONTINUUM_AA, continuum_samples, gas_light, line_aa, line_columns, load_gas
from popcat.forward.histories import point_weights, row_weights
from popcat.forward.ingredients import Ingredients, load_ingredients
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.units import C_AA_S, C_KM_S, LSUN_ERG_S, NMGY_FNU, PC_CM


@dataclass(frozen=True)
class Population:
    """A composite population as a list of SSPs: mass fraction, age, metallicity, light weights over the grid's ages."""

    mass: np.ndarray
    age_gyr: np.ndarray
    log_z: np.ndarray
    age_weights: np.ndarray
    young: np.ndarray


def population(theta: np.ndarray, redshift: float, ingredients: Ingredients) -> Population:
    """The SSPs that make up a galaxy: one per time bin, and the burst.

    theta is in the order of popcat.columns.parameter_fields. A burst older than the universe has no mass (f_burst = 0).
    """
    t_age = float(ingredients.cosmology.age(redshift))
    n_sfh = ingredients.n_sfh
    beta, (f_burst, t_burst) = theta[1 : 1 + n_sfh], theta[1 + n_sfh : 3 + n_sfh]
    gamma = 10.0 ** theta[3 + n_sfh : ingredients.n_history]
    f_burst = f_burst if t_burst <= t_age else 0.0
    edges = ingredients.bins.edges_gyr
    edges = np.append(edges[edges < t_age], t_age)
    formed = ingredients.history.masses(beta, edges, t_age)
    mid = 0.5 * (edges[1:] + edges[:-1])
    ages = ingredients.grid.age_gyr
    weights = row_weights(ingredients.bins, ages, edges[:-1], edges[1:])
    age = np.append(mid, t_burst)
    z_abs = ingredients.metallicity(gamma, age, t_age).clip(ingredients.grid.z_abs[0], ingredients.grid.z_abs[-1])
    return Population(
        mass=np.append((1.0 - f_burst) * formed / formed.sum(), f_burst),
        age_gyr=age,
        log_z=np.log10(z_abs),
        age_weights=np.concatenate([weights, point_weights(ages, t_burst)]),
        young=np.append(np.arange(len(mid)) < ingredients.bins.n_young, t_burst < ingredients.birth_cloud_age_gyr),
    )


def rest_spectrum(
    theta: np.ndarray, redshift: float, ingredients: Ingredients, wave_aa: np.ndarray | None = None
) -> np.ndarray:
    """Luminosity in Lsun / Angstrom at rest-frame wavelengths, by default the grid's own: stars, gas, dust, nucleus.

    Starlight is linear between the grid's wavelengths; the dust is exact at every wavelength asked for.
    """
    wave = ingredients.grid.wave_aa if wave_aa is None else wave_aa
    value = values(ingredients.components, theta[ingredients.n_history :])
    clear = clear_light(theta, redshift, ingredients)
    return 10.0 ** theta[0] * through_dust(clear, ingredients.components, value, wave)


def clear_light(theta: np.ndarray, redshift: float, ingredients: Ingredients) -> Clear:
    """Light before dust, per solar mass formed, of stars and of the gas around the young ones."""
    stars, grid = population(theta, redshift, ingredients), ingredients.grid
    gas = values(ingredients.components, theta[ingredients.n_history :]).gas
    through = None if gas is None else escaping(grid, gas[1])
    light = {True: np.zeros(len(grid.wave_aa)), False: np.zeros(len(grid.wave_aa))}
    for i, mass in enumerate(stars.mass):
        light[bool(stars.young[i])] += mass * _ssp(grid, stars.age_weights[i], stars.log_z[i], through)
    if gas is not None:
        for young in (True, False):
            of = stars.young == young
            weights = gas_of(stars.mass[of], stars.log_z[of], stars.age_weights[of], grid, *gas)
            light[young] += gas_light(load_gas(), weights, grid.wave_aa)
    return Clear(grid.wave_aa, light[False], light[True])


def reference_lines(theta: np.ndarray, redshift: float, ingredients: Ingredients) -> tuple[np.ndarray, np.ndarray]:
    """Luminosities in Lsun of the lines in popcat.forward.gas.CONTINUUM_AA, and L_lambda of the continuum beside them
    in Lsun / Angstrom, (n_line,) each, through the dust.
    """
    stars, grid, nodes = population(theta, redshift, ingredients), ingredients.grid, line_columns(load_gas())
    value = values(ingredients.components, theta[ingredients.n_history :])
    assert value.gas is not None, "no gas"
    through, light = escaping(grid, value.gas[1]), {}
    for young in (True, False):
        of = stars.young == young
        ssps = zip(stars.age_weights[of], stars.log_z[of], strict=True)
        spectra = [_ssp(grid, weights, log_z, through) for weights, log_z in ssps]
        starlight = stars.mass[of] @ np.array(spectra).reshape(len(spectra), len(grid.wave_aa))
        beside = [np.interp(continuum_samples(name), grid.wave_aa, starlight).mean() for name in CONTINUUM_AA]
        weights = gas_of(stars.mass[of], stars.log_z[of], stars.age_weights[of], grid, *value.gas)
        light[young] = np.tensordot(weights, nodes, axes=3) + np.append(np.zeros(len(beside)), beside)
    wave = np.array(2 * [line_aa(name) for name in CONTINUUM_AA])
    seen = 10.0 ** theta[0] * attenuated(Clear(wave, light[False], light[True]), ingredients.components.dust_law, value)
    return seen[: len(CONTINUUM_AA)], seen[len(CONTINUUM_AA) :]


def _ssp(grid, age_weights, log_z, through=None) -> np.ndarray:
    """Light of one SSP, linear in ln Z between the grid's metallicities; its gas leaves `through` (n_age, n_wave)."""
    left = int(np.clip(np.searchsorted(grid.log_z_abs, log_z, side="right") - 1, 0, len(grid.log_z_abs) - 2))
    fraction = (log_z - grid.log_z_abs[left]) / (grid.log_z_abs[left + 1] - grid.log_z_abs[left])
    used = np.flatnonzero(age_weights)
    left_over = 1.0 if through is None else through[used]
    low, high = (age_weights[used] @ (grid.lum[iz, used] * left_over) for iz in (left, left + 1))
    return low * (1.0 - fraction) + high * fraction


def observed_spectrum(
    theta: np.ndarray, redshift: float, ingredients: Ingredients, wave_aa: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Observed wavelength (Angstrom) and flux density f_nu in nMgy, at the grid's wavelengths or at `wave_aa`.

    f_lambda = L(w / (1 + z)) T(w, z) / (4 pi d_L^2 (1 + z)), T the transmission of the intergalactic medium;
    f_nu = f_lambda w^2 / c.
    """
    wave, f_nu = _unabsorbed(theta, redshift, ingredients, wave_aa)
    return wave, f_nu * ingredients.transmission(wave, redshift)


def _unabsorbed(theta, redshift, ingredients, wave_aa=None):
    """`observed_spectrum` before the intergalactic medium."""
    wave = ingredients.grid.wave_aa * (1.0 + redshift) if wave_aa is None else wave_aa
    dist_cm = float(ingredients.cosmology.luminosity_distance(redshift)) * 1e6 * PC_CM
    lum = rest_spectrum(theta, redshift, ingredients, wave / (1.0 + redshift))
    f_lambda = lum * LSUN_ERG_S / (4.0 * np.pi * dist_cm**2 * (1.0 + redshift))
    return wave, f_lambda * wave**2 / C_AA_S / NMGY_FNU


def sampling(curve: FilterCurve, redshift: float, ingredients: Ingredients) -> np.ndarray:
    """Observed wavelengths for an integral over a band: the grid's, the curve's, 4,000 between, both sides of jumps."""
    jumps = np.outer(ingredients.jumps_aa(redshift), [1.0 - 1e-9, 1.0 + 1e-9]).ravel()
    inside = np.concatenate([ingredients.grid.wave_aa * (1.0 + redshift), jumps])
    inside = inside[(inside > curve.wave_aa[0]) & (inside < curve.wave_aa[-1])]
    return np.unique(np.concatenate([inside, curve.wave_aa, np.linspace(curve.wave_aa[0], curve.wave_aa[-1], 4001)]))


def band_flux(wave_aa: np.ndarray, f_nu: np.ndarray, curve: FilterCurve) -> float:
    """Photon-counting AB flux through a filter: int f_nu T dw / w / int T dw / w."""
    return float(np.trapezoid(f_nu * curve(wave_aa) / wave_aa, wave_aa) / curve.ab_norm())


def reference_fluxes(
    theta: np.ndarray, redshift: np.ndarray, ingredients: Ingredients, curves: list[FilterCurve]
) -> np.ndarray:
    """Band fluxes in nMgy, (n, n_band), galaxy by galaxy from the full spectrum."""
    out = np.empty((len(theta), len(curves)))
    for i, (row, z) in enumerate(zip(theta, np.asarray(redshift, dtype=float), strict=True)):
        waves = [sampling(curve, z, ingredients) for curve in curves]
        f_nu = observed_spectrum(row, z, ingredients, np.concatenate(waves))[1]
        parts = np.split(f_nu, np.cumsum([len(w) for w in waves])[:-1])
        out[i] = [band_flux(w, f, curve) for w, f, curve in zip(waves, parts, curves, strict=True)]
    return out


def reference_rest_fluxes(
    theta: np.ndarray, redshift: np.ndarray, ingredients: Ingredients, curves: list[FilterCurve]
) -> np.ndarray:
    """Fluxes in nMgy at 10 pc in rest-frame filters, (n, n_curve): stars of the epoch seen, light not redshifted."""
    out, per_nmgy = np.empty((len(theta), len(curves))), 4.0 * np.pi * (10.0 * PC_CM) ** 2 * C_AA_S * NMGY_FNU
    for i, (row, z) in enumerate(zip(theta, np.asarray(redshift, dtype=float), strict=True)):
        for k, curve in enumerate(curves):
            wave = sampling(curve, 0.0, ingredients)
            f_nu = rest_spectrum(row, z, ingredients, wave) * LSUN_ERG_S * wave**2 / per_nmgy
            out[i, k] = band_flux(wave, f_nu, curve)
    return out


@dataclass(frozen=True)
class Spectrum:
    """An observed spectrum: vacuum wavelength in Angstrom and flux density f_nu in nMgy, both (n_wave,)."""

    wave_aa: np.ndarray
    f_nu_nmgy: np.ndarray

    @property
    def f_lambda(self) -> np.ndarray:
        """Flux density in erg/s/cm2/Angstrom."""
        return self.f_nu_nmgy * NMGY_FNU * C_AA_S / self.wave_aa**2


def spectrum(
    theta: "Mapping[str, float] | Sequence[float]",
    redshift: float,
    *,
    settings: GalaxyModel | None = None,
    wave_aa: np.ndarray | None = None,
    sigma_v_km_s: float = 0.0,
) -> Spectrum:
    """The observed spectrum of one galaxy, exactly as the reference computes it.

    theta: the galaxy model's parameters by name, or in the order of `popcat.columns.parameter_fields`.
    wave_aa: observed wavelengths (n_wave,), by default the SSP grid's, redshifted.
    sigma_v_km_s: stars' velocity dispersion, a Gaussian in ln(wavelength) of width sigma_v / c; below the grid's
    sampling (300 km/s at 5000 A in the embedded grid) it does nothing that can be seen, so build a full grid for it
    (`popcat ssp build --full`).

    Raises PopcatError for parameters that are missing or unknown, a redshift outside the cosmology's table, or a
    negative dispersion.

    >>> names = make_prior(GalaxyModel()).names
    >>> galaxy = dict.fromkeys(names, 0.25) | {"log_mstar_formed": 10.5, "log_gamma1": -2.0, "log_gamma2": -2.0}
    >>> found = spectrum(galaxy, 0.1, wave_aa=np.array([4000.0, 6000.0]))
    >>> bool(found.f_nu_nmgy[1] > found.f_nu_nmgy[0] > 0)
    True
    """
    settings = settings or GalaxyModel()
    row, ingredients = _theta_row(theta, make_prior(settings).names), load_ingredients(settings)
    if not np.isfinite(redshift) or redshift <= 0.0:
        raise PopcatError(f"redshift must be positive, got {redshift}")
    ingredients.require_stars(redshift)
    if sigma_v_km_s < 0.0:
        raise PopcatError(f"sigma_v_km_s must not be negative, got {sigma_v_km_s}")
    if sigma_v_km_s == 0.0:
        return Spectrum(*observed_spectrum(row, redshift, ingredients, wave_aa))
    wave, f_nu = _unabsorbed(row, redshift, ingredients)
    out = wave if wave_aa is None else np.asarray(wave_aa, dtype=float)
    # f_lambda is what is linear between the grid's wavelengths
    f_lambda = broaden(wave, f_nu / wave**2, sigma_v_km_s)
    return Spectrum(out, np.interp(out, wave, f_lambda) * out**2 * ingredients.transmission(out, redshift))


def broaden(wave_aa: np.ndarray, flux: np.ndarray, sigma_v_km_s: float) -> np.ndarray:
    """Flux convolved with a Gaussian of sigma_v / c in ln(wavelength), on the same wavelengths.

    The convolution runs on a grid uniform in ln(wavelength) with at least four points a sigma. A sigma far below the
    sampling changes nothing.
    """
    from scipy.ndimage import gaussian_filter1d

    sigma, ln_wave = sigma_v_km_s / C_KM_S, np.log(wave_aa)
    if sigma < 0.1 * np.diff(ln_wave).min():
        return flux
    step = min(sigma / 4.0, float(np.diff(ln_wave).min()))
    uniform = np.arange(ln_wave[0], ln_wave[-1] + step, step)
    smooth = gaussian_filter1d(np.interp(uniform, ln_wave, flux), sigma / step, mode="nearest", truncate=6.0)
    return np.interp(ln_wave, uniform, smooth)


def _theta_row(theta, names: tuple[str, ...]) -> np.ndarray:
    """theta as a row of float64 in the order of names."""
    if isinstance(theta, Mapping):
        wrong = sorted(set(theta) ^ set(names))
        if wrong:
            raise PopcatError(
                f"expected exactly the parameters {', '.join(names)}; missing or unknown: {', '.join(wrong)}"
            )
        theta = [theta[name] for name in names]
    row = np.asarray(theta, dtype=float)
    if row.shape != (len(names),) or not np.all(np.isfinite(row)):
        raise PopcatError(f"expected {len(names)} finite parameters, got shape {row.shape}")
    return row


_CHUNK = 128


def observed_spectra(theta: np.ndarray, redshift: np.ndarray, ingredients: Ingredients,
                     wave_aa: np.ndarray) -> np.ndarray:
    """Flux density f_nu in nMgy (n, n_wave) at observed wavelengths `wave_aa` (n_wave,).

    theta : (n, d), in the order of popcat.columns.parameter_fields
    redshift : (n,)

    Light is linear in the weights of the grid's SSPs, so a chunk of galaxies is (weights) @ (grid); held by a test to
    `popcat.forward.spectrum.observed_spectrum`, galaxy by galaxy, of which it takes a fifth of the time. With gas,
    emission of dust or a nucleus it is that, galaxy by galaxy.
    """
    redshift = np.asarray(redshift, dtype=float)
    if not ingredients.components.only_attenuation:
        spectra = [observed_spectrum(row, z, ingredients, wave_aa)[1] for row, z in zip(theta, redshift, strict=True)]
        return np.array(spectra).reshape(len(theta), len(wave_aa))
    near = _wavelengths_used(ingredients.grid.wave_aa, wave_aa, redshift)
    grid_wave, lum = ingredients.grid.wave_aa[near], ingredients.grid.lum[:, :, near].reshape(-1, int(near.sum()))
    out = np.empty((len(theta), len(wave_aa)))
    for start in range(0, len(theta), _CHUNK):
        rows = slice(start, start + _CHUNK)
        weights = np.array([_ssp_weights(row, z, ingredients) for row, z in zip(theta[rows], redshift[rows],
                                                                                strict=True)])
        light = weights.reshape(-1, lum.shape[0]) @ lum
        light = light.reshape(-1, 2, len(grid_wave))
        out[rows] = [_observed(pair[0], pair[1], row, z, ingredients, grid_wave, wave_aa)
                     for pair, row, z in zip(light, theta[rows], redshift[rows], strict=True)]  # fmt: skip
    return out


def _wavelengths_used(grid_wave, wave_aa, redshift):
    """Mask of the grid's wavelengths that these observed ones lie between, at any of the redshifts."""
    low = np.searchsorted(grid_wave, np.min(wave_aa) / (1.0 + redshift.max()), side="right") - 1
    high = np.searchsorted(grid_wave, np.max(wave_aa) / (1.0 + redshift.min()))
    at = np.arange(len(grid_wave))
    return (at >= low) & (at <= high)


def _ssp_weights(theta: np.ndarray, redshift: float, ingredients: Ingredients) -> np.ndarray:
    """Mass fraction of every SSP of the grid, (2, n_Z x n_age): stars that left their birth clouds, and the others."""
    stars = population(theta, redshift, ingredients)
    left, fraction = _between(ingredients.grid.log_z_abs, stars)
    share = np.zeros((2, len(ingredients.grid.log_z_abs), len(stars.mass)))
    young, each = stars.young.astype(int), np.arange(len(stars.mass))
    share[young, left, each] = (1.0 - fraction) * stars.mass
    share[young, left + 1, each] = fraction * stars.mass
    return (share @ stars.age_weights).reshape(2, -1)


def _between(log_z_abs: np.ndarray, stars: Population) -> tuple[np.ndarray, np.ndarray]:
    """The grid's metallicity below each population, and how far it is to the next, in ln Z."""
    left = np.clip(np.searchsorted(log_z_abs, stars.log_z, side="right") - 1, 0, len(log_z_abs) - 2)
    return left, (stars.log_z - log_z_abs[left]) / (log_z_abs[left + 1] - log_z_abs[left])


def _observed(old, young, theta, redshift, ingredients, grid_wave, wave_aa):
    """f_nu in nMgy from the light of old and young stars in Lsun / A per Msun: dust, distance, medium, units."""
    wave = wave_aa / (1.0 + redshift)
    components, last = ingredients.components, theta[ingredients.n_history :]
    lum = attenuated(Clear(grid_wave, old, young).at(wave), components.dust_law, values(components, last))
    dist_cm = float(ingredients.cosmology.luminosity_distance(redshift)) * 1e6 * PC_CM
    scale = 10.0 ** theta[0] * LSUN_ERG_S / (4.0 * np.pi * dist_cm**2 * (1.0 + redshift))
    return scale * lum * wave_aa**2 / C_AA_S / NMGY_FNU * ingredients.transmission(wave_aa, redshift)
