"""Derived properties in pure torch: popcat.forward.properties for a GPU."""

import numpy as np
import torch
from torch import Tensor

from popcat.forward.cosmology import CosmologyTable
from popcat.forward.properties import LIGHT_FLOOR, Properties
from popcat.forward.star_properties import SSFR_FLOOR
from popcat.forward.torch_histories import TorchStars
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.forward.torch_sfh import between
from popcat.units import LSUN_ERG_S, PC_CM


class TorchProperties(torch.nn.Module):
    """The properties of a `Properties` on any device: call with theta (n, d) and redshift (n,), get (n,) by name.

    Inputs and results have the type `dtype` and the tables' device.
    """

    def __init__(self, properties: Properties, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.names, self.components, self.cosmology = properties.names, properties.components, properties.cosmology
        self.rest_frame = TorchPhotometry(properties.rest_frame, dtype=dtype)
        self.stars = TorchStars(properties.stars, self.rest_frame.histories)
        self.n_filter = properties.rest_frame.n_filter

    def forward(self, theta: Tensor, redshift: Tensor) -> dict[str, Tensor]:
        ln1pz = torch.log1p(redshift)
        now = self.rest_frame.histories.universe_at(ln1pz)
        survived, sfr, mean_z, mean_age = self.stars(theta, now)
        log_formed = theta[:, 0]
        log_mstar = log_formed + torch.log10(survived)
        log_sfr = log_formed[:, None] + torch.log10(sfr.clamp(min=SSFR_FLOOR))
        flux, first, absorbed = self.rest_frame.light(theta, ln1pz, now)
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


def distance_modulus(cosmology: CosmologyTable, redshift: Tensor) -> Tensor:
    """`CosmologyTable.distance_modulus` in torch."""
    ln1pz, nodes = torch.log1p(redshift), np.linspace(0.0, cosmology.ln1pz_max, len(cosmology.dist_mpc))
    return 5.0 * torch.log10(ln1pz * between(ln1pz, nodes, cosmology.dist_ratio_mpc)) + 25.0
