"""Commands that judge: catalogues, models against each other, this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    READ,
    START,
    JsonOption,
    PosteriorsArgument,
    SeedOption,
    examples,
    print_json,
    say,
    teller,
)

app = typer.Typer()
_MAX_SHOWN = 50


@app.command(rich_help_panel=READ, epilog=examples("popcat verify posteriors"))
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that `popcat infer` or `popcat simulate` wrote.")],
    json: JsonOption = False,
) -> None:
    """Check every checksum, row count, identifier and column; exit status 1 with what is wrong and what mends it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from popcat.catalog.verification import verify as verify_folder

    found = verify_folder(folder)
    if json:
        problems = [problem._asdict() for problem in found.problems]
        counts = {key: getattr(found, key) for key in ("kind", "parts", "rows", "bytes", "ok")}
        print_json({"folder": str(folder), **counts, "problems": problems})
    tell = teller(json)
    tell(f"{folder}: {found.kind}, {found.parts:,} sound parts, {found.rows:,} rows, {found.bytes / 1e6:,.0f} MB")
    if found.ok:
        tell("nothing is wrong")
        return
    table = Table("where", "what is wrong", title=f"{len(found.problems)} problems", title_justify="left")
    for problem in found.problems[:_MAX_SHOWN]:
        table.add_row(escape(problem.where), escape(problem.what))
    Console(stderr=json).print(table)
    if len(found.problems) > _MAX_SHOWN:
        tell(f"and {len(found.problems) - _MAX_SHOWN} more")
    for remedy in dict.fromkeys(problem.remedy for problem in found.problems):
        tell(f"-> {remedy}")
    raise typer.Exit(1)


@app.command(rich_help_panel=READ, epilog=examples("popcat crosscheck posteriors -n 50 -o crosscheck"))
def crosscheck(
    posteriors: PosteriorsArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies, drawn at random.")] = 50,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the page and the numbers.")] = Path(
        "crosscheck"
    ),
    sampler: Annotated[str, typer.Option(help="prior, emcee or nautilus (the last two: extra bench).")] = "prior",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Referee: sample some of a catalogue's galaxies anew, with an independent sampler, and compare."""
    from popcat.pages.crosscheck import crosscheck as crosscheck_catalog

    found = crosscheck_catalog(posteriors, n, output=output, seed=seed, sampler=sampler, report=say)
    if json:
        print_json(found)
    tell = teller(json)
    tell(f"{found['n']} galaxies ({found['n_not_converged']} more without a converged referee)")
    for name, value in found["quantile_shift_median"].items():
        tell(f"median |shift| of {name:14s} {value:.3f} sigma")
    if found["c2st_median"] is not None:
        tell(f"median C2ST {found['c2st_median']:.3f}")
    say(f"page and numbers in {output}")


@app.command(rich_help_panel=READ, epilog=examples("popcat compare posteriors_a posteriors_b -o factors.parquet"))
def compare(
    first: PosteriorsArgument,
    second: PosteriorsArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Parquet file of the factors.")] = None,
    json: JsonOption = False,
) -> None:
    """Bayes factors of two models, from catalogues inferred with --certify: per galaxy and summed."""
    import pyarrow as pa

    from popcat.checks.compare import STRONG
    from popcat.checks.compare import compare as compare_catalogs
    from popcat.files import write_parquet_atomic

    frame, found = compare_catalogs(first, second)
    if output is not None:
        write_parquet_atomic(output, pa.Table.from_pandas(frame, preserve_index=False))
    if json:
        print_json({"first": str(first), "second": str(second), **found})
    tell = teller(json)
    tell(f"ln B = ln p(data | {first}) - ln p(data | {second})")
    tell(f"{found['n']:,} certified galaxies ({found['n_not_certified']:,} others left out)")
    if found["n"]:
        tell(f"sum     {found['sum']:+.1f} +- {found['sum_error']:.1f}")
        tell(f"median  {found['median']:+.3f}")
        strong = f"{found['n_strong_first']:,} for {first}, {found['n_strong_second']:,} for {second}"
        tell(f"|ln B| > {STRONG:g}: {strong}")


@app.command(rich_help_panel=START, epilog=examples("popcat doctor --client tcp://node1:8786"))
def doctor(
    client: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to try.")] = None,
    json: JsonOption = False,
) -> None:
    """Say what works on this machine, and what to do about what does not."""
    from popcat.doctor import checks

    found = checks(client=client)
    if json:
        print_json({"ok": all(check.ok is not False for check in found), "checks": [asdict(check) for check in found]})
    tell = teller(json)
    for check in found:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[check.ok]
        tell(f"{mark} {check.name:10s} {check.detail}" + (f"\n     -> {check.remedy}" if check.remedy else ""))
    raise typer.Exit(1 if any(check.ok is False for check in found) else 0)
