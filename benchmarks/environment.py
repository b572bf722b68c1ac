"""What every benchmark shares: its options, its table, its JSON, and the machine it ran on."""

import argparse
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("popcat", "numpy", "numba", "scipy", "torch", "nflows", "dask", "distributed", "pandas", "pyarrow",
            "astropy", "speclite", "fsps", "bagpipes", "kcorrect", "sbi", "emcee", "duckdb", "polars",
            "lsdb", "hats", "deltalake", "pyiceberg")  # fmt: skip


def parser(doc: str) -> argparse.ArgumentParser:
    """An argument parser with the script's docstring and the option `--json FILE`."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", metavar="FILE", type=Path, help="also write the result as JSON")
    return result


def posterior_options(arguments: argparse.ArgumentParser) -> None:
    """Add the options `--posterior` and `--prior`."""
    arguments.add_argument("--posterior", default="sdss", help="an embedded posterior or a folder (sdss)")
    arguments.add_argument("--prior", help="one that it was trained under; default: as infer takes it")


def describe() -> dict:
    """Date, machine, Python, package versions (None: not installed) and git commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "commit": git_commit(),
    }


def cpu_model() -> str:
    """Name of the processor, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def package_version(name: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the source tree, with "+" where files differ from it; None outside a git checkout."""
    root = Path(__file__).parents[1]
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")


def print_table(rows: list[dict], title: str) -> None:
    """Rows with the same keys as a table; floats with four significant digits."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    Console().print(table)


def cell(value) -> str:
    """A value as the table shows it."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def conclude(path: Path | None, result: dict) -> None:
    """Print the environment; write the result with it as JSON where a file was asked for."""
    environment = describe()
    flat = {key: value for key, value in environment.items() if key != "packages"}
    installed = " ".join(f"{name} {number}" for name, number in environment["packages"].items() if number)
    print(", ".join(f"{key} {value}" for key, value in flat.items()))
    print(installed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**result, "environment": environment}, indent=2) + "\n", encoding="utf-8")
