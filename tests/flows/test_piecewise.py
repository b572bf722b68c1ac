"""A piecewise linear density integrates to one, is what it learns, and survives storage."""

import numpy as np
import pytest
import torch

from popcat.errors import PopcatError
from popcat.flows.piecewise import (
    PiecewiseDensity,
    PiecewiseShape,
    piecewise_from_file,
    piecewise_to_bytes,
    train_piecewise,
)
from popcat.flows.settings import Training

SHAPE = PiecewiseShape(context=2, n_bins=30, hidden=32, n_layers=2)


@pytest.fixture
def density():
    torch.manual_seed(0)
    made = PiecewiseDensity(SHAPE)
    with torch.no_grad():
        made.net[-1].weight *= 20.0  # far from flat
    return made.eval()


def test_the_density_integrates_to_one(density):
    context = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    u = torch.linspace(0, 1, 30_001)
    for row in context:
        q = density.log_prob(u[:, None], row.expand(len(u), 2)).exp()
        assert torch.trapezoid(q, u).item() == pytest.approx(1.0, abs=1e-4)


def test_the_density_is_linear_between_its_nodes(density):
    context = torch.zeros(31, 2)
    nodes = density.log_nodes(context[:1]).exp()[0]
    at = density.log_prob(torch.linspace(0, 1, 31)[:, None], context).exp()
    torch.testing.assert_close(at, nodes, rtol=1e-4, atol=1e-5)
    middle = density.log_prob((torch.arange(30)[:, None] + 0.5) / 30, context[:30]).exp()
    torch.testing.assert_close(middle, 0.5 * (nodes[1:] + nodes[:-1]), rtol=1e-4, atol=1e-5)


def data(epoch, n=20_000):
    """Two modes whose weights and places the context decides."""
    random = np.random.default_rng(epoch)
    context = random.standard_normal((n, 2)).astype(np.float32)
    first = random.uniform(size=n) < 1.0 / (1.0 + np.exp(-context[:, 0]))
    centre = np.where(first, 0.3 + 0.05 * context[:, 1], 0.75)
    u = np.clip(centre + 0.05 * random.standard_normal(n), 0.0, 1.0).astype(np.float32)
    return torch.from_numpy(u[:, None]), torch.from_numpy(context)


def true_log_prob(u, context):
    weight = torch.sigmoid(context[:, 0])
    normal = torch.distributions.Normal(0.3 + 0.05 * context[:, 1], 0.05), torch.distributions.Normal(0.75, 0.05)
    return torch.log(weight * normal[0].log_prob(u[:, 0]).exp() + (1 - weight) * normal[1].log_prob(u[:, 0]).exp())


def test_a_density_with_two_modes_is_learnt():
    settings = Training(batch=256, redshift_epochs=12, learning_rate=5e-3)
    trained, history = train_piecewise(SHAPE, data, data(99), settings)
    truth = true_log_prob(*data(99)).mean().item()
    assert history.validation[history.best_epoch] == pytest.approx(truth, abs=0.03)
    assert not trained.training
    with torch.no_grad():
        assert trained.log_prob(*data(99)).mean().item() == pytest.approx(max(history.validation), abs=1e-4)


def test_training_that_diverges_is_refused():
    def absurd(epoch):
        u, context = data(epoch, 500)
        return u, context * torch.nan

    with pytest.raises(PopcatError, match="training diverged"):
        train_piecewise(SHAPE, absurd, absurd(0), Training(batch=256, redshift_epochs=2))


def test_storage_keeps_every_number(density, tmp_path):
    (tmp_path / "density").write_bytes(piecewise_to_bytes(density))
    again = piecewise_from_file(tmp_path / "density")
    assert again.shape == SHAPE
    context = torch.randn(5, 2)
    assert torch.equal(again.log_nodes(context), density.log_nodes(context))


@pytest.mark.parametrize("content", [b"", b"nonsense", piecewise_to_bytes(PiecewiseDensity(SHAPE))[:-8]])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "density").write_bytes(content)
    with pytest.raises(PopcatError, match="holds no density"):
        piecewise_from_file(tmp_path / "density")
