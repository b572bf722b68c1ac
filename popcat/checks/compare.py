"""Which of two models do the data prefer? Bayes factors from the evidences of two posterior catalogues."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.queries import open_catalog
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import write_parquet_atomic

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
    return _summary(str(first), str(second), frame)


def _summary(first: str, second: str, frame: pd.DataFrame) -> Comparison:
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
