"""Laws of the distances: they agree with other codes, and know weights, shifts and scales."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from popcat.errors import PopcatError
from popcat.population.distance import (
    Quantiles,
    Scaling,
    directions,
    fit_scaling,
    interpolate_levels,
    sampling_floor,
    sinkhorn,
    sliced_distance,
)


def normals(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_in_one_dimension_the_distance_is_scipys():
    x, y = normals(4000, 1, 0), 0.5 * normals(3000, 1, 1) + 0.3
    found = Quantiles(y, torch.eye(1)).distance(x, torch.ones(4000)).item()
    assert found == pytest.approx(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()), abs=2e-3)


def test_weights_count_galaxies():
    x, y = normals(3000, 1, 0), normals(3000, 1, 1)
    weight = torch.sigmoid(4 * x[:, 0])
    found = Quantiles(y, torch.eye(1)).distance(x, weight).item()
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy(), u_weights=weight.numpy())
    assert found == pytest.approx(expected, abs=2e-3)


def test_a_weight_of_zero_is_no_galaxy():
    x, y = normals(500, 3, 0), normals(500, 3, 1)
    both = torch.cat([x, normals(100, 3, 2) + 50.0])
    weight = torch.cat([torch.ones(500), torch.zeros(100)])
    made = Quantiles(y, directions(3, 10, 0))
    assert made.distance(both, weight).item() == pytest.approx(made.distance(x, torch.ones(500)).item(), abs=1e-6)


def test_a_shift_along_an_axis_moves_the_distance_by_its_projections():
    y = normals(5000, 2, 0)
    pool = directions(2, 200, 1)
    shift = torch.tensor([0.7, 0.0])
    found = Quantiles(y, pool).distance(y + shift, torch.ones(5000)).item()
    assert found == pytest.approx((pool @ shift).abs().mean().item(), rel=5e-3)


def test_the_second_power_is_the_squared_shift():
    y = normals(5000, 1, 0)
    found = Quantiles(y, torch.eye(1)).distance(y + 0.5, torch.ones(5000), power=2).item()
    assert found == pytest.approx(0.25, rel=0.01)


def test_the_sliced_distance_is_the_mean_of_scipys_over_directions():
    x, y = normals(900, 3, 0), 0.9 * normals(700, 3, 1) + 0.1
    expected = np.mean([wasserstein_distance((x @ one).numpy(), (y @ one).numpy()) for one in directions(3, 20, 4)])
    assert sliced_distance(x, y, n_random=20, seed=4) == pytest.approx(expected, rel=1e-5)


def test_one_far_galaxy_counts_as_one():
    x, y = normals(10_000, 1, 0), normals(10_000, 1, 1)
    y[0] = 40.0
    expected = wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert sliced_distance(x, y) == pytest.approx(expected, rel=1e-4)
    assert Quantiles(y, torch.eye(1)).distance(x, torch.ones(len(x))).item() == pytest.approx(expected, rel=0.02)


def test_the_gradient_moves_galaxies_and_weights_towards_the_data():
    y = normals(2000, 1, 0)
    x = (normals(500, 1, 1) + 1.0).requires_grad_()
    weight = torch.ones(500, requires_grad=True)
    Quantiles(y, torch.eye(1)).distance(x, weight).backward()
    assert (x.grad > 0).float().mean() > 0.9
    high = x.detach()[:, 0] > 1.5
    assert weight.grad[high].mean() > weight.grad[~high].mean()


def test_directions_are_unit_vectors_that_begin_with_the_axes():
    pool = directions(4, 20, 3)
    torch.testing.assert_close(pool[:4], torch.eye(4))
    torch.testing.assert_close(pool.norm(dim=1), torch.ones(24))


def test_quantile_functions_are_linear_between_levels():
    values = torch.tensor([[0.0, 1.0, 4.0]])
    torch.testing.assert_close(interpolate_levels(values, torch.tensor([[0.25, 0.75]])), torch.tensor([[0.5, 2.5]]))


def test_the_floor_falls_with_the_square_root_of_the_number():
    small = np.mean([sampling_floor(normals(500, 2, i), n_random=30) for i in range(4)])
    large = np.mean([sampling_floor(normals(8000, 2, i), n_random=30) for i in range(4)])
    assert small / large == pytest.approx(4.0, rel=0.35)


def test_the_floor_is_what_another_sample_of_the_same_population_has():
    data = normals(4000, 3, 0)
    assert sliced_distance(normals(2000, 3, 5), data[:2000]) == pytest.approx(sampling_floor(data), rel=0.5)


def test_features_have_unit_spread_and_survive_their_dictionary():
    random = np.random.default_rng(0)
    flux, err = np.exp(random.normal(3, 1, (2000, 3))), np.full((2000, 3), 0.5)
    scaling = fit_scaling(flux, err, random.uniform(0.1, 0.4, 2000))
    features = Scaling.from_dict(scaling.to_dict(("g", "r", "i")))(torch.tensor(flux), torch.full((2000,), 0.25))
    low, middle, high = np.percentile(features.numpy()[:, :5], [16, 50, 84], axis=0)
    np.testing.assert_allclose((high - low) / 2, 1.0, atol=1e-3)
    np.testing.assert_allclose(middle, 0.0, atol=1e-3)
    assert scaling.names(("g", "r", "i")) == ["g", "r", "i", "g-r", "r-i", "redshift"]


def test_negative_fluxes_have_finite_features():
    scaling = fit_scaling(np.ones((100, 2)) * np.arange(1, 101)[:, None], np.ones((100, 2)))
    assert torch.isfinite(scaling(torch.tensor([[-5.0, 0.0]], dtype=torch.float64))).all()


def test_nothing_to_compare_with_is_said():
    with pytest.raises(PopcatError, match="no galaxy is left"):
        Quantiles(torch.empty(0, 2), directions(2, 3, 0))


def test_the_sinkhorn_divergence_of_a_translation_is_its_length():
    y = normals(300, 2, 0)
    shift = torch.tensor([3.0, 4.0])
    found = sinkhorn(y + shift, y, torch.ones(300), blur=0.01, power=1).item()
    assert found == pytest.approx(5.0, rel=0.02)


def test_the_sinkhorn_divergence_of_a_set_from_itself_is_zero():
    y = normals(200, 2, 0)
    assert sinkhorn(y, y, torch.ones(200), blur=0.05).item() == pytest.approx(0.0, abs=1e-5)
