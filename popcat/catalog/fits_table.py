"""A posterior catalogue as one FITS table, which TOPCAT opens: draws are vector columns, units and UCDs are kept.

Batches of rows are appended to a file whose header is written first, so memory does not grow with the catalogue.
"""


import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from popcat.catalog.draws import is_list, longest, padded
from popcat.catalog.queries import Catalog
from popcat.errors import PopcatError
from popcat.files import replacing
from popcat.paths import AnyPath

_FORMATS = {pa.int64(): "K", pa.int32(): "J", pa.float32(): "E", pa.float64(): "D", pa.bool_(): "L"}
_BLOCK = 2880


def write_fits(catalog: Catalog, path: AnyPath) -> int:
    """Write all rows and columns of a catalogue to a FITS file that is not there; the number of rows.

    Raises PopcatError if the file is there, or a column holds what FITS has no type for.
    """
    if path.exists():
        raise PopcatError(f"{path} is there already: name another file")
    from astropy.io import fits

    schema, rows = catalog.dataset.schema, len(catalog)
    columns = fits.ColDefs([_column(catalog, field) for field in schema])
    hdu = fits.BinTableHDU.from_columns(columns, nrows=0, name="POSTERIORS")
    for number, field in enumerate(schema, start=1):
        for key in ("ucd", "description"):
            if text := _text(field, key):
                hdu.header[f"{'TUCD' if key == 'ucd' else 'TCOMM'}{number}"] = text
    hdu.header["NAXIS2"] = rows
    dtype = columns.dtype
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii") + hdu.header.tostring().encode("ascii"))
        size = 0
        for batch in catalog.batches():
            size += file.write(_packed(batch, dtype))
        file.write(b"\0" * (-size % _BLOCK))
    return rows


def _column(catalog: Catalog, field: pa.Field):
    from astropy.io import fits

    unit = _text(field, "unit")
    form = _FORMATS.get(field.type) or _wide_format(catalog, field)
    return fits.Column(field.name, form, unit=unit if unit not in ("", "1") else None)


def _wide_format(catalog: Catalog, field: pa.Field) -> str:
    """The format of text or of draws, as wide as the widest value."""
    if not (pa.types.is_string(field.type) or is_list(catalog.dataset.schema, field.name)):
        raise PopcatError(f'{catalog.path}: column "{field.name}" is {field.type}, for which FITS has no type')
    is_text = pa.types.is_string(field.type)
    width = most_letters if is_text else longest
    most = max((width(batch.column(0)) for batch in catalog.batches([field.name])), default=0)
    return f"{max(most, 1)}{'A' if is_text else 'E'}"


def most_letters(column: pa.Array) -> int:
    """The most letters of a text in a column."""
    return int(pc.max(pc.utf8_length(column)).as_py() or 0)


def _packed(batch: pa.RecordBatch, dtype: np.dtype) -> bytes:
    """Rows as FITS keeps them: big-endian, nulls as NaN, as no text, or as no answer."""
    packed = np.zeros(batch.num_rows, dtype=dtype.newbyteorder(">"))
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        packed[name] = _values(column, dtype[name])
    return packed.tobytes()


def _values(column: pa.Array, kind: np.dtype) -> np.ndarray:
    if pa.types.is_string(column.type):
        return np.char.encode(np.array(column.fill_null("").to_pylist(), dtype=str), "ascii", "replace")
    if pa.types.is_boolean(column.type):
        answers = column.to_numpy(zero_copy_only=False).astype(object)
        return np.array([{True: ord("T"), False: ord("F")}.get(answer, 0) for answer in answers], dtype=np.int8)
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    return padded(column, int(np.prod(kind.shape))).reshape(len(column), *kind.shape)


def _text(field: pa.Field, key: str) -> str:
    return (field.metadata or {}).get(key.encode(), b"").decode().encode("ascii", "replace").decode()
