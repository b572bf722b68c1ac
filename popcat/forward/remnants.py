"""White dwarfs, neutron stars and black holes of SSPs whose surviving mass counts living stars alone.

Stars of initial mass m leave behind, by Renzini & Ciotti (1993, ApJ 416, L49), as FSPS has it,

    r(m) = 0.077 m + 0.48 below 8.5 Msun,  1.4 from there to 40 Msun,  0.5 m above,

so an SSP whose stars live up to the turn-off mass M holds int_M^100 r phi dm in remnants, phi being the initial mass
function of int_0.1^100 m phi dm = 1. The grid does not hold M: it is the mass up to which int m phi dm is the mass of
its living stars, as if none had lost any before its end. So winds of stars that live count as ends of stars: younger
than 2.5 Myr, the embedded grid has up to 0.013 Msun too much in remnants per Msun formed.
"""

from functools import cache
from itertools import pairwise

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.grid import SSPGrid

_NEUTRON_STAR, _BLACK_HOLE = 8.5, 40.0
_BREAKS = (0.1, 0.5, 1.0, _NEUTRON_STAR, _BLACK_HOLE, 100.0)
_STEPS = 2_000


def _kroupa(m):
    """Kroupa 2001, MNRAS 322, 231, equation 2."""
    return np.where(m < 0.5, m**-1.3, 0.5 * m**-2.3)


def _chabrier(m):
    """Chabrier 2003, PASP 115, 763, equation 17 and table 1: log-normal below 1 Msun, slope 1.3 in ln m above."""
    low = np.exp(-0.5 * (np.log10(m / 0.079) / 0.69) ** 2)
    high = np.exp(-0.5 * (np.log10(1.0 / 0.079) / 0.69) ** 2) * m**-1.3
    return np.where(m < 1.0, low, high) / m


def _salpeter(m):
    return m**-2.35


_IMFS = {"kroupa": _kroupa, "chabrier": _chabrier, "salpeter": _salpeter}


def remnant_mass(initial_mass: np.ndarray) -> np.ndarray:
    """Mass in Msun that stars of these initial masses in Msun leave behind, of any shape: r(m) above.

    >>> remnant_mass(np.array([1.0, 10.0, 50.0])).round(3).tolist()
    [0.557, 1.4, 25.0]
    """
    m = np.asarray(initial_mass, dtype=float)
    return np.where(m < _NEUTRON_STAR, 0.077 * m + 0.48, np.where(m < _BLACK_HOLE, 1.4, 0.5 * m))


def remnants_of(living: np.ndarray, imf: str) -> np.ndarray:
    """Mass of remnants per Msun formed, where `living`, of any shape, is that of living stars; imf in any case.

    Raises PopcatError for another IMF than Kroupa, Chabrier and Salpeter, from 0.1 to 100 Msun each.

    >>> remnants_of(np.array([1.0, 0.5]), "Kroupa").round(3).tolist()
    [0.0, 0.118]
    """
    if imf.lower() not in _IMFS:
        raise PopcatError(
            "remnants need the initial mass function of the SSP grid: expected Kroupa, Chabrier or Salpeter in its "
            f'provenance, got "{imf}": set remnants = "none" in the galaxy model'
        )
    return np.interp(living, *_relation(imf.lower()))


@cache
def _relation(imf: str) -> tuple[np.ndarray, np.ndarray]:
    """int m phi dm below and int r phi dm above masses from 0.1 to 100 Msun, by the rule of midpoints in ln m."""
    ends = np.log(_BREAKS)
    parts = [np.linspace(low, high, _STEPS, endpoint=False) for low, high in pairwise(ends)]
    edges = np.concatenate([*parts, ends[-1:]])
    middle = np.exp(0.5 * (edges[1:] + edges[:-1]))
    number = _IMFS[imf](middle) * middle * np.diff(edges)
    below = np.append(0.0, np.cumsum(middle * number))
    left = np.append(0.0, np.cumsum(remnant_mass(middle) * number))
    return below / below[-1], (left[-1] - left) / below[-1]


def added_remnants(grid: SSPGrid, relation: str) -> np.ndarray:
    """Mass (n_Z, n_age) per Msun formed that the setting `remnants` adds to the grid's surviving mass.

    None where the grid's holds remnants, or the relation is "none".

    Raises PopcatError where the grid does not say whether it holds them, or of which IMF it is.

    >>> from popcat.forward.grid import load_grid
    >>> added_remnants(load_grid("bc03_miles"), "renzini_ciotti_1993")[4, [0, -1]].round(3).tolist()
    [0.0, 0.15]
    """
    none = np.zeros(grid.mstar.shape)
    if relation == "none":
        return none
    held = grid.provenance.get("mstar_has_remnants")
    if held is None:
        raise PopcatError('the SSP grid does not say whether its surviving mass holds remnants: expected true or false '
                          'as mstar_has_remnants in its provenance, got none: set remnants = "none" in the galaxy '
                          "model")  # fmt: skip
    return none if held else remnants_of(grid.mstar, str(grid.provenance.get("imf")))
