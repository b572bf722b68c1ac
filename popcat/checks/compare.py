"""A catalogue compared: with an independent sampler (`crosscheck`), and with another galaxy model (`compare`).

Cross-check: some galaxies of a catalogue, sampled again by an independent sampler, against their posteriors. The
samplers are in popcat.checks.samplers: exact likelihood, no neural network. What is compared, for every quantity: the
shift of p16, p50 and p84 in units of the sampler's sigma, (p84 - p16) / 2; and, for all parameters together, the
classifier two-sample test C2ST.

Which of two models do the data prefer? Bayes factors from the evidences of two posterior catalogues.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
from numpy.random import SeedSequence
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from popcat import rng
from popcat.catalog.draws import quantities_of
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.samplers import MAX_STEPS, Galaxy, c2st, quantile_shifts, sample_galaxy
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import read_json, write_parquet_atomic
from popcat.forward.flux_errors import FluxErrors
from popcat.forward.properties import forward_for
from popcat.galaxy_model import GalaxyModel
from popcat.paths import output_path, path_of
from popcat.physical.prior import JointPrior, prior_named
from popcat.prior import make_prior
from popcat.settings import validation_summary
from popcat.survey import Survey

STRONG = 5.0
"""|ln B| beyond this is strong evidence for one galaxy (Jeffreys; Trotta 2008)."""
_MATCH = 1e-5


@dataclass(frozen=True, repr=False)
class Comparison(Displayed):
    """ln of the Bayes factors first / second, per galaxy and summed.

    factors : object_id, log_evidence_a, log_evidence_b, log_bayes_factor and certified (in both), one row for every
    galaxy that has an evidence in both. The numbers are of the n certified ones: sum, its standard error over galaxies
    (as if they were drawn at random), median (None of no galaxy), and how many prefer either strongly.
    """

    first: str
    second: str
    factors: pd.DataFrame
    n: int
    n_not_certified: int
    sum: float
    sum_error: float
    median: float | None
    n_strong_first: int
    n_strong_second: int

    def _title(self) -> str:
        return f"Comparison: ln B = ln p(data | {self.first}) - ln p(data | {self.second})"

    def _facts(self) -> dict[str, object]:
        found: dict[str, object] = {"galaxies": f"{self.n:,} certified ({self.n_not_certified:,} others left out)"}
        if self.median is None:
            return found
        strong = f"{self.n_strong_first:,} for {self.first}, {self.n_strong_second:,} for {self.second}"
        return found | {"sum": f"{self.sum:+.1f} +- {self.sum_error:.1f}", "median": f"{self.median:+.3f}",
                        f"|ln B| > {STRONG:g}": strong}  # fmt: skip


def compare(first: str | Path, second: str | Path, *, output: str | Path | None = None) -> Comparison:
    """Bayes factors of two galaxy models, from catalogues of the same galaxies that were inferred with `certify`.

    With `output`, a Parquet file, the factors of all galaxies are written there.

    Raises PopcatError for catalogues without evidences, of other photometry, or without a galaxy in common.

    >>> compare("posteriors", "posteriors")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: ...--certify...
    """
    output = None if output is None else output_path(output)
    tables = [_evidences(folder) for folder in (first, second)]
    both = tables[0].merge(tables[1], on="object_id", suffixes=("_a", "_b"), validate="one_to_one")
    if both.empty:
        raise PopcatError(f"{first} and {second} have no galaxy in common that has an evidence in both")
    _require_same_data(both, first, second)
    factor = both["log_evidence_a"] - both["log_evidence_b"]
    frame = both[["object_id", "log_evidence_a", "log_evidence_b"]].assign(
        log_bayes_factor=factor, certified=both["certified_a"] & both["certified_b"]
    )
    if output is not None:
        write_parquet_atomic(output, pa.Table.from_pandas(frame, preserve_index=False))
    return _summary_of_factors(str(first), str(second), frame)


def _summary_of_factors(first: str, second: str, frame: pd.DataFrame) -> Comparison:
    certified = frame.loc[frame["certified"], "log_bayes_factor"].to_numpy()
    n = len(certified)
    return Comparison(
        first, second, frame, n,
        n_not_certified=len(frame) - n,
        sum=float(certified.sum()),
        sum_error=float(certified.std() * np.sqrt(n)) if n else 0.0,
        median=float(np.median(certified)) if n else None,
        n_strong_first=int((certified > STRONG).sum()),
        n_strong_second=int((certified < -STRONG).sum()),
    )  # fmt: skip


def _evidences(folder) -> pd.DataFrame:
    """Evidences of a catalogue, and what they are evidences of."""
    catalog = open_catalog(folder)
    catalog.require_manifest()
    bands = [name for name in catalog.columns if name.startswith("flux_")]
    wanted = ["object_id", "log_evidence", "certified", "redshift", "redshift_err", *bands]
    missing = [name for name in wanted if name not in catalog.columns]
    if missing:
        raise PopcatError(f"{folder} has no {', '.join(missing)}: infer it again with --certify")
    frame = catalog.to_pandas(wanted)
    frame = frame[frame["log_evidence"].notna()]
    if frame.empty:
        raise PopcatError(f"{folder} has no evidences: infer it again with --certify")
    return frame


def _require_same_data(both, first, second):
    """PopcatError unless both are evidences of the same numbers: of others their ratio has no meaning."""
    alone = [name for name in both.columns if name != "object_id" and not name.endswith(("_a", "_b"))]
    if alone:
        raise PopcatError(f"only one of {first} and {second} has {', '.join(alone)}: compare models of the same bands")
    names = sorted({name[:-2] for name in both.columns if name != "object_id"} - {"log_evidence", "certified"})
    for name in names:
        a, b = (both[f"{name}_{side}"].to_numpy(float) for side in "ab")
        same = np.isclose(a, b, rtol=_MATCH, atol=0.0, equal_nan=True)
        if not same.all():
            raise PopcatError(f"{first} and {second} differ in {name} of {np.sum(~same)} galaxies: evidences compare "
                              "models of the same data; infer both from one catalogue, survey and redshifts")


SUMMARISED = ("log_mstar", "log_sfr_1gyr", "tau_ism")
"""Quantities of the summary; every quantity is in the details of each galaxy."""
JSON = "crosscheck.json"
N_CORNERS = 6
"""Galaxies whose draws are kept, for corner plots."""
_STREAM = 11


class CheckedGalaxy(BaseModel):
    """One galaxy, as the catalogue has it and as the independent sampler found it; None where there is no number.

    shifts : {quantity: {"p16", "p50", "p84": shift of the catalogue's quantile, in the sampler's sigma}}.
    log_evidence : by popcat's importance sampling. n_effective, steps, autocorrelation : of the sampler's chain.
    """

    model_config = ConfigDict(frozen=True)
    object_id: int
    route: str | None = None
    certified: bool | None = None
    flags: int = 0
    converged: bool
    n_effective: float | None = None
    steps: int = 0
    autocorrelation: float | None = None
    log_evidence: float | None = None
    # "log_evidence_referee" in older files
    log_evidence_sampler: float | None = Field(
        None, validation_alias=AliasChoices("log_evidence_sampler", "log_evidence_referee")
    )
    c2st: float | None = None
    shifts: dict[str, dict[str, float | None]] = {}


class CrossCheck(Displayed, BaseModel):
    """A catalogue against an independent sampler; what crosscheck.json holds, and draws for corner plots.

    n : galaxies for which the sampler converged, to which the medians refer. quantile_shift_median : {quantity: median
    of |shift of p16, p50, p84| in the sampler's sigma}; below 0.1 is small. c2st_median : 0.5 where a classifier cannot
    tell the draws apart, 1 where it always can. corners : of the first galaxies (object_id, the catalogue's draws, the
    sampler's), draws as {quantity: (n,)}; not in the file.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    catalog: str = ""
    # "model" in older files: the fingerprint of the trained posterior
    posterior: str | None = Field(None, validation_alias=AliasChoices("posterior", "model"))
    sampler: str
    seed: int = 0
    n: int
    n_not_converged: int
    quantile_shift_median: dict[str, float]
    c2st_median: float | None = None
    galaxies: tuple[CheckedGalaxy, ...] = Field((), repr=False)
    corners: tuple[tuple[int, Mapping[str, np.ndarray], Mapping[str, np.ndarray]], ...] = Field(
        (), exclude=True, repr=False
    )

    def _title(self) -> str:
        return f"Cross-check of {Path(self.catalog).name} with an independent sampler ({self.sampler})"

    def _facts(self) -> dict[str, object]:
        found: dict[str, object] = {"galaxies": f"{self.n} compared ({self.n_not_converged} left out: the independent "
                                    "sampler did not converge)"}  # fmt: skip
        found |= {f"|shift| of {name}": f"{value:.3f} sigma (median)"
                  for name, value in self.quantile_shift_median.items()}  # fmt: skip
        if self.c2st_median is not None:
            found["C2ST"] = f"{self.c2st_median:.3f} (median; 0.5: a classifier cannot tell the draws apart)"
        return found


def compare_with_sampler(
    posteriors: str | Path, n: int = 50, *, seed: int = 0, sampler: str = "prior", max_steps: int = MAX_STEPS,
    only: Sequence[str] | None = None, report: Callable[[str], object] = lambda text: None,
) -> CrossCheck:  # fmt: skip
    """Sample n random galaxies of a posterior catalogue again, and compare.

    sampler : "prior" (accepted draws of the prior), "emcee" or "nautilus". only : values of the column `route` to draw
    the galaxies from; all by default. report : is given a line of text for each galaxy.

    Raises PopcatError if the folder holds no posteriors, or the sampler is not installed.

    >>> found = compare_with_sampler("posteriors", n=1, max_steps=100)
    >>> found.n + found.n_not_converged
    1
    """
    catalog = open_catalog(posteriors)
    survey, galaxy_model = catalog.survey, catalog.galaxy_model
    if catalog.require_manifest().prior is not None:
        raise PopcatError(f"{posteriors} was reweighted: cross-check the catalogue it came from, which has the "
                          "model's own prior")
    physical = prior_named(catalog.posterior.prior, galaxy_model, survey.redshift_range)
    rows = _choose(catalog, n, seed, only)
    galaxies: list[CheckedGalaxy] = []
    corners: list[tuple[int, Mapping, Mapping]] = []
    for number, row in enumerate(rows):
        checked, draws = _check(row, survey, galaxy_model, physical, seed, sampler, max_steps)
        galaxies.append(checked)
        score = "no convergence" if not checked.converged else f"C2ST {checked.c2st or np.nan:.3f}"
        report(f"{number + 1}/{len(rows)}  {checked.object_id}  {score}")
        if len(corners) < N_CORNERS and checked.converged:
            corners.append((checked.object_id, *draws))
    return CrossCheck(
        catalog=str(path_of(posteriors)), posterior=catalog.posterior.name, sampler=sampler, seed=seed,
        galaxies=tuple(galaxies), corners=tuple(corners), **_summary(galaxies),
    )  # fmt: skip


def read_crosscheck(folder: str | Path) -> CrossCheck:
    """What `popcat crosscheck` wrote to a folder, without the draws; PopcatError if there is nothing of it."""
    path = path_of(folder) / JSON
    try:
        return CrossCheck.model_validate(read_json(path))
    except pydantic.ValidationError as error:
        raise PopcatError(f"{path} is not of `popcat crosscheck`: {validation_summary(error)}") from error
    except (OSError, ValueError) as error:
        raise PopcatError(
            f"{folder} holds no cross-check: expected {JSON} from `popcat crosscheck`: {error}"
        ) from error


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


def _check(row: dict, survey: Survey, galaxy_model: GalaxyModel, physical: JointPrior | None, seed: int, sampler: str,
           max_steps: int) -> tuple[CheckedGalaxy, tuple]:  # fmt: skip
    """One galaxy, and its draws: the catalogue's and the sampler's."""
    galaxy = _galaxy(row, survey, galaxy_model, physical)
    ours = {name: np.asarray(row[f"{name}_draws"], dtype=float) for name in quantities_of(row)}
    theta = np.column_stack([ours[name] for name in galaxy.prior.names])
    start = galaxy.to_w(theta, ours["redshift"])
    entropy = SeedSequence([seed, row["object_id"] % 2**63]).generate_state(1)[0]
    chain = sample_galaxy(galaxy, start, int(entropy), sampler=sampler, max_steps=max_steps)
    found = forward_for(survey, galaxy_model).derive(*galaxy.to_theta(chain.w)) if len(chain.w) else {}
    shifts = {name: quantile_shifts(ours[name], values) for name, values in found.items()
              if name in ours and np.ptp(values) > 0}  # fmt: skip
    checked = CheckedGalaxy(
        **{name: row[name] for name in ("object_id", "route", "certified", "flags")},
        converged=chain.converged, n_effective=_finite(chain.n_effective), steps=chain.steps,
        autocorrelation=_finite(chain.autocorrelation), log_evidence=_finite(row["log_evidence"]),
        log_evidence_sampler=_finite(chain.log_evidence), c2st=_finite(c2st(start, chain.w)),
        shifts={name: {key: _finite(value) for key, value in each.items()} for name, each in shifts.items()},
    )  # fmt: skip
    return checked, (ours, found)


def _galaxy(row: dict, survey: Survey, galaxy_model: GalaxyModel, physical: JointPrior | None) -> Galaxy:
    """A row's photometry as it was fitted."""
    def column(kind):
        values = [row[f"{kind}_{band}"] for band in survey.band_names]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    z, sigma = (np.nan if row[name] is None else float(row[name]) for name in ("redshift", "redshift_err"))
    forward = forward_for(survey, galaxy_model).flux
    return Galaxy(forward, make_prior(galaxy_model), survey.redshift_range, column("flux"), column("flux_err"), z,
                  sigma, physical, FluxErrors(survey))


def _summary(galaxies: Sequence[CheckedGalaxy]) -> dict:
    good = [one for one in galaxies if one.converged]
    shifts = {name: [abs(value) for one in good for value in one.shifts.get(name, {}).values() if value is not None]
              for name in SUMMARISED}  # fmt: skip
    scores = [one.c2st for one in good if one.c2st is not None]
    return {
        "n": len(good),
        "n_not_converged": len(galaxies) - len(good),
        "quantile_shift_median": {name: float(np.median(values)) for name, values in shifts.items() if values},
        "c2st_median": float(np.median(scores)) if scores else None,
    }


def _finite(value) -> float | None:
    """A plain number, None where not finite, as JSON can hold it."""
    return None if value is None or not np.isfinite(value) else float(value)
