"""A newcomer's first hour: three tasks by the commands of the documentation, each in an environment with popcat alone.

    demo      ten thousand SDSS galaxies: the demo, and the Python lines of README
    survey    a catalogue of one's own, 200 galaxies as magnitudes in a CSV file: popcat fit; the lines marked CHECK
              of the drafted survey file ask for the filters, which the person then writes into it
    cluster   ten thousand galaxies on a Dask scheduler with two workers on this machine

The wheel is built here, and pip installs it with all that it needs. Printed for each command: minutes, exit status, and
the first line that says what went wrong. A stop that the documentation announces, such as lines marked CHECK in a
drafted survey file, is a status other than 0 too. Exit status 1 if the last command of a task failed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from environment import conclude, parser, print_table

ROOT = Path(__file__).parents[1]
INSTALL = ["python -m venv env", "pip install PACKAGES", "popcat doctor"]
TASKS = {
    "demo": ["popcat demo -o demo", "python quickstart.py"],
    "survey": [
        "popcat fit mine.csv -o fit/ --minutes 5",
        r"""sed -i -E '/^name = /{N;s/"(.)"(.filter = )"CHECK"/"\1"\2"sdss2010-\1"/};s/CHECK//' fit/survey.toml""",
        "popcat fit mine.csv -o fit/ --minutes 5",
        "popcat verify fit/posteriors",
    ],
    "cluster": [
        "dask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file scheduler.json &",
        "dask worker --scheduler-file scheduler.json --nthreads 1 --nworkers 2 --no-dashboard &",
        "popcat plan galaxies.parquet --workers 2",
        "popcat infer galaxies.parquet --posterior sdss --client scheduler.json -o posteriors/",
        "popcat verify posteriors/",
        "popcat report posteriors/ -o report.html",
    ],
}
N_OWN = 200
TROUBLE = re.compile(r"error|traceback|warning|refused|cannot|CHECK", re.I)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which of them")
    arguments.add_argument("--python", default=sys.executable, help="the Python of the environments (this one)")
    arguments.add_argument("--packages", nargs="*", default=[], help="more for pip, such as a torch without CUDA")
    arguments.add_argument("--folder", type=Path, help="where to work, and leave all (a temporary folder, removed)")
    options = arguments.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="popcat-first-hour-"))
    try:
        wheel = build_wheel(folder)
        rows = [row for task in options.tasks for row in run_task(task, folder / task, wheel, options)]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(rows, "A newcomer's first hour")
    summary = [{"task": task, "commands": sum(row["task"] == task for row in rows),
                "minutes": round(sum(row["minutes"] for row in rows if row["task"] == task), 1),
                "stops": sum(row["status"] != 0 for row in rows if row["task"] == task)}
               for task in options.tasks]  # fmt: skip
    print_table(summary, "In all")
    conclude(options.json, {"commands": rows, "tasks": summary})
    last = {row["task"]: row["status"] for row in rows}
    sys.exit(int(any(last.values())))


def build_wheel(folder: Path) -> Path:
    """The wheel of this source, of a copy: what an earlier build left beside the source is not in it."""
    source = folder / "source"
    shutil.copytree(ROOT / "popcat", source / "popcat", ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], cwd=source, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("popcat-*.whl"))


def run_task(task: str, folder: Path, wheel: Path, options) -> list[dict]:
    """A row for each command of a task, in a folder with nothing in it but the person's own data."""
    folder.mkdir()
    own_data(folder)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{folder / 'env' / 'bin'}:{Path(options.python).parent}:{os.environ['PATH']}",
                    "POPCAT_CACHE": str(folder / "cache"), "MPLBACKEND": "Agg"}  # fmt: skip
    rows, servers = [], []
    try:
        for line in [*INSTALL, *TASKS[task]]:
            command = line.replace("PACKAGES", " ".join([str(wheel), *options.packages]))
            shown = {"task": task, "command": line.replace("PACKAGES", "popcat")}
            started = time.perf_counter()
            if line.endswith(" &"):
                log = open(folder / f"server-{len(servers)}.log", "w")  # noqa: SIM115  # until its server ends
                servers.append(subprocess.Popen(command.removesuffix(" &").split(), cwd=folder, env=environment,
                                                stdout=log, stderr=log))  # fmt: skip
                wait_for(folder / "scheduler.json")
                rows.append(shown | {"minutes": 0.0, "status": 0, "trouble": ""})
                continue
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
            said = (done.stdout + done.stderr).splitlines()
            trouble = [one.strip() for one in said if TROUBLE.search(one)] if done.returncode else []
            rows.append(shown | {"minutes": round((time.perf_counter() - started) / 60.0, 2),
                                 "status": done.returncode, "trouble": (trouble or said[-1:] or [""])[0][:160]
                                 if done.returncode else ""})  # fmt: skip
            print(f"{task}: {shown['command']}: {rows[-1]['minutes']} min, status {done.returncode}", flush=True)
    finally:
        for server in servers[::-1]:
            server.terminate()
            server.wait(timeout=60)
    return rows


def own_data(folder: Path) -> None:
    """What the three people have: galaxies.parquet, mine.csv with AB magnitudes, and the lines of README."""
    source = files("popcat") / "data" / "galaxies_sdss.parquet"
    shutil.copy(str(source), folder / "galaxies.parquet")
    shutil.copy(ROOT / "examples" / "quickstart.py", folder / "quickstart.py")
    raw = pd.read_parquet(str(source))
    bands = "ugriz"
    raw = raw[(raw[[f"modelflux_{band}" for band in bands]] > 0).all(axis=1)][:N_OWN]
    mine = pd.DataFrame({"id": np.arange(len(raw)), "z_spec": raw["redshift"].to_numpy()})
    for band in bands:
        flux, error = raw[f"modelflux_{band}"].to_numpy(), raw[f"modelflux_err_{band}"].to_numpy()
        mine[f"mag_{band}"] = 22.5 - 2.5 * np.log10(flux)
        mine[f"magerr_{band}"] = 2.5 / np.log(10.0) * error / flux
    mine.to_csv(folder / "mine.csv", index=False)


def wait_for(file: Path, patience_s: float = 120.0) -> None:
    """Until a scheduler has written where it is."""
    end = time.perf_counter() + patience_s
    while not file.exists() and time.perf_counter() < end:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
