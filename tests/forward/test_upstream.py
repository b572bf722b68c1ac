"""What popcat uses of numba that is not public is named in one module, and still does what it is used for."""

import numba
import numpy as np
import pytest
from upstream import still_there, users_of

HOME = "popcat/forward/quadrature.py"


@pytest.fixture
def quadrature():
    with still_there("_nrt, or numba.cpython.unsafe.tuple.tuple_setitem", "numba", HOME):
        from popcat.forward import quadrature
    return quadrature


def total(arrays):
    value = 0.0
    for k in range(len(arrays)):
        value += arrays[k][0]
    return value


def test_parts_of_numba_are_named_in_one_module():
    assert users_of("_nrt") == {"forward/quadrature.py"}
    assert users_of("tuple_setitem", "numba.cpython.unsafe.tuple") == {"forward/quadrature.py"}
    assert users_of("numba.core", "numba.core.types", "numba.np.unsafe", "numba.core.cgutils") == set()


def test_a_kernel_counts_no_references(quadrature):
    arrays = (np.ones(2), np.ones(2))

    def counts(function):
        assert function(arrays) == 2.0
        return any("NRT_decref" in code for code in function.inspect_llvm().values())

    with still_there("the option _nrt", "numba", f"{HOME} (_OPTIONS)"):
        without = counts(numba.njit(**quadrature._OPTIONS)(total))
    assert counts(numba.njit(total))
    assert not without


def test_an_item_of_a_tuple_is_replaced_in_a_loop(quadrature):
    with_item = quadrature.with_item

    @numba.njit
    def squares(values):
        for k in range(len(values)):
            values = with_item(values, k, values[k] ** 2)
        return values

    with still_there("numba.cpython.unsafe.tuple.tuple_setitem", "numba", f"{HOME} (with_item)"):
        assert squares((1.0, 2.0, 3.0)) == (1.0, 4.0, 9.0)


def test_bits_of_numbers_are_read_and_written(quadrature):
    with still_there("intrinsics of llvmlite", "numba", f"{HOME} (_bits, _from_bits)"):
        assert quadrature.fast_exp(1.0) == pytest.approx(np.e, rel=1e-12)
        assert quadrature.fast_log(np.e) == pytest.approx(1.0, rel=1e-12)
