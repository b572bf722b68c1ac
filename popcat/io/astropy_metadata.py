"""What astropy writes beside the columns of a Parquet file: a column of masks for each masked one, and units.

Its metadata, `table_meta_yaml`, say of what a column is the mask; without them the name "z.mask" does. Whoever calls
says in which file a mask cannot be told (ValueError).
"""

from functools import lru_cache
from typing import Any

import pyarrow as pa

_META = b"table_meta_yaml"
_ENDING = ".mask"


def mask_of(name: str, schema: pa.Schema) -> str | None:
    """The column that says where another is masked; None where there is none.

    Raises ValueError where a mask cannot be told: it holds no booleans.
    """
    found = _masks(_text(schema)).get(name, name + _ENDING)
    if found not in schema.names:
        return None
    kind = schema.field(found).type
    element = kind.value_type if hasattr(kind, "value_type") else kind
    if not pa.types.is_boolean(element):
        raise ValueError(f'column "{found}" says by its name where "{name}" is masked, but holds {kind}, expected '
                         "booleans; rename it, or write the masked values as nulls")
    return found


def units_of(schema: pa.Schema) -> dict[str, str]:
    """Units of columns by the metadata of astropy."""
    header = _header(_text(schema))
    return {one["name"]: str(one["unit"]) for one in header.get("datatype", ()) if one.get("unit")}


def _text(schema: pa.Schema) -> str:
    return (schema.metadata or {}).get(_META, b"").decode("utf-8", "replace")


@lru_cache(maxsize=16)
def _header(text: str) -> dict[str, Any]:
    """The metadata; ValueError where they cannot be read, because masks may be in them."""
    if not text:
        return {}
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    try:
        header = get_header_from_yaml(text.splitlines())
        return header if all(one["name"] for one in header.get("datatype", ())) else {}
    except (YamlParseError, AttributeError, LookupError, TypeError, RecursionError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"the metadata that astropy writes (table_meta_yaml) are damaged ({first}); write the file "
                         "again, with masked values as nulls") from error


@lru_cache(maxsize=16)
def _masks(text: str) -> dict[str, str]:
    """Names of masks by the names of the columns that they mask."""
    meta = _header(text).get("meta") or {}
    found: dict[str, str] = {}
    for one in dict(meta).get("__serialized_columns__", {}).values():
        _add_masks(found, one)
    return found


def _add_masks(found: dict[str, str], node: Any) -> None:
    """Masks in a part of the metadata: a masked quantity is a quantity of a masked column."""
    if not isinstance(node, dict):
        return
    data, mask = node.get("data", node.get("value")), node.get("mask")
    if isinstance(data, dict) and isinstance(mask, dict) and "name" in data and "name" in mask:
        found[data["name"]] = mask["name"]
    for part in node.values():
        _add_masks(found, part)
