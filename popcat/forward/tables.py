"""Band tables: an SSP grid projected on a survey's filters, for every redshift of the survey.

Linear interpolation of L in ln Z and ln t commutes with the projection, so tables of band light are as exact as the
spectra. One row a time bin (averaged or at its midpoint), a "cut" row for each bin that the age of the universe can
cut, and for the burst one row a native age.
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
from popcat.forward.dust import STEP_HIGH_AA, STEP_LOW_AA, calzetti_step
from popcat.forward.filters import FilterCurve, load_curves
from popcat.forward.histories import point_weights, row_weights
from popcat.forward.ingredients import Ingredients, load_ingredients
from popcat.forward.quadrature import Segment, hat_weights, lagrange_basis, make_segments
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey
from popcat.units import C_AA_S, LSUN_ERG_S, NMGY_FNU, PC_CM

CELL_LN1PZ = 1.0e-3
"""Width of a redshift cell in ln(1 + z): linear interpolation is then good to 2e-4, and to 4e-4 where a break of the
spectrum crosses the edge of a filter."""
NODE_TOLERANCE = 2e-4
REST_CELL_LN1PZ = 8e-3
"""The same for rest-frame tables, of which only the cut bins change with redshift: good to about 5e-5."""
BURST_MIN_GYR = 0.01
STEP_NODES_AA = STEP_LOW_AA + (STEP_HIGH_AA - STEP_LOW_AA) * np.array([0.12, 0.62])
"""Rest-frame nodes of the attenuation inside the 6300 A step, where the step is large."""
N_MOMENT = 3
"""Moments in time of the light of the merged bins."""
N_LANE = 16
"""Columns come in multiples of this, so that vector instructions leave no rest."""
_FORMAT = 3
_NAME_CACHE = "name a writable folder in the environment variable POPCAT_CACHE"


@dataclass(frozen=True)
class BandTables:
    """Everything that the photometry kernel reads. Light is in nMgy at 10 pc per Msun formed, times (1 + z).

    Attributes
    ----------
    ln1pz : (n_z,) uniform redshift nodes
    light : (n_z, n_Z, n_row, n_col) float32, rows: `n_whole` whole bins, cut bins, moments
        of the young bins merged (popcat.forward.stars), ages of the burst; columns of no light at the end fill up to 16
    burst_ln_age : (n_burst_age,) ln Gyr
    first_cut : the first bin that has a cut row
    node_aa, node_band : (n_node,) observed wavelength and band of the first n_node columns
    step_band : (n_step,) band of each following pair of columns, one pair a band that meets the 6300 A step
    """

    ln1pz: np.ndarray
    light: np.ndarray
    burst_ln_age: np.ndarray
    n_whole: int
    first_cut: int
    node_aa: np.ndarray
    node_band: np.ndarray
    step_band: np.ndarray
    n_band: int

    @property
    def megabytes(self) -> float:
        return self.light.nbytes / 1e6

    @property
    def first_burst(self) -> int:
        """The row of the burst's first age."""
        return self.light.shape[2] - len(self.burst_ln_age)

    @property
    def first_merged(self) -> int:
        """The row of the merged bins' first moment."""
        return self.first_burst - 2 * N_MOMENT


def most_rows(ingredients: Ingredients) -> int:
    """More rows than any galaxy has."""
    return len(ingredients.bins.edges_gyr) + 2 * N_MOMENT


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


def redshift_nodes(z_range, cell: float = CELL_LN1PZ) -> np.ndarray:
    """Nodes uniform in ln(1 + z), not wider apart than `cell`, that cover a redshift range."""
    low, high = np.log1p(z_range[0]), np.log1p(z_range[1])
    return np.linspace(low, high, max(int(np.ceil((high - low) / cell)), 1) + 1)


def build_tables(
    survey: Survey, ingredients: Ingredients, curves: list[FilterCurve], *, rest_frame: bool = False
) -> BandTables:
    """Project the grid on the filters at every redshift node; with `rest_frame`, never redshifted.

    Raises PopcatError, naming band and redshift, where the grid does not cover a filter.
    """
    z_range, grid = survey.redshift_range, ingredients.grid
    seen_at = (0.0, 0.0) if rest_frame else z_range
    _check_coverage(curves, grid.wave_aa, seen_at)
    spectra = _test_spectra(ingredients)
    segments = [(b, s) for b, c in enumerate(curves) for s in make_segments(c, spectra, seen_at, NODE_TOLERANCE)]
    scale = np.array([_to_nmgy(curve) for curve in curves])
    stepped = [b for b, curve in enumerate(curves) if _meets_step(curve, seen_at)]
    columns = _Columns(segments, stepped, scale)
    ln1pz = redshift_nodes(z_range, REST_CELL_LN1PZ if rest_frame else CELL_LN1PZ)
    burst_from = max(int(np.searchsorted(grid.age_gyr, BURST_MIN_GYR, side="right")) - 1, 0)
    project, light = _Projection(grid, columns), []
    for z in np.expm1(ln1pz):
        native = project(0.0 if rest_frame else z)
        bins = np.einsum("ra,zac->zrc", bin_weights(ingredients, z_range, z), native, optimize=True)
        light.append(np.concatenate([bins, native[:, burst_from:]], axis=1).astype(np.float32))
    return BandTables(
        ln1pz=ln1pz,
        light=np.stack(light),
        burst_ln_age=np.log(grid.age_gyr[burst_from:]),
        n_whole=cut_bins(ingredients, z_range)[1],
        first_cut=cut_bins(ingredients, z_range)[0],
        node_aa=np.concatenate([s.nodes_aa for _, s in segments]),
        node_band=np.repeat([b for b, _ in segments], [len(s.nodes_aa) for _, s in segments]),
        step_band=np.array(stepped, dtype=np.int64),
        n_band=len(curves),
    )


class _Projection:
    """Light of the grid in every column, (n_Z, n_age, n_col) float32, at a redshift."""

    def __init__(self, grid, columns: "_Columns"):
        self.wave_aa, self.shape, self.columns = grid.wave_aa, grid.lum.shape[:2], columns
        self._flat = grid.lum.reshape(-1, len(grid.wave_aa)).astype(np.float32)
        self._last: tuple[float, np.ndarray] = (np.nan, np.empty(0))

    def __call__(self, redshift: float) -> np.ndarray:
        if self._last[0] != redshift:
            weights = self.columns.weights(self.wave_aa, redshift)
            used = np.flatnonzero(weights.any(axis=1))
            span = slice(used[0], used[-1] + 1)
            light = self._flat[:, span] @ weights[span].astype(np.float32)
            self._last = redshift, light.reshape(*self.shape, -1)
        return self._last[1]


class _Columns:
    """The columns of the tables as integrals over observed wavelength."""

    def __init__(self, segments: list[tuple[int, Segment]], stepped: list[int], scale: np.ndarray):
        self.segments, self.stepped, self.scale = segments, stepped, scale

    def weights(self, wave_rest: np.ndarray, redshift: float) -> np.ndarray:
        """(n_wave, n_col) with light = L @ weights at a redshift."""
        parts = []
        for band, s in self.segments:
            parts.append(hat_weights(wave_rest, s.wave_aa, self.scale[band] * s.weight * s.basis, redshift))
        parts += [self._step(band, wave_rest, redshift) for band in self.stepped]
        used = sum(part.shape[1] for part in parts)
        return np.concatenate([*parts, np.zeros((len(wave_rest), -used % N_LANE))], axis=1)

    def _step(self, band, wave_rest, redshift) -> np.ndarray:
        total = np.zeros((len(wave_rest), len(STEP_NODES_AA)))
        for b, s in self.segments:
            if b == band:
                rest = s.wave_aa / (1.0 + redshift)
                step = s.weight * calzetti_step(rest) * lagrange_basis(STEP_NODES_AA, rest)
                total += hat_weights(wave_rest, s.wave_aa, self.scale[b] * step, redshift)
        return total


def _to_nmgy(curve: FilterCurve) -> float:
    """From int T w L dw (Lsun A) to nMgy at 10 pc."""
    return LSUN_ERG_S / (4.0 * np.pi * (10.0 * PC_CM) ** 2 * C_AA_S * curve.ab_norm() * NMGY_FNU)


def _meets_step(curve: FilterCurve, z_range) -> bool:
    low, high = STEP_LOW_AA * (1.0 + z_range[0]), STEP_HIGH_AA * (1.0 + z_range[1])
    return any(a < high and b > low for a, b in curve.segments())


def _test_spectra(ingredients: Ingredients):
    """Young, middle-aged and old light of a middling metallicity."""
    weights = point_weights(ingredients.grid.age_gyr, [0.005, 0.3, 3.0, 12.0])
    return ingredients.grid.wave_aa, weights @ ingredients.grid.lum[len(ingredients.grid.lum) // 2]


def _check_coverage(curves, wave_aa, z_range) -> None:
    for curve in curves:
        low, high = curve.wave_aa[0] / (1.0 + z_range[1]), curve.wave_aa[-1] / (1.0 + z_range[0])
        for edge, z, beyond in ((low, z_range[1], low < wave_aa[0]), (high, z_range[0], high > wave_aa[-1])):
            if beyond:
                raise PopcatError(
                    f'band "{curve.name}" at redshift {z:g} needs {edge:.0f} A in the rest frame; the SSP grid covers '
                    f"{wave_aa[0]:.0f} to {wave_aa[-1]:.0f} A: choose another redshift_range or grid"
                )


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
    ingredients.components.require_tables()


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
        "settings": [REST_CELL_LN1PZ if rest_frame else CELL_LN1PZ, NODE_TOLERANCE, BURST_MIN_GYR],
    }
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
        value = np.load(folder / f"{name}.npy", mmap_mode="c" if name == "light" else None, allow_pickle=False)
        return np.asarray(value) if value.ndim else int(value)

    return BandTables(**{name: read(name) for name in BandTables.__dataclass_fields__})
