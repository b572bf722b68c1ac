"""Which of two models do the data prefer? Bayes factors from the evidences of two posterior catalogues."""

from pathlib import Path

import numpy as np
import pandas as pd

from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError

STRONG = 5.0
"""|ln B| beyond this is strong evidence for one galaxy (Jeffreys; Trotta 2008)."""
_MATCH = 1e-5


def compare(first: str | Path, second: str | Path) -> tuple[pd.DataFrame, dict]:
    """ln of the Bayes factors first / second, galaxy by galaxy and in all.

    The frame has object_id, log_evidence_a, log_evidence_b, log_bayes_factor and certified (in both), one row for every
    galaxy that has an evidence in both. The summary is of the certified ones: n, sum, its standard error over galaxies
    (as if they were drawn at random), median, and how many prefer either strongly.

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
    return frame, _summary(frame)


def _summary(frame) -> dict:
    certified = frame.loc[frame["certified"], "log_bayes_factor"].to_numpy()
    n = len(certified)
    return {
        "n": n,
        "n_not_certified": len(frame) - n,
        "sum": float(certified.sum()),
        "sum_error": float(certified.std() * np.sqrt(n)) if n else 0.0,
        "median": float(np.median(certified)) if n else None,
        "n_strong_first": int((certified > STRONG).sum()),
        "n_strong_second": int((certified < -STRONG).sum()),
    }


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
