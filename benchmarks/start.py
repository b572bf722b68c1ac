"""`popcat infer` of a few galaxies as a user types it: seconds from the start of the command to the written catalogue.

Real SDSS galaxies, the embedded posterior, each run a new process with warm caches (one run before the ones that
count). With `--path FOLDER` the checkout in FOLDER runs in turn with the package that is imported here, so that other
work on the machine meets both. `cpu_s` counts the processor's seconds, of the command and its children.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

import popcat

from environment import conclude, parser, print_table


def main():
    options = parser(__doc__)
    options.add_argument("--path", metavar="FOLDER", type=Path, help="also the checkout in FOLDER (before)")
    options.add_argument("--n", type=int, default=100, help="galaxies (100)")
    options.add_argument("--repeat", type=int, default=5, help="runs that count; medians are shown (5)")
    arguments = options.parse_args()
    checkouts = {"before": arguments.path.resolve()} if arguments.path else {}
    checkouts["now"] = Path(popcat.__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:  # the first run of each warms caches
        catalogue = Path(scratch) / "galaxies.parquet"
        galaxies = pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet")
        pq.write_table(galaxies.slice(0, arguments.n), catalogue)
        runs = [{label: run(root, catalogue, Path(scratch) / f"{label}-{i}") for label, root in checkouts.items()}
                for i in range(arguments.repeat + 1)]  # fmt: skip
    result = {label: {name: round(median(one[label][name] for one in runs[1:]), 2) for name in ("wall_s", "cpu_s")}
              for label in checkouts}  # fmt: skip
    conclude(arguments.json, {"galaxies": arguments.n, "runs": arguments.repeat, **result})
    print_table([{"checkout": label, **numbers} for label, numbers in result.items()],
                f"popcat infer of {arguments.n} galaxies, median of {arguments.repeat}")  # fmt: skip


def run(root: Path, catalogue: Path, output: Path) -> dict:
    """One run of the checkout in `root`: seconds of the clock and of the processor."""
    before, start = cpu_seconds(), time.monotonic()
    subprocess.run([sys.executable, "-m", "popcat", "infer", catalogue, "-o", output], cwd=output.parent, check=True,
                   env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True)  # fmt: skip
    return {"wall_s": time.monotonic() - start, "cpu_s": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of all children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
