"""Photometric redshifts as their users publish them, from the redshift draws of a posterior catalogue.

Point estimates, odds and densities on a grid; and scores of galaxies whose redshifts are known from spectra.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.draws import decode, given_edges
from popcat.catalog.manifest import CatalogManifest, Manifest
from popcat.catalog.selection import numbers_of
from popcat.columns import PERCENTILES, to_pandas
from popcat.display import Displayed
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, parse
from popcat.expressions import column as column_of
from popcat.galaxies import OBJECT_NAME
from popcat.ranks import ks_distance, ranks

GRID_NODES = 301
OUTLIER = 0.15
POINTS = ("redshift_p50", "redshift_mode", "redshift_mean")
TRUTH = "true_redshift"
_ODDS = 0.06
_QUARTER_OF_A_GAUSSIAN = 0.63728
"""Width of the central quarter of a Gaussian, in standard deviations."""
_ROWS = 2048


def density(draws: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Probability density p(z) of galaxies (n, m) at the nodes (m,) of an equidistant grid, from draws (n, k).

    The trapezoidal rule over the grid gives 1. Each draw is shared among the two nodes beside it, as its distance says;
    then the density is smoothed by a Gaussian kernel, reflected at the ends of the grid. The bandwidth is
    0.9 s k^(-1/5) (Silverman 1986, eq. 3.31). s is the smaller of the standard deviation and the width of the shortest
    interval that holds a quarter of the draws, over that of a Gaussian: distant peaks do not widen each other. Draws
    beyond the grid count at its ends.

    >>> p = density(np.array([[0.2, 0.3, 0.3, 0.4]]), np.linspace(0.0, 1.0, 101))
    >>> p.shape, round(float(np.trapezoid(p[0], dx=0.01)), 6)
    ((1, 101), 1.0)
    """
    parts = [_density(draws[i : i + _ROWS].astype(np.float64), grid) for i in range(0, len(draws), _ROWS)]
    return np.concatenate(parts) if parts else np.empty((0, len(grid)))


def _density(draws: np.ndarray, grid: np.ndarray) -> np.ndarray:
    from scipy.fft import dct

    (n, k), m, step = draws.shape, len(grid), grid[1] - grid[0]
    place = np.clip((draws - grid[0]) / step, 0, m - 1)
    node = np.minimum(place.astype(np.int64), m - 2)
    right, index = place - node, node + np.arange(n)[:, None] * m
    mass = np.bincount(index.ravel(), (1 - right).ravel(), n * m) + np.bincount(index.ravel() + 1, right.ravel(), n * m)
    values = mass.reshape(n, m) / (k * step)
    values[:, [0, -1]] *= 2
    # The heat equation on the nodes, solved in cosines: it keeps the integral, and no value becomes negative.
    decay = (_bandwidth(draws)[:, None] / step) ** 2 * (1 - np.cos(np.pi * np.arange(m) / (m - 1)))
    smooth = dct(dct(values, type=1, axis=1) * np.exp(-decay), type=1, axis=1) / (2 * (m - 1))
    return np.maximum(smooth, 0.0)


def _bandwidth(draws: np.ndarray) -> np.ndarray:
    k = draws.shape[1]
    if k < 4:
        return np.zeros(len(draws))
    ordered, quarter = np.sort(draws, axis=1), round(k / 4)
    shortest = (ordered[:, quarter:] - ordered[:, :-quarter]).min(axis=1)
    return 0.9 * np.minimum(draws.std(axis=1), shortest / _QUARTER_OF_A_GAUSSIAN) * k**-0.2


def estimates(draws: np.ndarray, grid: np.ndarray) -> dict[str, np.ndarray]:
    """Point estimates (n,) from draws (n, k): mean, percentiles, mode and odds, as columns `redshift_...`.

    The mode is the highest point of `density`, by a parabola through the highest node and its neighbours. Odds are the
    fraction of the draws within 0.06 (1 + mode) of the mode (Benitez 2000).
    """
    draws = draws.astype(np.float64)
    mode = np.concatenate([np.empty(0), *(_mode(density(draws[i : i + _ROWS], grid), grid)
                                          for i in range(0, len(draws), _ROWS))])  # fmt: skip
    near = np.abs(draws - mode[:, None]) < _ODDS * (1 + mode[:, None])
    quantiles = np.percentile(draws, PERCENTILES, axis=1) if draws.size else np.empty((len(PERCENTILES), 0))
    return {
        "redshift_mean": draws.sum(axis=1) / max(draws.shape[1], 1),
        **{f"redshift_p{q}": values for q, values in zip(PERCENTILES, quantiles, strict=True)},
        "redshift_mode": mode,
        "redshift_odds": near.sum(axis=1) / max(draws.shape[1], 1),
    }


def _mode(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    rows, peak = np.arange(len(values)), values.argmax(axis=1)
    inner = np.clip(peak, 1, len(grid) - 2)
    left, middle, right = (values[rows, inner + side] for side in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(len(values)), where=(bend < 0) & (inner == peak))
    return grid[peak] + shift * (grid[1] - grid[0])


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score (n,) of draws (n, k) and truths (n,): mean |x - z| - mean |x - x'| / 2.

    In the unit of the draws; small is good. The second mean is over pairs of different draws, so that the number of
    draws does not matter on average (the fair score of Ferro 2014).

    >>> crps(np.array([[0.4, 0.6]]), np.array([0.5])).round(3).tolist()
    [0.0]
    """
    k = draws.shape[1]
    ordered = np.sort(draws.astype(np.float64), axis=1)
    pairs = ordered @ (2.0 * np.arange(k) - k + 1) / max(k * (k - 1), 1)
    return np.abs(ordered - truth[:, None]).mean(axis=1) - pairs


def point_scores(redshift: np.ndarray, truth: np.ndarray, *, beyond: float = OUTLIER) -> dict[str, float]:
    """How near point estimates (n,) are to true redshifts, by d = (z - z_true) / (1 + z_true).

    bias : median of d. nmad : 1.4826 median |d - bias|. outlier_fraction : of |d| > `beyond`.

    >>> point_scores(np.array([0.1, 1.0, 2.0]), np.array([0.1, 1.0, 1.0]))
    {'nmad': 0.0, 'bias': 0.0, 'outlier_fraction': 0.3333333333333333}
    """
    difference = (redshift - truth) / (1.0 + truth)
    bias = np.median(difference)
    return {"nmad": float(1.4826 * np.median(np.abs(difference - bias))), "bias": float(bias),
            "outlier_fraction": float(np.mean(np.abs(difference) > beyond))}  # fmt: skip


def _scores(frame: pd.DataFrame, point: str) -> dict[str, float]:
    """Scores of a frame as `PhotoRedshifts.compared` gives it."""
    points = point_scores(frame[point].to_numpy(), frame[TRUTH].to_numpy())
    points["outlier_015"] = points.pop("outlier_fraction")
    return {"n": len(frame), **points, "crps": float(frame["crps"].mean()),
            "pit_ks": ks_distance(frame["pit"].to_numpy())}  # fmt: skip


@dataclass(frozen=True, repr=False)
class PhotoRedshifts(Displayed):
    """Photometric redshifts of the galaxies of a catalogue that have a posterior, as `Catalog.photoz` gives them.

    Attributes
    ----------
    galaxies : (n,) rows with object_id, object_name where identifiers are text, and redshift: what the catalogue gave
        to the inference; NaN: it was inferred
    draws : (n, k) posterior draws of the redshift
    grid : (m,) equidistant redshifts at which densities are computed
    """

    galaxies: pd.DataFrame
    draws: np.ndarray
    grid: np.ndarray
    _read: Callable[[list[str]], pa.Table]

    def __len__(self) -> int:
        return len(self.galaxies)

    def _title(self) -> str:
        return f"Photometric redshifts of {len(self):,} galaxies"

    def _facts(self) -> dict[str, object]:
        given = int(self.galaxies["redshift"].notna().sum())
        return {"draws": self.draws.shape[1], "grid": f"{len(self.grid)} from {self.grid[0]:g} to {self.grid[-1]:g}",
                "given": f"{given:,} redshifts were given to the inference"}  # fmt: skip

    def to_pandas(self) -> pd.DataFrame:
        """A row for each galaxy: `galaxies`, and beside them redshift_mean, _p16, _p50, _p84, _mode and _odds."""
        return self.galaxies.assign(**estimates(self.draws, self.grid))

    def pdf(self) -> np.ndarray:
        """Density of each galaxy at the redshifts of the grid, (n, m); its trapezoidal integral is 1."""
        return density(self.draws, self.grid)

    def compared(self, truth: "pd.Series | Mapping") -> pd.DataFrame:
        """`to_pandas` of the galaxies of known redshift, with true_redshift, pit and crps.

        `truth` is a redshift by identifier (object_id, or the name where the catalogue has names). Galaxies without a
        finite one, and those whose redshift was given to the inference, are left out. pit is the probability integral
        transform: the rank of the truth among the draws, uniform in (0, 1) if the posteriors are right.

        Raises PopcatError if no galaxy is left.
        """
        truth = pd.Series(truth, dtype=np.float64)
        ids = numbers_of(truth.index, OBJECT_NAME in self.galaxies, "the catalogue")
        known = pd.Series(truth.to_numpy(), index=ids)
        values = known[~known.index.duplicated()].reindex(self.galaxies["object_id"]).to_numpy()
        rows = np.flatnonzero(np.isfinite(values) & self.galaxies["redshift"].isna().to_numpy())
        if not rows.size:
            raise PopcatError("none of these redshifts is of a galaxy whose redshift was inferred; expected redshifts "
                              "by identifier, and a catalogue that was inferred without them (hide_redshift)")
        draws, values = self.draws[rows], values[rows]
        frame = self.galaxies.iloc[rows].reset_index(drop=True).assign(**estimates(draws, self.grid))
        return frame.assign(**{TRUTH: values, "pit": ranks(values, draws), "crps": crps(draws, values)})

    def scores(
        self, truth: "pd.Series | Mapping", *, point: str = "redshift_p50", by: str | None = None,
        bins: "int | Sequence[float]" = 5,
    ) -> pd.DataFrame:  # fmt: skip
        """Scores against known redshifts, in one row; or in a row for each bin of what `by` says.

        n; nmad, bias and outlier_015 of `point`, which is redshift_p50, redshift_mode or redshift_mean: with
        d = (z - z_true) / (1 + z_true), 1.4826 median |d - median d|, median d, the fraction of |d| > 0.15; crps, the
        mean continuous ranked probability score, in redshift; pit_ks, the Kolmogorov-Smirnov distance of pit from
        uniform. All are small if the redshifts are good.

        `by` is an expression over the columns of the catalogue and of `compared`: "true_redshift",
        "22.5 - 2.5 * log10(flux_i)", "-2.5 * log10(flux_g / flux_r)". `bins` are edges, or a number of bins of as many
        galaxies each. Bins without galaxies are left out.

        Raises PopcatError for a column that is not there, and as `compared` does.
        """
        if point not in POINTS:
            raise PopcatError(f'no point estimate "{point}"; {did_you_mean(point, POINTS)}')
        frame = self.compared(truth)
        if by is None:
            return pd.DataFrame([_scores(frame, point)])
        values = self._values(frame, by)
        edges = given_edges(by, bins)
        if edges is None:
            edges = np.unique(np.nanquantile(values, np.linspace(0.0, 1.0, int(bins) + 1)))  # type: ignore[arg-type]
        which = np.searchsorted(edges, values, side="right") - 1
        which[values == edges[-1]] = len(edges) - 2
        rows = [{"low": edges[i], "high": edges[i + 1], **_scores(frame[which == i], point)}
                for i in range(len(edges) - 1) if np.any(which == i)]  # fmt: skip
        return pd.DataFrame(rows)

    def _values(self, frame: pd.DataFrame, by: str) -> np.ndarray:
        """An expression's values of the galaxies of a frame, (n,)."""
        others = [base_name(name) for name in parse(by).columns if base_name(name) not in frame]
        if others:
            more = to_pandas(self._read(["object_id", *dict.fromkeys(others)])).set_index("object_id")
            frame = frame.join(more, on="object_id")
        return column_of(frame, by).to_numpy(dtype=np.float64)


def photo_redshifts(
    read: Callable[[list[str]], pa.Table], has_names: bool, made: Manifest | None, grid: "int | Sequence[float]"
) -> PhotoRedshifts:
    """As `Catalog.photoz` has it; `read` gives a table of some columns of the galaxies that are asked for."""
    names = ["object_id", *([OBJECT_NAME] if has_names else []), "redshift"]
    table = read([*names, "redshift_draws"])
    rows, draws = decode(table["redshift_draws"])
    span = made.survey.redshift_range if isinstance(made, CatalogManifest) else (0.0, draws.max(initial=0.0) or 1.0)
    galaxies = to_pandas(table.select(names)).iloc[rows].reset_index(drop=True)
    return PhotoRedshifts(galaxies, draws, redshift_grid(grid, span), read)


def redshift_grid(grid: "int | Sequence[float]", span: tuple[float, float]) -> np.ndarray:
    """Equidistant redshifts: so many over a range, or as given; PopcatError for what are none.

    >>> redshift_grid(3, (0.0, 1.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    if isinstance(grid, int | np.integer):
        grid = np.linspace(*span, max(int(grid), 0))
    nodes = np.asarray(grid, dtype=np.float64)
    if nodes.ndim != 1 or len(nodes) < 3 or nodes[1] <= nodes[0] or not np.allclose(np.diff(nodes, 2), 0.0, atol=1e-6):
        raise PopcatError("a grid of redshifts: expected at least 3, ascending in equal steps, or their number; got "
                          f"{nodes[:4].tolist() if nodes.ndim == 1 else nodes.shape}")
    return nodes
