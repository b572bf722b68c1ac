"""Derived properties in pure torch: popcat.forward.properties for a GPU."""

import numpy as np
import torch
from torch import Tensor

from popcat.forward.cosmology import CosmologyTable
from popcat.forward.properties import LIGHT_FLOOR, Properties
from popcat.forward.star_properties import SSFR_FLOOR, WINDOWS_GYR
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.forward.torch_sfh import between, cell_of
from popcat.units import LSUN_ERG_S, PC_CM


class TorchProperties(torch.nn.Module):
    """The properties of a `Properties` on any device: call with theta (n, d) and redshift (n,), get (n,) by name.

    Inputs and results have the type `dtype` and the tables' device.
    """

    edges: Tensor
    whole: Tensor
    mstar: Tensor
    ln_age: Tensor
    windows: Tensor
    window_gyr: Tensor

    def __init__(self, properties: Properties, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.names, self.components, self.cosmology = properties.names, properties.components, properties.cosmology
        self.stars = TorchPhotometry(properties.rest_frame, dtype=dtype)
        self.n_filter = properties.rest_frame.n_filter
        stars = properties.stars
        arrays = {
            "edges": stars.histories.edges, "whole": stars.whole, "mstar": stars.mstar, "ln_age": stars.ln_age,
            "windows": stars.windows, "window_gyr": np.array(WINDOWS_GYR),
        }  # fmt: skip
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=dtype))

    def forward(self, theta: Tensor, redshift: Tensor) -> dict[str, Tensor]:
        ln1pz = torch.log1p(redshift)
        now = self.stars.universe_at(ln1pz)
        survived, sfr, mean_z, mean_age = self._histories(theta, now)
        log_formed = theta[:, 0]
        log_mstar = log_formed + torch.log10(survived)
        log_sfr = log_formed[:, None] + torch.log10(sfr.clamp(min=SSFR_FLOOR))
        flux, first, absorbed = self.stars.light(theta, ln1pz, now)
        a_v = -2.5 * torch.log10(first[:, 1] / first[:, 0])
        magnitudes = 22.5 - 2.5 * (log_formed[:, None] + torch.log10(flux[:, 1 : self.n_filter]))
        own = self._of_components(log_formed, redshift, flux[:, self.n_filter :], absorbed)
        columns = (log_mstar, log_sfr[:, 0], log_sfr[:, 1], log_sfr[:, 1] - log_mstar, torch.log10(mean_z), mean_age,
                   a_v, *own, *magnitudes.T)  # fmt: skip
        return dict(zip(self.names, columns, strict=True))

    def _of_components(self, log_formed, redshift, lines_and_beside, absorbed) -> list[Tensor]:
        columns = []
        if self.components.dust_emission != "none":
            columns.append(log_formed + torch.log10(absorbed.clamp(min=LIGHT_FLOOR)))
        if self.components.gas == "cloudy":
            lines, beside = lines_and_beside.chunk(2, dim=1)
            log_lum = log_formed + torch.log10(lines.T.clamp(min=LIGHT_FLOOR)) + float(np.log10(LSUN_ERG_S))
            modulus = distance_modulus(self.cosmology, redshift.double()).to(redshift)
            log_area = float(np.log10(4.0 * np.pi * (10.0 * PC_CM) ** 2)) + 0.4 * modulus
            columns += [*log_lum, *(log_lum - log_area), *(lines / beside).T]
        return columns

    def _histories(self, theta, now) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Per Msun formed: surviving mass, SFR (1 / yr) in two windows (n, 2), mean Z; and the mean age in Gyr."""
        stars, t_age = self.stars, now[:, 0]
        n_sfh, edges = stars.n_sfh, self.edges[: stars.edges.shape[0]]
        beta, (f_burst, t_burst) = theta[:, 1 : 1 + n_sfh], theta[:, 1 + n_sfh : 3 + n_sfh].T
        f_burst = torch.where(t_burst <= t_age, f_burst, 0.0)
        gamma = 10.0 ** theta[:, 3 + n_sfh : stars.at_dust]
        _, formed, z = stars.bins(beta, gamma, t_age, now[:, 2:])
        last = (edges[1:] < t_age[:, None]).sum(1, keepdim=True)
        slot = torch.arange(formed.shape[1], device=t_age.device)
        is_last = slot == last
        cut = 0.5 * (edges[last[:, 0]] + t_age)
        middle = torch.where(is_last, cut[:, None], 0.5 * (edges[:-1] + edges[1:]))
        mass = formed * (1.0 - f_burst)[:, None]
        q, fq = self._metals(z)
        whole = self.whole[slot, q] * (1.0 - fq) + self.whole[slot, q + 1] * fq
        of_last = self._surviving(cut, z.gather(1, last.clamp(max=z.shape[1] - 1))[:, 0])
        left = torch.where(is_last, of_last[:, None], whole)
        z_burst = stars.time_metallicity(gamma, t_burst, t_age)
        survived = (mass * left).sum(1) + f_burst * self._surviving(t_burst, z_burst)
        mean_z = (mass * self._clipped(z)).sum(1) + f_burst * self._clipped(z_burst)
        mean_age = (mass * middle).sum(1) + f_burst * t_burst
        recent = (1.0 - f_burst)[:, None] * self._recent(beta, t_age, now[:, 2:])
        recent = recent + torch.where(t_burst[:, None] < self.window_gyr, f_burst[:, None], 0.0)
        return survived, recent / (self.window_gyr * 1e9), mean_z, mean_age

    def _recent(self, beta, t_age, at_age) -> Tensor:
        """Fraction of the mass, but for the burst, that formed in each window, (n, 2)."""
        if self.stars.masses is None:
            total = (beta * at_age).sum(1, keepdim=True)
            return torch.minimum(beta @ self.windows.T, total) / total
        ends = torch.cat([torch.zeros_like(self.window_gyr[:1]), self.window_gyr])
        ends = torch.cat([torch.minimum(ends, t_age[:, None]), t_age[:, None]], 1)
        mass = self.stars.masses(beta, ends, t_age)
        return torch.cumsum(mass[:, :-1], 1) / mass.sum(1, keepdim=True)

    def _metals(self, z) -> tuple[Tensor, Tensor]:
        ln_z = self.stars.ln_z
        return cell_of(torch.log(z.clamp(min=1e-30)).clamp(ln_z[0], ln_z[-1]), ln_z)

    def _clipped(self, z) -> Tensor:
        """Metallicities within the grid's."""
        ln_z = self.stars.ln_z
        return torch.exp(torch.log(z.clamp(min=1e-30)).clamp(ln_z[0], ln_z[-1]))

    def _surviving(self, age, z) -> Tensor:
        """Surviving fraction of one SSP: linear in ln t and ln Z."""
        i, f = cell_of(torch.log(age).clamp(self.ln_age[0], self.ln_age[-1]), self.ln_age)
        q, fq = self._metals(z)
        low, high = (self.mstar[k, q] * (1.0 - fq) + self.mstar[k, q + 1] * fq for k in (i, i + 1))
        return low * (1.0 - f) + high * f


def distance_modulus(cosmology: CosmologyTable, redshift: Tensor) -> Tensor:
    """`CosmologyTable.distance_modulus` in torch."""
    ln1pz, nodes = torch.log1p(redshift), np.linspace(0.0, cosmology.ln1pz_max, len(cosmology.dist_mpc))
    return 5.0 * torch.log10(ln1pz * between(ln1pz, nodes, cosmology.dist_ratio_mpc)) + 25.0
