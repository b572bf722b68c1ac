"""Learning rate and Adam's momentum over a training, as functions of its progress from 0 to 1."""

import math

_START, _END = 1 / 25, 1e-4 / 25
"""Learning rate at the start and the end of a cycle, as shares of the highest (as in torch's OneCycleLR)."""
_CYCLE_WARM_UP, _COSINE_WARM_UP = 0.1, 0.02
_MOMENTUM_HIGH, _MOMENTUM, _MOMENTUM_LOW = 0.95, 0.9, 0.85


def one_cycle(progress: float) -> tuple[float, float]:
    """Up over a tenth, then down; the momentum the other way (Smith 2018): (share of the highest rate, momentum).

    >>> one_cycle(0.1)
    (1.0, 0.85)
    """
    if progress < _CYCLE_WARM_UP:
        share = progress / _CYCLE_WARM_UP
        return _cosine(_START, 1.0, share), _cosine(_MOMENTUM_HIGH, _MOMENTUM_LOW, share)
    share = min((progress - _CYCLE_WARM_UP) / (1 - _CYCLE_WARM_UP), 1.0)
    return _cosine(1.0, _END, share), _cosine(_MOMENTUM_LOW, _MOMENTUM_HIGH, share)


def cosine(progress: float) -> tuple[float, float]:
    """A short straight warm-up, then half a cosine to zero."""
    if progress < _COSINE_WARM_UP:
        return progress / _COSINE_WARM_UP, _MOMENTUM
    return _cosine(1.0, 0.0, min((progress - _COSINE_WARM_UP) / (1 - _COSINE_WARM_UP), 1.0)), _MOMENTUM


def constant(progress: float) -> tuple[float, float]:
    """The same throughout, as the published recipe has it."""
    return 1.0, _MOMENTUM


SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "constant": constant}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
