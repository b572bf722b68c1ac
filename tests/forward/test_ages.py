"""Time bins as published, and bin averages against brute force."""

import numpy as np
import pytest

from popcat.forward.histories import point_weights, row_weights, time_bins

AGES = np.array([1e-4, 1e-3, 0.02, 0.3, 2.0, 9.0, 13.0])
LIGHT = np.array([5.0, 9.0, 3.0, 1.0, 0.4, 0.1, 0.07])


def light_at(t):
    """Linear in ln t between grid ages, constant outside."""
    return np.interp(np.log(t), np.log(AGES), LIGHT)


def brute_average(low, high):
    edges = np.union1d(np.linspace(low, high, 40001), AGES[(low < AGES) & (high > AGES)])
    mid = 0.5 * (edges[1:] + edges[:-1])
    return np.sum(light_at(mid) * np.diff(edges)) / (high - low)


def test_published_edges_are_zero_and_41_steps_of_a_tenth_dex():
    edges = time_bins("midpoint", 0.01).edges_gyr
    assert edges[0] == 0
    np.testing.assert_allclose(edges[1:42], 10.0 ** (6.05 + 0.1 * np.arange(41)) / 1e9)
    assert len(edges) == 43
    assert edges[-1] > 13.9


@pytest.mark.parametrize(("age", "n_edges"), [(0.1, 44), (0.01, 44), (0.0, 43)])
def test_averaged_bins_have_an_edge_at_the_birth_clouds_age(age, n_edges):
    bins = time_bins("average", age)
    assert len(bins.edges_gyr) == n_edges
    assert bins.edges_gyr[bins.n_young] == age


@pytest.mark.parametrize("age", [0.1, 0.01])
def test_midpoint_bins_are_young_when_their_midpoint_is(age):
    bins = time_bins("midpoint", age)
    np.testing.assert_array_equal(np.flatnonzero(bins.mid_gyr < age), np.arange(bins.n_young))


@pytest.mark.parametrize(("low", "high"), [(0.0, 5e-5), (0.0, 5e-4), (0.0, 0.5), (0.01, 0.4), (1.0, 1.2), (0.3, 2.0),
                                           (8.0, 14.5), (13.2, 14.5), (1.0, 1.001)])  # fmt: skip
def test_averages_are_the_integral_of_the_interpolated_light(low, high):
    weights = row_weights(time_bins("average", 0.1), AGES, [low], [high])
    assert (weights @ LIGHT)[0] == pytest.approx(brute_average(low, high), rel=2e-6)


@pytest.mark.parametrize("binning", ["average", "midpoint"])
def test_weights_of_a_row_sum_to_one(binning, model):
    bins = time_bins(binning, 0.1)
    weights = row_weights(bins, model.grid.age_gyr, bins.edges_gyr[:-1], bins.edges_gyr[1:])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-10)


def test_midpoint_rows_are_the_light_at_the_midpoint():
    weights = row_weights(time_bins("midpoint", 0.1), AGES, [0.1, 1.0], [0.3, 5.0])
    np.testing.assert_allclose(weights @ LIGHT, light_at(np.array([0.2, 3.0])))


def test_a_bin_of_no_width_is_a_point():
    weights = row_weights(time_bins("average", 0.1), AGES, [0.7], [0.7])
    np.testing.assert_allclose(weights, point_weights(AGES, 0.7))


def test_a_narrow_bin_tends_to_a_point():
    weights = row_weights(time_bins("average", 0.1), AGES, [0.7], [0.7 + 1e-6])
    np.testing.assert_allclose(weights, point_weights(AGES, 0.7), atol=1e-5)


def test_averages_of_neighbours_add_up():
    bins = time_bins("average", 0.1)
    whole = row_weights(bins, AGES, [0.2], [0.9])
    parts = row_weights(bins, AGES, [0.2, 0.5], [0.5, 0.9])
    np.testing.assert_allclose(whole * 0.7, parts[:1] * 0.3 + parts[1:] * 0.4, atol=1e-12)


def test_points_are_linear_in_the_logarithm_and_constant_outside():
    t = np.array([1e-6, 1e-4, 0.005, 0.3, 11.0, 13.0, 20.0])
    np.testing.assert_allclose(point_weights(AGES, t) @ LIGHT, light_at(t), rtol=1e-12)
