"""Figures of a whole catalogue in the report: every galaxy by its median, and by its whole posterior."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat import plots
from popcat.catalog.learned import PriorDraws
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.queries import Catalog
from popcat.galaxies import chi2_limit
from popcat.pages import alt_texts
from popcat.plots.style import extent_of

STACKED = ("redshift", "log_mstar", "log_sfr_1gyr", "age_mw_gyr", "log_z_mw", "tau_ism")
"""Quantities whose stacked posteriors are beside the histogram of their medians."""
_BINS, _CELLS = 40, 56


@dataclass(frozen=True)
class Shown:
    """A figure of a page: its data URI, and in words what is seen."""

    image: str
    words: str


def catalogue_figures(ok: pd.DataFrame, near: Catalog, status: Mapping[str, int], n_bands: int,
                      manifest: CatalogManifest | None, prior: PriorDraws | None) -> dict[str, Shown]:  # fmt: skip
    """Figures by name. ok : scalar columns of galaxies with a posterior. near : the part of the catalogue whose draws
    are read. prior : draws of the prior, None where the catalogue keeps none.
    """
    limit = _limit(ok, n_bands, manifest)
    ranges = {name: extent_of(values, pad=0.3) for name in ("log_mstar", "log_sfr_1gyr")
              if len(values := _finite(ok[f"{name}_p50"]))}  # fmt: skip
    drawn = {"mass_redshift": (plots.mass_redshift(ok), alt_texts.of_mass_redshift(ok)),
             "chi2": (plots.chi2_histogram(ok, n_bands, limit), alt_texts.of_chi2(ok["chi2_best"].to_numpy(), limit)),
             "status": (plots.status_bars(status), alt_texts.of_status(status)),
             "sequence": _sequence(near, ranges), "marginals": _marginals(near, prior)}  # fmt: skip
    if np.isfinite(position := near.to_pandas(["ra", "dec"]).to_numpy(dtype=float)).all(axis=1).any():
        drawn["sky"] = (plots.sky_map(*position.T), alt_texts.of_sky(*position.T))
    return {name: Shown(plots.figure_to_data_uri(figure), words) for name, (figure, words) in drawn.items()}


def _limit(ok: pd.DataFrame, n_bands: int, manifest: CatalogManifest | None) -> float:
    """Where the flag high_chi2 begins for a galaxy with every band."""
    if manifest is None or manifest.chi2_limits is None:
        return chi2_limit(n_bands)
    tried = manifest.chi2_limits.draws[-1] if manifest.certify else manifest.draws
    is_known = np.isfinite(ok["redshift"]).mean() >= 0.5
    (limit,) = manifest.chi2_limits.of(np.array([n_bands]), np.array([is_known]), np.array([tried]))
    return float(limit)


def _sequence(near: Catalog, ranges: Mapping[str, tuple[float, float]]):
    names = ("log_mstar", "log_sfr_1gyr")
    medians = near.to_pandas([f"{name}_p50" for name in names], where="status == 'ok'")
    stack = near.stack(*names, bins=(_CELLS, _CELLS), range_=tuple(ranges[name] for name in names))
    values = [medians[f"{name}_p50"].to_numpy(dtype=float) for name in names]
    arguments = (*values, stack.mass, stack.x_edges, stack.y_edges)
    return plots.stacked_sequence(*arguments), alt_texts.of_sequence(*arguments)


def _marginals(near: Catalog, prior: PriorDraws | None):
    frame = near.to_pandas([f"{name}_p50" for name in STACKED], where="status == 'ok'")
    medians = {name: frame[f"{name}_p50"].to_numpy(dtype=float) for name in STACKED}
    stacks = {name: near.stack(name, bins=_BINS, range_=_range(near, name, values))
              for name, values in medians.items()}  # fmt: skip
    edges, mass = ({name: getattr(one, key) for name, one in stacks.items()} for key in ("x_edges", "mass"))
    weights = None if prior is None else _prior_weights(near, prior)
    figure = plots.stacked_marginals(edges, mass, medians, None if prior is None else prior.values, weights)
    return figure, alt_texts.of_marginals(medians, {name: 0.5 * (x[1:] + x[:-1]) for name, x in edges.items()}, mass)


def _range(near: Catalog, name: str, medians: np.ndarray) -> tuple[float, float]:
    """What the bulk of the posteriors spans, of which the medians are only the middles."""
    found = near.to_pandas([f"{name}_p16", f"{name}_p84"], where="status == 'ok'").to_numpy(dtype=float)
    low, high = extent_of(np.append(found.ravel(), medians))
    return (max(low, 0.0) if found.min() >= 0.0 else low), high


def _prior_weights(near: Catalog, prior: PriorDraws) -> np.ndarray:
    """How much each draw (m,) of the prior counts, if every galaxy is compared with the prior at its own redshift."""
    names = [name for name in ("redshift", "redshift_err") if name in near.columns]
    frame = near.to_pandas(names, where="status == 'ok'")
    given, err = (frame[name].to_numpy(dtype=float) if name in frame else np.full(len(frame), np.nan)
                  for name in ("redshift", "redshift_err"))  # fmt: skip
    start, stop = prior.spans(given, err).T
    change = np.zeros(len(prior.values["redshift"]) + 1)
    np.add.at(change, start, 1.0 / (stop - start))
    np.add.at(change, stop, -1.0 / (stop - start))
    return np.maximum(np.cumsum(change)[:-1], 0.0)


def _finite(values: pd.Series) -> np.ndarray:
    numbers = values.to_numpy(dtype=float)
    return numbers[np.isfinite(numbers)]
