"""Numbers of galaxies in few characters, for a page that carries hundreds of them."""

import string

import numpy as np

CURVE_POINTS = 40
"""Points of a band's curve."""
_DIGITS = np.array(list(string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"))
_MISSING = 4095


def packed(values: np.ndarray) -> list:
    """Values (n,) as [least, step, text]: two characters a value, which is the least and so many steps; corner.js reads
    it. NaN are the last of 4,096 numbers.

    >>> packed(np.array([1.0, 2.0, np.nan]))
    [1.0, 0.00024426, 'AA/+//']
    """
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    least, most = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    step = (most - least) / (_MISSING - 1)
    places = np.where(known, (values - least) / (step or 1.0), _MISSING).round().astype(int)
    text = "".join(np.column_stack([_DIGITS[places >> 6], _DIGITS[places & 63]]).ravel().tolist())
    return [significant(float(least), 7), significant(float(step), 5), text]


def band_of(name, wave_aa, response):
    """A band's mean wavelength and its curve, relative to the peak, at a few points."""
    some = np.linspace(wave_aa[0], wave_aa[-1], CURVE_POINTS)
    height = np.interp(some, wave_aa, response) / np.max(response)
    mean = np.average(wave_aa, weights=response * np.gradient(wave_aa))
    return {"name": name, "wave": significant(mean, 5), "curve": [significant(some, 5), significant(height, 3)]}


def some_of(values, n: int) -> np.ndarray:
    """At most n of the draws, evenly spaced."""
    values = np.asarray(values, dtype=float)
    return values[np.unique(np.linspace(0, len(values) - 1, n).round().astype(int))]


def centimags(fnu) -> list:
    """AB magnitudes x 100 of f_nu in nMgy; None where there is no light."""
    return [round(2250 - 250 * np.log10(value)) if value > 0 else None for value in fnu.tolist()]


def steps_of(numbers: list) -> list:
    """Each number less the one before it, which takes fewer digits; None stays, and is passed over.

    >>> steps_of([1810, 1808, None, 1811])
    [1810, -2, None, 3]
    """
    found, last = [], 0
    for number in numbers:
        found.append(None if number is None else number - last)
        last = last if number is None else number
    return found


def significant(values, digits: int):
    """Rounded to significant digits, as plain numbers and lists; None where not finite."""
    if values is None or isinstance(values, (int, float)):
        return None if values is None or not np.isfinite(values) else float(f"{values:.{digits}g}")
    return [significant(value, digits) for value in np.asarray(values, dtype=float).tolist()]


def finite_or_none(value):
    return None if value is None or not np.isfinite(value) else float(value)
