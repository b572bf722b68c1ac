"""Band tables as the kernels read them: flat arrays, and what the galaxy model's dust, gas and nucleus add to them."""

from typing import NamedTuple

import numpy as np

from popcat.forward.agn import reddening
from popcat.forward.component_tables import n_gas_bins
from popcat.forward.compression import filled
from popcat.forward.dust import LAWS, R_V, bump, power_law_curve
from popcat.forward.dust_emission import load_dust_emission
from popcat.forward.gas import load_gas
from popcat.forward.ingredients import Ingredients
from popcat.forward.projection import STEP_NODES_AA
from popcat.forward.quadrature import fast_exp, kernel
from popcat.forward.tables import BandTables

_LN_0_8 = float(np.log(0.8))


class Screen(NamedTuple):
    """Dust in front of every column."""

    curve: np.ndarray
    """(n_z, 3, n_col): the law's smooth curve, the bump and the birth clouds' curve, at each node's rest wavelength."""
    ln_node: np.ndarray
    """(n_col,): logarithm of the ratio of a column's wavelength to 5500 A."""
    moves: np.ndarray
    """(n_col,): 1 where that is in the observed frame, 0 in the rest frame."""
    step: np.ndarray
    """(n_col,): 1 for the columns of the 6300 A step, else 0."""
    law: int
    n_shape: int
    first: int
    """theta's column of tau_bc; tau_ism and the law's n_shape own parameters follow."""


class Moments(NamedTuple):
    """The straight line with the mass and the mean time of what formed in the first n_bin bins: value a m + b s and
    slope b m + c s of m = sum_j formed_j and s = sum_j formed_j t_j."""

    n_bin: int
    a: float
    b: float
    c: float


class GasTable(NamedTuple):
    """Rows of gas: popcat.forward.component_tables.GasRows."""

    first: int
    """theta's column of log_u; f_esc follows; -1 without."""
    log_u: np.ndarray
    row: int
    """The first row."""
    n_burst: int
    n_sets: int
    bin: int
    moments: Moments


class Added(NamedTuple):
    """Dust emission and the nucleus."""

    emission: np.ndarray
    """(n_z, 2, n_q, n_U, n_band), of no size without."""
    q_pah: np.ndarray
    ln_u_min: np.ndarray
    power_law: np.ndarray
    """(n_q, n_U): see popcat.forward.dust_emission.DustEmission."""
    agn: np.ndarray
    agn_curve: np.ndarray
    """(n_z, n_col) each: light of the nucleus, and its optical depth per E(B-V) at each node's rest wavelength."""
    first_emission: int
    first_agn: int
    """theta's columns of q_pah, u_min, gamma_dust and of log_f_agn, ebv_agn; -1 without."""


class Components(NamedTuple):
    """Components of light of every band, and of all light: popcat.forward.compression.Blocks."""

    component: np.ndarray
    """(n_cell + n_block, n): by component, eights of columns."""
    turned: np.ndarray
    """(n_cell + n_block, n'): the same by column, eights of components."""
    start: np.ndarray
    """(n_block, n_group + 1): first component."""
    first: np.ndarray
    """(n_group + 1,): first column."""


class Cells(NamedTuple):
    """Redshift cells in ln(1 + z)."""

    first: float
    per_step: float
    """One over the width of the narrowest cell."""
    of_step: np.ndarray
    """Cell of every step of that width."""
    node: np.ndarray
    per_cell: np.ndarray
    """(n_cell,): one over the width of each."""
    block: np.ndarray


class KernelTables(NamedTuple):
    """BandTables as the kernels read them. Kernels that are called, not inlined, get the part that they need."""

    cells: Cells
    coefficient: np.ndarray
    """(n_block, n_Z, n_row, K)."""
    components: Components
    burst_ln_age: np.ndarray
    n_whole: int
    first_cut: int
    first_merged: int
    first_burst: int
    band: np.ndarray
    """(n_col,): band of every column."""
    first_all: int
    """From this column on light is all light, whatever its wavelength; n_col if no component asks for it."""
    screen: Screen
    gas: GasTable
    added: Added


_N_LANE = 16
# Laws by what their own parameters do; see law_shape.
_NO_SHAPE, _KRIEK_CONROY, _SALIM, _SLOPE = 0, 1, 2, 3
_KINDS = {"kriek_conroy": _KRIEK_CONROY, "salim": _SALIM, "charlot_fall": _SLOPE}


def kernel_tables(tables: BandTables, ingredients: Ingredients) -> KernelTables:
    """Flat arrays for the kernels."""
    components, dust = ingredients.components, load_dust_emission()
    law, starts = LAWS[components.dust_law], np.cumsum([0, *map(len, components.parts)])[:4] + ingredients.n_history
    bands = np.append(np.flatnonzero(np.diff(tables.column_band, prepend=-1)), len(tables.column_band))
    # so many that vector instructions leave no rest: of no light, wherever they are
    empty = -len(tables.column_aa) % _N_LANE
    node = np.append(tables.column_aa, np.full(empty, STEP_NODES_AA[0]))
    step, band = np.append(tables.column_step, np.zeros(empty)), np.append(tables.column_band, np.zeros(empty, int))
    moves = (step == 0.0) & (np.arange(len(node)) < tables.first_all) & (not tables.rest_frame)
    rest = node * np.exp(-tables.ln1pz[:, None] * moves)
    agn = np.pad(np.asarray(tables.agn), ((0, 0), (0, len(node) - tables.agn.shape[1])))
    at = [int(start) if part else -1 for start, part in zip(starts, components.parts, strict=True)]
    log_u = load_gas().log_u
    return KernelTables(
        cells=_cells(tables.ln1pz, tables.block),
        coefficient=tables.coefficient,
        components=_components(tables, bands),
        burst_ln_age=tables.burst_ln_age,
        n_whole=tables.n_whole,
        first_cut=tables.first_cut,
        first_merged=tables.first_merged,
        first_burst=tables.first_burst,
        band=np.where(np.arange(len(node)) < tables.first_all, band, 0),
        first_all=tables.first_all if tables.first_all < len(tables.column_aa) else len(node),
        screen=Screen(
            curve=np.stack([law.smooth(rest), bump(rest), power_law_curve(rest, law.birth_cloud)], axis=1),
            ln_node=np.log(node / 5500.0),
            moves=moves.astype(float),
            step=step,
            law=_KINDS.get(components.dust_law, _NO_SHAPE),
            n_shape=len(components.parts[0]) - 2,
            first=at[0],
        ),
        gas=GasTable(
            first=at[1],
            log_u=log_u,
            row=tables.first_gas,
            n_burst=tables.n_gas_burst,
            n_sets=tables.n_gas // (len(log_u) + 1),
            bin=tables.gas_bin,
            moments=_moments(ingredients),
        ),
        added=Added(
            emission=np.asarray(tables.emission),
            q_pah=dust.q_pah,
            ln_u_min=np.log(dust.u_min),
            power_law=dust.power_law,
            agn=agn,
            agn_curve=reddening(rest) if len(agn) else np.zeros((0, len(node))),
            first_emission=at[2],
            first_agn=at[3],
        ),
    )


def in_double(t: KernelTables) -> KernelTables:
    """The same in double precision, so that differences of fluxes mean something."""
    component, turned = (np.asarray(one, dtype=float) for one in t.components[:2])
    components = t.components._replace(component=component, turned=turned)
    return t._replace(coefficient=np.asarray(t.coefficient, dtype=float), components=components)


def _moments(ingredients: Ingredients) -> Moments:
    if ingredients.components.gas != "cloudy":
        return Moments(0, 0.0, 0.0, 0.0)
    n = n_gas_bins(ingredients, load_gas())
    width, mid = np.diff(ingredients.bins.edges_gyr)[:n], ingredients.bins.mid_gyr[:n]
    (a, b), (_, c) = np.linalg.inv([[(width * mid ** (p + q)).sum() for q in range(2)] for p in range(2)])
    return Moments(n, float(a), float(b), float(c))


def _cells(ln1pz: np.ndarray, block: np.ndarray) -> Cells:
    """Of nodes whose distances are one of them times powers of two."""
    width = np.diff(ln1pz)
    n_step = round((ln1pz[-1] - ln1pz[0]) / width.min())
    step = (ln1pz[-1] - ln1pz[0]) / n_step
    middle = ln1pz[0] + step * (np.arange(n_step) + 0.5)
    return Cells(float(ln1pz[0]), 1.0 / step, np.searchsorted(ln1pz, middle) - 1, ln1pz, 1.0 / width, block)


def _slots(block: np.ndarray) -> np.ndarray:
    """(n_cell + n_block,): the block of every component."""
    return np.sort(np.append(block, np.arange(block[-1] + 1)))


def _components(tables: BandTables, bands: np.ndarray) -> Components:
    slots, turned = _slots(tables.block), []
    for block, start in enumerate(tables.start):
        component = tables.component[slots == block]
        own = (np.swapaxes(one, 1, 2) for one in _by_band(component, start, bands))
        padded = [np.pad(one, ((0, 0), (0, 0), (0, filled(one.shape[2]) - one.shape[2]))) for one in own]
        turned.append(np.concatenate([one.reshape(len(component), -1) for one in padded], axis=1))
    most = max(one.shape[1] for one in turned)
    whole = np.concatenate([np.pad(one, ((0, 0), (0, most - one.shape[1]))) for one in turned])
    return Components(tables.component, whole, tables.start, bands)


def _by_band(component: np.ndarray, start: np.ndarray, bands: np.ndarray) -> list[np.ndarray]:
    """A block's components of each band, (cells + 1, rank, n_col)."""
    found, at = [], 0
    for rank, n_col in zip(np.diff(start), np.diff(bands), strict=True):
        width = filled(n_col)
        found.append(component[:, at : at + rank * width].reshape(-1, rank, width)[..., :n_col])
        at += rank * width
    return found


def whole_components(t: KernelTables) -> np.ndarray:
    """Every component in every column, (n_cell + n_block, K, n_col): zero in those of other bands."""
    component, _, start, first = t.components
    slots = _slots(t.cells.block)
    out = np.zeros((len(slots), t.coefficient.shape[3], len(t.band)), dtype=component.dtype)
    for block, starts in enumerate(start):
        of = np.flatnonzero(slots == block)
        for b, one in enumerate(_by_band(component[of], starts, first)):
            out[of[0] : of[-1] + 1, starts[b] : starts[b + 1], first[b] : first[b + 1]] = one
    return out


@kernel(inline="always")
def redshift_cell(ln1pz, cells):
    """Index and fraction between the tables' redshifts."""
    step = min(max(int((ln1pz - cells.first) * cells.per_step), 0), len(cells.of_step) - 1)
    i = cells.of_step[step]
    return i, (ln1pz - cells.node[i]) * cells.per_cell[i]


@kernel(inline="always")
def law_shape(theta, screen):
    """n, e and b of popcat.forward.dust.Law; and de/dn, db/dn, db/dbump_dust."""
    first = screen.first + 2
    if screen.law == _NO_SHAPE:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    n = theta[first]
    if screen.law == _KRIEK_CONROY:
        return n, 0.85 - 1.9 * n, 0.0, -1.9, 0.0, 0.0
    if screen.law == _SALIM:
        tilted = (R_V + 1.0) * fast_exp(_LN_0_8 * n)
        return n, 0.0, theta[first + 1] * (tilted - R_V), 0.0, theta[first + 1] * _LN_0_8 * tilted, tilted - R_V
    return n, 0.0, 0.0, 0.0, 0.0, 0.0
