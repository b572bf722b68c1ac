"""What is asked of a catalogue: its files, some galaxies by identifier, those around a position.

Of a position: a box that row-group statistics can check, and the angle itself.

Conditions as pyarrow filters, which skip row groups by their statistics.

A filter keeps every row that the condition keeps, and perhaps others: where a value is missing the two differ, so the
condition itself is asked too.
"""

import ast
import operator
from collections.abc import Iterable
from pathlib import PurePath
from typing import TypeAlias

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from popcat.errors import PopcatError
from popcat.expressions import Expression
from popcat.galaxies import id_of_name
from popcat.paths import AnyPath, below

Ids: TypeAlias = int | str | Iterable[int | str]
"""Identifiers of galaxies, one or some: object_id, or the name where the catalogue has names."""


def parquet_files(path: AnyPath) -> list[str]:
    """The Parquet files of a folder, of a HATS catalogue, or the file itself; empty if there is none."""
    if (path / "dataset").is_dir():
        return sorted(str(file) for file in path.glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*.parquet") if _visible(below(file, path)))
    return [str(path)] if path.is_file() else []


def _visible(relative: PurePath) -> bool:
    return not any(part.startswith(("_", ".")) for part in relative.parts)


def as_list(ids: Ids) -> list[int | str]:
    """Identifiers as a list, also of one alone.

    >>> as_list("A12"), as_list(7), as_list((7, 8))
    (['A12'], [7], [7, 8])
    """
    return [ids] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)


def numbers_of(ids: Ids, has_names: bool, where: str) -> np.ndarray:
    """Identifiers as int64 (n,); a text is a name where there are names, else a number; PopcatError if it is none."""
    asked = as_list(ids)
    try:
        return np.array([id_of_name(one) if isinstance(one, str) and has_names else int(one) for one in asked],
                        dtype=np.int64)  # fmt: skip
    except (TypeError, ValueError, OverflowError) as error:
        raise PopcatError(f"{where} identifies galaxies by integers, got {asked[:5]}: {error}") from error


def box(ra: float, dec: float, radius: float) -> ds.Expression:
    """Positions in the smallest box of ra and dec that holds a cone."""
    low, high = dec - radius, dec + radius
    inside = (pc.field("dec") >= low) & (pc.field("dec") <= high)
    if low <= -90 or high >= 90:
        return inside
    reach = np.degrees(np.arcsin(min(np.sin(np.radians(radius)) / np.cos(np.radians(dec)), 1.0)))
    west, east = (ra - reach) % 360, (ra + reach) % 360
    after, before = pc.field("ra") >= west, pc.field("ra") <= east
    return inside & ((after & before) if west <= east else (after | before))


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angles in degrees by the haversine formula, which keeps small ones."""
    # astropy has one, but its import takes longer than a cone
    ra, dec, ra0, dec0 = (np.radians(value) for value in (ra, dec, ra0, dec0))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1))))


_COMPARE = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
            ast.Gt: operator.gt, ast.GtE: operator.ge}  # fmt: skip


def prefilter(expression: Expression) -> pc.Expression | None:
    """A pyarrow filter that a condition implies; None where none is known.

    >>> from popcat.expressions import parse
    >>> print(prefilter(parse("z > 0.1 and log10(m) > 10 and status == 'ok'")))
    ((z > 0.1) and (status == "ok"))
    """
    return _implied(expression, expression.tree)


def _implied(expression, node) -> pc.Expression | None:
    match node:
        case ast.BoolOp(op=op, values=values):
            parts = [_implied(expression, value) for value in values]
            known = [part for part in parts if part is not None]
            if not known or (isinstance(op, ast.Or) and len(known) < len(parts)):
                return None
            combine = operator.and_ if isinstance(op, ast.And) else operator.or_
            result = known[0]
            for part in known[1:]:
                result = combine(result, part)
            return result
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            one, other = _side(expression, left), _side(expression, right)
            return None if one is None or other is None else _COMPARE[type(op)](one, other)
    return None


def _side(expression, node) -> pc.Expression | None:
    """A column, or a constant (with its sign)."""
    match node:
        case ast.Name():
            return pc.field(expression.name_of(node))
        case ast.Constant(value=value):
            return pc.scalar(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return pc.scalar(-value)
    return None
