"""The report: one HTML page about a posterior catalogue. What to trust, its galaxies, its distributions, its origin."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from popcat.catalog.galaxy_figures import Drawing, drawing_of, draws_of_row
from popcat.catalog.manifest import CatalogManifest
from popcat.catalog.prior_draws import read_prior
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.calibration_result import Calibration, read_calibration
from popcat.columns import PERCENTILES
from popcat.errors import PopcatError
from popcat.galaxies import CERTIFIED_MEANS, CHECK_FLAGS, CLEAN, FLAG_MEANING, FLAGS, STATUS
from popcat.pages.beside import beside_section
from popcat.pages.crosscheck import crosscheck_section
from popcat.pages.diagnostics import (
    STATUS_MEANING,
    Counts,
    calibration_panels,
    diagnostics,
    read_counts,
    run_badges,
)
from popcat.pages.galaxies import (
    Choice,
    check_columns,
    choose_table,
    panel_records,
    pick_galaxies,
    read_galaxies,
    read_scalars,
    still_figures,
)
from popcat.pages.template import as_json, flattened, write_page
from popcat.pages.whole_catalogue import catalogue_figures
from popcat.paths import output_path, path_of
from popcat.posterior.locations import calibration_folder, embedded_posteriors, posterior_folder

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
    manifest = catalog.require_manifest()
    found = _calibration_of(manifest) if calibration is None else read_calibration(calibration).judged(manifest)
    return build_report(
        catalog, output, drawing=drawing_of(catalog.survey, catalog.galaxy_model, read_prior(catalog.path)),
        galaxies=galaxies, title=title, calibration=found,
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
SCRIPTS = ("expressions.js", "svg.js", "sed.js", "corner.js", "sfh.js", "address.js", "table.js")
SHOWN = ("log_mstar", "log_sfr_1gyr", "log_ssfr", "age_mw_gyr")
"""Quantities that are columns of the table, beside the redshift."""


def build_report(catalog: Catalog, output: Path, *, drawing: Drawing, galaxies: Sequence[int | str] | None = None,
                 calibration: Calibration | None = None, sections: Sequence[Mapping] = (),
                 title: str | None = None) -> Path:  # fmt: skip
    """Write one self-contained HTML page about a posterior catalogue.

    drawing: what draws its galaxies (popcat.catalog.galaxy_figures), of the catalogue's survey and galaxy model.
    galaxies: identifiers of those to show in full; None picks a star-forming, a quiescent and a badly fitted one.
    calibration: of the trained posterior, with its ranks.
    sections: further parts of the page, each a dict with title, text, and optionally rows (the first is the header)
    and figures, a list of (data URI, caption, what is seen). title: of the page, by default the folder's name.

    Returns the path of the page. Raises PopcatError if the folder holds no posterior catalogue of this survey, if
    no galaxy has a posterior, or if one of `galaxies` is absent or has none.
    """
    output, survey, galaxy_model = path_of(output), drawing.survey, drawing.galaxy_model
    check_columns(catalog, survey, galaxy_model)
    counts = read_counts(catalog)
    ok = counts.frame[counts.frame["status"] == "ok"]
    if ok.empty:
        raise PopcatError(f'{catalog.path} has no galaxy with status "ok" among {counts.rows:,}: '
                          f"{_listing(counts.status)}; check the survey's columns and units")  # fmt: skip
    near, n_groups = catalog.thinned(TABLE_GROUPS)
    scalars = read_scalars(near)
    first = _first(ok, scalars, None if galaxies is None else catalog.object_ids(galaxies))
    in_full = read_galaxies(catalog if galaxies is not None else near, list(first), survey, galaxy_model)
    for row in in_full:
        draws_of_row(row, [])  # refuses one without a posterior
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
        shown_quantities=SHOWN, has_prior=drawing.prior is not None, diagnostics=diagnostics(
            counts, calibration, reweighted=reweighted,
            training_check=training_check, learned=learned),
        certified_means=CERTIFIED_MEANS, fits=training_check is None or training_check.fits,
        status_rows=[(name, counts.status.get(name, 0), STATUS_MEANING[name]) for name in STATUS],
        flag_rows=[(bit, name, counts.flags[name], FLAG_MEANING[name]) for name, bit in FLAGS.items()],
        figures=catalogue_figures(ok, near, counts.status, len(survey.bands), manifest, drawing.prior),
        galaxies=[still_figures(row, first[row["object_id"]], drawing) for row in in_full],
        table=_table(records, choice, counts, len(scalars), n_groups), records=as_json(records),
        calibration=None if calibration is None else calibration_panels(calibration), badges=badges, extras=sections,
    )  # fmt: skip


def _contents(learned, calibration, extras) -> list[tuple[str, str]]:
    """Anchors and words of the navigation."""
    parts = [("trust", "What to trust"), ("table", "Galaxies"), ("catalogue", "The whole catalogue"),
             ("flags", "Status and flags"), *([] if learned is None else [("learned", "What was learned")]),
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


def _listing(counts):
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it is empty"
