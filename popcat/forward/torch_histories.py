"""Star-formation histories and properties of their stars in torch: popcat.forward.star_properties for many galaxies."""

import numpy as np
import torch
from torch import Tensor

from popcat.forward.lookups import Histories
from popcat.forward.sfh_laws import FractionalLaw
from popcat.forward.star_properties import WINDOWS_GYR, StarProperties
from popcat.forward.torch_sfh import cell_of, make_masses


class TorchHistories(torch.nn.Module):
    """What `Histories` say of theta, in the first `n_slot` time bins: all by default."""

    edges: Tensor
    cumulative: Tensor
    zh_mid: Tensor
    zh_time: Tensor
    zh_value: Tensor
    ln_z: Tensor
    universe: Tensor
    universe_step: Tensor

    def __init__(self, h: Histories, *, n_slot: int | None = None, dtype: torch.dtype = torch.float32):
        super().__init__()
        n_slot = len(h.edges) - 1 if n_slot is None else n_slot
        self.n_sfh, self.n_zh, self.ln1pz_max = len(h.sfh_slots), len(h.zh_slots), h.ln1pz_max
        self.masses, self.in_fractions = make_masses(h.law, self.n_sfh, dtype), isinstance(h.law, FractionalLaw)
        universe = np.column_stack([h.age, h.dist_ratio_mpc, h.cumulative_at_age])
        arrays = {
            "edges": h.edges[: n_slot + 1],
            "cumulative": h.cumulative[1 : n_slot + 1],
            "zh_mid": h.zh_mid[:, :n_slot],
            "zh_time": h.zh_time,
            "zh_value": h.zh_value,
            "ln_z": h.ln_z,
            "universe": universe,
            "universe_step": np.diff(universe, axis=0),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=dtype))

    def universe_at(self, ln1pz) -> Tensor:
        """Age in Gyr, d_L / ln(1 + z) in Mpc, and integrals of the SFH bases up to the age, (n, 2 + n_sfh)."""
        x = ln1pz / self.ln1pz_max * len(self.universe_step)
        i = x.detach().long().clamp(0, len(self.universe_step) - 1)
        return self.universe[i] + (x - i)[:, None] * self.universe_step[i]

    def weights(self, theta, t_age) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of the SFH bases (n, n_sfh); fraction of the mass in the burst (n,), none if it is older than the
        universe, and its age (n,); weights of the metallicity bases (n, n_zh).
        """
        first = 1 + self.n_sfh
        beta, (f_burst, t_burst) = theta[:, 1:first], theta[:, first : first + 2].T
        gamma = 10.0 ** theta[:, first + 2 : first + 2 + self.n_zh]
        return beta, torch.where(t_burst <= t_age, f_burst, 0.0), t_burst, gamma

    def bins(self, beta, gamma, t_age, at_age) -> tuple[Tensor, Tensor, Tensor]:
        """The bin that the age of the universe cuts (n, 1); formed fraction and metallicity of each (n, n_slot)."""
        total = (beta * at_age).sum(1, keepdim=True)
        is_whole = self.edges[1:] < t_age[:, None]
        if self.masses is None:
            above = torch.where(is_whole, beta @ self.cumulative.T, total)
            formed = torch.diff(above, dim=1, prepend=torch.zeros_like(total)) / total
        else:
            mass = self.masses(beta, torch.minimum(self.edges, t_age[:, None]), t_age)
            formed = mass / mass.sum(1, keepdim=True)
        slot = torch.arange(is_whole.shape[1], device=t_age.device)
        last = is_whole.sum(1, keepdim=True)
        middle = 0.5 * (self.edges[last[:, 0]] + t_age)
        z = gamma @ self.zh_mid if not self.in_fractions else self._bin_metallicity(gamma, t_age)
        z = torch.where(slot == last, self.time_metallicity(gamma, middle, t_age)[:, None], z)
        return last, formed, z

    def recent(self, beta, t_age, at_age, windows, window_gyr) -> Tensor:
        """Fraction of the mass, but for the burst, that formed in each window, (n, n_window)."""
        if self.masses is None:
            total = (beta * at_age).sum(1, keepdim=True)
            return torch.minimum(beta @ windows.T, total) / total
        ends = torch.cat([torch.zeros_like(window_gyr[:1]), window_gyr])
        ends = torch.cat([torch.minimum(ends, t_age[:, None]), t_age[:, None]], 1)
        mass = self.masses(beta, ends, t_age)
        return torch.cumsum(mass[:, :-1], 1) / mass.sum(1, keepdim=True)

    def time_metallicity(self, gamma, t, t_age) -> Tensor:
        i, f = cell_of(t / t_age if self.in_fractions else t, self.zh_time)
        bases = self.zh_value[i] * (1.0 - f)[:, None] + self.zh_value[i + 1] * f[:, None]
        return (gamma * bases).sum(1)

    def _bin_metallicity(self, gamma, t_age):
        """Metallicity at the midpoint of every time bin, (n, n_slot), of a history in fractions of t_age."""
        i, f = cell_of((0.5 * (self.edges[1:] + self.edges[:-1]) / t_age[:, None]).clamp(max=1.0), self.zh_time)
        return sum(gamma[:, k, None] * (self.zh_value[i, k] * (1.0 - f) + self.zh_value[i + 1, k] * f)
                   for k in range(gamma.shape[1]))  # fmt: skip


class TorchStars(torch.nn.Module):
    """`StarProperties` on any device: call with theta (n, d) and `TorchHistories.universe_at`."""

    whole: Tensor
    mstar: Tensor
    ln_age: Tensor
    windows: Tensor
    window_gyr: Tensor

    def __init__(self, stars: StarProperties, histories: TorchHistories):
        super().__init__()
        self.histories = histories
        arrays = {
            "whole": stars.whole, "mstar": stars.mstar, "ln_age": stars.ln_age, "windows": stars.windows,
            "window_gyr": np.array(WINDOWS_GYR),
        }  # fmt: skip
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=histories.edges.dtype))

    def forward(self, theta, now) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Per Msun formed: surviving mass, SFR (1 / yr) in two windows (n, 2), mean Z; and the mean age in Gyr."""
        h, t_age, at_age = self.histories, now[:, 0], now[:, 2:]
        beta, f_burst, t_burst, gamma = h.weights(theta, t_age)
        last, formed, z = h.bins(beta, gamma, t_age, at_age)
        slot = torch.arange(formed.shape[1], device=t_age.device)
        is_last = slot == last
        cut = 0.5 * (h.edges[last[:, 0]] + t_age)
        middle = torch.where(is_last, cut[:, None], 0.5 * (h.edges[:-1] + h.edges[1:]))
        mass = formed * (1.0 - f_burst)[:, None]
        q, fq = self._metals(z)
        whole = self.whole[slot, q] * (1.0 - fq) + self.whole[slot, q + 1] * fq
        of_last = self._surviving(cut, z.gather(1, last.clamp(max=z.shape[1] - 1))[:, 0])
        left = torch.where(is_last, of_last[:, None], whole)
        z_burst = h.time_metallicity(gamma, t_burst, t_age)
        survived = (mass * left).sum(1) + f_burst * self._surviving(t_burst, z_burst)
        mean_z = (mass * self._clipped(z)).sum(1) + f_burst * self._clipped(z_burst)
        mean_age = (mass * middle).sum(1) + f_burst * t_burst
        recent = (1.0 - f_burst)[:, None] * h.recent(beta, t_age, at_age, self.windows, self.window_gyr)
        recent = recent + torch.where(t_burst[:, None] < self.window_gyr, f_burst[:, None], 0.0)
        return survived, recent / (self.window_gyr * 1e9), mean_z, mean_age

    def _metals(self, z) -> tuple[Tensor, Tensor]:
        ln_z = self.histories.ln_z
        return cell_of(torch.log(z.clamp(min=1e-30)).clamp(ln_z[0], ln_z[-1]), ln_z)

    def _clipped(self, z) -> Tensor:
        """Metallicities within the grid's."""
        ln_z = self.histories.ln_z
        return torch.exp(torch.log(z.clamp(min=1e-30)).clamp(ln_z[0], ln_z[-1]))

    def _surviving(self, age, z) -> Tensor:
        """Surviving fraction of one SSP: linear in ln t and ln Z."""
        i, f = cell_of(torch.log(age).clamp(self.ln_age[0], self.ln_age[-1]), self.ln_age)
        q, fq = self._metals(z)
        low, high = (self.mstar[k, q] * (1.0 - fq) + self.mstar[k, q + 1] * fq for k in (i, i + 1))
        return low * (1.0 - f) + high * f
