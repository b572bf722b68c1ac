"""Absorption by the intergalactic medium: Inoue, Shimizu, Iwata & Tanaka (2014, MNRAS 442, 1805).

Hydrogen between a galaxy at redshift z and us absorbs its light below rest-frame Lyman alpha. The mean transmission at
an observed wavelength w is exp(-tau). tau is a sum over two populations of absorbers, the Lyman alpha forest (LAF) and
the damped Lyman alpha systems (DLA), and over the 39 lines of the Lyman series (equations 21 and 22) and the Lyman
continuum (equations 25 to 29).

Line j absorbs at w in absorbers at redshift w / w_j - 1, if that is between 0 and z:

    tau_line(w) = sum_j A_jk (w / w_j)^p_k,  with k the range of redshift that w / w_j - 1 is in.

In the continuum all absorbers count for which w is below their Lyman limit. With x = w / 911.8 A, v = 1 + redshift of
the absorber, and coefficients for each range of redshift, the equations of the paper are integrals over v, x to 1 + z:

    tau_LAF = x^2.1 int c_k d(v^q_k),  tau_DLA = int a_k d(v^r_k) - x^-0.3 int b_k d(v^(r_k + 0.3))

Here they are evaluated as such, so that tau has no seams where rounded coefficients meet. This is the mean over lines
of sight: a galaxy has more or less. There is no damping wing above Lyman alpha; the galaxy's own gas is not counted.
"""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from popcat.files import embedded_arrays
from popcat.forward.grid import LYMAN_LIMIT_AA

LYMAN_ALPHA_AA = 1215.67
"""Rest-frame wavelength from which on the medium is clear."""
_LAF_EDGES, _DLA_EDGES = (2.2, 5.7), (3.0,)
"""1 + redshift where the numbers of absorbers change their evolution."""
_LAF_POWERS, _DLA_POWERS = (1.2, 3.7, 5.5), (2.0, 3.0)
_N_PART = 32
"""Parts of a bin that a jump crosses."""
# (c_k, q_k); then (a_k, b_k, r_k)
_LAF_CONTINUUM = ((-0.3248, -0.9), (2.545e-2, 1.6), (5.221e-4, 3.4))
_DLA_CONTINUUM = ((0.2113, 0.07661, 2.0), (4.696e-2, 1.779e-2, 3.0))


class Lines(NamedTuple):
    """The Lyman series, ascending in wavelength.

    wave_aa : (39,) rest-frame wavelengths. laf, dla : (3, 39) and (2, 39) coefficients A by range of redshift
    """

    wave_aa: np.ndarray
    laf: np.ndarray
    dla: np.ndarray


@cache
def load_lines() -> Lines:
    """The embedded coefficients, table 2 of the paper.

    >>> float(load_lines().wave_aa[-1]), load_lines().laf.shape
    (1215.67, (3, 39))
    """
    return Lines(**embedded_arrays("igm_inoue_2014"))


def is_seen(wave_obs_aa, redshift):
    """Whether the medium absorbs anything at an observed wavelength, of a galaxy at a redshift.

    >>> is_seen(3000.0, 1.0), is_seen(3000.0, 2.0)
    (False, True)
    """
    return (redshift > 0.0) & (wave_obs_aa < LYMAN_ALPHA_AA * (1.0 + redshift))


def jumps_aa(redshift: float) -> np.ndarray:
    """Observed wavelengths (40,) where the transmission jumps: the Lyman limit and each line at the galaxy's redshift.

    >>> jumps_aa(1.0)[[0, -1]].tolist()
    [1823.6, 2431.34]
    """
    return np.append(LYMAN_LIMIT_AA, load_lines().wave_aa) * (1.0 + redshift)


def transmission(wave_obs_aa: np.ndarray, redshift: float) -> np.ndarray:
    """Mean fraction of the light of a galaxy that the intergalactic medium lets through, (n_wave,).

    wave_obs_aa : (n_wave,) observed wavelengths in Angstrom; below 911.8 A, where the Galaxy is opaque, as at 911.8 A.
    redshift : of the galaxy

    >>> transmission(np.array([6500.0, 7000.0, 8600.0]), 6.0).round(3).tolist()
    [0.043, 0.068, 1.0]
    """
    wave = np.asarray(wave_obs_aa, dtype=float)
    if not np.any(is_seen(wave, redshift)):
        return np.ones(wave.shape)
    wave = np.maximum(wave, LYMAN_LIMIT_AA)
    lines = load_lines()
    tau = _series(wave, redshift, lines.wave_aa, lines.laf, _LAF_EDGES, _LAF_POWERS)
    tau += _series(wave, redshift, lines.wave_aa, lines.dla, _DLA_EDGES, _DLA_POWERS)
    return np.exp(-tau - _continuum(wave / LYMAN_LIMIT_AA, 1.0 + redshift))


def mean_transmission(wave_obs_aa: np.ndarray, redshift: float) -> np.ndarray:
    """`transmission` averaged over bins: wave_obs_aa (n_wave,) are the midpoints of bins of one width.

    It matters where a jump lies within a bin, above all the one at Lyman alpha, where gas has its line.

    >>> wave = np.array([2430.0, 2432.0])
    >>> bool(mean_transmission(wave, 1.0)[1] < transmission(wave, 1.0)[1])
    True
    """
    through, width = transmission(wave_obs_aa, redshift), wave_obs_aa[1] - wave_obs_aa[0]
    inside = np.floor((jumps_aa(redshift) - wave_obs_aa[0]) / width + 0.5)
    crossed = np.unique(inside[(inside >= 0) & (inside < len(wave_obs_aa))].astype(int))
    parts = wave_obs_aa[crossed, None] + width * ((np.arange(_N_PART) + 0.5) / _N_PART - 0.5)
    through[crossed] = transmission(parts, redshift).mean(axis=1)
    return through


def _series(wave, redshift, line_aa, strength, edges, powers):
    """Optical depth of the lines of one population: sums over lines from sums of all up to each."""
    bounds, tau = np.minimum([1.0, *edges, np.inf], 1.0 + redshift), np.zeros(wave.shape)
    for (low, high), power, of in zip(pairwise(bounds), powers, strength, strict=True):
        upto = np.append(0.0, np.cumsum(of * line_aa**-power))
        first, last = (np.searchsorted(line_aa, wave / bound, side="right") for bound in (high, low))
        tau += wave**power * (upto[last] - upto[first])
    return tau


def _continuum(x, last):
    """Optical depth of the Lyman continua of both populations; x = w / 911.8 A, at least 1, and last = 1 + z."""
    tau = np.zeros(x.shape)
    for (low, high), (c, q) in zip(_ranges(_LAF_EDGES), _LAF_CONTINUUM, strict=True):
        start, end = _overlap(x, last, low, high)
        tau += c * x**2.1 * (end**q - start**q)
    for (low, high), (a, b, r) in zip(_ranges(_DLA_EDGES), _DLA_CONTINUUM, strict=True):
        start, end = _overlap(x, last, low, high)
        tau += a * (end**r - start**r) - b * x**-0.3 * (end ** (r + 0.3) - start ** (r + 0.3))
    return tau


def _ranges(edges):
    return pairwise((1.0, *edges, np.inf))


def _overlap(x, last, low, high):
    """Where absorbers between x and `last` are within a range of 1 + redshift: its two ends, equal if nowhere."""
    start = np.clip(x, low, high)
    return start, np.maximum(np.clip(last, low, high), start)
