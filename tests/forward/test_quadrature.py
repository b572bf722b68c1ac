"""Quadrature: Gauss nodes against numpy's, product integration against polynomials and closed forms."""

import numba
import numpy as np
import pytest

from popcat.forward import quadrature
from popcat.forward.dust import diffuse_curve, power_law_curve
from popcat.forward.filters import make_curve
from popcat.forward.quadrature import gauss_nodes, hat_weights, lagrange_basis, make_segments, sum_eight

EDGES = np.linspace(-1.0, 3.0, 20001)
X, DX = 0.5 * (EDGES[1:] + EDGES[:-1]), np.diff(EDGES)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_gauss_nodes_of_a_uniform_weight_are_legendre_nodes(n):
    expected = 1.0 + 2.0 * np.polynomial.legendre.leggauss(n)[0]
    np.testing.assert_allclose(gauss_nodes(X, DX, n), expected, atol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 7])
def test_gauss_nodes_integrate_twice_the_degree(n):
    """With weights int w l_k, a polynomial of degree 2 n - 1 is exact."""
    weight = DX * np.exp(-X)
    nodes = gauss_nodes(X, weight, n)
    at_nodes = lagrange_basis(nodes, X) @ weight
    for degree in range(2 * n):
        assert at_nodes @ nodes**degree == pytest.approx(weight @ X**degree, rel=1e-9, abs=1e-9)


def test_the_lagrange_basis_is_one_at_its_node_and_zero_at_the_others():
    nodes = np.array([-0.5, 0.1, 1.4, 2.0])
    np.testing.assert_allclose(lagrange_basis(nodes, nodes), np.eye(4), atol=1e-14)
    np.testing.assert_allclose(lagrange_basis(nodes, X).sum(axis=0), 1.0, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_product_integration_is_exact_for_polynomial_attenuation_whatever_the_light(degree):
    rng = np.random.default_rng(1)
    light = rng.random(len(X))
    nodes = gauss_nodes(X, DX, 4)
    columns = lagrange_basis(nodes, X) @ (DX * light)
    assert columns @ nodes**degree == pytest.approx(np.sum(DX * light * X**degree), rel=1e-10)


@pytest.mark.parametrize("redshift", [0.0, 0.4])
def test_hat_weights_integrate_piecewise_linear_light(redshift):
    wave = np.array([900.0, 1000.0, 1300.0, 2500.0, 4000.0])
    light = np.array([1.0, 5.0, 2.0, 2.5, 0.3])
    observed = np.linspace(1500.0, 3400.0, 500)
    columns = np.stack([np.ones(500), observed])
    expected = columns @ np.interp(observed / (1 + redshift), wave, light)
    np.testing.assert_allclose(light @ hat_weights(wave, observed, columns, redshift), expected, rtol=1e-12)


def test_segments_follow_the_curve_and_carry_its_weight():
    wave = np.concatenate([np.linspace(4000, 5000, 101), np.linspace(8000, 8400, 41)])
    curve = make_curve("leaky", wave, np.ones(142))
    flat = (np.array([1000.0, 20000.0]), np.ones((1, 2)))
    blue, red = make_segments(curve, flat, (0.01, 0.5), 1e-3)
    assert blue.weight.sum() == pytest.approx((5000**2 - 4000**2) / 2, rel=1e-5)
    assert red.weight.sum() == pytest.approx((8400**2 - 8000**2) / 2, rel=1e-5)
    for segment in (blue, red):
        assert segment.wave_aa[0] < segment.nodes_aa.min() < segment.nodes_aa.max() < segment.wave_aa[-1]


def test_a_tighter_tolerance_takes_more_nodes():
    curve = make_curve("hat", np.linspace(3500, 5500, 201), np.ones(201))
    flat = (np.array([1000.0, 20000.0]), np.ones((1, 2)))
    counts = [len(make_segments(curve, flat, (0.01, 0.5), tol)[0].nodes_aa) for tol in (1e-1, 1e-3, 1e-5)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_no_nodes_are_spent_on_light_that_does_not_come_through(monkeypatch):
    curve = make_curve("hat", np.linspace(1400, 2400, 201), np.ones(201))
    flat = (np.array([1000.0, 20000.0]), np.ones((1, 2)))

    def number():
        return len(make_segments(curve, flat, (0.01, 0.02), 2e-4)[0].nodes_aa)

    some = number()
    monkeypatch.setattr(quadrature, "DARK", 0.0)
    assert some < number()


@pytest.mark.parametrize("redshift", [0.01, 0.3, 0.6])
def test_dust_between_the_cases_is_as_good_as_the_cases(redshift):
    curve = make_curve("hat", np.linspace(3000, 4200, 201), 1.0 - np.linspace(-1, 1, 201) ** 2)
    light = (np.geomspace(1000.0, 20000.0, 50), np.linspace(2.0, 1.0, 50)[None])
    (segment,) = make_segments(curve, light, (0.01, 0.6), 2e-4)
    rng = np.random.default_rng(3)
    rest, at_nodes = segment.wave_aa / (1 + redshift), segment.nodes_aa / (1 + redshift)
    seen = segment.weight * np.interp(rest, light[0], light[1][0])
    for tau_ism, n_dust, tau_bc in zip(*rng.uniform([0, -2, 0], [3, 1, 3], (300, 3)).T, strict=True):
        exact, interpolated = (np.exp(-tau_ism * diffuse_curve(w, n_dust) - tau_bc * power_law_curve(w, -1.0))
                               for w in (rest, at_nodes))  # fmt: skip
        if seen @ exact > 1e-9 * seen.sum():
            assert (seen @ segment.basis.T) @ interpolated == pytest.approx(seen @ exact, rel=1e-3)


@numba.njit
def summed(targets, weights, low, high, a, b, at, stride):
    sum_eight(targets, np.uint64(2), weights, np.uint64(low), np.uint64(high), a, b, np.uint64(at), np.uint64(stride),
              targets.dtype.type(0.25), targets.dtype.type(0.75))  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 5), (3, 4), (2, 2)])
def test_eights_are_summed_as_numpy_does(kind, low, high):
    rng = np.random.default_rng(5)
    weights, a, b = (rng.normal(size=shape).astype(kind) for shape in ((2, 6), (200,), (200,)))
    targets, between = np.ones((2, 12), kind), 0.25 * a + 0.75 * b
    summed(targets, weights, low, high, a, b, 7, 16)
    parts = [weights[:, [r]] * between[7 + 16 * (r - low) : 15 + 16 * (r - low)] for r in range(low, high)]
    np.testing.assert_allclose(targets[:, 2:10], sum(parts, np.zeros((2, 8))), rtol=1e-5, atol=1e-6)
    assert np.all(targets[:, :2] == 1.0) and np.all(targets[:, 10:] == 1.0)
