"""Functions that expressions know, and what they take: numbers, conditions, text.

A function of `FUNCTIONS` computes with numbers, and a number that is missing makes its value missing. Those of
`CHOICES` look at what is missing themselves.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from popcat.errors import PopcatError, did_you_mean

SDSS_FLAGS = {
    "BRIGHT": 1, "EDGE": 2, "BLENDED": 3, "PEAKCENTER": 5, "NODEBLEND": 6, "NOPROFILE": 7, "COSMIC_RAY": 12,
    "SATURATED": 18, "NOTCHECKED": 19, "BINNED1": 28, "BAD_COUNTS_ERROR": 40, "INTERP_CENTER": 44,
    "DEBLEND_NOPEAK": 46, "PSF_FLUX_INTERP": 47,
}  # fmt: skip
"""Bit numbers of the 64-bit SDSS photometric `flags` (https://www.sdss.org/dr16/algorithms/flags_detail)."""


def sdss_flag(flags, name):
    """Whether a named bit of SDSS `flags` is set.

    >>> sdss_flag(np.array([0, 1 << 18]), "SATURATED").tolist()
    [False, True]
    """
    if str(name) not in SDSS_FLAGS:
        raise PopcatError(f'sdss_flag: no flag "{name}"; {did_you_mean(str(name), SDSS_FLAGS)}')
    return (integers(flags) & np.int64(1 << SDSS_FLAGS[str(name)])) != 0


def sdss_clean(flags):
    """The cuts of Hahn & Melchior (2022, section 3) on SDSS `flags`: True where the photometry is clean.

    Refused: PEAKCENTER, NOTCHECKED, PSF_FLUX_INTERP, BAD_COUNTS_ERROR, INTERP_CENTER together with COSMIC_RAY, not
    BINNED1, SATURATED, NOPROFILE.

    >>> sdss_clean(np.array([0, 1 << 28, 1 << 28 | 1 << 18])).tolist()
    [False, True, False]
    """
    refused = ("PEAKCENTER", "NOTCHECKED", "PSF_FLUX_INTERP", "BAD_COUNTS_ERROR", "SATURATED", "NOPROFILE")
    bad = sdss_flag(flags, "INTERP_CENTER") & sdss_flag(flags, "COSMIC_RAY")
    for name in refused:
        bad = bad | sdss_flag(flags, name)
    return sdss_flag(flags, "BINNED1") & ~bad


FUNCTIONS: dict[str, tuple[int, Callable]] = {
    "abs": (1, np.abs), "exp": (1, np.exp), "log": (1, np.log), "log10": (1, np.log10), "sqrt": (1, np.sqrt),
    "minimum": (2, np.minimum), "maximum": (2, np.maximum), "sdss_flag": (2, sdss_flag), "sdss_clean": (1, sdss_clean),
}  # fmt: skip
"""Number of arguments, and the function."""

_TOP = 2.0**63
_GROWING = (operator.add, operator.sub, operator.mul, operator.pow)
Value = tuple[Any, Any]
"""Values (n,) or one value, and where they are missing."""


def isfinite(x: Value) -> Value:
    """Whether a number is there and finite; never missing itself.

    >>> isfinite((np.array([1.0, np.inf, 0.0]), np.array([False, False, True])))[0].tolist()
    [True, False, False]
    """
    return np.isfinite(x[0]) & ~x[1], np.False_


def where(test: Value, a: Value, b: Value) -> Value:
    """a where a condition holds, b elsewhere; missing where the condition is, or what it chooses.

    >>> where((np.array([True, False]), np.False_), (np.float64(1), np.False_), (np.float64(2), np.False_))[0].tolist()
    [1.0, 2.0]
    """
    _require_alike(a[0], b[0])
    chosen = condition(test[0])
    return np.where(chosen, a[0], b[0]), test[1] | np.where(chosen, a[1], b[1])


def coalesce(*choices: Value) -> Value:
    """The first of some numbers that is not missing and not NaN; missing where all of them are.

    >>> coalesce((np.array([1.0, np.nan]), np.False_), (np.float64(7), np.False_))[0].tolist()
    [1.0, 7.0]
    """
    _require_alike(*(values for values, _ in choices))
    found, missing = choices[-1]
    for values, gone in reversed(choices[:-1]):
        absent = gone | (np.isnan(values) if np.asarray(values).dtype.kind == "f" else False)
        found, missing = np.where(absent, found, values), absent & missing
    return found, missing


CHOICES: dict[str, tuple[int, Callable]] = {"isfinite": (1, isfinite), "where": (3, where), "coalesce": (2, coalesce)}
"""Number of arguments (of coalesce: at least), and the function of values and where they are missing."""

KNOWN = (*FUNCTIONS, *CHOICES)
"""Names of all functions."""


def require_known(name: str, n_arguments: int) -> None:
    """PopcatError for an unknown function, or another number of arguments than it takes."""
    if name not in KNOWN:
        raise PopcatError(f'unknown function "{name}": {did_you_mean(name, KNOWN)}')
    expected, _ = FUNCTIONS.get(name) or CHOICES[name]
    at_least = name == "coalesce"
    # numpy would take one argument more for an array to write into
    if n_arguments != expected and not (at_least and n_arguments > expected):
        raise PopcatError(f"{name} takes {'at least ' if at_least else ''}{expected} argument{'s' * (expected > 1)}, "
                          f"got {n_arguments}")


def _require_alike(*values) -> None:
    if any(is_text(value) for value in values):
        raise TypeError("text can only be compared")
    if len({np.asarray(value).dtype == bool for value in values}) > 1:
        raise TypeError("where and coalesce choose among numbers or among conditions, not both")


def integers(values) -> np.ndarray:
    """Values as int64; whole numbers stored as floats too, up to 2^53."""
    values = np.asarray(values)
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        known = np.where(np.isfinite(values), values, 0.0)
        if np.all((known == np.trunc(known)) & (np.abs(known) < 2**53)):
            return known.astype(np.int64)
    raise TypeError(f"bits need whole numbers below 2^53, got {values.dtype}")


def arithmetic(compute: Callable, left, right):
    """Of integers the same digits, or an error where 64 bits do not hold them: numpy would give others, silently."""
    whole = all(np.asarray(side).dtype.kind in "iub" for side in (left, right))
    if whole and compute in _GROWING:
        size = np.abs(compute(np.asarray(left, dtype=float), np.asarray(right, dtype=float)))
        if np.any(size >= _TOP):
            raise OverflowError("whole numbers beyond 64 bits; multiply one by 1.0 to compute with 16 digits")
    return compute(left, right)


def condition(values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype != bool:
        raise TypeError(f"and, or, not need conditions such as x > 0, got {values.dtype}")
    return values


def is_text(value) -> bool:
    return np.asarray(value).dtype.kind in "US"
