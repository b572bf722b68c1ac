"""The prior's map from standard normal numbers to parameters, with gradients, and random numbers: torch on any device.

Twins of popcat.prior and popcat.rng.
"""

import numpy as np
import torch
from torch import Tensor

from popcat.distributions import NORMAL, Law
from popcat.forward.torch_sfh import between
from popcat.prior import Prior
from popcat.rng import INCREMENTS, MULTIPLIERS
from popcat.simplex import WEIGHTS, Ratios, Stick, log_odds


def parameters_of(prior: Prior, w: Tensor) -> Tensor:
    """theta (n, n_parameter) of unconstrained w (n, d), differentiable, in w's type: `prior.from_unconstrained`."""
    column: dict[str, Tensor] = {}
    for name, where in prior.blocks():
        if name == WEIGHTS:
            column |= dict(zip(prior.weights.names, _weights(prior, w[:, where]), strict=True))
        else:
            column[name] = law_value(prior.laws[name], w[:, where.start])
    column |= {name: torch.full_like(w[:, 0], value) for name, value in prior.fixed.items()}
    column |= {name: tie.factor * column[tie.to] + tie.offset for name, tie in prior.tied.items()}
    return torch.stack([column[name] for name in prior.names], 1)


def _weights(prior: Prior, w: Tensor) -> list[Tensor]:
    """SFH weights on the simplex: by their ratios, or by fractions of a stick.

    Where a fraction is Beta(1, b), (1 - u)^(1 / b) of the stick is left after it.
    """
    weights = prior.weights
    if isinstance(weights, Ratios):
        steps = torch.cumsum(torch.stack([law_value(weights.law, column) for column in w.T], 1), 1)
        log_weight = torch.cat([torch.zeros_like(w[:, :1]), -steps], 1) * float(np.log(10.0))
        return list(torch.softmax(log_weight, 1).T)
    assert isinstance(weights, Stick)  # a history without weights has no block of them
    left, columns = torch.ones_like(w[:, 0]), []
    for i, (a, b) in enumerate(zip(weights.a, weights.b, strict=True)):
        if a == 1.0:
            ln_after = torch.special.log_ndtr(-w[:, i]) / b
        else:
            ln_after = torch.nn.functional.logsigmoid(-between(w[:, i], NORMAL, log_odds(a, b)))
        columns.append(left * -torch.expm1(ln_after))
        left = left * torch.exp(ln_after)
    return [*columns, left]


def law_value(law: Law, w: Tensor) -> Tensor:
    """Values of a parameter at standard normal numbers w (n,): `law.from_unit`, differentiable."""
    if law.is_uniform:
        return law.low + (law.high - law.low) * torch.special.ndtr(w)
    return between(w, *law.quantiles)


_LOW = 0xFFFFFFFF


def uniform(seed: int, stream: int, object_id: Tensor, n: int) -> Tensor:
    """`popcat.rng.uniform` on the device of object_id (n_object,) int64: the same numbers, (n_object, n) float64.

    >>> from popcat import rng
    >>> found = uniform(7, 3, torch.tensor([5, -1]), 5)
    >>> bool((found.numpy() == rng.uniform(7, 3, np.array([5, -1]), 5)).all())
    True
    """
    key = (seed % 2**64) & _LOW, ((seed % 2**64) >> 32) ^ ((stream * INCREMENTS[0]) & _LOW)
    pair = torch.arange((n + 1) // 2, device=object_id.device)
    # words of 32 bits in integers of 64: a product that overflows keeps its bits
    words = [object_id[:, None] & _LOW, (object_id[:, None] >> 32) & _LOW, pair, torch.zeros_like(pair)]
    words = [word.expand(len(object_id), len(pair)) for word in words]
    for _ in range(10):
        p, q = MULTIPLIERS[0] * words[0], MULTIPLIERS[1] * words[2]
        words = [((q >> 32) & _LOW) ^ words[1] ^ key[0], q & _LOW, ((p >> 32) & _LOW) ^ words[3] ^ key[1], p & _LOW]
        key = (key[0] + INCREMENTS[0]) & _LOW, (key[1] + INCREMENTS[1]) & _LOW
    bits = torch.stack([(words[0] << 20) | (words[1] >> 12), (words[2] << 20) | (words[3] >> 12)], 2)
    return ((bits.double() + 0.5) * 2.0**-52).flatten(1)[:, :n]


def normal(seed: int, stream: int, object_id: Tensor, n: int) -> Tensor:
    """`popcat.rng.normal` on the device of object_id (n_object,): (n_object, n) float64."""
    return torch.special.ndtri(uniform(seed, stream, object_id, n))
