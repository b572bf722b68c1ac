"""Expressions over the columns of a catalogue: "NMGY[2]", "-2.5 * log10(MW_TRANSMISSION_G)", "flags & 2864 == 0".

One language wherever popcat asks for a column or a condition: survey files (columns, `quality`), `where` of a
catalogue, `--cut` of a population (there only comparisons of a band with a number), the filter of the report's table.

A small part of Python's syntax, evaluated by popcat itself: numbers, text, columns, elements of vector columns,
arithmetic, bits, comparisons, `and` `or` `not`, and the functions of `FUNCTIONS`. Nothing else of Python is reachable.
Integers are int64, other numbers float64. A column whose name is no identifier stands between backquotes: `mag-g`.
Where a column of a row is missing, a number computed from it is missing and a condition on it is False.

The report's page evaluates the same language in the browser: popcat/data/pages/expressions.js. A test holds the two
implementations to the same values.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pandas as pd

from popcat.errors import PopcatError, did_you_mean

MAX_LENGTH = 2000

SDSS_FLAGS = {
    "BRIGHT": 1, "EDGE": 2, "BLENDED": 3, "PEAKCENTER": 5, "NODEBLEND": 6, "NOPROFILE": 7, "COSMIC_RAY": 12,
    "SATURATED": 18, "NOTCHECKED": 19, "BINNED1": 28, "BAD_COUNTS_ERROR": 40, "INTERP_CENTER": 44,
    "DEBLEND_NOPEAK": 46, "PSF_FLUX_INTERP": 47,
}  # fmt: skip
"""Bit numbers of the 64-bit SDSS photometric `flags` (https://www.sdss.org/dr16/algorithms/flags_detail)."""


def sdss_flag(flags, name):
    """Whether a named bit of SDSS `flags` is set.

    >>> sdss_flag(np.array([0, 1 << 18]), "SATURATED").tolist()
    [False, True]
    """
    if str(name) not in SDSS_FLAGS:
        raise PopcatError(f'sdss_flag: no flag "{name}"; {did_you_mean(str(name), SDSS_FLAGS)}')
    return (_integers(flags) & np.int64(1 << SDSS_FLAGS[str(name)])) != 0


def sdss_clean(flags):
    """The cuts of Hahn & Melchior (2022, section 3) on SDSS `flags`: True where the photometry is clean.

    Refused: PEAKCENTER, NOTCHECKED, PSF_FLUX_INTERP, BAD_COUNTS_ERROR, INTERP_CENTER together with COSMIC_RAY, not
    BINNED1, SATURATED, NOPROFILE.

    >>> sdss_clean(np.array([0, 1 << 28, 1 << 28 | 1 << 18])).tolist()
    [False, True, False]
    """
    refused = ("PEAKCENTER", "NOTCHECKED", "PSF_FLUX_INTERP", "BAD_COUNTS_ERROR", "SATURATED", "NOPROFILE")
    bad = sdss_flag(flags, "INTERP_CENTER") & sdss_flag(flags, "COSMIC_RAY")
    for name in refused:
        bad = bad | sdss_flag(flags, name)
    return sdss_flag(flags, "BINNED1") & ~bad


FUNCTIONS: dict[str, Callable] = {
    "abs": np.abs, "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "isfinite": np.isfinite,
    "minimum": np.minimum, "maximum": np.maximum, "sdss_flag": sdss_flag, "sdss_clean": sdss_clean,
}  # fmt: skip
_OF_TWO = ("minimum", "maximum", "sdss_flag")
"""Functions of two arguments; the others have one."""

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
_BITS = {ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
         ast.LShift: operator.lshift, ast.RShift: operator.rshift}  # fmt: skip
_COMPARE = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
            ast.Gt: operator.gt, ast.GtE: operator.ge}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A parsed expression: its text, the columns that it reads ("NMGY[2]" is one), and its tree."""

    text: str
    columns: tuple[str, ...]
    tree: ast.expr
    quoted: tuple[str, ...] = ()

    @property
    def is_element(self) -> bool:
        """Whether it is one element of a vector column and nothing else."""
        return isinstance(self.tree, ast.Subscript)

    def __call__(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Values (n,) from the columns, each (n,); PopcatError where the types do not fit."""
        try:
            with np.errstate(all="ignore"):
                return np.asarray(self._value(self.tree, columns))
        except (TypeError, ValueError, OverflowError) as error:
            raise PopcatError(f'expression "{self.text}" cannot be evaluated: {error}') from error

    def _value(self, node, columns):
        match node:
            case ast.Constant():
                return _constant(node.value)
            case ast.Name() | ast.Subscript():
                return _wide(columns[self.name_of(node)])
            case ast.UnaryOp():
                return self._unary(node, columns)
            case ast.BoolOp():
                values = [_condition(self._value(item, columns)) for item in node.values]
                combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
                return reduce(combine, values)
            case ast.BinOp():
                return self._binary(node, columns)
            case ast.Compare():
                return self._compare(node, columns)
        return FUNCTIONS[node.func.id](*(self._value(item, columns) for item in node.args))

    def _unary(self, node, columns):
        value = self._value(node.operand, columns)
        if isinstance(node.op, ast.Not):
            return ~_condition(value)
        if isinstance(node.op, ast.Invert):
            return ~value if np.asarray(value).dtype == bool else ~_integers(value)
        return -value if isinstance(node.op, ast.USub) else +value

    def _binary(self, node, columns):
        left, right = self._value(node.left, columns), self._value(node.right, columns)
        if _is_text(left) or _is_text(right):
            raise TypeError("text can only be compared")
        if type(node.op) in _BINARY:
            return _BINARY[type(node.op)](left, right)
        if all(np.asarray(side).dtype == bool for side in (left, right)):
            return _BITS[type(node.op)](left, right)
        return _BITS[type(node.op)](_integers(left), _integers(right))

    def _compare(self, node, columns):
        result, left = True, self._value(node.left, columns)
        for kind, item in zip(node.ops, node.comparators, strict=True):
            right = self._value(item, columns)
            if _is_text(left) != _is_text(right):
                raise TypeError("text is compared with numbers")
            result, left = np.logical_and(result, _COMPARE[type(kind)](left, right)), right
        return result

    def name_of(self, node: Any) -> str:
        """The column that a name or an element stands for."""
        match node:
            case ast.Subscript(value=base, slice=ast.Constant(value=int() as index)):
                return f"{self.name_of(base)}[{index}]"
        found = re.fullmatch(r"_quoted(\d+)_", node.id)
        return self.quoted[int(found[1])] if found else node.id


@lru_cache(maxsize=512)
def parse(text: str) -> Expression:
    """Read an expression; PopcatError that says what is not allowed.

    >>> parse("(flags & 4 == 0) and z > 0.01")({"flags": np.array([4, 3]), "z": np.array([0.1, 0.1])}).tolist()
    [False, True]
    """
    if len(text) > MAX_LENGTH:
        raise PopcatError(f"expression of {len(text)} characters: expected at most {MAX_LENGTH}")
    quoted: list[str] = []

    def quote(match):
        quoted.append(match[1])
        return f"_quoted{len(quoted) - 1}_"

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", quote, text.strip()), mode="eval").body
        expression = Expression(text, (), tree, tuple(quoted))
        names = _check(expression, tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PopcatError(f'"{text}" is not an expression: {error}') from error
    return Expression(text, tuple(dict.fromkeys(names)), tree, tuple(quoted))


def as_column(text: str) -> Expression | None:
    """The expression that a text is; None where it can only be the plain name of a column.

    >>> as_column("f_r"), as_column("Flux (nJy)")
    (None, None)
    >>> as_column("NMGY[2]").columns
    ('NMGY[2]',)
    """
    if text.isidentifier():
        return None
    try:
        return parse(text)
    except PopcatError:
        return None


def sources_of(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Columns, or elements of vector columns, that a name is computed from; itself where a file has that very name.

    >>> sources_of("-2.5 * log10(T_G)", ["T_G"]), sources_of("mag-g", ["mag-g"]), sources_of("z", [])
    (('T_G',), ('mag-g',), ('z',))
    """
    expression = None if name in known else as_column(name)
    return (name,) if expression is None else expression.columns


def base_name(column: str) -> str:
    """The column of a file that a name or an element "NMGY[2]" is read from.

    >>> base_name("NMGY[2]"), base_name("z")
    ('NMGY', 'z')
    """
    return split_element(column)[0]


def split_element(column: str) -> tuple[str, int | None]:
    """A vector column and the element that a name asks for; None without one.

    >>> split_element("NMGY[2]"), split_element("z")
    (('NMGY', 2), ('z', None))
    """
    match = re.fullmatch(r"(.+)\[(\d+)\]", column)
    return (match[1], int(match[2])) if match else (column, None)


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of a frame, or the values of an expression over its columns.

    Where a source is missing (NaN, null) a number is missing and a condition is False.

    >>> frame = pd.DataFrame({"a": [1.0, np.nan], "flags": [4, 0]})
    >>> column(frame, "a > 0 and flags & 4 != 0").tolist(), column(frame, "2 * a").tolist()
    ([True, False], [2.0, nan])
    """
    expression = None if name in frame.columns else as_column(name)
    if expression is None:
        return frame[name]
    sources = frame[list(expression.columns)]
    missing = sources.isna().any(axis=1).to_numpy()
    values = expression({source: _filled(sources[source]) for source in expression.columns})
    return _masked(pd.Series(np.broadcast_to(values, len(frame)).copy(), name=name), missing)


def _filled(values: pd.Series) -> np.ndarray:
    """Values with plain numbers where integers are missing; floats keep their NaN."""
    if values.isna().any() and getattr(values.dtype, "kind", "O") in "iu":
        values = values.fillna(0)
    return values.to_numpy(dtype=getattr(values.dtype, "numpy_dtype", None))


def _masked(values: pd.Series, missing: np.ndarray) -> pd.Series:
    if not missing.any():
        return values
    if values.dtype == bool:
        return values & ~missing
    return (values.astype("Int64") if values.dtype.kind == "i" else values).mask(missing)


def _check(expression: Expression, node) -> list[str]:
    """Columns that a tree reads, in order; PopcatError for anything that is not listed here."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            return []
        case ast.Name():
            return [expression.name_of(node)]
        case ast.Subscript(value=ast.Name(), slice=ast.Constant(value=int(index))) if index >= 0:
            return [expression.name_of(node)]
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            if name not in FUNCTIONS:
                raise PopcatError(f'"{expression.text}": no function "{name}"; {did_you_mean(name, FUNCTIONS)}')
            # numpy would take one argument more for an array to write into
            if len(node.args) != (expected := 2 if name in _OF_TWO else 1):
                raise PopcatError(f'"{expression.text}": {name} takes {expected} argument{"s" * (expected - 1)}, got '
                                  f"{len(node.args)}")
            parts = node.args
        case ast.BoolOp():
            parts = node.values
        case ast.UnaryOp():
            parts = [node.operand]
        case ast.BinOp(op=op) if type(op) in _BINARY or type(op) in _BITS:
            parts = [node.left, node.right]
        case ast.Compare(ops=ops) if all(type(op) in _COMPARE for op in ops):
            parts = [node.left, *node.comparators]
        case _:
            raise PopcatError(f'"{expression.text}": {type(node).__name__} is not allowed; expected columns, numbers, '
                              f"arithmetic, comparisons, and, or, not, and {', '.join(FUNCTIONS)}")
    return [name for part in parts for name in _check(expression, part)]


def _constant(value):
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int) and abs(value) > np.iinfo(np.int64).max:
        raise OverflowError(f"{value} is beyond 64 bits")
    return np.int64(value) if isinstance(value, int) else np.float64(value)


def _wide(values) -> np.ndarray:
    """int64, float64, bool or text; unsigned integers keep their bits."""
    values = np.asarray(values)
    if values.dtype.kind == "u" and values.dtype.itemsize == 8:
        return values.view(np.int64)
    wide = {"i": np.int64, "u": np.int64, "f": np.float64}.get(values.dtype.kind)
    if wide is not None:
        return values.astype(wide, copy=False)
    return values if values.dtype.kind == "b" else values.astype(str)


def _integers(values) -> np.ndarray:
    """Values as int64; whole numbers stored as floats too, up to 2^53."""
    values = np.asarray(values)
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        known = np.where(np.isfinite(values), values, 0.0)
        if np.all((known == np.trunc(known)) & (np.abs(known) < 2**53)):
            return known.astype(np.int64)
    raise TypeError(f"bits need whole numbers below 2^53, got {values.dtype}")


def _condition(values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype != bool:
        raise TypeError(f"and, or, not need conditions such as x > 0, got {values.dtype}")
    return values


def _is_text(value) -> bool:
    return np.asarray(value).dtype.kind in "US"
