"""Random batches of an epoch, from memory or from shards that are read one after the other."""

from collections.abc import Callable, Iterator

import torch

Pairs = tuple[torch.Tensor, torch.Tensor]
"""theta (n, features) and context (n, n_context), float32."""
EpochData = Callable[[int], Pairs | Iterator[Pairs]]
"""Epoch number -> its training set, or shards of it; a function of the number alone, so that a run can be resumed."""


def batches(data: Pairs | Iterator[Pairs], batch: int, seed: int, device: str = "cpu") -> Iterator[Pairs]:
    """Batches of `batch` pairs, shuffled within each shard; what is left of a shard goes into the next.

    The last few pairs, less than a batch, are left out, unless they are all there is.

    >>> [len(theta) for theta, _ in batches((torch.zeros(7, 2), torch.zeros(7, 1)), 3, 0)]
    [3, 3]
    """
    generator, left, n_given = torch.Generator().manual_seed(seed), None, 0
    for theta, context in [data] if isinstance(data, tuple) else data:
        order = torch.randperm(len(theta), generator=generator)
        theta, context = theta.to(device), context.to(device)
        rows = order.to(device)
        if left is not None and len(left[0]):
            theta, context = torch.cat([left[0], theta[rows]]), torch.cat([left[1], context[rows]])
            rows = torch.arange(len(theta), device=device)
        n_whole = len(rows) // batch * batch
        for part in rows[:n_whole].split(batch) if n_whole else ():
            yield theta[part], context[part]
            n_given += 1
        left = theta[rows[n_whole:]], context[rows[n_whole:]]
    if left is not None and not n_given and len(left[0]):
        yield left
