"""One HTML page about a posterior catalogue: what came out, whether to believe it, its galaxies to look at.

The page itself: what the template shows, and the file.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from popcat import plots
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.calibration import read_calibration
from popcat.columns import PERCENTILES, parameter_fields
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic
from popcat.forward.filters import load_curves
from popcat.forward.model import forward_for
from popcat.forward.spectrum import observed_spectra
from popcat.galaxies import FLAGS, STATUS
from popcat.galaxy_model import GalaxyModel
from popcat.pages.galaxies import Choice, Drawing, as_json, choose_table, panel_records, pick_galaxies, still_figures
from popcat.pages.judgement import (
    FLAG_MEANING,
    STATUS_MEANING,
    calibration_panels,
    crosscheck_section,
    run_badges,
    verdicts,
)
from popcat.pages.reading import (
    TABLE_GROUPS,
    check_columns,
    read_galaxies,
    read_population,
    read_provenance,
    read_scalars,
)
from popcat.posterior.posterior import embedded_posteriors, posterior_folder
from popcat.survey import Survey

__all__ = ["build_report", "report"]


def report(posteriors: str | Path, output: str | Path = "report.html", *, galaxies: Sequence[int] | None = None,
           calibration: str | Path | None = None, crosscheck: str | Path | None = None,
           title: str | None = None) -> Path:
    """Write the HTML page of a catalogue that `popcat infer` wrote, with spectra from its own galaxy model.

    galaxies: object_ids to show in full. calibration: a folder that `popcat calibrate` wrote; by default the folder
    `calibration` inside the model's own, if there is one. crosscheck: a folder that `popcat crosscheck` wrote.
    title: of the page, by default the folder's name. The page is one file: what to trust, up to 300 galaxies to sort,
    filter and look at, the population, what made it.

    Returns the path of the page. Raises PopcatError if the folder holds no finished posterior catalogue.

    >>> report("posteriors", "report.html", title="Forty galaxies").name
    'report.html'
    """
    catalog = open_catalog(posteriors)
    survey, galaxy_model, manifest = catalog.survey, catalog.galaxy_model, catalog.require_manifest()
    photometry = forward_for(survey, galaxy_model).photometry
    curves = load_curves(survey)
    span = np.geomspace(0.9 * min(c.wave_aa[0] for c in curves), 1.1 * max(c.wave_aa[-1] for c in curves), 600)

    return build_report(
        catalog, Path(output), survey=survey, curves=[(c.name, c.wave_aa, c.response) for c in curves],
        forward=photometry.flux, galaxies=galaxies, galaxy_model=galaxy_model, title=title,
        spectrum=lambda theta, redshift: (span, observed_spectra(theta, redshift, photometry.ingredients, span)),
        calibration=_calibration_of(manifest) if calibration is None else read_calibration(calibration),
        sections=[] if crosscheck is None else [crosscheck_section(crosscheck)],
    )  # fmt: skip


def _calibration_of(manifest: CatalogManifest) -> dict | None:
    """The calibration kept with the model that made a catalogue; None if there is none, or it is of another model."""
    where = manifest.posterior.location
    folder = (posterior_folder(where) if where in embedded_posteriors() else Path(where)) / "calibration"
    if not folder.is_dir():
        return None
    found = read_calibration(folder)
    return found if found["model"] == manifest.posterior.name else None


# Keys of the manifest that the page folds away.
_DETAILS = ("fingerprint", "survey.", "galaxy_model.", "provenance.")
SCRIPTS = ("svg.js", "sed.js", "corner.js", "table.js")


def build_report(catalog: Catalog, output: Path, *, survey: Survey, curves: Sequence[tuple], forward: Callable,
                 spectrum: Callable | None = None, galaxies: Sequence[int] | None = None,
                 calibration: Mapping | None = None, galaxy_model: GalaxyModel | None = None,
                 sections: Sequence[Mapping] = (), title: str | None = None) -> Path:
    """Write one self-contained HTML page about a posterior catalogue.

    curves: (name, wave_aa, response) of each band of `survey`, in its order.
    forward: theta (n, d), redshift (n,) -> flux (n, n_band) in nMgy.
    spectrum: theta (n, d), redshift (n,) -> wave_aa (n_wave,) observed, f_nu (n, n_wave) in nMgy.
    galaxies: object_ids to show in full; None picks a star-forming, a quiescent and a badly fitted one.
    calibration: "ranks" {name: (n_mock,)} of the truth in [0, 1], "ks" {name: distance}, and optionally "history", a
    list of dicts with epoch, train, validation, and what `popcat calibrate` found: "limits", "failures", "n", "runs".
    model: the galaxy model of the catalogue, by default `GalaxyModel()`.
    sections: further parts of the page, each a dict with title, text, and optionally rows (the first is the header)
    and figures, a list of (data URI, caption). title: of the page, by default the folder's name.

    Returns the path of the page. Raises PopcatError if the folder holds no posterior catalogue of this survey, if
    no galaxy has a posterior, or if one of `galaxies` is absent or has none.
    """
    output = Path(output)
    parameters = parameter_fields(galaxy_model or GalaxyModel())
    check_columns(catalog, survey, parameters)
    population = read_population(catalog)
    ok = population.frame[population.frame["status"] == "ok"]
    if ok.empty:
        raise PopcatError(f'{catalog.path} has no galaxy with status "ok" among {population.rows:,}: '
                          f"{_listing(population.status)}; check the survey's columns and units")  # fmt: skip
    drawing = Drawing(survey, parameters, curves, forward, spectrum)
    near, n_groups = catalog.thinned(TABLE_GROUPS)
    scalars = read_scalars(near)
    first = _first(ok, scalars, galaxies)
    in_full = _with_posterior(read_galaxies(catalog, list(first), survey, parameters) if galaxies is not None
                              else read_galaxies(near, list(first), survey, parameters))  # fmt: skip
    choice = choose_table(scalars, first)
    others = read_galaxies(near, [item for item in choice.why if item not in first], survey, parameters)
    records = panel_records([*in_full, *others], choice, drawing)
    provenance = read_provenance(catalog)
    badges = [] if calibration is None else run_badges(calibration, tuple(parameters))
    reweighted = isinstance(catalog.manifest, CatalogManifest) and catalog.manifest.prior is not None
    page = {
        "title": title or Path(catalog.path).resolve().name, "survey": survey, "population": population,
        "shown": len(population.frame), "provenance": provenance, "made": dict(provenance),
        "details": [key for key, _ in provenance if key.startswith(_DETAILS)],
        "verdicts": verdicts(population, calibration, badges, reweighted=reweighted),
        "status_rows": [(name, population.status.get(name, 0), STATUS_MEANING[name]) for name in STATUS],
        "flag_rows": [(bit, name, population.flags[name], FLAG_MEANING.get(name, "")) for name, bit in FLAGS.items()],
        "figures": _population_figures(ok, population.status, len(survey.bands)),
        "galaxies": [still_figures(row, first[row["object_id"]], drawing) for row in in_full],
        "table": _table(records, choice, population, len(scalars), n_groups), "records": Markup(as_json(records)),
        "calibration": None if calibration is None else calibration_panels(calibration), "badges": badges,
        "sections": sections,
    }  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(output, _template().render(**page).encode("utf-8"))
    return output


def _first(ok, scalars, galaxies) -> dict[int, str]:
    """The galaxies to show in full and why: those asked for, else three of those that may be in the table."""
    if galaxies is not None:
        return {int(item): "chosen by you" for item in galaxies}
    near = scalars[scalars["status"] == "ok"]
    return pick_galaxies(ok if near.empty else near)


def _with_posterior(rows: list[dict]) -> list[dict]:
    for row in rows:
        if row["status"] != "ok":
            raise PopcatError(f'galaxy {row["object_id"]} has no posterior to show: its status is "{row["status"]}"; '
                              'choose one with status "ok"')  # fmt: skip
    return rows


def _table(records: dict, choice: Choice, population, considered: int, n_groups: int) -> dict:
    """Rows of the table, and what to say of which galaxies it holds."""
    names = [quantity["name"] for quantity in records["quantities"]]
    nothing = [[None] * len(PERCENTILES)] * len(names)
    rows = [record | {"values": dict(zip(names, record["q"] or nothing, strict=True))}
            for record in records["galaxies"]]  # fmt: skip
    return {
        "rows": rows, "sample": len(choice.sample), "odd": len(rows) - len(choice.sample),
        "whole": len(rows) >= population.rows, "considered": considered, "groups": min(n_groups, TABLE_GROUPS),
        "of_groups": n_groups, "certificates": bool(population.corrected),
    }  # fmt: skip


def _population_figures(ok, status, n_bands):
    figures = {"mass_redshift": plots.mass_redshift(ok), "sfr_mass": plots.sfr_mass(ok),
               "chi2": plots.chi2_histogram(ok, n_bands), "status": plots.status_bars(status)}  # fmt: skip
    return {name: plots.figure_to_data_uri(figure) for name, figure in figures.items()}


def _listing(counts):
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it is empty"


def _template():
    loader = jinja2.PackageLoader("popcat", "data/report")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.globals |= {"inline": _inline, "scripts": SCRIPTS}
    return environment.get_template("page.html.j2")


def _inline(name: str) -> Markup:
    """A style sheet or script as it stands."""
    return Markup((files("popcat") / "data" / "report" / name).read_text(encoding="utf-8"))
