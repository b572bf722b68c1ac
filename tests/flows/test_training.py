"""Training reaches the closed form of a toy, keeps its best epoch, stops early, and repeats itself."""

import math

import pytest
import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture
from popcat.flows.settings import Training
from popcat.flows.training import mean_log_prob, train_flow

ARCHITECTURE = Architecture(features=2, context=1, n_blocks=2, hidden=32, n_layers=1)
QUICK = Training(n_blocks=2, hidden=32, n_layers=1, batch=256, learning_rate=1e-2, max_epochs=8, patience=8, seed=3)
SIGMA = (0.5, 0.2)


def toy(n, seed):
    """x1 = c + 0.5 e1, x2 = 0.3 + 0.8 x1 + 0.2 e2."""
    generator = torch.Generator().manual_seed(seed)
    context, noise = torch.randn(n, 1, generator=generator), torch.randn(n, 2, generator=generator)
    x1 = context[:, 0] + SIGMA[0] * noise[:, 0]
    return torch.stack([x1, 0.3 + 0.8 * x1 + SIGMA[1] * noise[:, 1]], dim=1), context


def train(settings=QUICK, n=8000, **options):
    return train_flow(ARCHITECTURE, lambda epoch: toy(n, 10 + epoch), toy(4000, 1), settings, **options)


@pytest.fixture(scope="module")
def trained():
    return train()


def test_the_mean_log_probability_nears_minus_the_entropy(trained):
    _, history = trained
    closed_form = -sum(0.5 * math.log(2 * math.pi * math.e * sigma**2) for sigma in SIGMA)
    assert history.validation[history.best_epoch] == pytest.approx(closed_form, abs=0.06)


@pytest.mark.parametrize("family", ["spline", "coupling"])
def test_every_family_learns_the_toy(family):
    architecture = ARCHITECTURE.model_copy(update={"family": family})
    settings = QUICK.model_copy(update={"max_epochs": 4})
    _, history = train_flow(architecture, lambda epoch: toy(8000, 10 + epoch), toy(4000, 1), settings)
    closed_form = -sum(0.5 * math.log(2 * math.pi * math.e * sigma**2) for sigma in SIGMA)
    assert history.validation[history.best_epoch] == pytest.approx(closed_form, abs=0.1)


def test_draws_have_the_moments_of_the_toy(trained):
    flow, _ = trained
    torch.manual_seed(0)
    with torch.no_grad():
        draws = flow.sample(20_000, torch.tensor([[1.0]]))[0]
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, 1.1]), atol=0.06, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.tensor([0.5, math.hypot(0.4, 0.2)]), atol=0.04, rtol=0)


def test_the_best_epoch_is_kept(trained):
    flow, history = trained
    assert history.validation[history.best_epoch] == max(history.validation)
    assert mean_log_prob(flow, *toy(4000, 1)) == pytest.approx(max(history.validation), abs=1e-6)


def test_the_flow_is_in_evaluation_mode_and_the_history_complete(trained):
    flow, history = trained
    assert not flow.training
    assert len(history.train) == len(history.validation) == len(history.seconds) == QUICK.max_epochs
    assert history.seconds == sorted(history.seconds)


def test_the_same_seed_gives_the_same_flow(trained):
    torch.rand(5)  # whatever torch's generator did before
    flow, history = train()
    assert history.validation == trained[1].validation
    assert all(torch.equal(value, trained[0].state_dict()[name]) for name, value in flow.state_dict().items())


def test_another_seed_gives_another_flow(trained):
    _, history = train(QUICK.model_copy(update={"seed": 4, "max_epochs": 1}))
    assert history.validation[0] != trained[1].validation[0]


def test_training_stops_after_patience_epochs_without_gain():
    """Sixty points for training, always the same: the flow learns them by heart."""
    settings = QUICK.model_copy(update={"batch": 16, "max_epochs": 60, "patience": 3})
    flow, history = train_flow(ARCHITECTURE, lambda epoch: toy(60, 5), toy(1000, 1), settings)
    assert len(history.validation) == history.best_epoch + 1 + 3 < 60
    assert mean_log_prob(flow, *toy(1000, 1)) == pytest.approx(max(history.validation), abs=1e-6)


def test_the_report_sees_every_epoch():
    seen = []
    settings = QUICK.model_copy(update={"max_epochs": 3})
    train(settings, n=500, report=lambda epoch, history: seen.append((epoch, len(history.validation))))
    assert seen == [(0, 1), (1, 2), (2, 3)]


def test_epochs_may_differ_in_size_and_be_smaller_than_a_batch():
    sizes = [100, 3000, 50, 1000]
    settings = QUICK.model_copy(update={"max_epochs": 4})
    _, history = train_flow(ARCHITECTURE, lambda epoch: toy(sizes[epoch], epoch), toy(100, 1), settings)
    assert all(math.isfinite(value) for value in history.train + history.validation)


def test_training_that_diverges_says_so():
    with pytest.raises(PopcatError, match=r"training diverged: expected finite .*lower the learning_rate \(0.01\)"):
        train_flow(ARCHITECTURE, lambda epoch: toy(500, 1), (torch.full((4, 2), math.nan), torch.zeros(4, 1)), QUICK)


def test_the_mean_does_not_depend_on_the_batch(trained):
    whole = mean_log_prob(trained[0], *toy(1000, 2))
    assert mean_log_prob(trained[0], *toy(1000, 2), batch=7) == pytest.approx(whole, abs=1e-5)
