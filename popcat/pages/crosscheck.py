"""A referee: an independent sampler on some of a catalogue's galaxies, compared with its posteriors."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import numpy as np
from numpy.random import SeedSequence

from popcat import plots, rng
from popcat.catalog.draws import quantities_of
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.samplers import Galaxy, c2st, quantile_shifts, sample_galaxy
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic, write_json_atomic
from popcat.forward.model import derive, forward_for
from popcat.galaxy_model import GalaxyModel, make_prior
from popcat.survey import Survey

JUDGED = ("log_mstar", "log_sfr_1gyr", "tau_ism")
"""Quantities of the summary; every quantity is in the details of each galaxy."""
_JSON, _HTML = "crosscheck.json", "crosscheck.html"
_STREAM = 11
_N_CORNERS = 6


def crosscheck(
    posteriors: str | Path, n: int = 50, *, output: str | Path | None = None, seed: int = 0, sampler: str = "prior",
    max_steps: int = 60_000, only: Sequence[str] | None = None, report: Callable = lambda text: None,
) -> dict:  # fmt: skip
    """Compare the posteriors of n random galaxies of a catalogue with an independent sampler's, and return the summary.

    sampler : "prior" (accepted draws of the prior), "emcee" or "nautilus". only : routes to draw the galaxies from; all
    by default. With `output`, a folder, also writes crosscheck.json and crosscheck.html, with overlaid corner plots.

    The summary has n (galaxies whose referee converged), n_not_converged, quantile_shift_median ({quantity: median of
    |shift of p16, p50, p84| in the referee's sigma}), c2st_median, and each galaxy's own under `galaxies`.

    Raises PopcatError if the folder holds no posteriors, or the sampler is not installed.

    >>> found = crosscheck("posteriors", n=1, max_steps=100)
    >>> found["n"] + found["n_not_converged"]
    1
    """
    catalog = open_catalog(posteriors)
    survey, galaxy_model = catalog.survey, catalog.galaxy_model
    if catalog.require_manifest().prior is not None:
        raise PopcatError(f"{posteriors} was reweighted: cross-check the catalogue it came from, which has the "
                          "model's own prior")
    rows = _choose(catalog, n, seed, only)
    results, corners = [], []
    for number, row in enumerate(rows):
        result, corner = _check(row, survey, galaxy_model, seed, sampler, max_steps)
        results.append(result)
        score = "no convergence" if not result["converged"] else f"C2ST {result['c2st'] or np.nan:.3f}"
        report(f"{number + 1}/{len(rows)}  {row['object_id']}  {score}")
        if len(corners) < _N_CORNERS and result["converged"]:
            corners.append((result, corner))
    summary = {"catalog": str(posteriors), "posterior": catalog.posterior.name, "sampler": sampler,
               "seed": seed, **_summary(results), "galaxies": results}  # fmt: skip
    if output is not None:
        _write(Path(output), summary, corners)
    return summary


def _choose(catalog: Catalog, n: int, seed: int, only: Sequence[str] | None) -> list[dict]:
    """n random galaxies with a posterior: those with the smallest of the numbers that seed and object_id give."""
    found = catalog.to_pandas(["object_id", "route"], where="status == 'ok'")
    ids = found["object_id"].to_numpy()
    if only is not None:
        ids = ids[found["route"].isin(list(only)).to_numpy(dtype=bool)]
    if len(ids) == 0:
        raise PopcatError(f"{catalog.path} has no galaxy to check" + (f" by route {', '.join(only)}" if only else ""))
    chosen = ids[np.argsort(rng.uniform(seed, _STREAM, ids, 1)[:, 0])[:n]]
    return catalog.galaxies(chosen)


def _check(row: dict, survey: Survey, galaxy_model: GalaxyModel, seed: int, sampler: str,
           max_steps: int) -> tuple[dict, tuple]:
    """One galaxy: its result, and the draws for a corner plot, ours and the referee's."""
    galaxy = _galaxy(row, survey, galaxy_model)
    ours = {name: np.asarray(row[f"{name}_draws"], dtype=float) for name in quantities_of(row)}
    theta = np.column_stack([ours[name] for name in galaxy.prior.names])
    start = galaxy.to_w(theta, ours["redshift"])
    entropy = SeedSequence([seed, row["object_id"] % 2**63]).generate_state(1)[0]
    chain = sample_galaxy(galaxy, start, int(entropy), sampler=sampler, max_steps=max_steps)
    found = derive(*galaxy.to_theta(chain.w), survey, galaxy_model) if len(chain.w) else {}
    shifts = {name: quantile_shifts(ours[name], values) for name, values in found.items()
              if name in ours and np.ptp(values) > 0}  # fmt: skip
    result = {
        "object_id": row["object_id"], "route": row["route"], "certified": row["certified"], "flags": row["flags"],
        "converged": chain.converged, "n_effective": chain.n_effective, "steps": chain.steps,
        "autocorrelation": chain.autocorrelation, "log_evidence": row["log_evidence"],
        "log_evidence_referee": chain.log_evidence, "c2st": c2st(start, chain.w), "shifts": shifts,
    }  # fmt: skip
    return _plain(result), (ours, found)


def _galaxy(row: dict, survey: Survey, galaxy_model: GalaxyModel) -> Galaxy:
    """A row's photometry as it was fitted."""
    def column(kind):
        values = [row[f"{kind}_{band}"] for band in survey.band_names]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    z, sigma = (np.nan if row[name] is None else float(row[name]) for name in ("redshift", "redshift_err"))
    forward = forward_for(survey, galaxy_model).photometry.flux
    return Galaxy(forward, make_prior(galaxy_model), survey.redshift_range, column("flux"), column("flux_err"), z,
                  sigma)


def _summary(results: list[dict]) -> dict:
    good = [one for one in results if one["converged"]]
    shifts = {name: [abs(value) for one in good if name in one["shifts"] for value in one["shifts"][name].values()]
              for name in JUDGED}  # fmt: skip
    scores = [one["c2st"] for one in good if one["c2st"] is not None]
    return {
        "n": len(good),
        "n_not_converged": len(results) - len(good),
        "quantile_shift_median": {name: float(np.median(values)) for name, values in shifts.items() if values},
        "c2st_median": float(np.median(scores)) if scores else None,
    }


def _write(folder: Path, summary: dict, corners: list) -> None:
    """The page, then the numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for result, draws in corners:
        figure = plots.overlaid_corner(*draws, title=f"object_id {result['object_id']}")
        figures.append({"object_id": result["object_id"], "image": plots.figure_to_data_uri(figure)})
    loader = jinja2.PackageLoader("popcat", "data")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.get_template("crosscheck.html.j2").render(summary=summary, figures=figures, judged=JUDGED)
    write_bytes_atomic(folder / _HTML, page.encode("utf-8"))
    write_json_atomic(folder / _JSON, summary)


def _plain(value):
    """Plain Python numbers, None where not finite, as JSON can hold them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
