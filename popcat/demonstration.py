"""The demo: 10,000 real SDSS galaxies through the embedded posterior to posterior catalogues under two priors, and a
report."""

import shutil
import time
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path

import pyarrow.parquet as pq

from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import write_json_atomic
from popcat.inference.infer import infer
from popcat.pages.report import report
from popcat.paths import local
from popcat.prior import FLAT

POSTERIOR = "sdss"
GALAXIES = files("popcat") / "data" / "galaxies_sdss.parquet"


@dataclass(frozen=True, repr=False)
class DemoResult(Displayed):
    """What the demo made: galaxies in and out, seconds of the inference with the start of its workers, the page."""

    n_in: int
    n_out: int
    infer_s: float
    draws: int
    posteriors: str
    report: str

    def _facts(self) -> dict[str, object]:
        return {
            "posteriors": f"{self.n_out:,} for {self.n_in:,} galaxies, {self.draws} draws each, in {self.posteriors}",
            "beside them": f"the same under the flat prior, in {self.posteriors}-{FLAT}",
            "time": f"{self.infer_s:.0f} s",
            "report": self.report,
        }


def demo(
    output: str | Path = "demo", *, draws: int = 100, workers: int | None = None, progress: bool = False
) -> DemoResult:
    """10,000 real SDSS galaxies to posteriors/, report.html and summary.json in a folder; and to posteriors-flat/,
    under the prior as SEDflow and PROVABGS published it, which the report shows beside.

    A rerun into the same folder finishes what is missing.

    Raises PopcatError if the folder's posteriors are of another run.

    >>> demo("demo", draws=0)
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: draws must be at least 1, got 0
    """
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    folder = local(output)
    folder.mkdir(parents=True, exist_ok=True)
    catalog = folder / "catalog.parquet"
    with as_file(GALAXIES) as source:
        shutil.copyfile(source, catalog)
    start = time.monotonic()
    posteriors = infer(
        catalog, POSTERIOR, output=folder / "posteriors", draws=draws, workers=workers, progress=progress
    )
    seconds = time.monotonic() - start
    flat = folder / f"posteriors-{FLAT}"
    infer(catalog, POSTERIOR, output=flat, prior=FLAT, draws=draws, workers=workers, progress=progress)
    report(folder / "posteriors", folder / "report.html", beside=flat, title="10,000 galaxies of the SDSS")
    made = DemoResult(
        n_in=pq.read_metadata(catalog).num_rows, n_out=len(posteriors), infer_s=round(seconds, 2), draws=draws,
        posteriors=str(folder / "posteriors"), report=str(folder / "report.html"),
    )  # fmt: skip
    write_json_atomic(folder / "summary.json", asdict(made))
    return made
