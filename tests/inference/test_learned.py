"""What is learned beyond the prior, in the manifest, the columns' metadata, single galaxies, and infer's last words."""

import json

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.catalog.prior_draws import read_prior
from popcat.columns import quantity_fields
from popcat.errors import PopcatError
from popcat.inference.learned import N_PRIOR, prior_of
from popcat.run.client import SYNCHRONOUS
from popcat.units import nmgy_to_ab_mag

RUN = {"draws": 100, "prior": "flat", "client": SYNCHRONOUS}


@pytest.fixture(scope="module")
def written(galaxies, tmp_path_factory):
    return popcat.infer(galaxies, "sdss", output=tmp_path_factory.mktemp("learned") / "out", **RUN)


def test_ugriz_say_masses_and_not_the_steps_of_the_history(written):
    found = written.manifest.learned
    assert found.prior == "flat" and found.bands == list("ugriz") and found.galaxies == 150
    assert {"beta2", "beta3", "beta4", "f_burst"} <= set(found.little)
    assert found.quantities["log_mstar"].ratio < 0.3 and found.quantities["log_mstar"].nats > 1.0
    assert found.quantities["beta3"].ratio == pytest.approx(1.0, abs=0.15)
    assert "redshift" not in found.quantities  # it is given
    assert "prior-dominated" in repr(written)


def test_the_columns_say_it_too(written):
    described = written.describe()["learned"]
    quantities = written.manifest.learned.quantities
    assert described["beta3_draws"] == described["beta3_p50"] == quantities["beta3"].line
    assert described["beta3_p50"].startswith("prior-dominated") and "prior-dominated" not in described["log_mstar_p16"]
    assert described["redshift_p50"] == described["ra"] == ""


def test_a_galaxy_says_the_same_as_its_catalogue_in_the_median(written):
    frame = written.learned(written.to_pandas(["object_id"])["object_id"], ["log_mstar", "beta3", "redshift"])
    assert len(frame) == 3 * 150 and frame["quantity"].tolist()[:3] == ["log_mstar", "beta3", "redshift"]
    of = {name: part for name, part in frame.groupby("quantity")}
    for name in ("log_mstar", "beta3"):
        gain = written.manifest.learned.quantities[name]
        assert of[name]["nats"].median() == pytest.approx(gain.nats, abs=0.01)
        assert of[name]["ratio"].median() == pytest.approx(gain.ratio, abs=0.01)
    assert of["redshift"][["ratio", "nats"]].isna().all(axis=None) and not of["redshift"]["stays_prior"].any()
    assert not of["log_mstar"]["stays_prior"].any() and of["beta3"]["stays_prior"].mean() > 0.8


def test_a_redshift_that_is_hidden_is_learned(galaxies, tmp_path):
    found = popcat.infer(galaxies, "sdss", output=tmp_path / "out", hide_redshift=True, **RUN).manifest.learned
    assert found.quantities["redshift"].nats > 0.5 and found.quantities["redshift"].ratio < 0.5


def test_the_priors_draws_pass_the_selection_and_are_kept(written):
    posterior = popcat.load_posterior("sdss").under("flat")
    prior, kept = prior_of(posterior), read_prior(written.path)
    assert set(kept.values) == set(quantity_fields(posterior.survey, posterior.galaxy_model))
    for name, values in prior.values.items():
        assert len(values) == N_PRIOR and np.array_equal(values, kept.values[name])
    assert (np.diff(kept.values["redshift"]) >= 0.0).all()
    theta = np.column_stack([kept.values[name] for name in posterior.prior.names]).astype(float)
    flux = posterior.forward.photometry.flux(theta, kept.values["redshift"].astype(float))
    selection = posterior.survey.selection
    mag = nmgy_to_ab_mag(flux[:, posterior.survey.band_names.index(selection.band)])
    assert (mag < selection.faint_mag + 0.2).mean() > 0.85  # noise brings some of the many faint ones in


def test_every_way_in_says_the_same_and_a_rerun_keeps_it(galaxies, tiny_model, tmp_path):
    run = {"draws": 12, "client": SYNCHRONOUS}
    first = popcat.infer(galaxies, tiny_model, output=tmp_path / "0", **run)
    other = popcat.infer(pd.read_parquet(galaxies), tiny_model, output=tmp_path / "1", rows_per_partition=40, **run)
    assert first.manifest.learned == other.manifest.learned
    assert popcat.infer(galaxies, tiny_model, output=tmp_path / "0", **run).manifest.learned == first.manifest.learned
    assert popcat.verify(tmp_path / "1").ok


def test_a_catalogue_of_before_and_a_reweighted_one_say_nothing(written, tmp_path):
    def dusty(draws):
        return 0.1 * draws["tau_ism"]

    other = popcat.reweight(written.path, dusty, output=tmp_path / "out")
    assert other.manifest.learned is None and "learned" not in other.describe()
    assert written.manifest.learned is not None
    with pytest.raises(PopcatError, match="keeps no draws of its prior: it was reweighted, or"):
        other.learned(other.to_pandas(["object_id"])["object_id"][:1])


def test_the_draws_of_the_prior_are_not_trusted(written, tmp_path):
    import shutil

    folder = shutil.copytree(written.path, tmp_path / "copy")
    (folder / "_popcat" / "prior.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PopcatError, match=r"prior.parquet, it is damaged"):
        popcat.open_catalog(folder).learned([1])
    pd.DataFrame({"x": ["a"]}).to_parquet(folder / "_popcat" / "prior.parquet")
    with pytest.raises(PopcatError, match=r"prior.parquet is damaged: expected draws"):
        read_prior(folder)


def test_infer_ends_with_it(galaxies, tiny_model, tmp_path):
    from typer.testing import CliRunner

    from popcat.cli import app

    arguments = ["infer", str(galaxies), "--posterior", str(tiny_model), "-o", str(tmp_path / "out"), "--draws", "4",
                 "--client", "synchronous", "--json"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "ugriz measure little" in result.stderr.splitlines()[-1]
    found = json.loads(result.stdout)["learned"]
    assert found["prior"] == "flat" and set(found["quantities"]["beta1"]) == {"ratio", "nats"}
