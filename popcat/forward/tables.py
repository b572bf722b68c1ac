"""Band tables: an SSP grid projected on a survey's filters, for every redshift of the survey.

Linear interpolation of L in ln Z and ln t commutes with the projection, so tables of band light are as exact as the
spectra. One row a time bin (averaged or at its midpoint), a "cut" row for each bin that the age of the universe can
cut, and for the burst one row a native age. Light is kept as components that all rows share, band by band and block by
block of redshifts (popcat.forward.compression).
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from popcat.caches import can_be_made
from popcat.errors import PopcatError
from popcat.files import cache_folder, folder_atomic
from popcat.forward.agn import agn_spectrum
from popcat.forward.component_tables import (
    GasRows,
    agn_table,
    all_light,
    emission_table,
    gas_middle,
    gas_rows,
    n_gas_bins,
    spectra,
)
from popcat.forward.compression import CELLS, TOLERANCE, Blocks
from popcat.forward.coverage import check_coverage
from popcat.forward.filters import FilterCurve, load_curves
from popcat.forward.gas import line_columns, load_gas
from popcat.forward.histories import point_weights, row_weights
from popcat.forward.igm import is_seen
from popcat.forward.ingredients import Ingredients, load_ingredients
from popcat.forward.projection import NODE_TOLERANCE, BandColumns, Projection
from popcat.forward.quadrature import Medium
from popcat.forward.redshift_cells import (
    BREAK_TOLERANCE,
    CELL_LN1PZ,
    MOST_HALVINGS,
    REST_CELL_LN1PZ,
    blocks_of,
    halved,
    near_breaks,
    redshift_nodes,
)
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey

BURST_MIN_GYR = 0.01
N_MOMENT = 3
"""Moments in time of the light of the merged bins."""
_MOST_GAS_SETS = 6
"""Of three rows each: two moments behind birth clouds and two outside, and two ages around a burst."""
_FORMAT = 6
_MAPPED = ("coefficient", "component", "emission")
_NAME_CACHE = "name a writable folder in the environment variable POPCAT_CACHE"


@dataclass(frozen=True)
class BandTables:
    """Everything that the photometry kernel reads. Light is in nMgy at 10 pc per Msun formed, times (1 + z).

    Attributes
    ----------
    ln1pz : (n_z,) redshift nodes (popcat.forward.redshift_cells)
    coefficient, component, start, block : light in every row and column, compressed
        (popcat.forward.compression.Blocks), with coefficient (n_block, n_Z, n_row, K), and the block of every redshift
        cell. Rows: `n_whole` whole bins, cut bins, moments of the young bins merged (popcat.forward.stars), ages of the
        burst, and `n_gas` of the gas (popcat.forward.component_tables.GasRows)
    burst_ln_age : (n_burst_age,) ln Gyr
    first_cut : the first bin that has a cut row
    column_aa, column_band, column_step, first_all : the columns, as in popcat.forward.projection.BandColumns; the light
        of those from first_all on, whose wavelengths are of the rest frame, is in Lsun
    n_band : bands; in the rest frame, with gas, also one a line and one a continuum (popcat.forward.gas.line_columns)
    rest_frame : 1 if the light is not redshifted
    n_gas, n_gas_burst, gas_bin : rows of gas, how many of the burst's ages have such rows, and the time bin of whose
        metallicity the gas is
    emission : (n_z, 2, n_q, n_U, n_band), agn : (n_z, n_col): see popcat.forward.component_tables; of no size without
    """

    ln1pz: np.ndarray
    coefficient: np.ndarray
    component: np.ndarray
    start: np.ndarray
    block: np.ndarray
    burst_ln_age: np.ndarray
    n_whole: int
    first_cut: int
    column_aa: np.ndarray
    column_band: np.ndarray
    column_step: np.ndarray
    first_all: int
    n_band: int
    rest_frame: int
    n_gas: int
    n_gas_burst: int
    gas_bin: int
    emission: np.ndarray
    agn: np.ndarray

    @property
    def megabytes(self) -> float:
        return sum(one.nbytes for one in (self.coefficient, self.component, self.emission, self.agn)) / 1e6

    @property
    def first_gas(self) -> int:
        """The first row of gas."""
        return self.coefficient.shape[2] - self.n_gas

    @property
    def first_burst(self) -> int:
        """The row of the burst's first age."""
        return self.first_gas - len(self.burst_ln_age)

    @property
    def first_merged(self) -> int:
        """The row of the merged bins' first moment."""
        return self.first_burst - 2 * N_MOMENT


def most_rows(ingredients: Ingredients) -> int:
    """More rows than any galaxy has."""
    return len(ingredients.bins.edges_gyr) + 2 * N_MOMENT + 3 * _MOST_GAS_SETS


def cut_bins(ingredients: Ingredients, z_range) -> tuple[int, int]:
    """First and last bin that the age of the universe can cut within a redshift range."""
    youngest, oldest = ingredients.cosmology.age(z_range[1]), ingredients.cosmology.age(z_range[0])
    edges = ingredients.bins.edges_gyr
    first, last = np.searchsorted(edges, [youngest, oldest], side="left") - 1
    return int(first), int(last)


def bin_weights(ingredients: Ingredients, z_range, redshift: float) -> np.ndarray:
    """Age weights (n_row, n_age) of the bins at one redshift: whole bins, cut bins, moments of the merged bins."""
    ages, edges = ingredients.grid.age_gyr, ingredients.bins.edges_gyr
    first, last = cut_bins(ingredients, z_range)
    whole = row_weights(ingredients.bins, ages, edges[:last], edges[1 : last + 1])
    cut = row_weights(ingredients.bins, ages, edges[first : last + 1], ingredients.cosmology.age(redshift))
    return np.concatenate([whole, cut, *_moments(ingredients)])


def _moments(ingredients: Ingredients):
    """sum_j width_j t_j^p L_j over the merged bins: young stars, then old ones, (N_MOMENT, n_age) each."""
    n = ingredients.n_straight
    width, mid = np.diff(ingredients.bins.edges_gyr)[:n], ingredients.bins.mid_gyr[:n]
    young = np.arange(n) < ingredients.bins.n_young
    powers = width * mid ** np.arange(N_MOMENT)[:, None]
    edges = ingredients.bins.edges_gyr
    whole = row_weights(ingredients.bins, ingredients.grid.age_gyr, edges[:n], edges[1 : n + 1])
    return (powers * young) @ whole, (powers * ~young) @ whole


def build_tables(
    survey: Survey, ingredients: Ingredients, curves: list[FilterCurve], *, rest_frame: bool = False
) -> BandTables:
    """Project the grid on the filters at every redshift node; with `rest_frame`, never redshifted.

    Raises PopcatError, naming band and redshift, where the grid does not cover a filter.
    """
    z_range, grid, components = survey.redshift_range, ingredients.grid, ingredients.components
    seen_at = _seen_at(survey, rest_frame)
    wave, parts = spectra(ingredients)
    check_coverage(curves, wave, seen_at)
    tests = wave, _test_spectra(ingredients.grid.age_gyr, *parts)
    bolometric, with_lines = all_light(ingredients, tests), rest_frame and components.gas == "cloudy"
    medium = _medium(ingredients, curves, seen_at)
    columns = BandColumns(curves, tests, seen_at, components.dust_law, medium, bolometric, with_lines=with_lines)
    ln1pz = redshift_nodes(z_range, REST_CELL_LN1PZ if rest_frame else CELL_LN1PZ)
    if not rest_frame:
        nucleus = [agn_spectrum(wave)[None]] if components.agn != "none" else []
        ln1pz = halved(ln1pz, near_breaks(columns, wave, np.concatenate([tests[1], *nucleus]), z_range))
    block = blocks_of(ln1pz, CELLS)
    at = np.zeros(len(ln1pz)) if rest_frame else np.expm1(ln1pz)
    burst_from = max(int(np.searchsorted(grid.age_gyr, BURST_MIN_GYR, side="right")) - 1, 0)
    gas = gas_rows(ingredients, burst_from) if components.gas == "cloudy" else None
    project, blocks = Projection(wave, parts, columns), Blocks(columns.bands, block)
    for z, seen in zip(np.expm1(ln1pz), at, strict=True):
        native = project(seen)
        if with_lines:
            native[2][..., columns.of_lines] = line_columns(load_gas())
        light = _rows(native, bin_weights(ingredients, z_range, z), burst_from, gas)
        blocks.add(light.reshape(-1, light.shape[-1]))
    coefficient, component, start = blocks.tables()
    only_one = at[:1] if rest_frame else at
    has_emission, has_agn = components.dust_emission != "none", components.agn != "none"
    return BandTables(
        ln1pz=ln1pz,
        coefficient=coefficient.reshape(len(coefficient), len(light), -1, coefficient.shape[-1]),
        component=component,
        start=start,
        block=block,
        burst_ln_age=np.log(grid.age_gyr[burst_from:]),
        n_whole=cut_bins(ingredients, z_range)[1],
        first_cut=cut_bins(ingredients, z_range)[0],
        column_aa=columns.wave_aa,
        column_band=columns.band,
        column_step=columns.step,
        first_all=columns.first_all,
        n_band=columns.n_band,
        rest_frame=int(rest_frame),
        n_gas=0 if gas is None else len(gas.of_gas) * (len(load_gas().log_u) + 1),
        n_gas_burst=0 if gas is None else gas.n_burst,
        gas_bin=0 if gas is None else gas_middle(ingredients),
        emission=_every(len(at), emission_table(columns, only_one if has_emission else at[:0])),
        agn=_every(len(at), agn_table(columns, only_one if has_agn else at[:0])),
    )


def _rows(native: list[np.ndarray], of_bins: np.ndarray, burst_from: int, gas: "GasRows | None") -> np.ndarray:
    """All rows at one redshift, (n_Z, n_row, n_col) float32, from light of the SSPs' ages."""
    parts = [np.einsum("ra,zac->zrc", of_bins, native[0], optimize=True), native[0][:, burst_from:]]
    if gas is not None:
        parts.append(gas(*native[1:]))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _every(n: int, table: np.ndarray) -> np.ndarray:
    """A table at each of n redshifts, of which one that is the same at all has the first alone."""
    return np.repeat(table, n, axis=0) if len(table) == 1 else table


def _seen_at(survey: Survey, rest_frame: bool) -> tuple[float, float]:
    return (0.0, 0.0) if rest_frame else survey.redshift_range


def _medium(ingredients: Ingredients, curves, z_range) -> Medium | None:
    """The intergalactic medium's transmission; None where no band sees any of it, as in the rest frame."""
    is_clear = ingredients.igm == "none" or not any(is_seen(curve.wave_aa[0], z_range[1]) for curve in curves)
    return None if is_clear else ingredients.mean_transmission


def _test_spectra(age_gyr: np.ndarray, stars: np.ndarray, *gas: np.ndarray) -> np.ndarray:
    """Young, middle-aged and old light of a middling metallicity, of SSPs (n_Z, n_age, n_wave); and young light with
    that of gas (popcat.forward.component_tables.spectra), whose lines see the attenuation at one wavelength.
    """
    middle = len(stars) // 2
    found = point_weights(age_gyr, [0.005, 0.3, 3.0, 12.0]) @ stars[middle]
    return found if not gas else np.concatenate([found, found[0] + gas[1][middle].mean(axis=0)])


def load_tables(survey: Survey, settings: GalaxyModel) -> tuple[BandTables, Ingredients]:
    """Tables from the cache, built and stored if they are not there.

    The key is a hash of everything that enters: grid, bins, filters, redshift range, cosmology. A folder appears under
    its final name only when complete, so any number of workers may build at once.
    """
    ingredients = load_ingredients(settings)
    return _load(survey, ingredients, load_curves(survey)), ingredients


def load_rest_tables(survey: Survey, ingredients: Ingredients, curves: list[FilterCurve]) -> BandTables:
    """Rest-frame tables for redshifts of a survey, from the same cache."""
    return _load(survey, ingredients, curves, rest_frame=True)


def require_tables(survey: Survey, ingredients: Ingredients) -> None:
    """PopcatError if no tables of this galaxy model can be made for this survey."""
    ingredients.require_stars(survey.redshift_range[1])
    if ingredients.components.gas == "cloudy":
        n_gas_bins(ingredients, load_gas())


def _load(survey, ingredients, curves, *, rest_frame: bool = False) -> BandTables:
    require_tables(survey, ingredients)
    folder = cache_folder() / f"tables-{_table_key(survey, ingredients, curves, rest_frame)[:32]}"
    if not os.path.isdir(folder):  # which, unlike Path.is_dir, answers also where it may not look
        if not can_be_made(folder):  # said now, not after the minutes of making them
            raise PopcatError(f"cannot keep band tables in {folder.parent}: it cannot be written; {_NAME_CACHE}")
        _store(build_tables(survey, ingredients, curves, rest_frame=rest_frame), folder)
    return _open(folder)


def _table_key(survey: Survey, ingredients: Ingredients, curves, rest_frame: bool) -> str:
    digest, ages_and_distances = hashlib.sha256(), ingredients.cosmology.arrays_to(survey.redshift_range[1])
    for curve in curves:
        digest.update(curve.wave_aa.tobytes() + curve.response.tobytes())
    cosmology = hashlib.sha256(b"".join(array.tobytes() for array in ages_and_distances)).hexdigest()
    rest = {
        "format": _FORMAT,
        "grid": ingredients.grid.content_hash(),
        "edges": ingredients.bins.edges_gyr.tolist(),
        "binning": ingredients.bins.binning,
        "young_bins": [ingredients.bins.n_young, ingredients.n_straight],
        "cosmology": cosmology,
        "redshift_range": survey.redshift_range,
        "rest_frame": rest_frame,
        "components": asdict(ingredients.components),
        "settings": [REST_CELL_LN1PZ if rest_frame else CELL_LN1PZ, NODE_TOLERANCE, BURST_MIN_GYR, TOLERANCE, CELLS,
                     BREAK_TOLERANCE, MOST_HALVINGS],
    }
    # where no band sees the medium, tables with it and without are the same
    if _medium(ingredients, curves, _seen_at(survey, rest_frame)) is not None:
        rest["igm"] = ingredients.igm
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def _store(tables: BandTables, folder: Path) -> None:
    """If the folder is there by then, another worker was first: its tables are the same."""
    try:
        with folder_atomic(folder) as building:
            for name, value in asdict(tables).items():
                np.save(building / f"{name}.npy", value)
    except OSError as error:
        raise PopcatError(
            f"cannot keep band tables ({tables.megabytes:.0f} MB) in {folder.parent}: {error}; {_NAME_CACHE}"
        ) from error


def _open(folder: Path) -> BandTables:
    """Memory-mapped, so that workers of one machine share the pages."""
    def read(name):
        value = np.load(folder / f"{name}.npy", mmap_mode="c" if name in _MAPPED else None, allow_pickle=False)
        return np.asarray(value) if value.ndim else int(value)

    return BandTables(**{name: read(name) for name in BandTables.__dataclass_fields__})
