"""The loop of both routes: the best look is kept, and a fit that is cut off ends in the same bits."""

import pytest
import torch

from popcat.errors import PopcatError
from popcat.population.fitting import Plan, Progress, fit_flow
from popcat.population.settings import PopulationSettings
from popcat.population.space import draw, log_density, new_flow

SETTINGS = PopulationSettings(n_blocks=4, hidden=16, n_bins=4)


def gaussian_loss(flow):
    """-ln q of draws from N(1, 0.5^2)."""

    def loss(step):
        x = 1.0 + 0.5 * torch.randn(256, 3, generator=torch.Generator().manual_seed(step))
        return -log_density(flow, x).mean()

    return loss, lambda: float(loss(10**6).detach())


def plan(n_steps, checkpoint=None, **more):
    return Plan(n_steps, 10, 100, SETTINGS.training(learning_rate=5e-3), checkpoint, **more)


def test_a_flow_near_the_identity_draws_what_it_is_given():
    flow, _ = new_flow(SETTINGS, 3, 0)
    noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    x = draw(flow, noise)
    assert (x.mean(0).abs() < 0.3).all()
    assert ((x.std(0) - 1).abs() < 0.5).all()


def test_draws_have_the_density_that_the_flow_says():
    flow, _ = new_flow(SETTINGS, 3, 0)
    noise = torch.randn(100, 3)
    x = draw(flow, noise)
    back, log_det = flow._transform(x, torch.zeros(100, 1))
    torch.testing.assert_close(back, noise, atol=1e-4, rtol=1e-4)
    expected = torch.distributions.Normal(0, 1).log_prob(noise).sum(1) + log_det
    torch.testing.assert_close(log_density(flow, x), expected, atol=1e-3, rtol=1e-3)


def test_it_learns_a_gaussian():
    flow, _ = new_flow(SETTINGS, 3, 0)
    progress = fit_flow(flow, *gaussian_loss(flow), Plan(200, 50, 9, SETTINGS.training(learning_rate=2e-2)))
    with torch.no_grad():
        x = draw(flow, torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)))
    assert x.mean(0).tolist() == pytest.approx([1.0] * 3, abs=0.15)
    assert x.std(0).tolist() == pytest.approx([0.5] * 3, abs=0.15)
    assert progress.score[progress.best] == pytest.approx(3 * 0.7258, abs=0.3)  # its entropy, ln(0.5 sqrt(2 pi e))


def test_a_fit_that_is_cut_off_ends_in_the_same_bits(tmp_path):
    def fitted(checkpoint, stop=None):
        flow, _ = new_flow(SETTINGS, 3, 0)
        loss, score = gaussian_loss(flow)

        def report(progress):
            if progress.step[-1] == stop:
                raise KeyboardInterrupt

        fit_flow(flow, loss, score, plan(40, checkpoint), report)
        return torch.cat([value.detach().ravel() for value in flow.parameters()])

    whole = fitted(None)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "c.safetensors", stop=20)
    assert torch.equal(fitted(tmp_path / "c.safetensors"), whole)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    flow, _ = new_flow(SETTINGS, 3, 0)
    fit_flow(flow, *gaussian_loss(flow), plan(10, tmp_path / "c", made_for={"job": "a"}))
    with pytest.raises(PopcatError, match="other job"):
        fit_flow(flow, *gaussian_loss(flow), plan(10, tmp_path / "c", made_for={"job": "b"}))


def test_scores_that_are_never_finite_are_a_failure():
    flow, _ = new_flow(SETTINGS, 3, 0)
    loss, _ = gaussian_loss(flow)
    with pytest.raises(PopcatError, match="diverged"):
        fit_flow(flow, loss, lambda: float("nan"), plan(10))


def test_a_step_without_a_finite_gradient_is_left_out():
    flow, _ = new_flow(SETTINGS, 3, 0)
    loss, score = gaussian_loss(flow)
    fit_flow(flow, lambda i: loss(i) * (float("nan") if i == 3 else 1.0), score, plan(20))
    assert all(torch.isfinite(value).all() for value in flow.parameters())


def test_a_fit_without_finite_gradients_is_a_failure():
    flow, _ = new_flow(SETTINGS, 3, 0)
    loss, score = gaussian_loss(flow)
    with pytest.raises(PopcatError, match="10 of 10 steps had no finite"):
        fit_flow(flow, lambda i: loss(i) * float("nan"), score, plan(20))


def test_patience_ends_a_fit():
    flow, _ = new_flow(SETTINGS, 3, 0)
    loss, _ = gaussian_loss(flow)
    scores = iter(range(100))
    progress = fit_flow(flow, loss, lambda: float(next(scores)),
                        Plan(1000, 10, 3, SETTINGS.training(), None))  # fmt: skip
    assert progress.step[-1] == 40
    assert progress.best == 0


def kept_of(scores, tolerance):
    progress = Progress()
    kept = [progress.add(i, 0.0, score, 0.0, tolerance) for i, score in enumerate(scores)]
    return progress, kept


def test_without_tolerance_the_best_look_is_kept():
    progress, kept = kept_of([3.0, 2.0, 2.05, float("nan"), 2.5], 0.0)
    assert (progress.best, progress.kept) == (1, 1)
    assert kept == [True, True, False, False, False]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_last_look_within_the_tolerance_of_the_best_is_kept(sign):
    scores = [3.0, 2.0, 2.15, 2.3, 2.1, 2.25] if sign > 0 else [-1.0, -2.0, -1.85, -1.7, -1.9, -1.75]
    progress, kept = kept_of(scores, 0.1)
    assert (progress.best, progress.kept) == (1, 4)
    assert kept == [True, True, True, False, True, False]


def test_the_weights_of_the_kept_look_are_the_flows():
    def fitted(scores, tolerance, n_steps):
        flow, _ = new_flow(SETTINGS, 3, 0)
        loss, _ = gaussian_loss(flow)
        values = iter(scores)
        fit_flow(flow, loss, lambda: next(values), plan(n_steps, tolerance=tolerance))
        return torch.cat([value.detach().ravel() for value in flow.parameters()])

    last = fitted([1.0, 2.0, 0.9, 0.95, 0.94], 0.1, 50)
    best = fitted([1.0, 2.0, 0.9, 0.95, 0.94], 0.0, 50)
    assert not torch.equal(last, best)
    assert torch.equal(last, fitted([5.0, 4.0, 3.0, 2.0, 1.0], 0.0, 50))
