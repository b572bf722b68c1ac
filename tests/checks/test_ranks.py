"""Ranks, KS distances and coverage against closed forms."""

import numpy as np
import pytest
from scipy.stats import kstest

from popcat.checks.ranks import (
    binned_coverage,
    coverage,
    ks_critical,
    summarise,
    tarp_ranks,
)
from popcat.ranks import ks_distance, ranks


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_the_rank_counts_draws_below_and_splits_ties():
    draws = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    assert ranks(np.array([2.5, 1.0]), draws).tolist() == [(2 + 0.5) / 4, (1.5 + 0.5) / 4]


def test_ranks_stay_inside_the_unit_interval_and_run_with_the_truth():
    draws = np.linspace(0, 1, 9)[None, :].repeat(2, axis=0)
    low, high = ranks(np.array([-1.0, 2.0]), draws)
    assert 0 < low < high < 1
    assert low == pytest.approx(1 - high)


def test_ranks_of_an_exact_posterior_are_uniform(rng):
    truth, draws = rng.standard_normal(2000), rng.standard_normal((2000, 400))
    assert ks_distance(ranks(truth, draws)) < ks_critical(2000)


@pytest.mark.parametrize(("scale", "sign"), [(0.5, -1), (2.0, 1)])
def test_too_narrow_draws_undercover_and_too_wide_ones_overcover(rng, scale, sign):
    values = ranks(rng.standard_normal(2000), scale * rng.standard_normal((2000, 400)))
    assert sign * (coverage(values) - 0.68) > 0.1


def test_a_biased_posterior_has_the_ks_distance_of_its_shift(rng):
    values = ranks(rng.standard_normal(20_000) + 0.5, rng.standard_normal((20_000, 300)))
    # sup |Phi(x) - Phi(x - 0.5)| = 2 Phi(0.25) - 1
    assert ks_distance(values) == pytest.approx(0.1974, abs=0.012)


def test_the_ks_distance_is_scipys(rng):
    values = rng.beta(1.2, 0.9, 300)
    assert ks_distance(values) == pytest.approx(kstest(values, "uniform").statistic, abs=1e-12)


def test_the_critical_values_are_those_of_the_ks_law():
    from scipy.stats import kstwobign

    assert ks_critical(1, level=0.05) == pytest.approx(1.358, abs=1e-3) == kstwobign.isf(0.05)
    assert ks_critical(1) == pytest.approx(1.628, abs=1e-3) == kstwobign.isf(0.01)


def test_the_summary_names_every_quantity(rng):
    result = summarise({"a": rng.uniform(size=100), "b": rng.uniform(size=100) ** 2})
    assert result["n"] == 100
    assert result["ks"]["b"] > result["ks"]["a"]
    assert set(result["coverage_68"]) == {"a", "b"}


def test_the_critical_distance_is_that_of_kolmogorov_and_grows_with_the_number_of_tests():
    assert ks_critical(2000) == pytest.approx(1.628 / np.sqrt(2000), rel=1e-3)
    assert ks_critical(2000, 48) > 1.2 * ks_critical(2000)


@pytest.mark.parametrize(("scale", "is_exact"), [(1.0, True), (0.7, False), (1.4, False)])
def test_tarp_ranks_are_uniform_for_the_exact_joint_posterior_alone(rng, scale, is_exact):
    n, k, d = 1500, 200, 4
    centre = rng.standard_normal((n, d))
    truth = centre + 0.3 * rng.standard_normal((n, d))
    draws = centre[:, None] + 0.3 * scale * rng.standard_normal((n, k, d))
    distance = ks_distance(tarp_ranks(truth, draws, 2.0 * rng.standard_normal((n, d))))
    assert (distance < ks_critical(n)) == is_exact


def test_coverage_in_bins_finds_where_a_posterior_is_too_narrow(rng):
    by = rng.uniform(size=6000)
    width = np.where(by < 1 / 3, 0.4, 1.0)
    values = ranks(rng.standard_normal(6000), width[:, None] * rng.standard_normal((6000, 200)))
    found = binned_coverage({"x": values}, by)
    assert [part["n"] for part in found] == pytest.approx([2000] * 3, abs=1)
    assert found[0]["coverage_68"]["x"] < 0.4
    assert found[1]["coverage_68"]["x"] == pytest.approx(0.68, abs=0.04)
    assert found[0]["high"] == pytest.approx(1 / 3, abs=0.03)
