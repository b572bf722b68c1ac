"""The demo: 10,000 real SDSS galaxies through the embedded model to a posterior catalogue and a report."""

import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path

import pyarrow.parquet as pq

from popcat.files import write_json_atomic
from popcat.inference.infer import infer
from popcat.pages.report import report

POSTERIOR = "sdss"
GALAXIES = files("popcat") / "data" / "galaxies_sdss.parquet"


def run_demo(
    output: str | Path = "demo", *, draws: int = 100, seed: int = 0, workers: int | None = None, progress: bool = False
) -> dict:
    """Write catalog.parquet, posteriors/, report.html and summary.json to a folder, and return the summary.

    summary: n_in, n_out, infer_s (wall-clock seconds of the inference, start of the workers included), draws, status.
    A rerun into the same folder finishes what is missing.

    Raises PopcatError if the folder's posteriors are of another run.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    catalog = folder / "catalog.parquet"
    with as_file(GALAXIES) as source:
        shutil.copyfile(source, catalog)
    start = time.monotonic()
    posteriors = infer(
        catalog, POSTERIOR, output=folder / "posteriors", draws=draws, seed=seed, workers=workers, progress=progress
    )
    seconds = time.monotonic() - start
    report(folder / "posteriors", folder / "report.html", title="10,000 galaxies of the SDSS")
    summary = {
        "n_in": _rows(catalog),
        "n_out": len(posteriors),
        "infer_s": round(seconds, 2),
        "draws": draws,
        "report": str(folder / "report.html"),
    }
    write_json_atomic(folder / "summary.json", summary)
    return summary


def _rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows
