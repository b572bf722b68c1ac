"""Star formation in the past of galaxies: rates in bins of lookback time, and when parts of the mass had formed.

Rates are means over bins, so that the burst, which has no duration, is in the bin that it falls in and no mass is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.ingredients import Ingredients
from popcat.forward.lookups import Histories, burst, last_bin, make_histories, sfh_weights, universe
from popcat.forward.quadrature import kernel
from popcat.forward.sfh_kernels import all_formed, bin_formed, cut_formed

_END_GYR = 14.5
"""Beyond the age of the universe."""
EDGES_GYR = tuple(np.concatenate([[0.0], np.geomspace(0.01, 13.8, 64)]).round(6).tolist())
"""Edges of the bins where none are given: 12% of the lookback time wide, the first 10 Myr."""
_FINE_GYR = np.union1d(np.geomspace(1e-3, _END_GYR, 400), np.linspace(0.0, _END_GYR, 400))


@dataclass(frozen=True)
class StarFormation:
    """Star formation of n galaxies, or draws of them.

    Attributes
    ----------
    lookback_gyr : (n_bin + 1,) edges of bins of lookback time before the observed epoch
    sfr : (n, n_bin) mean star-formation rate in Msun / yr; NaN in bins wholly before the Big Bang
    t50_gyr, t90_gyr : (n,) age of the universe when 50% and 90% of the stellar mass had formed
    z_form : (n,) redshift at which 50% had
    """

    lookback_gyr: np.ndarray
    sfr: np.ndarray
    t50_gyr: np.ndarray
    t90_gyr: np.ndarray
    z_form: np.ndarray


def star_formation(
    theta: np.ndarray, redshift: np.ndarray, ingredients: Ingredients,
    lookback_gyr: "np.ndarray | Sequence[float] | None" = None,
) -> StarFormation:  # fmt: skip
    """Star formation that theta (n, d) implies at redshift (n,), in bins between `lookback_gyr`, by default EDGES_GYR.

    Raises PopcatError for edges that do not ascend within 0 and 14.5 Gyr, or shapes that disagree.

    >>> from popcat.forward.ingredients import load_ingredients
    >>> from popcat.galaxy_model import GalaxyModel
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> found = star_formation(theta, np.array([0.1]), load_ingredients(GalaxyModel()), np.array([0.0, 0.1, 1.0, 5.0]))
    >>> found.sfr.shape, bool(found.t50_gyr[0] < found.t90_gyr[0])
    ((1, 3), True)
    """
    edges = np.array(EDGES_GYR if lookback_gyr is None else lookback_gyr, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0.0) or not 0.0 <= edges[0] < edges[-1] <= 14.5:
        raise PopcatError(f"lookback_gyr: expected edges that ascend from 0 or more to at most {_END_GYR:g} Gyr, got "
                          f"{np.array2string(edges, threshold=6)}")
    theta, redshift = np.ascontiguousarray(theta, dtype=float), np.ascontiguousarray(redshift, dtype=float)
    if theta.ndim != 2 or theta.shape[1] != ingredients.n_theta or redshift.shape != theta.shape[:1]:
        raise PopcatError(f"expected theta (n, {ingredients.n_theta}) and redshift (n,), got {theta.shape} and "
                          f"{redshift.shape}")
    t_age = ingredients.cosmology.age(redshift)
    every = np.unique([0.0, *edges, _END_GYR])
    first = int(np.searchsorted(every, edges[0]))
    mass = formed_masses(theta, redshift, ingredients, every)[:, first : first + len(edges) - 1]
    length = np.minimum(edges[1:], t_age[:, None]) - edges[:-1]
    sfr = 10.0 ** theta[:, :1] * np.where(length > 0.0, mass, np.nan) / np.where(length > 0.0, 1e9 * length, 1.0)
    t50, t90 = (t_age - lookback for lookback in _lookback_times(theta, redshift, ingredients, (0.5, 0.9)))
    age, ln1pz = ingredients.cosmology.age_gyr, np.linspace(0.0, ingredients.cosmology.ln1pz_max,
                                                            len(ingredients.cosmology.age_gyr))  # fmt: skip
    return StarFormation(edges, sfr, t50, t90, np.expm1(np.interp(t50, age[::-1], ln1pz[::-1])))


def formed_masses(
    theta: np.ndarray, redshift: np.ndarray, ingredients: Ingredients, edges_gyr: np.ndarray
) -> np.ndarray:
    """Mass per Msun formed, (n, n_bin), in bins of lookback time from 0 to beyond the age of the universe."""
    out = np.zeros((len(theta), len(edges_gyr) - 1))
    _kernel(theta, redshift, _at(ingredients, edges_gyr), np.empty(len(edges_gyr)), out)
    return out


def _at(ingredients: Ingredients, edges: np.ndarray) -> Histories:
    """What kernels need, with other time bins."""
    h = make_histories(ingredients)
    if ingredients.moving is not None:
        return h._replace(edges=edges)
    cumulative = ingredients.bases.cumulative_sfh(edges)
    return h._replace(edges=edges, cumulative=np.ascontiguousarray(cumulative.T),
                      formed=np.ascontiguousarray(np.diff(cumulative, axis=1)))  # fmt: skip


def _lookback_times(theta, redshift, ingredients, fractions) -> list[np.ndarray]:
    """Lookback times (n,) before which these fractions of the mass had formed."""
    mass = formed_masses(theta, redshift, ingredients, _FINE_GYR)
    later = np.cumsum(mass, axis=1)
    ends = np.minimum(_FINE_GYR, ingredients.cosmology.age(redshift)[:, None])
    found = []
    for fraction in fractions:
        j = np.minimum((later < (1.0 - fraction)).sum(axis=1), mass.shape[1] - 1)[:, None]
        low, high, inside = (np.take_along_axis(a, j, 1)[:, 0] for a in (ends[:, :-1], ends[:, 1:], mass))
        before = np.take_along_axis(later, j, 1)[:, 0] - inside
        found.append(low + (high - low) * (1.0 - fraction - before) / np.maximum(inside, 1e-300))
    return found


@kernel()
def _kernel(theta, redshift, h, formed, out):
    """Mass fractions in the bins h.edges."""
    for n in range(len(theta)):
        x, t_age = universe(np.log1p(redshift[n]), h)
        beta = sfh_weights(theta[n], h)
        f_burst, t_burst = burst(theta[n], t_age, h)
        last = last_bin(t_age, 0, h.edges)
        total = all_formed(h.law, beta, x, h.cumulative_at_age, t_age, h.edges, last, formed)
        scale = (1.0 - f_burst) / total
        for j in range(last):
            out[n, j] = scale * bin_formed(h.law, beta, h.formed, j, formed)
        out[n, last] = scale * cut_formed(h.law, beta, h.cumulative, last, total, formed)
        if f_burst > 0.0:
            out[n, last_bin(t_burst, 0, h.edges)] += f_burst
