"""What the start of a fit decides: each quantity in the fits from two starts, and in the starts themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from popcat.forward.properties import Properties
from popcat.population.fitted import Member, Population
from popcat.population.members import Job
from popcat.population.sampling import QUANTITIES, galaxies_at
from popcat.population.start import sample_library, sample_start
from popcat.population.synthesis import Synthesis, draw

FILE = "starts.parquet"
"""In a population's folder: galaxies that the survey would observe of both starts and of the second fit."""
START, SECOND_START, SECOND_FIT = "start", "second start", "second fit"
"""Values of the file's column `of`."""
_DRAWS, _CANDIDATES, _FEWEST = 40_000, 200_000, 200


@dataclass(frozen=True)
class SecondFit:
    """The fit from the second start: its name, what it is fitted to, how it fared, its flow."""

    start: str
    job: Job
    member: Member
    flow: torch.nn.Module


def samples_of(job: Job, synthesis: Synthesis, first: str, second: SecondFit | None) -> pd.DataFrame:
    """Observed galaxies of both starts and of the second fit: columns of `galaxies_at`, and `of`.

    first : the start of the fit, by name.
    """
    properties = Properties(job.survey, synthesis.photometry.ingredients)
    parts = {START: _start_draws(job, first, synthesis)}
    if second is not None:
        parts[SECOND_START] = _start_draws(second.job, second.start, synthesis)
        parts[SECOND_FIT] = _flow_draws(second.flow, synthesis)
    frames = [galaxies_at(x, synthesis, properties, seed=i).assign(of=name)
              for i, (name, x) in enumerate(parts.items())]  # fmt: skip
    whole = pd.concat(frames, ignore_index=True)
    names = [name for name in QUANTITIES if name in whole] + [name for name in whole if name.startswith("flux_")]
    return whole.loc[whole["selected"], ["of", *names]].astype(dict.fromkeys(names, np.float32))


def _start_draws(job: Job, name: str, synthesis: Synthesis) -> np.ndarray:
    """Draws (n, d) of a start's prior; of the fit to photometry with the data's fluxes in the middle band, as there."""
    n = min(_DRAWS, job.settings.library)
    if job.galaxies is not None and job.settings.start_steps:
        settings = job.settings.model_copy(update={"start_prior": name, "library": n})
        return sample_library(synthesis, job.galaxies, settings).numpy()
    random = np.random.default_rng((job.settings.seed, 43))
    theta, redshift, log_weight = sample_start(name, _CANDIDATES, job.space, synthesis.photometry, random)
    weight = np.exp(log_weight - log_weight.max())
    rows = random.choice(len(weight), size=n, p=weight / weight.sum())
    return job.space.unconstrained(theta[rows], redshift[rows])


def _flow_draws(flow: torch.nn.Module, synthesis: Synthesis) -> np.ndarray:
    noise = torch.randn(_DRAWS, synthesis.space.n_dim, generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        return torch.cat([draw(flow, part) for part in noise.split(20_000)]).numpy()


def quantities_of(population: Population, synthesis: Synthesis, samples: pd.DataFrame) -> list[dict]:
    """By quantity of what the survey observes: quantiles, and differences in units of the width.

    width : half the distance from the 16th to the 84th percentile. between_fits : 1-D Wasserstein distance of the fits
    from two starts; between_starts : of the starts; between_flows : of two flows of the ensemble, the mean over pairs.
    None where there are no two.
    """
    properties = Properties(population.survey, synthesis.photometry.ingredients)
    x, member = population.draw(_DRAWS, 2)
    frame = galaxies_at(x, synthesis, properties, seed=9).assign(member=member)
    frame = frame[frame["selected"]]
    rows = []
    for name in (name for name in QUANTITIES if name in samples):
        values = frame[name].to_numpy(float)
        low, median, high = np.percentile(values, [16, 50, 84])
        width = max(0.5 * (high - low), 1e-9)
        of = {key: some[name].to_numpy(float) for key, some in samples.groupby("of")}
        flows = [some[name].to_numpy(float) for _, some in frame.groupby("member") if len(some) >= _FEWEST]
        pairs = [(of[START], of[SECOND_START]), (values, of[SECOND_FIT])] if SECOND_FIT in of else []
        starts, fits = [_distance(*pair) / width for pair in pairs] or (None, None)
        rows.append({"name": name, "p16": low, "p50": median, "p84": high, "width": width, "between_fits": fits,
                     "between_starts": starts, "between_flows": _mean_distance(flows, width)})  # fmt: skip
    return rows


def _mean_distance(flows: Sequence[np.ndarray], width: float) -> float | None:
    """Of two of some samples, the mean over pairs."""
    found = [_distance(a, b) / width for a, b in combinations(flows, 2)]
    return float(np.mean(found)) if found else None


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(a, b))
