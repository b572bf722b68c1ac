"""The physical prior over a galaxy model's own in torch: popcat.physical.density for a GPU."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from popcat.forward.torch_histories import TorchHistories, TorchStars
from popcat.forward.torch_sfh import bag
from popcat.physical.density import FLOOR, Known
from popcat.physical.laws import (
    QUENCHED_BELOW,
    QUENCHED_EDGE,
    QUENCHED_FROM,
    QUENCHED_WIDTH,
    SIGMA_AGE,
    SIGMA_SEQUENCE,
    TAU_QUENCHED,
)
from popcat.physical.prior import JointPrior

# Draws whose histories are followed at a time: some kB each.
_HISTORIES = 1 << 18
_ROOT_2_PI = float(np.sqrt(2.0 * np.pi))
_AXES = {
    "by_mass": ("redshift", "mass"), "of_formed": ("formed",), "of_s": ("redshift", "s"),
    "of_a": ("redshift", "s", "unit"), "c_a": ("redshift", "s", "mass"), "of_z": ("redshift", "unit", "metal"),
    "c_z": ("redshift", "unit", "mass"), "of_tau": ("tau",), "clouds": ("tau", "clouds"), "slope": ("tau", "slope"),
}  # fmt: skip
"""Of the tables of `Factors`, what is along each axis; `by_mass` is `laws` and `norm`."""


class TorchJointPrior(torch.nn.Module):
    """A `JointPrior` on any device, in float64: call with theta (n, d) and redshift (n,), get ln R (n,)."""

    def __init__(self, joint: JointPrior):
        super().__init__()
        t, names = joint.factors, joint.prior.names
        self.stars = TorchStars(joint.stars, TorchHistories(joint.stars.histories, dtype=torch.float64))
        self.has, self.c_quenched = t.has.astype(bool).tolist(), t.c_quenched
        self.dust = [names.index(name) if name in names else -1 for name in ("tau_ism", "tau_bc", "n_dust")]
        ends = {
            "redshift": (t.z_low, t.z_high), "mass": (t.mass_low, t.mass_high), "s": (t.s_low, t.s_high),
            "formed": (t.formed_low, t.formed_high), "unit": (0.0, 1.0), "metal": (t.z_metal_low, t.z_metal_high),
            "tau": (t.tau_low, t.tau_high), "clouds": (t.clouds_low, t.clouds_high),
            "slope": (t.slope_low, t.slope_high),
        }  # fmt: skip
        self.ends = {name: [ends[axis] for axis in axes] for name, axes in _AXES.items()}
        by_mass = np.concatenate([t.laws, t.norm[..., None]], axis=2)
        for name in _AXES:
            table = by_mass if name == "by_mass" else getattr(t, name)[..., None]
            self.register_buffer(name, torch.tensor(table, dtype=torch.float64))

    def forward(self, theta: Tensor, redshift: Tensor) -> Tensor:
        return self.log_ratio_of_masses(self.known(theta, redshift), theta[:, :1])[:, 0]

    def known(self, theta: Tensor, redshift: Tensor) -> Known[Tensor]:
        """What the factors are about but for the mass, of theta (n, d) at redshift (n,), in float64."""
        parts = [self._some_known(*some) for some in zip(theta.split(_HISTORIES), redshift.split(_HISTORIES),
                                                         strict=True)]  # fmt: skip
        return Known(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _some_known(self, theta, redshift) -> Known[Tensor]:
        ln1pz = torch.log1p(redshift)
        now = self.stars.histories.universe_at(ln1pz)
        survived, sfr, mean_z, mean_age = self.stars(theta, now)
        s = torch.log10((sfr[:, 0] / survived).clamp(min=10.0**QUENCHED_FROM))
        dust = (theta[:, k] if k >= 0 else torch.zeros_like(ln1pz) for k in self.dust)
        return Known(ln1pz, torch.log10(survived), s, mean_age / now[:, 0], torch.log10(mean_z), *dust)

    def of_draws(self, theta: Tensor, redshift: Tensor) -> Callable[[slice, Tensor], Tensor]:
        """ln R (n k, m) of a slice of the galaxies at masses formed (n k, m): all else is as in theta (n, k, d) at
        redshift (n, k).
        """
        known = Known(*(one.view_as(redshift) for one in self.known(theta.flatten(0, 1), redshift.flatten())))

        def log_ratio(rows: slice, log_mass: Tensor) -> Tensor:
            return self.log_ratio_of_masses(Known(*(one[rows].flatten() for one in known)), log_mass)

        return log_ratio

    def log_ratio_of_masses(self, known: Known[Tensor], log_mass: Tensor) -> Tensor:
        """ln R (n, k) of masses formed (n, k)."""
        ln1pz, log_survived, s, a, z, tau, tau_bc, n_dust = (one[:, None] for one in known)
        surviving = log_mass + log_survived
        laws = self._at("by_mass", ln1pz, surviving).unbind(-1)
        density, sequence, on, off, mean_a, mean_z, sigma_z, scale, c_forming, _, norm = laws
        forming, quenched = on * _normal(s, sequence, SIGMA_SEQUENCE), off * _quenched(s, sequence)
        of_tau, value = self._one("of_tau", tau), norm
        if self.has[0]:
            value = value * density / self._one("of_formed", log_mass)
        if self.has[1]:
            value = value * _floored((forming + quenched) / self._one("of_s", ln1pz, s))
        if self.has[2]:
            own = self._one("of_a", ln1pz, s, a) * self._one("c_a", ln1pz, s, surviving)
            value = value * _floored(_normal(a, mean_a, SIGMA_AGE) / own)
        if self.has[3]:
            own = self._one("of_z", ln1pz, a, z) * self._one("c_z", ln1pz, a, surviving)
            value = value * _floored(_normal(z, mean_z, sigma_z) / own)
        if self.has[4]:
            of_forming = tau * torch.exp(-tau / scale) / (of_tau * c_forming)
            of_quenched = torch.exp(-tau / TAU_QUENCHED) / (of_tau * self.c_quenched)
            chance = forming / (forming + quenched + 1e-300)
            value = value * _floored(chance * of_forming + (1.0 - chance) * of_quenched)
        if self.has[5]:
            value = value * _floored(self._one("clouds", tau, tau_bc))
        if self.has[6]:
            value = value * _floored(self._one("slope", tau, n_dust))
        return torch.log(value.clamp(min=1e-300))

    def _one(self, name: str, *at: Tensor) -> Tensor:
        """Of a table of one number at each node."""
        return self._at(name, *at)[..., 0]

    def _at(self, name: str, *at: Tensor) -> Tensor:
        """Of a table: linear between its equidistant nodes, constant beyond, in each of the quantities `at`, which are
        broadcast, (..., n_column).
        """
        table = getattr(self, name)
        index, weight = table.new_zeros(1, dtype=torch.int32), table.new_ones(1)
        for n, (low, high), x in zip(table.shape[:-1], self.ends[name], at, strict=True):
            steps = ((x - low) / (high - low) * (n - 1)).clamp(0.0, n - 1 - 1e-9)[..., None]
            below = steps.int().clamp(0, n - 2)
            f, below = steps - below, index * n + below
            index, weight = torch.cat([below, below + 1], -1), torch.cat([weight * (1.0 - f), weight * f], -1)
        found = bag(index.flatten(0, -2), table.flatten(0, -2), weight.flatten(0, -2))
        return found.view(*index.shape[:-1], -1)


def _floored(factor):
    return (1.0 - FLOOR) * factor + FLOOR


def _normal(x, mean, sigma) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * _ROOT_2_PI)


def _quenched(s, sequence) -> Tensor:
    """`popcat.physical.density._quenched`."""
    top = (sequence - QUENCHED_BELOW).clamp(min=QUENCHED_FROM + QUENCHED_WIDTH)
    return 1.0 / ((top - QUENCHED_FROM) * (1.0 + torch.exp(((s - top) / QUENCHED_EDGE).clamp(max=300.0))))
