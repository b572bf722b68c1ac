"""A bit that changed in a part is an error wherever the part is read, never another number."""

import os
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from popcat.catalog.export import export
from popcat.catalog.queries import open_catalog
from popcat.catalog.verification import verify
from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.inference.reweight import reweight
from popcat.pages.report import report

FLIPS = 60
HEADER_BYTES = 90
"""Of a page, at most: sizes, encodings, checksum, and two extremes of it, each twice."""


@pytest.fixture(scope="module")
def catalogue(galaxies, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    infer(galaxies, tiny_model, output=out, draws=10, rows_per_partition=75, client="synchronous")
    return out


@pytest.fixture
def copied(catalogue, tmp_path):
    """A copy, with times of change kept, and a function that flips a bit of its second part."""
    out = tmp_path / "copy"
    shutil.copytree(catalogue, out)
    part = out / "part-000001.parquet"
    content, before = part.read_bytes(), part.stat()

    def flip(position, bit):
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        part.write_bytes(changed)
        os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))

    return out, len(content), flip


def test_no_flipped_bit_of_a_part_is_read(catalogue, copied):
    """Anywhere in the file, and as often in its footer, by which readers find rows and skip them.

    No checksum holds the extremes that a page's header has of the page. No reader looks at them: with a flipped bit
    there, what is read is what was written.
    """
    out, size, flip = copied
    whole, random = open_catalog(catalogue).to_table(), np.random.default_rng(7)
    footer = int.from_bytes((out / "part-000001.parquet").read_bytes()[-8:-4], "little") + 8
    asked = [int(one) for one in whole["object_id"].to_numpy()[[80, 140]]]
    in_pages, in_footer = random.integers(0, size, FLIPS), random.integers(size - footer, size, FLIPS)
    for position in [*in_pages, *in_footer]:
        flip(position, random.integers(8))
        try:
            catalog = open_catalog(out)
            catalog.galaxies(asked)
            found = catalog.to_table()
        except PopcatError as error:
            assert "copy" in str(error)
        else:
            assert _in_a_page_header(catalogue / "part-000001.parquet", position)
            pd.testing.assert_frame_equal(found.to_pandas(), whole.to_pandas())


def _in_a_page_header(path, position):
    """Whether a byte is between the begin of a column and its first page's body, or of a page after a dictionary."""
    metadata = pq.read_metadata(path)
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            for start in (column.dictionary_page_offset, column.data_page_offset):
                if start is not None and start <= position < start + HEADER_BYTES:
                    return True
    return False


DOORS = {
    "reweight": lambda out, to: reweight(out, flat, output=to),
    "report": lambda out, to: report(out, to / "page.html"),
    "hats": lambda out, to: export(out, to, to="hats"),
    "fits": lambda out, to: export(out, to / "a.fits", to="fits"),
    "stack": lambda out, to: [open_catalog(out).stack(name) for name in open_catalog(out).quantities],
}


def flat(draws):
    return np.zeros_like(draws["log_mstar"])


@pytest.mark.parametrize("door", DOORS)
def test_whoever_reads_a_catalogue_refuses_a_flipped_bit(copied, tmp_path, door):
    if door == "hats":
        pytest.importorskip("cdshealpix")
    out, size, flip = copied
    for position in (size // 3, size // 2):
        flip(position, 3)
        with pytest.raises(PopcatError, match=r"part-000001|cannot read"):
            DOORS[door](out, tmp_path / door)
        assert not list(tmp_path.glob(f"{door}/**/*000001*"))


def test_a_rerun_that_checks_writes_the_part_again(catalogue, copied, galaxies, tiny_model):
    out, size, flip = copied
    flip(size // 2, 0)
    assert any("part-000001" in problem.where for problem in verify(out).problems)
    infer(galaxies, tiny_model, output=out, draws=10, rows_per_partition=75, client="synchronous", check=True)
    assert verify(out).ok
    assert (out / "part-000001.parquet").read_bytes() == (catalogue / "part-000001.parquet").read_bytes()
