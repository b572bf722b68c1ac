"""A catalogue without the columns and records of today opens, reports, verifies, reweights and exports as it did."""

import json

import pyarrow.parquet as pq
import pytest

import popcat
from popcat.catalog.manifest import read_manifest
from popcat.catalog.parts import OutputFolder
from popcat.catalog.record import CatalogRecord
from popcat.galaxies import CLEAN
from popcat.run.client import SYNCHRONOUS

NEW_COLUMNS, NEW_RECORDS = ["p_star", "p_qso"], ["n_certified", "chi2_limits"]


@pytest.fixture(scope="module")
def older(galaxies, tiny_model, tmp_path_factory):
    """Certified, and without what was added since."""
    folder = tmp_path_factory.mktemp("older")
    made = popcat.infer(galaxies, tiny_model, output=folder / "made", draws=12, certify=True, budget_ms=10.0,
                        client=SYNCHRONOUS)  # fmt: skip
    run, manifest = made.manifest, made.manifest.record.model_dump(mode="json")
    out = OutputFolder.open(folder / "old", run.fingerprint, len(run.parts), kind=run.KIND, arguments=run.arguments)
    for index, part in enumerate(run.parts):
        out.write_part(index, pq.read_table(folder / "made" / part.file).drop_columns(NEW_COLUMNS))
    del manifest["certify"]["odds"]
    out.finish(CatalogRecord.model_validate({name: manifest[name] for name in manifest if name not in NEW_RECORDS}))
    path = folder / "old" / "_popcat" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in content.items() if name not in NEW_RECORDS}))
    return folder / "old"


def test_it_opens_and_verifies(older):
    catalog = popcat.open_catalog(older)
    assert len(catalog.to_pandas(["object_id"], where="status == 'ok'")) == len(catalog) == 150
    assert len(catalog.to_pandas(["object_id"], where=CLEAN)) < 150 and not {*NEW_COLUMNS} & {*catalog.columns}
    assert "column certified" in repr(catalog)
    assert popcat.verify(older).ok


def test_it_has_a_report(older, tmp_path):
    page = popcat.report(older, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "probability of a star" in page, "the words are in the script"
    records = page[page.index('id="galaxies-data"') :]
    assert '"certified"' in records and '"p_star"' not in records[: records.index("</script>")]


def test_it_is_reweighted_and_exported(older, tmp_path):
    popcat.reweight(older, lambda draws: -draws["tau_ism"], output=tmp_path / "out")
    assert popcat.verify(tmp_path / "out").ok
    assert read_manifest(tmp_path / "out").rows == len(popcat.open_catalog(older))
    popcat.export(older, tmp_path / "old.fits", to="fits")
    assert (tmp_path / "old.fits").stat().st_size > 0
