"""Laws of a survey's selection: what the text says; chances and fluxes are those of noisy galaxies that pass."""

import numpy as np
import pytest
import torch

from popcat.errors import PopcatError
from popcat.population.cuts import parse_cuts

BANDS = ("u", "g", "r")


def sky(n=20_000, seed=0):
    random = np.random.default_rng(seed)
    flux = 10 ** random.uniform(-0.5, 2.5, (n, 3))
    return torch.tensor(flux), torch.full((n, 3), 2.0, dtype=torch.float64)


def test_a_magnitude_cut_keeps_the_brighter_galaxies():
    flux = torch.tensor([[1.0, 1.0, 100.1], [1.0, 1.0, 99.9], [1.0, 1.0, -5.0]])
    assert parse_cuts(["r<17.5"], BANDS).passes(flux, torch.ones(3, 3)).tolist() == [True, False, False]
    assert parse_cuts(["r>17.5"], BANDS).passes(flux, torch.ones(3, 3)).tolist() == [False, True, True]


def test_a_signal_to_noise_cut_is_flux_over_error():
    flux = torch.tensor([[6.1, 1.0, 1.0], [5.9, 1.0, 1.0]])
    assert parse_cuts(["sn_u > 3"], BANDS).passes(flux, torch.full((2, 3), 2.0)).tolist() == [True, False]


def test_all_cuts_have_to_be_passed():
    flux, err = sky()
    both = parse_cuts(["r<20", "sn_g>4"], BANDS).passes(flux, err)
    one, other = parse_cuts(["r<20"], BANDS).passes(flux, err), parse_cuts(["sn_g>4"], BANDS).passes(flux, err)
    np.testing.assert_array_equal(both, one & other)


def test_without_cuts_every_galaxy_passes():
    flux, err = sky(10)
    assert parse_cuts([], BANDS).passes(flux, err).all()
    observed, chance = parse_cuts([], BANDS).observed(flux, err, torch.ones_like(flux))
    torch.testing.assert_close(observed, flux + err)
    assert (chance == 1).all()


@pytest.mark.parametrize(
    "texts", [["r<20"], ["r>20"], ["sn_r>5"], ["r<20", "r>18.5", "sn_g>4"], ["r>20", "g>19.9"], ["sn_u<2", "r<21"]]
)
def test_weighted_with_their_chance_observed_fluxes_are_those_of_noisy_galaxies_that_pass(texts):
    n, cuts, random = 200_000, parse_cuts(texts, BANDS), torch.Generator().manual_seed(0)
    flux = torch.exp(2.0 + torch.randn(n, 3, generator=random, dtype=torch.float64))
    err = torch.exp(0.3 * torch.randn(n, 3, generator=random, dtype=torch.float64))
    normals = torch.randn(n, 3, generator=random, dtype=torch.float64)
    thrown = flux + err * normals
    passing = torch.as_tensor(cuts.passes(thrown, err))
    observed, chance = cuts.observed(flux, err, normals)
    assert chance.mean().item() == pytest.approx(passing.double().mean().item(), abs=0.005)
    assert cuts.passes(observed, err)[chance.numpy() > 1e-6].all()
    levels = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99], dtype=torch.float64)
    for band in range(3):
        ordered, order = torch.sort(observed[:, band])
        share = torch.cumsum(chance[order], 0) / chance.sum()
        expected = torch.quantile(thrown[passing, band], levels)
        torch.testing.assert_close(ordered[torch.searchsorted(share, levels)], expected, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("texts", [["r<20"], ["r<19.5", "r>18", "sn_g>12", "u>17"]])
def test_fluxes_and_chances_have_the_gradient_of_finite_differences(texts):
    flux = torch.tensor([[5.0, 9.0, 10.0], [7.0, 13.0, 30.0]], dtype=torch.float64, requires_grad=True)
    normals = torch.tensor([[0.3, -1.0, 2.0], [0.0, 1.5, -0.4]]).double()
    cuts = parse_cuts(texts, BANDS)
    assert torch.autograd.gradcheck(lambda at: cuts.observed(at, 0.3 * at**0.5, normals), flux)


def test_a_galaxy_without_a_chance_has_weight_and_gradient_zero_and_no_nan():
    flux = torch.tensor([[1e-8, 1e4, 1e-3]], requires_grad=True)
    cuts = parse_cuts(["u<18", "g>22", "sn_r>40"], BANDS)
    observed, chance = cuts.observed(flux, torch.full((1, 3), 0.01), torch.full((1, 3), 5.0))
    (observed.sum() + chance.sum()).backward()
    assert chance.item() < 1e-99
    assert torch.isfinite(flux.grad).all()
    assert torch.isfinite(observed).all()


def test_without_noise_the_chance_is_the_cut():
    flux, err = sky()
    cuts = parse_cuts(["r<20", "g>18"], BANDS)
    observed, chance = cuts.observed(flux, err, torch.ones_like(flux), scale=0.0)
    np.testing.assert_allclose(chance.numpy(), cuts.passes(flux, err), atol=1e-9)
    torch.testing.assert_close(observed[chance > 0.5], flux[chance > 0.5])


@pytest.mark.parametrize("text", ["r<20", "r>20", "sn_r>5"])
def test_the_chance_of_detection_is_the_share_of_noisy_copies_that_pass(text):
    flux, err = torch.full((1, 3), 10.5, dtype=torch.float64), torch.full((1, 3), 2.0, dtype=torch.float64)
    cuts = parse_cuts([text], BANDS)
    noisy = flux + err * torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = cuts.passes(noisy, err.expand(40_000, 3)).mean()
    assert cuts.probability(flux, err).item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("r < 19.8", ["r<19.8"]), ("19.8 > r", ["r<19.8"]), ("r <= 19.8", ["r<19.8"]),
     ("14 < r < 19.8", ["r>14", "r<19.8"]),
     ("sn_u > 3 and (r < 20 and 22 >= g)", ["sn_u>3", "r<20", "g<22"]), ("`r` > -1.5", ["r>-1.5"]),
     ("r<0x10", ["r<16"])],
)  # fmt: skip
def test_a_cut_is_a_condition_in_the_language_of_where(text, expected):
    assert [str(cut) for cut in parse_cuts([text], BANDS).cuts] == expected


def test_conditions_joined_by_and_are_cuts_given_one_by_one():
    assert parse_cuts(["r < 20 and sn_g > 4 and u > 14"], BANDS) == parse_cuts(["r<20", "sn_g>4", "u>14"], BANDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [("r==20", "expected comparisons of a band"), ("r=20", "expected comparisons"), ("k<20", 'no band "k"'),
     ("sn_k>2", 'no band "k"'), ("sn_r>0", "positive"), ("-2 < sn_r", "positive"), ("", "expected"),
     ("r<1.2.3", "expected"), ("r<.", "expected"), ("r<20 or g<20", 'joined by "and"'),
     ("not r<20", "expected"),
     ("r < g", "expected"), ("g - r < 1", "expected"), ("19 < 20", "expected"), ("r", "expected"),
     ("r < 1e999", "expected"),
     ("r < True", "expected"), ("r < 'a'", "expected"), ("r < 20, g < 20", "expected"), ("abs(r) < 20", "expected")],
)  # fmt: skip
def test_a_cut_that_is_none_is_refused_with_what_was_expected(text, message):
    with pytest.raises(PopcatError, match=message) as refused:
        parse_cuts([text], BANDS)
    assert "\n" not in str(refused.value) and f'cut "{text}"' in str(refused.value)
