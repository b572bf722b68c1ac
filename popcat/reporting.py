"""One HTML page about a posterior catalogue: what came out, whether to believe it, three galaxies in full."""

import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from popcat import plots, stages
from popcat.calibrating import read_calibration
from popcat.catalog.partitions import read_manifest
from popcat.errors import PopcatError
from popcat.inference.calibration import coverage
from popcat.inference.posterior import embedded_posteriors, posterior_folder
from popcat.schema import (
    FLAGS,
    PARAMETERS,
    PERCENTILES,
    REDSHIFT,
    STATUS,
    parameter_fields,
    property_fields,
    to_pandas,
)
from popcat.settings import Model, Survey
from popcat.sps.filters import load_curves
from popcat.sps.spectrum import observed_spectrum

POPULATION_ROWS = 1_000_000
"""Population panels show every k-th row of a larger catalogue; the counts are of every row."""
SPECTRUM_DRAWS = 64
QUIESCENT_LOG_SSFR = -11.0

STATUS_MEANING = {
    "ok": "has a posterior",
    "no_photometry": "no band is observed with a valid error",
    "redshift_out_of_range": "redshift outside the range the model was trained on",
}
FLAG_MEANING = {
    "missing_band": "a flux or its error is NaN: the posterior is that of the other bands",
    "bad_error": "a flux error is zero, negative or infinite: its band is left out",
    "missing_redshift": "no redshift in the catalogue: inferred from the photometry",
    "redshift_out_of_range": "redshift outside the survey's range",
    "outside_training": "magnitude outside the range the model was trained on: treat the posterior with care",
    "high_chi2": "no draw fits the photometry: wrong redshift, blend, AGN, or bad errors",
    "negative_flux": "a measured flux below zero; kept and used, harmless",
    "no_photometry": "no band is observed with a valid error",
    "unusual_noise": "errors far from the survey's own, given the magnitudes: see worst_band",
    "unusual_colours": "colours or a brightness that no model galaxy has: see worst_band",
    "quality_cut": "fails a quality cut of the survey file; inferred nevertheless",
}

# Keys of the manifest that the page folds away.
_DETAILS = ("fingerprint", "extra.survey.", "extra.galaxy_model.", "extra.provenance.")
_SHOWN = ("log_mstar", "log_sfr_1gyr", "log_ssfr")
_SCALARS = ["object_id", "redshift_p50", "status", "flags", "chi2_best",
            *(f"{name}_p{q}" for name in _SHOWN for q in PERCENTILES)]
_PARAMETER_TABLE = ("log_mstar_formed", "tau_ism", "tau_bc", "n_dust", "f_burst", "t_burst")


@dataclass(frozen=True)
class Population:
    """The scalar columns (of every k-th row) and the counts (of every row)."""

    frame: pd.DataFrame
    rows: int
    status: Mapping[str, int]
    flags: Mapping[str, int]


def build_report(posteriors: Path, output: Path, *, survey: Survey, curves: Sequence[tuple], forward: Callable,
                 spectrum: Callable | None = None, galaxies: Sequence[int] | None = None,
                 calibration: Mapping | None = None, model: Model | None = None) -> Path:
    """Write one self-contained HTML page about the posterior catalogue in the folder `posteriors`.

    curves: (name, wave_aa, response) of each band of `survey`, in its order.
    forward: theta (n, d), redshift (n,) -> flux (n, n_band) in nMgy.
    spectrum: theta (n, d), redshift (n,) -> wave_aa (n_wave,) observed, f_nu (n, n_wave) in nMgy.
    galaxies: object_ids to show; None picks a star-forming, a quiescent and a badly fitted one.
    calibration: "ranks" {name: (n_mock,)} of the truth in [0, 1], "ks" {name: distance}, and optionally
    "history", a list of dicts with epoch, train, validation.
    model: the galaxy model of the catalogue, by default `Model()`.

    Returns the path of the page. Raises PopcatError if the folder holds no posterior catalogue of this survey, if
    no galaxy has a posterior, or if one of `galaxies` is absent or has none.
    """
    posteriors, output = Path(posteriors), Path(output)
    parameters = parameter_fields(model or Model())
    dataset = open_posteriors(posteriors, survey, parameters)
    population = read_population(dataset)
    ok = population.frame[population.frame["status"] == "ok"]
    if ok.empty:
        raise PopcatError(f'{posteriors} has no galaxy with status "ok" among {population.rows:,}: '
                          f"{_listing(population.status)}; check the survey's columns and units")
    chosen = pick_galaxies(ok) if galaxies is None else {int(item): "chosen by you" for item in galaxies}
    rows = read_galaxies(dataset, list(chosen), survey, parameters)
    provenance = read_provenance(posteriors)
    page = {
        "title": posteriors.resolve().name, "survey": survey, "population": population,
        "shown": len(population.frame), "provenance": provenance,
        "details": [key for key, _ in provenance if key.startswith(_DETAILS)],
        "status_rows": [(name, population.status.get(name, 0), STATUS_MEANING[name]) for name in STATUS],
        "flag_rows": [(bit, name, population.flags[name], FLAG_MEANING[name]) for name, bit in FLAGS.items()],
        "figures": _population_figures(ok, population.status, len(survey.bands)),
        "galaxies": [_galaxy(row, chosen[row["object_id"]], survey, parameters, curves, forward, spectrum)
                     for row in rows],
        "calibration": None if calibration is None else _calibration(calibration),
        "high_chi2_share": population.flags["high_chi2"] / population.status["ok"],
    }
    return _write(output, _template().render(**page))


def open_posteriors(folder: Path, survey: Survey, parameters: Mapping = PARAMETERS) -> ds.Dataset:
    """The part files of a posterior catalogue as one dataset; PopcatError if they are not one of this survey."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise PopcatError(f"{folder} is no posterior catalogue: expected part-NNNNNN.parquet files, found none; "
                          "name the folder that `popcat infer` wrote")
    try:
        dataset = ds.dataset([str(part) for part in parts], format="parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise PopcatError(f"{parts[0]} cannot be read as Parquet: {error}; run `popcat infer` again") from error
    missing = [name for name in _galaxy_columns(survey, parameters) if name not in dataset.schema.names]
    if missing:
        raise PopcatError(f"{folder} is no posterior catalogue of the survey {survey.name}: it lacks "
                          f"{', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; check --survey")
    return dataset


def read_population(dataset: ds.Dataset) -> Population:
    """Stream the scalar columns: counts of every row, and every k-th row so that at most POPULATION_ROWS stay."""
    step = max(1, -(-dataset.count_rows() // POPULATION_ROWS))
    rows, status, flags, kept = 0, Counter(), Counter(dict.fromkeys(FLAGS, 0)), []
    for batch in dataset.to_batches(columns=_SCALARS):
        status.update({str(pair["values"]): pair["counts"] for pair in pc.value_counts(batch["status"]).to_pylist()})
        bits = batch["flags"].to_numpy(zero_copy_only=False)
        flags.update({name: int(np.count_nonzero(bits & bit)) for name, bit in FLAGS.items()})
        kept.append(batch.take(pa.array(np.arange(-rows % step, batch.num_rows, step))))
        rows += batch.num_rows
    frame = to_pandas(pa.Table.from_batches(kept, schema=kept[0].schema)) if kept else pd.DataFrame(columns=_SCALARS)
    return Population(frame=frame, rows=rows, status=status, flags=flags)


def pick_galaxies(ok: pd.DataFrame) -> dict[int, str]:
    """Three object_ids and why they were chosen: typical star-forming, typical quiescent, badly fitted.

    Typical: unflagged, and nearest to its group's medians of log_mstar and log_ssfr, each in units of its scatter.
    """
    clean = ok[ok["flags"] == 0] if (ok["flags"] == 0).any() else ok
    quiescent = clean["log_ssfr_p50"] < QUIESCENT_LOG_SSFR
    limit = np.quantile(ok["chi2_best"], 0.999)
    worst = ok[ok["chi2_best"] <= limit].sort_values(["chi2_best", "object_id"], ascending=[False, True])
    ranked = [(_by_typicality(clean[~quiescent]), "typical star-forming galaxy"),
              (_by_typicality(clean[quiescent]), "typical quiescent galaxy"),
              (worst["object_id"], "worst fit below the 99.9th percentile of chi2")]
    chosen: dict[int, str] = {}
    for candidates, why in ranked:
        fresh = (int(item) for item in candidates if int(item) not in chosen)
        if (first := next(fresh, None)) is not None:
            chosen[first] = why
    return chosen


def read_galaxies(dataset: ds.Dataset, object_ids: list[int], survey: Survey, parameters: Mapping) -> list[dict]:
    """Fluxes, quantiles and draws of single galaxies, in the order asked for; PopcatError for one that has none."""
    table = dataset.to_table(columns=_galaxy_columns(survey, parameters), filter=pc.field("object_id").isin(object_ids))
    rows = {row["object_id"]: row for row in table.to_pylist()}
    absent = [item for item in object_ids if item not in rows]
    if absent:
        raise PopcatError(f"no galaxy with object_id {', '.join(map(str, absent))} in the catalogue: "
                          "expected ids of its column object_id")
    for item in object_ids:
        if rows[item]["status"] != "ok":
            raise PopcatError(f'galaxy {item} has no posterior to show: its status is "{rows[item]["status"]}"; '
                              'choose one with status "ok"')
    return [rows[item] for item in object_ids]


def read_provenance(folder: Path) -> list[tuple[str, str]]:
    """What made the catalogue, from its _popcat/manifest.json: dotted keys and values; empty without a manifest."""
    path = folder / "_popcat" / "manifest.json"
    if not path.is_file():
        return []
    try:
        return list(_flatten(json.loads(path.read_text(encoding="utf-8"))))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PopcatError(f"{path} is not valid JSON: {error}; run `popcat infer` again to finish it") from error


def _galaxy_columns(survey, parameters):
    bands = [f"{kind}_{name}" for kind in ("flux", "flux_err") for name in survey.band_names]
    names = (*parameters, *property_fields(survey), *REDSHIFT)
    quantiles = [f"{name}_p{q}" for name in names for q in PERCENTILES]
    draws = [f"{name}_draws" for name in names]
    scalars = ["object_id", "ra", "dec", "redshift", "status", "flags", "chi2_best", "worst_band"]
    return [*scalars, *bands, *quantiles, *draws]


def _by_typicality(group):
    distance = 0.0
    for name in ("log_mstar_p50", "log_ssfr_p50"):
        values = group[name]
        scatter = (values - values.median()).abs().median()
        distance = distance + ((values - values.median()) / max(scatter, 1e-6)) ** 2
    order = group.assign(_distance=distance).sort_values(["_distance", "object_id"])
    return order["object_id"]


def _population_figures(ok, status, n_bands):
    figures = {"mass_redshift": plots.mass_redshift(ok), "sfr_mass": plots.sfr_mass(ok),
               "chi2": plots.chi2_histogram(ok, n_bands), "status": plots.status_bars(status)}
    return {name: plots.figure_to_data_uri(figure) for name, figure in figures.items()}


def _galaxy(row, why, survey, parameters, curves, forward, spectrum):
    """What the template shows of one galaxy."""
    properties = {**property_fields(survey), **REDSHIFT}
    fields = {**parameters, **properties}
    draws = {name: np.asarray(row[f"{name}_draws"], dtype=float) for name in fields}
    theta = np.column_stack([draws[name] for name in parameters])
    redshift = float(row["redshift_p50"])
    flux, flux_err = ([row[f"{kind}_{band}"] for band in survey.band_names] for kind in ("flux", "flux_err"))
    title = f"object_id {row['object_id']},  z = {redshift:.4f}"
    sed = plots.galaxy_sed(curves, flux, flux_err, forward(theta, draws["redshift"]), title=title,
                           spectrum=None if spectrum is None else _spectrum_bands(spectrum, theta, draws["redshift"]))
    corner = plots.galaxy_corner(draws, title=f"object_id {row['object_id']}\n{len(theta)} draws")
    return {
        "object_id": row["object_id"], "why": why, "redshift": redshift, "ra": row["ra"], "dec": row["dec"],
        "has_position": all(row[name] is not None and np.isfinite(row[name]) for name in ("ra", "dec")),
        "chi2": row["chi2_best"], "flags": [name for name, bit in FLAGS.items() if row["flags"] & bit],
        "tables": [[(name, *(row[f"{name}_p{q}"] for q in PERCENTILES), *fields[name]) for name in names]
                   for names in (properties, _PARAMETER_TABLE)],
        "sed": plots.figure_to_data_uri(sed), "corner": plots.figure_to_data_uri(corner),
    }


def _spectrum_bands(spectrum, theta, redshift):
    # Full-resolution spectra are the slow path, and 64 draws fix a 68% band well enough to see.
    some = np.unique(np.linspace(0, len(theta) - 1, SPECTRUM_DRAWS).astype(int))
    wave_aa, fnu = spectrum(theta[some], redshift[some])
    return wave_aa, *np.percentile(fnu, PERCENTILES, axis=0)


def _calibration(calibration):
    """Rows of the KS table (name, distance, 99% limit, coverage of the 68% interval, pass) and the figures."""
    ranks = {name: np.asarray(values, dtype=float) for name, values in calibration["ranks"].items()}
    rows = []
    for name, values in ranks.items():
        # Kolmogorov's law: a uniform sample of n exceeds 1.63 / sqrt(n) in 1% of cases.
        limit = 1.63 / np.sqrt(len(values))
        rows.append((name, calibration["ks"][name], limit, coverage(values), calibration["ks"][name] <= limit))
    history = calibration.get("history")
    figures = {"pp": plots.pp_curves(ranks, calibration["ks"]), "ranks": plots.rank_histograms(ranks),
               "loss": plots.loss_curve(history) if history else None}
    return {"rows": rows, "mocks": max(map(len, ranks.values())), "passed": sum(row[-1] for row in rows),
            "figures": {name: figure and plots.figure_to_data_uri(figure) for name, figure in figures.items()}}


def _flatten(value, prefix=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and (len(value) > 6 or any(isinstance(item, (dict, list)) for item in value)):
        yield prefix, f"{len(value):,} entries"
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield prefix, text if len(text) <= 120 else f"{text[:117]}..."


def _listing(counts):
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "it is empty"


def _template():
    loader = jinja2.PackageLoader("popcat", "data")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True).get_template("report.html.j2")


def _write(output, text):
    """Replace the file in one step, so that a reader never sees half a page."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{uuid.uuid4().hex}.tmp")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return output


def report(posteriors: str | Path, output: str | Path = "report.html", *, galaxies: Sequence[int] | None = None,
           calibration: str | Path | None = None) -> Path:
    """Write the HTML page of a catalogue that `popcat infer` wrote, with spectra from its own galaxy model.

    galaxies: object_ids to show in full. calibration: a folder that `popcat calibrate` wrote; by default the folder
    `calibration` inside the model's own, if there is one.

    Returns the path of the page. Raises PopcatError if the folder holds no finished posterior catalogue.
    """
    manifest = read_manifest(posteriors)
    if manifest["kind"] != "posteriors":
        raise PopcatError(f"{posteriors} holds a {manifest['kind']}, not posteriors: name the folder that "
                          "`popcat infer` wrote")
    survey = Survey.model_validate(manifest["extra"]["survey"])
    model = Model.model_validate(manifest["extra"]["galaxy_model"])
    photometry = stages.forward_for(survey, model).photometry
    curves = load_curves(survey)
    span = np.geomspace(0.9 * min(c.wave_aa[0] for c in curves), 1.1 * max(c.wave_aa[-1] for c in curves), 600)

    def spectrum(theta, redshift):
        pairs = zip(theta, redshift, strict=True)
        return span, np.array([observed_spectrum(row, z, photometry.model, span)[1] for row, z in pairs])

    return build_report(
        Path(posteriors), Path(output), survey=survey, curves=[(c.name, c.wave_aa, c.response) for c in curves],
        forward=photometry.flux, spectrum=spectrum, galaxies=galaxies,
        calibration=_calibration_of(manifest) if calibration is None else read_calibration(calibration), model=model,
    )  # fmt: skip


def _calibration_of(manifest: Mapping) -> dict | None:
    """The calibration kept with the model that made a catalogue; None if there is none, or it is of another model."""
    model = manifest["extra"]["model"]
    folder = (posterior_folder(model) if model in embedded_posteriors() else Path(model)) / "calibration"
    if not folder.is_dir():
        return None
    found = read_calibration(folder)
    return found if found["model"] == manifest["fingerprint"]["model"] else None
