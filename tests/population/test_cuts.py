"""Laws of a survey's selection: what the text says, and that the smooth surrogate becomes the cut."""

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
    assert (parse_cuts([], BANDS).weight(flux, err, 0.1) == 1).all()


def test_the_smooth_weight_becomes_the_cut_as_its_width_vanishes():
    flux, err = sky()
    cuts = parse_cuts(["r<20", "sn_g>4"], BANDS)
    hard = torch.as_tensor(cuts.passes(flux, err)).double()
    away = [(cuts.weight(flux, err, width) - hard).abs().mean().item() for width in (0.3, 0.1, 0.01, 1e-4)]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-4


def test_the_weight_has_a_gradient_where_the_cut_has_none():
    flux = torch.tensor([[1.0, 1.0, 10.0]], requires_grad=True)
    parse_cuts(["r<20"], BANDS).weight(flux, torch.ones(1, 3), 0.1).sum().backward()
    assert flux.grad[0, 2] > 0
    assert flux.grad[0, 0] == 0


@pytest.mark.parametrize("text", ["r<20", "r>20", "sn_r>5"])
def test_the_chance_of_detection_is_the_share_of_noisy_copies_that_pass(text):
    flux, err = torch.full((1, 3), 10.5, dtype=torch.float64), torch.full((1, 3), 2.0, dtype=torch.float64)
    cuts = parse_cuts([text], BANDS)
    noisy = flux + err * torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = cuts.passes(noisy, err.expand(40_000, 3)).mean()
    assert cuts.probability(flux, err).item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [("r=20", "expected a band and a limit"), ("k<20", 'no band "k"'), ("sn_r>0", "positive"), ("", "expected")],
)
def test_a_cut_that_is_none_is_refused_with_what_was_expected(text, message):
    with pytest.raises(PopcatError, match=message):
        parse_cuts([text], BANDS)
