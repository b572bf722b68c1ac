"""A manifest says what a catalogue is of as typed fields, and one of before says the same under the names of today."""

import json

import pyarrow as pa
import pytest
from catalogues import record

import popcat
from popcat.catalog.manifest import (
    CatalogManifest,
    Manifest,
    fingerprint_hash,
    read_manifest,
    read_run,
)
from popcat.catalog.parts import OutputFolder
from popcat.catalog.record import CatalogRecord, Certification
from popcat.catalog.verification import verify
from popcat.errors import PopcatError
from popcat.forward.noise import default_noise
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.library import open_library
from popcat.survey import load_survey

SETTINGS = {"posterior": "cd" * 32, "draws": 8, "seed": 42, "n": 2}
ARGUMENTS = {"source": "galaxies.parquet", "posterior": "sdss", "draws": 8, "seed": 42, "rows_per_partition": 2}


def written(path, settings=SETTINGS, arguments=ARGUMENTS, made=None, kind="posteriors"):
    folder = OutputFolder.open(path, settings, 1, kind=kind, arguments=arguments)
    folder.write_part(0, pa.table({"object_id": [1, 2]}))
    folder.finish(made)
    return path


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def in_old_words(path, of_manifest):
    """The files of a folder as popcat wrote them before: the posterior is the model, its catalogue an `extra`."""
    meta, sha = path / "_popcat", None

    def settings(run):
        nonlocal sha
        for key in ("fingerprint", "arguments"):
            run[key] = {"model" if name in ("posterior", "galaxy_model") else name: value
                        for name, value in run[key].items()}  # fmt: skip
        run["fingerprint_sha256"] = sha = fingerprint_hash(run["fingerprint"])
        return run

    edit(meta / "run.json", settings)
    edit(meta / "manifest.json", lambda manifest: of_manifest(settings(manifest)))
    edit(meta / "000000.json", lambda sidecar: sidecar | {"fingerprint_sha256": sha})


def extra_of(manifest):
    """What a record says, under `extra`."""
    extra = {name: manifest.pop(name) for name in CatalogRecord.model_fields}
    extra["model"] = extra.pop("posterior")["location"]
    for name in ("prior", "reweighted_from", "seconds"):
        if extra[name] is None:
            del extra[name]
    return manifest | {"extra": extra}


MADE = {
    "plain": {},
    "certified": {"certify": Certification(target_ess=200.0, budget_ms=40.0), "seconds": 12.5},
    "reweighted": {"prior": "[tau_ism]\nfamily = 'exponential'\nscale = 0.5\n", "reweighted_from": "posteriors"},
}


@pytest.mark.parametrize("kind", MADE)
def test_a_record_is_read_as_it_was_written(tmp_path, kind):
    made = record(**MADE[kind])
    manifest = read_manifest(written(tmp_path / "out", made=made), CatalogManifest)
    assert manifest.record == made
    assert (manifest.rows, manifest.settings, manifest.arguments) == (2, SETTINGS, ARGUMENTS)
    assert (manifest.survey, manifest.galaxy_model) == (load_survey("sdss"), GalaxyModel())


@pytest.mark.parametrize("kind", MADE)
def test_a_manifest_of_before_says_the_same(tmp_path, kind):
    made = record(**MADE[kind])
    path = written(tmp_path / "out", made=made)
    in_old_words(path, extra_of)
    assert "model" in read_run(path).fingerprint and '"posterior"' not in (path / "_popcat" / "run.json").read_text()
    manifest = read_manifest(path, CatalogManifest)
    assert manifest.posterior.name == SETTINGS["posterior"], "the hash stood in the fingerprint alone"
    assert manifest.record == made.model_copy(update={"posterior": manifest.posterior})
    assert manifest.posterior.location == made.posterior.location
    assert (manifest.settings, manifest.arguments) == (SETTINGS, ARGUMENTS)
    assert popcat.open_catalog(path).survey.name == "sdss"
    assert verify(path).ok


def test_a_reweighted_catalogue_of_before_does_not_know_the_hash_of_its_posterior(tmp_path):
    path = written(tmp_path / "out", {"posteriors": "ef" * 32, "prior": "x", "seed": 0}, {}, record(prior="x"))
    in_old_words(path, extra_of)
    found = read_manifest(path, CatalogManifest)
    assert (found.posterior.name, found.posterior.location, found.prior) == (None, "sdss", "x")
    assert "sdss, 8 draws per galaxy" in repr(popcat.open_catalog(path))


def test_a_run_of_before_is_finished_by_the_same_command_of_today(tmp_path):
    path = written(tmp_path / "out", made=record())
    in_old_words(path, extra_of)
    folder = OutputFolder.open(path, SETTINGS, 1, kind="posteriors", arguments=ARGUMENTS)
    assert folder.resume(check=True) == []
    (path / "part-000000.parquet").unlink()
    assert folder.resume() == [0]
    folder.write_part(0, pa.table({"object_id": [1, 2]}))
    folder.finish(record())
    assert read_manifest(path, CatalogManifest).record == record()
    assert verify(path).ok
    with pytest.raises(PopcatError, match=r"differs in posterior \('cdcd"):
        OutputFolder.open(path, SETTINGS | {"posterior": "00" * 32}, 1, kind="posteriors")


def test_a_library_of_before_and_of_today_are_the_same(tmp_path):
    survey = load_survey("sdss")
    made = {"survey": survey, "galaxy_model": GalaxyModel(beta="provabgs_warped"), "noise": default_noise(survey)}
    settings = {key: value.model_dump(mode="json") for key, value in made.items()} | {"seed": 5, "grid": "ab", "n": 2}
    path = written(tmp_path / "library", settings, {"survey": "sdss", "n": 2, "seed": 5}, kind="library")
    for _ in range(2):
        found = open_library(path)
        assert {"survey": found.survey, "galaxy_model": found.galaxy_model, "noise": found.noise} == made
        assert (found.manifest.seed, found.manifest.grid, found.manifest.rows) == (5, "ab", 2)
        in_old_words(path, lambda manifest: manifest | {"extra": {}})
    assert "galaxy_model" not in (path / "_popcat" / "run.json").read_text()


def test_an_output_of_another_kind_is_refused_where_posteriors_are_asked_for(tmp_path):
    path = written(tmp_path / "out", kind="library")
    assert type(read_manifest(path)) is Manifest
    with pytest.raises(PopcatError, match="holds library: expected a posterior catalogue, a folder that"):
        read_manifest(path, CatalogManifest)


@pytest.mark.parametrize("change", [
    {"survey": {"name": 3}}, {"draws": 0}, {"draws": "8"}, {"posterior": "sdss"}, {"certify": {"budget_ms": 1.0}},
    {"posterior": {"name": None}}, {"seed": None}, {"galaxy_model": {"grid": "x", "no_such_key": 1}},
])  # fmt: skip
@pytest.mark.parametrize("old", [False, True])
def test_a_record_that_no_run_wrote_is_one_clear_error(tmp_path, change, old):
    path = written(tmp_path / "out", made=record())
    if old:
        in_old_words(path, extra_of)
        change = {"extra": {"model" if key == "posterior" else key: value for key, value in change.items()}}
        if change["extra"].get("model") == "sdss":
            return  # as it was
        edit(path / "_popcat" / "manifest.json", lambda one: one | {"extra": one["extra"] | change["extra"]})
    else:
        edit(path / "_popcat" / "manifest.json", lambda one: one | change)
    with pytest.raises(PopcatError, match=r"manifest\.json is damaged: "):
        popcat.open_catalog(path)


def test_an_extra_cannot_name_other_parts(tmp_path):
    path = written(tmp_path / "out", made=record())
    in_old_words(path, extra_of)
    more = {"parts": [], "rows": 10**6, "kind": "library"}
    edit(path / "_popcat" / "manifest.json", lambda one: one | {"extra": one["extra"] | more})
    assert read_manifest(path, CatalogManifest).rows == 2 and len(popcat.open_catalog(path)) == 2
