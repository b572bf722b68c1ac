"""Random numbers are Philox's own, and a function of (seed, stream, object_id, column) and of nothing else."""

import numpy as np
import pytest
from scipy.stats import kstest

from popcat import rng

# Known answers of Random123 (Salmon et al. 2011), philox4x32 with ten rounds: counter, key, output.
KNOWN = {
    "zeros": ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
}
EXTREME_IDS = np.array([0, -1, 1, 2**32, 2**32 + 1, -(2**63), 2**63 - 1])


def words(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize("case", KNOWN)
def test_philox_gives_the_known_answers(case):
    counter, key, output = KNOWN[case]
    assert list(rng.philox4x32(*words(counter), *words(key))) == words(output)


def test_a_column_is_two_words_of_one_philox_block():
    seed, stream, object_id = 0x0123456789ABCDEF, 3, 0xFEDCBA9876543
    key = (np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32 ^ (stream * 0x9E3779B9 & 0xFFFFFFFF)))
    counter = (np.uint64(object_id & 0xFFFFFFFF), np.uint64(object_id >> 32), np.uint64(1), np.uint64(0))
    a, b, c, d = (int(word) for word in rng.philox4x32(*counter, *key))
    expected = [((a << 32 | b) / 2**64), ((c << 32 | d) / 2**64)]
    got = rng.uniform(seed, stream, np.array([object_id]), 4)[0, 2:]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2.0**-52)


def test_numbers_do_not_depend_on_the_partition():
    ids = np.arange(-50, 50) * 10**15
    whole = rng.uniform(4, rng.STREAM_PRIOR, ids, 7)
    parts = [rng.uniform(4, rng.STREAM_PRIOR, part, 7) for part in np.array_split(ids, 9)]
    assert np.array_equal(np.vstack(parts), whole)


def test_numbers_do_not_depend_on_the_order():
    ids = np.arange(100)
    order = np.random.default_rng(0).permutation(100)
    shuffled = rng.uniform(4, rng.STREAM_PRIOR, ids[order], 5)
    assert np.array_equal(shuffled, rng.uniform(4, rng.STREAM_PRIOR, ids, 5)[order])


@pytest.mark.parametrize("n", range(7))
def test_numbers_do_not_depend_on_the_number_of_columns(n):
    ids = np.arange(10)
    assert np.array_equal(rng.uniform(4, 1, ids, n), rng.uniform(4, 1, ids, 8)[:, :n])


def test_no_bits_give_zero_or_one():
    zeros, ones = np.uint64(0), np.uint64(0xFFFFFFFF)
    assert rng._to_unit(zeros, zeros) == 2.0**-53
    assert rng._to_unit(ones, ones) == 1.0 - 2.0**-53


def test_uniform_numbers_are_uniform_in_every_column():
    u = rng.uniform(11, rng.STREAM_NOISE, np.arange(20_000), 4)
    assert u.min() > 0 and u.max() < 1
    assert min(kstest(column, "uniform").pvalue for column in u.T) > 1e-3


def test_normal_numbers_are_standard_normal_and_uncorrelated():
    x = rng.normal(11, rng.STREAM_NOISE, np.arange(20_000), 4)
    assert kstest(x.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(x.T), np.eye(4), atol=4 * np.sqrt(2 / 20_000))


def test_neighbouring_galaxies_are_uncorrelated():
    x = rng.normal(11, rng.STREAM_NOISE, np.arange(20_000), 2)
    assert abs(np.corrcoef(x[1:, 0], x[:-1, 0])[0, 1]) < 4 / np.sqrt(20_000)


def test_seeds_streams_and_ids_differ():
    seeds = (0, 1, 2, -1, 2**32, 2**63, 2**64 - 2)
    streams = (rng.STREAM_PRIOR, rng.STREAM_NOISE, rng.STREAM_FLOW)
    u = np.array([rng.uniform(seed, stream, EXTREME_IDS, 3) for seed in seeds for stream in streams])
    assert len(np.unique(u)) == len(seeds) * len(streams) * len(EXTREME_IDS) * 3


def test_a_seed_counts_modulo_two_to_the_64():
    assert np.array_equal(rng.uniform(-1, 1, np.arange(3), 2), rng.uniform(2**64 - 1, 1, np.arange(3), 2))


def test_read_only_and_strided_identifiers_give_the_same_numbers():
    ids = np.arange(20)
    ids.flags.writeable = False
    assert np.array_equal(rng.uniform(1, 1, ids[::2], 3), rng.uniform(1, 1, np.arange(0, 20, 2), 3))


def test_no_galaxies_give_no_numbers():
    assert rng.normal(1, 1, np.array([], dtype=np.int64), 3).shape == (0, 3)
