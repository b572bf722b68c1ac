"""The hierarchical route recovers populations that are known in closed form."""

import math

import pytest
import torch

from popcat.flows.training import fit_loss
from popcat.population.hierarchical import (
    FEWEST_EFFECTIVE,
    HierarchicalLoss,
    PosteriorDraws,
    log_evidence,
    median_effective,
)
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import draw, log_standard_normal, new_flow

MEAN, SPREAD, ERROR = 0.8, 0.4, 0.5
SETTINGS = PopulationSettings(n_blocks=2, hidden=16, n_bins=4, galaxies=128, start_steps=200)


def exact_posteriors(n=3000, k=64, d=2, seed=0, *, error=ERROR):
    """Posterior draws, under the standard normal prior, of galaxies from N(0.8, 0.4^2) measured within an error."""
    random = torch.Generator().manual_seed(seed)
    truth = MEAN + SPREAD * torch.randn(n, d, generator=random)
    data = truth + error * torch.randn(n, d, generator=random)
    precision = 1.0 + error**-2
    centre = data * error**-2 / precision
    return centre[:, None] + precision**-0.5 * torch.randn(n, k, d, generator=random)


def fit(draws, *, settings=SETTINGS):
    flow, _ = new_flow(settings, draws.x.shape[2], 0)
    made = HierarchicalLoss(flow, draws, settings, 0)
    fit_loss(flow, made.loss, made.score, settings.training(learning_rate=1e-2), n_steps=settings.start_steps, every=50)
    return flow


def drawn(flow, d=2):
    with torch.no_grad():
        return draw(flow, torch.randn(8000, d, generator=torch.Generator().manual_seed(3)))


def test_a_gaussian_population_is_recovered_from_exact_posterior_draws():
    x = drawn(fit(PosteriorDraws.under_prior(exact_posteriors())))
    assert x.mean(0).tolist() == pytest.approx([MEAN, MEAN], abs=0.05)
    assert x.std(0).tolist() == pytest.approx([SPREAD, SPREAD], abs=0.08)


def test_the_stack_of_posteriors_is_not_the_population():
    stack = exact_posteriors().flatten(0, 1)
    assert abs(stack.mean().item() - MEAN) > 0.1


def test_importance_weights_make_up_for_draws_from_elsewhere():
    centre, width = 0.5, 0.7
    random = torch.Generator().manual_seed(5)
    posterior = exact_posteriors(k=1)
    precision = 1.0 + ERROR**-2
    # exact posteriors again, but drawn from a broad proposal and weighted
    middle = posterior[:, 0]
    x = centre + width * torch.randn(len(middle), 200, 2, generator=random)
    log_target = -0.5 * precision * ((x - middle[:, None]) ** 2).sum(-1)
    log_proposal = -0.5 * (((x - centre) / width) ** 2).sum(-1)
    importance = log_target - log_proposal
    weighted = PosteriorDraws(x, importance - log_standard_normal(x), importance)
    mean = drawn(fit(weighted)).mean(0)
    unweighted = drawn(fit(PosteriorDraws.under_prior(x.numpy()))).mean(0)
    assert (mean - MEAN).abs().max() < (unweighted - MEAN).abs().max()
    assert mean.tolist() == pytest.approx([MEAN, MEAN], abs=0.12)


def test_a_look_that_meets_too_few_draws_does_not_count():
    flow, _ = new_flow(PopulationSettings(n_blocks=1, hidden=16), 2, 0)
    posteriors = exact_posteriors(n=400, k=200)
    sound = HierarchicalLoss(flow, PosteriorDraws.under_prior(posteriors), SETTINGS, 0).score()
    weights = torch.zeros(posteriors.shape[:2])
    weights[:, 9:] = -50.0
    few = PosteriorDraws(posteriors, weights - log_standard_normal(posteriors), weights)
    assert math.isfinite(sound)
    assert median_effective(few.log_weight) < FEWEST_EFFECTIVE
    assert HierarchicalLoss(flow, few, SETTINGS, 0).score() == math.inf


def test_the_evidence_under_the_prior_itself_is_one():
    flow, _ = new_flow(PopulationSettings(n_blocks=1, hidden=16), 2, 0)
    with torch.no_grad():
        for value in flow.parameters():
            if value.ndim == 2:
                value.zero_()
    found = log_evidence(flow, PosteriorDraws.under_prior(exact_posteriors(n=50)))
    assert found.abs().max() < 0.05


class HalfSeen:
    """A survey that observes only what has x_0 above a limit, exactly."""

    class cuts:  # noqa: N801 (an attribute of the real one)
        cuts = (1,)

    class space:  # noqa: N801
        n_dim = 2

    n_band, device = 1, "cpu"

    def detection(self, x, normals):
        return torch.sigmoid((x[:, 0] - MEAN) / 0.05)


def test_what_the_cuts_hide_is_inferred_from_the_edge_of_what_is_seen():
    random = torch.Generator().manual_seed(1)
    truth = MEAN + SPREAD * torch.randn(12_000, 2, generator=random)
    seen = truth[torch.rand(12_000, generator=random) < HalfSeen().detection(truth, None)][:4000]
    draws = PosteriorDraws.under_prior((seen[:, None] + 0.02 * torch.randn(4000, 8, 2, generator=random)).numpy())
    flow, _ = new_flow(SETTINGS, 2, 0)
    settings = SETTINGS.model_copy(update={"max_hidden": 0.3})
    made = HierarchicalLoss(flow, draws, settings, 0, HalfSeen())
    fit_loss(flow, made.loss, made.score, settings.training(learning_rate=1e-2), n_steps=200, every=50)
    x = drawn(flow)
    share = HalfSeen().detection(x, None)
    assert 0.6 < share.mean().item() < 0.98
    expected = MEAN + SPREAD * math.sqrt(2 / math.pi)
    assert ((share * x[:, 0]).sum() / share.sum()).item() == pytest.approx(expected, abs=0.04)


def test_draws_lie_where_the_flow_does():
    draws = PosteriorDraws.under_prior(exact_posteriors(n=100, k=4))
    made = HierarchicalLoss(None, draws, SETTINGS, 0, None, "meta")
    assert {part.device.type for data in (made.draws, made.held) for part in vars(data).values()} == {"meta"}
