"""Draws come back as they were encoded, however the column is cut, chunked or stored; rows without draws stay known."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.catalog.draws import decode, decode_ragged, decode_table, encode, others, quantities_of, scatter
from popcat.errors import PopcatError

N, K = 23, 4
ROWS = np.array([0, 3, 4, 11, 21])
VALUES = np.random.default_rng(0).normal(size=(len(ROWS), K)).astype("f4")


def column():
    return encode(VALUES, ROWS, N)


def stored(tmp_path):
    pq.write_table(pa.table({"x_draws": column()}), tmp_path / "x.parquet", row_group_size=5)
    return pq.read_table(tmp_path / "x.parquet")["x_draws"]


LAYOUTS = {
    "array": lambda _: column(),
    "chunks": lambda _: pa.chunked_array([column()[:4], column()[4:4], column()[4:]]),
    "slice of chunks": lambda _: pa.chunked_array([column()[:7], column(), column()[7:]])[7 : 7 + N],
    "slice with an offset": lambda _: pa.concat_arrays([column()[9:], column()])[N - 9 :],
    "large lists": lambda _: column().cast(pa.large_list(pa.float32())),
    "hidden values under a null": lambda _: pa.ListArray.from_arrays(
        pa.array(np.arange(0, K * N + 1, K, dtype="i4")),
        pa.array(np.repeat(scattered(), 1, axis=0).ravel()), mask=pa.array(others(ROWS, N))),
    "a Parquet file of row groups": stored,
}  # fmt: skip


def scattered():
    """Draws of all rows, of which some do not count."""
    whole = np.full((N, K), 99.0, dtype="f4")
    whole[ROWS] = VALUES
    return whole


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_encoded_is_decoded(layout, tmp_path):
    rows, values = decode(LAYOUTS[layout](tmp_path))
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(values, VALUES)
    assert values.dtype == np.float32


@pytest.mark.parametrize(("start", "stop"), [(0, 23), (1, 12), (3, 5), (5, 11), (21, 23), (22, 23), (8, 8)])
def test_a_slice_decodes_to_the_slice(start, stop):
    inside = (start <= ROWS) & (stop > ROWS)
    for cut in (column()[start:stop], pa.chunked_array([column()])[start:stop]):
        rows, values = decode(cut)
        np.testing.assert_array_equal(rows, ROWS[inside] - start)
        np.testing.assert_array_equal(values.reshape(-1, K), VALUES[inside])


def test_python_lists_say_the_same():
    plain = column().to_pylist()
    assert [row for row, draws in enumerate(plain) if draws is not None] == ROWS.tolist()
    assert np.array_equal([plain[row] for row in ROWS], VALUES)


def test_the_order_of_rows_is_that_of_the_table():
    again = encode(VALUES, ROWS, N)
    assert again.type == pa.list_(pa.float32()) and len(again) == N and again.null_count == N - len(ROWS)
    assert again.equals(encode(VALUES.astype("f8"), ROWS, N))


@pytest.mark.parametrize("nothing", [
    encode(np.empty((0, 5)), np.empty(0, dtype=int), 3), pa.array([None, None, None], pa.list_(pa.float32())),
    pa.array([[], None, []], pa.list_(pa.float32())), pa.chunked_array([], pa.list_(pa.float32())),
])  # fmt: skip
def test_a_column_without_any_draws_has_no_rows(nothing):
    rows, values = decode(nothing)
    assert len(rows) == len(values) == 0


def test_lists_of_different_lengths_are_refused_where_a_matrix_is_asked_for():
    uneven = pa.array([[1.0, 2.0], None, [3.0]], pa.list_(pa.float32()))
    with pytest.raises(PopcatError, match="galaxies have 1 to 2 draws: expected as many of each"):
        decode(uneven)
    rows, lengths, flat = decode_ragged(uneven)
    assert (rows.tolist(), lengths.tolist(), flat.tolist()) == ([0, 2], [2, 1], [1.0, 2.0, 3.0])


def test_a_table_decodes_to_its_quantities():
    table = pa.table({"object_id": np.arange(N), "a_draws": column(), "b_draws": encode(-VALUES, ROWS, N)})
    rows, draws = decode_table(table)
    np.testing.assert_array_equal(rows, ROWS)
    assert list(draws) == quantities_of(table.column_names) == ["a", "b"]
    np.testing.assert_array_equal(draws["a"], -draws["b"])
    assert list(decode_table(table, ["b"])[1]) == ["b"]
    assert list(decode_table(table.to_batches()[0])[1]) == ["a", "b"]
    assert decode_table(table.select(["object_id"])) == (pytest.approx([]), {})


@pytest.mark.parametrize("other", [encode(VALUES[1:], ROWS[1:], N), encode(VALUES[:, :2], ROWS, N)])
def test_quantities_of_different_galaxies_or_numbers_of_draws_are_refused(other):
    with pytest.raises(PopcatError, match="a and b: expected as many draws"):
        decode_table(pa.table({"a_draws": column(), "b_draws": other}))


def test_a_scattered_number_is_null_elsewhere_and_infinite_beyond_single_precision():
    made = scatter(np.array([1.5, np.nan, 1e300]), np.array([1, 2, 4]), 5)
    assert made.type == pa.float32() and made.null_count == 2
    assert np.isnan(made[2].as_py()) and np.isinf(made[4].as_py())
    assert scatter(np.array([np.nan]), np.array([1]), 2, nan_is_null=True).to_pylist() == [None, None]
