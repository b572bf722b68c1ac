"""From a population's flow to what a survey would see: parameters, fluxes, noise, selection; with gradients, in torch.

The flow, of spline coupling blocks, lives in probit space of the prior: the model's parameters and the redshift. The
prior is standard normal there (popcat.prior), that of the redshift too: no draw leaves either.

Noise is drawn by reparameterisation. It is the catalogue's own against the galaxies' true flux, which is what synthetic
galaxies have. `popcat.forward.noise` bins errors by the flux as observed. Where noise is a third of the flux, the
faintest bins hold galaxies that noise has made faint, with the errors of brighter ones. Here every galaxy is spread
over the fluxes that it may truly have: the responsibilities of a one-dimensional deconvolution of the band's fluxes by
expectation-maximisation.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from popcat.distributions import Law
from popcat.flows import splines
from popcat.flows.architecture import Architecture, architecture_for, build_flow
from popcat.forward.noise import LN_ERR_BINS, LN_FLUX_BINS, Noise, noise_from_counts
from popcat.forward.photometry import Photometry
from popcat.forward.torch_photometry import TorchPhotometry, differentiable_flux
from popcat.population.cuts import Cuts
from popcat.population.settings import PopulationSettings
from popcat.posterior.torch_law import law_value, parameters_of
from popcat.prior import Prior
from popcat.survey import Survey

W_MAX = 5.0
"""The flow's splines end here; parameters on the edge of the prior are brought this near."""
_EDGE = 1e-9
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Space:
    """The map between x (n, d), unconstrained, and theta (n, n_parameter) with redshift (n,).

    prior : of the galaxy model. redshift_range : of the survey; the last coordinate of x.
    """

    prior: Prior
    redshift_range: tuple[float, float]

    @property
    def n_dim(self) -> int:
        """Coordinates of x: those of theta, and the redshift's."""
        return self.prior.n_unconstrained + 1

    def parameters(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """theta (n, n_parameter) and redshift (n,) of x, differentiable, in x's type."""
        law = self._redshift
        redshift = law_value(law, x[:, -1])
        return parameters_of(self.prior, x[:, :-1]), redshift.clamp(law.low, law.high)

    @property
    def _redshift(self) -> Law:
        return self.prior.redshift_law(self.redshift_range)

    def arrays(self, x: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta and redshift of x in double precision, as numpy arrays."""
        theta, redshift = self.parameters(torch.as_tensor(x).detach().cpu().double())
        return theta.numpy(), redshift.numpy()

    def unconstrained(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """x (n, d) float32 of parameters; single precision on the prior's edge is brought inside."""
        u = self._redshift.to_unit(np.asarray(redshift, dtype=float))
        w = self.prior.to_unconstrained(np.asarray(theta, dtype=float))
        x = np.column_stack([w, ndtri(np.clip(u, _EDGE, 1.0 - _EDGE))])
        return np.clip(x, -W_MAX, W_MAX).astype(np.float32)


def log_standard_normal(x: torch.Tensor) -> torch.Tensor:
    """ln of the prior's density at x (..., d)."""
    return -0.5 * (x**2).sum(-1) - 0.5 * x.shape[-1] * float(np.log(2.0 * np.pi))


_CONTEXT = 1
"""The flows of popcat are conditional: these are so on a number that is always zero."""


def new_flow(settings: PopulationSettings, n_dim: int, seed: int) -> tuple[torch.nn.Module, Architecture]:
    """An untrained flow, near the identity: its draws are the prior's."""
    architecture = architecture_for(settings.training(), features=n_dim, context=_CONTEXT)
    return build_flow(architecture, seed), architecture


def draw(flow: torch.nn.Module, noise: torch.Tensor) -> torch.Tensor:
    """x (n, d) of standard normal noise (n, d), with gradients in the flow's weights."""
    return splines.draw(flow, noise, torch.zeros(1, _CONTEXT, dtype=noise.dtype, device=noise.device))


def log_density(flow: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """ln q (n,) of x (n, d)."""
    return flow.log_prob(x, torch.zeros(len(x), _CONTEXT, dtype=x.dtype, device=x.device))


class TorchNoise(torch.nn.Module):
    """`popcat.forward.noise.add_noise` in torch: the same medians and scatters, differentiable in the flux."""

    nodes: torch.Tensor
    medians: torch.Tensor
    scatters: torch.Tensor

    def __init__(self, model: Noise):
        super().__init__()
        for name, table in zip(("nodes", "medians", "scatters"), model.tables(), strict=True):
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32))

    def errors(self, flux: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Errors (n, n_band) of fluxes (n, n_band) in nMgy, of standard normal numbers (n, n_band)."""
        nodes = self.nodes.to(flux)
        x = torch.log(flux.t().clamp_min(_SMALLEST)).contiguous()
        first, last = nodes[:, :1], nodes[:, -1:]
        above, inside = (x - last).clamp_min(0), torch.minimum(torch.maximum(x, first), last)
        i = (torch.searchsorted(nodes, inside.detach()) - 1).clamp(0, nodes.shape[1] - 2)
        left, right = nodes.gather(1, i), nodes.gather(1, i + 1)
        f = (inside - left) / (right - left)
        mean, spread = (
            table.gather(1, i) * (1 - f) + table.gather(1, i + 1) * f
            for table in (self.medians.to(flux), self.scatters.to(flux))
        )
        return torch.exp(mean + above + spread * normals.t()).t()


@dataclass(frozen=True)
class Observed:
    """Synthetic galaxies: noisy flux and error (n, n_band) in nMgy, redshift (n,), and the weight of the selection."""

    flux: torch.Tensor
    err: torch.Tensor
    redshift: torch.Tensor
    weight: torch.Tensor


class Synthesis:
    """What one survey would observe of galaxies at x; on the CPU by numba's kernels, elsewhere by their torch twin."""

    def __init__(self, photometry: Photometry, noise: Noise, cuts: Cuts, space: Space, device: str = "cpu"):
        self.photometry, self.cuts, self.space, self.device = photometry, cuts, space, device
        self.noise = TorchNoise(noise).to(device)
        self.twin = None if device == "cpu" else TorchPhotometry(photometry).to(device)
        self.n_band = len(cuts.bands)

    def fluxes(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise-free fluxes (n, n_band) in nMgy, and redshifts."""
        theta, redshift = self.space.parameters(x if self.twin is not None else x.double())
        if self.twin is not None:
            return self.twin(theta, redshift), redshift
        return differentiable_flux(self.photometry, theta, redshift), redshift

    def observe(
        self, x: torch.Tensor, normals: torch.Tensor, *, hard: bool, noise_scale: float = 1.0
    ) -> Observed:
        """Noisy galaxies; normals is (n, 2 n_band), standard normal.

        hard : whether galaxies are thrown at the cuts, at a weight of 1 or 0; otherwise they have noise with which they
        pass, at a weight that is the chance of such noise.
        """
        flux, redshift = self.fluxes(x)
        normals = normals.to(flux)
        err = self.noise.errors(flux, normals[:, : self.n_band])
        if hard:
            noisy = flux + noise_scale * err * normals[:, self.n_band :]
            weight = torch.as_tensor(self.cuts.passes(noisy, err)).to(flux)
        else:
            noisy, weight = self.cuts.observed(flux, err, normals[:, self.n_band :], scale=noise_scale)
        return Observed(noisy, err, redshift, weight)

    def detection(self, x: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Chance (n,) that the survey observes galaxies at x; normals is (n, n_band)."""
        flux, _ = self.fluxes(x)
        return self.cuts.probability(flux, self.noise.errors(flux, normals.to(flux)))

    def arrays(self, x: torch.Tensor, normals: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Noisy fluxes, errors, and whether each galaxy is selected; no gradients."""
        with torch.no_grad():
            seen = self.observe(x, normals, hard=True)
        return seen.flux.cpu().numpy(), seen.err.cpu().numpy(), seen.weight.cpu().numpy() > 0


_MEASURED_SCATTER = {"widen": 1.0, "min_scatter": 0.02}
"""A posterior's noise model covers the data; a population's has to be the data's own."""
_MOST, _ITERATIONS = 100_000, 12


def catalogue_noise(flux: np.ndarray, err: np.ndarray, survey: Survey, seed: int = 0) -> Noise:
    """The noise model of galaxies with fluxes and errors (n, n_band) in nMgy, by true flux, scatter not widened.

    Raises PopcatError where a band has too few galaxies.
    """
    rows = np.random.default_rng((seed, 53)).permutation(len(flux))[:_MOST]
    counts = [_counts(flux[rows, i], err[rows, i]) for i in range(flux.shape[1])]
    return noise_from_counts(np.array(counts) * (len(flux) / len(rows)), survey, **_MEASURED_SCATTER)


def _counts(flux: np.ndarray, err: np.ndarray) -> np.ndarray:
    """Expected counts by ln(true flux) and ln(error), (n_flux, n_err), of one band."""
    middle = 0.5 * (LN_FLUX_BINS[1:] + LN_FLUX_BINS[:-1])
    lowest, highest = np.log(np.percentile(np.maximum(flux, err), [0.0, 100.0]))
    near = np.flatnonzero((middle > lowest - 1.0) & (middle < highest + 0.2))
    share = responsibilities(flux, err, np.exp(middle[near]))
    place = np.clip(np.searchsorted(LN_ERR_BINS, np.log(err)) - 1, 0, len(LN_ERR_BINS) - 2)
    counts = np.zeros((len(middle), len(LN_ERR_BINS) - 1))
    for i, column in zip(near, share.T, strict=True):
        counts[i] = np.bincount(place, weights=column, minlength=counts.shape[1])
    return counts


def responsibilities(flux: np.ndarray, err: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Probability (n, n_node) that a galaxy observed with flux +- err truly has each of the fluxes `nodes`."""
    with np.errstate(under="ignore"):
        step = np.gradient(nodes)
        # a galaxy whose error is less than the distance of two nodes is between them
        width = np.hypot(err[:, None], 0.5 * step)
        likelihood = np.exp(-0.5 * ((flux[:, None] - nodes) / width) ** 2) / width + 1e-300
        prior = np.full(len(nodes), 1.0 / len(nodes))
        for _ in range(_ITERATIONS):
            share = likelihood * prior
            share /= share.sum(axis=1, keepdims=True)
            prior = share.mean(axis=0)
    return share
