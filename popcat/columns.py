"""The columns of popcat's frames: names, types, units, flag bits, statuses.

Photometry frame: one row a galaxy. Posterior frame: the same rows, with quantiles and draws.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pyarrow as pa

from popcat.errors import PopcatError, did_you_mean
from popcat.galaxies import CERTIFIED_ESS, CERTIFIED_MEANS, FLAGS, OBJECT_NAME, ROUTES
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior, parameter_names
from popcat.survey import Survey, load_survey
from popcat.ucds import ucd_of

PRIOR = "prior"
"""The column of a library that says which prior a galaxy was drawn from."""
_MEANING = {
    "log_mstar_formed": ("log10(Msun)", "total stellar mass formed"),
    "beta": ("1", "weight of star-formation-history basis {}"),
    "age_fraction": ("1", "time since star formation began over the age of the universe"),
    "log_tau_fraction": ("log10(1)", "tau of the delayed star-formation history over the age of the universe"),
    "peak_fraction": ("1", "cosmic time of the peak of star formation over the age of the universe"),
    "fwhm_fraction": ("1", "full width at half maximum of star formation in time over the age of the universe"),
    "log_falling_slope": ("log10(1)", "falling slope alpha of the double power law of star formation"),
    "log_rising_slope": ("log10(1)", "rising slope beta of the double power law of star formation"),
    "turnover_fraction": ("1", "cosmic time tau of the double power law's turnover over the age of the universe"),
    "f_burst": ("1", "fraction of the mass formed in one burst; none where t_burst exceeds the universe's age"),
    "t_burst": ("Gyr", "lookback time of the burst"),
    "log_gamma": ("log10(1)", "weight of metallicity-history basis {}"),
    "log_z": ("log10(1)", "absolute metallicity of all stars"),
    "tau_bc": ("1", "birth-cloud optical depth at 5500 A"),
    "tau_ism": ("1", "diffuse-dust optical depth at 5500 A"),
    "n_dust": ("1", "slope offset of the diffuse attenuation curve"),
    "bump_dust": ("1", "strength of the 2175 A bump of the diffuse attenuation curve"),
    "log_u": ("log10(1)", "ionisation parameter of the gas around young stars"),
    "f_esc": ("1", "fraction of the ionising light that escapes the galaxy"),
    "q_pah": ("%", "mass of the dust in polycyclic aromatic hydrocarbons"),
    "u_min": ("1", "least intensity of the starlight on dust, that around the Sun being 1"),
    "gamma_dust": ("1", "fraction of the dust's mass in starlight above the least intensity"),
    "log_f_agn": ("log10(1)", "luminosity of the accretion disc, 0.1 to 1 micron, over that of stars and gas"),
    "ebv_agn": ("mag", "reddening E(B-V) of the nucleus"),
}
_RATE = {"beta": ("1", "star-formation rate in step {} of lookback time, over the sum of all steps'")}
_STEPS = {
    "continuity": _RATE, "continuity_bursty": _RATE,
    "dirichlet": {"beta": ("1", "fraction of the mass, burst apart, formed in step {} of lookback time")},
}  # fmt: skip
"""Meanings of their own of histories of steps."""


def parameter_fields(galaxy_model: GalaxyModel) -> dict[str, tuple[str, str]]:
    """Unit and meaning of a galaxy model's parameters, in the order of theta's columns.

    >>> list(parameter_fields(GalaxyModel(metallicity="constant")))[5:8]
    ['f_burst', 't_burst', 'log_z']
    """
    return _fields(make_prior(galaxy_model).names, _STEPS.get(galaxy_model.history, {}))


def _fields(names, others=MappingProxyType({})) -> dict[str, tuple[str, str]]:
    """Unit and meaning by name; bases are numbered. `others` have another meaning."""
    fields = {}
    for name in names:
        kind = name.rstrip("0123456789")
        unit, meaning = others.get(kind) or _MEANING[kind]
        fields[name] = (unit, meaning.format(name.removeprefix(kind)))
    return fields


PARAMETERS = _fields(parameter_names())
"""The parameters of the default galaxy model, in the order of theta's columns: unit and meaning."""

PROPERTIES = {
    "log_mstar": ("log10(Msun)", "surviving stellar mass (living stars and remnants)"),
    "log_sfr_100myr": ("log10(Msun/yr)", "star-formation rate averaged over the last 0.1 Gyr"),
    "log_sfr_1gyr": ("log10(Msun/yr)", "star-formation rate averaged over the last 1 Gyr"),
    "log_ssfr": ("log10(1/yr)", "log_sfr_1gyr - log_mstar"),
    "log_z_mw": ("log10(1)", "mass-weighted absolute metallicity"),
    "age_mw_gyr": ("Gyr", "mass-weighted stellar age"),
    "a_v": ("mag", "attenuation of the galaxy's light in rest-frame V"),
}
"""Derived for every posterior draw, whatever the survey: unit and meaning."""
_AS_IN_THE_GRID = "surviving stellar mass (living stars; with remnants if the SSP grid counts them)"
"""Meaning of log_mstar where the galaxy model adds no remnants."""

REDSHIFT = {"redshift": ("1", "redshift: as given, within its error, or inferred from the photometry")}

PERCENTILES = (16, 50, 84)
NAME_DTYPE = pd.ArrowDtype(pa.string())
"""Dtype of text in popcat's frames."""


_LINES = {
    "ly_alpha": "Ly alpha, without its scattering", "o2_3727": "[O II] 3727, 3730", "h_beta": "H beta",
    "o3_5007": "[O III] 5008", "h_alpha": "H alpha", "n2_6584": "[N II] 6585",
}  # fmt: skip
_OF_LINES = {
    "log_l": ("log10(erg/s)", "luminosity of {}, through the dust"),
    "log_flux": ("log10(erg/s/cm2)", "flux of {}, through the dust"),
    "ew": ("Angstrom", "rest-frame equivalent width of {}, positive in emission"),
}


def component_properties(components) -> dict[str, tuple[str, str]]:
    """Unit and meaning of what is derived where a galaxy model, or its components, has dust emission or gas.

    >>> list(component_properties(GalaxyModel(dust_emission="draine_li_2007")))
    ['log_l_dust']
    """
    fields = {}
    if components.dust_emission != "none":
        fields["log_l_dust"] = ("log10(Lsun)", "luminosity that dust absorbs and emits again")
    if components.gas == "cloudy":
        fields |= {f"{kind}_{line}": (unit, meaning.format(text))
                   for kind, (unit, meaning) in _OF_LINES.items() for line, text in _LINES.items()}  # fmt: skip
    return fields


def property_fields(survey: Survey, galaxy_model: GalaxyModel) -> dict[str, tuple[str, str]]:
    """Unit and meaning of what is derived for every posterior draw: PROPERTIES, what the galaxy model's gas and dust
    emission add, and the survey's absolute magnitudes.

    >>> from popcat.survey import load_survey
    >>> list(property_fields(load_survey("sdss"), GalaxyModel()))[-2:]
    ['abs_mag_g', 'abs_mag_r']
    """
    magnitudes = {
        f"abs_mag_{item.name}": ("mag", f"rest-frame absolute AB magnitude in {item.filter}, dust included")
        for item in survey.absolute_magnitudes
    }
    found = {**PROPERTIES, **component_properties(galaxy_model), **magnitudes}
    if galaxy_model.remnants == "none":
        found["log_mstar"] = (found["log_mstar"][0], _AS_IN_THE_GRID)
    return found


def quantity_fields(survey: Survey, galaxy_model: GalaxyModel) -> dict[str, tuple[str, str]]:
    """Unit and meaning of everything that is drawn or derived: parameters, properties, redshift."""
    return {**parameter_fields(galaxy_model), **property_fields(survey, galaxy_model), **REDSHIFT}


def photometry_columns(survey: Survey) -> dict[str, str]:
    """Columns and dtypes of the photometry frame of a survey.

    >>> from popcat.survey import load_survey
    >>> list(photometry_columns(load_survey("sdss")))[:6]
    ['object_id', 'ra', 'dec', 'redshift', 'redshift_err', 'flux_u']
    """
    columns = {
        "object_id": "int64",
        "ra": "float64",
        "dec": "float64",
        "redshift": "float64",
        "redshift_err": "float64",
    }
    columns |= {f"flux_{name}": "float32" for name in survey.band_names}
    columns |= {f"flux_err_{name}": "float32" for name in survey.band_names}
    return columns | {"flags": "int32"}


def photometry_meta(survey: Survey, *, named: bool = False) -> pd.DataFrame:
    """An empty photometry frame with exact dtypes; `named`: with the column of identifiers that are text."""
    frame = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in photometry_columns(survey).items()})
    return frame.assign(**{OBJECT_NAME: pd.Series(dtype=NAME_DTYPE)}) if named else frame


def library_schema(survey: Survey, galaxy_model: GalaxyModel | None = None, *, has_prior: bool = False) -> pa.Schema:
    """Arrow schema of a simulated library: parameters, noise-free fluxes, and one noisy observation of each galaxy;
    with `has_prior` the name of the prior that it was drawn from.
    """
    parameters = parameter_fields(galaxy_model or GalaxyModel())
    fields = [
        _field("object_id", pa.int64(), "", "number of the draw"),
        _field("redshift", pa.float64(), "1", "redshift, drawn from its prior"),
    ]
    fields += [_field(name, pa.float32(), unit, text) for name, (unit, text) in parameters.items()]
    for column, text in (
        ("flux_model", "noise-free flux in {}"),
        ("flux", "flux in {} with noise"),
        ("flux_err", "error of the flux in {}"),
    ):
        fields += [_field(f"{column}_{b}", pa.float32(), "nMgy", text.format(b)) for b in survey.band_names]
    if has_prior:
        fields.append(_field(PRIOR, pa.string(), "", "prior that it was drawn from"))
    return pa.schema(fields)


def library_meta(survey: Survey, galaxy_model: GalaxyModel | None = None, *, has_prior: bool = False) -> pd.DataFrame:
    """An empty library frame with exact dtypes."""
    return to_pandas(library_schema(survey, galaxy_model, has_prior=has_prior).empty_table())


def posterior_schema(
    survey: Survey, galaxy_model: GalaxyModel | None = None, *, named: bool = False,
    remarks: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> pa.Schema:  # fmt: skip
    """Arrow schema of the posterior frame, with `unit`, `ucd` and `description` in the metadata of every field.

    With `named` it has a column of the identifiers as text, from which object_id is made (galaxies.id_of_name).
    `remarks` are more metadata of the percentiles and draws of a quantity, by its name and a key: `calibration`, what
    the calibration of the posterior found, and `learned`, what the catalogue's photometry says beyond the prior.

    >>> from popcat.survey import load_survey
    >>> posterior_schema(load_survey("sdss")).field("log_mstar_p50").metadata[b"unit"]
    b'log10(Msun)'
    """
    fields = [
        _field("object_id", pa.int64(), "", "identifier of the galaxy in the input catalogue"),
        *([_field(OBJECT_NAME, pa.string(), "", "identifier as text; object_id is a hash of it")] if named else []),
        _field("ra", pa.float64(), "deg", "right ascension"),
        _field("dec", pa.float64(), "deg", "declination"),
        _field("redshift", pa.float64(), "1", "redshift in the catalogue; NaN: none, or hidden, and so inferred"),
        _field("redshift_err", pa.float64(), "1", "its Gaussian error; NaN: the redshift is exact, or there is none"),
        _field("status", pa.string(), "", "ok, or why there is no posterior"),
        _field("flags", pa.int32(), "", "bit field: " + ", ".join(f"{bit} {name}" for name, bit in FLAGS.items())),
        _field("clean", pa.bool_(), "", "whether to use this row: there is a posterior, and no check failed"),
        _field("n_bands", pa.int32(), "1", "number of bands that the posterior uses"),
        _field("chi2_best", pa.float32(), "1", "smallest chi2 of all draws and proposals, summed over the bands used"),
        _field("tail_noise", pa.float32(), "1", "tail probability of the errors under the training set; small: "
               "unusual errors"),
        _field("tail_colours", pa.float32(), "1", "tail probability of the colours under the training set; small: "
               "unusual colours"),
        _field("tail_band", pa.float32(), "1", "tail probability of the most deviant band given the other bands, under "
               "the training set; small: one band disagrees with the rest"),
        _field("tail_peers", pa.float32(), "1", "tail_band under the catalogue's own galaxies; null if too few"),
        _field("worst_band", pa.string(), "", "name of the band that disagrees most; null if all tests pass"),
    ]
    fields += certificate_fields()
    for name in survey.band_names:
        fields.append(_field(f"flux_{name}", pa.float32(), "nMgy", f"flux in {name}, as fitted"))
        fields.append(_field(f"flux_err_{name}", pa.float32(), "nMgy", f"error of flux_{name}, error floor included"))
    quantities = quantity_fields(survey, galaxy_model or GalaxyModel())
    for name, (unit, text) in quantities.items():
        said = remarks.get(name)
        fields += [_field(f"{name}_p{q}", pa.float32(), unit, f"{text}: {q}th percentile", said)
                   for q in PERCENTILES]  # fmt: skip
    for name, (unit, text) in quantities.items():
        said = remarks.get(name)
        fields.append(_field(f"{name}_draws", pa.list_(pa.float32()), unit, f"{text}: posterior draws", said))
    return pa.schema(fields)


def schema_digest(schema: pa.Schema) -> str:
    """A hash of names, types and order of columns, whatever is said of them: a folder never mixes two layouts."""
    return hashlib.sha256(schema.to_string(show_field_metadata=False, show_schema_metadata=False).encode()).hexdigest()


def certificate_fields() -> list[pa.Field]:
    """Columns of the correction by the exact likelihood; null where there was none, but for route and certified."""
    return [
        _field("certified", pa.bool_(), "", f"{CERTIFIED_MEANS}: corrected, effective draws >= "
               f"{CERTIFIED_ESS:g}, and no test failed"),
        _field("route", pa.string(), "", "how the draws were made: "
               + ", ".join(f"{name} ({how})" for name, how in ROUTES.items())),
        _field("route_why", pa.string(), "", "why the route is smc (ess, pareto_k) or failed (budget, "
               "disagreement, no_fit)"),
        _field("log_evidence", pa.float32(), "ln(nMgy^-n_bands)", "ln p(photometry, measured redshift | model)"),
        _field("ess", pa.float32(), "1", "effective sample size of the draws"),
        _field("efficiency", pa.float32(), "1", "effective sample size of the proposals over their number"),
        _field("pareto_k", pa.float32(), "1", "shape of the tail of the importance weights (PSIS); reliable below 0.7"),
        _field("n_proposals", pa.int32(), "1", "number of weighted proposals"),
        _field("p_star", pa.float32(), "1", "probability of a star, from evidences and prior odds; 0 if the redshift "
               "excludes a star; null without --certify"),
        _field("p_qso", pa.float32(), "1", "probability of a quasar, from evidences and prior odds; null without "
               "--certify"),
    ]


def posterior_meta(survey: Survey, galaxy_model: GalaxyModel | None = None, *, named: bool = False) -> pd.DataFrame:
    """An empty posterior frame with exact dtypes; `named` as in `posterior_schema`."""
    return to_pandas(posterior_schema(survey, galaxy_model, named=named).empty_table())


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A table as a frame: strings stay Arrow arrays, numbers become numpy columns, lists arrays in a column of objects.

    pandas writes a column of Arrow lists as Parquet that it cannot read again (pandas 57411). Integers in `table` must
    have no nulls.
    """

    def dtype(kind):
        return pd.ArrowDtype(kind) if pa.types.is_string(kind) else None

    return table.to_pandas(types_mapper=dtype)


def _field(name, kind, unit, description, said=None):
    metadata = {"unit": unit, "description": description, "ucd": ucd_of(name), **(said or {})}
    return pa.field(name, kind, metadata=metadata)


def schema(survey: "str | Path | Survey" = "sdss", *, kind: str = "posterior") -> pa.Schema:
    """The columns of the posterior catalogues of a survey, or, by `kind` "library", of its simulated libraries.

    Each field has its type and, in its metadata, unit, UCD and description.

    Raises PopcatError for an unknown survey or kind.

    >>> schema("sdss").field("log_mstar_p50").metadata[b"unit"]
    b'log10(Msun)'
    """
    kinds: dict[str, Callable[..., pa.Schema]] = {"posterior": posterior_schema, "library": library_schema}
    if kind not in kinds:
        raise PopcatError(f'no columns of kind "{kind}"; {did_you_mean(kind, kinds)}')
    return kinds[kind](load_survey(survey))


def column_list(schema: pa.Schema) -> list[dict[str, str]]:
    """The columns of a schema as dicts of name, type, unit, ucd and description.

    >>> column_list(pa.schema([_field("ra", pa.float64(), "deg", "right ascension")]))[0]["unit"]
    'deg'
    """
    found = []
    for field in schema:
        text = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        kind = f"list of {field.type.value_type}" if pa.types.is_list(field.type) else str(field.type)
        found.append({"name": field.name, "type": kind,
                      **{key: text.get(key, "") for key in ("unit", "ucd", "description")}})  # fmt: skip
    return found


def column_table(schema: pa.Schema) -> str:
    """The columns of a schema as a markdown table: name, type, unit, UCD, description.

    >>> print(column_table(pa.schema([_field("ra", pa.float64(), "deg", "right ascension")])))
    | column | type | unit | UCD | description |
    |---|---|---|---|---|
    | `ra` | double | deg | pos.eq.ra;meta.main | right ascension |
    """
    lines = ["| column | type | unit | UCD | description |", "|---|---|---|---|---|"]
    for column in column_list(schema):
        name, *others = column.values()
        lines.append(f"| {' | '.join([f'`{name}`', *others])} |")
    return "\n".join(lines)
