"""Is a whole catalogue like the training set of a posterior? Its errors, colours, bands, best chi2 and redshifts.

Galaxy by galaxy a wrong unit may be possible; that all galaxies are off in the same way is not. A sample of the
catalogue is compared with simulated galaxies of the training set, which every posterior keeps (Support.reference), seen
through the same bands and with the same knowledge of the redshift:

- errors at given flux: the median of (ln error - mu) / s in each band, with mu, s of the posterior's noise model; and
  the factor on fluxes and errors that best restores the noise model. A constant factor shows because errors are not
  proportional to fluxes: those of faint galaxies are the background's.
- noise, colours, best chi2: the share of galaxies beyond the 5% tail of the simulated ones.
- each band given the others, the redshift given the photometry: the median rank among simulated galaxies, and of
  redshifts the share beyond either 5% tail, too: redshifts of other rows are right in the median.

A catalogue of real galaxies is never a draw from the prior, so a significance says nothing: with enough galaxies
everything is significant. The limits are sizes of effects, chosen so that real galaxies pass and faults do not
(benchmarks/training_check.py measures both). Everything is a function of the sample, which is a function of the
catalogue: partitions and workers change nothing.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.catalog.training_check import Measure, TrainingCheck
from popcat.checks.causes import KINDS, scaled, times, usual_cause
from popcat.checks.flags import known_redshift
from popcat.forward.noise import Noise
from popcat.galaxies import FLAGS, Observation, has_posterior, observation, observed
from popcat.posterior.posterior import Posterior
from popcat.survey import Survey

N_GALAXIES, MIN_GALAXIES = 500, 30
"""Galaxies of the sample at most, and those without which nothing is said, of a band too."""
N_DRAWS = 32
"""Posterior draws of each for the best chi2: of the sample and of the simulated galaxies alike."""
TAIL, MAX_SHARE = 0.05, 0.3
"""In a catalogue that fits at most this share of galaxies is beyond the 5% tail of the simulated ones."""
MAX_ERROR_SHIFT = 1.5
"""Largest median shift of ln(error) at given flux, in scatters of the noise model."""
FACTOR_RANGE, MIN_GAIN = (0.6, 1.6), 0.15
"""Factors on fluxes and errors of catalogues that fit, and the least gain for which one is believed (error_factor)."""
BAND_RANKS, REDSHIFT_RANKS = (0.08, 0.92), (0.1, 0.9)
"""Median ranks of a band given the others, and of the redshift given the photometry."""
ERRORS, NOISE = "errors at given flux", "noise"
REDSHIFT, EXCLUDED = "redshifts given the photometry", "redshifts that the photometry excludes"
_LN_FACTORS = np.linspace(-9.0, 9.0, 181)


def check_training(
    frame: pd.DataFrame, posterior: Posterior, location: str | Path, *, survey: Survey | None = None, seed: int = 0
) -> TrainingCheck | None:
    """Compare the galaxies of a photometry frame with a posterior's training set; None with fewer than MIN_GALAXIES.

    `location` is what the posterior is called, `survey` what the catalogue was read with, by default the posterior's.
    """
    data = sample_of(frame, posterior.survey, seed)
    if len(data) < MIN_GALAXIES:
        return None
    mocks = _mocks(posterior, data, seed)
    factor = error_factor(data, posterior.noise)
    measures = [*_errors(posterior, data, factor), *_ranked(posterior, data, mocks),
                _chi2(posterior, data, mocks, seed), *_redshifts(posterior, data, mocks)]  # fmt: skip
    check = TrainingCheck(posterior=str(location), galaxies=len(data), measures=measures)
    if check.fits:
        return check
    known = replace(data, redshift=known_redshift(data))
    cause = usual_cause(posterior, known, survey or posterior.survey, factor, _kinds(check))
    return check.model_copy(update={"cause": cause})


def _kinds(check: TrainingCheck) -> tuple[str, ...]:
    """Kinds of faults that may explain what does not fit: where only errors, or redshifts, are off, only theirs."""
    off = {one.what for one in check.measures if not one.fits}
    if off <= {ERRORS, NOISE}:
        return ("factor", "errors")
    return ("redshift",) if off <= {REDSHIFT, EXCLUDED} else KINDS


def sample_of(frame: pd.DataFrame, survey: Survey, seed: int) -> Observation:
    """At most N_GALAXIES of a photometry frame's galaxies that have a posterior and pass the quality cuts."""
    flags = frame["flags"].to_numpy()
    good = np.flatnonzero(has_posterior(flags) & (flags & FLAGS["quality_cut"] == 0))
    chosen = np.sort(np.random.default_rng(seed).permutation(good)[:N_GALAXIES])
    return observation(frame.iloc[chosen], survey)


def _mocks(posterior: Posterior, data: Observation, seed: int) -> Observation:
    """Simulated galaxies of the training set with the missing bands and the kind of redshift that the sample has."""
    flux, err, redshift = (values[:N_GALAXIES] for values in posterior.support.reference_photometry())
    of = np.arange(len(flux)) % len(data)
    seen = observed(data.flux, data.flux_err)[of]
    sigma = np.where(np.isnan(data.redshift), np.nan, data.redshift_err)[of]
    low, high = posterior.survey.redshift_range
    scattered = redshift + np.nan_to_num(sigma) * np.random.default_rng(seed).standard_normal(len(flux))
    return Observation(np.where(seen, flux, np.nan), np.where(seen, err, np.nan),
                       np.where(np.isnan(data.redshift)[of], np.nan, np.clip(scattered, low, high)), sigma,
                       np.arange(len(flux)))  # fmt: skip


def error_shifts(data: Observation, noise: Noise) -> np.ndarray:
    """(ln error - mu) / s at the observed flux, (n, n_band); NaN where a flux is not positive."""
    found = np.full(data.flux.shape, np.nan)
    seen = observed(data.flux, data.flux_err) & (data.flux > 0)
    for b, (nodes, middle, scatter) in enumerate(zip(*noise.tables(), strict=True)):
        rows = seen[:, b]
        ln_flux = np.log(data.flux[rows, b])
        # brighter than the catalogue of the noise model the error is a fraction of the flux, as in add_noise
        mu = np.interp(ln_flux, nodes, middle) + np.maximum(ln_flux - nodes[-1], 0.0)
        found[rows, b] = (np.log(data.flux_err[rows, b]) - mu) / np.interp(ln_flux, nodes, scatter)
    return found


def error_factor(data: Observation, noise: Noise) -> float:
    """The factor on fluxes and errors without which errors at given flux are the noise model's; 1 if none does better.

    It minimises the mean of ln(1 + shift^2 / 2) over the galaxies, summed over the bands: robust against odd galaxies.
    1 too where with the best factor the errors do not fit either: then it is no factor.
    """

    def shifts(ln_factor):
        return error_shifts(scaled(data, np.exp(-ln_factor)), noise)

    def loss(ln_factor):
        return sum(float(np.mean(np.log1p(0.5 * values**2))) for _, values in _per_band(noise.bands, shifts(ln_factor)))

    losses = [loss(value) for value in _LN_FACTORS]
    best = _LN_FACTORS[int(np.argmin(losses))]
    fits = all(abs(np.median(values)) < 0.5 * MAX_ERROR_SHIFT for _, values in _per_band(noise.bands, shifts(best)))
    return float(np.exp(best)) if fits and loss(0.0) - min(losses) > MIN_GAIN else 1.0


def _errors(posterior: Posterior, data: Observation, factor: float) -> list[Measure]:
    shifts, names = error_shifts(data, posterior.noise), posterior.survey.band_names
    found = [_measure(ERRORS, np.median(values), -MAX_ERROR_SHIFT, MAX_ERROR_SHIFT, band=name)
             for name, values in _per_band(names, shifts)]  # fmt: skip
    detail = f"as if fluxes and errors were {times(factor)}"
    return [*found, _measure(ERRORS, factor, *FACTOR_RANGE, detail=detail)]


def _ranked(posterior: Posterior, data: Observation, mocks: Observation) -> list[Measure]:
    """Noise, colours, and each band given the others, by their ranks among the simulated galaxies."""
    support, names = posterior.support, posterior.survey.band_names
    (noise, colours, bands), (mock_noise, mock_colours, mock_bands) = (
        (*support.tails(one.flux, one.flux_err, z), support.fainter(one.flux, one.flux_err, z))
        for one, z in ((data, known_redshift(data)), (mocks, known_redshift(mocks)))
    )
    found = [_measure(what, np.mean(_ranks(values, reference) < TAIL), high=MAX_SHARE) for what, values, reference in (
        (NOISE, noise, mock_noise), ("colours", colours, mock_colours))]  # fmt: skip
    ranks = np.column_stack([_ranks(bands[:, b], mock_bands[:, b]) for b in range(len(names))])
    # a band that few galaxies have is often one in which only bright ones were detected
    ranks[:, np.isnan(ranks).mean(axis=0) > 0.5] = np.nan
    for name, values in _per_band(names, ranks):
        rank = float(np.median(values))
        off = "too bright" if rank < BAND_RANKS[0] else "too faint" if rank > BAND_RANKS[1] else ""
        found.append(_measure("brightness given the other bands", rank, *BAND_RANKS, band=name,
                              detail=f"{name} {off}" if off else ""))  # fmt: skip
    return found


def _chi2(posterior: Posterior, data: Observation, mocks: Observation, seed: int) -> Measure:
    ours, theirs = (_best_chi2(posterior, one, seed) for one in (data, mocks))
    detail = f"median {np.median(ours):.1f}, of simulated galaxies {np.median(theirs):.1f}"
    return _measure("best chi2", np.mean(_ranks(ours, theirs) > 1.0 - TAIL), high=MAX_SHARE, detail=detail)


def _best_chi2(posterior: Posterior, data: Observation, seed: int) -> np.ndarray:
    return posterior.sample(data, N_DRAWS, seed).chi2.min(axis=1)


def _redshifts(posterior: Posterior, data: Observation, mocks: Observation) -> list[Measure]:
    """The redshifts that are given against those that the photometry alone says; chi2 cannot see them."""
    ours, theirs = (_redshift_cdf(posterior, one) for one in (data, mocks))
    values = _ranks(ours, theirs)
    values = values[~np.isnan(values)]
    if len(values) < MIN_GALAXIES:
        return []
    beyond = np.mean((values < TAIL) | (values > 1.0 - TAIL))
    return [_measure(REDSHIFT, np.median(values), *REDSHIFT_RANKS), _measure(EXCLUDED, beyond, high=MAX_SHARE)]


def _redshift_cdf(posterior: Posterior, data: Observation) -> np.ndarray:
    """Probability of a smaller redshift than the given one by q(z | photometry), (n,); NaN where none is given."""
    redshift = known_redshift(data)
    density = np.exp(posterior.redshift_nodes(data.flux, data.flux_err))
    steps = np.cumsum(0.5 * (density[:, 1:] + density[:, :-1]), axis=1)
    cdf = np.column_stack([np.zeros(len(steps)), steps]) / steps[:, -1:]
    low, high = posterior.survey.redshift_range
    nodes = np.linspace(low, high, cdf.shape[1])
    return np.array([np.interp(z, nodes, row) for z, row in zip(redshift, cdf, strict=True)])


def _ranks(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Middle rank of each value among those of a reference, in [0, 1]; NaN stays NaN."""
    known = np.sort(reference[~np.isnan(reference)])
    below, upto = (np.searchsorted(known, values, side=side) for side in ("left", "right"))
    return np.where(np.isnan(values) | (len(known) == 0), np.nan, 0.5 * (below + upto) / max(len(known), 1))


def _per_band(names, values):
    """Name and values of each band that enough galaxies have."""
    for b, name in enumerate(names):
        known = values[~np.isnan(values[:, b]), b]
        if len(known) >= MIN_GALAXIES:
            yield name, known


def _measure(what, value, low=None, high=None, *, band=None, detail="") -> Measure:
    return Measure(what=what, band=band, value=float(value), low=low, high=high, detail=detail)
