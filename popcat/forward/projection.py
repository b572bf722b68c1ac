"""The columns of band tables as integrals over wavelength, and spectra projected on them.

A band has one column a node of its segments (popcat.forward.quadrature), and two more if the 6300 A step of the
attenuation meets it. Models that need the luminosity that dust absorbs have columns of that kind in the rest frame,
from the Lyman limit up, after those of the bands: weight one instead of a filter's, and the same at every redshift.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from popcat.forward.dust import LAWS, STEP_HIGH_AA, STEP_LOW_AA, calzetti_step
from popcat.forward.filters import FilterCurve
from popcat.forward.gas import CONTINUUM_AA, continuum_samples, line_aa
from popcat.forward.quadrature import Medium, Segment, hat_weights, lagrange_basis, make_segments
from popcat.units import C_AA_S, LSUN_ERG_S, NMGY_FNU, PC_CM

NODE_TOLERANCE = 2e-4
STEP_NODES_AA = STEP_LOW_AA + (STEP_HIGH_AA - STEP_LOW_AA) * np.array([0.12, 0.62])
"""Rest-frame nodes of the attenuation inside the 6300 A step, where the step is large."""


class BandColumns:
    """The columns of the tables of some bands, those of a band one after the other: nodes, then those of the step.

    with_lines: rest-frame columns, each a band of its own, of the luminosities of popcat.forward.gas.CONTINUUM_AA's
    lines, which no star has, and of the mean L_lambda beside them. bolometric : segments in the rest frame, whose
    columns come last, as a band of their own; if there are any and the law has a step, a pair for it too.

    Attributes
    ----------
    wave_aa, band, step : (n_col,) wavelength, observed or of a step's node in the rest frame; band; 1 for a step's
    first_all : the first bolometric column
    """

    def __init__(self, curves: Sequence[FilterCurve], spectra, seen_at, law: str, medium: Medium | None = None,
                 bolometric: Sequence[Segment] = (), *, with_lines: bool = False):  # fmt: skip
        self.medium, self.lines = medium, tuple(CONTINUUM_AA) if with_lines else ()
        self.segments = [make_segments(curve, spectra, seen_at, NODE_TOLERANCE, medium, law) for curve in curves]
        self.scale = np.array([_to_nmgy(curve) for curve in curves])
        self.stepped = [LAWS[law].step and _meets_step(curve, seen_at) for curve in curves]
        self.bolometric, self.bolometric_step = list(bolometric), bool(bolometric) and LAWS[law].step
        groups = [(own, stepped) for own, stepped in zip(self.segments, self.stepped, strict=True)]
        points = [(np.array([line_aa(name)]), np.zeros(1)) for name in 2 * self.lines]
        parts = [*(_columns(*group) for group in groups), *points]
        self.first_all = sum(len(wave) for wave, _ in parts)
        if self.bolometric:
            parts.append(_columns(self.bolometric, self.bolometric_step))
        self.wave_aa, self.step = (np.concatenate(one) for one in zip(*parts, strict=True))
        self.band = np.repeat(np.arange(len(parts)), [len(wave) for wave, _ in parts])

    @property
    def n_band(self) -> int:
        """Bands, with those of the lines, without that of all light."""
        return len(self.segments) + 2 * len(self.lines)

    @property
    def bands(self) -> list[slice]:
        """The columns of every band, all light's the last."""
        ends = np.append(np.flatnonzero(np.diff(self.band, prepend=-1)), len(self.band)).tolist()
        return [slice(first, last) for first, last in pairwise(ends)]

    @property
    def of_lines(self) -> slice:
        """The columns of the lines and of the light beside them."""
        return slice(self.first_all - 2 * len(self.lines), self.first_all)

    def weight(self, band: int, segment: Segment, redshift: float) -> np.ndarray:
        """What light at a segment's wavelengths counts in its band, behind the medium: nMgy at 10 pc of Lsun / A."""
        through = 1.0 if self.medium is None else self.medium(segment.wave_aa, redshift)
        return self.scale[band] * segment.weight * through

    def of_bands(self, wave_rest: np.ndarray, redshift: float) -> list[tuple[slice, np.ndarray]]:
        """For groups of the columns before first_all, in their order: the part of the wavelengths whose light they see,
        and (n_part, n) with light of the columns = L[part] @ weights at a redshift."""
        parts = []
        for band, (segments, stepped) in enumerate(zip(self.segments, self.stepped, strict=True)):
            own = [(s, self.weight(band, s, redshift)) for s in segments]
            part = _seen_part(wave_rest, [s.wave_aa / (1.0 + redshift) for s in segments])
            wave = wave_rest[part]
            weights = [hat_weights(wave, s.wave_aa, weight * s.basis, redshift) for s, weight in own]
            if stepped:
                weights.append(_step_weights(own, wave, redshift))
            parts.append((part, np.concatenate(weights, axis=1)))
        if self.lines:
            parts.append((slice(1), np.zeros((1, len(self.lines)))))
        for name in self.lines:
            samples = continuum_samples(name)
            part, weight = _seen_part(wave_rest, [samples]), np.full((1, len(samples)), 1.0 / len(samples))
            parts.append((part, hat_weights(wave_rest[part], samples, weight, 0.0)))
        return parts

    def of_all_light(self, wave_rest: np.ndarray) -> np.ndarray:
        """(n_wave, n) of the bolometric columns, likewise; light in Lsun."""
        parts = [hat_weights(wave_rest, s.wave_aa, s.weight * s.basis, 0.0) for s in self.bolometric]
        if self.bolometric_step:
            parts.append(_step_weights([(s, s.weight) for s in self.bolometric], wave_rest, 0.0))
        return np.concatenate([*parts, np.empty((len(wave_rest), 0))], axis=1)


def _columns(segments: Sequence[Segment], stepped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength of every column, and whether it is of the step."""
    nodes = np.concatenate([s.nodes_aa for s in segments])
    return (np.append(nodes, STEP_NODES_AA if stepped else []),
            np.append(np.zeros(len(nodes)), np.ones(len(STEP_NODES_AA) if stepped else 0)))  # fmt: skip


def _seen_part(wave_rest: np.ndarray, rest: Sequence[np.ndarray]) -> slice:
    """The wavelengths between which all of `rest` lie."""
    low, high = min(one.min() for one in rest), max(one.max() for one in rest)
    first, last = np.searchsorted(wave_rest, low, side="right") - 1, np.searchsorted(wave_rest, high, side="right")
    first = int(np.clip(first, 0, len(wave_rest) - 2))
    return slice(first, int(np.clip(last + 1, first + 2, len(wave_rest))))


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
        self._rest = [flat @ columns.of_all_light(wave_aa).astype(np.float32) for flat in self._flat]
        self._last: tuple[float, list[np.ndarray]] = (np.nan, [])

    def __call__(self, redshift: float) -> list[np.ndarray]:
        if self._last[0] != redshift:
            of_bands = self.columns.of_bands(self.wave_aa, redshift)
            seen = [(part, weights.astype(np.float32)) for part, weights in of_bands]
            light = [np.concatenate([*(flat[:, part] @ weights for part, weights in seen), rest], axis=1)
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
