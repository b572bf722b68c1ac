"""A fitted population as the prior of single galaxies."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.inference.reweight import reweight
from popcat.population.fitted import population_prior
from popcat.population.synthesis import log_standard_normal
from popcat.run.client import SYNCHRONOUS


@pytest.fixture(scope="module")
def prior(fitted):
    from popcat.galaxy_model import GalaxyModel
    from popcat.prior import make_prior

    return population_prior(fitted, make_prior(GalaxyModel()), (0.001, 0.6))


def draws_of(prior, n=200, k=4):
    space = prior.population.space
    x = np.random.default_rng(0).standard_normal((n * k, space.n_dim)).astype(np.float32)
    theta, redshift = space.arrays(x)
    draws = {name: theta[:, i].reshape(n, k) for i, name in enumerate(space.prior.names)}
    return x, draws | {"redshift": redshift.reshape(n, k)}


def test_the_ratio_is_that_of_the_densities(prior):
    x, draws = draws_of(prior)
    found = prior.log_ratio(draws, np.ones(200, dtype=bool))
    expected = prior.population.log_density(x) - log_standard_normal(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found.ravel(), expected, atol=2e-3)


def test_with_the_redshift_given_its_own_density_is_divided_out(prior):
    _, draws = draws_of(prior)
    free = prior.log_ratio(draws, np.ones(200, dtype=bool))
    given = prior.log_ratio(draws, np.zeros(200, dtype=bool))
    middle, ratio = prior._redshift_ratio
    density = np.exp(ratio - 0.5 * middle**2) / np.sqrt(2 * np.pi)
    assert np.trapezoid(density, middle) == pytest.approx(1.0, abs=0.02)
    assert not np.allclose(free, given)


def test_workers_get_it_by_its_folder(prior):
    copy = pickle.loads(pickle.dumps(prior))
    _, draws = draws_of(prior, 5)
    free = np.ones(5, dtype=bool)
    np.testing.assert_array_equal(copy.log_ratio(draws, free), prior.log_ratio(draws, free))


def test_a_population_of_another_range_is_refused(fitted):
    from popcat.galaxy_model import GalaxyModel
    from popcat.prior import make_prior

    with pytest.raises(PopcatError, match="outside there are no draws"):
        population_prior(fitted, make_prior(GalaxyModel()), (0.001, 1.5))
    with pytest.raises(PopcatError, match="another range"):
        population_prior(fitted, make_prior(GalaxyModel(log_mstar_formed=(9.0, 12.5))), (0.001, 0.6))
    with pytest.raises(PopcatError, match="another galaxy model"):
        population_prior(fitted, make_prior(GalaxyModel(metallicity="constant")), (0.001, 0.6))


def test_a_catalogue_shrinks_towards_the_population(fitted, galaxies, tiny_model, tmp_path):
    infer(galaxies, tiny_model, output=tmp_path / "flat", draws=60, hide_redshift=True, client=SYNCHRONOUS,
          rows_per_partition=200)  # fmt: skip
    shrunk = reweight(tmp_path / "flat", fitted, output=tmp_path / "shrunk", client=SYNCHRONOUS)
    before, after = (pd.read_parquet(tmp_path / name / "part-000000.parquet") for name in ("flat", "shrunk"))
    assert shrunk.require_manifest().prior.startswith("population ")
    assert list(before["object_id"]) == list(after["object_id"])
    assert (after["ess"] <= 60.001).all()
    assert after["ess"].median() < 60
    prior = population_prior(fitted, *_training(tiny_model))
    means = []
    for frame in (before, after):
        draws = {name: np.stack(frame[f"{name}_draws"]) for name in (*prior.population.space.prior.names, "redshift")}
        means.append(prior.log_ratio(draws, np.ones(len(frame), dtype=bool)).mean())
    assert means[1] > means[0]


def _training(model):
    from popcat.posterior.posterior import load_posterior

    posterior = load_posterior(model)
    return posterior.prior, posterior.survey.redshift_range


def test_a_posterior_catalogue_is_fitted_by_the_hierarchical_route(galaxies, tiny_model, quick, tmp_path):
    from popcat.population.fit import fit_population

    infer(galaxies, tiny_model, output=tmp_path / "flat", draws=16, hide_redshift=True, client=SYNCHRONOUS)
    with pytest.raises(PopcatError, match="expected at least 200"):
        fit_population(tmp_path / "flat", tmp_path / "few", settings=quick, client=SYNCHRONOUS)
    with pytest.raises(PopcatError, match=r"0 of .* galaxies are left"):
        fit_population(tmp_path / "flat", tmp_path / "none", settings=quick, client=SYNCHRONOUS, cuts=["r<5"])


def test_two_catalogues_worth_of_posteriors_make_a_population(galaxies, tiny_model, quick, tmp_path, monkeypatch):
    from popcat.population.fit import fit_population

    monkeypatch.setattr("popcat.population.jobs._FEWEST", 100)
    faint_last = tmp_path / "faint_last.parquet"
    pd.read_parquet(galaxies).sort_values("modelflux_r", ascending=False).to_parquet(faint_last)
    infer(faint_last, tiny_model, output=tmp_path / "flat", draws=16, hide_redshift=True, client=SYNCHRONOUS,
          rows_per_partition=20)  # fmt: skip
    last = pd.read_parquet(tmp_path / "flat" / "part-000007.parquet", columns=["flux_r"])
    limit = 22.5 - 2.5 * np.log10(last["flux_r"].max()) - 0.001  # nothing of that part is left
    settings = quick.model_copy(update={"second_start": None})
    population = fit_population(tmp_path / "flat", tmp_path / "made", settings=settings, client=SYNCHRONOUS,
                                samples=100, cuts=[f"r<{limit:.4f}"])  # fmt: skip
    assert population.description.route == "hierarchical"
    assert population.weights.sum() == pytest.approx(1.0)
    measured = population.description.measured
    assert (measured["start"], measured["second"]["start"]) == ("wide", "flat")
    assert all(row["between_fits"] > 0.0 for row in measured["quantities"])
    assert len(pd.read_parquet(tmp_path / "made" / "samples.parquet")) == 100
