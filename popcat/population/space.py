"""Where a population's flow lives: the model's parameters and the redshift in probit space of the prior, in torch.

The prior is standard normal there (popcat.galaxy_model), redshift uniform in the survey's range: no draw leaves either.

The unconditional flow of a population: spline coupling blocks, sampled with gradients.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from popcat.flows import splines
from popcat.flows.architecture import Architecture, architecture_for, build_flow
from popcat.galaxy_model import Prior
from popcat.population.settings import PopulationSettings

W_MAX = 5.0
"""The flow's splines end here; parameters on the edge of the prior are brought this near."""
_EDGE = 1e-9


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
        n_stick = len(self.prior.stick)
        w, sticks = x[:, :-1], slice(1, 1 + n_stick)
        u = torch.special.ndtr(torch.cat([w[:, :1], w[:, 1 + n_stick :]], 1))
        low, high = (torch.as_tensor(edge).to(x) for edge in (self.prior.low, self.prior.high))
        rest = low + (high - low) * u
        theta = torch.cat([rest[:, :1], self._weights(w[:, sticks]), rest[:, 1:]], 1)
        z_low, z_high = self.redshift_range
        redshift = z_low + (z_high - z_low) * torch.special.ndtr(x[:, -1])
        return theta, redshift.clamp(z_low, z_high)

    def arrays(self, x: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta and redshift of x in double precision, as numpy arrays."""
        theta, redshift = self.parameters(torch.as_tensor(x).detach().cpu().double())
        return theta.numpy(), redshift.numpy()

    def unconstrained(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """x (n, d) float32 of parameters; single precision on the prior's edge is brought inside."""
        low, high = self.redshift_range
        u = (np.asarray(redshift, dtype=float) - low) / (high - low)
        w = self.prior.to_unconstrained(np.asarray(theta, dtype=float))
        x = np.column_stack([w, ndtri(np.clip(u, _EDGE, 1.0 - _EDGE))])
        return np.clip(x, -W_MAX, W_MAX).astype(np.float32)

    def _weights(self, w: torch.Tensor) -> torch.Tensor:
        """SFH weights on the simplex: what is left after fraction i is (1 - u_i)^(1 / b_i) of what was before."""
        left, columns = torch.ones_like(w[:, 0]), []
        for i, b in enumerate(self.prior.stick):
            ln_after = torch.special.log_ndtr(-w[:, i]) / b
            columns.append(left * -torch.expm1(ln_after))
            left = left * torch.exp(ln_after)
        return torch.stack([*columns, left], 1)


def log_standard_normal(x: torch.Tensor) -> torch.Tensor:
    """ln of the prior's density at x (..., d)."""
    return -0.5 * (x**2).sum(-1) - 0.5 * x.shape[-1] * float(np.log(2.0 * np.pi))


_CONTEXT = 1
"""The flows of popcat are conditional: these are so on a number that is always zero."""


def new_flow(settings: PopulationSettings, n_dim: int, seed: int) -> tuple[torch.nn.Module, Architecture]:
    """An untrained flow, near the identity: its draws are the prior's."""
    torch.manual_seed(seed)
    architecture = architecture_for(settings.training(), features=n_dim, context=_CONTEXT)
    return build_flow(architecture), architecture


def draw(flow: torch.nn.Module, noise: torch.Tensor) -> torch.Tensor:
    """x (n, d) of standard normal noise (n, d), with gradients in the flow's weights."""
    return splines.draw(flow, noise, torch.zeros(1, _CONTEXT, dtype=noise.dtype, device=noise.device))


def log_density(flow: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """ln q (n,) of x (n, d)."""
    return flow.log_prob(x, torch.zeros(len(x), _CONTEXT, dtype=x.dtype, device=x.device))
