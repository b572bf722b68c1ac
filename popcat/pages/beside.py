"""A part of the report: the same galaxies in two posterior catalogues, such as under two priors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from popcat import plots
from popcat.catalog.queries import Catalog, open_catalog
from popcat.errors import PopcatError
from popcat.pages import alt_texts
from popcat.paths import path_of

_QUANTITIES = {
    "log_mstar": "surviving stellar mass, log Msun", "log_ssfr": "specific star-formation rate over 1 Gyr, log 1 / yr",
    "age_mw_gyr": "mass-weighted age, Gyr", "log_z_mw": "mass-weighted metallicity, log",
    "tau_ism": "diffuse optical depth",
}  # fmt: skip
QUENCHED = -11.0
"""log10 of the specific star-formation rate, 1 / yr, below which a galaxy is called quenched here."""


def beside_section(catalog: Catalog, other: "str | Path") -> Mapping:
    """A part of the report (popcat.pages.crosscheck says what that is) that compares medians of the galaxies that both
    catalogues have posteriors of.

    Raises PopcatError if there are none, or `other` is no posterior catalogue.
    """
    pair = catalog, open_catalog(other)
    names = [f"{name}_p{q}" for name in _QUANTITIES for q in (16, 50, 84)]
    frames = [one.to_pandas(["object_id", *names], where="status == 'ok'").set_index("object_id") for one in pair]
    same = frames[0].index.intersection(frames[1].index)
    if len(same) == 0:
        raise PopcatError(f"{catalog.path} and {other} have posteriors of no galaxy in common")
    ours, theirs = (frame.loc[same] for frame in frames)
    titles = _titles(*pair)
    rows = [("median of the galaxies", *titles, "typical difference, in 68% errors")]
    for name, words in _QUANTITIES.items():
        a, b = (frame[f"{name}_p50"].to_numpy() for frame in (ours, theirs))
        error = 0.5 * (ours[f"{name}_p84"] - ours[f"{name}_p16"]).to_numpy()
        apart = np.median(np.abs(a - b) / np.maximum(error, 1e-9))
        rows.append((words, f"{np.median(a):.2f}", f"{np.median(b):.2f}", f"{apart:.1f}"))
    quenched = [np.mean(frame["log_ssfr_p50"].to_numpy() < QUENCHED) for frame in (ours, theirs)]
    rows.append(("quenched: specific rate below 10^-11 / yr", *(f"{part:.0%}" for part in quenched), ""))
    figures = []
    for name in ("log_ssfr", "log_mstar"):
        values = {title: frame[f"{name}_p50"].to_numpy() for title, frame in zip(titles, (ours, theirs), strict=True)}
        figures.append((plots.figure_to_data_uri(plots.two_histograms(values, name)),
                        f"Posterior medians: {_QUANTITIES[name]}", alt_texts.of_two(values, _QUANTITIES[name])))
    text = f"The same {len(same):,} galaxies in two catalogues: {titles[0]} and {titles[1]}."
    if all(title.endswith(" prior") for title in titles):
        text += " Photometry and galaxy model are the same: where the two columns differ, the prior decides."
    return {"title": f"{titles[0].capitalize()} and {titles[1]}", "text": text, "rows": rows, "figures": figures}


def _titles(*catalogs: Catalog) -> tuple[str, str]:
    """What tells the two apart: their priors, or else their folders."""
    priors = [None if one.require_manifest().prior else one.posterior.prior for one in catalogs]
    if None not in priors and priors[0] != priors[1]:
        return f"{priors[0]} prior", f"{priors[1]} prior"
    first, second = (path_of(one.path).resolve() for one in catalogs)
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))
