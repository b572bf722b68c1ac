"""What the user decides: the survey, the galaxy model, and how a posterior is trained.

Each is a pydantic model read from TOML; an unknown key or a wrong value is refused with its name.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pydantic

from popcat.errors import PopcatError, did_you_mean
from popcat.units import COUNT_RATE, NMGY_PER_UNIT

FLUX_UNITS = (*NMGY_PER_UNIT, "ab_mag")


class _Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _ascending(name: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{name} must be low < high, got {low:g}, {high:g}")


class Band(_Settings):
    """One photometric band: its filter curve, and where a catalogue keeps it."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    filter: str
    """A speclite name such as "sdss2010-u", or the path of a two-column text file (Angstrom, response)."""
    wave_range_aa: tuple[float, float] | None = None
    """Observed wavelengths outside this range are cut from the curve (red leaks, out-of-band noise)."""
    flux: str
    """Column of the flux (or magnitude, if the unit is "ab_mag")."""
    unit: Literal[(*FLUX_UNITS, COUNT_RATE)] | None = None
    """Unit of this band's columns, where it is not the survey's; "count/s" has zero point 22.5 + ab_offset_mag."""
    flux_err: str | None = None
    flux_ivar: str | None = None
    """Column of the error, or of the inverse variance: exactly one of them."""
    extinction: str | None = None
    """Column of the Galactic extinction; None: already removed."""
    extinction_factor: float = pydantic.Field(default=1.0, gt=0.0)
    """Times the column this is the extinction in magnitudes: 1, or R of this band where the column is E(B-V)."""
    ab_offset_mag: float = 0.0
    """Added to the survey's magnitudes to bring them to the AB system."""
    error_floor: float = pydantic.Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of the flux added in quadrature to its error."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if self.wave_range_aa is not None:
            _ascending("wave_range_aa", *self.wave_range_aa)
        if (self.flux_err is None) == (self.flux_ivar is None):
            raise ValueError(f'band "{self.name}" needs exactly one of flux_err, flux_ivar')
        return self


class RestFrameFilter(_Settings):
    """A filter that absolute magnitudes are given in."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    filter: str
    """As in `Band`."""
    wave_range_aa: tuple[float, float] | None = None
    """As in `Band`, in the rest frame."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if self.wave_range_aa is not None:
            _ascending("wave_range_aa", *self.wave_range_aa)
        return self


class Columns(_Settings):
    """Columns of a catalogue that are not photometry."""

    object_id: str = "object_id"
    ra: str | None = "ra"
    dec: str | None = "dec"
    redshift: str = "redshift"
    redshift_err: str | None = None


class Selection(_Settings):
    """Magnitude range, in one band, of the galaxies that a model is trained on.

    A cut in *observed* quantities leaves p(theta | photometry) unchanged for every galaxy that passes it,
    so it spends the training where the survey's galaxies are and biases nothing.
    """

    band: str
    bright_mag: float
    faint_mag: float

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        _ascending("bright_mag to faint_mag", self.bright_mag, self.faint_mag)
        return self


class Survey(_Settings):
    """A photometric survey: bands, columns, units, redshift range."""

    name: str = pydantic.Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    description: str = ""
    unit: Literal[FLUX_UNITS] = "nMgy"
    redshift_range: tuple[float, float]
    columns: Columns = Columns()
    bands: tuple[Band, ...] = pydantic.Field(min_length=1)
    selection: Selection
    absolute_magnitudes: tuple[RestFrameFilter, ...] = ()
    """Filters of the rest-frame absolute magnitudes that every posterior draw has: columns abs_mag_<name>."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        names = self.band_names
        if len(set(names)) != len(names):
            raise ValueError(f"band names must differ, got {', '.join(names)}")
        absolute = [item.name for item in self.absolute_magnitudes]
        if len(set(absolute)) != len(absolute):
            raise ValueError(f"names of absolute_magnitudes must differ, got {', '.join(absolute)}")
        if self.selection.band not in names:
            raise ValueError(f'selection.band "{self.selection.band}": {did_you_mean(self.selection.band, names)}')
        low, high = self.redshift_range
        if not 0.0 < low < high:
            raise ValueError(f"redshift_range must be 0 < low < high, got {low}, {high}")
        return self

    def unit_of(self, band: Band) -> str:
        """The unit of a band's columns."""
        return band.unit or self.unit

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)


class Model(_Settings):
    """The galaxy model: stellar populations, bases, discretisation, dust, cosmology, prior ranges."""

    grid: str = "bc03_miles"
    """Name of an embedded SSP grid, or the path of one that `popcat ssp build` wrote."""
    bases: str = "popcat"
    """"popcat" (embedded), "provabgs" (from an installed provabgs), a CSV file of any number of bases, or a folder of
    files named as the published ones."""
    metallicity: Literal["evolving", "constant"] = "evolving"
    """A mixture of the metallicity bases, or one metallicity for all stars of a galaxy (the parameter log_z, as in
    PopSED): then the metallicity bases play no part."""
    binning: Literal["average", "midpoint"] = "average"
    """SSP averaged over each time bin, or at its midpoint as in the published PROVABGS code."""
    birth_cloud_age_gyr: float = pydantic.Field(default=0.1, ge=0.0)
    """Stars younger than this are behind tau_bc: 0.1 in the SEDflow paper, 0.01 in its released code."""
    cosmology: str = "Planck13"
    """Name of an astropy.cosmology realisation."""
    beta: Literal["flat", "provabgs_warped"] = "flat"
    """Prior of the SFH weights: the flat Dirichlet, or the warped one of the released SEDflow code."""
    log_mstar_formed: tuple[float, float] = (7.0, 12.5)

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        _ascending("log_mstar_formed", *self.log_mstar_formed)
        return self


class Training(_Settings):
    """How a flow is trained."""

    n_blocks: int = pydantic.Field(default=8, ge=1)
    hidden: int = pydantic.Field(default=128, ge=16)
    n_layers: int = pydantic.Field(default=2, ge=1)
    batch: int = pydantic.Field(default=1024, ge=2)
    learning_rate: float = pydantic.Field(default=2e-3, gt=0)
    max_epochs: int = pydantic.Field(default=60, ge=1)
    patience: int = pydantic.Field(default=20, ge=1)
    validation_fraction: float = pydantic.Field(default=0.05, gt=0, lt=0.5)
    clip_norm: float = pydantic.Field(default=5.0, gt=0)
    seed: int = 0


def embedded_surveys() -> list[str]:
    """Names of the surveys that popcat carries."""
    folder = files("popcat") / "data" / "surveys"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_survey(survey: "str | Path | Survey") -> Survey:
    """A survey by the name of an embedded one or by the path of a TOML file.

    Raises PopcatError if there is no such survey or the file does not describe one.

    >>> load_survey("sdss").band_names
    ('u', 'g', 'r', 'i', 'z')
    """
    if isinstance(survey, Survey):
        return survey
    if str(survey) in embedded_surveys():
        return parse_toml(Survey, files("popcat") / "data" / "surveys" / f"{survey}.toml")
    path = Path(survey)
    if not path.is_file():
        raise PopcatError(
            f'no survey "{survey}": expected a TOML file or an embedded name; '
            f"{did_you_mean(str(survey), embedded_surveys())}"
        )
    return parse_toml(Survey, path)


def parse_toml(kind: type[_Settings], path) -> _Settings:
    """Settings of one kind from a TOML file; PopcatError names the file, the key and the reason."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PopcatError(f"{path} is not valid TOML: {error}") from error
    except pydantic.ValidationError as error:
        raise PopcatError(f"{path} is not a valid {kind.__name__.lower()}: {validation_summary(error)}") from error


def validation_summary(error: pydantic.ValidationError) -> str:
    """One line for a pydantic error: each key, what is wrong, and what came.

    Raises nothing; used by every reader of user settings.
    """
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "file"
        got = f" (got {item['input']!r})" if not isinstance(item["input"], dict) else ""
        lines.append(f"{key}: {item['msg']}{got}")
    return "; ".join(lines)
