"""The fast path: theta, z -> band fluxes from band tables, about a microsecond a galaxy; and their exact gradient.

popcat.forward.stars makes of a galaxy a list of weighted rows of the tables, popcat.forward.light of the rows band
fluxes; each has its gradient beside it. Held to popcat.forward.spectrum, and the gradient to finite differences, by
tests. What kernels look up of a galaxy model (histories, ages and distances as arrays) is here too.
"""

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.added_light import add_emission, add_nucleus, all_light, emission_gradient, nucleus_gradient
from popcat.forward.gas_rows import fill_gas, gas_gradient
from popcat.forward.ingredients import Ingredients
from popcat.forward.light import (
    Columns,
    clear_light,
    column_fluxes,
    distance_factor,
    gather,
    gather_gradient,
    make_columns,
    sum_bands,
    transmit,
    transmit_gradient,
)
from popcat.forward.lookups import LN_10, make_histories
from popcat.forward.quadrature import kernel
from popcat.forward.stars import Rows, fill_rows, make_rows, rows_gradient
from popcat.forward.table_arrays import KernelTables, kernel_tables, redshift_cell
from popcat.forward.tables import load_tables, most_rows
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey

# Unsigned indices, as in popcat.forward.light.
_U = np.uint64


class Photometry:
    """Band fluxes of one survey under one galaxy model.

    >>> from popcat.galaxy_model import GalaxyModel
    >>> from popcat.survey import load_survey
    >>> photometry = Photometry(load_survey("sdss"), GalaxyModel())
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> photometry.flux(theta, np.array([0.1])).shape
    (1, 5)
    """

    def __init__(self, survey: Survey, settings: GalaxyModel):
        self.tables, self.ingredients = load_tables(survey, settings)
        self.survey = survey
        self.histories = make_histories(self.ingredients)
        self.kernel_tables = kernel_tables(self.tables, self.ingredients)

    def flux(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Fluxes in nMgy, (n, n_band) float64, of theta (n, d) at redshift (n,).

        Raises PopcatError if a redshift is outside the survey's range or the shapes disagree.
        """
        theta, redshift = check_theta(theta, redshift, self.ingredients.n_theta, self.survey.redshift_range)
        order = nearly_ascending(redshift, self.survey.redshift_range)
        out = np.zeros((len(theta), self.tables.n_band))
        arguments = theta[order], redshift[order], self.histories, self.kernel_tables
        flux_kernel(*arguments, *scratch(self.ingredients, self.kernel_tables), False, out, np.empty((0, 3)))
        return in_place_of(order, out)

    def flux_vjp(
        self, theta: np.ndarray, redshift: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fluxes as from `flux`, and the gradient of sum_b v_b flux_b of each galaxy: (n, d) and (n,).

        v is (n, n_band). The gradient is exact for the interpolated tables: constant between their nodes in
        metallicity, burst age and redshift, zero where the metallicity is clipped, and zero in the burst's parameters
        if it is older than the universe.

        Raises PopcatError as `flux` does, and if v has another shape than the fluxes.
        """
        theta, redshift = check_theta(theta, redshift, self.ingredients.n_theta, self.survey.redshift_range)
        out = np.zeros((len(theta), self.tables.n_band))
        v = np.ascontiguousarray(v, dtype=np.float64)
        if v.shape != out.shape:
            raise PopcatError(f"expected one v a flux, {out.shape}, got {v.shape}")
        grad, grad_z = np.zeros(theta.shape), np.zeros(len(theta))
        order = nearly_ascending(redshift, self.survey.redshift_range)
        rows, columns = scratch(self.ingredients, self.kernel_tables)
        d_weight = np.zeros((2, len(rows.row)))
        arguments = theta[order], redshift[order], v[order], self.histories, self.kernel_tables, rows, columns
        _vjp_kernel(*arguments, d_weight, np.zeros(theta.shape[1]), out, grad, grad_z)
        return in_place_of(order, out), in_place_of(order, grad), in_place_of(order, grad_z)


def scratch(ingredients: Ingredients, t: KernelTables) -> tuple[Rows, Columns]:
    """Room for one galaxy, new for each call: calls may run in threads."""
    return make_rows(most_rows(ingredients), t.coefficient.dtype), make_columns(t)


def check_theta(theta, redshift, n_theta, z_range) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift as contiguous float64 arrays; PopcatError says what is wrong with them."""
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    redshift = np.ascontiguousarray(redshift, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != n_theta or redshift.shape != theta.shape[:1]:
        raise PopcatError(f"expected theta (n, {n_theta}) and redshift (n,), got {theta.shape} and {redshift.shape}")
    outside = ~((redshift >= z_range[0]) & (redshift <= z_range[1]))
    if outside.any():
        raise PopcatError(f"{outside.sum()} redshifts outside the survey's range {z_range[0]:g} to {z_range[1]:g}, "
                          f"the first {redshift[outside][0]:g}")
    return theta, redshift


def nearly_ascending(redshift, z_range) -> np.ndarray:
    """An order in which galaxies next to each other read the same part of the tables; 16 bits sort fast."""
    key = (redshift - z_range[0]) * (65535.0 / (z_range[1] - z_range[0]))
    return np.argsort(key.astype(np.uint16), kind="stable")


def in_place_of(order, values) -> np.ndarray:
    """Values computed in this order, back in the galaxies' own."""
    out = np.empty_like(values)
    out[order] = values
    return out


@kernel()
def flux_kernel(theta, redshift, h, t, rows, s, at_rest, out, rest):
    """Fluxes in nMgy for all galaxies. `at_rest`: per Msun formed, from 10 pc and not redshifted, and in `rest` the
    first band's of stars and gas without dust and with it, and the luminosity that dust absorbs; the same kernel,
    because compiling one takes seconds."""
    for i in range(len(theta)):
        ln1pz = np.log1p(redshift[i])
        iz, fz = redshift_cell(ln1pz, t.cells)
        n, _ = fill_rows(theta[i], ln1pz, h, t, rows)
        if t.gas.first >= 0:
            n = fill_gas(theta[i], ln1pz, h, t.first_cut, t.burst_ln_age, t.gas, rows, n, False)
        gather(rows, n, iz, fz, t, s)
        transmit(theta[i], ln1pz, iz, fz, t.screen, s)
        factor, _ = distance_factor(theta[i, 0], ln1pz, h)
        factor = 1.0 if at_rest else factor
        clear, absorbed = all_light(s, t.first_all, t.screen.step)
        column_fluxes(s, t.first_all, factor)
        if t.added.first_agn >= 0:
            add_nucleus(theta[i], iz, fz, factor * clear, t.added, t.first_all, s.term[0])
        sum_bands(s.term[0], t.components.first, out[i])
        if t.added.first_emission >= 0:
            add_emission(theta[i], iz, fz, factor * absorbed, t.added, out[i])
        if at_rest:
            rest[i, 0], rest[i, 1] = clear_light(s, t)
            rest[i, 2] = absorbed


@kernel()
def _vjp_kernel(theta, redshift, v, h, t, rows, s, d_weight, own, out, grad, grad_z):
    """Fluxes, and the gradient of sum(v flux) in theta and redshift."""
    band, step, v_col, old, young = t.band, t.screen.step, s.v, s.old, s.young
    for i in range(len(theta)):
        ln1pz = np.log1p(redshift[i])
        iz, fz = redshift_cell(ln1pz, t.cells)
        per_cell = t.cells.per_cell[iz]
        n, n_merged = fill_rows(theta[i], ln1pz, h, t, rows)
        n_all = n
        if t.gas.first >= 0:
            n_all = fill_gas(theta[i], ln1pz, h, t.first_cut, t.burst_ln_age, t.gas, rows, n, True)
        gather(rows, n_all, iz, fz, t, s)
        transmit(theta[i], ln1pz, iz, fz, t.screen, s)
        factor, per_ln1pz = distance_factor(theta[i, 0], ln1pz, h)
        clear, absorbed = all_light(s, t.first_all, step)
        column_fluxes(s, t.first_all, factor)
        for c in range(_U(t.first_all)):
            v_col[c] = v[i, band[c]]
        d_added, per_absorbed, per_clear = 0.0, 0.0, 0.0
        if t.added.first_agn >= 0:
            add_nucleus(theta[i], iz, fz, factor * clear, t.added, t.first_all, s.term[0])
        sum_bands(s.term[0], t.components.first, out[i])
        if t.added.first_agn >= 0:
            d_added, per_clear = nucleus_gradient(
                theta[i], iz, fz, factor * clear, v_col, t.added, t.first_all, s.term, grad[i]
            )
        if t.added.first_emission >= 0:
            add_emission(theta[i], iz, fz, factor * absorbed, t.added, out[i])
            slope, per_absorbed = emission_gradient(theta[i], iz, fz, factor * absorbed, v[i], t.added, grad[i])
            d_added += slope
        total = 0.0
        for b in range(out.shape[1]):
            total += v[i, b] * out[i, b]
        # Without the distance, which may bring the light of a faint galaxy below the smallest float32.
        for c in range(_U(t.first_all)):
            s.d_light[0, c] = v_col[c] * old[c]
            s.d_light[1, c] = v_col[c] * young[c]
        for c in range(_U(t.first_all), _U(len(band))):
            v_col[c] = -per_absorbed
            all_of = (1.0 - step[c]) * (per_absorbed + per_clear)
            s.d_light[0, c] = all_of - per_absorbed * old[c]
            s.d_light[1, c] = all_of - per_absorbed * young[c]
        d_fz = gather_gradient(rows, n_all, iz, t.cells.block[iz], fz, t.coefficient, t.components, s, d_weight)
        d_ln1pz, d_gas = per_cell * d_fz, (0.0, 0.0, 0.0)
        own[:] = 0.0
        if t.gas.first >= 0:
            d_gas = gas_gradient(
                theta[i], ln1pz, h, t.first_cut, t.burst_ln_age, t.gas, rows, n, n_all, d_weight, own
            )
        d_ln1pz += rows_gradient(theta[i], ln1pz, h, t, rows, n, n_merged, d_weight, d_gas, own)
        for k in range(1, grad.shape[1]):
            grad[i, k] += own[k] * factor
        d_ln1pz = d_ln1pz * factor + per_cell * d_added + per_ln1pz * total
        d_ln1pz += transmit_gradient(theta[i], ln1pz, iz, fz, per_cell, t.screen, s, factor, grad[i])
        grad[i, 0] = LN_10 * total
        grad_z[i] = d_ln1pz / (1.0 + redshift[i])
