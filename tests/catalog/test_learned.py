"""What is learned beyond the prior, against closed forms."""

import numpy as np
import pytest

from popcat.catalog.learned import LITTLE, NEAREST, Gain, Learned, PriorDraws, gains_of, medians


def drawn(scale, mean=0.0, *, k=100, m=NEAREST, trials=40):
    """Ratios and nats of 2,000 Gaussian posteriors of k draws, over m draws of a standard Gaussian prior, anew for each
    50 of them."""
    random = np.random.default_rng(1)
    found = [gains_of(mean + scale * random.normal(size=(50, k)), random.normal(size=m)) for _ in range(trials)]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


@pytest.mark.parametrize(("scale", "mean"), [(0.9, 0.0), (0.72, 0.0), (0.5, 0.0), (0.3, 0.0), (0.1, 0.0), (0.5, 1.0)])
def test_of_gaussians_ratio_and_nats_are_those_of_the_closed_form(scale, mean):
    ratio, nats = drawn(scale, mean)
    assert np.median(ratio) == pytest.approx(scale, rel=0.05)
    assert np.median(nats) == pytest.approx(-np.log(scale) + 0.5 * (scale**2 + mean**2 - 1.0), rel=0.06, abs=0.02)


@pytest.mark.parametrize(("k", "most"), [(100, 0.1), (50, 0.13), (20, 0.17)])
def test_where_nothing_is_learned_nothing_is_gained(k, most):
    """The figures of popcat.catalog.learned: one galaxy of 20 seems to gain 0.08 nats."""
    ratio, nats = drawn(1.0, k=k)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert np.median(nats) < 0.01 and np.quantile(nats, 0.95) < most and nats.min() == 0.0


def test_no_more_than_the_bins_can_tell_is_gained():
    assert drawn(0.001)[1].max() < np.log(20.0)
    assert drawn(0.001, k=20)[1].max() < np.log(4.0)


def test_a_value_that_many_draws_share_is_no_information():
    random = np.random.default_rng(2)

    def with_atom(shape):
        return np.where(random.uniform(size=shape) < 0.4, 0.0, random.uniform(size=shape))

    _, nats = gains_of(with_atom((500, 100)), with_atom(NEAREST))
    assert np.median(nats) < 0.02
    _, nats = gains_of(np.zeros((1, 100)), with_atom(4000))
    assert nats[0] == pytest.approx(-np.log(0.4), abs=0.15)


def test_a_fixed_parameter_has_nothing_to_learn():
    assert np.isnan(gains_of(np.ones((2, 100)), np.ones(400))).all()


@pytest.fixture
def prior():
    """A quantity that follows from the redshift, within 0.01."""
    random = np.random.default_rng(3)
    z = random.uniform(0.0, 1.0, 2000)
    return PriorDraws.of({"x": z + 0.01 * random.normal(size=2000), "redshift": z})


def test_the_prior_of_a_galaxy_is_that_at_its_redshift(prior):
    random = np.random.default_rng(4)
    z = np.array([0.5, 0.5, np.nan, 0.01, 0.99])
    err = np.array([np.nan, 0.3, np.nan, np.nan, np.nan])
    spans = prior.spans(z, err)
    length = spans[:, 1] - spans[:, 0]
    assert NEAREST <= length[0] < NEAREST + 100 and length[1] > 1800 and length[2] == 2000
    assert spans[3, 0] == 0 and spans[4, 1] == 2000 and length[3] == length[4] == NEAREST
    near = prior.values["redshift"][slice(*spans[0])]
    assert near.min() < 0.45 and near.max() > 0.55 and abs(near.mean() - 0.5) < 0.03
    draws = np.stack([random.uniform(near.min(), near.max(), 100)] * 3)
    gains = prior.gains({"x": draws, "redshift": draws, "other": draws}, z[:3], err[:3])
    assert set(gains) == {"x", "redshift"}
    _, nats = gains["x"]
    assert nats[0] < 0.3 < 1.5 < min(nats[1], nats[2])
    assert np.isnan(gains["redshift"]).tolist() == [[True, True, False]] * 2  # what is given is not learned


def test_a_catalogue_says_the_medians_and_names_what_stays_the_priors():
    many, few = np.full(5, 1.5), np.array([0.0, 0.01, 0.02, 0.3, np.nan])
    nothing = np.full(5, np.nan)
    found = medians({"a": (few, few), "b": (many, many), "c": (nothing, nothing)}, "physical", ["u", "g"])
    assert found == Learned(prior="physical", bands=["u", "g"], galaxies=5,
                            quantities={"a": Gain(ratio=0.015, nats=0.015), "b": Gain(ratio=1.5, nats=1.5)})
    assert found.little == ["a"] and "little of 1 of 2 quantities" in found.line and "physical" in found.line
    assert found.of_columns()["a"].startswith("prior-dominated: 0.01 nats")
    assert Learned.model_validate_json(found.model_dump_json()) == found
    assert medians({"c": (nothing, nothing)}, "flat", ["nuv"]) is None
    all_of_it = medians({"b": (many, many)}, "flat", ["nuv", "u"])
    assert all_of_it.line == "nuv, u measure every quantity beyond the prior (flat)"
    assert LITTLE == 0.1
