"""The draws of the prior that a posterior catalogue keeps beside its parts, and what its galaxies say beyond them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.draws import SUFFIX
from popcat.catalog.learned import LITTLE, REDSHIFT, PriorDraws
from popcat.catalog.manifest import META
from popcat.catalog.parquet import read_parquet
from popcat.errors import PopcatError
from popcat.files import write_parquet_atomic
from popcat.paths import AnyPath, path_of


def write_prior(folder: str | AnyPath, prior: PriorDraws) -> None:
    """Keep the draws of the prior in an output folder."""
    write_parquet_atomic(_path(folder), pa.table(dict(prior.values)))


def read_prior(folder: str | AnyPath) -> PriorDraws | None:
    """The draws of the prior of a posterior catalogue; None of one of before, or a reweighted one.

    Raises PopcatError if the file is damaged.
    """
    if not _path(folder).is_file():
        return None
    table = read_parquet(_path(folder))
    are_numbers = all(pa.types.is_floating(field.type) for field in table.schema)
    if not (are_numbers and REDSHIFT in table.column_names and table.num_rows):
        raise PopcatError(f"{_path(folder)} is damaged: expected draws of quantities and of the redshift")
    return PriorDraws.of({name: table[name].to_numpy() for name in table.column_names})


def learned_frame(folder: str | AnyPath, rows: Sequence[Mapping], names: Sequence[str]) -> pd.DataFrame:
    """As `Catalog.learned` has it, of rows of the catalogue in a folder, with the draws of these quantities."""
    prior = read_prior(folder)
    if prior is None:
        raise PopcatError(f"{folder} keeps no draws of its prior: it was reweighted, or written by an earlier popcat; "
                          "infer it again, into another folder")  # fmt: skip
    rows = [row for row in rows if row["status"] == "ok"]
    gains = gains_of_rows(prior, rows, names) if rows else {}
    found = {key: np.column_stack([gain[i] for gain in gains.values()]).ravel() if gains else np.empty(0)
             for i, key in enumerate(("ratio", "nats"))}  # fmt: skip
    ids = np.repeat(np.array([row["object_id"] for row in rows], dtype=np.int64), len(gains))
    return pd.DataFrame({"object_id": ids, "quantity": [*gains] * len(rows), **found,
                         "stays_prior": found["nats"] < LITTLE})  # fmt: skip


def gains_of_rows(
    prior: PriorDraws, rows: Sequence[Mapping], names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`PriorDraws.gains` of rows of a catalogue that have a posterior."""
    draws = {name: np.array([row[f"{name}{SUFFIX}"] for row in rows], dtype=float) for name in names}
    return prior.gains(draws, *_given(rows))


def spans_of_rows(prior: PriorDraws, rows: Sequence[Mapping]) -> np.ndarray:
    """`PriorDraws.spans` of rows of a catalogue."""
    return prior.spans(*_given(rows))


def _given(rows: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
    """Redshift and its error (n,), NaN where there is none."""
    redshift, err = (np.array([np.nan if row.get(key) is None else row[key] for row in rows], dtype=float)
                     for key in (REDSHIFT, "redshift_err"))  # fmt: skip
    return redshift, err


def _path(folder: str | AnyPath) -> AnyPath:
    return path_of(folder) / META / "prior.parquet"
