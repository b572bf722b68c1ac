"""The report: one HTML page about a posterior catalogue. What to trust, its galaxies, its distributions, its origin."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from popcat import plots
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.prior_draws import read_prior
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.calibration_result import Calibration, read_calibration
from popcat.columns import PERCENTILES
from popcat.errors import PopcatError
from popcat.forward.filters import load_curves
from popcat.forward.properties import forward_for
from popcat.forward.spectrum import observed_spectra
from popcat.galaxies import CERTIFIED_MEANS, CHECK_FLAGS, CLEAN, FLAGS, STATUS
from popcat.galaxy_model import GalaxyModel
from popcat.pages.beside import beside_section
from popcat.pages.crosscheck import crosscheck_section
from popcat.pages.diagnostics import (
    FLAG_MEANING,
    STATUS_MEANING,
    Counts,
    calibration_panels,
    diagnostics,
    read_counts,
    run_badges,
)
from popcat.pages.galaxies import (
    Choice,
    Drawing,
    check_columns,
    choose_table,
    panel_records,
    pick_galaxies,
    read_galaxies,
    read_scalars,
    still_figures,
)
from popcat.pages.template import as_json, flattened, write_page
from popcat.paths import output_path, path_of
from popcat.posterior.locations import calibration_folder, embedded_posteriors, posterior_folder
from popcat.survey import Survey

__all__ = ["build_report", "report"]


def report(posteriors: str | Path, output: str | Path = "report.html", *, galaxies: Sequence[int | str] | None = None,
           calibration: str | Path | None = None, crosscheck: str | Path | None = None,
           beside: str | Path | None = None, title: str | None = None) -> Path:
    """Write the HTML page of a catalogue that `popcat infer` wrote, with spectra from its own galaxy model.

    galaxies: identifiers of those to show in full. calibration: a folder that `popcat calibrate` wrote; by default the
    folder `calibration` of the trained posterior, if there is one. crosscheck: a folder that `popcat crosscheck` wrote.
    beside: another posterior catalogue of these galaxies to compare with, such as one under another prior.
    title: of the page, by default the folder's name. The page is one file: what to trust, up to 300 galaxies to sort,
    filter and draw, distributions of the whole catalogue, what made it.

    Returns the path of the page. Raises PopcatError if the folder holds no finished posterior catalogue.

    >>> report("posteriors", "report.html", title="Forty galaxies").name
    'report.html'
    """
    output, catalog = output_path(output), open_catalog(posteriors)
    survey, galaxy_model, manifest = catalog.survey, catalog.galaxy_model, catalog.require_manifest()
    photometry = forward_for(survey, galaxy_model).photometry
    curves = load_curves(survey)
    span = np.geomspace(0.9 * min(c.wave_aa[0] for c in curves), 1.1 * max(c.wave_aa[-1] for c in curves), 600)

    found = _calibration_of(manifest) if calibration is None else read_calibration(calibration).judged(manifest)
    return build_report(
        catalog, output, survey=survey, curves=[(c.name, c.wave_aa, c.response) for c in curves],
        forward=photometry.flux, galaxies=galaxies, galaxy_model=galaxy_model, title=title,
        spectrum=lambda theta, redshift: (span, observed_spectra(theta, redshift, photometry.ingredients, span)),
        calibration=found,
        sections=[*([] if beside is None else [beside_section(catalog, beside)]),
                  *([] if crosscheck is None else [crosscheck_section(crosscheck)])],
    )  # fmt: skip


def _calibration_of(manifest: CatalogManifest) -> Calibration | None:
    """The calibration beside the trained posterior of a catalogue; None if there is none, or it is of another one."""
    where = manifest.posterior.location
    folder = posterior_folder(where) if where in embedded_posteriors() else path_of(where)
    folder = calibration_folder(folder, manifest.posterior.prior)
    if not folder.is_dir():
        return None
    found = read_calibration(folder)
    return found.judged(manifest) if found.posterior == manifest.posterior.name else None


TABLE_GROUPS = 32
"""The galaxies of the table are from so many row groups, evenly spaced: draws are the bulk of a catalogue."""
# Keys of the manifest that the page folds away.
_DETAILS = ("fingerprint", "survey.", "galaxy_model.", "provenance.", "training_check.", "learned.")
SCRIPTS = ("expressions.js", "svg.js", "sed.js", "corner.js", "table.js")
SHOWN = ("log_mstar", "log_sfr_1gyr", "log_ssfr", "age_mw_gyr")
"""Quantities that are columns of the table, beside the redshift."""


def build_report(catalog: Catalog, output: Path, *, survey: Survey, curves: Sequence[tuple], forward: Callable,
                 spectrum: Callable | None = None, galaxies: Sequence[int | str] | None = None,
                 calibration: Calibration | None = None, galaxy_model: GalaxyModel | None = None,
                 sections: Sequence[Mapping] = (), title: str | None = None) -> Path:
    """Write one self-contained HTML page about a posterior catalogue.

    curves: (name, wave_aa, response) of each band of `survey`, in its order.
    forward: theta (n, d), redshift (n,) -> flux (n, n_band) in nMgy.
    spectrum: theta (n, d), redshift (n,) -> wave_aa (n_wave,) observed, f_nu (n, n_wave) in nMgy.
    galaxies: identifiers of those to show in full; None picks a star-forming, a quiescent and a badly fitted one.
    calibration: of the trained posterior, with its ranks.
    galaxy_model: that of the catalogue, by default `GalaxyModel()`.
    sections: further parts of the page, each a dict with title, text, and optionally rows (the first is the header)
    and figures, a list of (data URI, caption). title: of the page, by default the folder's name.

    Returns the path of the page. Raises PopcatError if the folder holds no posterior catalogue of this survey, if
    no galaxy has a posterior, or if one of `galaxies` is absent or has none.
    """
    output = path_of(output)
    galaxy_model = galaxy_model or GalaxyModel()
    check_columns(catalog, survey, galaxy_model)
    counts = read_counts(catalog)
    ok = counts.frame[counts.frame["status"] == "ok"]
    if ok.empty:
        raise PopcatError(f'{catalog.path} has no galaxy with status "ok" among {counts.rows:,}: '
                          f"{_listing(counts.status)}; check the survey's columns and units")  # fmt: skip
    drawing = Drawing(survey, galaxy_model, curves, forward, spectrum, read_prior(catalog.path))
    near, n_groups = catalog.thinned(TABLE_GROUPS)
    scalars = read_scalars(near)
    first = _first(ok, scalars, None if galaxies is None else catalog.object_ids(galaxies))
    in_full = _with_posterior(read_galaxies(catalog, list(first), survey, galaxy_model) if galaxies is not None
                              else read_galaxies(near, list(first), survey, galaxy_model))  # fmt: skip
    choice = choose_table(scalars, first)
    others = read_galaxies(near, [item for item in choice.why if item not in first], survey, galaxy_model)
    records = panel_records([*in_full, *others], choice, drawing)
    provenance = _provenance(catalog)
    badges = [] if calibration is None else run_badges(calibration)
    manifest = catalog.manifest if isinstance(catalog.manifest, CatalogManifest) else None
    reweighted = manifest is not None and manifest.prior is not None
    learned = None if manifest is None else manifest.learned
    training_check = None if manifest is None else manifest.training_check
    return write_page(
        "report.html.j2", output, scripts=SCRIPTS, kind="report", title=title or path_of(catalog.path).resolve().name,
        sections=_contents(learned, calibration, sections), learned=learned, provenance=provenance,
        details=[key for key, _ in provenance if key.startswith(_DETAILS)], survey=survey, counts=counts,
        shown=len(counts.frame), made=_made(catalog), clean=CLEAN, check_flags=CHECK_FLAGS,
        shown_quantities=SHOWN, diagnostics=diagnostics(
            counts, calibration, reweighted=reweighted,
            training_check=training_check, learned=learned),
        certified_means=CERTIFIED_MEANS, fits=training_check is None or training_check.fits,
        status_rows=[(name, counts.status.get(name, 0), STATUS_MEANING[name]) for name in STATUS],
        flag_rows=[(bit, name, counts.flags[name], FLAG_MEANING.get(name, "")) for name, bit in FLAGS.items()],
        figures=_figures(ok, counts.status, len(survey.bands), manifest),
        galaxies=[still_figures(row, first[row["object_id"]], drawing) for row in in_full],
        table=_table(records, choice, counts, len(scalars), n_groups), records=as_json(records),
        calibration=None if calibration is None else calibration_panels(calibration), badges=badges, extras=sections,
    )  # fmt: skip


def _contents(learned, calibration, extras) -> list[tuple[str, str]]:
    """Anchors and words of the navigation."""
    parts = [("table", "Galaxies"), ("catalogue", "The whole catalogue"), ("flags", "Status and flags"),
             *([] if learned is None else [("learned", "What was learned")]),
             ("in-full", "Galaxies in full"), *([] if calibration is None else [("calibration", "Calibration")])]
    return [*parts, *((f"section-{number}", extra["title"]) for number, extra in enumerate(extras, start=1)),
            ("how", "How to read this")]  # fmt: skip


def _provenance(catalog: Catalog) -> list[tuple[str, str]]:
    """Dotted keys and values of the manifest; empty without one."""
    manifest = catalog.manifest
    return [] if manifest is None else list(flattened(manifest.model_dump(mode="json", exclude_none=True)))


def _made(catalog: Catalog) -> dict | None:
    """What the first lines say of a catalogue's origin; None without a manifest that says it."""
    manifest = catalog.manifest
    if not isinstance(manifest, CatalogManifest):
        return None
    return {"posterior": manifest.posterior.location, "draws": manifest.draws, "version": manifest.popcat_version}


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


def _table(records: dict, choice: Choice, counts: Counts, considered: int, n_groups: int) -> dict:
    """Rows of the table, and what to say of which galaxies it holds."""
    names = [quantity["name"] for quantity in records["quantities"]]
    nothing = [[None] * len(PERCENTILES)] * len(names)
    rows = [record | {"values": dict(zip(names, record["q"] or nothing, strict=True))}
            for record in records["galaxies"]]  # fmt: skip
    return {
        "rows": rows, "sample": len(choice.sample), "picked": len(rows) - len(choice.sample),
        "whole": len(rows) >= counts.rows, "considered": considered, "groups": min(n_groups, TABLE_GROUPS),
        "of_groups": n_groups, "certificates": bool(counts.corrected),
    }  # fmt: skip


def _figures(ok, status, n_bands, manifest: CatalogManifest | None):
    limit = None
    if manifest is not None and manifest.chi2_limits is not None:
        tried = manifest.chi2_limits.draws[-1] if manifest.certify else manifest.draws
        is_known = np.isfinite(ok["redshift"]).mean() >= 0.5
        (limit,) = manifest.chi2_limits.of(np.array([n_bands]), np.array([is_known]), np.array([tried]))
    figures = {"mass_redshift": plots.mass_redshift(ok), "sfr_mass": plots.sfr_mass(ok),
               "chi2": plots.chi2_histogram(ok, n_bands, limit), "status": plots.status_bars(status)}  # fmt: skip
    return {name: plots.figure_to_data_uri(figure) for name, figure in figures.items()}


def _listing(counts):
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it is empty"
