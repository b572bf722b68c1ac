"""Columns of a text table that hold text and numbers: marks for nothing, Fortran's exponents, and what is no number.

A column is numbers where all else in it is a usual mark for nothing. A few other texts among numbers are a fault of the
file, such as a comment between the rows: `odd_value` says which.
"""

import re

import pandas as pd

MARKS = ("-", "--", "---", "...", "....", "?", r"\N", "na", "Na", "masked", "NaN", "nil", "none", "NONE", "Null", "*")
"""Texts that stand for no value, beside those that pandas knows: NA, N/A, NULL, null, None, nan and others."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?|[+-]?(?i:nan|inf|infinity)"
_FEW = 0.1
"""Of the values of a column, at most so many are odd; or a single one of four or more."""


def is_mixed(values: pd.Series) -> bool:
    """Whether a column of texts was left as such, where pandas reads numbers as numbers."""
    return values.dtype == object or isinstance(values.dtype, pd.StringDtype)


def split_marks(values: pd.Series, decimal: str = ".") -> tuple[pd.Series, pd.Series]:
    """The column without marks, numbers as pandas reads them; and which values are no numbers.

    >>> plain, odd = split_marks(pd.Series(["1.5D+03", "--", "1,5"]))
    >>> plain.tolist(), odd.tolist()
    (['1.5E+03', nan, '1,5'], [False, False, True])
    """
    texts = values.astype("str").str.strip()
    texts = texts.mask(texts.isin([*MARKS, ""]))
    points = texts.str.replace(decimal, ".", regex=False) if decimal != "." else texts
    is_number = points.str.fullmatch(_NUMBER).fillna(False).astype(bool) | points.isna()
    exponents = points.str.contains(r"\d\.?[dD][+-]?\d", regex=True).fillna(False).astype(bool) & is_number
    return texts.mask(exponents, texts.str.replace(r"[dD]", "E", regex=True)), ~is_number


def odd_value(values: pd.Series, odd: pd.Series) -> int | None:
    """The position of the first of a few texts in a column of numbers; None where it is a column of texts."""
    known = int(values.notna().sum())
    n_odd = int(odd.sum())
    if not n_odd or n_odd > max(_FEW * known, 1) or known - n_odd < 3:
        return None
    return int(odd.to_numpy().argmax())


def described(value: str, row: int, name: str) -> str:
    """What is wrong with a text in row `row`, counted from 1, of a column of numbers, and what to do.

    >>> described("1,234.5", 7, "flux")
    'row 7, counted from 1, column "flux": expected numbers, as in other rows, got "1,234.5"; leave out the commas \
between thousands'
    """
    return (f'row {row:,}, counted from 1, column "{name}": expected numbers, as in other rows, got "{_short(value)}"; '
            f"{_remedy(value, name)}")  # fmt: skip


def _remedy(value: str, name: str) -> str:
    if value.strip() == name:
        return "the header is there again; remove that line"
    if value.startswith("#"):
        return "remove that line, or move it above the header"
    if re.fullmatch(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", value):
        return "leave out the commas between thousands"
    if re.fullmatch(rf"[<>~]=?\s*(?:{_NUMBER})", value):
        return "a limit is no value; leave it blank"
    return "remove that line if it is no galaxy; otherwise correct the value, or leave it blank"


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= 40 else f"{text[:37]}..."
