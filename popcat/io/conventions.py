"""How public catalogues name their columns: the table popcat/data/conventions.toml, and what it says of a file.

The table says nothing about a catalogue's values. Whoever drafts a survey file from it marks that for a check.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pydantic

from popcat.expressions import base_name, sources_of
from popcat.io.photometry import catalog_columns
from popcat.io.streams import content_of
from popcat.settings import Settings, parse_toml
from popcat.survey import Band, Survey, embedded_surveys, load_survey


class Suggested(Settings):
    """Text for a survey file, where the columns that it needs are there, and why."""

    needs: tuple[str, ...]
    text: str
    why: str


class Facility(Settings):
    """A telescope or camera: words that name it, and what is known of its bands."""

    name: str
    words: tuple[str, ...]
    filters: dict[str, str]
    bands: tuple[str, ...] = ()
    """Bands without a filter curve."""
    vega: Mapping[str, float] = pydantic.Field(default_factory=dict)
    vega_source: str = ""
    ebv: Mapping[str, float] = pydantic.Field(default_factory=dict)
    note: str = ""
    """What to do where there is no curve."""
    notes: Mapping[str, str] = pydantic.Field(default_factory=dict)
    """Of single bands."""
    implied: tuple[str, ...] = ()

    def band(self, word: str) -> str | None:
        """The facility's own name of a band, None where it has no such band: case counts where it decides."""
        names = [*self.filters, *self.bands]
        return next((name for name in names if name == word), None) or next(
            (name for name in names if name.lower() == word.lower()), None)  # fmt: skip


class Catalogue(Settings):
    """A public catalogue: names of columns by which it is known, and what its documentation says."""

    name: str
    signatures: tuple[tuple[str, ...], ...]
    without: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    facilities: tuple[str, ...] = ()
    joint: bool = False
    """Whether it holds for the columns of other facilities too."""
    unit: str | None = None
    zero_point: float | None = None
    magnitudes: Literal["ab", "vega", "asinh"] | None = None
    prefer: Literal["flux", "magnitude"] = "flux"
    like: str | None = None
    dust: str = ""
    corrected: tuple[str, ...] = ()
    """Columns that Galactic extinction is removed from, which come before others; where none is named, all that are."""
    redshift: tuple[str, ...] = ()
    object_id: Suggested | None = None
    quality: Suggested | None = None
    note: str = ""
    by_position: bool = False

    def is_corrected(self, column: str) -> bool:
        """Whether Galactic extinction is removed from a column, or an element of one, by the documentation."""
        names = any(named(pattern, base_name(column)) for pattern in self.corrected)
        return self.dust.startswith("removed") and (names or not self.corrected)

    def has(self, facility: "Facility | None") -> bool:
        """Whether what it documents holds for columns of a facility."""
        names = [conventions().facilities[name].name for name in self.facilities]
        return self.joint or not names or facility is None or facility.name in names


class ErrorName(Settings):
    """From the name of an error to the names that its value may have."""

    error: str
    values: tuple[str, ...]


class Apart(Settings):
    """A name whose words run together, and its parts."""

    name: str
    parts: str


class Numbered(Settings):
    """A band whose word holds its wavelength."""

    name: str
    scale: float
    facility: str | None = None


class Conventions(Settings):
    """The whole table."""

    columns: dict[str, tuple[str, ...]]
    errors: tuple[ErrorName, ...]
    apart: tuple[Apart, ...]
    words: dict[str, tuple[str, ...]]
    bands: dict[str, float]
    numbered: tuple[Numbered, ...]
    facilities: dict[str, Facility]
    catalogues: tuple[Catalogue, ...]

    @pydantic.model_validator(mode="after")
    def _known(self):
        named = {name for one in self.catalogues for name in one.facilities}
        if unknown := named - set(self.facilities):
            raise ValueError(f"no such facilities: {', '.join(sorted(unknown))}")
        return self


@cache
def conventions() -> Conventions:
    """The embedded table.

    >>> conventions().facilities["lsst"].filters["r"]
    'lsst2023-r'
    """
    return parse_toml(Conventions, files("popcat") / "data" / "conventions.toml")


def named(pattern: str, name: str) -> bool:
    """Whether a whole column name fits a pattern of the table, in any case of the letters.

    >>> named("ra_?mean", "RAmean"), named("(?-i:ra)", "RA")
    (True, False)
    """
    return re.fullmatch(pattern, name, re.I) is not None


def recognise(columns: Iterable[str], header: str = "") -> Catalogue | None:
    """The public catalogue whose columns these are, by their names, else by words of the file's header.

    >>> recognise(["objectId", "g_cModelFlux", "g_cModelFluxErr"]).name
    'LSST'
    """
    columns = list(columns)
    for one in conventions().catalogues:
        excluded = any(named(pattern, column) for pattern in one.without for column in columns)
        if not excluded and any(_all_there(signature, columns) for signature in one.signatures):
            return one
    found = (one for one in conventions().catalogues if any(re.search(word, header, re.I) for word in one.headers))
    return next(found, None)


def facility_of(header: str) -> Facility | None:
    """The facility that a file's header names."""
    words = set(re.findall(r"[a-z0-9]+", header.lower()))
    return next((one for one in conventions().facilities.values() if one.name and words & set(one.words)), None)


def header_of(path: str | Path) -> str:
    """What a FITS file says of its origin; nothing for other formats."""
    if not str(path).lower().endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
        return ""
    from astropy.io import fits

    words = []
    with fits.open(content_of(path), memmap=False, lazy_load_hdus=True) as hdus:
        for hdu in hdus:
            words += [str(hdu.header.get(key, "")) for key in ("TELESCOP", "INSTRUME", "ORIGIN", "SURVEY", "EXTNAME")]
            if isinstance(hdu, fits.BinTableHDU):
                break
    return " ".join(word for word in words if word)


def embedded_like(columns: Iterable[str]) -> tuple[str, list[str]] | None:
    """The embedded survey whose identifier and photometry have these columns, and its columns that are not there.

    >>> embedded_like(["objID", *(f"modelMag{kind}_{band}" for kind in ("", "Err") for band in "ugriz")])[0]
    'sdss_casjobs_mag'
    """
    columns, found = set(columns), []
    for name in embedded_surveys():
        survey = load_survey(name)
        photometry = [text for band in survey.bands for text in (band.flux, band.flux_err, band.flux_ivar) if text]
        if {base_name(source) for text in photometry for source in sources_of(text, ())} <= columns:
            sources = (source for text in catalog_columns(survey) for source in sources_of(text, ()))
            wanted = dict.fromkeys(base_name(source) for source in sources)
            if set(sources_of(survey.columns.object_id, ())) <= columns:
                found.append((name, [one for one in wanted if one not in columns]))
    return min(found, key=lambda one: len(one[1]), default=None)


@cache
def _embedded() -> Mapping[str, Survey]:
    return {name: load_survey(name) for name in embedded_surveys()}


def ebv_coefficient(facility: Facility | None, band: str, filter_: str) -> float | None:
    """A / E(B-V) of a band: the table's, else that of an embedded survey with the same filter."""
    if facility is not None and band in facility.ebv:
        return facility.ebv[band]
    bands = (one for survey in _embedded().values() for one in survey.bands if one.filter == filter_)
    names = conventions().columns["ebv"]
    return next((one.extinction_factor for one in bands
                 if any(named(name, one.extinction or "") for name in names)), None)  # fmt: skip


def embedded_band(filter_: str, like: str | None) -> Band | None:
    """The band of an embedded survey with this filter: of `like`, else of any, for how its curve is cut."""
    surveys = [_embedded()[like]] if like else list(_embedded().values())
    return next((band for survey in surveys for band in survey.bands if band.filter == filter_), None)


def _all_there(signature: tuple[str, ...], columns: list[str]) -> bool:
    return all(any(named(pattern, column) for column in columns) for pattern in signature)
