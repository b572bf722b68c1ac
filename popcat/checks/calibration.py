"""Calibrate a posterior on fresh mocks, in every way it is used, and keep the verdict with the posterior.

The truths are to be uniform among the draws (popcat.checks.ranks). A posterior must pass before `infer` uses it: see
`require_calibrated`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from popcat import rng
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.parquet import read_parquet
from popcat.checks.ranks import binned_coverage, chi2_tail_of, ks_critical, ks_distance, ranks, summarise, tarp_ranks_of
from popcat.columns import quantity_fields
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import read_small, write_json_atomic, write_parquet_atomic
from popcat.galaxies import Observation, chi2_limit, observation
from popcat.posterior.library import draw_mocks
from popcat.posterior.posterior import (
    Posterior,
    embedded_posteriors,
    load_posterior,
    posterior_folder,
    posterior_location,
)
from popcat.prior import make_prior
from popcat.run.client import Where
from popcat.run.runner import How, run, values_of
from popcat.settings import validation_summary
from popcat.units import nmgy_to_ab_mag

RUNS = {
    "exact": "redshift given, every band",
    "gaussian": "redshift given with an error of 0.02 (1 + z), every band",
    "unknown": "redshift inferred, every band",
    "two_bands_missing": "redshift given, two random bands missing",
}
"""The ways in which a model is tested."""
_JSON, _RANKS = "calibration.json", "ranks.parquet"
_BLOCK = 400
"""Mocks of one task."""
_SECONDS_PER_DRAW = 2e-5
"""Of one core, about."""
_REDSHIFT_ERR = 0.02
_STREAM_MOCK = 64


class CalibrationRun(pydantic.BaseModel):
    """What one run found, of n mocks; distances and coverages by the name of the quantity."""

    model_config = pydantic.ConfigDict(frozen=True)
    mode: str
    n: int
    ks: dict[str, float]
    coverage_68: dict[str, float]
    ks_critical_5_percent: float
    ks_critical_1_percent: float
    tarp_max_deviation: float
    outside_prior: int
    """Draws that are outside the prior: none should be."""
    chi2_ks: float
    high_chi2_fraction: float
    by_magnitude: list[dict]
    by_redshift: list[dict]
    """Coverage of the 68% intervals in bins of equal numbers of mocks: low, high, n, coverage_68."""


class Calibration(Displayed, pydantic.BaseModel):
    """Whether a posterior passed its calibration, and the results of each run by name.

    `posterior` is the name (SHA-256) of what was tested, `limits` the largest KS distance and TARP deviation that pass.
    `ranks` are those of every mock by run and quantity, in (0, 1).
    """

    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)
    # "model" in older files
    posterior: str = pydantic.Field(validation_alias=pydantic.AliasChoices("posterior", "model"))
    seed: int
    draws: int
    limits: dict[str, float]
    passed: bool
    failures: list[str]
    runs: dict[str, CalibrationRun] = pydantic.Field(min_length=1)
    ranks: dict[str, dict[str, np.ndarray]] = pydantic.Field(default={}, exclude=True)

    @property
    def n(self) -> int:
        """Mocks in each run; the fewest where runs differ."""
        return min(run.n for run in self.runs.values())

    @property
    def first(self) -> CalibrationRun:
        """The first run: redshift given and every band, unless others were chosen."""
        return next(iter(self.runs.values()))

    def _title(self) -> str:
        return f"Calibration of posterior {self.posterior[:8]}: {'passed' if self.passed else 'FAILED'}"

    def _facts(self) -> dict[str, object]:
        found: dict[str, object] = {"mocks": f"{self.n:,} in each of {len(self.runs)} runs, {self.draws} draws each"}
        for name, one in self.runs.items():
            worst = max(one.ks, key=one.ks.__getitem__)
            found[name] = f"largest KS {one.ks[worst]:.3f} ({worst}), TARP {one.tarp_max_deviation:.3f}"
        found["limits"] = ", ".join(f"{name} {value:.3f}" for name, value in self.limits.items())
        return found | ({} if self.passed else {"failures": "; ".join(self.failures)})

    def judged(self, tested: Posterior | CatalogManifest) -> "Calibration":
        """The same with the verdict that its numbers give for a posterior, or that of a catalogue.

        A file that says "passed" beside numbers that do not is not believed; one that says "failed" is.
        """
        limits, failures = _verdict(tested, self.runs)
        failures += [] if self.passed else [one for one in self.failures if one not in failures]
        return self.model_copy(update={"limits": limits, "failures": failures, "passed": self.passed and not failures})

    def save(self, folder: "str | Path") -> None:
        """Write calibration.json, ranks.parquet and the figures; the verdict last, so that a torn folder has none."""
        from popcat import plots  # matplotlib takes seconds to import: whoever only infers waits for none

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tables = [pa.table({"run": [name] * len(next(iter(values.values()))), **_float32(values)})
                  for name, values in self.ranks.items()]  # fmt: skip
        write_parquet_atomic(folder / _RANKS, pa.concat_tables(tables, promote_options="default"))
        for name, values in self.ranks.items():
            plots.save_figure(plots.pp_curves(values, self.runs[name].ks), folder / f"pp-{name}.png")
        first = next(iter(self.ranks))
        plots.save_figure(plots.rank_histograms(self.ranks[first]), folder / f"ranks-{first}.png")
        write_json_atomic(folder / _JSON, self.model_dump(mode="json"))


def calibrate(
    posterior: str | Path = "sdss", n: int = 2000, *, output: str | Path | None = None, seed: int = 1, draws: int = 500,
    runs: Sequence[str] = tuple(RUNS), client: Where = None, workers: int | None = None, progress: bool = False,
    log: str | Path | None = None,
) -> Calibration:  # fmt: skip
    """SBC ranks, p-p curves, KS distances and TARP coverage of a posterior on n fresh mocks from its prior and noise.

    `runs` are the ways in which the posterior is used, names of `RUNS`. With `output`, a folder, the result is saved
    there. `client` and `workers` say where the mocks are sampled, blocks of them a task (popcat.run.client.connect):
    few are in this process, and workers must see the posterior.

    Raises PopcatError for no such posterior, no such run, or fewer than 20 mocks.

    >>> found = calibrate("sdss", 40, draws=40, runs=("exact",))
    >>> list(found.runs), found.first.outside_prior
    (['exact'], 0)
    """
    if n < 20 or draws < 20:
        raise PopcatError(f"calibration needs at least 20 mocks and 20 draws each, got {n} and {draws}")
    unknown = [name for name in runs if name not in RUNS]
    if unknown or not runs:
        raise PopcatError(f"calibration runs are {', '.join(RUNS)}; got {', '.join(unknown) or 'none'}")
    how = How(client, workers, progress, log=log)
    how.verify()
    where, posterior = posterior_location(posterior), load_posterior(posterior)
    mocks = draw_mocks(posterior, n, seed)
    parts = [mocks.iloc[start : start + _BLOCK] for start in range(0, n, _BLOCK)]
    jobs = dict(enumerate((where, posterior.name, part, name, seed, draws) for name in runs for part in parts))
    found = run(_sample_block, jobs, verb="calibrating", how=how, sizes=[len(part) for part in parts] * len(runs),
                unit="mocks", noun="block", seconds=_SECONDS_PER_DRAW * draws * n * len(runs))  # fmt: skip
    blocks = iter(values_of(found, "block"))
    results, all_ranks = {}, {}
    for name in runs:
        results[name], all_ranks[name] = _result(posterior, name, mocks, [next(blocks) for _ in parts])
    limits, failures = _verdict(posterior, results)
    found = Calibration(posterior=posterior.name, seed=seed, draws=draws, limits=limits, passed=not failures,
                        failures=failures, runs=results, ranks=all_ranks)  # fmt: skip
    if output is not None:
        found.save(output)
    return found


@dataclass(frozen=True)
class Block:
    """What some mocks say: ranks by quantity, TARP ranks, P(chi2) of one draw, all (n,); whether the best chi2 is too
    high, (n,); the number of draws outside the prior.
    """

    ranks: dict[str, np.ndarray]
    tarp: np.ndarray
    chi2_tail: np.ndarray
    is_high: np.ndarray
    outside: int


def _sample_block(where: str, model: str, mocks: pd.DataFrame, name: str, seed: int, draws: int) -> Block:
    """Sample the posteriors of some mocks as the run `name` shows them; a task."""
    posterior = load_posterior(where)
    if posterior.name != model:
        raise PopcatError(f"posterior {where} changed during the calibration: give the same command again")
    survey, z_true = posterior.survey, mocks["redshift"].to_numpy()
    data = _as_observed(mocks, name, survey, seed)
    quantities, chi2_best = posterior.quantities(data, draws, seed)
    parameters = posterior.prior.names
    theta = mocks[list(parameters)].to_numpy(dtype=np.float64)
    truth = posterior.forward.derive(theta, z_true)
    is_drawn = {"redshift": name in ("gaussian", "unknown")}
    names = [q for q in quantity_fields(survey, posterior.galaxy_model) if is_drawn.get(q, True)]
    sampled = np.stack([quantities[q] for q in parameters], axis=-1).astype(np.float64)
    outside = ~posterior.prior.contains(sampled.reshape(-1, len(parameters)), tolerance=1e-5)
    n_bands = np.isfinite(data.flux).sum(axis=1)
    return Block(
        ranks={q: ranks(truth[q].astype(np.float32), quantities[q]) for q in names},
        tarp=tarp_ranks_of(posterior, theta, z_true, sampled, quantities, mocks, seed),
        chi2_tail=chi2_tail_of(posterior, data, sampled[:, 0], quantities["redshift"][:, 0], n_bands),
        is_high=chi2_best > chi2_limit(n_bands),
        outside=int(outside.sum()),
    )


def _result(
    posterior: Posterior, name: str, mocks: pd.DataFrame, blocks: Sequence[Block]
) -> tuple[CalibrationRun, dict[str, np.ndarray]]:
    """Result of one run and the ranks by quantity."""
    all_ranks = {q: np.concatenate([block.ranks[q] for block in blocks]) for q in blocks[0].ranks}
    mag = nmgy_to_ab_mag(mocks[f"flux_{posterior.survey.selection.band}"].to_numpy())
    result = CalibrationRun(
        mode=RUNS[name],
        **summarise(all_ranks),
        tarp_max_deviation=ks_distance(np.concatenate([block.tarp for block in blocks])),
        outside_prior=sum(block.outside for block in blocks),
        # KS distance of chi2(photometry, one posterior draw) from the chi2 law: draws fit as well as the truth does
        chi2_ks=ks_distance(np.concatenate([block.chi2_tail for block in blocks])),
        high_chi2_fraction=float(np.mean(np.concatenate([block.is_high for block in blocks]))),
        by_magnitude=binned_coverage(all_ranks, mag),
        by_redshift=binned_coverage(all_ranks, mocks["redshift"].to_numpy()),
    )
    return result, all_ranks


def _as_observed(mocks, name: str, survey, seed: int) -> Observation:
    """The mocks as a run shows them to the model."""
    data = observation(mocks.assign(redshift_err=np.nan), survey)
    u = rng.uniform(seed, _STREAM_MOCK, data.object_id, len(survey.bands))
    if name == "two_bands_missing":
        hidden = np.argsort(np.argsort(u, axis=1), axis=1) < min(2, len(survey.bands) - 1)
        return Observation(np.where(hidden, np.nan, data.flux), data.flux_err, data.redshift,
                                  data.redshift_err, data.object_id)  # fmt: skip
    if name == "exact":
        return data
    sigma = _REDSHIFT_ERR * (1.0 + data.redshift)
    measured = data.redshift + sigma * rng.normal(seed, _STREAM_MOCK + 1, data.object_id, 1)[:, 0]
    if name == "unknown":
        measured, sigma = np.full(len(data), np.nan), np.full(len(data), np.nan)
    return Observation(data.flux, data.flux_err, measured, sigma, data.object_id)


def _verdict(
    tested: Posterior | CatalogManifest, results: dict[str, CalibrationRun]
) -> tuple[dict[str, float], list[str]]:
    """Limits, and which results are beyond them.

    A limit is the survey's, or, where few mocks cannot tell so little, what a perfect model exceeds in one of a
    hundred calibrations.
    """
    asked = tested.survey.calibration
    n = min(result.n for result in results.values())
    parameters = make_prior(tested.galaxy_model).names
    tests = len(parameters) * len(results)
    limits = {"ks": max(asked.max_ks, ks_critical(n, tests)), "tarp": max(asked.max_tarp, ks_critical(n, len(results)))}
    failures = []
    for name, result in results.items():
        failures += [f"{name}: no KS of {q}" for q in parameters if q not in result.ks]
        beyond = {q: result.ks[q] for q in (*parameters, "redshift") if result.ks.get(q, 0.0) > limits["ks"]}
        failures += [f"{name}: KS of {q} {distance:.3f} > {limits['ks']:.3f}" for q, distance in beyond.items()]
        if result.tarp_max_deviation > limits["tarp"]:
            failures.append(f"{name}: TARP {result.tarp_max_deviation:.3f} > {limits['tarp']:.3f}")
        if result.outside_prior:
            failures.append(f"{name}: {result.outside_prior} draws outside the prior")
    return limits, failures


def _float32(values: dict) -> dict:
    return {name: column.astype(np.float32) for name, column in values.items()}


def read_calibration(folder: str | Path) -> Calibration:
    """What `Calibration.save` wrote, KS distances and coverages from the ranks; PopcatError if the folder holds none.

    Its verdict is what the file says: `Calibration.judged` computes it.
    """
    folder = Path(folder)
    try:
        found = Calibration.model_validate_json(read_small(folder / _JSON))
        table = read_parquet(folder / _RANKS)
        of_run = {name: table.filter(pc.equal(table["run"], name)) for name in found.runs}
        ranks = {name: {q: of_run[name][q].to_numpy() for q in run.ks} for name, run in found.runs.items()}
        runs = {name: _of_ranks(run, ranks[name]) for name, run in found.runs.items()}
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        text = validation_summary(error) if isinstance(error, pydantic.ValidationError) else error
        raise PopcatError(
            f"{folder} holds no calibration: expected {_JSON} and {_RANKS} from `popcat calibrate`: {text}"
        ) from error
    return found.model_copy(update={"ranks": ranks, "runs": runs})


def _of_ranks(stored: CalibrationRun, ranks: dict[str, np.ndarray]) -> CalibrationRun:
    """A run with the numbers of its ranks; as it was stored where it differs by their rounding alone."""
    found = summarise(ranks)
    same = found["n"] == stored.n and np.allclose([*found["ks"].values()], [*stored.ks.values()], rtol=0, atol=1e-4)
    return stored if same else stored.model_copy(update=found)


def calibration_of(posterior: str | Path) -> Calibration | None:
    """The calibration kept in a model's folder; None if there is none, or it is of another state of the model."""
    folder = posterior_folder(posterior) / "calibration"
    if not (folder / _JSON).is_file():
        return None
    found, loaded = read_calibration(folder), load_posterior(posterior)
    return found.judged(loaded) if found.posterior == loaded.name else None


def require_calibrated(posterior: str | Path, *, allow: bool = False) -> str:
    """One line about a model's calibration, for the user.

    Raises PopcatError for a model that failed its calibration, or has none, unless `allow`.
    """
    found = calibration_of(posterior)
    if found is not None and found.passed:
        names = load_posterior(posterior).prior.names
        worst = max(result.ks[q] for result in found.runs.values() for q in names)
        runs = f"{len(found.runs)} runs of {found.n} mocks"
        return f"posterior {posterior} passed its calibration: {runs}, KS of every parameter at most {worst:.3f}"
    if found is None:
        problem = f"posterior {posterior} has no calibration"
        remedy = f"run `popcat calibrate --posterior {posterior}`, which keeps the result in the posterior's folder"
    else:
        problem = f"posterior {posterior} failed its calibration ({'; '.join(found.failures[:3])})"
        remedy = "train it longer or on more galaxies"
    if not allow:
        raise PopcatError(f"{problem}: {remedy}; or say --allow-uncalibrated (allow_uncalibrated=True)")
    warnings.warn(f"{problem}, and is used all the same", UserWarning, stacklevel=3)
    return f"{problem}, and is used all the same"


def default_output(posterior: str | Path) -> Path:
    """Where a calibration of this model is kept: in its folder, or ./calibration for an embedded one."""
    return Path("calibration") if str(posterior) in embedded_posteriors() else Path(posterior) / "calibration"
