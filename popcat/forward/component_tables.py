"""What band tables hold of gas, dust emission and a nucleus, beside the light of stars.

Gas is rows: the rate of star formation over the last 10 Myr is a straight line, S0 + S1 t, or, where a history moves
with the age of the universe, taken for the line with its mass and mean time. So what shines is two moments in time of
the emission of young stars at every ionisation parameter, and two of the ionising starlight that escapes. Dust emission
is one table of band fluxes per luminosity absorbed; the nucleus, one of light in the columns.
"""

from dataclasses import dataclass

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.agn import agn_spectrum
from popcat.forward.dust_emission import load_dust_emission
from popcat.forward.gas import Gas, age_weights, light_of_nodes, load_gas
from popcat.forward.grid import LYMAN_LIMIT_AA, ionises
from popcat.forward.histories import row_weights
from popcat.forward.ingredients import Ingredients
from popcat.forward.projection import BandColumns
from popcat.forward.quadrature import Segment, bolometric_segments, hat_weights

N_GAS_MOMENT = 2
"""Moments in time of the light of gas."""
_TAIL_AA = np.geomspace(1.0, 2e7, 1200)


def wavelengths(ingredients: Ingredients) -> np.ndarray:
    """Rest-frame wavelengths of light: those of the stars, and to 2 mm where dust shines."""
    wave = ingredients.grid.wave_aa
    emits = ingredients.components.dust_emission != "none"
    return np.append(wave, _TAIL_AA[wave[-1] * 1.001 < _TAIL_AA]) if emits else wave


def spectra(ingredients: Ingredients) -> tuple[np.ndarray, list[np.ndarray]]:
    """Wavelengths, and the spectra of stars (n_Z, n_age, n_wave) of which tables are made; where gas is a component,
    also the ionising light that it takes (n_Z, n_ionising, n_wave) and its own (n_Z, n_gas_age, n_U, n_wave).
    """
    grid, components = ingredients.grid, ingredients.components
    wave = grid.wave_aa
    if components.gas != "cloudy":
        parts = [grid.lum]
    else:
        young, taken = ionises(grid.age_gyr), np.where(wave < LYMAN_LIMIT_AA, grid.lum, 0.0)
        parts = [grid.lum - taken * young[:, None], taken[:, young], light_of_nodes(load_gas(), wave)]
    whole = wavelengths(ingredients)
    # beyond their last wavelength stars shine as Rayleigh and Jeans have it (popcat.forward.components.Clear)
    falling = (wave[-1] / whole[len(wave) :]) ** 4
    return whole, [np.concatenate([one, one[..., -1:] * falling], axis=-1) for one in parts]


def all_light(ingredients: Ingredients, test_spectra) -> list[Segment]:
    """Segments of the bolometric columns: none if no component asks for the luminosity of stars or of dust."""
    components, wave = ingredients.components, ingredients.grid.wave_aa
    if components.dust_emission == "none" and components.agn == "none":
        return []
    return bolometric_segments(LYMAN_LIMIT_AA, float(wave[-1]), test_spectra, components.dust_law)


@dataclass(frozen=True)
class GasRows:
    """Weights of the gas's rows: set by set, over gas ages (n_set, n_gas_age) and ionising ages (n_set, n_ionising).

    Sets are the moments in time of young stars behind birth clouds, one a native age of an ionising burst from the
    first on, and if there are any, the moments of young stars outside birth clouds.
    """

    of_gas: np.ndarray
    of_stars: np.ndarray
    n_burst: int

    def __call__(self, taken: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Rows (n_Z, n_set (n_U + 1), n_col): of each set, gas at every log U, then the light it takes, per Msun."""
        gas = np.einsum("sa,zauc->zsuc", self.of_gas, light, optimize=True)
        stars = np.einsum("sa,zac->zsc", self.of_stars, taken, optimize=True)[:, :, None]
        rows = np.concatenate([gas, stars], axis=2)
        return rows.reshape(len(rows), -1, rows.shape[-1])


def gas_rows(ingredients: Ingredients, burst_from: int) -> GasRows:
    """The gas's rows; the burst's native ages begin with that number `burst_from` of the grid's.

    Raises PopcatError if star formation is no straight line while gas shines.
    """
    gas, bins, ages = load_gas(), ingredients.bins, ingredients.grid.age_gyr
    n, young = n_gas_bins(ingredients, gas), ionises(ages)
    by_age = row_weights(bins, ages, bins.edges_gyr[:n], bins.edges_gyr[1 : n + 1])
    powers = np.diff(bins.edges_gyr)[:n] * bins.mid_gyr[:n] ** np.arange(N_GAS_MOMENT)[:, None]
    hidden = np.arange(n) < bins.n_young
    burst = np.eye(len(ages))[burst_from:][young[burst_from:]]
    sets = [(powers * hidden) @ by_age, burst]
    if not hidden.all():
        sets.append((powers * ~hidden) @ by_age)
    weights = np.concatenate(sets)
    return GasRows(weights @ age_weights(gas, ages), weights[:, young], len(burst))


def n_gas_bins(ingredients: Ingredients, gas: Gas) -> int:
    """How many of the first time bins hold stars that light up gas; PopcatError as `gas_rows`."""
    bins, ages = ingredients.bins, ingredients.grid.age_gyr
    shares = row_weights(bins, ages, bins.edges_gyr[:-1], bins.edges_gyr[1:]) @ age_weights(gas, ages)
    n = int(np.flatnonzero(shares.any(axis=1))[-1]) + 1
    straight = ingredients.n_straight
    if ingredients.moving is None and straight < n:
        raise PopcatError(f'gas = "cloudy": expected bases of star formation that are straight lines over the last '
                          f'{1e3 * bins.edges_gyr[n]:.3g} Myr, while gas shines; "{ingredients.bases.name}" are for '
                          f"{1e3 * bins.edges_gyr[straight]:.3g} Myr")  # fmt: skip
    return n


def gas_middle(ingredients: Ingredients) -> int:
    """The time bin in the middle of those that light up gas, of whose metallicity all their gas is."""
    last = ingredients.bins.mid_gyr[n_gas_bins(ingredients, load_gas()) - 1]
    return int(np.argmin(np.abs(ingredients.bins.mid_gyr - 0.5 * last)))


def emission_table(columns: BandColumns, redshifts: np.ndarray) -> np.ndarray:
    """Band fluxes in nMgy at 10 pc times (1 + z) per Lsun absorbed: (n_z, 2, n_q, n_U, n_band) float32.

    The two terms, and their nodes in q_PAH and U_min, are those of popcat.forward.dust_emission.
    """
    table = load_dust_emission()
    flat = table.lum.reshape(-1, len(table.wave_aa))
    out = np.zeros((len(redshifts), len(flat), columns.n_band))
    for i, z in enumerate(redshifts):
        for band, segments in enumerate(columns.segments):
            for s in segments:
                rest = s.wave_aa / (1.0 + z)
                inside = (rest >= table.wave_aa[0]) & (rest <= table.wave_aa[-1])
                if inside.any():
                    weight = columns.weight(band, s, z) * inside
                    out[i, :, band] += (flat @ hat_weights(table.wave_aa, s.wave_aa, weight[None], z))[:, 0]
    return out.reshape(len(redshifts), *table.lum.shape[:-1], columns.n_band).astype(np.float32)


def agn_table(columns: BandColumns, redshifts: np.ndarray) -> np.ndarray:
    """Unreddened light of the nucleus in every column, per Lsun of its disc: (n_z, n_col); none in those of steps."""
    out = np.zeros((len(redshifts), len(columns.band)))
    for i, z in enumerate(redshifts):
        for band, segments in enumerate(columns.segments):
            light = [s.basis @ (columns.weight(band, s, z) * _nucleus(s.wave_aa / (1.0 + z))) for s in segments]
            out[i, (columns.band == band) & (columns.step == 0.0)] = np.concatenate(light)
    return out


def _nucleus(rest_aa: np.ndarray) -> np.ndarray:
    """The nucleus's spectrum in bins of one width with these midpoints, of which one holds the end of its light."""
    above = (rest_aa - LYMAN_LIMIT_AA) / (rest_aa[1] - rest_aa[0]) + 0.5
    return agn_spectrum(np.maximum(rest_aa, LYMAN_LIMIT_AA)) * np.clip(above, 0.0, 1.0)
