"""Batches hold every pair at most once, whole batches only, from memory and from shards alike."""

import pytest
import torch

from popcat.flows.training import batches


def pairs(n, start=0):
    values = torch.arange(start, start + n, dtype=torch.float32)[:, None]
    return values, -values


def shards(sizes):
    start = 0
    for n in sizes:
        yield pairs(n, start)
        start += n


SIZES = {"one": [100], "several": [30, 41, 29], "smaller than a batch": [3, 2, 5, 90], "an empty one": [50, 0, 50]}


@pytest.mark.parametrize("sizes", SIZES)
def test_every_pair_comes_once_but_for_less_than_a_batch(sizes):
    given = list(batches(shards(SIZES[sizes]), 16, 0))
    theta = torch.cat([values for values, _ in given])[:, 0]
    assert [len(values) for values, _ in given] == [16] * 6
    assert len(theta.unique()) == 96 and theta.max() < 100
    assert all(torch.equal(context, -values) for values, context in given)


def test_memory_and_a_single_shard_give_the_same():
    for (a, _), (b, _) in zip(batches(pairs(50), 8, 3), batches(shards([50]), 8, 3), strict=True):
        assert torch.equal(a, b)


def test_the_order_is_random_and_the_seeds_own():
    first, again, other = (torch.cat([a for a, _ in batches(pairs(64), 8, seed)])[:, 0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other) and not torch.equal(first, first.sort().values)
    assert torch.equal(first.sort().values, other.sort().values)


def test_fewer_pairs_than_a_batch_are_one_batch():
    assert [len(theta) for theta, _ in batches(shards([2, 3]), 16, 0)] == [5]
    assert list(batches(shards([]), 16, 0)) == list(batches(shards([0]), 16, 0)) == []


def test_a_shard_is_read_only_when_it_is_needed():
    read = []

    def lazy():
        for i in range(3):
            read.append(i)
            yield pairs(16)

    next(batches(lazy(), 16, 0))
    assert read == [0]
