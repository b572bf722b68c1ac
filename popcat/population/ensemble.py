"""The ensemble of the flows that were fitted: weights by their held-out loss, and its distance from the data.

What failed is named and left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from popcat import __version__
from popcat.errors import PopcatError
from popcat.flows.sampler import stacking_weights
from popcat.population.distance import features_of, floor_of, sliced_distance, split
from popcat.population.fitted import Description, Member, Population
from popcat.population.hierarchical import MAX_HELD, log_evidence, seen_share
from popcat.population.members import Job, flow_of
from popcat.population.synthesis import draw

_MEASURED, _REPEATS, _MOST_TURNS = 50_000, 16, 40
"""Galaxies of either side of the distance that is published, how often it is taken, and how often as many parents are
drawn for as many galaxies to pass the cuts."""
_DETECTION_DRAWS = 20_000
"""Of the share that the survey observes of one member's population."""


def assemble(job: Job, outcomes: list[tuple[Member, bytes] | Exception], output: Path, source: str) -> Population:
    """The population of the members that were fitted.

    Raises PopcatError if none was.
    """
    fitted = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    if not fitted:
        first = outcomes[0]
        raise PopcatError(f"none of {len(outcomes)} flows could be fitted: {type(first).__name__}: {first}") from first
    flows, architecture = [], None
    for _, content in fitted:
        flow, architecture = flow_of(content, output)
        flows.append(flow)
    weights = iter(_weights(job, [member for member, _ in fitted], flows))
    members = [_member(i, outcome, weights) for i, outcome in enumerate(outcomes)]
    chosen = [member.weight for member in members if member.score is not None]
    kept = tuple(flow for flow, (member, _) in zip(flows, fitted, strict=True) if members[member.number].weight > 0.0)
    description = Description(
        survey=job.survey, galaxy_model=job.galaxy_model, noise=job.noise, cuts=tuple(job.cuts.to_list()),
        route=job.route,
        settings=job.settings, members=tuple(members), measured=distance_of(job, flows, chosen),
        provenance={"popcat": __version__, "source": source, "job": job.digest},
    )  # fmt: skip
    return Population(description, kept, architecture)


def _member(number: int, outcome, weights) -> Member:
    if isinstance(outcome, Exception):
        return Member(number=number, seed=-1, failure=f"{type(outcome).__name__}: {outcome}")
    weight = float(next(weights))
    # a share that no sample would show is none
    return outcome[0].model_copy(update={"weight": weight if weight > 1e-3 else 0.0})


def _weights(job: Job, members: list[Member], flows) -> np.ndarray:
    """Sliced distance: exp(-(d - least) / floor). Posteriors: those that make the held-out galaxies most probable."""
    if job.route == "hierarchical":
        return _hierarchical_weights(job, flows)
    scores = np.array([member.score for member in members])
    weights = np.exp(-(scores - scores.min()) / floor_of(job.galaxies, job.scaling))
    return weights / weights.sum()


def _hierarchical_weights(job: Job, flows) -> np.ndarray:
    """Weights w that make the held-out galaxies most probable, sum w_e L_ie / sum w_e alpha_e (Mandel et al. 2019).

    With v_e ~ w_e alpha_e, the members' shares of what is observed, that is a mixture of L_ie / alpha_e.
    """
    _, held = split(len(job.draws), job.settings.held_out, job.settings.seed)
    evidence = torch.stack([log_evidence(flow, job.draws[held[:MAX_HELD]]) for flow in flows])
    if not job.cuts.cuts:
        return stacking_weights(evidence).numpy()
    synthesis = job.synthesis()
    with torch.no_grad():
        alpha = torch.stack([seen_share(flow, synthesis, _DETECTION_DRAWS, torch.Generator().manual_seed(8))
                             for flow in flows]).clamp_min(1e-6)  # fmt: skip
    weights = stacking_weights(evidence - torch.log(alpha)[:, None]) / alpha
    return (weights / weights.sum()).numpy()


def distance_of(job: Job, flows: Sequence, weights: Sequence[float], *, repeats: int = _REPEATS) -> dict:
    """Distance of the photometry of a mixture of flows from the data, beside the sampling floor at the same size.

    The floor is the distance of two halves of the data, that of the ensemble the mean of its distances to either; both
    are means over halvings and as many synthetic samples. The ratio of one of each scatters by a fifth: of two samples
    even the means differ by as much as this measures.
    """
    if job.galaxies is None:
        return {"galaxies": len(job.draws)}
    data, synthesis = features_of(job.galaxies, job.scaling), job.synthesis()
    half = min(len(data) // 2, _MEASURED)
    share_of_flows = np.array(weights) / np.sum(weights)
    rows = []
    for repeat in range(repeats):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(3 + repeat))
        halves = data[order[:half]], data[order[half : 2 * half]]
        features, share = _sample(flows, share_of_flows, job, synthesis, half, repeat)
        distance = np.mean([sliced_distance(features, one) for one in halves])
        rows.append((distance, sliced_distance(halves[1], halves[0]), share))
    (distance, floor, share), error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / repeats**0.5
    ratio = float(distance / floor)
    return {"galaxies": len(data), "compared": half, "distance": float(distance), "floor": float(floor),
            "distance_over_floor": ratio,
            "distance_over_floor_err": ratio * float(np.hypot(error[0] / distance, error[1] / floor)),
            "selected_fraction": float(share), "features": job.scaling.to_dict(job.survey.band_names)}  # fmt: skip


def _sample(flows, weights: np.ndarray, job: Job, synthesis, n: int, repeat: int):
    """Features of n selected galaxies of the whole ensemble, and the share of galaxies that are selected.

    n of them, however few the survey selects: the distance of a smaller sample would be larger.
    """
    parts, selected = [], []
    for turn in range(_MOST_TURNS):
        for number, (flow, w) in enumerate(zip(flows, weights, strict=True)):
            seed = 10_000 * turn + 100 * repeat + number
            features, one = _synthetic(flow, job, synthesis, int(np.ceil(n * w)) + 1, seed)
            parts.append(features)
            selected.append(one)
        if sum(map(len, parts)) >= n:
            break
    features = torch.cat(parts)
    if len(features) == 0:
        raise PopcatError("the population was fitted, but none of its galaxies passes the cuts: check cuts and units")
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(4 + repeat))
    return features[order[:n]], np.mean(np.concatenate(selected))


def _synthetic(flow, job: Job, synthesis, n: int, seed: int):
    """Features of the selected of n synthetic galaxies, and which those are; members differ in their seeds."""
    random = torch.Generator().manual_seed(1005 + seed)
    with torch.no_grad():
        x = draw(flow, torch.randn(n, job.space.n_dim, generator=random))
        seen = synthesis.observe(x, torch.randn(n, 2 * synthesis.n_band, generator=random), hard=True)
    selected = seen.weight > 0
    return job.scaling(seen.flux, seen.redshift)[selected], selected.numpy()
