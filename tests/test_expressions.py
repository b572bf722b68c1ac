"""Expressions compute what numpy computes, and reach nothing else of Python."""

import numpy as np
import pandas as pd
import pytest

from popcat.errors import PopcatError
from popcat.expression_functions import SDSS_FLAGS, sdss_clean
from popcat.expressions import as_column, column, parse

COLUMNS = {
    "x": np.array([1.5, -2.0, np.nan], "f4"), "n": np.array([5, 6, 7], "i2"), "big": np.array([9011, 1, 2], "i2"),
    "name": np.array(["PSF", "SER", "DEV"]), "good": np.array([True, False, True]), "mag-g": np.array([1.0, 2.0, 3.0]),
}  # fmt: skip

VALUES = {
    "2 * x + n / 2": [5.5, -1.0, np.nan],
    "-2.5 * log10(n)": (-2.5 * np.log10([5, 6, 7])).tolist(),
    "big << 42 | n": [(9011 << 42) | 5, (1 << 42) | 6, (2 << 42) | 7],
    "n & 4 == 4": [True, True, True],
    "5 <= n < 7": [True, True, False],
    "not good or x > 0": [True, True, False],
    "name != 'PSF' and good": [False, False, True],
    "~good": [False, True, False],
    "`mag-g` * 2": [2.0, 4.0, 6.0],
    "good and True": [True, False, True],
    "abs(minimum(x, 0))": [0.0, 2.0, np.nan],
    "isfinite(x)": [True, True, False],
    "where(good, n, -1)": [5, -1, 7],
    "where(isfinite(x), x, 2)": [1.5, -2.0, 2.0],
    "coalesce(x, n)": [1.5, -2.0, 7.0],
    "coalesce(log(x), x, 0.0)": [np.log(1.5), -2.0, 0.0],
    "n ** 2 % 7 // 2": [2, 0, 0],
    "x & 1 == 1": None,
}

FORBIDDEN = [
    "__import__('os').system('true')", "x.__class__", "(lambda: 1)()", "[y for y in n]", "n if good else x", "x[n]",
    "x[-1]",
    "x[0:2]", "open('a')", "eval('1')", "f'{x}'", "n := 3", "print(n)", "abs(x, out=n)", "{1: 2}", "x @ n", "n is 3",
    "n in (5, 6)", "import os", "x; n", "", "1 +", "x" * 3000, "(" * 900 + "x" + ")" * 900, "await x",
    "*x", "b'x'", "...",
]  # fmt: skip


@pytest.mark.parametrize("text", [text for text, value in VALUES.items() if value is not None])
def test_values_are_those_of_numpy(text):
    np.testing.assert_array_equal(parse(text)(COLUMNS), VALUES[text])


@pytest.mark.parametrize("text", FORBIDDEN)
def test_everything_else_of_python_is_refused(text):
    with pytest.raises(PopcatError):
        parse(text)


@pytest.mark.parametrize("text", ["name * 3", "name + 'a'", "x & 1", "x and n", "not n", "name > 3", "n << 'a'",
                                  "9999999999999999999999", "'a' * 1000000000"])  # fmt: skip
def test_types_that_do_not_fit_are_refused_in_one_line(text):
    with pytest.raises(PopcatError, match="cannot be evaluated"):
        parse(text)(COLUMNS)


@pytest.mark.parametrize("text", ["abs()", "abs(x, n)", "abs(x, n, x, x)", "minimum(x)", "maximum(x, n, x)"])
def test_functions_take_their_own_number_of_arguments_and_never_a_column_to_write_into(text):
    with pytest.raises(PopcatError, match=r"takes [12] arguments?, got [0-4]"):
        parse(text)


def test_towers_of_powers_cost_nothing():
    assert parse("9.0 ** 9.0 ** 99 ** 1")({}).shape == ()
    with pytest.raises(PopcatError, match="beyond 64 bits"):
        parse("9 ** 9 ** 99")({})


def test_whole_numbers_in_floats_have_bits_up_to_2_to_the_53():
    assert parse("f & 4")({"f": np.array([5.0, 4.0])}).tolist() == [4, 4]
    with pytest.raises(PopcatError, match="below 2"):
        parse("f & 4")({"f": np.array([2.0**60])})


def test_an_unknown_function_or_flag_is_named_with_its_neighbours():
    with pytest.raises(PopcatError, match=r'unknown function "log1o".*did you mean "log10"'):
        parse("log1o(x)")
    with pytest.raises(PopcatError, match=r'no flag "SATURATE".*did you mean "SATURATED"'):
        parse("sdss_flag(n, 'SATURATE')")(COLUMNS)


def test_columns_are_listed_once_in_order():
    assert parse("a + b[2] * a > `mag-g`").columns == ("a", "b[2]", "mag-g")


@pytest.mark.parametrize("text", ["z", "Flux (nJy)", "f_r", "mag g"])
def test_a_name_that_can_only_be_a_column_is_one(text):
    assert as_column(text) is None


def test_the_sdss_preset_is_the_published_sql():
    """The masks of SDSS's own "clean photometry" query (https://www.sdss.org/dr16/tutorials/flags)."""
    flags = np.random.default_rng(1).integers(0, 2**62, 20_000) & sum(1 << bit for bit in SDSS_FLAGS.values())
    flags[::2] &= ~np.int64(0x8100000C00A0)
    clean = ((flags & 0x10000000) != 0) & ((flags & 0x8100000C00A0) == 0)
    clean &= ((flags & 0x100000000000) == 0) | ((flags & 0x1000) == 0)
    assert 0.1 < clean.mean() < 0.9
    np.testing.assert_array_equal(sdss_clean(flags), clean)


@pytest.mark.parametrize(("text", "values"), [
    ("coalesce(a, n, 0)", [1.0, 7.0, 0.0]), ("coalesce(n, 3)", [5, 7, 3]),
    ("where(a > 0, 1.0, 2.0)", [1.0, None, None]),
    ("where(isfinite(a), a, -1.0)", [1.0, -1.0, -1.0]), ("not isfinite(a)", [False, True, True]),
    ("coalesce(a > 0, True)", [True, True, True]), ("coalesce(a, a)", [1.0, None, None]),
    ("a > 0", [True, False, False]),
    ("coalesce(big, n)", [2**62 + 1, 7, 4]),
])
def test_functions_that_look_at_what_is_missing(text, values):
    frame = pd.DataFrame({"a": [1.0, np.nan, np.nan], "n": pd.array([5, 7, None], dtype="Int64"),
                          "big": pd.array([2**62 + 1, None, 4], dtype="Int64")})  # fmt: skip
    got = [None if pd.isna(value) else value for value in column(frame, text)]
    assert got == values


def test_nested_choices_cost_no_more_than_their_number():
    text = "coalesce(" * 80 + "x" + ", 0)" * 80
    assert parse(text)({"x": np.array([np.nan, 2.0])}).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("text", ["where(n, x, x)", "where(good, x, good)", "coalesce(good, n)",
                                  "where(good, name, 'a')"])
def test_choices_are_among_numbers_or_among_conditions(text):
    with pytest.raises(PopcatError, match="cannot be evaluated"):
        parse(text)(COLUMNS)


@pytest.mark.parametrize("text", ["where(good, n)", "coalesce(n)", "isfinite(n, n)"])
def test_choices_take_their_number_of_arguments(text):
    with pytest.raises(PopcatError, match=r"takes (at least )?[123] arguments?, got [12]"):
        parse(text)


@pytest.mark.parametrize("text", ["n * 4", "n + n + n", "n ** 2", "3 * n - -n", "10 ** 19"])
def test_whole_numbers_beyond_64_bits_are_said(text):
    """numpy gives other digits without a word: 2^62 times 4 is 0."""
    with pytest.raises(PopcatError, match=r"whole numbers beyond 64 bits; multiply one by 1\.0"):
        parse(text)({"n": np.array([2**62, 3])})
    assert np.isfinite(parse("1.0 * n * 4 + n")({"n": np.array([2**62, 3])})).all()


def test_a_backquote_in_a_text_is_a_letter():
    columns = {"s": np.array(["a`b`c", "x"]), "my column": np.array([1.0, 3.0])}
    assert parse("s == 'a`b`c' or `my column` > 2")(columns).tolist() == [True, True]
    assert parse('s == "a`b`c"')(columns).tolist() == [True, False]


def test_an_expression_that_is_nested_too_deeply_is_an_error_in_words():
    for text in ("x" + " + x" * 490, "-" * 1900 + "x", "not " * 490 + "(x > 0)"):
        try:
            assert len(parse(text)({"x": np.array([1.0])})) == 1
        except PopcatError as error:
            assert "recursion" in str(error) or "nested too deeply" in str(error)
