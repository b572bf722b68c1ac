"""Random numbers as a function of (seed, stream, object_id, index): Philox4x32-10 (Salmon et al. 2011), counter-based.

Neither the partitioning, nor a retry, nor the number of workers changes a number. `stream` keeps uses apart.
"""

import numba
import numpy as np

STREAM_PRIOR, STREAM_NOISE, STREAM_FLOW, STREAM_REDSHIFT, STREAM_MEMBER, STREAM_MASS = 1, 2, 3, 4, 5, 6
STREAM_TEMPLATE = 15

MULTIPLIERS, INCREMENTS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_M0, _M1 = map(np.uint64, MULTIPLIERS)
_W0, _W1 = map(np.uint64, INCREMENTS)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_12 = np.uint64(12)


@numba.njit(nogil=True, cache=True)
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32: four 32-bit words, each in a uint64."""
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = ((p1 >> _32) ^ c1 ^ k0) & _LOW, p1 & _LOW, ((p0 >> _32) ^ c3 ^ k1) & _LOW, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@numba.njit(nogil=True, cache=True)
def _to_unit(high, low):
    """A double in (0, 1) from 52 of 64 bits: 2^-53 to 1 - 2^-53. With 53 the largest would round to 1."""
    bits = ((high << _32) | low) >> _12
    return (np.float64(bits) + 0.5) * 2.0**-52


@numba.njit(nogil=True, cache=True)
def _fill(seed, stream, ids, out):
    k0, k1 = seed & _LOW, ((seed >> _32) ^ (stream * _W0)) & _LOW
    for i in range(out.shape[0]):
        c0, c1 = ids[i] & _LOW, ids[i] >> _32
        for j in range(0, out.shape[1], 2):
            a, b, c, d = philox4x32(c0, c1, np.uint64(j // 2), np.uint64(0), k0, k1)
            out[i, j] = _to_unit(a, b)
            if j + 1 < out.shape[1]:
                out[i, j + 1] = _to_unit(c, d)


def uniform(seed: int, stream: int, object_id: np.ndarray, n: int) -> np.ndarray:
    """Uniform numbers in the open interval (0, 1), (n_object, n) float64; column j depends on (seed, stream, id, j).

    >>> u = uniform(1, STREAM_PRIOR, np.array([7, 8]), 3)
    >>> bool(np.all(u[1] == uniform(1, STREAM_PRIOR, np.array([8]), 5)[0, :3]))
    True
    """
    ids = np.ascontiguousarray(object_id, dtype=np.int64).view(np.uint64)
    out = np.empty((len(ids), n))
    _fill(np.uint64(seed % 2**64), np.uint64(stream), ids, out)
    return out


def normal(seed: int, stream: int, object_id: np.ndarray, n: int) -> np.ndarray:
    """Standard normal numbers, (n_object, n) float64: the inverse CDF of `uniform`.

    >>> normal(1, STREAM_NOISE, np.array([7]), 2).shape
    (1, 2)
    """
    from scipy.special import ndtri

    return ndtri(uniform(seed, stream, object_id, n))
