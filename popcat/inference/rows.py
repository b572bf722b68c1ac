"""What becomes of the rows of a catalogue: how many have a posterior, why others have none, which flags they have."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popcat.catalog.manifest import READERS, Sidecar, read_record
from popcat.catalog.parts import OutputFolder
from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError
from popcat.galaxies import flag_counts, has_posterior, status_of
from popcat.inference.misfits import misfits_of_parts
from popcat.survey import Survey

MANY_WITHOUT = 0.05
"""Above this fraction of galaxies without a posterior a run warns."""
_MIN_ROWS = 20
"""Of so few rows all may be without a posterior for reasons of their own."""

Counts = dict[str, dict[str, int]]
_KINDS = ("status", "flags", "certified")
"""What is counted: columns of a catalogue. Very old ones lack the last."""


def counts_of_table(table: pa.Table) -> Counts:
    """Rows by `status`, rows with each of the `flags`, and certified rows, of a table of posteriors.

    >>> counts_of_table(pa.table({"status": ["ok", "no_photometry"], "flags": [1 + 64, 128]}))["flags"]
    {'missing_band': 1, 'negative_flux': 1, 'no_photometry': 1}
    """
    certified = pc.sum(table["certified"]).as_py() if "certified" in table.column_names else None
    names, counts = np.unique(table["status"].to_numpy(), return_counts=True)
    return {"status": dict(zip(map(str, names), map(int, counts), strict=True)),
            "flags": {name: n for name, n in flag_counts(table["flags"].to_numpy()).items() if n},
            "certified": {"certified": certified} if certified else {}}  # fmt: skip


def counts_of_folder(folder: OutputFolder) -> dict[str, Any]:
    """The same of all parts of a folder, as they were counted when they were written, by the names that
    popcat.catalog.record.CatalogRecord has for them."""
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda index: _counts_of_part(folder, index), range(folder.n_parts)))
    total = {kind: dict(sum((Counter(one[kind]) for one in found), Counter())) for kind in _KINDS}
    return {"status": total["status"], "flags": total["flags"], "n_certified": sum(total["certified"].values())}


def _counts_of_part(folder: OutputFolder, index: int) -> Counts:
    extra = read_record(folder.sidecar_path(index), Sidecar).extra
    if set(_KINDS) <= set(extra):
        return extra
    part = open_catalog(folder.part_path(index))  # of before
    return counts_of_table(part.to_table([name for name in _KINDS if name in part.columns]))


def misfits_of_folder(folder: OutputFolder, survey: Survey) -> list[str]:
    """What `popcat.inference.misfits` says of a folder whose parts are all there."""
    return misfits_of_parts([folder.part_path(index) for index in range(folder.n_parts)], survey)


def without_posterior(status: Mapping[str, int]) -> tuple[int, int]:
    """Galaxies without a posterior, and all.

    >>> without_posterior({"ok": 8, "no_photometry": 2})
    (2, 10)
    """
    total = sum(status.values())
    return total - status.get("ok", 0), total


def in_words(status: Mapping[str, int], flags: Mapping[str, int]) -> list[str]:
    """What became of the rows, in lines for a person; the last one is a warning where many have no posterior.

    >>> in_words({"ok": 99, "no_photometry": 1}, {})
    ['99 of 100 galaxies have a posterior; no_photometry 1', 'flags: none']
    """
    lost, total = without_posterior(status)
    reasons = _listed({name: n for name, n in status.items() if name != "ok"})
    lines = [f"{total - lost:,} of {total:,} galaxies have a posterior{f'; {reasons}' if reasons else ''}",
             f"flags: {_listed(flags) or 'none'}"]  # fmt: skip
    if lost > MANY_WITHOUT * total:
        lines.append(f"Warning: {lost / total:.0%} of the galaxies have no posterior ({reasons}): compare the survey "
                     "file with the columns; `popcat survey check` shows what each band holds")  # fmt: skip
    return lines


def refuse_hopeless(where: str, frame: pd.DataFrame, survey: Survey) -> None:
    """PopcatError where no row of a photometry frame, which stands for a catalogue, can have a posterior."""
    if len(frame) >= _MIN_ROWS and (line := hopeless(where, frame, survey)):
        raise PopcatError(line)


def hopeless(where: str, frame: pd.DataFrame, survey: Survey) -> str:
    """Why no row of a photometry frame can have a posterior, in a line; empty where one can."""
    flags = frame["flags"].to_numpy()
    if has_posterior(flags).any():
        return ""
    (reason, _), *_ = Counter(status_of(flags).tolist()).most_common()
    return (f"{where}: none of the {len(frame):,} galaxies that were read can have a posterior "
            f"({_listed(Counter(status_of(flags).tolist()))}); {_why(reason, frame, survey)}")


def _why(reason: str, frame: pd.DataFrame, survey: Survey) -> str:
    if reason == "redshift_out_of_range":
        low, high = survey.redshift_range
        z = frame["redshift"].dropna()
        return (f'column "{survey.columns.redshift}" has {z.min():g} to {z.max():g}, expected {low:g} to {high:g}: '
                "name the column of the redshift (no velocity), or infer it: --hide-redshift")
    columns = ", ".join(band.flux for band in survey.bands)
    return f"no band has a finite flux and a positive error: check the columns {columns} and their errors"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda item: -item[1]))
