"""The training loop: the best epoch is kept, patience ends it, and one that is cut off ends in the same bits."""

import math

import pytest
import torch

from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.flows.training import History, fit, fit_loss

SETTINGS = Training(learning_rate=2e-2, average=0.05, patience=99)


class Gaussian(torch.nn.Module):
    """A normal distribution in three dimensions."""

    def __init__(self):
        super().__init__()
        self.mean, self.ln_sigma = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))

    def log_prob(self, x):
        return torch.distributions.Normal(self.mean, self.ln_sigma.exp()).log_prob(x).sum(1)


def toy():
    """A module, its loss of a step, -ln q of draws from N(1, 0.5^2), and its score."""
    module = Gaussian()

    def loss(step):
        x = 1.0 + 0.5 * torch.randn(256, 3, generator=torch.Generator().manual_seed(step))
        return -module.log_prob(x).mean()

    return module, loss, lambda: float(loss(10**6))


def fitted(score=None, *, loss_of=lambda loss: loss, settings=SETTINGS, n_steps=40, **options):
    """The module's weights as one vector, and the history."""
    module, loss, own_score = toy()
    history = fit_loss(module, loss_of(loss), score or own_score, settings, n_steps=n_steps, every=10, **options)
    return torch.cat([value.detach().ravel() for value in module.parameters()]), history


def test_it_learns_a_gaussian():
    weights, history = fitted(n_steps=300, settings=SETTINGS.model_copy(update={"learning_rate": 0.1}))
    assert weights.tolist() == pytest.approx([1.0] * 3 + [math.log(0.5)] * 3, abs=0.05)
    entropy = 3 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    assert history.validation[history.best_epoch] == pytest.approx(entropy, abs=0.15)
    assert history.train[-1] == pytest.approx(entropy, abs=0.15)
    assert history.step == list(range(10, 301, 10))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_training_that_is_cut_off_ends_in_the_same_bits(tmp_path, schedule, cut):
    settings = SETTINGS.model_copy(update={"schedule": schedule})

    def cut_off(epoch, history):
        if epoch == cut:
            raise KeyboardInterrupt

    whole, history = fitted(settings=settings, n_steps=45)
    file = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fitted(settings=settings, n_steps=45, checkpoint=file, report=cut_off)
    again, history_again = fitted(settings=settings, n_steps=45, checkpoint=file)
    assert torch.equal(again, whole)
    assert (history_again.validation, history_again.train) == (history.validation, history.train)
    assert history_again.step == [10, 20, 30, 40, 45]


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    fitted(checkpoint=tmp_path / "c", identity={"job": "a"})
    with pytest.raises(PopcatError, match="other job: delete it"):
        fitted(checkpoint=tmp_path / "c", identity={"job": "b"})
    with pytest.raises(PopcatError, match="other n_steps"):
        fitted(checkpoint=tmp_path / "c", identity={"job": "a"}, n_steps=50)


def test_scores_that_are_never_finite_are_a_failure():
    with pytest.raises(PopcatError, match=r"training diverged: expected finite .*lower the learning_rate \(0.02\)"):
        fitted(lambda: float("nan"))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_counts_as_zero(wrong):
    weights, history = fitted(loss_of=lambda loss: lambda i: loss(i) * (wrong if i == 3 else 1.0))
    assert torch.isfinite(weights).all()
    assert all(math.isfinite(value) for value in history.train)


def test_a_training_whose_gradients_are_not_finite_is_a_failure():
    with pytest.raises(PopcatError, match="training diverged: 10 of 10 steps had no finite gradient"):
        fitted(loss_of=lambda loss: lambda i: loss(i) * float("nan"))


def test_an_epoch_without_steps_is_refused():
    with pytest.raises(PopcatError, match="an epoch without a single step"):
        fit(Gaussian(), lambda epoch: iter(()), lambda: 0.0, SETTINGS, n_epochs=1, n_steps=1)


def test_the_score_is_taken_without_gradients():
    seen = []
    fitted(lambda: seen.append(torch.is_grad_enabled()) or 0.0)
    assert seen == [False] * 4


def test_patience_ends_a_training():
    scores = iter(range(100))
    settings = SETTINGS.model_copy(update={"patience": 3})
    _, history = fitted(lambda: float(next(scores)), settings=settings, n_steps=1000)
    assert history.step[-1] == 40
    assert history.best_epoch == 0


def kept_of(scores, tolerance, *, higher_is_better=False):
    history = History(higher_is_better)
    return history, [history.add(i, 0.0, score, 0.0, tolerance) for i, score in enumerate(scores)]


@pytest.mark.parametrize("higher", [True, False])
def test_without_tolerance_the_first_best_epoch_is_kept(higher):
    sign = -1.0 if higher else 1.0
    scores = [sign * score for score in (3.0, 2.0, 2.05, float("nan"), 2.0, 2.5)]
    history, kept = kept_of(scores, 0.0, higher_is_better=higher)
    assert (history.best_epoch, history.kept_epoch) == (1, 1)
    assert kept == [True, True, False, False, False, False]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("higher", [True, False])
def test_the_last_epoch_within_the_tolerance_of_the_best_is_kept(sign, higher):
    worse = sign * (-1.0 if higher else 1.0)
    scores = [sign * 2.0 + sign * worse * off for off in (1.0, 0.0, 0.15, 0.3, 0.1, 0.25)]
    history, kept = kept_of(scores, 0.1, higher_is_better=higher)
    assert (history.best_epoch, history.kept_epoch) == (1, 4)
    assert kept == [True, True, True, False, True, False]


def test_what_higher_is_better_of_is_reported_as_the_loss_with_its_sign_changed():
    history, _ = kept_of([1.0], 0.0, higher_is_better=True)
    history.add(2, 5.0, 1.0, 0.0)
    assert history.train[-1] == -5.0


def test_the_weights_of_the_kept_epoch_are_the_modules():
    def weights_of(scores, tolerance):
        values = iter(scores)
        return fitted(lambda: next(values), n_steps=50, tolerance=tolerance)[0]

    last, best = (weights_of([1.0, 2.0, 0.9, 0.95, 0.94], tolerance) for tolerance in (0.1, 0.0))
    assert not torch.equal(last, best)
    assert torch.equal(last, weights_of([5.0, 4.0, 3.0, 2.0, 1.0], 0.0))


def test_a_module_owns_its_weights_afterwards():
    module, loss, score = toy()
    fit_loss(module, loss, score, SETTINGS, n_steps=10, every=10)
    assert all(value.grad is None for value in module.parameters())
    assert module.mean.untyped_storage().data_ptr() != module.ln_sigma.untyped_storage().data_ptr()
