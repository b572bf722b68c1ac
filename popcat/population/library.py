"""The library of a start: galaxies of its prior, as many of each flux as the data have.

Where cuts end the data, noise has brought fainter galaxies in, the more of them the larger it is at the cut: the
library goes on beyond, with the prior's own counts.
"""

import numpy as np
import torch

from popcat.errors import PopcatError
from popcat.population.settings import PopulationSettings
from popcat.population.start_prior import PHYSICAL, sample_start
from popcat.population.synthesis import Synthesis
from popcat.population.wasserstein import Galaxies

_BATCH = 200_000
_MAX_BATCHES = 40
_HOPELESS = 4
_BINS = 40
SHARE = 0.9
"""Of `max_hidden`, beyond the cuts: a flow that learns the library has some more there, and should not pay for it."""
_BEYOND = 1.0
"""In ln flux, past the faintest: where noise brings galaxies in from."""


def sample_library(synthesis: Synthesis, galaxies: Galaxies, settings: PopulationSettings) -> torch.Tensor:
    """Galaxies (n, d) of the start's prior with the data's distribution of the middle band's flux.

    Raises PopcatError if hardly any galaxy of the prior is like those of the catalogue.
    """
    random = np.random.default_rng((settings.seed, 41))
    band = synthesis.n_band // 2
    parts, found = [], 0.0
    for _ in range(_MAX_BATCHES):
        parts.append(_candidates(synthesis, settings, galaxies, band, random))
        log_weight = np.concatenate([weight for _, weight in parts])
        weight = np.exp(log_weight - log_weight.max(initial=-np.inf))
        found = weight.sum() ** 2 / (weight**2).sum() if len(weight) else 0.0
        if found >= settings.library or (len(parts) >= _HOPELESS and found < 1.0):
            break
    if found < 500:
        raise PopcatError(f"the start's prior ({settings.start_prior or PHYSICAL}) has hardly any galaxy like those of "
                          f"the catalogue ({found:.0f} effective ones): check its units and cuts")  # fmt: skip
    rows = random.choice(len(weight), size=settings.library, p=weight / weight.sum())
    return torch.from_numpy(np.concatenate([x for x, _ in parts])[rows])


def _candidates(synthesis: Synthesis, settings, galaxies: Galaxies, band: int, random):
    """x and ln weights of one batch of the prior; flux of the middle band as in the data."""
    photometry = synthesis.photometry
    name = settings.start_prior or PHYSICAL
    theta, redshift, log_weight = sample_start(name, _BATCH, synthesis.space, photometry, random)
    flux = photometry.flux(theta, redshift)[:, band]
    data = np.log(np.maximum(galaxies.flux[:, band], 1e-3))
    edges, wanted = _data_fluxes(data, beyond=synthesis.cuts.end_faint)
    place = np.searchsorted(edges, np.log(np.maximum(flux, 1e-30))) - 1
    inside = (place >= 0) & (place < len(wanted))
    theta, redshift, log_weight, place = theta[inside], redshift[inside], log_weight[inside], place[inside]
    if not inside.any():
        return np.empty((0, synthesis.space.n_dim), dtype=np.float32), np.empty(0)
    there = np.bincount(place, weights=np.exp(log_weight - log_weight.max()), minlength=len(wanted))
    wanted = _wanted_fluxes(wanted, there, SHARE * settings.max_hidden)
    log_weight = log_weight - log_weight.max() + np.log(np.maximum(wanted, 1e-300) / np.maximum(there, 1e-300))[place]
    kept = log_weight > log_weight.max() - 12.0
    return synthesis.space.unconstrained(theta[kept], redshift[kept]), log_weight[kept]


def _data_fluxes(data: np.ndarray, *, beyond: bool) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins in ln flux, and how many galaxies of the data are in each: NaN `beyond` the faintest."""
    edges = np.linspace(*np.percentile(data, [0.05, 99.95]), _BINS + 1)
    found = np.histogram(data, edges)[0] + 0.5
    if not beyond:
        return edges, found
    step = edges[1] - edges[0]
    fainter = edges[0] - step * np.arange(int(np.ceil(_BEYOND / step)), 0, -1)
    return np.concatenate([fainter, edges]), np.concatenate([np.full(len(fainter), np.nan), found])


def _wanted_fluxes(found: np.ndarray, there: np.ndarray, max_hidden: float) -> np.ndarray:
    """How many galaxies the library shall have in each bin of flux: as `found` in the data, NaN beyond.

    Beyond the data the prior's counts, `there`, go on, in proportion to those of the data's faintest tenth, until they
    are a share `max_hidden` of all.
    """
    n_beyond = int(np.isnan(found).sum())
    wanted = np.nan_to_num(found)
    n_faint = int(np.searchsorted(np.cumsum(found[n_beyond:]), 0.1 * wanted.sum())) + 1
    faintest = slice(n_beyond, n_beyond + n_faint)
    ratio = wanted[faintest].sum() / max(there[faintest].sum(), 1e-300)
    inside, outside = wanted.sum(), 0.0
    for i in range(n_beyond - 1, -1, -1):
        outside += ratio * there[i]
        if outside > max_hidden * (inside + outside):
            break
        wanted[i] = ratio * there[i]
    return wanted
