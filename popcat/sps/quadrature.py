"""Product integration over a band: int T(w) w L(w) a(w) dw = sum_k a(w_k) int T w L l_k dw.

a(w), the attenuation, is smooth, so it is interpolated by the Lagrange basis l_k on Gauss nodes of the weight T(w) w,
fixed in the observed frame; the spectrum L is not, and is integrated exactly. Convergence in the number of nodes is
exponential. The 6300 A step of the diffuse curve is not smooth and has nodes of its own (popcat.sps.tables).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from popcat.sps.dust import birth_cloud_curve, bump, bump_strength, calzetti_smooth
from popcat.sps.filters import FilterCurve

_N_FINE = 3000
# The diffuse curve is floored at zero beyond 3.1 micron. That kink converges slowly: WISE bands take all of these.
_MAX_NODES = 20
_N_REDSHIFT = 7
# All over the prior: tau_ism, n_dust, tau_bc. What is hardest lies inside, just bright enough to count.
_DUST = np.array(list(product((0.5, 1.0, 2.0, 3.0), (-2.0, -1.5, -1.0, -0.5, 0.0, 1.0), (0.0, 1.0, 3.0))))
DARK = 1e-11
"""Where less than this fraction of a segment's light comes through, nobody sees how wrong it is."""


@dataclass(frozen=True)
class Segment:
    """One stretch of a filter: midpoints `wave_aa` with quadrature weights T w dw, and the Gauss nodes chosen.

    wave_aa, weight : (n_fine,); nodes_aa : (n_node,); basis : (n_node, n_fine) the Lagrange basis l_k.
    """

    wave_aa: np.ndarray
    weight: np.ndarray
    nodes_aa: np.ndarray
    basis: np.ndarray


def make_segments(curve: FilterCurve, spectra, z_range, tolerance: float) -> list[Segment]:
    """Segments of a curve, each with as few nodes as keep hard attenuations of `spectra` within `tolerance`.

    spectra is (wave_aa, (n, n_wave)), rest frame, the kinds of light that must be right anywhere in `z_range`.
    """
    return [_make_segment(curve, low, high, spectra, z_range, tolerance) for low, high in curve.segments()]


def gauss_nodes(x: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Nodes of the n-point Gauss rule of a discrete measure (Stieltjes recurrence, Golub & Welsch 1969)."""
    centre, half = 0.5 * (x[0] + x[-1]), 0.5 * (x[-1] - x[0])
    t = (x - centre) / half
    w = weight / weight.sum()
    alpha, beta = np.zeros(n), np.zeros(n)
    previous, current = np.zeros_like(t), np.ones_like(t)
    norm = 1.0
    for k in range(n):
        alpha[k] = np.sum(w * t * current**2) / norm
        previous, current = current, (t - alpha[k]) * current - beta[k] * previous
        new_norm = np.sum(w * current**2)
        if k + 1 < n:
            beta[k + 1] = new_norm / norm
        norm = new_norm
    off = np.sqrt(beta[1:])
    return centre + half * np.linalg.eigvalsh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))


def lagrange_basis(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """l_k(x) with l_k(nodes_j) = delta_kj: shape (n_node, n_x)."""
    basis = np.ones((len(nodes), len(x)))
    for k, node in enumerate(nodes):
        for other in np.delete(nodes, k):
            basis[k] *= (x - other) / (node - other)
    return basis


def hat_weights(wave_rest: np.ndarray, wave_obs: np.ndarray, columns: np.ndarray, redshift: float) -> np.ndarray:
    """W with int columns L dw = L @ W for L piecewise linear on `wave_rest`: (n_wave, n_column).

    columns is (n_column, n_fine), quadrature weights included, on observed wavelengths `wave_obs`.
    """
    rest = wave_obs / (1.0 + redshift)
    left = np.clip(np.searchsorted(wave_rest, rest, side="right") - 1, 0, len(wave_rest) - 2)
    fraction = (rest - wave_rest[left]) / (wave_rest[left + 1] - wave_rest[left])
    out = np.empty((len(wave_rest), len(columns)))
    for i, column in enumerate(columns):
        out[:, i] = np.bincount(left, column * (1.0 - fraction), len(wave_rest))
        out[:, i] += np.bincount(left + 1, column * fraction, len(wave_rest))
    return out


def _make_segment(curve, low, high, spectra, z_range, tolerance) -> Segment:
    edges = np.linspace(low, high, _N_FINE + 1)
    wave = 0.5 * (edges[1:] + edges[:-1])
    weight = curve(wave) * wave * np.diff(edges)
    cases = [_Case(wave, weight, z, spectra) for z in np.linspace(*z_range, _N_REDSHIFT)]
    for n in range(2, _MAX_NODES + 1):
        nodes = gauss_nodes(wave, weight, n)
        basis = lagrange_basis(nodes, wave)
        if max(case.error(nodes, basis) for case in cases) < tolerance:
            break
    return Segment(wave, weight, nodes, basis)


class _Case:
    """Spectra of a segment behind all kinds of dust, at one redshift: light (n, n_fine), exact integrals (n, m)."""

    def __init__(self, wave, weight, redshift, spectra):
        self.redshift = redshift
        self.light = np.stack([np.interp(wave / (1.0 + redshift), spectra[0], row) for row in spectra[1]]) * weight
        self.exact = self.light @ _attenuation(wave / (1.0 + redshift)).T
        self.seen = self.exact > DARK * self.light.sum(axis=1, keepdims=True)

    def error(self, nodes, basis) -> float:
        """Largest relative error of the product integration with these nodes."""
        approximate = (self.light @ basis.T) @ _attenuation(nodes / (1.0 + self.redshift)).T
        return float(np.max(np.abs(approximate[self.seen] / self.exact[self.seen] - 1.0), initial=0.0))


def _attenuation(rest_aa) -> np.ndarray:
    """Transmission (n_dust, n_wave) of `_DUST`, the step at 6300 A left out."""
    tau_ism, n_dust, tau_bc = _DUST.T[:, :, None]
    curve = (calzetti_smooth(rest_aa) + bump_strength(n_dust) * bump(rest_aa)) * (rest_aa / 5500.0) ** n_dust
    return np.exp(-tau_ism * curve - tau_bc * birth_cloud_curve(rest_aa))
