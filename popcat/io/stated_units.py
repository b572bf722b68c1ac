"""Units that a file states for its columns, against those of a survey file.

Case is folded where it says nothing ("NMGY"), never where it does: MJy is not mJy.
"""

import re
import warnings
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from popcat.forward.filters import load_curve
from popcat.survey import Band
from popcat.units import C_AA_S, COUNT_RATE, NMGY_FNU, NMGY_PER_UNIT

MAGNITUDES = ("ab_mag", "asinh_mag")

Verdict = Literal["same", "other", "unknown", "zero_point", "per_wavelength"]
"""What a stated unit is, beside a survey's: the same or another; nothing that popcat understands; magnitudes that are
not AB (Vega, ST); a flux per wavelength."""

_SPELLINGS = {
    "nMgy": ("nmgy", "nanomaggy", "nanomaggie", "nanomaggies", "nanomgy"),
    "nJy": ("njy", "nanojy", "nanojansky", "nanojanskys"),
    "uJy": ("ujy", "µjy", "μjy", "microjy", "microjansky", "microjanskys"),
    "mJy": ("millijy", "millijansky", "millijanskys"),
    "Jy": ("jy", "jansky", "janskys"),
    "ab_mag": ("mag", "mags", "magnitude", "magnitudes", "abmag", "mag(ab)", "ab_mag", "mag_ab", "magab", "abmags"),
    COUNT_RATE: ("count/s", "counts/s", "ct/s", "cts-1"),
    "asinh_mag": ("asinh_mag", "asinhmag", "mag(asinh)", "luptitude", "luptitudes"),
}
_EXACT = {"mJy": "mJy"}
"""Spellings that mean something else in another case."""
_NOTHING = ("", "-", "--", "none", "null", "nan", "n/a", "unknown", "1")
_ZERO_POINT = re.compile(r"vega|(?:^|[^a-z])st[ _(-]*mag|mag[ _(-]*st(?:[^a-z]|$)", re.IGNORECASE)
_WAVE = r"(?:å|a|aa|ang|angstroms?|nm|um|µm|microns?)"
_PER_WAVE = re.compile(rf"(?:/|per)\s*{_WAVE}(?![a-z])|(?<![a-z]){_WAVE}\s*(?:\^|\*\*)?\s*[({{]?-1", re.IGNORECASE)
_DEGREES = re.compile(r"^(?:[a-z.;_]*[\[(])?(?:degs?|degrees?|decimal degrees?|deg[ _.]?j2000|°)[\])]?$")
_HOURS = ("hourangle", "hour", "hours", "h", "hr", "hrs")
_RADIANS = {"radians": "rad", "radian": "rad"}
_POWER = re.compile(r"ergs?(?![a-z])|(?<![a-z])w(?![a-z])", re.IGNORECASE)


def verdict_of(text: str, unit: str) -> Verdict:
    """What a unit that a file states is, beside a survey's unit.

    >>> [verdict_of(text, "nMgy") for text in ("nanomaggies", "MJy", "counts", "Vega mag", "1e-17 erg/cm^2/s/Ang")]
    ['same', 'other', 'unknown', 'zero_point', 'per_wavelength']
    """
    if text.strip().lower() in _NOTHING:
        return "same"
    if _ZERO_POINT.search(text):
        return "zero_point"
    known = spelled_unit(text)
    if known == "ab_mag" and unit == "asinh_mag":
        return "same"  # "mag" says nothing of the kind
    if known:
        return "same" if known == unit else "other"
    return _verdict_by_dimension(text, unit)


def same_unit(text: str, unit: str) -> bool:
    """Whether a unit that a file states is a survey's unit; True where the text says nothing that can be judged.

    >>> same_unit("nanomaggies", "nMgy"), same_unit("uJy", "nMgy"), same_unit("3.631e-6 Jy", "nMgy")
    (True, False, True)
    """
    return verdict_of(text, unit) in ("same", "unknown")


def spelled_unit(text: str) -> str | None:
    """popcat's name of a unit that is spelled in a usual way; None for others.

    >>> spelled_unit("nanomaggies"), spelled_unit("mJy"), spelled_unit("MJy"), spelled_unit("furlong")
    ('nMgy', 'mJy', None, None)
    """
    word = text.replace(" ", "")
    if word in _EXACT:
        return _EXACT[word]
    return next((unit for unit, spellings in _SPELLINGS.items() if word.lower() in spellings), None)


def base_unit(text: str) -> str:
    """The unit whose inverse square a text is; a text of another form says nothing.

    >>> base_unit("1/nanomaggy^2"), base_unit("nanomaggies^{-2}"), base_unit("uJy-2"), base_unit("weight")
    ('nanomaggy', 'nanomaggies', 'uJy', '')
    """
    word = re.sub(r"[\s{}()]", "", text)
    match = re.fullmatch(r"1/([A-Za-zµμ_]+)(?:\^|\*\*)?2|([A-Za-zµμ_]+)(?:\^|\*\*)?-2", word)
    return (match[1] or match[2]) if match else ""


def degrees_per(text: str) -> float | None:
    """How many degrees an angle in a stated unit has; None where the text is no unit of angles that popcat reads.

    >>> [round(degrees_per(text) or 0.0, 4) for text in ("deg", "degrees", "rad", "hourangle", "h", "arcsec", "m")]
    [1.0, 1.0, 57.2958, 15.0, 15.0, 0.0003, 0.0]
    """
    word = text.strip().lower()
    if word in _NOTHING or _DEGREES.search(word):
        return 1.0
    if word in _HOURS:
        return 15.0
    from astropy import units

    parsed = parsed_unit(_RADIANS.get(word, text.strip()))
    return float(parsed.to(units.deg)) if parsed is not None and parsed.is_equivalent(units.deg) else None


def is_velocity(text: str) -> bool:
    """Whether a stated unit is one of velocities."""
    from astropy import units

    parsed = None if text.strip().lower() in _NOTHING else parsed_unit(text.strip())
    return parsed is not None and parsed.is_equivalent(units.km / units.s)


def remedy(verdict: Verdict, text: str, band: Band, unit: str) -> str:
    """What to do about a column of a band whose stated unit is not the survey's."""
    if verdict == "zero_point":
        return (f"popcat reads AB magnitudes: say in band {band.name} of the survey file what is added to reach them "
                "(ab_offset_mag; 1.85 takes Vega to AB in 2MASS Ks)")
    if verdict == "per_wavelength":
        pivot = load_curve(band).pivot_wavelength_aa
        factor = _to_erg_per_wavelength(text) * pivot**2 / C_AA_S / NMGY_FNU / NMGY_PER_UNIT.get(unit, 1.0)
        return (f"popcat reads fluxes per frequency: convert it in the survey file, in band {band.name} "
                f'flux = "{factor:.5g} * {band.flux}" (at its pivot wavelength, {pivot:.0f} A), and the error likewise')
    return "correct one of them"


def _verdict_by_dimension(text: str, unit: str) -> Verdict:
    from astropy import units

    parsed = parsed_unit(text)
    if parsed is None:
        return "per_wavelength" if _is_per_wavelength(text) else "unknown"
    if parsed.is_equivalent(units.dimensionless_unscaled):
        return "same"
    if parsed.is_equivalent(units.erg / units.s / units.cm**2 / units.AA):
        return "per_wavelength"
    if unit == COUNT_RATE:
        return "same" if parsed == units.count / units.s else "other"
    maggies = units.zero_point_flux(3631 * units.Jy)
    if unit in MAGNITUDES or not parsed.is_equivalent(units.Jy, maggies):
        return "other"
    expected = NMGY_PER_UNIT[unit] / NMGY_PER_UNIT["Jy"]
    is_same = np.isclose(parsed.to(units.Jy, equivalencies=maggies), expected, rtol=1e-3, atol=0.0)
    return "same" if is_same else "other"


def _is_per_wavelength(text: str) -> bool:
    return bool(_POWER.search(text) and _PER_WAVE.search(text)) and "hz" not in text.lower()


@lru_cache(maxsize=256)
def parsed_unit(text: str) -> Any:
    """astropy's unit of a text; None where it cannot read it."""
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)  # about style, such as two slashes
        parsed = units.Unit(text, parse_strict="silent")
    return None if isinstance(parsed, units.UnrecognizedUnit) else parsed


def _to_erg_per_wavelength(text: str) -> float:
    """erg/s/cm2/A in a unit of flux per wavelength; 1 where only its kind is known."""
    from astropy import units

    text = re.sub(r"(?i)\bergs\b", "erg", text)
    parsed = parsed_unit(re.sub(r"(?i)(?<![a-z])(?:ang|angstroms|a|aa|å)(?![a-z])", "Angstrom", text))
    return 1.0 if parsed is None else float(parsed.to(units.erg / units.s / units.cm**2 / units.AA))
