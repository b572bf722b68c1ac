"""The best chi2 that a posterior's own mocks reach, for the limit of the flag high_chi2 (popcat.catalog.chi2_limits).

Mocks of the prior and the noise, fresh as those of the calibration, lose bands at random until as many are left as are
asked for. They are sampled with the redshift given and without. The best of the first k of a mock's draws is what k
draws of a catalogue have; importance sampling looks at proposals of the same flow, so that k is the number of these.
"""

import numpy as np
import pandas as pd

from popcat import rng
from popcat.catalog.chi2_limits import Chi2Limits
from popcat.errors import PopcatError
from popcat.galaxies import MIN_BANDS, SUPPORT_TAIL, Observation, observation
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.run.runner import How, run, values_of

N_MOCKS, MIN_MOCKS = 4000, 1000
"""Mocks for each number of bands, and those without which there is no tail to measure."""
DRAWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of draws whose best chi2 is measured; `--certify` begins with the last."""
_BLOCK = 500
_SECONDS_PER_DRAW = 1e-5
_STREAM_HIDDEN = 70


def measure_limits(posterior: Posterior, where: str, n: int, seed: int, how: How) -> Chi2Limits | None:
    """Limits of the best chi2 from n mocks for each number of bands; None with fewer than MIN_MOCKS.

    `where` is what workers find the posterior by. None too for a survey of fewer than MIN_BANDS bands.
    """
    numbers = _numbers_of_bands(posterior, n)
    if not numbers:
        return None
    mocks = draw_mocks(posterior, n, seed)
    cells = [(n_bands, is_known) for n_bands in numbers for is_known in (True, False)]
    parts = [mocks.iloc[start : start + _BLOCK] for start in range(0, n, _BLOCK)]
    jobs = [(where, posterior.name, posterior.prior_name, part, *cell, seed) for cell in cells for part in parts]
    seconds = expected_s(posterior, n)
    outcomes = run(_best_of_block, dict(enumerate(jobs)), verb="best chi2 of mocks", how=how,
                   sizes=[len(part) for part in parts] * len(cells), unit="mocks", noun="block",
                   seconds=seconds)  # fmt: skip
    best = np.concatenate(values_of(outcomes, "block")).reshape(len(numbers), 2, n, len(DRAWS))
    limits = np.quantile(best, 1.0 - SUPPORT_TAIL, axis=2).round(3)
    return Chi2Limits(mocks=n, tail=SUPPORT_TAIL, draws=list(DRAWS), known=limits[:, 0].tolist(),
                      unknown=limits[:, 1].tolist())  # fmt: skip


def expected_s(posterior: Posterior, n: int) -> float:
    """Seconds of one core that the measurement takes, about."""
    return _SECONDS_PER_DRAW * DRAWS[-1] * n * 2 * len(_numbers_of_bands(posterior, n))


def _numbers_of_bands(posterior: Posterior, n: int) -> range:
    """Those that are measured, with n mocks each."""
    return range(0) if n < MIN_MOCKS else range(MIN_BANDS, len(posterior.survey.bands) + 1)


def _best_of_block(
    where: str, name: str, prior: str, mocks: pd.DataFrame, n_bands: int, is_known: bool, seed: int
) -> np.ndarray:
    """Best chi2 of the first k draws of each mock, (n, len(DRAWS)); a task."""
    posterior = load_posterior(where).under(prior)
    if posterior.name != name:
        raise PopcatError(f"posterior {where} changed during the calibration: give the same command again")
    chi2 = posterior.sample(as_seen(mocks, posterior, n_bands, is_known, seed), DRAWS[-1], seed).chi2
    return np.minimum.accumulate(chi2, axis=1)[:, np.array(DRAWS) - 1]


def as_seen(mocks: pd.DataFrame, posterior: Posterior, n_bands: int, is_known: bool, seed: int) -> Observation:
    """Mocks of a library frame with `n_bands` random bands each, and with their redshift or without."""
    data = observation(mocks.assign(redshift_err=np.nan), posterior.survey)
    u = rng.uniform(seed, _STREAM_HIDDEN, data.object_id, data.flux.shape[1])
    hidden = np.argsort(np.argsort(u, axis=1), axis=1) >= n_bands
    redshift = data.redshift if is_known else np.full(len(data), np.nan)
    return Observation(np.where(hidden, np.nan, data.flux), data.flux_err, redshift, data.redshift_err, data.object_id)
