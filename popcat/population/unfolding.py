"""The start of the Wasserstein route: a library of the start's prior, reweighted until its photometry is the data's.

A classifier that is to tell the data from the weighted library gives, at its optimum, the ratio of their densities in
the space of the features, omega; each library galaxy's weight is multiplied by the mean of omega over its noise
(OmniFold, Andreassen et al. 2020). That is expectation-maximisation of the hierarchical likelihood, with no posterior
of any single galaxy. What the photometry says nothing about keeps the prior's distribution. The flow then learns the
weighted library.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from popcat.flows.architecture import seeded
from popcat.population.distance import Galaxies, Scaling, features_of
from popcat.population.settings import PopulationSettings
from popcat.population.start import SHARE, sample_library
from popcat.population.synthesis import W_MAX, Synthesis, log_density

_NOISES = 4
_HIDDEN, _RATE, _PAIRS = 64, 3e-3, 2048
_FIRST, _EACH = 250, 50
"""Steps of the classifier in the first iteration, and in every other."""
_MAX_LOG_RATIO = 4.0
_NEVER, _HARDLY = -30.0, 1e-9
"""ln weight of galaxies that have no chance to be observed, and how small a chance is none."""
_BINS, _RARE = 40, 1e-4
"""Bins of known redshifts; a share of galaxies too small to be told from none."""
_SMOOTHING = 0.2
_FEWEST = 0.05
"""Reweighting ends before fewer effective galaxies than this share are left: a flow would learn them one by one."""


@dataclass(frozen=True)
class Start:
    """A weighted library, float32: x (n, d), unconstrained, and log_weight (n,)."""

    x: torch.Tensor
    log_weight: torch.Tensor


def unfold(
    synthesis: Synthesis, galaxies: Galaxies, scaling: Scaling, settings: PopulationSettings,
    report: Callable[[str], None] = lambda text: None,
) -> Start:  # fmt: skip
    """The library whose weighted photometry is that of the galaxies.

    Raises PopcatError if hardly any galaxy of the start's prior passes the cuts.
    """
    random = torch.Generator().manual_seed(1_000_003 * (settings.seed + 1) + 31)
    data = features_of(galaxies, scaling)
    x, classifier, loss = sample_library(synthesis, galaxies, settings), _Classifier(data, random), 0.0
    log_weight = torch.zeros(len(x))
    known = galaxies.redshift[np.isfinite(galaxies.redshift)] if settings.redshifts == "distribution" else None
    for i in range(settings.rounds):
        if i:
            x, log_weight = _regenerated(x, log_weight, random), torch.zeros(len(x))
        log_weight, loss = _reweighted(synthesis, scaling, x, classifier, settings.iterations, random, known)
        log_weight = _limited(synthesis, x, log_weight, SHARE * settings.max_hidden)
        report(f"start, round {i + 1} of {settings.rounds}: {len(x):,} galaxies, effective sample size "
               f"{_effective(log_weight):,.0f}; classifier loss {loss:.3f} (1.386 if it cannot tell synthetic from "
               "observed galaxies)")  # fmt: skip
    return Start(x, log_weight)


def _reweighted(
    synthesis, scaling, x, classifier: "_Classifier", iterations: int, random, known=None
) -> tuple[torch.Tensor, float]:
    """ln weights of a library after some iterations, and the classifier's last loss; redshifts as the `known` ones."""
    features, seen = _noisy(synthesis, scaling, x, random)
    redshift = None if known is None else synthesis.space.parameters(x)[1].numpy()
    has_chance = seen.mean(1) > _HARDLY
    log_weight = torch.where(has_chance, torch.zeros(len(x)), _NEVER)
    loss = 0.0
    for i in range(iterations):
        weight = (torch.softmax(log_weight, 0)[:, None] * seen).flatten()
        loss = classifier.learn(features.flatten(0, 1), weight, _EACH if i else _FIRST)
        omega = (classifier.ratio(features) * seen).sum(1) / seen.sum(1).clamp_min(_HARDLY)
        update = torch.where(has_chance, log_weight + torch.log(omega.clamp_min(1e-9)), _NEVER)
        if known is not None:
            update = update + _towards(known, redshift, torch.softmax(update, 0) * seen.mean(1))
        if _effective(update) < _FEWEST * len(x):
            break
        log_weight = update
    return log_weight, loss


def _limited(synthesis, x: torch.Tensor, log_weight: torch.Tensor, max_hidden: float) -> torch.Tensor:
    """ln weights without the galaxies least likely to be observed: at most a share `max_hidden` beyond the cuts.

    All of them where even the likeliest galaxy fails more often than that.
    """
    if not synthesis.cuts.cuts:
        return log_weight
    with torch.no_grad():
        chance = synthesis.detection(x, torch.zeros(len(x), synthesis.n_band))
    order = torch.argsort(chance, descending=True)
    share = torch.softmax(log_weight.double(), 0)[order]
    hidden = torch.cumsum(share * (1.0 - chance[order]), 0) / torch.cumsum(share, 0).clamp_min(1e-12)
    too_many = hidden[torch.argsort(order)] > max_hidden
    return log_weight if too_many.all() else torch.where(too_many, _NEVER, log_weight)


def _towards(known: np.ndarray, redshift: np.ndarray, weight: torch.Tensor) -> torch.Tensor:
    """ln of the known redshifts' density over that of weighted redshifts (n,), in bins of as many known ones each."""
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, _BINS + 1)))
    place = np.searchsorted(edges, redshift)
    share = np.bincount(place, weights=weight / weight.sum(), minlength=len(edges) + 1)
    wanted = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1) / len(known)
    ratio = (wanted + _RARE) / (share + _RARE)
    return torch.from_numpy(np.log(ratio)[place]).float()


def _regenerated(x: torch.Tensor, log_weight: torch.Tensor, random) -> torch.Tensor:
    """As many distinct galaxies as before: a smoothed bootstrap that keeps mean and covariance (Liu & West 2001)."""
    share = torch.softmax(log_weight.double(), 0)
    at = torch.rand(len(x), generator=random, dtype=torch.float64) * share.sum()
    rows = torch.searchsorted(torch.cumsum(share, 0), at).clamp_max(len(x) - 1)
    some, mean = x[rows], x[rows].mean(0)
    noise = torch.randn(x.shape, generator=random) @ torch.linalg.cholesky(torch.cov(some.t())).t()
    return (mean + (1.0 - _SMOOTHING**2) ** 0.5 * (some - mean) + _SMOOTHING * noise).clamp(-W_MAX, W_MAX)


def _effective(log_weight: torch.Tensor) -> float:
    """Effective number of galaxies, Kish's."""
    return 1.0 / float((torch.softmax(log_weight.double(), 0) ** 2).sum())


def _noisy(synthesis: Synthesis, scaling: Scaling, x, random):
    """Features (n, r, n_feature) of r noisy copies of every galaxy that pass the cuts, and their chances, (n, r)."""
    features, seen = [], []
    for _ in range(_NOISES):
        with torch.no_grad():
            one = synthesis.observe(x, torch.randn(len(x), 2 * synthesis.n_band, generator=random), hard=False)
        features.append(scaling(one.flux, one.redshift))
        seen.append(one.weight.float())
    return torch.stack(features, 1), torch.stack(seen, 1)


class _Classifier:
    """A small network that tells the data from the library; it goes on from what it has learned."""

    def __init__(self, data: torch.Tensor, random: torch.Generator):
        n = data.shape[1]
        self.data, self.random = data, random
        with seeded(random.initial_seed() % 2**31):
            self.net = torch.nn.Sequential(
                torch.nn.Linear(n, _HIDDEN), torch.nn.SiLU(), torch.nn.Linear(_HIDDEN, _HIDDEN), torch.nn.SiLU(),
                torch.nn.Linear(_HIDDEN, 1),
            )  # fmt: skip
        self.adam = torch.optim.Adam(self.net.parameters(), lr=_RATE, weight_decay=1e-4)

    def learn(self, features: torch.Tensor, weight: torch.Tensor, steps: int) -> float:
        """Steps of the classifier; its mean loss, ln 4 if it cannot tell."""
        cumulative, total = torch.cumsum(weight.double(), 0), 0.0
        for _ in range(steps):
            real = self.data[torch.randint(len(self.data), (_PAIRS,), generator=self.random)]
            at = torch.rand(_PAIRS, generator=self.random, dtype=torch.float64) * cumulative[-1]
            made = features[torch.searchsorted(cumulative, at).clamp_max(len(features) - 1)]
            softplus = torch.nn.functional.softplus
            loss = softplus(-self.net(real)).mean() + softplus(self.net(made)).mean()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            total += loss.item()
        return total / max(steps, 1)

    @torch.no_grad()
    def ratio(self, features: torch.Tensor) -> torch.Tensor:
        """Density of the data over that of the library."""
        return torch.exp(self.net(features)[..., 0].clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO))


class StartLoss:
    """-ln q of the weighted library: what a flow learns first; another's score says how well."""

    def __init__(self, flow, start: Start, settings: PopulationSettings, seed: int, device: str = "cpu"):
        self.flow, self.x, self.settings, self.seed = flow, start.x.to(device), settings, seed
        self.cumulative = torch.cumsum(torch.softmax(start.log_weight.double(), 0), 0)

    def loss(self, step: int) -> torch.Tensor:
        """-ln q, the mean over a batch of the library."""
        random = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + 700_001 + step)
        at = torch.rand(self.settings.start_batch, generator=random, dtype=torch.float64) * self.cumulative[-1]
        rows = torch.searchsorted(self.cumulative, at).clamp_max(len(self.x) - 1)
        return -log_density(self.flow, self.x[rows]).mean()
