"""The Wasserstein route recovers a population through a forward model whose answer is known."""

import numpy as np
import pytest
import torch

from popcat.flows.training import fit_loss
from popcat.population.cuts import parse_cuts
from popcat.population.distance import Galaxies, WassersteinLoss, fit_scaling, floor_of, split
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Observed, draw, new_flow

ERROR = 0.5
MEAN, SPREAD = torch.tensor([0.6, -0.4]), torch.tensor([0.5, 0.8])


class Toy:
    """Two bands whose fluxes are 10 exp(x), with noise of 0.5 and a cut."""

    device, n_band = "cpu", 2

    class space:  # noqa: N801 (an attribute of the real one)
        n_dim = 2

    def __init__(self, cuts=()):
        self.cuts = parse_cuts(cuts, ("g", "r"))

    def observe(self, x, normals, *, hard, noise_scale=1.0):
        flux = 10.0 * torch.exp(x.double())
        err = torch.full_like(flux, ERROR)
        if hard:
            noisy = flux + noise_scale * err * normals[:, 2:]
            weight = torch.as_tensor(self.cuts.passes(noisy, err)).double()
        else:
            noisy, weight = self.cuts.observed(flux, err, normals[:, 2:].double(), scale=noise_scale)
        return Observed(noisy, err, torch.linspace(0.3, 0.9, len(x)), weight)


def catalogue(toy, n=6000):
    random = torch.Generator().manual_seed(0)
    x = MEAN + SPREAD * torch.randn(n, 2, generator=random)
    seen = toy.observe(x, torch.randn(n, 4, generator=random), hard=True)
    kept = seen.weight > 0
    return Galaxies(seen.flux[kept].numpy(), seen.err[kept].numpy(), np.full(int(kept.sum()), np.nan)), x[kept]


def fit(toy, galaxies, **changes):
    options = {"n_blocks": 2, "hidden": 16, "n_bins": 4, "steps": 150, "batch": (800, 800), "projections": 16}
    settings = PopulationSettings(**(options | changes))
    flow, _ = new_flow(settings, 2, 0)
    made = WassersteinLoss(flow, toy, galaxies, fit_scaling(galaxies.flux, galaxies.err), settings, 0)
    training = settings.training(learning_rate=1e-2)
    history = fit_loss(flow, made.loss, made.score, training, n_steps=settings.steps, every=25)
    with torch.no_grad():
        x = draw(flow, torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1)))
        seen = toy.observe(x, torch.randn(20_000, 4, generator=torch.Generator().manual_seed(2)), hard=True)
    return x, seen.weight > 0, history


@pytest.mark.parametrize("power", [1, 2])
def test_a_known_population_is_recovered(power):
    toy = Toy()
    x, _, _ = fit(toy, catalogue(toy)[0], power=power)
    assert x.mean(0).tolist() == pytest.approx(MEAN.tolist(), abs=0.06)
    assert x.std(0).tolist() == pytest.approx(SPREAD.tolist(), abs=0.09)


def test_the_distance_comes_near_the_sampling_floor():
    toy = Toy()
    galaxies, _ = catalogue(toy)
    _, _, history = fit(toy, galaxies)
    floor = floor_of(galaxies, fit_scaling(galaxies.flux, galaxies.err))
    assert history.validation[history.best_epoch] < 3.0 * floor


@pytest.mark.parametrize("max_hidden", [0.1, 0.5])
def test_with_the_cut_in_the_model_the_selected_are_recovered(max_hidden):
    toy = Toy(["r<20"])
    galaxies, truth = catalogue(toy, 12_000)
    x, selected, _ = fit(toy, galaxies, max_hidden=max_hidden)
    assert x[selected].mean(0).tolist() == pytest.approx(truth.mean(0).tolist(), abs=0.06)
    assert selected.float().mean() > 0.9 - max_hidden  # what lies beyond the cut is bounded, not piled up


def gradients(monkeypatch, rare, redshifts="ignored"):
    """Of the loss at 300 galaxies, and their chances; redshifts are as they are, whatever x."""
    toy = Toy(["r<20"])
    galaxies, _ = catalogue(toy)
    galaxies.redshift[:] = np.random.default_rng(2).normal(0.5, 0.1, len(galaxies))
    settings = PopulationSettings(batch=(300, 300), steps=10, projections=16, max_hidden=1.0, redshifts=redshifts)
    x = (MEAN + 2.0 * SPREAD * torch.randn(300, 2, generator=torch.Generator().manual_seed(6))).requires_grad_()
    monkeypatch.setattr("popcat.population.distance.draw", lambda flow, noise: x)
    monkeypatch.setattr("popcat.population.distance._RARE", rare)
    made = WassersteinLoss(None, toy, galaxies, fit_scaling(galaxies.flux, galaxies.err), settings, 0)
    flux = 10.0 * torch.exp(x.detach().double())
    return torch.autograd.grad(made.loss(3), x)[0], toy.cuts.probability(flux, torch.full_like(flux, ERROR))


def test_the_chance_to_be_observed_has_a_gradient_only_where_it_is_not_rare(monkeypatch):
    (found, chance), (through_features, _), (through_both, _) = (gradients(monkeypatch, rare) for rare in (0.1, 2, 0))
    rare, likely = (chance < 0.1) & (chance > 1e-4), (chance > 0.1) & (chance < 0.9)
    assert rare.sum() > 3
    assert likely.sum() > 3
    torch.testing.assert_close(found[rare], through_features[rare], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(found[likely], through_both[likely], rtol=1e-3, atol=1e-7)
    assert ((through_both - through_features)[rare | likely, 1].abs() > 1e-6).any()


def test_nor_has_a_rare_chance_a_gradient_through_known_redshifts(monkeypatch):
    without, with_known = (gradients(monkeypatch, 2, one)[0] for one in ("ignored", "distribution"))
    torch.testing.assert_close(with_known, without)
    assert not torch.equal(*(gradients(monkeypatch, 0, one)[0] for one in ("ignored", "distribution")))


def test_the_sinkhorn_divergence_recovers_it_too():
    toy = Toy()
    x, _, _ = fit(toy, catalogue(toy)[0], loss="sinkhorn", sinkhorn_batch=200, steps=100)
    assert x.mean(0).tolist() == pytest.approx(MEAN.tolist(), abs=0.15)


class BlindToy(Toy):
    """The same, but its redshift is half of x2 that no flux tells of."""

    class space:  # noqa: N801
        n_dim = 3

    def observe(self, x, normals, *, hard, noise_scale=1.0):
        seen = super().observe(x[:, :2], normals, hard=hard, noise_scale=noise_scale)
        return Observed(seen.flux, seen.err, 0.5 * x[:, 2], seen.weight)


def test_a_known_redshift_distribution_is_matched_where_photometry_says_nothing():
    toy, random = BlindToy(), np.random.default_rng(4)
    galaxies, _ = catalogue(Toy())
    galaxies.redshift[::3] = random.normal(0.7, 0.1, len(galaxies.redshift[::3]))
    found = {}
    for redshifts in ("ignored", "distribution"):
        settings = PopulationSettings(n_blocks=2, hidden=16, n_bins=4, steps=150, batch=(800, 800), projections=16,
                                      redshifts=redshifts)  # fmt: skip
        flow, _ = new_flow(settings, 3, 0)
        made = WassersteinLoss(flow, toy, galaxies, fit_scaling(galaxies.flux, galaxies.err), settings, 0)
        fit_loss(flow, made.loss, made.score, settings.training(learning_rate=1e-2), n_steps=150, every=25)
        with torch.no_grad():
            found[redshifts] = draw(flow, torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1)))
    known, unknown = 0.5 * found["distribution"][:, 2], 0.5 * found["ignored"][:, 2]
    assert (known.mean().item(), known.std().item()) == pytest.approx((0.7, 0.1), abs=0.03)
    assert abs(unknown.mean().item() - 0.7) > 0.3
    assert found["distribution"][:, :2].mean(0).tolist() == pytest.approx(MEAN.tolist(), abs=0.08)


def test_held_out_galaxies_are_the_same_for_every_member_and_disjoint():
    fitted, held = split(1000, 0.1, 4)
    assert len(held) == 100
    assert not set(fitted) & set(held)
    np.testing.assert_array_equal(held, split(1000, 0.1, 4)[1])
