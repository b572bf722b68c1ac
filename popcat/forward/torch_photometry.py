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
from popcat.forward.sfh_laws import FractionalLaw
from popcat.forward.table_arrays import KernelTables, whole_components
from popcat.forward.tables import BandTables
from popcat.forward.torch_sfh import cell_of, make_masses


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
    edges: Tensor
    cumulative: Tensor
    zh_mid: Tensor
    zh_time: Tensor
    zh_value: Tensor
    to_rate: Tensor
    ln_z: Tensor
    universe: Tensor
    universe_step: Tensor
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
        self.n_young, self.birth_cloud_age, self.ln1pz_max = h.n_young, h.birth_cloud_age, h.ln1pz_max
        self.first_all = tables.first_all
        self.law, self.n_shape = LAWS[photometry.ingredients.components.dust_law], screen.n_shape
        self.at_dust, self.at_gas, self.at_emission = screen.first, gas.first, added.first_emission
        self.at_agn, self.first_gas, self.gas_bin = added.first_agn, gas.row, gas.bin
        self.n_gas_sets, self.n_gas_burst = gas.n_sets, gas.n_burst
        self.n_sfh, n_slot = len(h.sfh_slots), self.n_whole + 1
        self.masses, self.in_fractions = make_masses(h.law, self.n_sfh, dtype), isinstance(h.law, FractionalLaw)
        # of the masses in the bins that light up gas, value and slope of their straight line
        n, a, b, c = gas.moments
        to_rate = np.stack([a + b * h.mid[:n], b + c * h.mid[:n]], axis=1)
        universe = np.column_stack([h.age, h.dist_ratio_mpc, h.cumulative_at_age])
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
            "edges": h.edges[: n_slot + 1],
            "cumulative": h.cumulative[1 : n_slot + 1],
            "zh_mid": h.zh_mid[:, :n_slot],
            "zh_time": h.zh_time,
            "zh_value": h.zh_value,
            "to_rate": to_rate,
            "ln_z": h.ln_z,
            "universe": universe,
            "universe_step": np.diff(universe, axis=0),
            "to_band": np.eye(self.n_band)[tables.band] * (np.arange(n_col) < self.first_all)[:, None],
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=dtype))
        self.register_buffer("block", torch.tensor(tables.cells.block))

    def forward(self, theta: Tensor, redshift: Tensor) -> Tensor:
        ln1pz = torch.log1p(redshift)
        now = self.universe_at(ln1pz)
        factor = torch.exp(theta[:, 0] * LN_10 - ln1pz - 2.0 * torch.log(1e5 * ln1pz * now[:, 1]))
        return self.light(theta, ln1pz, now)[0] * factor[:, None]

    def light(self, theta, ln1pz, now) -> tuple[Tensor, Tensor, Tensor]:
        """Per Msun formed, at the distance of the tables: band fluxes (n, n_band), of stars and gas without dust and
        with it in the first band (n, 2), and the luminosity (n,) that dust absorbs, zero where nothing asks for it.

        now : what `universe_at` gives.
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

    def universe_at(self, ln1pz) -> Tensor:
        """Age in Gyr, d_L / ln(1 + z) in Mpc, and integrals of the SFH bases up to the age, (n, 2 + n_sfh)."""
        return _interpolate(ln1pz / self.ln1pz_max * len(self.universe_step), self.universe, self.universe_step)

    def _light(self, theta, ln1pz, t_age, at_age) -> tuple[Tensor, Tensor]:
        """Light of stars (and gas) outside and inside birth clouds in every column, (n, n_col) each."""
        beta, (f_burst, t_burst) = theta[:, 1 : 1 + self.n_sfh], theta[:, 1 + self.n_sfh : 3 + self.n_sfh].T
        f_burst = torch.where(t_burst <= t_age, f_burst, 0.0)
        gamma = 10.0 ** theta[:, 3 + self.n_sfh : self.at_dust]
        row, formed, z = self.bins(beta, gamma, t_age, at_age)
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
        old, young = (_bag(index, self.component, torch.cat([of * (1.0 - f), of * f], 1)) for of in weights)
        return old, young

    def _gas(self, theta, k, mass, z) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, masses and metallicities, (n, 3) each, of one set of the gas's rows: popcat.forward.gas_rows."""
        i, f_u = cell_of(theta[:, self.at_gas].clamp(self.log_u[0], self.log_u[-1]), self.log_u)
        f_esc, n_u = theta[:, self.at_gas + 1], len(self.log_u)
        row = self.first_gas + k * (n_u + 1) + torch.stack([i, i + 1, torch.full_like(i, n_u)], 1)
        share = torch.stack([(1.0 - f_esc) * (1.0 - f_u), (1.0 - f_esc) * f_u, f_esc], 1)
        return row, mass[:, None] * share, z[:, None].expand(-1, 3)

    def bins(self, beta, gamma, t_age, at_age):
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
        z = torch.where(slot == last, self.time_metallicity(gamma, middle, t_age)[:, None], z)
        return row, formed, z

    def _burst(self, t_burst, f_burst, gamma, t_age):
        """Rows, masses and metallicities of the two ages that bracket the burst, (n, 2) each."""
        ln_t = torch.log(t_burst).clamp(self.burst_ln_age[0], self.burst_ln_age[-1])
        i, f = cell_of(ln_t, self.burst_ln_age)
        row = self.first_burst + torch.stack([i, i + 1], 1)
        mass = f_burst[:, None] * torch.stack([1.0 - f, f], 1)
        return row, mass, self.time_metallicity(gamma, t_burst, t_age)[:, None].expand(-1, 2)

    def time_metallicity(self, gamma, t, t_age):
        i, f = cell_of(t / t_age if self.in_fractions else t, self.zh_time)
        bases = self.zh_value[i] * (1.0 - f)[:, None] + self.zh_value[i + 1] * f[:, None]
        return (gamma * bases).sum(1)

    def _bin_metallicity(self, gamma, t_age):
        """Metallicity at the midpoint of every time bin, (n, n_slot), of a history in fractions of t_age."""
        i, f = cell_of((0.5 * (self.edges[1:] + self.edges[:-1]) / t_age[:, None]).clamp(max=1.0), self.zh_time)
        return sum(gamma[:, k, None] * (self.zh_value[i, k] * (1.0 - f) + self.zh_value[i + 1, k] * f)
                   for k in range(gamma.shape[1]))  # fmt: skip

    def _weights(self, block, row, mass, z) -> Tensor:
        """Weights of the components (n, K) of rows, linear in ln Z, in the blocks of redshift (n,)."""
        ln_z = torch.log(z.clamp(min=torch.exp(self.ln_z[0] - 1.0))).clamp(self.ln_z[0], self.ln_z[-1])
        q, fq = cell_of(ln_z, self.ln_z)
        low = ((block[:, None] * self.n_metal + q) * self.n_row + row).int()
        weight = torch.cat([mass * (1.0 - fq), mass * fq], 1)
        return _bag(torch.cat([low, low + self.n_row], 1), self.coefficient, weight)

    def _between(self, ln1pz, table) -> Tensor:
        """A table (n_z, ...) at the tables' redshifts, linear between: (n, ...)."""
        i, f = cell_of(ln1pz, self.ln1pz)
        # a weighted embedding bag, because it keeps neither of the two for the way back
        flat = _bag(torch.stack([i, i + 1], 1).int(), table.flatten(1), torch.stack([1.0 - f, f], 1))
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


def _bag(index, table, weight) -> Tensor:
    """sum_j weight[:, j] table[index[:, j]], which keeps no row of the table for the way back."""
    return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")


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
