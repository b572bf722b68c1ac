"""The vectorisable exp and log against numpy's."""

import numba
import numpy as np

from popcat.forward.quadrature import fast_exp, fast_log


@numba.njit
def all_of(x, out):
    for i in range(len(x)):
        out[i] = fast_exp(x[i])


def evaluate(x):
    out = np.empty(len(x))
    all_of(x, out)
    return out


def test_exp_is_good_to_a_part_in_a_trillion():
    x = np.random.default_rng(1).uniform(-699, 699, 10_000)
    np.testing.assert_allclose(evaluate(x), np.exp(x), rtol=1e-12)


def test_exp_is_good_near_zero():
    x = np.concatenate([[0.0], np.geomspace(1e-14, 1.0, 200), -np.geomspace(1e-14, 1.0, 200)])
    np.testing.assert_allclose(evaluate(x), np.exp(x), rtol=1e-12)


def test_exp_of_a_large_negative_number_is_next_to_nothing():
    out = evaluate(np.array([-700.0, -701.0, -1e4, -1e300]))
    assert np.all(out > 0)
    assert np.all(out < 1e-303)


@numba.njit
def all_logs_of(x, out):
    for i in range(len(x)):
        out[i] = fast_log(x[i])


def test_log_is_good_to_a_part_in_a_trillion():
    near_one = 1.0 + 0.3 * np.concatenate([[0.0], np.geomspace(1e-14, 1.0, 200), -np.geomspace(1e-14, 1.0, 200)])
    x = np.concatenate([np.exp(np.random.default_rng(1).uniform(-690, 690, 10_000)), near_one, [2.0, 0.5**0.5]])
    out = np.empty(len(x))
    all_logs_of(x, out)
    np.testing.assert_allclose(out, np.log(x), rtol=1e-12, atol=1e-16)
