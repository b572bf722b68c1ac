"""Band fluxes in pure torch, from the same tables as the numba kernels: for a GPU, and inside larger graphs.

The law is that of popcat.forward.stars and popcat.forward.light, for many galaxies at once: every galaxy has a slot for
every time bin of the tables, with no mass beyond the age of the universe, and a weighted embedding bag sums the
tables' rows without ever holding them. For five bands a galaxy keeps about 6.5 kB between forward and backward in
float32, most of it the indices and weights of 45 slots at two redshifts and two metallicities: 100,000 galaxies fit
in a few GB. On a CPU the numba kernels are faster.

Band fluxes that torch can differentiate, on the CPU: the numba kernels and their own gradient.

Backward multiplies the Jacobian by the incoming vector, which the kernel can do only once it knows that vector: it
computes the fluxes again, so that nothing is stored between the passes but theta and redshift.
"""

import numpy as np
import torch
from torch import Tensor

from popcat.forward.dust import BUMP_CENTRE_AA, BUMP_WIDTH_AA, NORM, R_V, STEP_HIGH_AA
from popcat.forward.lookups import LN_10
from popcat.forward.photometry import Photometry
from popcat.forward.sfh_laws import FractionalLaw
from popcat.forward.torch_sfh import cell_of, make_masses


class TorchPhotometry(torch.nn.Module):
    """The fluxes of a `Photometry` on any device: call with theta (n, d) and redshift (n,), get (n, n_band) in nMgy.

    Inputs and result have the type `dtype` and the tables' device: `.to("cuda")` moves them. Redshifts are not checked:
    outside the survey's range the tables are extrapolated.
    """

    light: Tensor
    burst_ln_age: Tensor
    wave: Tensor
    edges: Tensor
    cumulative: Tensor
    zh_mid: Tensor
    zh_time: Tensor
    zh_value: Tensor
    ln_z: Tensor
    universe: Tensor
    universe_step: Tensor
    to_band: Tensor

    def __init__(self, photometry: Photometry, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        tables, h = photometry.kernel_tables, photometry.histories
        self.n_band = photometry.tables.n_band
        self.n_z, self.n_metal, self.n_row, n_col = tables.light.shape
        self.n_whole, self.first_cut, self.first_burst = tables.n_whole, tables.first_cut, tables.first_burst
        self.n_young, self.birth_cloud_age, self.ln1pz_max = h.n_young, h.birth_cloud_age, h.ln1pz_max
        self.ln1pz0, self.cell_width, self.n_node = tables.ln1pz0, tables.step, int(tables.moves.sum())
        self.n_sfh, n_slot = len(h.sfh_slots), self.n_whole + 1
        self.masses, self.in_fractions = make_masses(h.law, self.n_sfh, dtype), isinstance(h.law, FractionalLaw)
        universe = np.column_stack([h.age, h.dist_ratio_mpc, h.cumulative_at_age])
        arrays = {
            "light": tables.light.reshape(-1, n_col),
            "burst_ln_age": tables.burst_ln_age,
            "wave": tables.node,
            "edges": h.edges[: n_slot + 1],
            "cumulative": h.cumulative[1 : n_slot + 1],
            "zh_mid": h.zh_mid[:, :n_slot],
            "zh_time": h.zh_time,
            "zh_value": h.zh_value,
            "ln_z": h.ln_z,
            "universe": universe,
            "universe_step": np.diff(universe, axis=0),
            "to_band": np.eye(self.n_band)[tables.band],
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=dtype))

    def forward(self, theta: Tensor, redshift: Tensor) -> Tensor:
        ln1pz = torch.log1p(redshift)
        # age, d_L / ln(1 + z), integrals of the SFH bases
        now = _interpolate(ln1pz / self.ln1pz_max * len(self.universe_step), self.universe, self.universe_step)
        old, young = self._light(theta, ln1pz, now[:, 0], now[:, 2:])
        old_seen, young_seen = self._transmission(theta, ln1pz)
        factor = torch.exp(theta[:, 0] * LN_10 - ln1pz - 2.0 * torch.log(1e5 * ln1pz * now[:, 1]))
        return ((old * old_seen + young * young_seen) @ self.to_band) * factor[:, None]

    def _light(self, theta, ln1pz, t_age, at_age) -> tuple[Tensor, Tensor]:
        """Light of stars outside and inside birth clouds in every column, (n, n_col) each."""
        beta, (f_burst, t_burst) = theta[:, 1 : 1 + self.n_sfh], theta[:, 1 + self.n_sfh : 3 + self.n_sfh].T
        f_burst = torch.where(t_burst <= t_age, f_burst, 0.0)
        gamma = 10.0 ** theta[:, 3 + self.n_sfh : -3]
        row, formed, z = self._bins(beta, gamma, t_age, at_age)
        mass = formed * (1.0 - f_burst)[:, None]
        burst_row, burst_mass, burst_z = self._burst(t_burst, f_burst, gamma, t_age)
        is_young = (t_burst < self.birth_cloud_age)[:, None]
        old = self._sum(
            ln1pz,
            torch.cat([row[:, self.n_young :], burst_row], 1),
            torch.cat([mass[:, self.n_young :], torch.where(is_young, 0.0, burst_mass)], 1),
            torch.cat([z[:, self.n_young :], burst_z], 1),
        )
        young = self._sum(
            ln1pz,
            torch.cat([row[:, : self.n_young], burst_row], 1),
            torch.cat([mass[:, : self.n_young], torch.where(is_young, burst_mass, 0.0)], 1),
            torch.cat([z[:, : self.n_young], burst_z], 1),
        )
        return old, young

    def _bins(self, beta, gamma, t_age, at_age):
        """Row, formed fraction and metallicity of every time bin, (n, n_slot) each."""
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
        row = torch.where(slot < last, slot, torch.where(slot == last, self.n_whole + slot - self.first_cut, 0))
        middle = 0.5 * (self.edges[last[:, 0]] + t_age)
        z = gamma @ self.zh_mid if not self.in_fractions else self._bin_metallicity(gamma, t_age)
        z = torch.where(slot == last, self._time_metallicity(gamma, middle, t_age)[:, None], z)
        return row, formed, z

    def _burst(self, t_burst, f_burst, gamma, t_age):
        """Rows, masses and metallicities of the two ages that bracket the burst, (n, 2) each."""
        ln_t = torch.log(t_burst).clamp(self.burst_ln_age[0], self.burst_ln_age[-1])
        i, f = cell_of(ln_t, self.burst_ln_age)
        row = self.first_burst + torch.stack([i, i + 1], 1)
        mass = f_burst[:, None] * torch.stack([1.0 - f, f], 1)
        return row, mass, self._time_metallicity(gamma, t_burst, t_age)[:, None].expand(-1, 2)

    def _time_metallicity(self, gamma, t, t_age):
        i, f = cell_of(t / t_age if self.in_fractions else t, self.zh_time)
        bases = self.zh_value[i] * (1.0 - f)[:, None] + self.zh_value[i + 1] * f[:, None]
        return (gamma * bases).sum(1)

    def _bin_metallicity(self, gamma, t_age):
        """Metallicity at the midpoint of every time bin, (n, n_slot), of a history in fractions of t_age."""
        i, f = cell_of((0.5 * (self.edges[1:] + self.edges[:-1]) / t_age[:, None]).clamp(max=1.0), self.zh_time)
        return sum(gamma[:, k, None] * (self.zh_value[i, k] * (1.0 - f) + self.zh_value[i + 1, k] * f)
                   for k in range(gamma.shape[1]))  # fmt: skip

    def _sum(self, ln1pz, row, mass, z) -> Tensor:
        """Light of rows, linear in redshift and in ln Z: (n, n_col)."""
        ln_z = torch.log(z.clamp(min=torch.exp(self.ln_z[0] - 1.0))).clamp(self.ln_z[0], self.ln_z[-1])
        q, fq = cell_of(ln_z, self.ln_z)
        x = (ln1pz - self.ln1pz0) / self.cell_width
        i = x.detach().long().clamp(0, self.n_z - 2)
        fz = (x - i)[:, None]
        low = (i[:, None] * self.n_metal + q) * self.n_row + row
        far = self.n_metal * self.n_row
        index = torch.cat([low, low + self.n_row, low + far, low + far + self.n_row], 1)
        near_q, far_q = mass * (1.0 - fq), mass * fq
        weight = torch.cat([near_q * (1.0 - fz), far_q * (1.0 - fz), near_q * fz, far_q * fz], 1)
        return torch.nn.functional.embedding_bag(index, self.light, per_sample_weights=weight, mode="sum")

    def _transmission(self, theta, ln1pz) -> tuple[Tensor, Tensor]:
        """What the dust lets through of old and young stars in every column, (n, n_col) each."""
        tau_bc, tau_ism, n_dust = (theta[:, k, None] for k in (-3, -2, -1))
        is_step = torch.arange(len(self.wave), device=theta.device) >= self.n_node
        wave = torch.where(is_step, self.wave, self.wave * torch.exp(-ln1pz)[:, None])
        tilt = torch.exp(n_dust * torch.log(wave / 5500.0))
        seen = torch.exp(-tau_ism * _smooth_curve(wave, 0.85 - 1.9 * n_dust) * tilt)
        old = torch.where(is_step, -tau_ism * tilt * seen, seen)
        return old, old * torch.exp(-tau_bc * 5500.0 / wave)


def _smooth_curve(wave, e_bump) -> Tensor:
    """calzetti_smooth + E_b bump of popcat.forward.dust."""
    x = 1e4 / wave
    short = 1.17 * (-2.156 + x * (1.509 + x * (-0.198 + x * 0.011))) + 1.78
    k = torch.where(wave <= STEP_HIGH_AA, short, 1.17 * (-1.857 + 1.04 * x) + 1.78).clamp(min=0.0) / NORM
    # in units of the bump's wavelength: the fourth power of Angstrom leaves little of float32
    w2 = (wave / BUMP_CENTRE_AA) ** 2
    width = (BUMP_WIDTH_AA / BUMP_CENTRE_AA) ** 2 * w2
    return k + e_bump * width / ((w2 - 1.0) ** 2 + width) / R_V


def _interpolate(x, table, step) -> Tensor:
    """Rows of a table with unit spacing from 0 and these steps, linear between them: (n, n_column)."""
    i = x.detach().long().clamp(0, len(step) - 1)
    return table[i] + (x - i)[:, None] * step[i]


class _Flux(torch.autograd.Function):
    @staticmethod
    def forward(ctx, photometry, theta, redshift):
        ctx.photometry = photometry
        ctx.save_for_backward(theta, redshift)
        return torch.from_numpy(photometry.flux(_array(theta), _array(redshift))).to(theta)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        theta, redshift = ctx.saved_tensors
        _, grad, grad_z = ctx.photometry.flux_vjp(_array(theta), _array(redshift), _array(v))
        return None, torch.from_numpy(grad).to(theta), torch.from_numpy(grad_z).to(redshift)


def differentiable_flux(photometry: Photometry, theta: torch.Tensor, redshift: torch.Tensor) -> torch.Tensor:
    """Fluxes in nMgy (n, n_band) of theta (n, d) at redshift (n,), differentiable once in both.

    Computed on the CPU in float64; the result has theta's type and device.

    Raises PopcatError as `Photometry.flux` does.
    """
    return _Flux.apply(photometry, theta, redshift)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
