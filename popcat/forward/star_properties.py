"""Properties of a galaxy's stars from theta and redshift: surviving mass, star-formation rates, metallicity and age.

Per mass formed, so that none depends on the mass. Time bins and histories are those of the photometry; the stars are
those of the observed epoch, none older than the universe then.
"""

import numpy as np

from popcat.forward.histories import row_weights
from popcat.forward.ingredients import Ingredients
from popcat.forward.lookups import (
    bin_metallicity,
    burst,
    in_unit,
    last_bin,
    ln_metal_cell,
    make_histories,
    metal_cell,
    sfh_weights,
    time_metallicity,
    universe,
    zh_weights,
)
from popcat.forward.quadrature import fast_log, kernel
from popcat.forward.sfh_kernels import all_formed, formed_by_end, window_masses

SSFR_FLOOR = 1e-14
"""Star-formation rates are floored at this fraction of the formed mass per year, so a logarithm is never -inf."""
WINDOWS_GYR = (0.1, 1.0)
_WINDOW_ENDS = np.array([0.0, *WINDOWS_GYR, np.inf])


class StarProperties:
    """Properties of the stars under one galaxy model.

    >>> from popcat.forward.ingredients import load_ingredients
    >>> from popcat.galaxy_model import GalaxyModel
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> StarProperties(load_ingredients(GalaxyModel()))(theta, np.array([0.1])).shape
    (1, 5)
    """

    def __init__(self, ingredients: Ingredients):
        self.histories = make_histories(ingredients)
        edges, ages = ingredients.bins.edges_gyr, ingredients.grid.age_gyr
        whole = row_weights(ingredients.bins, ages, edges[:-1], edges[1:]) @ ingredients.mstar.T
        self.whole, self.mstar = np.ascontiguousarray(whole), np.ascontiguousarray(ingredients.mstar.T)
        self.ln_age = np.log(ages)
        self.windows = np.ascontiguousarray(ingredients.bases.cumulative_sfh(np.array(WINDOWS_GYR)).T)
        self._n_bin = len(edges) - 1

    def __call__(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Of contiguous float64 arrays theta (n, d) and redshift (n,), per Msun formed: surviving mass, SFR (1/yr) over
        each of WINDOWS_GYR, mass-weighted metallicity; and the mass-weighted age in Gyr: (n, 5).
        """
        out = np.empty((len(theta), 5))
        tables = self.histories, self.whole, self.mstar, self.ln_age, self.windows
        room = np.empty(self._n_bin), np.empty(1 + len(WINDOWS_GYR)), np.empty((2, self._n_bin))
        _properties_kernel(theta, redshift, *tables, *room, out)
        return out


@kernel(inline="always")
def _surviving(table, ln_age, ln_t, iq, fq):
    """Surviving fraction of one SSP: linear in ln t and ln Z; table is (n_age, n_Z)."""
    x = min(max(ln_t, ln_age[0]), ln_age[-1])
    i = min(max(np.searchsorted(ln_age, x, side="right") - 1, 0), len(ln_age) - 2)
    f = (x - ln_age[i]) / (ln_age[i + 1] - ln_age[i])
    low = table[i, iq] * (1.0 - fq) + table[i, iq + 1] * fq
    high = table[i + 1, iq] * (1.0 - fq) + table[i + 1, iq + 1] * fq
    return low * (1.0 - f) + high * f


@kernel()
def _properties_kernel(theta, redshift, h, whole, mstar, ln_age, windows, formed, recent, metallicity, out):
    """Per Msun formed: surviving mass, SFR (1/yr) in two windows, mean Z; and the mean age (Gyr)."""
    lowest, highest = np.exp(h.ln_z[0]), np.exp(h.ln_z[-1])
    of_bin, ln_of_bin = metallicity[0], metallicity[1]
    for n in range(len(theta)):
        x, t_age = universe(np.log1p(redshift[n]), h)
        beta, gamma = sfh_weights(theta[n], h), zh_weights(theta[n], h)
        f_burst, t_burst = burst(theta[n], t_age, h)
        last = last_bin(t_age, 0, h.edges)
        total = all_formed(h.law, beta, x, h.cumulative_at_age, t_age, h.edges, last, formed)
        scale = (1.0 - f_burst) / total
        survived, mean_z, mean_age, below = 0.0, 0.0, 0.0, 0.0
        for j in range(last):
            of_bin[j] = bin_metallicity(h.law, gamma, h.zh_mid, j, h.zh_time, h.zh_value, h.mid, t_age)
        for j in range(last):
            ln_of_bin[j] = fast_log(max(of_bin[j], lowest))
        for j in range(last + 1):
            is_whole = j < last
            above = formed_by_end(h.law, beta, h.cumulative, j, below, formed) if is_whole else total
            upper = h.edges[j + 1] if is_whole else t_age
            mid = 0.5 * (h.edges[j] + upper)
            mass = scale * (above - below)
            if is_whole:
                z = of_bin[j]
                iq, fq = ln_metal_cell(ln_of_bin[j], h.ln_z, h.per_cell)
                survived += mass * (whole[j, iq] * (1.0 - fq) + whole[j, iq + 1] * fq)
            else:
                z = time_metallicity(gamma, h.zh_time, h.zh_value, in_unit(h.law, mid, t_age)[0])
                iq, fq = metal_cell(z, h.ln_z, h.per_cell)
                # at the midpoint, not averaged: the whole is good to 1e-3
                survived += mass * _surviving(mstar, ln_age, np.log(mid), iq, fq)
            mean_z += mass * min(max(z, lowest), highest)
            mean_age += mass * mid
            below = above
        window_masses(h.law, beta, t_age, windows, _WINDOW_ENDS, recent)
        for w in range(2):
            burst_mass = f_burst if t_burst < WINDOWS_GYR[w] else 0.0
            out[n, 1 + w] = (scale * min(recent[1 + w], total) + burst_mass) / (WINDOWS_GYR[w] * 1e9)
        if f_burst > 0.0:
            z = time_metallicity(gamma, h.zh_time, h.zh_value, in_unit(h.law, t_burst, t_age)[0])
            iq, fq = metal_cell(z, h.ln_z, h.per_cell)
            survived += f_burst * _surviving(mstar, ln_age, np.log(t_burst), iq, fq)
            mean_z += f_burst * min(max(z, lowest), highest)
            mean_age += f_burst * t_burst
        out[n, 0], out[n, 3], out[n, 4] = survived, mean_z, mean_age
