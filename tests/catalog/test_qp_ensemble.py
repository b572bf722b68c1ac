"""Redshift densities as a qp ensemble: the layout that qp reads, and qp's own reading of it where it is installed."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from catalogues import record

import popcat
from popcat.catalog.draws import encode
from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.galaxies import id_of_name

h5py = pytest.importorskip("h5py", reason="h5py is of the extras `qp` and `test`")


@pytest.fixture
def folder(tmp_path):
    """A finished posterior catalogue of two parts; every fifth galaxy has no posterior, two redshifts were given."""

    def build(named=False, none=False):
        rng = np.random.default_rng(0)
        output = OutputFolder.open(tmp_path / "posteriors", {"n": 40}, 2, kind="posteriors")
        for part in range(2):
            ids = np.arange(20) + 20 * part
            rows = np.array([], int) if none else np.flatnonzero(ids % 5 != 4)
            draws = rng.uniform(0.1, 0.5, (len(rows), 1)) + 0.02 * rng.standard_normal((len(rows), 100))
            names = ["G" * (1 + part) + str(i) for i in ids]
            columns = {"object_id": [id_of_name(name) for name in names] if named else ids,
                       **({"object_name": names} if named else {}),
                       "redshift": np.where(ids < 2, 0.3, np.nan), "flags": np.zeros(20, np.int32),
                       "clean": ids % 5 != 4, "redshift_draws": encode(draws, rows, 20)}  # fmt: skip
            output.write_part(part, pa.table(columns))
        output.finish(record())
        return tmp_path / "posteriors"

    return build


def test_the_file_has_densities_and_point_estimates_of_the_galaxies_with_a_posterior(folder, tmp_path):
    done = popcat.export(folder(), tmp_path / "photoz.hdf5", to="qp", grid=101)
    assert (done.rows, done.without_posterior) == (32, 8) and "8 galaxies have no posterior" in repr(done)
    found = popcat.open_catalog(folder()).photoz(grid=101)
    with h5py.File(tmp_path / "photoz.hdf5") as file:
        assert file["meta/pdf_name"][()].tolist() == [b"interp"] and file["meta/pdf_version"][()].tolist() == [0]
        np.testing.assert_array_equal(file["meta/xvals"][0], found.grid)
        np.testing.assert_allclose(file["data/yvals"][()], found.pdf(), rtol=1e-6, atol=1e-6)
        frame = found.to_pandas()
        for theirs, ours in {"object_id": "object_id", "zmode": "redshift_mode", "zmean": "redshift_mean",
                             "zmedian": "redshift_p50", "odds": "redshift_odds", "redshift": "redshift"}.items():
            np.testing.assert_array_equal(file[f"ancil/{theirs}"][()], frame[ours])
        assert file["ancil/clean"][()].all() and set(file["ancil"]) >= {"flags"}


def test_names_are_kept_as_text_of_their_longest(folder, tmp_path):
    popcat.export(folder(named=True), tmp_path / "out", to="qp", name="mine")
    with h5py.File(tmp_path / "out" / "mine.hdf5") as file:
        names = file["ancil/object_name"][()].astype(str).tolist()
    assert names[0] == "G0" and names[-1] == "GG38" and len(names) == 32


def test_what_cannot_be_exported_is_said(folder, tmp_path, monkeypatch):
    popcat.export(folder(), tmp_path / "a.hdf5", to="qp")
    with pytest.raises(PopcatError, match=r"a\.hdf5 is there already"):
        popcat.export(tmp_path / "posteriors", tmp_path / "a.hdf5", to="qp")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PopcatError, match=r"needs h5py: pip install 'popcat\[qp\]'"):
        popcat.export(tmp_path / "posteriors", tmp_path / "b.hdf5", to="qp")


def test_a_catalogue_without_posteriors_has_no_densities_and_leaves_no_file(folder, tmp_path):
    with pytest.raises(PopcatError, match="no galaxy has a posterior"):
        popcat.export(folder(none=True), tmp_path / "a.hdf5", to="qp")
    assert [path.name for path in tmp_path.iterdir()] == ["posteriors"]


def test_the_command_writes_the_same(folder, tmp_path):
    from typer.testing import CliRunner

    from popcat.cli import app

    arguments = ["export", str(folder()), "--to", "qp", "-o", str(tmp_path / "photoz.hdf5"), "--grid", "51", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and json.loads(done.stdout)["rows"] == 32
    with h5py.File(tmp_path / "photoz.hdf5") as file:
        assert file["data/yvals"].shape == (32, 51)


@pytest.mark.parametrize("named", [False, True])
def test_qp_reads_the_same_densities(folder, tmp_path, named):
    qp = pytest.importorskip("qp", reason="qp is of the extra `rail`")
    popcat.export(folder(named=named), tmp_path / "photoz.hdf5", to="qp")
    ensemble = qp.read(str(tmp_path / "photoz.hdf5"))
    found = popcat.open_catalog(tmp_path / "posteriors").photoz()
    assert ensemble.npdf == len(found) == 32
    np.testing.assert_allclose(ensemble.pdf(found.grid), found.pdf(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.ravel(ensemble.mean()), np.ravel(ensemble.ancil["zmean"]), atol=1e-3)
    np.testing.assert_allclose(np.ravel(ensemble.mode(found.grid)), ensemble.ancil["zmode"], atol=0.0021)
    np.testing.assert_allclose(np.ravel(ensemble.median()), ensemble.ancil["zmedian"], atol=0.01)
    assert ensemble.ancil["object_id"].tolist() == found.galaxies["object_id"].tolist()
    ensemble[np.arange(3)].write_to(str(tmp_path / "some.hdf5"))
    assert qp.read(str(tmp_path / "some.hdf5")).npdf == 3
