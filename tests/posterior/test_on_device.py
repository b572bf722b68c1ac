"""What a GPU computes is what the CPU does: the same code runs here on the CPU, and on torch's "meta" device."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from devices import DEVICES, NothingElsewhere

from popcat import rng
from popcat.checks.certify import certify
from popcat.distributions import Law, Normal, Uniform
from popcat.errors import PopcatError
from popcat.flows.placement import moved
from popcat.physical.prior import JointPrior
from popcat.physical.torch_density import TorchJointPrior
from popcat.posterior import on_device, torch_law
from popcat.posterior.on_device import OnDevice
from popcat.prior import PHYSICAL

KINDS = ["exact", "measured", "unknown", "of every kind", "missing bands", "negative", "far too precise"]


def shown(observed, kind):
    """The galaxies as a catalogue may have them."""
    n, flux = len(observed), observed.flux.copy()
    if kind == "measured":
        return replace(observed, redshift_err=np.full(n, 0.02))
    if kind == "unknown":
        return replace(observed, redshift=np.full(n, np.nan))
    if kind == "of every kind":
        at = np.arange(n)
        return replace(observed, redshift=np.where(at % 3 == 0, np.nan, observed.redshift),
                       redshift_err=np.where(at % 3 == 1, 0.01, np.nan))  # fmt: skip
    if kind == "missing bands":
        flux[::2, 0], flux[1::3, 2:4] = np.nan, np.nan
        return replace(observed, flux=flux, redshift=np.where(np.arange(n) % 2, np.nan, observed.redshift))
    if kind == "negative":
        return replace(observed, flux=np.where(np.arange(5) == 0, -0.3 * np.abs(flux), flux))
    return replace(observed, flux_err=observed.flux_err * 1e-3) if kind == "far too precise" else observed


def in_sigma(posterior, theta):
    return posterior.prior.to_unconstrained(theta.reshape(-1, theta.shape[-1])).reshape(*theta.shape[:2], -1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_weights_are_those_of_the_cpu(trained, observed, kind, device):
    posterior, data = trained[0], shown(observed, kind)
    ours, theirs = OnDevice(posterior, device).sample(data, 20, 3), posterior.sample(data, 20, 3)
    away = np.abs(in_sigma(posterior, ours.theta) - in_sigma(posterior, theirs.theta))
    # a number in the far tail of a parameter magnifies the last digit of single precision
    assert np.quantile(away, 0.99) < 1e-4 and np.median(away) < 1e-5
    np.testing.assert_allclose(ours.redshift, theirs.redshift, rtol=2e-5)
    if kind != "far too precise":
        np.testing.assert_allclose(ours.log_weight, theirs.log_weight, rtol=1e-4, atol=0.02)
        np.testing.assert_allclose(ours.chi2, theirs.chi2, rtol=2e-3, atol=0.01)


def under_physical(posterior):
    return replace(posterior, priors=(PHYSICAL,), prior_name=PHYSICAL)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["exact", "unknown", "negative"])
def test_draws_under_the_physical_prior_are_those_of_the_cpu(trained, observed, kind, device):
    posterior, data = under_physical(trained[0]), shown(observed, kind)
    ours, theirs = OnDevice(posterior, device).sample(data, 20, 3), posterior.sample(data, 20, 3)
    away = np.abs(in_sigma(posterior, ours.theta) - in_sigma(posterior, theirs.theta))
    assert np.quantile(away, 0.99) < 1e-4 and np.median(away) < 1e-5
    np.testing.assert_allclose(ours.log_weight, theirs.log_weight, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("device", DEVICES)
def test_a_flow_that_holds_the_mass_draws_the_same(format_2, observed, device):
    ours, theirs = OnDevice(format_2, device).sample(observed, 20, 3), format_2.sample(observed, 20, 3)
    assert np.quantile(np.abs(in_sigma(format_2, ours.theta) - in_sigma(format_2, theirs.theta)), 0.99) < 1e-4


@pytest.mark.parametrize("device", DEVICES)
def test_an_ensemble_draws_the_same(trained, observed, device):
    first = trained[0]
    two = replace(first, flows=(first.flows[0], _scaled(first.flows[0])))
    ours, theirs = OnDevice(two, device).sample(observed, 20, 3), two.sample(observed, 20, 3)
    assert np.quantile(np.abs(in_sigma(two, ours.theta) - in_sigma(two, theirs.theta)), 0.99) < 1e-4
    np.testing.assert_allclose(ours.log_weight, theirs.log_weight, rtol=1e-4, atol=0.02)


def _scaled(flow):
    other = copy.deepcopy(flow)
    with torch.no_grad():
        for values in other.parameters():
            values.mul_(1.05)
    return other


@pytest.mark.parametrize("device", DEVICES)
def test_properties_are_those_of_the_cpu(trained, observed, device):
    posterior = trained[0]
    draws = posterior.sample(observed, 50, 3)
    theta, z = draws.theta.reshape(-1, draws.theta.shape[2]), draws.redshift.ravel()
    ours, theirs = OnDevice(posterior, device).derive(theta, z), posterior.forward.derive(theta, z)
    assert list(ours) == list(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_random_numbers_are_those_of_the_cpu(device):
    ids = np.array([0, 1, -5, 2**62, -(2**63)])
    on_device = torch.from_numpy(ids).to(device)
    for seed, stream, n in ((0, 1, 1), (3 + (2 << 40), 70000, 8), (-1, 5, 31)):
        np.testing.assert_array_equal(torch_law.uniform(seed, stream, on_device, n).cpu().numpy(),
                                      rng.uniform(seed, stream, ids, n))  # fmt: skip
        np.testing.assert_allclose(torch_law.normal(seed, stream, on_device, n).cpu().numpy(),
                                   rng.normal(seed, stream, ids, n), rtol=1e-9, atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("kind", ["exact", "of every kind"])
def test_all_of_it_happens_on_the_device(trained, observed, kind):
    posterior, data = trained[0], shown(observed, kind)
    elsewhere = OnDevice(posterior, "meta")
    n, k, d = len(data), 6, posterior.n_coordinates
    ids = torch.empty(n, dtype=torch.int64, device="meta")
    with NothingElsewhere():
        normals = torch_law.normal(1, 2, ids, k * d).reshape(n, k, d)
        numbers = torch_law.uniform(1, 3, ids, k)
        theta, *rest = elsewhere.transform(data, normals, numbers, numbers)
        properties = elsewhere.properties(theta.flatten(0, 1).float(), rest[0].flatten().float())
    assert theta.shape == (n, k, 12) and theta.device.type == "meta"
    assert all(values.shape == (n, k) and values.device.type == "meta" for values in rest)
    assert all(values.shape == (n * k,) and values.device.type == "meta" for values in properties.values())


def test_a_placed_posterior_samples_there_and_is_kept(trained, observed):
    posterior = trained[0]
    there = posterior.to("cpu:0")
    assert there is posterior.to("cpu:0") and there.device == "cpu:0" and isinstance(there.placed, OnDevice)
    assert posterior.to("cpu") is posterior
    ours, theirs = there.quantities(observed, 20, 3), posterior.quantities(observed, 20, 3)
    for name, values in theirs[0].items():
        assert np.quantile(np.abs(ours[0][name] - values) / np.maximum(np.std(values), 1e-6), 0.99) < 1e-3, name
    ours, theirs = (certify(one, observed[:6], 30, 0) for one in (there, posterior))
    assert list(ours.route) == list(theirs.route)
    np.testing.assert_allclose(ours.log_evidence, theirs.log_evidence, atol=0.1)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_in_one_line(trained, device):
    with pytest.raises(PopcatError, match=rf'no device "{device}" that torch can use here, expected') as caught:
        trained[0].to(device)
    assert "\n" not in str(caught.value)


def massive(observed, n=6, k=40, seed=4):
    """Fluxes of draws if the mass were 10^10, photometry (n, n_band), and uniform numbers."""
    random = np.random.default_rng(seed)
    model = observed.flux[:n, None] * random.uniform(0.02, 1.5, (n, k, 1)) * random.uniform(0.9, 1.1, (n, k, 5))
    err = observed.flux_err[:n] * np.geomspace(1.0, 300.0, n)[:, None]  # from a narrow peak to hardly any
    return [torch.from_numpy(one) for one in (model, observed.flux[:n], err, random.uniform(size=(n, k)))]


@pytest.mark.parametrize("height", [0.0, 2000.0, -2000.0])
@pytest.mark.parametrize(("step", "good_to"), [(1, 1e-3), (on_device.N_FACTOR_STEP, 0.05)])
@pytest.mark.parametrize("mean", [9.0, 10.5, 12.0])
def test_a_factor_of_the_prior_is_a_prior_that_has_it(observed, mean, step, good_to, height, monkeypatch):
    """At every node of the peak it is the same; with the others in between it is nearly so."""
    monkeypatch.setattr(on_device, "_MASSES", 100)
    monkeypatch.setattr(on_device, "N_FACTOR_STEP", step)
    model, flux, err, numbers = massive(observed)
    law = Law(Normal(family="normal", mean=mean, sigma=0.5), 7.0, 12.5)
    flat = Law(Uniform(), 7.0, 12.5)

    def log_factor(rows, log_mass):
        assert len(log_mass) == numbers[rows].numel() <= 100
        return torch.from_numpy(law.log_density(log_mass.numpy())) + np.log(5.5) + height

    ours = on_device.torch_mass(model, 10.0, flux, err, flat, numbers, log_factor)
    theirs = on_device.torch_mass(model, 10.0, flux, err, law, numbers)
    np.testing.assert_allclose(ours[1].numpy() - height, theirs[1].numpy(), atol=good_to)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), atol=good_to)


@pytest.mark.parametrize("device", DEVICES)
def test_masses_under_the_physical_prior_have_its_evidence(trained, observed, device):
    posterior = trained[0]
    joint = JointPrior(posterior.galaxy_model, posterior.survey.redshift_range, n_draws=3000)
    model, flux, err, numbers = massive(observed)
    random, (n, k) = np.random.default_rng(5), numbers.shape
    theta = joint.prior.from_unit(random.uniform(size=(n * k, joint.prior.n_unconstrained)))
    z, law = random.uniform(*joint.redshift_range, n * k), joint.prior.laws["log_mstar_formed"]
    fine = np.linspace(law.low, law.high, 6001)
    ratio = joint.log_ratio_of_masses(theta, z, fine).reshape(n, k, -1)
    scaled = model[..., None].numpy() * 10.0 ** (fine - 10.0)
    chi2 = (((scaled - flux[:, None, :, None].numpy()) / err[:, None, :, None].numpy()) ** 2).sum(2)
    value = ratio - 0.5 * chi2
    top = value.max(2)
    density = np.exp(value - top[..., None] + law.log_density(fine))
    below = np.cumsum(0.5 * (density[..., 1:] + density[..., :-1]), axis=2) * (fine[1] - fine[0])
    twin = moved(TorchJointPrior(joint), device)
    of_draws = twin.of_draws(*(torch.from_numpy(one).to(device) for one in (theta.reshape(n, k, -1), z.reshape(n, k))))
    inputs = [one.to(device) for one in (flux, err, numbers)]
    log_mass, log_l, _ = on_device.torch_mass(model.to(device), 10.0, *inputs[:2], law, inputs[2], of_draws)
    np.testing.assert_allclose(log_l.cpu().numpy(), top + np.log(below[..., -1]), atol=0.05)
    share = [[np.interp(log_mass[i, j].item(), fine[1:], below[i, j] / below[i, j, -1]) for j in range(k)]
             for i in range(n)]  # fmt: skip
    np.testing.assert_allclose(share, numbers.numpy(), atol=0.03)


def test_masses_under_the_physical_prior_are_drawn_on_the_device(trained):
    posterior = trained[0]
    joint = JointPrior(posterior.galaxy_model, posterior.survey.redshift_range, n_draws=3000)
    twin, law = moved(TorchJointPrior(joint), "meta"), joint.prior.laws["log_mstar_formed"]
    theta = torch.empty(7, 6, len(joint.prior.names), dtype=torch.float64, device="meta")
    with NothingElsewhere():
        found = on_device.torch_mass(theta[..., :5], 10.0, theta[:, 0, :5], theta[:, 0, :5], law, theta[..., 0],
                                     twin.of_draws(theta, theta[..., 0]))  # fmt: skip
    assert all(one.shape == (7, 6) and one.device.type == "meta" for one in found)
