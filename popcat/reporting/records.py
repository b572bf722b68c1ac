"""The galaxies that the browser draws: numbers, not pictures, so that hundreds of them cost little."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from popcat.plots.style import CORNER
from popcat.reporting.choosing import Choice
from popcat.reporting.reading import CARE
from popcat.schema import FLAGS, PERCENTILES, REDSHIFT, property_fields
from popcat.settings import Survey

DRAWS = 100
"""Draws of the corner plot, at most."""
SPECTRA = 6
"""Draws whose spectrum is shown."""
SPECTRUM_POINTS = 200
CURVE_POINTS = 40
MODEL_PERCENTILES = (2.5, 16, 50, 84, 97.5)


@dataclass(frozen=True)
class Drawing:
    """What it takes to draw a galaxy's model: see `popcat.reporting.build_report` for each."""

    survey: Survey
    parameters: Mapping
    curves: Sequence[tuple]
    forward: Callable
    spectrum: Callable | None


def panel_records(rows: Sequence[dict], choice: Choice, drawing: Drawing) -> dict:
    """What table, spectra and corner plots need: the survey's bands, the quantities, one record a galaxy.

    Fluxes are in nMgy; spectra are AB magnitudes x 100 as integers; `q` are p16, p50, p84 of each quantity and `draws`
    those of the corner plot, both in the order of their names.
    """
    survey, parameters = drawing.survey, drawing.parameters
    fields = {**parameters, **property_fields(survey), **REDSHIFT}
    corner = [*CORNER, *REDSHIFT]
    records = [_record(row, choice, survey, fields, corner) for row in rows]
    drawn = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    wave_aa = _add_model(records, [rows[i] for i in drawn], drawn, drawing)
    return {
        "bands": [_band(*curve) for curve in drawing.curves],
        "quantities": [{"name": name, "unit": unit, "meaning": text} for name, (unit, text) in fields.items()],
        "n_parameters": len(parameters), "corner": corner, "flags": FLAGS, "care": CARE,
        "wave": _significant(wave_aa, 5), "galaxies": records,
    }  # fmt: skip


def as_json(value) -> str:
    """Compact JSON that may stand inside a <script> element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _record(row, choice, survey, fields, corner):
    """The numbers of one galaxy that the catalogue has; object_id as text, for browsers have no 64-bit integers."""
    item, ok = row["object_id"], row["status"] == "ok"
    record = {
        "id": str(item), "why": choice.why[item], "sample": item in choice.sample, "status": row["status"],
        "flags": [name for name, bit in FLAGS.items() if row["flags"] & bit], "care": bool(row["flags"] & CARE),
        "ra": _significant(row["ra"], 9), "dec": _significant(row["dec"], 9), "given_z": _finite(row["redshift"]),
        "chi2": _significant(row["chi2_best"], 4), "worst_band": row["worst_band"], "n_bands": row.get("n_bands"),
        "flux": [_significant(row[f"flux_{band}"], 5) for band in survey.band_names],
        "err": [_significant(row[f"flux_err_{band}"], 4) for band in survey.band_names],
        "q": [[_significant(row[f"{name}_p{q}"], 5) for q in PERCENTILES] for name in fields] if ok else None,
        "draws": [_significant(_some(row[f"{name}_draws"], DRAWS), 5) for name in corner] if ok else None,
    }  # fmt: skip
    if "certified" in row:
        record |= {"certified": bool(row["certified"]), "route": row["route"], "ess": _significant(row["ess"], 4)}
    return record


def _add_model(records, rows, places, drawing):
    """The model's fluxes and spectra, all galaxies in one call each; returns the spectra's wavelengths (n_wave,)."""
    if not rows:
        return []
    theta = [np.column_stack([np.asarray(row[f"{name}_draws"], dtype=float) for name in drawing.parameters])
             for row in rows]  # fmt: skip
    redshift = [np.asarray(row["redshift_draws"], dtype=float) for row in rows]
    ends = np.cumsum([len(part) for part in theta])[:-1]
    fluxes = np.split(drawing.forward(np.concatenate(theta), np.concatenate(redshift)), ends)
    for place, flux in zip(places, fluxes, strict=True):
        records[place]["model"] = _significant(np.percentile(flux, MODEL_PERCENTILES, axis=0).T, 4)
    if drawing.spectrum is None:
        return []
    wave_aa, fnu = drawing.spectrum(np.concatenate([_some(part, SPECTRA) for part in theta]),
                                   np.concatenate([_some(part, SPECTRA) for part in redshift]))  # fmt: skip
    every = np.unique(np.linspace(0, len(wave_aa) - 1, SPECTRUM_POINTS).round().astype(int))
    ends = np.cumsum([min(SPECTRA, len(part)) for part in theta])[:-1]
    for place, part in zip(places, np.split(np.asarray(fnu)[:, every], ends), strict=True):
        records[place]["spectra"] = [_centimags(row) for row in part]
    return np.asarray(wave_aa)[every]


def _band(name, wave_aa, response):
    """A band's mean wavelength and its curve, relative to the peak, at a few points."""
    some = np.linspace(wave_aa[0], wave_aa[-1], CURVE_POINTS)
    height = np.interp(some, wave_aa, response) / np.max(response)
    mean = np.average(wave_aa, weights=response * np.gradient(wave_aa))
    return {"name": name, "wave": _significant(mean, 5), "curve": [_significant(some, 5), _significant(height, 3)]}


def _some(values, n: int) -> np.ndarray:
    """At most n of the draws, evenly spaced."""
    values = np.asarray(values, dtype=float)
    return values[np.unique(np.linspace(0, len(values) - 1, n).round().astype(int))]


def _centimags(fnu) -> list:
    """AB magnitudes x 100 of f_nu in nMgy; None where there is no light."""
    return [round(2250 - 250 * np.log10(value)) if value > 0 else None for value in fnu.tolist()]


def _significant(values, digits: int):
    """Rounded to significant digits, as plain numbers and lists; None where not finite."""
    if values is None or isinstance(values, (int, float)):
        return None if values is None or not np.isfinite(values) else float(f"{values:.{digits}g}")
    return [_significant(value, digits) for value in np.asarray(values, dtype=float).tolist()]


def _finite(value):
    return None if value is None or not np.isfinite(value) else float(value)
