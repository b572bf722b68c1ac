"""Galaxies that the galaxy model does not fit: how many, which bands, and what they have in common.

One galaxy in 10^3 of the model's own has such a chi2, or such colours. A catalogue that has more of them holds
galaxies that the model lacks, or bands that are wrong, and both show in what these galaxies share.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from popcat.catalog.queries import open_catalog
from popcat.galaxies import FLAGS
from popcat.paths import AnyPath
from popcat.survey import Survey
from popcat.units import nmgy_to_ab_mag

MISFIT = ("high_chi2", "unusual_colours", "band_off")
"""Flags of galaxies that the model does not fit."""
MIN_SHARE, MIN_GALAXIES = 0.01, 20
"""More than this share of the galaxies, and so many, are worth a word."""
_MOST_ROWS = 200_000
_COMMON = 0.72
"""Of a galaxy that fits and one that does not, the probability that the latter is beyond the former."""
_BANDS_NAMED = 3


def misfits_of_parts(paths: Iterable[str | AnyPath], survey: Survey) -> list[str]:
    """What `misfits` says of the files of a catalogue, or of evenly spaced ones of a large catalogue."""
    paths, tables, rows = list(paths), [], 0
    names = ["status", "flags", "worst_band", "redshift_p50", *(f"flux_{band}" for band in survey.band_names)]
    for i in _spread(len(paths)):
        tables.append(open_catalog(paths[i]).to_table(names))
        rows += tables[-1].num_rows
        if rows >= _MOST_ROWS:
            break
    return misfits(pa.concat_tables(tables), survey) if tables else []


def _spread(n: int) -> list[int]:
    """0 to n - 1, those that halve the longest gap first.

    >>> _spread(5)
    [0, 4, 2, 1, 3]
    """
    found, steps = dict.fromkeys([0, n - 1] if n else []), 2
    while len(found) < n:
        found |= dict.fromkeys(int(i) for i in np.linspace(0, n - 1, steps + 1))
        steps *= 2
    return list(found)


def misfits(table: pa.Table, survey: Survey) -> list[str]:
    """Lines for a person on the galaxies of a table of posteriors that the model does not fit; none if they are few."""
    table = table.filter(pa.compute.equal(table["status"], "ok"))
    flags = table["flags"].to_numpy()
    is_misfit = (flags & sum(FLAGS[name] for name in MISFIT)) != 0
    n, total = int(is_misfit.sum()), len(flags)
    if n < MIN_GALAXIES or n < MIN_SHARE * total:
        return []
    worst = Counter(name for name in table["worst_band"].filter(pa.array(is_misfit)).to_pylist() if name)
    bands = ", ".join(f"{name} {count / n:.0%}" for name, count in worst.most_common(_BANDS_NAMED))
    line = f"{n / total:.1%} of the galaxies do not fit the model ({', '.join(MISFIT)})"
    line += f"; the band that disagrees: {bands}" if bands else ""
    common = [f"{word} ({text})" for word, text in _in_common(table, is_misfit, survey)]
    return [line, f"what sets them apart: {', '.join(common)}" if common else
            "they do not differ from the others in brightness, colour or redshift"]  # fmt: skip


def _in_common(table: pa.Table, is_misfit: np.ndarray, survey: Survey) -> list[tuple[str, str]]:
    """In which way they differ from the others most of the time, and the medians of both."""
    found = []
    for (low, high), name, values in _measures(table, survey):
        known = np.isfinite(values)
        ours, others = np.sort(values[is_misfit & known]), np.sort(values[~is_misfit & known])
        if min(len(ours), len(others)) < MIN_GALAXIES:
            continue
        above = np.searchsorted(others, ours, side="left").mean() / len(others)
        below = 1.0 - np.searchsorted(others, ours, side="right").mean() / len(others)
        if max(above, below) >= _COMMON:
            word = high if above > below else low
            found.append((word, f"{name} {np.median(ours):.2f}, the others {np.median(others):.2f}"))
    return found


def _measures(table: pa.Table, survey: Survey):
    """Words for less and for more, a name, and the values of each thing that galaxies may have in common."""
    mags: Mapping[str, np.ndarray] = {
        band: nmgy_to_ab_mag(table[f"flux_{band}"].to_numpy().astype(float)) for band in survey.band_names
    }
    first, main, last = survey.band_names[0], survey.selection.band, survey.band_names[-1]
    yield ("brighter", "fainter"), main, mags[main]
    for a, b in dict.fromkeys([(first, main), (main, last)]):
        if a != b:
            yield ("bluer", "redder"), f"{a} - {b}", mags[a] - mags[b]
    yield ("nearer", "farther"), "redshift", table["redshift_p50"].to_numpy().astype(float)
