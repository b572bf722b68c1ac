"""The galaxies that the report shows: which ones, their numbers for the browser to draw, and still figures of a few.

Typical galaxies are shown in full, as still figures, for print and for browsers without JavaScript. The table has a
random sample of the catalogue and its unusual galaxies, as numbers: pictures of hundreds would be too large.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popcat import plots, rng
from popcat.catalog.galaxy_figures import Drawing, draws_of_row, prior_of_row
from popcat.catalog.learned import stays_prior
from popcat.catalog.prior_draws import gains_of_rows, spans_of_rows
from popcat.catalog.queries import Catalog
from popcat.columns import PERCENTILES, REDSHIFT, property_fields, quantity_fields, to_pandas
from popcat.errors import PopcatError
from popcat.galaxies import FLAGS, OBJECT_NAME
from popcat.galaxy_model import GalaxyModel
from popcat.pages import alt_texts
from popcat.pages.compact import band_of, centimags, finite_or_none, packed, significant, some_of, steps_of
from popcat.plots.galaxy import sfh_band
from popcat.plots.style import CORNER
from popcat.survey import Survey

DRAWS = 100
"""Draws of the corner plot, at most."""
SPECTRA = 4
"""Draws whose spectrum is shown."""
HISTORY_GYR = (0.0, *np.geomspace(0.03, 13.8, 20).round(4).tolist())
"""Edges of the bins of lookback time of a galaxy's star-formation history."""
SPECTRUM_POINTS = 200
MODEL_PERCENTILES = (2.5, 16, 50, 84, 97.5)
QUIESCENT_LOG_SSFR = -11.0
TABLE_ROWS = 300
"""Galaxies in the table: all of a smaller catalogue, else two thirds at random and up to a third unusual ones."""
RANDOM = "random sample"
_STREAM = 77
# Harmless, or no property of the galaxy.
_NOT_UNUSUAL = ("negative_flux", "missing_redshift", "no_photometry", "redshift_out_of_range")
_PARAMETER_TABLE = ("log_mstar_formed", "tau_ism", "tau_bc", "n_dust", "f_burst", "t_burst")


_SHOWN = ("log_mstar", "log_sfr_1gyr", "log_ssfr")
SCALARS = ("object_id", "redshift_p50", "status", "flags", "chi2_best",
           *(f"{name}_p{q}" for name in _SHOWN for q in PERCENTILES))  # fmt: skip
CERTIFICATE = ("certified", "route", "ess", "p_star", "p_qso")
_COUNTED = ("redshift", *CERTIFICATE)


@dataclass(frozen=True)
class Choice:
    """Galaxies of the table: why each is there, by object_id, and which of them are the random sample."""

    why: dict[int, str]
    sample: frozenset[int]


def check_columns(catalog: Catalog, survey: Survey, galaxy_model: GalaxyModel) -> None:
    """PopcatError if a catalogue is not one of posteriors of this survey."""
    missing = [name for name in galaxy_columns(survey, galaxy_model) if name not in catalog.columns]
    if missing:
        raise PopcatError(f"{catalog.path} is no posterior catalogue of the survey {survey.name}: it lacks "
                          f"{', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; check --survey")  # fmt: skip


def read_scalars(catalog: Catalog) -> pd.DataFrame:
    """The scalar columns of every row, for the choice of galaxies."""
    return to_frame(catalog.to_table(scalar_columns(catalog)))


def scalar_columns(catalog: Catalog) -> list[str]:
    """Columns that the counts and the choice of galaxies need."""
    return [*SCALARS, *(name for name in _COUNTED if name in catalog.columns)]


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table of scalar columns as a frame; a certificate that is missing is none."""
    # A null in a column of booleans would make it one of objects.
    if "certified" in table.schema.names:
        at = table.schema.get_field_index("certified")
        table = table.set_column(at, "certified", pc.fill_null(table["certified"], False))
    return to_pandas(table)


def read_galaxies(catalog: Catalog, object_ids: Sequence[int], survey: Survey,
                  galaxy_model: GalaxyModel) -> list[dict]:  # fmt: skip
    """Fluxes, quantiles and draws of single galaxies, in the order asked for; PopcatError for one that is absent."""
    more = [name for name in (*CERTIFICATE, "n_bands", "redshift_err", OBJECT_NAME) if name in catalog.columns]
    return catalog.galaxies(object_ids, [*galaxy_columns(survey, galaxy_model), *more])


def galaxy_columns(survey: Survey, galaxy_model: GalaxyModel) -> list[str]:
    """Columns that show one galaxy."""
    bands = [f"{kind}_{name}" for kind in ("flux", "flux_err") for name in survey.band_names]
    names = quantity_fields(survey, galaxy_model)
    quantiles = [f"{name}_p{q}" for name in names for q in PERCENTILES]
    draws = [f"{name}_draws" for name in names]
    scalars = ["object_id", "ra", "dec", "redshift", "status", "flags", "chi2_best", "worst_band"]
    return [*scalars, *bands, *quantiles, *draws]


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
              (worst["object_id"], "worst fit below the 99.9th percentile of chi2")]  # fmt: skip
    chosen: dict[int, str] = {}
    for candidates, why in ranked:
        fresh = (int(item) for item in candidates if int(item) not in chosen)
        if (first := next(fresh, None)) is not None:
            chosen[first] = why
    return chosen


def _by_typicality(group):
    distance = 0.0
    for name in ("log_mstar_p50", "log_ssfr_p50"):
        values = group[name]
        scatter = (values - values.median()).abs().median()
        distance = distance + ((values - values.median()) / max(scatter, 1e-6)) ** 2
    order = group.assign(_distance=distance).sort_values(["_distance", "object_id"])
    return order["object_id"]


def choose_table(frame: pd.DataFrame, first: dict[int, str], rows: int = TABLE_ROWS) -> Choice:
    """The galaxies of the table: `first`, a random sample, then unusual ones of each kind in turn; all of a few.

    The sample is drawn by a number that object_id alone gives, so the order of the rows does not matter.
    """
    ids = frame["object_id"].to_numpy()
    shuffled = frame.iloc[np.argsort(rng.uniform(0, _STREAM, ids, 1)[:, 0], kind="stable")]
    n_random = len(frame) if len(frame) <= rows else rows - rows // 3
    sample = [int(item) for item in shuffled["object_id"][:n_random]]
    why = first | {item: RANDOM for item in sample if item not in first}
    for item, reason in _in_turn(_unusual(shuffled)):
        if len(why) >= rows:
            break
        why.setdefault(item, reason)
    return Choice(why, frozenset(sample))


def _unusual(frame: pd.DataFrame) -> dict[str, list[int]]:
    """Object ids by what is unusual about them: a property that fewer than half have. Worst fits come first."""
    flags = frame["flags"].to_numpy()
    masks = {f"flag {name}": (flags & bit) != 0 for name, bit in FLAGS.items() if name not in _NOT_UNUSUAL}
    status = frame["status"].to_numpy(dtype=object)
    masks |= {f"status {name}": status == name for name in sorted(set(status) - {"ok"})}
    if "route" in frame:
        route = frame["route"].fillna("").to_numpy(dtype=object)  # none without a posterior
        masks |= {f"route {name}": (route == name) & (status == "ok") for name in sorted(set(route[status == "ok"]))}
    by_chi2 = frame.assign(_order=-frame["chi2_best"].astype(float)).sort_values("_order", kind="stable")
    found = {}
    for why, mask in masks.items():
        if 0 < mask.sum() < len(frame) / 2:
            source = by_chi2[by_chi2["object_id"].isin(frame["object_id"][mask])] if "chi2" in why else frame[mask]
            found[why] = [int(item) for item in source["object_id"]]
    return found


def _in_turn(groups: Mapping[str, Sequence[int]]):
    """One of each group, then a second of each, and so on."""
    longest = max(map(len, groups.values()), default=0)
    for place in range(longest):
        yield from ((ids[place], why) for why, ids in groups.items() if place < len(ids))


def panel_records(rows: Sequence[dict], choice: Choice, drawing: Drawing) -> dict:
    """What table, spectra and corner plots need: the survey's bands, the quantities, one record a galaxy.

    Fluxes are in nMgy. `spectra` are AB magnitudes x 100 as integers, each less the one before. `sfh` are p16, p50, p84
    of the star-formation rate in Msun / yr in each bin of `lookback`, and `sfh_prior` p16 and p84 of the prior's at the
    galaxy's mass. `q` are p16, p50, p84 of each quantity and `draws` those of the corner plot, packed, both in the
    order of their names. `prior` are draws of the prior in that order, `span` those that are a galaxy's prior, and
    `stays_prior` the names of what its photometry says little of.
    """
    survey, parameters = drawing.survey, drawing.parameters
    fields = quantity_fields(survey, drawing.galaxy_model)
    corner = [*CORNER, *REDSHIFT]
    records = [_record(row, choice, survey, fields, corner) for row in rows]
    drawn = [i for i, row in enumerate(rows) if row["status"] == "ok"]
    wave_aa = _add_model(records, [rows[i] for i in drawn], drawn, drawing)
    _add_prior(records, [rows[i] for i in drawn], drawn, drawing, list(fields))
    _add_histories(records, [rows[i] for i in drawn], drawn, drawing)
    return {
        "prior": drawing.prior and [significant(drawing.prior.values[name], 4) for name in corner],
        "bands": [band_of(*curve) for curve in drawing.curves],
        "quantities": [{"name": name, "unit": unit, "meaning": text} for name, (unit, text) in fields.items()],
        "n_parameters": len(parameters), "corner": corner, "flags": FLAGS,
        "wave": significant(wave_aa, 5), "lookback": HISTORY_GYR, "galaxies": records,
    }  # fmt: skip


def _record(row, choice, survey, fields, corner):
    """The numbers of one galaxy that the catalogue has; object_id as text, for browsers have no 64-bit integers."""
    item, ok = row["object_id"], row["status"] == "ok"
    record = {
        "id": str(item), "name": row.get(OBJECT_NAME) or str(item),
        "why": choice.why[item], "sample": item in choice.sample, "status": row["status"],
        "flags": [name for name, bit in FLAGS.items() if row["flags"] & bit],
        "ra": significant(row["ra"], 9), "dec": significant(row["dec"], 9), "given_z": finite_or_none(row["redshift"]),
        "chi2": significant(row["chi2_best"], 4), "worst_band": row["worst_band"], "n_bands": row.get("n_bands"),
        "flux": [significant(row[f"flux_{band}"], 5) for band in survey.band_names],
        "err": [significant(row[f"flux_err_{band}"], 4) for band in survey.band_names],
        "q": [[significant(row[f"{name}_p{q}"], 5) for q in PERCENTILES] for name in fields] if ok else None,
        "draws": [packed(some_of(row[f"{name}_draws"], DRAWS)) for name in corner] if ok else None,
    }  # fmt: skip
    if "certified" in row:
        record |= {"certified": bool(row["certified"]), "route": row["route"], "ess": significant(row["ess"], 4)}
    if "p_star" in row:
        record |= {name: significant(row[name], 3) for name in ("p_star", "p_qso")}
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
        records[place]["model"] = significant(np.percentile(flux, MODEL_PERCENTILES, axis=0).T, 4)
    if drawing.spectrum is None:
        return []
    wave_aa, fnu = drawing.spectrum(np.concatenate([some_of(part, SPECTRA) for part in theta]),
                                   np.concatenate([some_of(part, SPECTRA) for part in redshift]))  # fmt: skip
    every = np.unique(np.linspace(0, len(wave_aa) - 1, SPECTRUM_POINTS).round().astype(int))
    ends = np.cumsum([min(SPECTRA, len(part)) for part in theta])[:-1]
    for place, part in zip(places, np.split(np.asarray(fnu)[:, every], ends), strict=True):
        records[place]["spectra"] = [steps_of(centimags(row)) for row in part]
    return np.asarray(wave_aa)[every]


def _add_prior(records, rows, places, drawing, names) -> None:
    """Which draws of the prior each galaxy is compared with, and which of its quantities stay the prior's."""
    if drawing.prior is None or not rows:
        return
    gains = gains_of_rows(drawing.prior, rows, names)
    for number, (place, span) in enumerate(zip(places, spans_of_rows(drawing.prior, rows).tolist(), strict=True)):
        records[place] |= {"span": span, "stays_prior": stays_prior(gains, number)}


def _add_histories(records, rows, places, drawing) -> None:
    """Star-formation rates of all galaxies, where the drawing has histories."""
    if drawing.history is None:
        return
    names = [*drawing.parameters, *REDSHIFT]
    draws = [draws_of_row(row, names) for row in rows]
    joined = {name: np.concatenate([one[name] for one in draws]) for name in names} if rows else {}
    sfr = drawing.rates(joined, HISTORY_GYR)[1] if rows else np.empty((0, 0))
    ends = np.cumsum([len(one["redshift"]) for one in draws])[:-1]
    for place, one, part in zip(places, draws, np.split(sfr, ends), strict=True):
        records[place]["sfh"] = significant(np.array(sfh_band(part)), 3)
        if (span := records[place].get("span")) is not None:
            prior = drawing.prior_rates(one, [*span, max((span[1] - span[0]) // DRAWS, 1)], HISTORY_GYR)
            records[place]["sfh_prior"] = significant(np.array(sfh_band(prior))[[0, 2]], 3)


def still_figures(row: dict, why: str, drawing: Drawing) -> dict:
    """What the template shows of one galaxy in full."""
    survey = drawing.survey
    derived = {**property_fields(survey, drawing.galaxy_model), **REDSHIFT}
    fields = {**drawing.parameters, **derived}
    draws = draws_of_row(row, list(fields))
    redshift, n = float(row["redshift_p50"]), len(draws["redshift"])
    flux, flux_err = ([row[f"{kind}_{band}"] for band in survey.band_names] for kind in ("flux", "flux_err"))
    title = f"object_id {row['object_id']},  z = {redshift:.4f}"
    span, little = prior_of_row(drawing.prior, row, list(fields))
    model = drawing.forward(drawing.theta(draws), draws["redshift"])
    figures = [("sed", drawing.sed(draws, flux, flux_err, title),
                alt_texts.of_sed(survey.band_names, flux, flux_err, model)),
               ("corner", drawing.corner(draws, f"object_id {row['object_id']}\n{n} draws", span=span, stays=little),
                alt_texts.of_corner(draws, little))]  # fmt: skip
    if drawing.history is not None:
        edges, sfr = drawing.rates(draws)
        figures.append(("sfh", drawing.sfh(draws, title, span=span), alt_texts.of_sfh(edges, sfh_band(sfr)[1])))
    return {
        "object_id": row["object_id"], "name": row.get(OBJECT_NAME) or str(row["object_id"]),
        "why": why, "redshift": redshift, "ra": row["ra"], "dec": row["dec"],
        "has_position": all(row[name] is not None and np.isfinite(row[name]) for name in ("ra", "dec")),
        "chi2": row["chi2_best"], "flags": [name for name, bit in FLAGS.items() if row["flags"] & bit],
        "stays_prior": little,
        "tables": [[(name, *(row[f"{name}_p{q}"] for q in PERCENTILES), *fields[name]) for name in names]
                   for names in (derived, _PARAMETER_TABLE)],
        "figures": {name: (plots.figure_to_data_uri(figure), words) for name, figure, words in figures},
    }  # fmt: skip
