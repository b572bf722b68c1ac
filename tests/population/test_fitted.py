"""A saved population is whole or refused, and its draws are those of the flows that it says."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from popcat.errors import PopcatError
from popcat.population.fitted import load_population
from popcat.population.sampling import sample_population


@pytest.fixture
def copy(fitted, tmp_path):
    return shutil.copytree(fitted, tmp_path / "copy")


def test_weights_add_up_to_one_and_every_draw_has_its_member(fitted):
    population = load_population(fitted)
    _, member = population.draw(5000, 0)
    assert population.weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.bincount(member, minlength=2) / 5000, population.weights, atol=0.03)


def test_draws_lie_inside_the_prior(fitted):
    population = load_population(fitted)
    theta, redshift = population.space.arrays(population.draw(3000, 1)[0])
    assert population.space.prior.contains(theta).all()
    assert ((redshift >= 0.001) & (redshift <= 0.6)).all()


def test_the_same_seed_draws_the_same_galaxies_and_another_does_not(fitted):
    population = load_population(fitted)
    np.testing.assert_array_equal(population.draw(50, 3)[0], population.draw(50, 3)[0])
    assert not np.array_equal(population.draw(50, 3)[0], population.draw(50, 4)[0])


def test_the_density_is_normalised(fitted):
    population = load_population(fitted)
    x = np.random.default_rng(0).standard_normal((20_000, population.space.n_dim)).astype(np.float32)
    prior = -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * np.log(2 * np.pi)
    assert np.exp(population.log_density(x) - prior).mean() == pytest.approx(1.0, abs=0.25)


def test_samples_hold_parameters_properties_photometry_and_selection(fitted):
    frame = pd.read_parquet(fitted / "samples.parquet")
    assert len(frame) == 2000
    assert {"log_mstar_formed", "tau_ism", "log_mstar", "log_ssfr", "redshift", "flux_r", "flux_err_u"} < set(frame)
    bright = frame["flux_r"] > 10 ** (0.4 * (22.5 - 20.0))
    assert (bright == frame["selected"]).mean() > 0.999
    assert pq.read_schema(fitted / "samples.parquet").field("flux_r").metadata[b"unit"] == b"nMgy"


def test_where_the_data_lay_and_how_long_it_took_are_not_part_of_the_name_and_weights_are(copy, fitted):
    written = json.loads((copy / "population.json").read_text())
    written["provenance"]["source"] = "elsewhere.parquet"
    written["members"][0]["seconds"] += 1.0
    (copy / "population.json").write_text(json.dumps(written))
    assert load_population(copy).name == load_population(fitted).name
    written["members"][0]["weight"] *= 0.9
    (copy / "population.json").write_text(json.dumps(written))
    assert load_population(copy).name != load_population(fitted).name


def test_a_seed_may_be_large(fitted):
    assert len(sample_population(fitted, 20, seed=2**40)) == 20


def test_only_selected_galaxies_on_demand(fitted):
    assert sample_population(load_population(fitted), 500, selected=True)["selected"].all()


def test_the_folder_says_what_made_it(fitted):
    stored = json.loads((fitted / "population.json").read_text())
    assert stored["route"] == "wasserstein"
    assert stored["cuts"][0]["limit"] == 20.0
    assert stored["measured"]["floor"] > 0
    assert 0.0 < stored["measured"]["distance_over_floor_err"] < stored["measured"]["distance_over_floor"]
    assert stored["measured"]["features"]["names"] == ["u", "g", "r", "i", "z", "u-g", "g-r", "r-i", "i-z"]
    assert stored["measured"]["galaxies"] < 500  # one lacks u


def test_no_population_is_said(tmp_path):
    with pytest.raises(PopcatError, match="no population at"):
        load_population(tmp_path)


@pytest.mark.parametrize("name", ["flow-0.safetensors", "flow-1.safetensors"])
def test_a_damaged_or_missing_flow_is_refused(copy, name):
    (copy / name).write_bytes(b"x")
    with pytest.raises(PopcatError, match=name):
        load_population(copy)
    (copy / name).unlink()
    with pytest.raises(PopcatError, match=name):
        load_population(copy)


@pytest.mark.parametrize("content", ["", "{}", '{"format": 1}'])
def test_a_damaged_description_is_refused(copy, content):
    (copy / "population.json").write_text(content)
    with pytest.raises(PopcatError, match=r"population\.json is damaged"):
        load_population(copy)


def test_another_format_is_refused(copy):
    stored = json.loads((copy / "population.json").read_text())
    (copy / "population.json").write_text(json.dumps(stored | {"format": 99}))
    with pytest.raises(PopcatError, match="format 99"):
        load_population(copy)
