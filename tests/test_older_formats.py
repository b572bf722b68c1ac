"""What an early popcat 0.1 wrote opens and works: docs/policies.md promises it, tests/data/older holds it.

A trained posterior of format 2 and the catalogue of twelve galaxies that was made with it, when both called a trained
posterior a model. The flow is a bad one, of a few hundred galaxies; everything else about it is real.
"""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import popcat

OLDER = Path(__file__).parent / "data" / "older"
MEDIANS = ["log_mstar_p50", "log_ssfr_p50", "tau_ism_p50"]


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The same galaxies, inferred today with the older posterior."""
    galaxies = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")[:12]
    folder = tmp_path_factory.mktemp("again") / "posteriors"
    return popcat.infer(galaxies, OLDER / "posterior", output=folder, draws=200, client="synchronous")


def test_the_files_are_of_the_oldest_format_that_is_read():
    stored = json.loads((OLDER / "posterior" / "posterior.json").read_text())
    assert stored["format"] == 2 and "model" in stored and "igm" not in stored["model"]
    assert "extra" in json.loads((OLDER / "posteriors" / "_popcat" / "manifest.json").read_text())


def test_the_posterior_opens_with_the_galaxy_model_of_its_time():
    posterior = popcat.load_posterior(OLDER / "posterior")
    assert posterior.survey.band_names == tuple("ugriz") and posterior.priors == ("flat",)
    assert (posterior.galaxy_model.igm, posterior.galaxy_model.remnants) == ("none", "none")
    assert not {"igm", "remnants"} & set(posterior.galaxy_model.model_dump())
    assert not posterior.draws_mass, "the mass is in the flow"


def test_the_posterior_gives_what_it_gave(again):
    then, now = popcat.open_catalog(OLDER / "posteriors").to_pandas(), again.to_pandas()
    assert then["object_id"].tolist() == now["object_id"].tolist()
    for name in MEDIANS:
        width = now[name.replace("p50", "p84")] - now[name.replace("p50", "p16")]
        # the median of ten draws is within 0.2 of a width of that of all, one sigma
        assert np.max(np.abs(then[name] - now[name]) / width) < 1.0, name


def test_the_catalogue_opens_verifies_and_answers(tmp_path):
    catalog = popcat.open_catalog(OLDER / "posteriors")
    assert len(catalog) == 12 and popcat.verify(OLDER / "posteriors").ok
    ids = catalog.to_pandas(["object_id"], where="status == 'ok'")["object_id"].tolist()
    draws = catalog.draws(ids[:2])
    assert len(draws) == 20 and draws["log_mstar"].between(5.0, 13.0).all()
    assert popcat.report(OLDER / "posteriors", tmp_path / "report.html").stat().st_size > 0


def test_the_catalogue_is_reweighted_and_exported(tmp_path):
    new = popcat.reweight(OLDER / "posteriors", lambda draws: -draws["tau_ism"], output=tmp_path / "new")
    assert len(new) == 12 and popcat.verify(tmp_path / "new").ok
    popcat.export(OLDER / "posteriors", tmp_path / "older.fits", to="fits")
    assert (tmp_path / "older.fits").stat().st_size > 0
