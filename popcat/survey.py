"""A photometric survey: its bands, and what the columns of its catalogues mean."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pydantic

from popcat.display import Displayed, listed
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import parse
from popcat.paths import path_of
from popcat.settings import Settings, ascending, parse_toml
from popcat.units import COUNT_RATE, NMGY_PER_UNIT

FLUX_UNITS = (*NMGY_PER_UNIT, "ab_mag", "asinh_mag")
if TYPE_CHECKING:  # a type checker reads no tuple: what it takes for a unit is text
    FluxUnit: TypeAlias = str
    BandUnit: TypeAlias = str
else:
    FluxUnit, BandUnit = Literal[FLUX_UNITS], Literal[(*FLUX_UNITS, COUNT_RATE)]
Z_MAX = 20.0
"""The largest redshift of a survey: earlier than 180 Myr after the big bang there are no galaxies to fit."""
TRIM = 1e-3
"""Response below this fraction of a filter's peak is noise outside the band (popcat.forward.filters)."""


class Filter(Settings):
    """A filter curve by name: of an observed band, or one that absolute magnitudes are given in."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    """Name of the band: letters and digits, in the columns flux_<name>; of an absolute magnitude: abs_mag_<name>."""
    filter: str
    """The path of a file (two columns of Angstrom and response, or the SVO's VOTable), a speclite name such as
    "sdss2010-u", or a sedpy name such as "vista_vircam_J"."""
    wave_range_aa: tuple[float, float] | None = None
    """Wavelengths outside this range are cut from the curve: here it is decided whether a leak counts."""
    trim: float = pydantic.Field(default=TRIM, ge=0.0, lt=0.5)
    """Response below this fraction of the peak is noise outside the band and its leaks; 0 keeps all."""
    curve: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Angstrom and response as the file had them when it was read, in libraries and posteriors, which need the file no
    more (popcat.forward.filters.with_curves). Not for survey files."""

    @pydantic.model_serializer(mode="wrap")
    def _without_none(self, handler):
        """As surveys were written before curves could be kept: they have the same hashes."""
        written = handler(self)
        return written if self.curve is not None else {key: one for key, one in written.items() if key != "curve"}

    @pydantic.model_validator(mode="after")
    def _ordered(self):
        if self.wave_range_aa is not None:
            ascending("wave_range_aa", *self.wave_range_aa)
        return self


class Band(Filter):
    """One photometric band: its filter curve, and where a catalogue keeps it.

    A column is a name, one element of a vector column ("NMGY[2]"), or an expression of `popcat.expressions`.
    """

    flux: str
    """Column of the flux (or magnitude, if the unit is "ab_mag")."""
    unit: BandUnit | None = None
    """Unit of this band's columns, where it is not the survey's; "count/s" has zero point 22.5 + ab_offset_mag."""
    softening: float | None = pydantic.Field(default=None, gt=0.0)
    """b of asinh magnitudes ("asinh_mag"), as a fraction of the flux of magnitude zero."""
    flux_err: str | None = None
    """Column of the error, in the unit of the flux. Each band needs this or flux_ivar."""
    flux_ivar: str | None = None
    """Column of the inverse variance, instead of flux_err."""
    extinction: str | None = None
    """Column of the Galactic extinction; None: already removed. Where it is missing, so is the band."""
    extinction_factor: float = pydantic.Field(default=1.0, gt=0.0)
    """Times the column this is the extinction in magnitudes: 1, or R of this band where the column is E(B-V)."""
    ab_offset_mag: float = 0.0
    """Added to the survey's magnitudes to bring them to the AB system."""
    error_floor: float = pydantic.Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of the flux added in quadrature to its error."""
    depth_5sigma_mag: float | None = pydantic.Field(default=None, gt=0.0, lt=40.0)
    """AB magnitude that has an error of a fifth of its flux: from it follows a nominal noise model."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if (self.flux_err is None) == (self.flux_ivar is None):
            raise ValueError(f'band "{self.name}" needs exactly one of flux_err, flux_ivar')
        return self


class Columns(Settings):
    """Columns of a catalogue that are not photometry; each may be an expression, as in `Band`."""

    object_id: str = "object_id"
    """Column of the identifier: integers, or text."""
    ra: str | None = "ra"
    """Column of the right ascension in degrees; a catalogue may lack it."""
    dec: str | None = "dec"
    """Column of the declination in degrees; a catalogue may lack it."""
    redshift: str = "redshift"
    """Column of the redshift; "" if there is none, and all redshifts are inferred."""
    redshift_err: str | None = None
    """Gaussian error of the redshift. Where it is missing, the redshift is exact; where it is negative, which is the
    code of a failed fit, or as wide as the redshift range, the redshift is not used."""
    redshift_warning: str | None = None
    """Column that is 0 where the redshift is good: elsewhere the redshift is not used. A catalogue may lack it."""


class Selection(Settings):
    """Magnitude range, in one band, of the galaxies that a model is trained on.

    A cut in *observed* quantities leaves p(theta | photometry) unchanged for every galaxy that passes it,
    so it spends the training where the survey's galaxies are and biases nothing.
    """

    band: str
    """Name of the band whose magnitudes select."""
    bright_mag: float
    """Bright limit, AB magnitude."""
    faint_mag: float
    """Faint limit, AB magnitude."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        ascending("bright_mag to faint_mag", self.bright_mag, self.faint_mag)
        return self


class TemplateError(Settings):
    """Relative error of the galaxy model's spectra, by wavelength of the rest frame."""

    wave_aa: tuple[float, ...] = pydantic.Field(min_length=1)
    """Wavelengths of the rest frame in Angstrom, ascending."""
    fraction: tuple[float, ...]
    """Relative errors there; linear in ln wavelength in between, constant beyond."""

    def at(self, rest_aa: np.ndarray) -> np.ndarray:
        """The relative error at wavelengths of the rest frame.

        >>> TemplateError(wave_aa=(1000.0, 4000.0), fraction=(0.2, 0.1)).at(np.array([500.0, 2000.0])).round(3).tolist()
        [0.2, 0.15]
        """
        return np.interp(np.log(rest_aa), np.log(self.wave_aa), self.fraction)

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if len(self.wave_aa) != len(self.fraction):
            raise ValueError(f"wave_aa and fraction need the same length, got {len(self.wave_aa)} and "
                             f"{len(self.fraction)}")
        if min(self.wave_aa) <= 0.0 or any(np.diff(self.wave_aa) <= 0.0):
            raise ValueError("wave_aa must be above 0 and ascend")
        if not all(0.0 <= one < 1.0 for one in self.fraction):
            raise ValueError("fraction must be numbers from 0 to below 1")
        return self


class CalibrationLimits(Settings):
    """The largest deviations that pass: KS distance of a column, TARP deviation of all parameters at once.

    `popcat calibrate` takes as many mocks as it needs to hold these, about 3,800 of the survey sdss.
    """

    max_ks: float = pydantic.Field(default=0.036, gt=0.0, lt=1.0)
    """Largest KS distance of a column that passes. Smaller: more mock galaxies are needed."""
    max_tarp: float = pydantic.Field(default=0.03, gt=0.0, lt=1.0)
    """Largest TARP deviation of all parameters at once that passes."""


class Survey(Displayed, Settings):
    """A photometric survey: bands, columns, units, redshift range."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """Name of the survey: letters, digits and underscores."""
    description: str = ""
    """A sentence about the survey, for people."""
    unit: FluxUnit = "nMgy"
    """Unit of the fluxes and errors of all bands: nMgy, nJy, uJy, mJy, Jy, ab_mag or asinh_mag."""
    redshift_range: tuple[float, float]
    """Lowest and highest redshift of the galaxies; both above 0."""
    columns: Columns = Columns()
    """Table of the columns that are not photometry."""
    quality: tuple[str, ...] = ()
    """Conditions, such as "sdss_clean(flags)" or "NQ >= 3"; a row that fails one is flagged `quality_cut`."""
    missing_values: tuple[float, ...] = ()
    """Numbers that stand for "not observed", such as -999.0, in every column that this file names: fluxes, errors,
    extinctions, redshifts and their errors, positions; in identifiers only negative ones."""
    limit_mark: float | None = None
    """Magnitude that stands for a non-detection, such as 99.0, where the error column then has the limiting magnitude:
    a flux of 0 with the error that `limit_sigma` says. None: such a magnitude is missing."""
    limit_sigma: float = pydantic.Field(default=1.0, gt=0.0)
    """The limiting magnitude is that of a flux of so many errors."""
    bands: tuple[Band, ...] = pydantic.Field(min_length=1)
    """A table for each band."""
    selection: Selection
    """Table of the magnitudes that a posterior is trained for."""
    calibration: CalibrationLimits = CalibrationLimits()
    """Table of the limits of a calibration."""
    template_error: TemplateError | None = None
    """Table of the error of the galaxy model's spectra by rest wavelength, added in quadrature to the errors of all
    bands at the redshift of each draw. None: there is none beyond the bands' error_floor."""
    absolute_magnitudes: tuple[Filter, ...] = ()
    """Filters of the rest-frame absolute magnitudes that every posterior draw has: columns abs_mag_<name>."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        names = self.band_names
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(f"band names must differ, and not in case alone (columns of them would be one to DuckDB), "
                             f"got {', '.join(names)}")
        absolute = [item.name.lower() for item in self.absolute_magnitudes]
        if len(set(absolute)) != len(absolute):
            raise ValueError("names of absolute_magnitudes must differ, and not in case alone, got "
                             f"{', '.join(item.name for item in self.absolute_magnitudes)}")
        if self.selection.band not in names:
            raise ValueError(f'selection.band "{self.selection.band}": {did_you_mean(self.selection.band, names)}')
        low, high = self.redshift_range
        if not 0.0 < low < high:
            raise ValueError(f"redshift_range must be 0 < low < high, got {low}, {high}")
        if high > Z_MAX:
            raise ValueError(f"redshift_range must end at {Z_MAX:g} or below, got {high:g}: lower its second number")
        hard = [band.name for band in self.bands if self.unit_of(band) == "asinh_mag" and band.softening is None]
        if hard:
            raise ValueError(f'bands {", ".join(hard)} are in "asinh_mag" and need softening, such as 1.2e-10')
        return self

    @pydantic.field_validator("quality")
    @classmethod
    def _conditions(cls, quality):
        for text in quality:
            try:
                parse(text)
            except PopcatError as error:
                raise ValueError(str(error)) from error
        return quality

    def _title(self) -> str:
        return f"Survey {self.name}"

    def _facts(self) -> dict[str, object]:
        cut, (low, high) = self.selection, self.redshift_range
        found = {
            "description": self.description, "bands": listed(self.band_names, 20), "unit": self.unit,
            "redshift": f"{low:g} to {high:g}",
            "selection": f"{cut.band} {cut.bright_mag:g} to {cut.faint_mag:g} mag",
            "quality": "; ".join(self.quality),
            "absolute magnitudes": listed([one.name for one in self.absolute_magnitudes], 20),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    def without_error_floors(self) -> "Survey":
        """The same survey with the errors of its catalogue as they are."""
        bands = tuple(band.model_copy(update={"error_floor": 0.0}) for band in self.bands)
        return self.model_copy(update={"bands": bands, "template_error": None})

    @pydantic.model_serializer(mode="wrap")
    def _without_none(self, handler):
        """As surveys were written before there was a template error: they have the same hashes."""
        written = handler(self)
        return written if self.template_error is not None else {
            key: one for key, one in written.items() if key != "template_error"}  # fmt: skip

    def unit_of(self, band: Band) -> str:
        """The unit of a band's columns."""
        return band.unit or self.unit

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)


def embedded_surveys() -> list[str]:
    """Names of the surveys that popcat carries."""
    folder = files("popcat") / "data" / "surveys"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


OTHER_NAMES = {"desi_legacy": "legacy_sweep"}
"""Other names of embedded surveys, by which they are usual elsewhere."""


def load_survey(survey: "str | Path | Survey") -> Survey:
    """A survey by the name of an embedded one, or another usual name of it, or by the path of a TOML file.

    Raises PopcatError if there is no such survey or the file does not describe one.

    >>> load_survey("sdss").band_names
    ('u', 'g', 'r', 'i', 'z')
    >>> load_survey("desi_legacy").name
    'legacy_sweep'
    """
    if isinstance(survey, Survey):
        return survey
    name = OTHER_NAMES.get(str(survey), str(survey))
    if name in embedded_surveys():
        return parse_toml(Survey, files("popcat") / "data" / "surveys" / f"{name}.toml")
    path = path_of(survey)
    if not path.is_file():
        raise PopcatError(
            f'no survey "{survey}": expected a TOML file or an embedded name; '
            f"{did_you_mean(str(survey), [*embedded_surveys(), *OTHER_NAMES])}"
        )
    return parse_toml(Survey, path)
