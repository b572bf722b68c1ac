"""The columns of popcat's frames: names, types, units, flag bits, statuses.

Photometry frame: one row a galaxy. Posterior frame: the same rows, with quantiles and draws.
"""

import pandas as pd
import pyarrow as pa

from popcat.settings import Survey
from popcat.ucd import ucd_of

PARAMETERS = {
    "log_mstar_formed": ("log10(Msun)", "total stellar mass formed"),
    "beta1": ("1", "weight of star-formation-history basis 1"),
    "beta2": ("1", "weight of star-formation-history basis 2"),
    "beta3": ("1", "weight of star-formation-history basis 3"),
    "beta4": ("1", "weight of star-formation-history basis 4"),
    "f_burst": ("1", "fraction of the mass formed in one burst; none where t_burst exceeds the universe's age"),
    "t_burst": ("Gyr", "lookback time of the burst"),
    "log_gamma1": ("log10(1)", "weight of metallicity-history basis 1"),
    "log_gamma2": ("log10(1)", "weight of metallicity-history basis 2"),
    "tau_bc": ("1", "birth-cloud optical depth at 5500 A"),
    "tau_ism": ("1", "diffuse-dust optical depth at 5500 A"),
    "n_dust": ("1", "slope offset of the diffuse attenuation curve"),
}
"""The model's parameters, in the order of theta's columns: unit and meaning."""

PROPERTIES = {
    "log_mstar": ("log10(Msun)", "surviving stellar mass (living stars; with remnants if the SSP grid counts them)"),
    "log_sfr_100myr": ("log10(Msun/yr)", "star-formation rate averaged over the last 0.1 Gyr"),
    "log_sfr_1gyr": ("log10(Msun/yr)", "star-formation rate averaged over the last 1 Gyr"),
    "log_ssfr": ("log10(1/yr)", "log_sfr_1gyr - log_mstar"),
    "log_z_mw": ("log10(1)", "mass-weighted absolute metallicity"),
    "age_mw_gyr": ("Gyr", "mass-weighted stellar age"),
}
"""Derived for every posterior draw: unit and meaning."""

QUANTITIES = {**PARAMETERS, **PROPERTIES}

FLAGS = {
    "missing_band": 1,
    "bad_error": 2,
    "missing_redshift": 4,
    "redshift_out_of_range": 8,
    "outside_training": 16,
    "high_chi2": 32,
    "negative_flux": 64,
    "quality_cut": 1024,
}
"""Bits of the column `flags`.

missing_band: a flux or its error is NaN. bad_error: an error is zero, negative or infinite. outside_training:
the magnitude in the survey's selection band is outside the range the model was trained on. high_chi2: no draw
fits the photometry (chi2_best above the 1e-4 tail). negative_flux: a measured flux below zero, which is kept
and used. quality_cut: the row fails a condition of the survey's `quality`; its posterior is inferred nevertheless.
"""

CHI2_TAIL = 1e-4
"""high_chi2: pure noise exceeds this chi2 with this probability, for as many degrees of freedom as bands."""

STATUS = ("ok", "missing_band", "bad_error", "missing_redshift", "redshift_out_of_range")
"""Column `status`: "ok" where there is a posterior, else the first reason, in this order, why there is none."""

PERCENTILES = (16, 50, 84)


def photometry_columns(survey: Survey) -> dict[str, str]:
    """Columns and dtypes of the photometry frame of a survey.

    >>> from popcat.settings import load_survey
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


def photometry_meta(survey: Survey) -> pd.DataFrame:
    """An empty photometry frame with exact dtypes."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in photometry_columns(survey).items()})


def library_schema(survey: Survey) -> pa.Schema:
    """Arrow schema of a simulated library: parameters, noise-free fluxes, and one noisy observation of each galaxy."""
    fields = [
        _field("object_id", pa.int64(), "", "number of the draw"),
        _field("redshift", pa.float64(), "1", "redshift, uniform in the survey's range"),
    ]
    fields += [_field(name, pa.float32(), unit, text) for name, (unit, text) in PARAMETERS.items()]
    for column, text in (
        ("flux_model", "noise-free flux in {}"),
        ("flux", "flux in {} with noise"),
        ("flux_err", "error of the flux in {}"),
    ):
        fields += [_field(f"{column}_{b}", pa.float32(), "nMgy", text.format(b)) for b in survey.band_names]
    return pa.schema(fields)


def library_meta(survey: Survey) -> pd.DataFrame:
    """An empty library frame with exact dtypes."""
    return to_pandas(library_schema(survey).empty_table())


def posterior_schema(survey: Survey) -> pa.Schema:
    """Arrow schema of the posterior frame, with `unit`, `ucd` and `description` in the metadata of every field.

    >>> from popcat.settings import load_survey
    >>> posterior_schema(load_survey("sdss")).field("log_mstar_p50").metadata[b"unit"]
    b'log10(Msun)'
    """
    fields = [
        _field("object_id", pa.int64(), "", "identifier of the galaxy in the input catalogue"),
        _field("ra", pa.float64(), "deg", "right ascension"),
        _field("dec", pa.float64(), "deg", "declination"),
        _field("redshift", pa.float64(), "1", "redshift the posterior is conditioned on"),
        _field("status", pa.string(), "", "ok, or why there is no posterior"),
        _field("flags", pa.int32(), "", "bit field: " + ", ".join(f"{bit} {name}" for name, bit in FLAGS.items())),
        _field("chi2_best", pa.float32(), "1", "smallest chi2 of the draws, over all bands"),
    ]
    for name in survey.band_names:
        fields.append(_field(f"flux_{name}", pa.float32(), "nMgy", f"flux in {name}, as fitted"))
        fields.append(_field(f"flux_err_{name}", pa.float32(), "nMgy", f"error of flux_{name}, error floor included"))
    for name, (unit, text) in QUANTITIES.items():
        fields += [_field(f"{name}_p{q}", pa.float32(), unit, f"{text}: {q}th percentile") for q in PERCENTILES]
    for name, (unit, text) in QUANTITIES.items():
        fields.append(_field(f"{name}_draws", pa.list_(pa.float32()), unit, f"{text}: posterior draws"))
    return pa.schema(fields)


def posterior_meta(survey: Survey) -> pd.DataFrame:
    """An empty posterior frame with exact dtypes."""
    return to_pandas(posterior_schema(survey).empty_table())


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A table as a frame: lists and strings stay Arrow arrays, numbers become numpy columns.

    Integers in `table` must have no nulls.
    """

    def dtype(kind):
        return pd.ArrowDtype(kind) if pa.types.is_list(kind) or pa.types.is_string(kind) else None

    return table.to_pandas(types_mapper=dtype)


def _field(name, kind, unit, description):
    return pa.field(name, kind, metadata={"unit": unit, "description": description, "ucd": ucd_of(name)})


def column_table(schema: pa.Schema) -> str:
    """The columns of a schema as a markdown table: name, type, unit, UCD, description.

    >>> print(column_table(pa.schema([_field("ra", pa.float64(), "deg", "right ascension")])))
    | column | type | unit | UCD | description |
    |---|---|---|---|---|
    | `ra` | double | deg | pos.eq.ra;meta.main | right ascension |
    """
    lines = ["| column | type | unit | UCD | description |", "|---|---|---|---|---|"]
    for field in schema:
        text = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        kind = f"list of {field.type.value_type}" if pa.types.is_list(field.type) else str(field.type)
        cells = (f"`{field.name}`", kind, *(text.get(key, "") for key in ("unit", "ucd", "description")))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
