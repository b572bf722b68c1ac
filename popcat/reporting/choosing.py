"""Which galaxies the report shows: typical ones in full, and for the table a random sample and the odd ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat import rng
from popcat.schema import FLAGS

QUIESCENT_LOG_SSFR = -11.0
TABLE_ROWS = 300
"""Galaxies in the table: all of a smaller catalogue, else two thirds at random and up to a third for their oddness."""
RANDOM = "random sample"
_STREAM = 77
# Harmless, or no property of the galaxy.
_NOT_ODD = ("negative_flux", "missing_redshift", "no_photometry", "redshift_out_of_range")


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


@dataclass(frozen=True)
class Choice:
    """Galaxies of the table: why each is there, by object_id, and which of them are the random sample."""

    why: dict[int, str]
    sample: frozenset[int]


def choose_table(frame: pd.DataFrame, first: dict[int, str], rows: int = TABLE_ROWS) -> Choice:
    """The galaxies of the table: `first`, a random sample, then the odd ones in turn; all, where they are few.

    The sample is drawn by a number that object_id alone gives, so the order of the rows does not matter.
    """
    ids = frame["object_id"].to_numpy()
    shuffled = frame.iloc[np.argsort(rng.uniform(0, _STREAM, ids, 1)[:, 0], kind="stable")]
    n_random = len(frame) if len(frame) <= rows else rows - rows // 3
    sample = [int(item) for item in shuffled["object_id"][:n_random]]
    why = first | {item: RANDOM for item in sample if item not in first}
    for item, reason in _in_turn(_odd(shuffled)):
        if len(why) >= rows:
            break
        why.setdefault(item, reason)
    return Choice(why, frozenset(sample))


def _odd(frame: pd.DataFrame) -> dict[str, Sequence[int]]:
    """Object ids by what is odd about them; what most of the catalogue shares is not odd. Worst fits come first."""
    flags = frame["flags"].to_numpy()
    masks = {f"flag {name}": (flags & bit) != 0 for name, bit in FLAGS.items() if name not in _NOT_ODD}
    status = frame["status"].to_numpy(dtype=object)
    masks |= {f"status {name}": status == name for name in sorted(set(status) - {"ok"})}
    if "route" in frame:
        route = frame["route"].to_numpy(dtype=object)
        masks |= {f"route {name}": (route == name) & (status == "ok") for name in sorted(set(route[status == "ok"]))}
    by_chi2 = frame.assign(_order=-frame["chi2_best"].astype(float)).sort_values("_order", kind="stable")
    found = {}
    for why, mask in masks.items():
        if 0 < mask.sum() < len(frame) / 2:
            source = by_chi2[by_chi2["object_id"].isin(frame["object_id"][mask])] if "chi2" in why else frame[mask]
            found[why] = [int(item) for item in source["object_id"]]
    return found


def _in_turn(groups: dict[str, Sequence[int]]):
    """One of each group, then a second of each, and so on."""
    longest = max(map(len, groups.values()), default=0)
    for place in range(longest):
        yield from ((ids[place], why) for why, ids in groups.items() if place < len(ids))
