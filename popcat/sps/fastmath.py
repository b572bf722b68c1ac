"""How kernels are compiled, and an exp and a log that a compiler can vectorise: no branch, no table; good to 1e-12.

numba has no vector exp without Intel's SVML, and a scalar one costs more than the rest of a column of light. These cut
the number's own bits into a power of two and a rest near one, and expand the rest.
"""

from functools import partial

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

kernel = partial(numba.njit, nogil=True, cache=True, error_model="numpy", _nrt=False)
"""A kernel allocates nothing, so numba need not count references: in the tuples of arrays it would do so at every
access, which costs more than the arithmetic. Nor does a division look for zero, which keeps loops from vectorising.

What runs for every galaxy has inline="always": a call passes each number of each array of a named tuple on the stack,
some two hundred of them, which costs as much as what the function computes."""

_LOG2_E = float(1.0 / np.log(2.0))
# ln 2 in two parts, the first with few enough bits that a small integer times it is exact.
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding this to a float leaves the nearest integer in its low bits.
_ROUND = 1.5 * 2.0**52
_ROUND_BITS = int(np.float64(_ROUND).view(np.int64))
# Bits of 1 less those of sqrt(1/2): brings the rest into sqrt(1/2) to sqrt(2).
_CENTRE = (1023 << 52) - int(np.float64(np.sqrt(0.5)).view(np.int64))


@intrinsic
def _bits(typing_context, x):
    """The bits of a float64 as an int64."""
    return types.int64(types.float64), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def _from_bits(typing_context, x):
    """The float64 of an int64's bits."""
    return types.float64(types.int64), lambda _, builder, __, args: builder.bitcast(args[0], ir.DoubleType())


@kernel(inline="always")
def fast_exp(x):
    """exp(x); exp(-700) below -700, and of no use above 700."""
    x = max(x, -700.0)
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    # Taylor: |r| < 0.35
    p = 1.0 + r * (1.0 / 10.0) * (1.0 + r * (1.0 / 11.0))
    p = 1.0 + r * (1.0 / 8.0) * (1.0 + r * (1.0 / 9.0) * p)
    p = 1.0 + r * (1.0 / 6.0) * (1.0 + r * (1.0 / 7.0) * p)
    p = 1.0 + r * (1.0 / 4.0) * (1.0 + r * (1.0 / 5.0) * p)
    p = 1.0 + r * (1.0 + r * (1.0 / 2.0) * (1.0 + r * (1.0 / 3.0) * p))
    return _from_bits(_bits(p) + (_bits(shifted) << 52))


@kernel(inline="always")
def fast_log(x):
    """ln(x) of a positive, normal x."""
    bits = _bits(x)
    # few vector units turn 64-bit integers into floats, or shift them with their sign
    exponent = np.int64(np.uint64(bits + _CENTRE) >> np.uint64(52)) - 1023
    power = _from_bits(exponent + _ROUND_BITS) - _ROUND
    m = _from_bits(bits - (exponent << 52))
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    # 2 atanh(s): |s| < 0.172
    p = 1.0 / 9.0 + s2 * (1.0 / 11.0 + s2 * (1.0 / 13.0 + s2 * (1.0 / 15.0)))
    p = 1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 * (1.0 / 7.0 + s2 * p)))
    return power * (_LN_2_HIGH + _LN_2_LOW) + 2.0 * s * p
