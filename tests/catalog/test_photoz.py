"""Photometric redshifts: points and densities of known distributions, scores of posteriors that are right and wrong."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

import popcat
from popcat.catalog.draws import encode
from popcat.catalog.photoz import crps, density, estimates, point_scores
from popcat.checks.ranks import ks_critical
from popcat.errors import PopcatError
from popcat.galaxies import id_of_name

GRID = np.linspace(0.0, 3.0, 301)


def mixture(peaks, n, k, seed=0):
    """Draws (n, k), inside 0 and 3, of Gaussians (weight, mean, standard deviation), and their density on GRID."""
    rng = np.random.default_rng(seed)
    weight, mean, width = np.array(peaks).T
    which = rng.choice(len(weight), p=weight, size=(n, k))
    draws = np.clip(mean[which] + width[which] * rng.standard_normal((n, k)), 0.0, 3.0)
    return draws, (weight * norm.pdf(GRID[:, None], mean, width)).sum(axis=1)


@pytest.fixture
def catalog(tmp_path):
    """A catalogue of n galaxies whose posteriors are Gaussian and right, and the true redshifts by identifier."""

    def build(n=2000, k=100, width=1.0, shift=0.0, named=False, given=0):
        rng = np.random.default_rng(3)
        sigma = 0.02 + 0.1 * rng.random(n)
        truth = rng.uniform(0.3, 2.0, n)
        centre = truth + sigma * rng.standard_normal(n)
        draws = centre[:, None] + shift + width * sigma[:, None] * rng.standard_normal((n, k))
        names = [f"G{i}" for i in range(n)]
        ids = np.array([id_of_name(name) for name in names]) if named else np.arange(n) * 3 + 1
        rows = np.flatnonzero(np.arange(n) % 10 != 9)  # every tenth has no posterior
        redshift = np.where(np.arange(n) < given, truth, np.nan)
        table = pa.table({"object_id": ids, "redshift": redshift, "flux_g": 10.0 ** rng.uniform(-1, 2, n),
                          "flux_r": np.where(np.arange(n) % 7, 10.0, -1.0),
                          "redshift_draws": encode(draws[rows], rows, n)})  # fmt: skip
        table = table.append_column("object_name", pa.array(names)) if named else table
        pq.write_table(table, tmp_path / "galaxies.parquet", row_group_size=500)
        return popcat.open_catalog(tmp_path / "galaxies.parquet"), pd.Series(truth, names if named else ids)

    return build


@pytest.mark.parametrize("k", [1, 3, 4, 100])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.05, 2.0])
def test_a_density_is_positive_and_integrates_to_one(k, spread):
    rng = np.random.default_rng(1)
    draws = np.clip(rng.uniform(0, 3, (20, 1)) + spread * rng.standard_normal((20, k)), 0.0, 3.0).astype(np.float32)
    found = density(draws, GRID)
    assert found.shape == (20, 301) and found.min() >= 0
    np.testing.assert_allclose(np.trapezoid(found, GRID, axis=1), 1.0, atol=1e-12)


def test_a_density_keeps_the_mean_of_the_draws():
    draws, _ = mixture([(1.0, 1.2, 0.1)], 50, 100)
    found = density(draws, GRID)
    np.testing.assert_allclose(np.trapezoid(found * GRID, GRID, axis=1), draws.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(("peaks", "most"), [
    ([(1.0, 1.0, 0.05)], 0.05),
    ([(0.8, 0.5, 0.05), (0.2, 2.3, 0.2)], 0.07),
    ([(0.5, 0.3, 0.04), (0.5, 2.5, 0.1)], 0.10),
    ([(0.34, 0.3, 0.04), (0.33, 1.2, 0.1), (0.33, 2.5, 0.1)], 0.20),
])  # fmt: skip
def test_densities_of_a_hundred_draws_are_near_the_true_one_also_with_several_peaks(peaks, most):
    draws, truth = mixture(peaks, 300, 100)
    error = np.trapezoid((density(draws, GRID) - truth) ** 2, GRID, axis=1).mean()
    assert error < most * np.trapezoid(truth**2, GRID)


@pytest.mark.parametrize(("k", "wider"), [(100, 0.04), (1000, 0.02)])
def test_smoothing_makes_a_gaussian_wider_by_as_much_as_the_docs_say(k, wider):
    draws, _ = mixture([(1.0, 1.5, 0.1)], 500, k)
    found = density(draws, GRID)
    mean = np.trapezoid(found * GRID, GRID, axis=1)
    spread = np.sqrt(np.trapezoid(found * (GRID - mean[:, None]) ** 2, GRID, axis=1))
    assert np.mean(spread / draws.std(axis=1)) - 1 == pytest.approx(wider, abs=0.005)


def test_points_and_odds_are_those_of_the_distribution():
    draws, _ = mixture([(0.8, 0.5, 0.04), (0.2, 2.3, 0.1)], 100, 2000)
    found = {name: values.mean() for name, values in estimates(draws, GRID).items()}
    assert found["redshift_mode"] == pytest.approx(0.5, abs=0.005)
    assert found["redshift_mean"] == pytest.approx(0.8 * 0.5 + 0.2 * 2.3, abs=0.01)
    assert found["redshift_p50"] == pytest.approx(norm.ppf(0.5 / 0.8, 0.5, 0.04), abs=0.003)
    inside = 0.8 * (2 * norm.cdf(0.06 * 1.5 / 0.04) - 1)
    assert found["redshift_odds"] == pytest.approx(inside, abs=0.005)


def test_a_mode_is_between_the_nodes_of_a_coarse_grid():
    draws, _ = mixture([(1.0, 1.033, 0.1)], 50, 5000)
    coarse = estimates(draws, np.linspace(0.0, 3.0, 61))["redshift_mode"]
    assert abs(coarse.mean() - 1.033) < 0.01


def test_the_crps_of_a_gaussian_is_its_closed_form_whatever_the_number_of_draws():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(20_000)
    # a standard normal forecast of a standard normal truth: E|X - Y| - E|X - X'| / 2 = 1 / sqrt(pi)
    for k in (2, 50):
        assert crps(rng.standard_normal((20_000, k)), truth).mean() == pytest.approx(np.pi**-0.5, abs=0.02)


def test_point_scores_are_their_definitions():
    truth = np.array([0.0, 1.0, 1.0, 3.0, 1.0])
    found = point_scores(truth + (1 + truth) * np.array([0.01, 0.02, 0.03, -0.2, 0.02]), truth)
    assert found == pytest.approx({"nmad": 1.4826 * 0.01, "bias": 0.02, "outlier_fraction": 0.2})


def test_a_catalogue_gives_a_row_for_each_galaxy_with_a_posterior(catalog):
    opened, truth = catalog(given=5)
    found = opened.photoz()
    frame = found.to_pandas()
    assert len(found) == len(frame) == 1800 and found.pdf().shape == (1800, 301)
    assert frame["redshift"].notna().sum() == 5 and "5 redshifts were given" in repr(found)
    assert set(frame) >= {f"redshift_{kind}" for kind in ("mean", "p16", "p50", "p84", "mode", "odds")}
    assert np.abs(frame["redshift_mode"] - truth[frame["object_id"]].to_numpy()).median() < 0.1
    some = opened.photoz("flux_g > 10", grid=np.linspace(0, 4, 41))
    bright = opened.to_pandas(["object_id"], "flux_g > 10")["object_id"]
    assert some.galaxies["object_id"].tolist() == bright[bright.isin(frame["object_id"])].tolist()
    assert some.pdf().shape == (len(some), 41)


@pytest.mark.parametrize("named", [False, True])
def test_posteriors_that_are_right_have_uniform_pit_and_the_scatter_of_their_width(catalog, named):
    opened, truth = catalog(named=named)
    found = opened.photoz().scores(truth).iloc[0]
    assert found["n"] == 1800 and found["pit_ks"] < ks_critical(1800)
    assert abs(found["bias"]) < 0.003 and 0.02 < found["nmad"] < 0.06 and found["outlier_015"] < 0.02


@pytest.mark.parametrize("change", [{"width": 0.4}, {"width": 2.5}, {"shift": 0.05}])
def test_pit_and_crps_find_posteriors_that_are_wrong(catalog, change):
    right = catalog()[0].photoz().scores(catalog()[1]).iloc[0]
    opened, truth = catalog(**change)
    wrong = opened.photoz().scores(truth).iloc[0]
    assert wrong["pit_ks"] > 2 * ks_critical(1800) and wrong["crps"] > right["crps"]


def test_scores_use_the_known_redshifts_of_a_part_and_leave_out_those_that_were_given(catalog):
    opened, truth = catalog(given=100)
    known = truth.iloc[::2].copy()
    known.iloc[[5, 60]] = np.nan  # the first one is of a redshift that was given
    assert opened.photoz().scores(known)["n"].item() == 1000 - 50 - 1
    with pytest.raises(PopcatError, match="none of these redshifts is of a galaxy whose redshift was inferred"):
        opened.photoz().scores({-5: 0.3})


def test_scores_come_in_bins_of_redshift_magnitude_and_colour(catalog):
    opened, truth = catalog()
    found = opened.photoz()
    by_redshift = found.scores(truth, by="true_redshift", bins=[0.3, 1.0, 2.0, 5.0])
    assert by_redshift["low"].tolist() == [0.3, 1.0] and by_redshift["n"].sum() == 1800
    magnitudes = found.scores(truth, by="22.5 - 2.5 * log10(flux_g)", bins=4)
    assert magnitudes["n"].tolist() == [450] * 4 and magnitudes["low"].is_monotonic_increasing
    colours = found.scores(truth, by="-2.5 * log10(flux_g / flux_r)", bins=2, point="redshift_mode")
    positive = opened.to_pandas(["object_id"], "flux_r > 0")["object_id"].isin(found.galaxies["object_id"]).sum()
    assert colours["n"].sum() == positive
    odds = found.scores(truth, by="redshift_odds", bins=3)
    assert odds["crps"].is_monotonic_decreasing and odds["nmad"].is_monotonic_decreasing


def test_what_does_not_work_is_said(catalog):
    opened, truth = catalog(n=50)
    with pytest.raises(PopcatError, match='no point estimate "median"; choices: redshift_p50'):
        opened.photoz().scores(truth, point="median")
    with pytest.raises(PopcatError, match='no column "flux_x"'):
        opened.photoz().scores(truth, by="flux_x")
    for grid in (2, [0.0, 1.0, 3.0], [0.0, 0.0, 0.0]):
        with pytest.raises(PopcatError, match="expected at least 3, ascending in equal steps"):
            opened.photoz(grid=grid)
