"""Calibrate a posterior on fresh mocks: figures and one calibration.json."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from popcat import plots, stages
from popcat.catalog.atomic import write_json_atomic, write_parquet_atomic
from popcat.errors import PopcatError
from popcat.inference.posterior import load_posterior

_JSON, _RANKS = "calibration.json", "ranks.parquet"


def calibrate(
    model: str | Path = "sdss", n: int = 1000, *, output: str | Path | None = None, seed: int = 1, draws: int = 500
) -> dict:
    """SBC ranks, p-p curves and KS distances of a posterior on n fresh mocks from its prior and noise model.

    Returns the summary: n, seed, draws, ks and coverage_68 by name, critical values, outside_prior. With `output`, a
    folder, also writes calibration.json, ranks.parquet, pp.png and ranks.png there.

    Raises PopcatError for no such model or fewer than 20 mocks.
    """
    if n < 20 or draws < 20:
        raise PopcatError(f"calibration needs at least 20 mocks and 20 draws each, got {n} and {draws}")
    summary, ranks = stages.calibrate_posterior(load_posterior(model), n, seed, draws)
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        write_parquet_atomic(folder / _RANKS, pa.table(ranks))
        plots.save_figure(plots.pp_curves(ranks, summary["ks"]), folder / "pp.png")
        plots.save_figure(plots.rank_histograms(ranks), folder / "ranks.png")
        write_json_atomic(folder / _JSON, summary)
    return summary


def read_calibration(folder: str | Path) -> dict:
    """What `calibrate` wrote: its summary and `ranks` by name; PopcatError if the folder holds none."""
    folder = Path(folder)
    try:
        summary = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        ranks = pq.read_table(folder / _RANKS)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise PopcatError(
            f"{folder} holds no calibration: expected {_JSON} and {_RANKS} from `popcat calibrate`: {error}"
        ) from error
    return {**summary, "ranks": {name: ranks[name].to_numpy() for name in ranks.column_names}}
