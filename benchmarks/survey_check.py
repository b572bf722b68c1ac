"""`popcat survey check` of a large catalogue: seconds, rows a second and the memory of the process.

Real SDSS galaxies, repeated with identifiers of their own, in one Parquet file, read by `popcat survey check` in a
process of its own. Memory beyond that of a small catalogue shows whether it streams.
"""

import resource
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from environment import conclude, parser, print_table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="rows (10000 1000000)")
    options.add_argument("--posterior", help="also compare with the training of this posterior")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [check(n, Path(scratch), arguments.posterior) for n in arguments.rows]
    print_table(rows, "popcat survey check of one Parquet file")
    conclude(arguments.json, {"rows": rows})


def check(n: int, folder: Path, posterior: str | None) -> dict:
    """One catalogue of n rows."""
    path = folder / f"galaxies-{n}.parquet"
    write(path, n)
    more = ["--posterior", posterior] if posterior else []
    command = [sys.executable, "-m", "popcat", "survey", "check", path, "--survey", "sdss", *more]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate()
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000.0  # of the largest so far: sizes ascend
    return {"rows": n, "MB": round(path.stat().st_size / 1e6, 1), "seconds": round(seconds, 1),
            "rows/s": round(n / seconds), "peak MB": round(peak), "exit": process.returncode}  # fmt: skip


def write(path: Path, n: int) -> None:
    """n galaxies, the same ones again and again, a row group for each time."""
    galaxies = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")
    schema = pa.Schema.from_pandas(galaxies, preserve_index=False)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, len(galaxies)):
            some = galaxies.iloc[: n - start].assign(object_id=np.arange(start, min(start + len(galaxies), n)))
            writer.write_table(pa.Table.from_pandas(some, schema=schema, preserve_index=False))


if __name__ == "__main__":
    main()
