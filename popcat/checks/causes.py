"""What usually makes a catalogue unlike its training: a short list of faults, each undone and scored.

A fault is a change of the photometry that can be undone: a factor on all fluxes, a zero point, two bands swapped. Each
is undone in the sample, and its score is how much more probable the galaxies become under the Gaussian mixture of the
training set's magnitudes, errors and redshifts (popcat.posterior.support): the median over the galaxies of the gain in
ln p. The fault with the largest gain is named, if it gains enough.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import TypeAlias

import numpy as np

from popcat.forward.filters import load_curves
from popcat.galaxies import Observation
from popcat.posterior.posterior import Posterior
from popcat.survey import Survey
from popcat.units import NMGY_PER_UNIT

MIN_GAIN = 0.3
"""Least median gain in ln p of a fault that is named."""
KINDS = ("factor", "errors", "bands", "redshift")
"""Kinds of faults."""
Fault: TypeAlias = tuple[str, Observation]
"""A fault in words, and the sample with it undone."""
_N = 200
# A factor that the errors suggest is that of a unit, if it is so near.
_NEAR = 0.7, 1.4
_MAGS = (-1.5, -1.0, -0.7, -0.5, -0.4, -0.3, -0.2, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
_LARGE_MAG = 0.35
# A smaller zero point is not told from galaxies that the galaxy model lacks, such as those with strong lines.
_REDSHIFTS = (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)
_ERRORS = (0.1, 0.2, 0.33, 0.5, 0.7, 1.4, 2.0, 3.0, 5.0, 10.0)
# Read as magnitudes of extinction, a transmission of 0.85 brightens by 10^(0.4 x 0.85) x 0.85, a little less than 2.
_TRANSMISSION = 2.1


def usual_cause(
    posterior: Posterior, data: Observation, survey: Survey, factor: float, kinds: tuple[str, ...] = KINDS
) -> str | None:
    """The fault that, undone, makes a sample most like the training set, in words; None if none gains MIN_GAIN.

    `factor` is that on fluxes and errors which the errors at given flux suggest; `survey` says what units were read;
    `kinds`, which of KINDS are considered.
    """
    some = data[np.linspace(0, len(data) - 1, min(len(data), _N)).astype(int)]
    before = _log_density(posterior, some)
    faults = {"factor": _factors(some, survey, factor), "errors": _errors(some), "bands": _bands(posterior, some),
              "redshift": _redshifts(posterior, some)}  # fmt: skip
    gains = [(float(np.median(_log_density(posterior, undone) - before)), cause)
             for kind in kinds for cause, undone in faults[kind]]  # fmt: skip
    gain, cause = max(gains, default=(0.0, ""))
    return cause if gain >= MIN_GAIN else None


def _log_density(posterior: Posterior, data: Observation) -> np.ndarray:
    return posterior.support.log_density(data.flux, data.flux_err, data.redshift)


def _errors(data: Observation) -> Iterator[Fault]:
    for ratio in _ERRORS:
        yield f"errors are {times(ratio)} (or fluxes of an aperture)", replace(data, flux_err=data.flux_err / ratio)


def _redshifts(posterior: Posterior, data: Observation) -> Iterator[Fault]:
    low, high = posterior.survey.redshift_range
    for shift in _REDSHIFTS:
        cause = f"redshifts are about {abs(shift):g} too {'large' if shift > 0 else 'small'}"
        yield cause, replace(data, redshift=np.clip(data.redshift - shift, low, high))


def _bands(posterior: Posterior, data: Observation) -> Iterator[Fault]:
    """Faults that change colours: with the wavelength, of one band, of two exchanged bands."""
    yield from _with_wavelength(posterior, data)
    names = posterior.survey.band_names
    for b, name in enumerate(names):
        for mag in _MAGS:
            bright = "bright" if mag < 0 else "faint"
            lacks = ", or galaxies that the galaxy model lacks" if abs(mag) < _LARGE_MAG else ""
            cause = f"{name} is about {abs(mag):.1f} mag too {bright}: its zero point, filter or column{lacks}"
            yield cause, scaled(data, np.where(np.arange(len(names)) == b, 10.0 ** (0.4 * mag), 1.0))
    for a, b in combinations(range(len(names)), 2):
        order = np.arange(len(names))
        order[[a, b]] = b, a
        swapped = replace(data, flux=data.flux[:, order], flux_err=data.flux_err[:, order])
        yield f"the columns of {names[a]} and {names[b]} are exchanged", swapped


def _factors(data: Observation, survey: Survey, factor: float) -> Iterator[Fault]:
    """Factors on all fluxes and errors: units, a transmission, and what the errors suggest."""
    unit, has_extinction = survey.unit_of(survey.bands[0]), any(band.extinction for band in survey.bands)
    ratios = {other: NMGY_PER_UNIT[unit] / per_unit for other, per_unit in NMGY_PER_UNIT.items()
              if unit in NMGY_PER_UNIT and other != unit}  # fmt: skip
    for other, ratio in ratios.items():
        if not _is_near(ratio, factor):
            continue
        cause = f"fluxes are {times(ratio)}: are they in {other}? The survey file says {unit}"
        yield cause, scaled(data, 1.0 / ratio)
    if has_extinction and _is_near(_TRANSMISSION, factor):
        cause = f"fluxes are {times(_TRANSMISSION)}: a transmission was read as an extinction in magnitudes"
        yield cause, scaled(data, 1.0 / _TRANSMISSION)
    named = [*ratios.values(), *([_TRANSMISSION] if has_extinction else [])]
    if factor != 1.0 and not any(_is_near(ratio, factor) for ratio in named):
        yield f"fluxes and errors are {times(factor)}: their unit or zero point", scaled(data, 1.0 / factor)


def _is_near(ratio: float, factor: float) -> bool:
    """Whether a factor may be the one that the errors suggest; any may, where they suggest none."""
    return factor == 1.0 or _NEAR[0] < factor / ratio < _NEAR[1]


def _with_wavelength(posterior: Posterior, data: Observation) -> Iterator[Fault]:
    """Faults that go with the wavelength of the bands; not extinction, which looks like dust of the galaxies."""
    wave = np.array([curve.pivot_wavelength_aa for curve in load_curves(posterior.survey)])
    relative = wave / np.exp(np.mean(np.log(wave)))
    yield "fluxes are per wavelength (f_lambda), and not per frequency (f_nu)", scaled(data, relative**2)
    yield "fluxes were taken from f_lambda to f_nu once too often", scaled(data, relative**-2)


def scaled(data: Observation, by) -> Observation:
    """Photometry with fluxes and errors times a factor, or one for each band."""
    return replace(data, flux=data.flux * by, flux_err=data.flux_err * by)


def times(ratio: float) -> str:
    """A factor in words.

    >>> times(3.631), times(1 / 3631)
    ('3.6 times too large', '3,631 times too small')
    """
    size = max(ratio, 1.0 / ratio)
    return f"{size:,.{0 if size >= 100 else 1}f} times too {'large' if ratio >= 1.0 else 'small'}"
