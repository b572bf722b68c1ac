"""Expressions over the columns of a catalogue: "NMGY[2]", "-2.5 * log10(MW_TRANSMISSION_G)", "flags & 2864 == 0".

One language wherever popcat asks for a column or a condition: survey files (columns, `quality`), `where` of a
catalogue, `--cut` of a population (there only comparisons of a band with a number), the filter of the report's table.

A small part of Python's syntax, evaluated by popcat itself: numbers, text, columns, elements of vector columns,
arithmetic, bits, comparisons, `and` `or` `not`, and functions (popcat.expression_functions). Nothing else of Python is
reachable.
Integers are int64, other numbers float64. A column whose name is no identifier stands between backquotes: `mag-g`.
Where a column of a row is missing, a number computed from it is missing and a condition on it is False. Three functions
look at what is missing: `isfinite(x)`, `coalesce(a, b, ...)` (the first that is there), `where(condition, a, b)`.

The report's page evaluates the same language in the browser: popcat/data/pages/expressions.js. A test holds the two
implementations to the same values.
"""

import ast
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.expression_functions import (
    CHOICES,
    FUNCTIONS,
    KNOWN,
    Value,
    arithmetic,
    condition,
    integers,
    is_text,
    require_known,
)

MAX_LENGTH = 2000
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]+)`""")

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
        return self.evaluate(columns, {})[0]

    def evaluate(self, columns: Mapping[str, np.ndarray], missing: Mapping[str, np.ndarray]) -> Value:
        """Values and where they are missing, each (n,) or one for all; `missing` says in which rows a column is.

        Raises PopcatError where the types do not fit.
        """
        try:
            with np.errstate(all="ignore"):
                values, gone = self._value(self.tree, columns, missing)
                return np.asarray(values), np.asarray(gone)
        except RecursionError as error:
            raise PopcatError(f'expression "{self.text[:60]}..." is nested too deeply: write it in parts') from error
        except (TypeError, ValueError, OverflowError) as error:
            raise PopcatError(f'expression "{self.text}" cannot be evaluated: {error}') from error

    def _value(self, node, columns, missing) -> Value:
        match node:
            case ast.Constant():
                return _constant(node.value), np.False_
            case ast.Name() | ast.Subscript():
                name = self.name_of(node)
                return _wide(columns[name]), missing.get(name, np.False_)
        parts = [self._value(part, columns, missing) for part in _parts(node)]
        if isinstance(node, ast.Call) and node.func.id in CHOICES:
            return CHOICES[node.func.id][1](*parts)
        gone = reduce(operator.or_, (one for _, one in parts))
        return _computed(node, [values for values, _ in parts]), gone

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
        if match[1] is None:  # a text, in which a backquote is a letter
            return match[0]
        quoted.append(match[1])
        return f"_quoted{len(quoted) - 1}_"

    try:
        if "_quoted" in text:
            raise ValueError("no name in it may have _quoted")
        tree = ast.parse(_QUOTED.sub(quote, text.strip()), mode="eval").body
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

    A number alone is the name of a column: "5" in a survey file is no constant.

    >>> sources_of("5", [])
    ('5',)

    >>> sources_of("-2.5 * log10(T_G)", ["T_G"]), sources_of("mag-g", ["mag-g"]), sources_of("z", [])
    (('T_G',), ('mag-g',), ('z',))
    """
    expression = None if name in known else as_column(name)
    return expression.columns if expression is not None and expression.columns else (name,)


def base_name(column: str) -> str:
    """The column of a file that a name or an element "NMGY[2]" is read from.

    >>> base_name("NMGY[2]"), base_name("z")
    ('NMGY', 'z')
    """
    return split_element(column)[0]


def quoted_name(column: str) -> str:
    """A column, or an element of one, as an expression names it.

    >>> quoted_name("NMGY[2]"), quoted_name("mag-g")
    ('NMGY[2]', '`mag-g`')
    """
    return column if column.isidentifier() or column.endswith("]") else f"`{column}`"


def split_element(column: str) -> tuple[str, int | None]:
    """A vector column and the element that a name asks for; None without one.

    >>> split_element("NMGY[2]"), split_element("z")
    (('NMGY', 2), ('z', None))
    """
    match = re.fullmatch(r"(.+)\[(\d+)\]", column)
    return (match[1], int(match[2])) if match else (column, None)


def is_mark(values: np.ndarray, marks: Iterable[float]) -> np.ndarray:
    """Where numbers are one of some marks, in single precision: -99.99 of a float32 column is not that of a text.

    >>> is_mark(np.array([-99.99, 1.0], dtype="f4"), (-99.99,)).tolist()
    [True, False]
    """
    return np.isin(np.asarray(values).astype(np.float32), np.array(list(marks), dtype=np.float32))


def column(frame: pd.DataFrame, name: str, marks: Iterable[float] = ()) -> pd.Series:
    """A column of a frame, or the values of an expression over its columns, in which marks are missing values.

    Where a source is missing (NaN, null) a number is missing and a condition is False; `isfinite`, `where` and
    `coalesce` say otherwise.

    >>> frame = pd.DataFrame({"a": [1.0, np.nan], "flags": [4, 0]})
    >>> column(frame, "a > 0 and flags & 4 != 0").tolist(), column(frame, "2 * a").tolist()
    ([True, False], [2.0, nan])
    >>> column(frame, "coalesce(a, -1.0)").tolist(), column(frame, "not isfinite(a)").tolist()
    ([1.0, -1.0], [False, True])
    """
    expression = None if name in frame.columns else as_column(name)
    if expression is None:
        return frame[name]
    sources = {source: frame[source] for source in expression.columns}
    missing = {source: _missing(values, marks) for source, values in sources.items()}
    values, gone = expression.evaluate({source: _filled(values) for source, values in sources.items()}, missing)
    return _masked(pd.Series(np.broadcast_to(values, len(frame)).copy(), name=name),
                   np.broadcast_to(gone, len(frame)))


def _missing(values: pd.Series, marks: Iterable[float]) -> np.ndarray:
    """Where a column is missing, or a measurement is a mark: integers are identifiers and bits."""
    missing = values.isna().to_numpy()
    return missing | is_mark(values, marks) if marks and values.dtype.kind == "f" else missing


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
            try:
                require_known(name, len(node.args))
            except PopcatError as error:
                raise PopcatError(f'"{expression.text}": {error}') from error
        case ast.BoolOp() | ast.UnaryOp():
            pass
        case ast.BinOp(op=op) if type(op) in _BINARY or type(op) in _BITS:
            pass
        case ast.Compare(ops=ops) if all(type(op) in _COMPARE for op in ops):
            pass
        case _:
            raise PopcatError(f'"{expression.text}": {type(node).__name__} is not allowed; expected columns, numbers, '
                              f"arithmetic, comparisons, and, or, not, and {', '.join(KNOWN)}")
    return [name for part in _parts(node) for name in _check(expression, part)]


def _parts(node) -> list:
    """The nodes whose values a node combines."""
    match node:
        case ast.Call(args=parts) | ast.BoolOp(values=parts):
            return parts
        case ast.UnaryOp(operand=operand):
            return [operand]
        case ast.BinOp(left=left, right=right):
            return [left, right]
    return [node.left, *node.comparators]


def _computed(node, values: list) -> np.ndarray:
    """The value of a node from those of its parts."""
    match node:
        case ast.UnaryOp(op=op):
            return _unary(op, *values)
        case ast.BoolOp(op=op):
            combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return reduce(combine, [condition(value) for value in values])
        case ast.BinOp(op=op):
            return _binary(op, *values)
        case ast.Compare(ops=ops):
            return _compared(ops, values)
    return FUNCTIONS[node.func.id][1](*values)


def _unary(op, value):
    if isinstance(op, ast.Not):
        return ~condition(value)
    if isinstance(op, ast.Invert):
        return ~value if np.asarray(value).dtype == bool else ~integers(value)
    return -value if isinstance(op, ast.USub) else +value


def _binary(op, left, right):
    if is_text(left) or is_text(right):
        raise TypeError("text can only be compared")
    if type(op) in _BINARY:
        return arithmetic(_BINARY[type(op)], left, right)
    if all(np.asarray(side).dtype == bool for side in (left, right)):
        return _BITS[type(op)](left, right)
    return _BITS[type(op)](integers(left), integers(right))


def _compared(ops, values):
    result = True
    for op, left, right in zip(ops, values[:-1], values[1:], strict=True):
        if is_text(left) != is_text(right):
            raise TypeError("text is compared with numbers")
        result = np.logical_and(result, _COMPARE[type(op)](left, right))
    return result


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


