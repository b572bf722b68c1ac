"""Which bands of a training galaxy are hidden, so that one model serves any subset of a survey's bands."""

import numpy as np

from popcat.settings import Survey

# A galaxy that misses bands misses each with a probability of its own, uniform up to the first number, and each
# instrument as a whole with the second: real catalogues lack a band here and there, or a whole survey.
_MAX_RATE, _INSTRUMENT_RATE = 0.8, 0.4


def instruments(survey: Survey) -> np.ndarray:
    """Number of each band's instrument, (n_band,): bands share one if their filters' names begin alike.

    >>> from popcat.settings import load_survey
    >>> instruments(load_survey("sdss")).tolist()
    [0, 0, 0, 0, 0]
    """
    groups = [band.filter.split("-")[0].split("_")[0] for band in survey.bands]
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups])


def random_masks(
    random: np.random.Generator, n: int, instrument: np.ndarray, complete_fraction: float
) -> np.ndarray:
    """Whether each band of n training galaxies is observed, (n, n_band) bool: at least one of each galaxy."""
    n_band, n_instrument = len(instrument), int(instrument.max()) + 1
    is_complete = random.uniform(size=n) < complete_fraction
    hidden = random.uniform(size=(n, n_band)) < random.uniform(0.0, _MAX_RATE, size=(n, 1))
    if n_instrument > 1:
        hidden |= (random.uniform(size=(n, n_instrument)) < _INSTRUMENT_RATE)[:, instrument]
    observed = ~hidden | is_complete[:, None]
    empty = np.flatnonzero(~observed.any(axis=1))
    observed[empty, random.integers(n_band, size=len(empty))] = True
    return observed
