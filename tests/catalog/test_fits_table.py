"""A posterior catalogue as a FITS table: rows, draws, units and text as they were."""

import warnings

import numpy as np
import pytest
from astropy.table import Table
from astropy.units import UnitsWarning

from popcat.catalog.export import export
from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError


@pytest.mark.parametrize("output", ["posteriors.fits", "folder"])
def test_a_fits_table_has_every_row_column_draw_and_unit(posteriors, tmp_path, output):
    folder, table = posteriors()
    done = export(folder, tmp_path / output, to="fits", name="mine")
    file = tmp_path / (output if output.endswith("fits") else "folder/mine.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # the FITS standard has no nanomaggies and no logarithms
        found = Table.read(file)
    assert done.rows == len(found) == table.num_rows and found.colnames == table.column_names
    assert found["object_id"].tolist() == table["object_id"].to_pylist()
    assert [str(one) for one in found["status"]] == table["status"].to_pylist()
    for name in ("ra", "log_mstar_p50"):
        expected = np.array([np.nan if value is None else value for value in table[name].to_pylist()])
        np.testing.assert_array_equal(np.ma.filled(found[name], np.nan), expected.astype(found[name].dtype))
    for row, expected in enumerate(table["log_mstar_draws"].to_pylist()):
        draws = np.ma.filled(found["log_mstar_draws"][row], np.nan)
        if expected is None:
            assert np.isnan(draws).all()
        else:
            assert draws.tolist() == np.array(expected, dtype=np.float32).tolist()
    field = open_catalog(folder).dataset.schema.field("log_mstar_p50")
    assert str(found["log_mstar_p50"].unit) == field.metadata[b"unit"].decode()


def test_a_fits_file_that_is_there_is_not_written_over(posteriors, tmp_path):
    folder, _ = posteriors()
    export(folder, tmp_path / "a.fits", to="fits")
    with pytest.raises(PopcatError, match=r"a\.fits is there already"):
        export(folder, tmp_path / "a.fits", to="fits")
