"""Draws of a posterior on a GPU: what popcat.posterior.posterior and popcat.posterior.draws do on the CPU, in torch.

Random numbers are made on the device, and redshifts, parameters, fluxes, masses and likelihoods follow there, in large
batches. They are the CPU's to single precision of the flow and of the band tables: about 1e-5 standard deviations.
Tests run this very code on the CPU, and on torch's "meta" device, where no tensor may be made elsewhere.
"""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from popcat import rng
from popcat.columns import parameter_fields
from popcat.distributions import Law
from popcat.flows.placement import moved
from popcat.flows.sampler import make_sampler
from popcat.forward.cosmology import cosmology_table
from popcat.forward.flux_errors import FluxErrors
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.forward.torch_properties import TorchProperties, distance_modulus
from popcat.forward.torch_sfh import between
from popcat.galaxies import Observation, observed
from popcat.physical.torch_density import TorchJointPrior
from popcat.posterior.draws import DEPTH, N_FACTOR_STEP, N_FLAT, N_PEAK, Draws, prior_nodes
from popcat.posterior.features import N_FINE, REACH
from popcat.posterior.torch_law import normal, parameters_of, uniform
from popcat.prior import MASS
from popcat.units import LN_2PI

_LN_10 = float(np.log(10.0))
# Draws whose masses are tabulated at a time: 650 bytes each.
_MASSES = 1 << 20
_TINY = 1e-300


class OnDevice:
    """A posterior's flows, densities and band tables on one device."""

    def __init__(self, posterior, device: "str | torch.device"):
        self.posterior, self.device, self.flux_errors = posterior, torch.device(device), FluxErrors(posterior.survey)
        self.sampler = moved(make_sampler(posterior.flows, torch_alone=True), self.device)
        self.density = moved(posterior.redshift_density, self.device)
        self.twin = moved(TorchPhotometry(posterior.forward.photometry), self.device)
        physical = posterior.physical
        self.physical = None if physical is None else moved(TorchJointPrior(physical), self.device)

    @torch.no_grad()
    def sample(self, data: Observation, n_draws: int, seed: int) -> Draws:
        """`Posterior.sample`."""
        width, ids = self.posterior.n_coordinates, self._tensor(np.asarray(data.object_id, dtype=np.int64))
        normals = normal(seed, rng.STREAM_FLOW, ids, n_draws * width).reshape(-1, n_draws, width)
        uniforms = uniform(seed, rng.STREAM_REDSHIFT, ids, n_draws)
        masses = uniform(seed, rng.STREAM_MASS, ids, n_draws) if self.posterior.draws_mass else None
        member = uniform(seed, rng.STREAM_MEMBER, ids, n_draws) if len(self.posterior.flows) > 1 else None
        return self._numpy(*self.transform(data, normals, uniforms, masses, member))

    def of_numbers(self, data: Observation, normals, uniforms, masses) -> Draws:
        """`Posterior.transform` of arrays, by the first flow."""
        mass = None if masses is None else self._tensor(masses)
        return self._numpy(*self.transform(data, self._tensor(normals), self._tensor(uniforms), mass))

    @cached_property
    def properties(self) -> TorchProperties:
        """The twin of the properties."""
        return moved(TorchProperties(self.posterior.forward.properties), self.device)

    @torch.no_grad()
    def derive(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity by name, each (n,), of theta (n, d) at redshift (n,)."""
        some = [self._tensor(values).float() for values in (theta, redshift)]
        found = {name: values.cpu().numpy() for name, values in self.properties(*some).items()}
        return {**dict(zip(parameter_fields(self.posterior.galaxy_model), theta.T, strict=True)), **found,
                "redshift": redshift}  # fmt: skip

    @torch.no_grad()
    def transform(
        self, data: Observation, normals: Tensor, uniforms: Tensor, masses: Tensor | None = None,
        member: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """theta (n, k, d), and (n, k) each: redshift, chi2, ln q, ln prior, ln L; numbers as of `OnCPU.of_numbers`."""
        prior, width, shape = self.posterior.prior, self.posterior.n_coordinates, normals.shape[:2]
        z = self._tensor(np.asarray(data.redshift, dtype=float))[:, None].expand(shape).clone()
        log_q, log_prior = z.new_zeros(shape), z.new_zeros(shape)
        w = normals.float()
        for rows, is_free in ((np.flatnonzero(~data.is_free), False), (np.flatnonzero(data.is_free), True)):
            if len(rows) == 0:
                continue
            at, some = self._tensor(rows), data[rows]
            chosen = None if member is None else member[at]
            if is_free:
                z[at], log_q[at], log_prior[at] = self._redshifts(some, uniforms[at])
            w[at], q = self._conditioned(some, z[at], w[at], chosen, is_free)
            log_q[at] += q
        flat = w.reshape(-1, width).double()
        log_prior += (-0.5 * (flat**2).sum(1)).view(shape) - 0.5 * width * LN_2PI
        draws_mass = self.posterior.draws_mass
        theta = parameters_of(prior, torch.nn.functional.pad(flat, (1, 0)) if draws_mass else flat)
        flux = self.twin(theta.to(self.twin.component), z.reshape(-1).to(self.twin.component)).double()
        flux = flux.view(*shape, self.twin.n_band)
        theta = theta.view(*shape, theta.shape[1])
        seen, err = observed(data.flux, data.flux_err), self._errors(data, z)
        given, is_seen = self._tensor(np.where(seen, data.flux, 0.0)), self._tensor(seen)[:, None]
        norm = torch.where(is_seen, torch.log(err) + 0.5 * LN_2PI, 0.0).sum(2)
        err = torch.where(is_seen, err, torch.inf)
        if not draws_mass:
            chi2 = (((flux - given[:, None]) / err) ** 2).sum(2)
            if self.physical is not None:
                log_prior = log_prior + self.physical(theta.flatten(0, 1), z.flatten()).view(shape)
            return theta, z, chi2, log_q, log_prior, -0.5 * chi2 - norm
        law, numbers = prior.laws[MASS], torch.full_like(z, 0.5) if masses is None else masses.double()
        log_factor = None if self.physical is None else self.physical.of_draws(theta, z)
        median = float(law.from_unit(np.array(0.5)))
        log_mass, log_l, chi2 = torch_mass(flux, median, given, err, law, numbers, log_factor)
        theta[..., 0] = log_mass
        return theta, z, chi2, log_q, log_prior, log_l - norm

    def _errors(self, data: Observation, z: Tensor) -> Tensor:
        """`FluxErrors` of draws at redshift (n, k)."""
        errors, seen = self.flux_errors, observed(data.flux, data.flux_err)
        err = self._tensor(np.where(seen, data.flux_err, 1.0))[:, None]
        if errors.law is None:
            return err
        flux = self._tensor(np.where(seen, np.maximum(data.flux, 0.0), 0.0))[:, None]
        z = z if data.is_free.any() else z[:, :1]
        ln_rest = self._tensor(np.log(errors.pivot_aa)) - torch.log1p(z)[..., None]
        nodes, value = map(self._tensor, errors.nodes)
        i = (torch.searchsorted(nodes, ln_rest) - 1).clamp(0, len(nodes) - 2)
        at = ((ln_rest - nodes[i]) / (nodes[i + 1] - nodes[i])).clamp(0.0, 1.0)
        return torch.hypot(err, (value[i] + at * (value[i + 1] - value[i])) * flux)

    def _redshifts(self, data: Observation, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`Posterior._redshifts`: redshifts, ln q, and ln prior times the likelihood of a measured one."""
        bounds, z_obs = self.posterior.survey.redshift_range, self._tensor(np.asarray(data.redshift, dtype=float))
        sigma = self._tensor(np.where(np.isnan(data.redshift), np.nan, data.redshift_err))
        context = self._tensor(self.posterior.redshift_features(data.flux, data.flux_err))
        z, log_q = torch_redshift(self.density.log_nodes(context).double(), bounds, z_obs, sigma, numbers)
        measured = -0.5 * ((z - z_obs[:, None]) / sigma[:, None]) ** 2 - torch.log(sigma[:, None]) - 0.5 * LN_2PI
        law = self.posterior.redshift_law
        nodes = np.linspace(law.low, law.high, 4097)
        density = between(z, nodes, np.exp(law.log_density(nodes))) if not law.is_uniform else torch.full_like(
            z, 1.0 / (law.high - law.low))  # fmt: skip
        return z, log_q, torch.where(torch.isnan(z_obs)[:, None], 0.0, measured) + torch.log(density)

    def _conditioned(self, data: Observation, z: Tensor, noise: Tensor, member: Tensor | None, is_free: bool):
        """w and ln q(w | x, z)."""
        features, sampler = self.posterior.features, self.sampler
        if not is_free:
            context = self._tensor(features(data.flux, data.flux_err, np.asarray(data.redshift, dtype=float)))
            return sampler.transform(noise, context, member)
        base, slope = map(self._tensor, features.by_redshift(data.flux, data.flux_err))
        modulus = distance_modulus(cosmology_table(features.cosmology), z)
        away = torch.stack([z - features.mean[-2], modulus - features.mean[-1]], 2)
        context = (base[:, None] + (away[..., None] * slope[:, None]).sum(2)).flatten(0, 1).float()
        n, k, d = noise.shape
        w, q = sampler.transform(noise.reshape(n * k, 1, d), context, None if member is None else member.reshape(-1, 1))
        return w.view(n, k, d), q.view(n, k)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.require(array, requirements=("C", "W"))).to(self.device)

    @staticmethod
    def _numpy(theta, redshift, *rest) -> Draws:
        return Draws(*(values.double().cpu().numpy() for values in (theta, redshift, *rest)))


def torch_redshift(
    log_nodes: Tensor, bounds: tuple[float, float], z_obs: Tensor, sigma: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`popcat.posterior.features.draw_redshift` on any device."""
    density, (low, high) = torch.exp(log_nodes), bounds
    n_bins = density.shape[1] - 1
    width, n = (high - low) / n_bins, len(density)
    is_known = ~torch.isnan(z_obs)
    centre, spread = torch.where(is_known, z_obs, low), torch.where(is_known, sigma, 1.0)
    start = (centre - REACH * spread).clamp(min=low)
    step = (torch.maximum((centre + REACH * spread).clamp(max=high), start) - start) / N_FINE
    at = start[:, None] + step[:, None] * torch.arange(N_FINE + 1, device=density.device)
    x = ((at - low) / width).clamp(0.0, n_bins - 1e-9)
    k = x.long()
    q = density.gather(1, k) + (x - k) * (density.gather(1, k + 1) - density.gather(1, k))
    fine = q * torch.exp(-0.5 * ((at - centre[:, None]) / spread[:, None]) ** 2)
    coarse = _invert(density, density.new_full((n,), low), density.new_full((n,), width), numbers)
    near = _invert(fine, start, step, numbers)
    z, log_q = (torch.where(is_known[:, None], a, b) for a, b in zip(near, coarse, strict=True))
    return z, log_q


def _invert(value: Tensor, start: Tensor, step: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """`popcat.posterior.features.invert_density` of densities (n, n_node) from start (n,) in steps (n,), at u (n, k):
    where so much of the mass is below, and ln of the density there."""
    pieces = 0.5 * step[:, None] * (value[:, 1:] + value[:, :-1])
    below = torch.nn.functional.pad(torch.cumsum(pieces, 1), (1, 0))
    mass = u * below[:, -1:]
    j = (torch.searchsorted(below, mass, right=True) - 1).clamp(0, value.shape[1] - 2)
    a, b, rest = value.gather(1, j), value.gather(1, j + 1), mass - below.gather(1, j)
    wide = step[:, None].expand_as(rest)
    root = torch.where(wide > 0.0, torch.sqrt((a * a + 2.0 * (b - a) * rest / wide.clamp(min=_TINY)).clamp(min=0.0)), a)
    x = torch.where(a + root > 0.0, torch.minimum(2.0 * rest / (a + root).clamp(min=_TINY), wide), 0.5 * wide)
    here = torch.where(wide > 0.0, a + (b - a) * x / wide.clamp(min=_TINY), a)
    log_q = torch.log(here.clamp(min=_TINY)) - torch.log(below[:, -1:].clamp(min=_TINY))
    return start[:, None] + j * wide + x, log_q


def torch_mass(
    model: Tensor, log_mass: float, flux: Tensor, err: Tensor, law: Law, numbers: Tensor,
    log_factor: Callable[[slice, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`popcat.posterior.draws.draw_mass` on any device, in float64: log10 M, ln L but for its constant, chi2.

    model : (n, k, n_band) if the mass were `log_mass`. flux : (n, n_band). err : (n, n_band) or, of each draw,
    (n, k, n_band), infinite where not observed.
    log_factor : ln of a factor on the prior of galaxies (slice), (n k, m), at log10 masses (n k, m).
    """
    (n, k, _), err = model.shape, err if err.dim() == 3 else err[:, None]
    step = max(_MASSES // max(k, 1), 1)
    slices = [slice(i, i + step) for i in range(0, n, step)]
    parts = [_some_masses(model[at], log_mass, flux[at], err[at], law, numbers[at],
                          None if log_factor is None else partial(log_factor, at)) for at in slices]  # fmt: skip
    log10_m, log_l, chi2 = (torch.cat(values) for values in zip(*parts, strict=True))
    return log10_m, log_l, chi2


def _some_masses(model, log_mass, flux, err, law, numbers, log_factor):
    least, most = 10.0 ** (law.low - log_mass), 10.0 ** (law.high - log_mass)
    m, f = model / err, flux[:, None] / err
    precision = (m * m).sum(2)
    is_lit, is_absurd = precision > 0.0, ~(precision < torch.inf)
    p = torch.where(is_lit & ~is_absurd, precision, 1.0)
    best = torch.where(is_lit & ~is_absurd, (m * f).sum(2) / p, least)
    top = best.clamp(least, most)
    away = (top - best).abs()
    reach = torch.where(is_lit, 2.0 * DEPTH / p / (away + torch.sqrt(away * away + 2.0 * DEPTH / p)), torch.inf)
    start, stop = (top - reach).clamp(min=least), (top + reach).clamp(max=most)
    knee = torch.minimum(torch.maximum(torch.minimum(p**-0.5, 0.2 * stop), start), stop)
    knee = torch.where(is_lit, knee, stop)
    rise = torch.arange(N_FLAT + 1, device=model.device, dtype=model.dtype) / N_FLAT
    flat = start[..., None] * torch.exp(rise * torch.log(knee / start)[..., None])
    rise = torch.arange(N_PEAK + 1, device=model.device, dtype=model.dtype) / N_PEAK
    peak = knee[..., None] + rise * (stop - knee)[..., None]
    prior, on = prior_nodes(law), torch.where(is_lit, precision, 0.0)
    values = []
    for at in (flat, peak):
        of_prior = (torch.full_like(at, float(prior[0])) if len(prior) == 2 else
                    between(log_mass + torch.log10(at), np.linspace(law.low, law.high, len(prior)), prior))  # fmt: skip
        chi2 = on[..., None] * (at - top[..., None]) * (at + (top - 2.0 * best)[..., None])
        values.append(of_prior * torch.exp(-0.5 * chi2) / _LN_10)
    values[1] = values[1] / peak
    largest = torch.zeros_like(knee)
    if log_factor is not None:
        factors, largest = _factors(log_mass + torch.log10(flat), log_mass + torch.log10(peak), log_factor)
        values = [value * factor for value, factor in zip(values, factors, strict=True)]
    steps = torch.log(knee / start) / N_FLAT, (stop - knee) / N_PEAK
    below = [(0.5 * step[..., None] * (value[..., 1:] + value[..., :-1])).sum(2)
             for step, value in zip(steps, values, strict=True)]  # fmt: skip
    total = below[0] + below[1]
    u = numbers * total
    in_flat = u < below[0]
    ends = torch.zeros_like(knee).flatten(), knee.flatten()
    shares = u / below[0].clamp(min=_TINY), (u - below[0]) / below[1].clamp(min=_TINY)
    at = [_invert(value.flatten(0, 1), end, step.flatten(), share.clamp(0.0, 1.0).flatten()[:, None])[0].view_as(u)
          for value, end, step, share in zip(values, ends, steps, shares, strict=True)]  # fmt: skip
    mass = torch.where(in_flat, start * torch.exp(at[0]), at[1])
    mass = torch.where(total > 0.0, mass, start + numbers * (stop - start)).clamp(least, most)
    drawn, fitted = (((f - scale[..., None] * m) ** 2).sum(2) for scale in (mass, top))
    log_l = torch.where(total > 0.0, -0.5 * fitted + torch.log(total) + largest, -torch.inf)
    log10_m = (log_mass + torch.log10(mass)).clamp(law.low, law.high)
    middle = 0.5 * (law.low + law.high)
    return (torch.where(is_absurd, middle, log10_m), torch.where(is_absurd, -torch.inf, log_l),
            torch.where(is_absurd, torch.inf, drawn))  # fmt: skip


def _factors(flat: Tensor, peak: Tensor, log_factor: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
    """The factor over its largest value at the nodes of either part, and ln of that value (n, k); flat and peak
    (n, k, n_node) are log10 of the mass.
    """
    nodes = torch.cat([flat, peak[..., ::N_FACTOR_STEP]], 2)
    values = log_factor(nodes.flatten(0, 1)).view_as(nodes)
    largest = values.amax(2)
    low, high = (values - largest[..., None]).split([N_FLAT + 1, N_PEAK // N_FACTOR_STEP + 1], 2)
    rise = torch.arange(N_FACTOR_STEP, device=peak.device, dtype=peak.dtype) / N_FACTOR_STEP
    steps = (high[..., :-1, None] + rise * (high[..., 1:] - high[..., :-1])[..., None]).flatten(2)
    return [torch.exp(low), torch.exp(torch.cat([steps, high[..., -1:]], 2))], largest
