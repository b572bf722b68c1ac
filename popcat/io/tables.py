"""Tables in memory as photometry: pandas, astropy Table and QTable, and what narwhals knows (Polars, PyArrow, ...).

A table goes through Arrow, by the same code and checks as a file. Only the columns that the survey names are looked at.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.errors import PopcatError
from popcat.expressions import base_name, sources_of
from popcat.files import write_parquet_atomic
from popcat.io.checking import check_fields, check_values
from popcat.io.column_faults import repeated_columns
from popcat.io.parquet_files import fields_of_schema, frame_of_table
from popcat.io.photometry import catalog_columns, require_columns, to_photometry
from popcat.io.sources import computed
from popcat.io.stated_units import MAGNITUDES, base_unit, verdict_of
from popcat.survey import Survey
from popcat.units import COUNT_RATE, NMGY_PER_UNIT

_WHERE = "the table"


def photometry_of(table: Any, survey: Survey) -> pd.DataFrame:
    """The photometry frame of a table in memory.

    Units that an astropy table states are converted: of fluxes where they are linear flux densities, such as Jy, and of
    positions where they are angles.

    Raises PopcatError for what is no table, and whatever `popcat.io.reading.check_catalog` refuses in a file: a missing
    column, another unit, identifiers that repeat, magnitudes in place of fluxes.

    >>> from popcat.survey import load_survey
    >>> raw = pd.read_parquet("galaxies.parquet")
    >>> photometry_of(raw, load_survey("sdss")).shape
    (40, 16)
    """
    astropy = _is_astropy(table)
    if not astropy and not isinstance(table, pd.DataFrame):
        table = _known_to_narwhals(table)
    names = list(table.colnames) if astropy else [str(name) for name in table.columns]  # type: ignore[union-attr]
    require_columns(names, survey, _WHERE)
    repeated = [name for name, times in Counter(names).items() if times > 1]
    sources = [source for name in catalog_columns(survey, names) for source in sources_of(name, names)]
    if twice := repeated_columns(_WHERE, map(base_name, sources), repeated, survey):
        raise PopcatError(twice)
    wanted = list(dict.fromkeys(source if source in names else base_name(source) for source in sources))
    wanted += [mask for name in wanted if (mask := f"{name}.mask") in names and mask not in wanted and not astropy]
    arrow = _from_astropy(table, wanted, survey) if astropy else _to_arrow(table, wanted)
    if not arrow.num_rows:
        raise PopcatError(f"{_WHERE} has no rows: expected one row a galaxy")
    try:
        fields = fields_of_schema(arrow.schema)
        check_fields(_WHERE, fields, survey)
        columns = catalog_columns(survey, fields)
        raw = computed(lambda sources: frame_of_table(arrow, sources), columns, fields, survey.missing_values)
    except ValueError as error:  # of masks
        raise PopcatError(f"{_WHERE}: {error}") from error
    check_values(_WHERE, raw, survey)
    return to_photometry(raw, survey)


def _is_astropy(table: Any) -> bool:
    """Whether it is an astropy table, without the import of astropy.table: who has one has imported it."""
    module = sys.modules.get("astropy.table")
    return module is not None and isinstance(table, module.Table)


def _known_to_narwhals(table: Any) -> nw.DataFrame:
    try:
        frame = nw.from_native(table)
    except TypeError as error:
        raise PopcatError(
            f"source: expected a path, a glob, a list of paths, a frame of read_catalog, or a table (pandas, Polars, "
            f"PyArrow, astropy), got {type(table).__name__}"
        ) from error
    except nw.exceptions.DuplicateError as error:
        twice = " ".join(str(error).split())
        raise PopcatError(f"{_WHERE} has more than one column of a name: {twice}; rename the others") from error
    return frame.collect() if isinstance(frame, nw.LazyFrame) else frame


def _to_arrow(table: pd.DataFrame | nw.DataFrame, names: list[str]) -> pa.Table:
    try:
        if isinstance(table, pd.DataFrame):
            return pa.Table.from_pandas(_in_native_order(table[names]), preserve_index=False)
        return table.select(names).to_arrow()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise PopcatError(f"{_WHERE}: expected one number a row in every column of the survey: {error}") from error


def write_table(table: Any, path: str | Path) -> None:
    """Write a table in memory as a Parquet file, with the units that an astropy table states, for what reads files.

    Raises PopcatError for what is no table.
    """
    if _is_astropy(table):
        arrays = [_plain_array(table[name]) for name in table.colnames]
        units = [getattr(table[name], "unit", None) for name in table.colnames]
        fields = [pa.field(name, array.type, metadata={"unit": str(unit)} if unit is not None else None)
                  for name, array, unit in zip(table.colnames, arrays, units, strict=True)]  # fmt: skip
        arrow = pa.table(arrays, schema=pa.schema(fields))
    else:
        table = table if isinstance(table, pd.DataFrame) else _known_to_narwhals(table)
        arrow = _to_arrow(table, list(table.columns))
    write_parquet_atomic(path, arrow)


def _in_native_order(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers in the byte order of this machine: those of FITS have the other."""
    swapped = [name for name in table if isinstance(table[name].dtype, np.dtype) and not table[name].dtype.isnative]
    arrays = {name: table[name].to_numpy() for name in swapped}
    return table.assign(**{name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()})


def _from_astropy(table: Any, names: list[str], survey: Survey) -> pa.Table:
    """Columns in the survey's units; those in which no factor takes them are left to the checks of a file."""
    units = _units_by_column(survey)
    arrays, fields = [], []
    for name in names:
        stated = _undecided(getattr(table[name], "unit", None), *units.get(name, ("", 1)))
        arrays.append(_array(table[name], name, None if stated else units.get(name), survey))
        fields.append(pa.field(name, arrays[-1].type, metadata={"unit": stated} if stated else None))
    return pa.table(arrays, schema=pa.schema(fields))


def _units_by_column(survey: Survey) -> dict[str | None, tuple[str, int]]:
    """The unit that the survey gives a column, and its power; "deg" and "" (a bare number) for the others."""
    columns = survey.columns
    found = {columns.ra: ("deg", 1), columns.dec: ("deg", 1), columns.redshift: ("", 1), columns.redshift_err: ("", 1)}
    for band in survey.bands:
        for name, power in ((band.flux, 1), (band.flux_err, 1), (band.flux_ivar, -2)):
            if name:
                found[base_name(name)] = (survey.unit_of(band), power)
    return found


def _array(column: Any, name: str, expected: tuple[str, int] | None, survey: Survey) -> pa.Array:
    """A column (n,) or vector column (n, k) in the survey's unit; masked values are null."""
    unit = getattr(column, "unit", None)
    factor = _factor(name, unit, *expected, survey) if unit is not None and expected is not None else 1.0
    return _plain_array(column, factor, name)


def _plain_array(column: Any, factor: float = 1.0, name: str | None = None) -> pa.Array:
    """A column times a factor, whatever its unit; masked values are null."""
    plain = getattr(column, "unmasked", column)
    values = np.ma.getdata(getattr(plain, "value", plain))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    values = values if factor == 1.0 else values * factor
    mask = np.broadcast_to(np.asarray(getattr(column, "mask", False)), values.shape)
    if values.ndim > 2:
        raise PopcatError(f'{_WHERE}: column "{name or column.name}" has {values.ndim} axes, expected one number or '
                          "vector a row")
    flat = values.ravel() if values.dtype.kind in "biuf" else values.ravel().tolist()
    array = pa.array(flat, mask=np.ascontiguousarray(mask).ravel())
    return array if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(array, values.shape[1])


def _undecided(unit: Any, expected: str, power: int) -> str:
    """The text of a flux's unit that is none of those that factors convert: not understood, per wavelength, not AB."""
    if unit is None or expected in ("deg", ""):
        return ""
    text = str(unit)
    is_decided = verdict_of(text if power == 1 else base_unit(text), expected) in ("same", "other")
    return "" if is_decided else text


def _factor(name: str, unit: Any, expected: str, power: int, survey: Survey) -> float:
    """What takes a column's values to the survey's unit (to its power); PopcatError if nothing does."""
    from astropy import units

    refusal = PopcatError(
        f'{_WHERE}: column "{name}" is in "{unit}", expected '
        + {"deg": "an angle", "": "a bare number"}.get(expected, f'"{expected}", the unit of survey "{survey.name}"')
        + (", or another linear flux density" if expected in NMGY_PER_UNIT else "")
        + ": convert it, or name another column"
    )
    try:
        if expected == "deg":
            return float(unit.to(units.deg))
        if expected == "":
            return 1.0 if str(unit) == "redshift" else float(unit.to(units.dimensionless_unscaled))
        base = unit if power == 1 else unit ** (1.0 / power)
        if verdict_of(base.to_string(), expected) == "same":
            return 1.0
        if expected in MAGNITUDES or expected == COUNT_RATE:
            raise refusal
        maggies = units.zero_point_flux(3631 * units.Jy)
        to_expected = float(base.to(units.Jy, equivalencies=maggies)) * NMGY_PER_UNIT["Jy"] / NMGY_PER_UNIT[expected]
        return to_expected**power
    except (units.UnitConversionError, units.UnitTypeError, ValueError) as error:
        raise refusal from error
