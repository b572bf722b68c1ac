"""How many galaxies are simulated, and how large a flow is trained on them for how long, in a time that is given.

    seconds = n (simulate / cores + epochs train) + calibrate + infer

For a few hundred galaxies a flow is not worth its training: proposals are then fitted to each galaxy
(popcat.posterior.from_prior). The rates are measured on this machine with a few galaxies. The sizes that come of it are
written down, and decide the posteriors; the clock does not.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from popcat.checks.certify import certify
from popcat.flows.settings import Training
from popcat.flows.training import seconds_per_pair
from popcat.forward.noise import Noise
from popcat.galaxies import observation
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.features import n_features
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.simulated import simulate_partition
from popcat.prior import BOTH, FLAT, make_prior
from popcat.survey import Survey

FLOWS: tuple[tuple[int, dict[str, Any]], ...] = (
    (0, {"n_blocks": 4, "hidden": 64, "redshift_hidden": 64, "redshift_bins": 96}),
    (60_000, {"n_blocks": 6, "hidden": 96, "redshift_hidden": 96, "redshift_bins": 128}),
    (250_000, {"n_blocks": 8, "hidden": 128, "redshift_hidden": 160}),
)
"""Settings of flows, and the least number of simulated galaxies that each is trained on."""
FLOW: Literal["flow"] = "flow"
FITTED: Literal["fitted"] = "fitted"
AUTO = "auto"
PROPOSALS = (AUTO, FLOW, FITTED)
"""What proposes draws: a flow that is trained, mixtures that are fitted to each galaxy, or what is done first."""
REFERENCE = 4000
"""Simulated galaxies that stand for a training set where no flow is trained: they tell unusual galaxies."""
_SMALL = 40_000
"""Simulated galaxies of a flow that is soon trained."""
_EPOCHS, _MOST_EPOCHS = 16, 60
_LEAST, _MOST = 20_000, 2_000_000
"""Simulated galaxies."""
_PER_EPOCH = 1.5
"""Time of an epoch over that of its gradient steps: noise, features and validation are made anew."""
_REDSHIFT = 0.5
"""Time of the density of redshift, for as many epochs, over that of the flow."""
_CERTIFY_S = (0.15, 0.05, 0.02)
"""Of one core for a certified galaxy, by flow: the smaller, the more proposals a galaxy needs. About."""
_MISFITS = 1.5
"""Seconds of a real galaxy over those of a simulated one: the band that disagrees takes another fit."""
_REPORT_S, _START_S = 15.0, 12.0
"""Of the page, and of the workers and the reading: about."""
_MOCKS, _MOCK_DRAWS, _MOCK_S = 500, 200, 0.012
"""Mocks of each run of the calibration, draws for each, and seconds of one core for a mock in all runs."""
_BATCH = 512
_WARM, _MEASURED, _FITS = 200, 1000, 6


@dataclass(frozen=True)
class Rates:
    """Measured: seconds of one core to simulate a galaxy, of all to train one galaxy for an epoch, by flow, and of one
    core to fit proposals to a galaxy and correct them."""

    simulate_s: float
    train_s: tuple[float, ...]
    fitted_s: float


NOMINAL = Rates(4e-4, (2e-5, 4e-5, 6e-5), 0.5)
"""Of one core of 2023, for what need not be measured."""


@dataclass(frozen=True)
class Sizes:
    """What decides the posteriors: simulated galaxies, the training, mocks and draws of the calibration; of PROPOSALS
    the one that was chosen."""

    library: int
    training: Training
    proposals: Literal["flow", "fitted"] = FLOW
    mock_draws: int = _MOCK_DRAWS

    @property
    def mocks(self) -> int:
        """Of each run of the calibration: fewer for a small training."""
        return min(max(self.library // 40, 100), _MOCKS)


def measure(survey: Survey, galaxy_model: GalaxyModel, noise: Noise, prior: str, *, has_free: bool) -> Rates:
    """A few seconds of simulation, of training and of fits; what is compiled and tabulated once is not counted."""
    made = survey, galaxy_model, noise, 2**20, prior
    simulate_partition(0, _WARM, *made)
    n = 20 * _MEASURED if prior == FLAT else _MEASURED
    began = time.perf_counter()
    frame = simulate_partition(2**20, 2**20 + n, *made)
    simulate_s, drawn = (time.perf_counter() - began) / n, make_prior(galaxy_model)
    shape = {"features": drawn.n_unconstrained - drawn.mass_is_linear,
             "context": n_features(survey) + (prior == BOTH)}  # fmt: skip
    trained = (seconds_per_pair(Training(**settings, batch=_BATCH), **shape) for _, settings in FLOWS)
    fitted_s = float("inf")
    if prior != BOTH:
        redshift = np.nan if has_free else frame["redshift"]
        data = observation(frame.assign(redshift=redshift, redshift_err=np.nan), survey)
        posterior = prior_posterior(survey, galaxy_model, prior=prior, noise=noise)
        certify(posterior, data[:1], _WARM, 0)
        began = time.perf_counter()
        certify(posterior, data[1 : 1 + _FITS], _WARM, 0)
        fitted_s = (time.perf_counter() - began) / _FITS
    return Rates(simulate_s, tuple(trained), fitted_s)


def planned_s(sizes: Sizes, rates: Rates, n: int, cores: int) -> dict[str, float]:
    """Seconds that each step is expected to take for n galaxies."""
    if sizes.proposals == FITTED:
        return {"simulate": sizes.library * rates.simulate_s / cores + _START_S / 2, "train": 1.0, "calibrate": 0.0,
                "infer": n * _MISFITS * rates.fitted_s / cores + _START_S / 2,
                "report": _REPORT_S}  # fmt: skip
    flow = _flow_of(sizes.library)
    epochs = sizes.training.max_epochs + _REDSHIFT * sizes.training.redshift_epochs
    return {
        "simulate": sizes.library * rates.simulate_s / cores + _START_S / 2,
        "train": sizes.library * rates.train_s[flow] * _PER_EPOCH * epochs,
        "calibrate": _calibrate_s(cores), "infer": _infer_s(flow, n, cores), "report": _REPORT_S,
    }  # fmt: skip


def choose_sizes(
    rates: Rates, n: int, seconds: float, cores: int, *, has_free: bool, seed: int, proposals: str = AUTO
) -> Sizes:
    """The sizes that `seconds` pay for, for a catalogue of n galaxies.

    has_free : whether redshifts are inferred; else the density of redshift is made in one pass. proposals : one of
    PROPOSALS.

    >>> rates = Rates(4e-4, (1e-5, 2e-5, 4e-5), 0.5)
    >>> few, many = (choose_sizes(rates, 2000, s, 2, has_free=True, seed=0) for s in (60.0, 600.0))
    >>> few.library < many.library, few.training.hidden, many.training.hidden
    (True, 64, 128)
    >>> choose_sizes(rates, 50, 600.0, 2, has_free=True, seed=0).proposals
    'fitted'
    """
    small = Sizes(_SMALL, training_for(_SMALL, has_free=has_free, seed=seed))
    fitted = Sizes(REFERENCE, small.training, proposals=FITTED)
    first, second = (sum(planned_s(one, rates, n, cores).values()) for one in (fitted, small))
    if proposals == FITTED or (proposals == AUTO and first < second):
        return fitted
    share = _REDSHIFT if has_free else 0.0

    def left(flow: int) -> float:
        others = _calibrate_s(cores) + _infer_s(flow, n, cores) + _REPORT_S + _START_S
        return max(seconds - others, 0.25 * seconds)

    def affordable(flow: int, epochs: int) -> float:
        return left(flow) / (rates.simulate_s / cores + rates.train_s[flow] * _PER_EPOCH * epochs * (1.0 + share))

    flow = max((i for i, (least, _) in enumerate(FLOWS) if affordable(i, _EPOCHS) >= least), default=0)
    library = float(np.clip(affordable(flow, _EPOCHS), max(FLOWS[flow][0], _LEAST), _MOST))
    pays = left(flow) - library * rates.simulate_s / cores
    epochs = pays / max(library * rates.train_s[flow] * _PER_EPOCH * (1.0 + share), 1e-9)
    epochs = int(np.clip(round(epochs), _EPOCHS, _MOST_EPOCHS))
    return Sizes(_rounded(library), training_for(_rounded(library), epochs, has_free=has_free, seed=seed))


def training_for(library: int, epochs: int = _EPOCHS, *, has_free: bool = True, seed: int = 0) -> Training:
    """The training for so many simulated galaxies.

    >>> training_for(10_000).hidden, training_for(10_000, has_free=False).redshift_epochs
    (64, 1)
    """
    _, settings = FLOWS[_flow_of(library)]
    return Training(**settings, batch=_BATCH, max_epochs=epochs, redshift_epochs=epochs if has_free else 1, seed=seed)


def _flow_of(library: int) -> int:
    return max(i for i, (least, _) in enumerate(FLOWS) if library >= least)


def _calibrate_s(cores: int) -> float:
    return _MOCKS * _MOCK_S / cores + _START_S / 2


def _infer_s(flow: int, n: int, cores: int) -> float:
    return n * _CERTIFY_S[flow] / cores + _START_S / 2


def _rounded(n: float) -> int:
    """To two digits, and in thousands.

    >>> _rounded(123456.0)
    120000
    """
    step = max(10 ** (int(np.log10(n)) - 1), 1000)
    return int(n // step * step)
