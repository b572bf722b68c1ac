"""What a calibration found, on disk and in words: `popcat calibrate` writes it, `infer` and the report read it."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic

from popcat.catalog.chi2_limits import Chi2Limits
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.parquet import read_parquet
from popcat.checks.ranks import summarise
from popcat.checks.verdict import CalibrationRun, ColumnVerdict, beyond, held_to, off_level, verdict
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import read_small, write_json_atomic, write_parquet_atomic
from popcat.paths import AnyPath, local, path_of
from popcat.posterior.posterior import Posterior
from popcat.prior import FLAT
from popcat.settings import validation_summary

RECORD, RANKS = "calibration.json", "ranks.parquet"
_NAMES = {"ks": "KS distance", "tarp": "TARP deviation"}


class Calibration(Displayed, pydantic.BaseModel):
    """Whether a posterior passed its calibration, and the results of each run by name.

    posterior : the name (SHA-256) of what was tested. prior : under which of its priors. limits : the survey's, the
    largest KS distance and TARP deviation that pass. resolution : what so many mocks cannot tell from chance
    (popcat.checks.verdict). failures : why `infer` refuses the posterior. columns : the verdict on every column.
    ranks : those of all mocks by run and quantity, in (0, 1), ascending: no use of them asks which mock was which, and
    the file is a tenth as large. chi2_limits : of the flag high_chi2; None where they were not measured.
    """

    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)
    # "model" in older files
    posterior: str = pydantic.Field(validation_alias=pydantic.AliasChoices("posterior", "model"))
    prior: str = FLAT
    seed: int
    draws: int = pydantic.Field(ge=1)
    limits: dict[str, float]
    resolution: dict[str, float] = {}
    passed: bool
    failures: list[str]
    columns: dict[str, ColumnVerdict] = {}
    runs: dict[str, CalibrationRun] = pydantic.Field(min_length=1)
    chi2_limits: Chi2Limits | None = None
    ranks: dict[str, dict[str, np.ndarray]] = pydantic.Field(default={}, exclude=True)

    @property
    def n(self) -> int:
        """Mocks in each run; the fewest where runs differ."""
        return min(run.n for run in self.runs.values())

    @property
    def first(self) -> CalibrationRun:
        """The first run: redshift given and every band, unless others were chosen."""
        return next(iter(self.runs.values()))

    @property
    def held(self) -> dict[str, float]:
        """What deviations are compared with: the limit, or the resolution where that is above it."""
        return held_to(self.limits, self.resolution)

    @property
    def derived_failures(self) -> list[str]:
        """Derived columns that failed, the worst first: `infer` uses the posterior, and names them."""
        failed = [name for name, one in self.columns.items() if not (one.passed or one.refuses)]
        return sorted(failed, key=lambda name: -(self.columns[name].ks or 1.0))

    def failures_of(self, run: str) -> tuple[list[str], list[str]]:
        """Why one run failed, and the derived columns that failed in it."""
        above = beyond(self.runs[run], self.held)
        return ([text for text in self.failures if text.startswith(f"{run}: ")],
                [name for name in self.derived_failures if name in above])  # fmt: skip

    @property
    def coverage_range(self) -> tuple[float, float, str]:
        """The least and the largest coverage of a 68% interval, of all columns in all runs, and where it is farthest
        from 0.68."""
        inside = {(run, q): value for run, one in self.runs.items() for q, value in one.coverage_68.items()}
        run, q = max(inside, key=lambda key: off_level(inside[key]))
        return min(inside.values()), max(inside.values()), f"{q} in run {run} ({inside[run, q]:.1%})"

    @property
    def too_few(self) -> str:
        """What so few mocks cannot tell, in words; empty where they are enough for the limits."""
        coarse = {name: limit for name, limit in self.limits.items() if self.resolution.get(name, 0.0) > limit}
        if not coarse:
            return ""
        least = " and ".join(f"no {_NAMES[name]} below {self.resolution[name]:.3f}" for name in coarse)
        asked = " and ".join(f"{limit:.3f}" for limit in coarse.values())
        needed = 100 * math.ceil(
            max(self.n * (self.resolution[name] / limit) ** 2 for name, limit in coarse.items()) / 100
        )
        noun = "limits" if len(coarse) > 1 else "limit"
        return f"{self.n:,} mocks can tell {least} from chance; the {noun} {asked} would take {needed:,}"

    @property
    def remarks(self) -> list[str]:
        """What a verdict does not cover: what too few mocks cannot tell, and derived columns that failed."""
        found = [self.too_few] if self.too_few else []
        if self.derived_failures:
            named = ", ".join(f"{name} ({self.columns[name].numbers})" for name in self.derived_failures)
            found.append(f"derived columns that failed: {named}")
        return found

    def column_words(self) -> dict[str, str]:
        """What the metadata of each column says, by the name of the quantity."""
        limit, held = self.limits["ks"], self.held["ks"]
        of = f"worst of {len(self.runs)} runs of {self.n:,} mocks; limit {limit:.3f}"
        of += f", compared with {held:.3f}" if held > limit else ""
        return {name: one.numbers if one.ks is None else f"{'passed' if one.passed else 'failed'}: {one.numbers} ({of})"
                for name, one in self.columns.items()}  # fmt: skip

    def _title(self) -> str:
        but = f", but for {', '.join(self.derived_failures)}" if self.passed and self.derived_failures else ""
        return f"Calibration of posterior {self.posterior[:8]}: {'passed' if self.passed else 'FAILED'}{but}"

    def _facts(self) -> dict[str, object]:
        found: dict[str, object] = {"mocks": f"{self.n:,} in each of {len(self.runs)} runs, {self.draws} draws each"}
        for name, one in self.runs.items():
            worst = max(one.ks, key=one.ks.__getitem__)
            found[name] = f"largest KS {one.ks[worst]:.3f} ({worst}), TARP {one.tarp_max_deviation:.3f}"
        found["limits"] = ", ".join(f"{name} {value:.3f}" for name, value in self.limits.items())
        found |= {"too few": self.too_few} if self.too_few else {}
        if self.chi2_limits is not None:
            found["best chi2"] = self.chi2_limits.in_short
        return found | ({} if self.passed else {"failures": "; ".join(self.failures)})

    def judged(self, tested: Posterior | CatalogManifest) -> "Calibration":
        """The same with the verdict that its numbers give for a posterior, or that of a catalogue.

        A file that says "passed" beside numbers that do not is not believed; one that says "failed" is.
        """
        found = verdict(tested, self.runs)
        failures = found.failures + ([] if self.passed else [one for one in self.failures if one not in found.failures])
        return self.model_copy(update={
            "limits": found.limits, "resolution": found.resolution, "columns": found.columns, "failures": failures,
            "passed": self.passed and not failures,
        })  # fmt: skip

    def save(self, folder: "str | Path") -> None:
        """Write calibration.json, ranks.parquet and the figures; the verdict last, so that a torn folder has none."""
        from popcat import plots  # matplotlib takes seconds to import: whoever only infers waits for none

        folder = local(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ranks = _as_counts(self.ranks, self.draws)
        write_parquet_atomic(folder / RANKS, ranks, group_rows=ranks.num_rows)
        for name, values in self.ranks.items():
            figure = plots.pp_curves(values, self.runs[name].ks, self.held["ks"])
            plots.save_figure(figure, folder / f"pp-{name}.png", small=True)
        first = next(iter(self.ranks))
        plots.save_figure(plots.rank_histograms(self.ranks[first]), folder / f"ranks-{first}.png", small=True)
        write_json_atomic(folder / RECORD, self.model_dump(mode="json"))


def _as_counts(ranks: dict[str, dict[str, np.ndarray]], draws: int) -> pa.Table:
    """Ranks as whole numbers, which is exact: twice the draws below the truth, and those equal to it."""
    kind = pa.uint16() if 2 * draws < 2**16 else pa.uint32()
    tables = []
    for run, values in ranks.items():
        counts = {q: pa.array(np.rint(2 * (draws + 1) * rank - 1.0)).cast(kind) for q, rank in values.items()}
        tables.append(pa.table({"run": [run] * len(next(iter(values.values()))), **counts}))
    return pa.concat_tables(tables, promote_options="default")


def _of_counts(column: pa.ChunkedArray, draws: int) -> np.ndarray:
    """Ranks in (0, 1); in older files they are written as such."""
    values = column.to_numpy()
    return values if values.dtype.kind == "f" else (values + 1.0) / (2 * (draws + 1))


def read_calibration(folder: str | AnyPath) -> Calibration:
    """What `Calibration.save` wrote, KS distances and coverages from the ranks; PopcatError if the folder holds none.

    Its verdict is what the file says: `Calibration.judged` computes it.
    """
    folder = path_of(folder)
    try:
        found = Calibration.model_validate_json(read_small(folder / RECORD))
        table = read_parquet(folder / RANKS)
        of_run = {name: table.filter(pc.equal(table["run"], name)) for name in found.runs}
        ranks = {name: {q: _of_counts(of_run[name][q], found.draws) for q in run.ks}
                 for name, run in found.runs.items()}  # fmt: skip
        runs = {name: _of_ranks(run, ranks[name]) for name, run in found.runs.items()}
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        text = validation_summary(error) if isinstance(error, pydantic.ValidationError) else error
        raise PopcatError(
            f"{folder} holds no calibration: expected {RECORD} and {RANKS} from `popcat calibrate`: {text}"
        ) from error
    return found.model_copy(update={"ranks": ranks, "runs": runs})


def _of_ranks(stored: CalibrationRun, ranks: dict[str, np.ndarray]) -> CalibrationRun:
    """A run with the numbers of its ranks; as it was stored where it differs by their rounding alone."""
    found = summarise(ranks)
    same = found["n"] == stored.n and np.allclose([*found["ks"].values()], [*stored.ks.values()], rtol=0, atol=1e-4)
    return stored if same else stored.model_copy(update=found)
