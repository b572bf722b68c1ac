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

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from popcat.forward.component_tables import N_GAS_MOMENT
from popcat.forward.dust import LAWS
from popcat.forward.dust_emission import power_law_share
from popcat.forward.ingredients import Ingredients
from popcat.forward.lookups import LN_10, Histories
from popcat.forward.photometry import Photometry
from popcat.forward.table_arrays import KernelTables, whole_components
from popcat.forward.tables import BandTables
from popcat.forward.torch_histories import TorchHistories
from popcat.forward.torch_sfh import bag, cell_of


class TablesOf(Protocol):
    """What has band tables: a `Photometry`, or the rest frame of `popcat.forward.properties`."""

    tables: BandTables
    ingredients: Ingredients
    histories: Histories
    kernel_tables: KernelTables


class TorchPhotometry(torch.nn.Module):
    """The fluxes of a `Photometry` on any device: call with theta (n, d) and redshift (n,), get (n, n_band) in nMgy.

    Inputs and result have the type `dtype` and the tables' device: `.to("cuda")` moves them. Redshifts are not checked:
    outside the survey's range the tables are extrapolated.
    """

    coefficient: Tensor
    component: Tensor
    burst_ln_age: Tensor
    ln_node: Tensor
    moves: Tensor
    step: Tensor
    curve: Tensor
    log_u: Tensor
    emission: Tensor
    q_pah: Tensor
    ln_u_min: Tensor
    power_law: Tensor
    agn: Tensor
    to_rate: Tensor
    to_band: Tensor
    ln1pz: Tensor
    block: Tensor

    def __init__(self, photometry: TablesOf, *, dtype: torch.dtype = torch.float32):
        super().__init__()
        tables, h = photometry.kernel_tables, photometry.histories
        screen, gas, added = tables.screen, tables.gas, tables.added
        self.n_band = photometry.tables.n_band
        n_col = len(tables.band)
        self.n_metal, self.n_row, self.n_component = tables.coefficient.shape[1:]
        self.n_whole, self.first_cut, self.first_burst = tables.n_whole, tables.first_cut, tables.first_burst
        self.n_young, self.birth_cloud_age = h.n_young, h.birth_cloud_age
        self.first_all = tables.first_all
        self.law, self.n_shape = LAWS[photometry.ingredients.components.dust_law], screen.n_shape
        self.at_dust, self.at_gas, self.at_emission = screen.first, gas.first, added.first_emission
        self.at_agn, self.first_gas, self.gas_bin = added.first_agn, gas.row, gas.bin
        self.n_gas_sets, self.n_gas_burst = gas.n_sets, gas.n_burst
        self.histories = TorchHistories(h, n_slot=self.n_whole + 1, dtype=dtype)
        # of the masses in the bins that light up gas, value and slope of their straight line
        n, a, b, c = gas.moments
        to_rate = np.stack([a + b * h.mid[:n], b + c * h.mid[:n]], axis=1)
        arrays = {
            "coefficient": tables.coefficient.reshape(-1, self.n_component),
            "component": whole_components(tables).reshape(-1, n_col),
            "ln1pz": tables.cells.node,
            "burst_ln_age": tables.burst_ln_age,
            "ln_node": screen.ln_node,
            "moves": screen.moves,
            "step": screen.step,
            "curve": screen.curve,
            "log_u": gas.log_u,
            "emission": added.emission,
            "q_pah": added.q_pah,
            "ln_u_min": added.ln_u_min,
            "power_law": added.power_law,
            "agn": np.stack([added.agn, added.agn_curve], axis=1),
            "to_rate": to_rate,
            "to_band": np.eye(self.n_band)[tables.band] * (np.arange(n_col) < self.first_all)[:, None],
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=dtype))
        self.register_buffer("block", torch.tensor(tables.cells.block))

    def forward(self, theta: Tensor, redshift: Tensor) -> Tensor:
        ln1pz = torch.log1p(redshift)
        now = self.histories.universe_at(ln1pz)
        factor = torch.exp(theta[:, 0] * LN_10 - ln1pz - 2.0 * torch.log(1e5 * ln1pz * now[:, 1]))
        return self.light(theta, ln1pz, now)[0] * factor[:, None]

    def light(self, theta, ln1pz, now) -> tuple[Tensor, Tensor, Tensor]:
        """Per Msun formed, at the distance of the tables: band fluxes (n, n_band), of stars and gas without dust and
        with it in the first band (n, 2), and the luminosity (n,) that dust absorbs, zero where nothing asks for it.

        now : what `TorchHistories.universe_at` gives.
        """
        old, young = self._light(theta, ln1pz, now[:, 0], now[:, 2:])
        old_seen, young_seen = self._transmission(theta, ln1pz)
        seen, bare = old * old_seen + young * young_seen, (old + young) * (1.0 - self.step)
        flux = stars = seen @ self.to_band
        absorbed = torch.zeros_like(ln1pz)
        if self.first_all < len(self.step):
            clear = bare[:, self.first_all :].sum(1, keepdim=True)
            absorbed = clear - seen[:, self.first_all :].sum(1, keepdim=True)
            if self.at_emission >= 0:
                flux = flux + absorbed * self._emission(theta, ln1pz)
            if self.at_agn >= 0:
                flux = flux + clear * self._nucleus(theta, ln1pz)
            absorbed = absorbed[:, 0]
        return flux, torch.stack([bare @ self.to_band[:, 0], stars[:, 0]], 1), absorbed

    def _light(self, theta, ln1pz, t_age, at_age) -> tuple[Tensor, Tensor]:
        """Light of stars (and gas) outside and inside birth clouds in every column, (n, n_col) each."""
        beta, f_burst, t_burst, gamma = self.histories.weights(theta, t_age)
        last, formed, z = self.histories.bins(beta, gamma, t_age, at_age)
        slot = torch.arange(formed.shape[1], device=t_age.device)
        row = torch.where(slot < last, slot, torch.where(slot == last, self.n_whole + slot - self.first_cut, 0))
        mass = formed * (1.0 - f_burst)[:, None]
        old = [(row[:, self.n_young :], mass[:, self.n_young :], z[:, self.n_young :])]
        young = [(row[:, : self.n_young], mass[:, : self.n_young], z[:, : self.n_young])]
        burst, in_clouds = self._burst(t_burst, f_burst, gamma, t_age), (t_burst < self.birth_cloud_age)[:, None]
        either = [burst]
        if self.at_gas >= 0:
            recent = mass[:, : self.to_rate.shape[0]]
            rate, z_now = recent @ self.to_rate, z[:, self.gas_bin]
            for k in range(self.n_gas_sets):
                p = k if k < N_GAS_MOMENT else k - N_GAS_MOMENT - self.n_gas_burst
                if p >= 0:
                    (young if k < N_GAS_MOMENT else old).append(self._gas(theta, k, rate[:, p], z_now))
                else:
                    is_here = burst[0] == self.first_burst + k - N_GAS_MOMENT
                    either.append(self._gas(theta, k, torch.where(is_here, burst[1], 0.0).sum(1), burst[2][:, 0]))
        for row, mass, z in either:
            old.append((row, torch.where(in_clouds, 0.0, mass), z))
            young.append((row, torch.where(in_clouds, mass, 0.0), z))
        rows = [[torch.cat(part, 1) for part in zip(*parts, strict=True)] for parts in (old, young)]
        i, f = cell_of(ln1pz, self.ln1pz)
        block = self.block[i]
        first = (i + block)[:, None] * self.n_component
        near = first + torch.arange(self.n_component, device=first.device)
        index, f = torch.cat([near, near + self.n_component], 1).int(), f[:, None]
        weights = [self._weights(block, *part) for part in rows]
        old, young = (bag(index, self.component, torch.cat([of * (1.0 - f), of * f], 1)) for of in weights)
        return old, young

    def _gas(self, theta, k, mass, z) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, masses and metallicities, (n, 3) each, of one set of the gas's rows: popcat.forward.gas_rows."""
        i, f_u = cell_of(theta[:, self.at_gas].clamp(self.log_u[0], self.log_u[-1]), self.log_u)
        f_esc, n_u = theta[:, self.at_gas + 1], len(self.log_u)
        row = self.first_gas + k * (n_u + 1) + torch.stack([i, i + 1, torch.full_like(i, n_u)], 1)
        share = torch.stack([(1.0 - f_esc) * (1.0 - f_u), (1.0 - f_esc) * f_u, f_esc], 1)
        return row, mass[:, None] * share, z[:, None].expand(-1, 3)

    def _burst(self, t_burst, f_burst, gamma, t_age):
        """Rows, masses and metallicities of the two ages that bracket the burst, (n, 2) each."""
        ln_t = torch.log(t_burst).clamp(self.burst_ln_age[0], self.burst_ln_age[-1])
        i, f = cell_of(ln_t, self.burst_ln_age)
        row = self.first_burst + torch.stack([i, i + 1], 1)
        mass = f_burst[:, None] * torch.stack([1.0 - f, f], 1)
        return row, mass, self.histories.time_metallicity(gamma, t_burst, t_age)[:, None].expand(-1, 2)

    def _weights(self, block, row, mass, z) -> Tensor:
        """Weights of the components (n, K) of rows, linear in ln Z, in the blocks of redshift (n,)."""
        grid = self.histories.ln_z
        q, fq = cell_of(torch.log(z.clamp(min=torch.exp(grid[0] - 1.0))).clamp(grid[0], grid[-1]), grid)
        low = ((block[:, None] * self.n_metal + q) * self.n_row + row).int()
        weight = torch.cat([mass * (1.0 - fq), mass * fq], 1)
        return bag(torch.cat([low, low + self.n_row], 1), self.coefficient, weight)

    def _between(self, ln1pz, table) -> Tensor:
        """A table (n_z, ...) at the tables' redshifts, linear between: (n, ...)."""
        i, f = cell_of(ln1pz, self.ln1pz)
        # a weighted embedding bag, because it keeps neither of the two for the way back
        flat = bag(torch.stack([i, i + 1], 1).int(), table.flatten(1), torch.stack([1.0 - f, f], 1))
        return flat.reshape(-1, *table.shape[1:])

    def _transmission(self, theta, ln1pz) -> tuple[Tensor, Tensor]:
        """What the dust lets through of old and young stars in every column, (n, n_col) each."""
        tau_bc, tau_ism, *own = (theta[:, self.at_dust + k, None] for k in range(2 + self.n_shape))
        n, e, b = self.law.shape(*own)
        k, bump, clouds = self._between(ln1pz, self.curve).unbind(1)
        tilt = torch.exp(n * (self.ln_node - self.moves * ln1pz[:, None]))
        seen = torch.exp(-tau_ism * ((k + e * bump) * tilt + b * bump))
        old = seen * (1.0 - self.step - self.step * tau_ism * tilt)
        return old, old * torch.exp(-tau_bc * clouds)

    def _emission(self, theta, ln1pz) -> Tensor:
        """Band fluxes of dust per luminosity absorbed, (n, n_band)."""
        q, u_min, gamma = theta[:, self.at_emission : self.at_emission + 3].T
        i, f = cell_of(q.clamp(self.q_pah[0], self.q_pah[-1]), self.q_pah)
        j, g = cell_of(torch.log(u_min).clamp(self.ln_u_min[0], self.ln_u_min[-1]), self.ln_u_min)
        k, h = cell_of(ln1pz, self.ln1pz)
        bands, ratio = torch.zeros(2, len(q), self.n_band).to(theta), torch.zeros_like(q)
        for a, x in ((i, 1.0 - f), (i + 1, f)):
            for b, y in ((j, 1.0 - g), (j + 1, g)):
                ratio = ratio + x * y * self.power_law[a, b]
                for c, w in ((k, 1.0 - h), (k + 1, h)):
                    bands = bands + (x * y * w)[:, None] * self.emission[c, :, a, b].transpose(0, 1)
        share = power_law_share(gamma, ratio)[:, None]
        return (1.0 - share) * bands[0] + share * bands[1]

    def _nucleus(self, theta, ln1pz) -> Tensor:
        """Band fluxes of the nucleus per luminosity of stars and gas, (n, n_band)."""
        log_f_agn, ebv_agn = theta[:, self.at_agn, None], theta[:, self.at_agn + 1, None]
        light, tau = self._between(ln1pz, self.agn).unbind(1)
        return torch.exp(LN_10 * log_f_agn) * ((light * torch.exp(-ebv_agn * tau)) @ self.to_band)


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
