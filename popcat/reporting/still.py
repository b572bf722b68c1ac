"""Galaxies in full as still figures, for print and for browsers without JavaScript."""

import numpy as np

from popcat import plots
from popcat.reporting.records import Drawing
from popcat.schema import FLAGS, PERCENTILES, REDSHIFT, property_fields

SPECTRUM_DRAWS = 64
_PARAMETER_TABLE = ("log_mstar_formed", "tau_ism", "tau_bc", "n_dust", "f_burst", "t_burst")


def still_figures(row: dict, why: str, drawing: Drawing) -> dict:
    """What the template shows of one galaxy in full."""
    survey, parameters, spectrum = drawing.survey, drawing.parameters, drawing.spectrum
    derived = {**property_fields(survey), **REDSHIFT}
    fields = {**parameters, **derived}
    draws = {name: np.asarray(row[f"{name}_draws"], dtype=float) for name in fields}
    theta = np.column_stack([draws[name] for name in parameters])
    redshift = float(row["redshift_p50"])
    flux, flux_err = ([row[f"{kind}_{band}"] for band in survey.band_names] for kind in ("flux", "flux_err"))
    title = f"object_id {row['object_id']},  z = {redshift:.4f}"
    sed = plots.galaxy_sed(drawing.curves, flux, flux_err,
                           drawing.forward(theta, draws["redshift"]), title=title,
                           spectrum=None if spectrum is None else _spectrum_bands(spectrum, theta, draws["redshift"]))
    corner = plots.galaxy_corner(draws, title=f"object_id {row['object_id']}\n{len(theta)} draws")
    return {
        "object_id": row["object_id"], "why": why, "redshift": redshift, "ra": row["ra"], "dec": row["dec"],
        "has_position": all(row[name] is not None and np.isfinite(row[name]) for name in ("ra", "dec")),
        "chi2": row["chi2_best"], "flags": [name for name, bit in FLAGS.items() if row["flags"] & bit],
        "tables": [[(name, *(row[f"{name}_p{q}"] for q in PERCENTILES), *fields[name]) for name in names]
                   for names in (derived, _PARAMETER_TABLE)],
        "sed": plots.figure_to_data_uri(sed), "corner": plots.figure_to_data_uri(corner),
    }  # fmt: skip


def _spectrum_bands(spectrum, theta, redshift):
    # 64 draws fix a 68% band well enough to see.
    some = np.unique(np.linspace(0, len(theta) - 1, SPECTRUM_DRAWS).astype(int))
    wave_aa, fnu = spectrum(theta[some], redshift[some])
    return wave_aa, *np.percentile(fnu, PERCENTILES, axis=0)
