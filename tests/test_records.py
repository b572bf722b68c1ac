"""Records that lie in folders that travel: nested without end, or larger than any memory, they are one line."""

import os

import pytest

from popcat.catalog.export import RECORD, export
from popcat.catalog.manifest import read_run
from popcat.checks.calibration import read_calibration
from popcat.checks.compare import read_crosscheck
from popcat.errors import PopcatError
from popcat.files import MAX_RECORD_BYTES
from popcat.forward.noise import read_noise
from popcat.population.fitted import load_population
from popcat.posterior.posterior import load_posterior
from popcat.run.client import connect
from popcat.survey import load_survey

DOORS = {
    "noise.json": read_noise,
    "posterior.json": lambda path: load_posterior(path.parent),
    "population.json": lambda path: load_population(path.parent),
    "calibration.json": lambda path: read_calibration(path.parent),
    "crosscheck.json": lambda path: read_crosscheck(path.parent),
    "_popcat/run.json": lambda path: read_run(path.parents[1]),
    "scheduler.json": lambda path: connect(str(path)).__enter__(),
    "survey.toml": load_survey,
}
NESTED = {".json": "[" * 100_000 + "]" * 100_000, ".toml": "a = " + "[" * 10_000 + "]" * 10_000}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("how", ["nested", "huge", "binary"])
def test_a_hostile_record_is_one_line(tmp_path, name, how):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if how == "nested":
        path.write_text(NESTED[path.suffix])
    elif how == "binary":
        path.write_bytes(bytes(range(256)) * 100)
    elif path.suffix == ".json":  # without a byte on the disk
        path.touch()
        os.truncate(path, 20 * MAX_RECORD_BYTES)
    else:
        pytest.skip("a survey file is read by its user")
    with pytest.raises(PopcatError) as caught:
        DOORS[name](path)
    assert len(str(caught.value).splitlines()) <= 2 and "Traceback" not in str(caught.value)


def test_a_hostile_record_of_an_export_is_one_line(tmp_path, galaxies, tiny_model):
    from popcat.inference.infer import infer

    infer(galaxies, tiny_model, output=tmp_path / "posteriors", draws=4, client="synchronous")
    (tmp_path / "out").mkdir()
    for text in (NESTED[".json"], "{}", "[1]", "\0"):
        (tmp_path / "out" / RECORD).write_text(text)
        with pytest.raises(PopcatError, match="is damaged"):
            export(tmp_path / "posteriors", tmp_path / "out", to="delta")
