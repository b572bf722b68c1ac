"""The columns of band tables as integrals over wavelength, and spectra projected on them.

A band has one column a node of its segments (popcat.forward.quadrature), and two more if the 6300 A step of the
attenuation meets it. Models that need the luminosity that dust absorbs have columns of that kind in the rest frame,
from the Lyman limit up, after those of the bands: weight one instead of a filter's, and the same at every redshift.
"""

from collections.abc import Sequence

import numpy as np

from popcat.forward.dust import LAWS, STEP_HIGH_AA, STEP_LOW_AA, calzetti_step
from popcat.forward.filters import FilterCurve
from popcat.forward.gas import CONTINUUM_AA, continuum_samples, line_aa
from popcat.forward.quadrature import Medium, Segment, hat_weights, lagrange_basis, make_segments
from popcat.units import C_AA_S, LSUN_ERG_S, NMGY_FNU, PC_CM

NODE_TOLERANCE = 2e-4
STEP_NODES_AA = STEP_LOW_AA + (STEP_HIGH_AA - STEP_LOW_AA) * np.array([0.12, 0.62])
"""Rest-frame nodes of the attenuation inside the 6300 A step, where the step is large."""
N_LANE = 16
"""Columns come in multiples of this, so that vector instructions leave no rest."""


class BandColumns:
    """The columns of the tables of some bands.

    segments : (band, Segment) of the first columns. stepped : bands of the pairs of columns after them. bolometric :
    segments in the rest frame; if there are any and the law has a step, a pair for it too. with_lines: rest-frame
    columns, each a band of its own, of the luminosities of popcat.forward.gas.CONTINUUM_AA's lines, which no star
    has, and of the mean L_lambda beside them.
    """

    def __init__(self, curves: Sequence[FilterCurve], spectra, seen_at, law: str, medium: Medium | None = None,
                 bolometric: Sequence[Segment] = (), *, with_lines: bool = False):  # fmt: skip
        self.medium, self.n_filter, self.lines = medium, len(curves), tuple(CONTINUUM_AA) if with_lines else ()
        self.segments = [(b, s) for b, curve in enumerate(curves)
                         for s in make_segments(curve, spectra, seen_at, NODE_TOLERANCE, medium, law)]  # fmt: skip
        has_step = LAWS[law].step
        self.stepped = [b for b, curve in enumerate(curves) if has_step and _meets_step(curve, seen_at)]
        self.scale = np.array([_to_nmgy(curve) for curve in curves])
        self.bolometric, self.bolometric_step = list(bolometric), bool(bolometric) and has_step

    @property
    def node_aa(self) -> np.ndarray:
        """Observed wavelengths of the bands' nodes."""
        return np.concatenate([*(s.nodes_aa for _, s in self.segments), 2 * [line_aa(name) for name in self.lines]])

    @property
    def node_band(self) -> np.ndarray:
        """Their bands."""
        of_filters = np.repeat([b for b, _ in self.segments], [len(s.nodes_aa) for _, s in self.segments])
        return np.append(of_filters, np.arange(self.n_filter, self.n_band))

    @property
    def n_band(self) -> int:
        """Bands, with those of the lines."""
        return self.n_filter + 2 * len(self.lines)

    @property
    def of_lines(self) -> slice:
        """The columns of the lines and of the light beside them."""
        n = len(self.node_aa)
        return slice(n - 2 * len(self.lines), n)

    @property
    def bolometric_aa(self) -> np.ndarray:
        """Rest-frame wavelengths of the bolometric nodes, those of the step among them."""
        steps = [STEP_NODES_AA] if self.bolometric_step else []
        return np.concatenate([*(s.nodes_aa for s in self.bolometric), *steps, np.empty(0)])

    @property
    def n_used(self) -> int:
        """Columns that hold light."""
        return len(self.node_aa) + len(STEP_NODES_AA) * len(self.stepped) + len(self.bolometric_aa)

    def weight(self, band: int, segment: Segment, redshift: float) -> np.ndarray:
        """What light at a segment's wavelengths counts in its band, behind the medium: nMgy at 10 pc of Lsun / A."""
        through = 1.0 if self.medium is None else self.medium(segment.wave_aa, redshift)
        return self.scale[band] * segment.weight * through

    def of_bands(self, wave_rest: np.ndarray, redshift: float) -> np.ndarray:
        """(n_wave, n) with light of the bands' columns = L @ weights at a redshift."""
        parts = [hat_weights(wave_rest, s.wave_aa, self.weight(b, s, redshift) * s.basis, redshift)
                 for b, s in self.segments]  # fmt: skip
        if self.lines:
            parts.append(np.zeros((len(wave_rest), len(self.lines))))
        for name in self.lines:
            samples = continuum_samples(name)
            parts.append(hat_weights(wave_rest, samples, np.full((1, len(samples)), 1.0 / len(samples)), 0.0))
        for band in self.stepped:
            own = [(s, self.weight(b, s, redshift)) for b, s in self.segments if b == band]
            parts.append(_step_weights(own, wave_rest, redshift))
        return np.concatenate(parts, axis=1)

    def of_all_light(self, wave_rest: np.ndarray) -> np.ndarray:
        """(n_wave, n) of the bolometric columns, likewise; light in Lsun."""
        parts = [hat_weights(wave_rest, s.wave_aa, s.weight * s.basis, 0.0) for s in self.bolometric]
        if self.bolometric_step:
            parts.append(_step_weights([(s, s.weight) for s in self.bolometric], wave_rest, 0.0))
        return np.concatenate([*parts, np.empty((len(wave_rest), 0))], axis=1)


def _step_weights(segments, wave_rest, redshift) -> np.ndarray:
    total = np.zeros((len(wave_rest), len(STEP_NODES_AA)))
    for s, weight in segments:
        rest = s.wave_aa / (1.0 + redshift)
        step = weight * calzetti_step(rest) * lagrange_basis(STEP_NODES_AA, rest)
        total += hat_weights(wave_rest, s.wave_aa, step, redshift)
    return total


class Projection:
    """Spectra in every column at a redshift: of each array (..., n_wave), (..., n_col) float32."""

    def __init__(self, wave_aa: np.ndarray, spectra: Sequence[np.ndarray], columns: BandColumns):
        self.wave_aa, self.columns = wave_aa, columns
        self._shapes = [one.shape[:-1] for one in spectra]
        self._flat = [one.reshape(-1, len(wave_aa)).astype(np.float32) for one in spectra]
        all_light = columns.of_all_light(wave_aa).astype(np.float32)
        empty = np.zeros((len(wave_aa), -columns.n_used % N_LANE), dtype=np.float32)
        self._rest = [flat @ np.concatenate([all_light, empty], axis=1) for flat in self._flat]
        self._last: tuple[float, list[np.ndarray]] = (np.nan, [])

    def __call__(self, redshift: float) -> list[np.ndarray]:
        if self._last[0] != redshift:
            weights = self.columns.of_bands(self.wave_aa, redshift).astype(np.float32)
            used = np.flatnonzero(weights.any(axis=1))
            span = slice(used[0], used[-1] + 1)
            light = [np.concatenate([flat[:, span] @ weights[span], rest], axis=1)
                     for flat, rest in zip(self._flat, self._rest, strict=True)]  # fmt: skip
            shaped = [one.reshape(*shape, -1) for one, shape in zip(light, self._shapes, strict=True)]
            self._last = redshift, shaped
        return self._last[1]


def _to_nmgy(curve: FilterCurve) -> float:
    """From int T w L dw (Lsun A) to nMgy at 10 pc."""
    return LSUN_ERG_S / (4.0 * np.pi * (10.0 * PC_CM) ** 2 * C_AA_S * curve.ab_norm() * NMGY_FNU)


def _meets_step(curve: FilterCurve, z_range) -> bool:
    low, high = STEP_LOW_AA * (1.0 + z_range[0]), STEP_HIGH_AA * (1.0 + z_range[1])
    return any(a < high and b > low for a, b in curve.segments())
