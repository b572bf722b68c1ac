"""What a catalogue holds, as a survey file says: `check_survey`, `fit_noise`; a first such file: `draft_survey`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic, write_json_atomic
from popcat.forward.filters import load_curves
from popcat.forward.noise import Noise, noise_counts, noise_from_counts
from popcat.galaxies import FLAGS, observed
from popcat.io.chunks import Field, field_of
from popcat.io.named import Source
from popcat.io.photometry import catalog_columns, to_photometry
from popcat.io.reading import check_catalog, read_catalog, spelled_unit
from popcat.io.sources import plan_chunks, read_chunk, read_fields
from popcat.run.frames import Frame, sum_of
from popcat.survey import Survey, load_survey
from popcat.units import nmgy_to_ab_mag

_ROWS = 50_000
_LOG_SN = np.linspace(-3.0, 6.0, 1801)
_MAGS = np.linspace(0.0, 50.0, 2001)

_KEYS = {
    "object_id": ("object_id", "objectid", "objid", "id", "cataid", "nsaid", "targetid", "uberid", "source_id"),
    "ra": ("ra", "coord_ra", "ra_deg", "raj2000", "racen", "target_ra", "ramean"),
    "dec": ("dec", "coord_dec", "dec_deg", "decl", "dej2000", "deccen", "target_dec", "decmean"),
    "redshift": ("redshift", "z", "zspec", "z_spec", "specz", "z_best", "zbest", "zphot", "z_phot", "z_phot_median"),
}
_ERROR = re.compile(r"_?(?:flux_?)?(ivar|error|err|sigma|unc)_?", re.I)
_FLUX = re.compile(r"flux|mag(?!e)|nmgy|jy$", re.I)
_FILTERS = {band: f"sdss2010-{band}" for band in "ugriz"} | {
    "y": "lsst2023-y", "J": "twomass-J", "H": "twomass-H", "K": "twomass-Ks", "Ks": "twomass-Ks",
    "W1": "wise2010-W1", "W2": "wise2010-W2", "FUV": "galex-fuv", "NUV": "galex-nuv",
}  # fmt: skip
_VECTORS = {5: tuple("ugriz"), 7: ("FUV", "NUV", *"ugriz")}


@dataclass(frozen=True)
class BandInspection:
    """What one band of a catalogue holds.

    `stated` is the unit that the file gives the column, None where it gives none. Medians are over observed values, to
    half a percent in S/N and 0.025 AB magnitudes; None of no value.
    """

    band: str
    column: str
    unit: str
    stated: str | None
    observed: int
    negative: int
    median_sn: float | None
    median_mag: float | None


@dataclass(frozen=True, repr=False)
class Inspection(Displayed):
    """What a catalogue holds, read as a survey file says: rows, rows with each flag, bands."""

    survey: str
    rows: int
    flags: dict[str, int]
    bands: tuple[BandInspection, ...]

    def _title(self) -> str:
        return f"{self.rows:,} rows as survey {self.survey}"

    def _facts(self) -> dict[str, object]:
        head = f"{'unit':10s} {'stated':14s} {'observed':>10s} {'negative':>9s} {'S/N':>8s} {'AB mag':>7s}"
        rows: dict[str, object] = {"band": head}
        for one in self.bands:
            sn, mag = ("-" if value is None else f"{value:.4g}" for value in (one.median_sn, one.median_mag))
            rows[one.band] = (f"{one.unit:10s} {one.stated or 'not stated':14s} {one.observed:10,d} "
                              f"{one.negative:9,d} {sn:>8s} {mag:>7s}")  # fmt: skip
        return rows | {f"flag {name}": f"{n:,} rows" for name, n in self.flags.items() if n}


def check_survey(source: Source, survey: "str | Path | Survey" = "sdss") -> Inspection:
    """What each band of a catalogue holds, read as a survey says, and how many rows each flag has.

    The catalogue is read once, a part at a time.

    Raises PopcatError if the catalogue does not fit the survey.

    >>> found = check_survey("galaxies.parquet", "sdss")
    >>> found.rows, found.bands[2].band, found.bands[2].observed
    (40, 'r', 40)
    """
    survey = load_survey(survey)
    chunks = plan_chunks(source, rows_per_partition=_ROWS, columns=catalog_columns(survey))
    check_catalog(source, survey, chunks)
    counts = _Counts(survey)
    for chunk in chunks:
        counts.add(to_photometry(read_chunk(chunk, catalog_columns(survey)), survey))
    fields = read_fields(chunks[0])
    stated = {band.name: field_of(fields, band.flux).unit for band in survey.bands}
    return Inspection(survey.name, counts.rows, counts.flags, tuple(counts.bands(stated)))


def fit_noise(
    source: "Source | Frame", survey: "str | Path | Survey" = "sdss", *, output: str | Path | None = None
) -> Noise:
    """The noise of a survey, from the errors of its catalogue: flux error and its scatter against flux, per band.

    `source` is a catalogue on disk or the lazy frame of `read_catalog`; the result does not depend on its partitions.
    With `output`, a JSON file, the noise is written there.

    Raises PopcatError where a band has too few galaxies.

    >>> from importlib.resources import files
    >>> fit_noise(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss").n_galaxies
    10000
    """
    survey = load_survey(survey)
    load_curves(survey)  # an unknown filter is said now, not when the library is simulated
    frame = read_catalog(source, survey) if isinstance(source, str | Path | Sequence) else source
    found = noise_from_counts(sum_of(frame, noise_counts, survey), survey)
    if output is not None:
        write_json_atomic(output, found.model_dump(mode="json"))
    return found


class _Counts:
    """Sums and histograms over the parts of a photometry frame."""

    def __init__(self, survey: Survey):
        self.survey, self.rows, self.flags = survey, 0, dict.fromkeys(FLAGS, 0)
        self.of_band = {name: {"observed": 0, "negative": 0} for name in survey.band_names}
        self.sn = {name: np.zeros(len(_LOG_SN) - 1, dtype=np.int64) for name in survey.band_names}
        self.mag = {name: np.zeros(len(_MAGS) - 1, dtype=np.int64) for name in survey.band_names}

    def add(self, frame):
        self.rows += len(frame)
        for name, bit in FLAGS.items():
            self.flags[name] += int(np.count_nonzero(frame["flags"] & bit))
        for band in self.survey.band_names:
            flux, err = (frame[f"{kind}_{band}"].to_numpy(dtype=float) for kind in ("flux", "flux_err"))
            seen = observed(flux, err)
            self.of_band[band]["observed"] += int(seen.sum())
            self.of_band[band]["negative"] += int((flux[seen] < 0).sum())
            with np.errstate(divide="ignore"):
                log_sn = np.log10(np.maximum(flux[seen], 0.0) / err[seen])
            self.sn[band] += np.histogram(np.clip(log_sn, _LOG_SN[0], _LOG_SN[-1]), _LOG_SN)[0]
            self.mag[band] += np.histogram(nmgy_to_ab_mag(flux[seen & (flux > 0)]), _MAGS)[0]

    def bands(self, stated: dict[str, str | None]) -> list[BandInspection]:
        return [BandInspection(
            band.name, band.flux, self.survey.unit_of(band), stated[band.name], **self.of_band[band.name],
            median_sn=_median(self.sn[band.name], _LOG_SN, power=True), median_mag=_median(self.mag[band.name], _MAGS),
        ) for band in self.survey.bands]  # fmt: skip


def _median(counts, edges, *, power: bool = False) -> float | None:
    """Middle of the bin that holds the median; None of nothing."""
    if not counts.sum():
        return None
    bin_ = int(np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2))
    middle = 0.5 * (edges[bin_] + edges[bin_ + 1])
    return round(float(10.0**middle if power else middle), 3)


def draft_survey(source: str | Path, *, output: str | Path | None = None, name: str = "my_survey") -> str:
    """The text of a survey file, with comments, for a catalogue: names and units from its header, guesses marked CHECK.

    With `output` it is written to that file, which must not exist.

    Raises PopcatError if the file is unreadable or no column looks like a flux with its error.

    >>> print(draft_survey("galaxies.parquet", name="mine").splitlines()[2])
    name = "mine"
    """
    if output is not None and Path(output).exists():
        raise PopcatError(f"{output} is there already: name another file")
    text = _draft(source, name)
    if output is not None:
        write_bytes_atomic(output, text.encode())
    return text


def _draft(path: str | Path, name: str) -> str:
    fields = read_fields(plan_chunks(path, rows_per_partition=_ROWS)[0])
    bands = list(_bands(fields))
    if not bands:
        raise PopcatError(f"{path}: no pair of columns looks like a flux and its error, such as flux_r and flux_err_r; "
                          f"write the survey file by hand. Columns: {', '.join(list(fields)[:40])}")
    names = [band["name"] for band in bands]
    units = [band["unit"] for band in bands if band["unit"]]
    unit = max(set(units), key=units.count) if units else None
    keys = "\n".join(_key_line(key, choices, fields) for key, choices in _KEYS.items())
    listing = "\n".join(f"#   {column:28s} {field.kind}{f', {field.unit}' if field.unit else ''}"
                        for column, field in fields.items())
    return _TEMPLATE.format(
        name=name, file=Path(path).name, unit=unit or "nMgy", unit_source="stated by the file" if unit else "CHECK",
        keys=keys, reference="r" if "r" in names else names[0], listing=listing,
        bands="\n".join(_band_text(band, unit or "nMgy", fields) for band in bands),
    )


def _key_line(key: str, choices: tuple[str, ...], fields: dict[str, Field]) -> str:
    by_lower = {column.lower(): column for column in fields}
    found = next((by_lower[choice] for choice in choices if choice in by_lower), None)
    if found is not None:
        return f'{key} = "{found}"'
    return f'{key} = ""  # none found' if key in ("ra", "dec") else f'{key} = "{key}"  # CHECK: no column found'


def _bands(fields: dict[str, Field]) -> Iterator[dict]:
    """Pairs of a flux and its error; vector columns give a band an element."""
    errors = {_bare(_ERROR.sub("", column)): column for column in fields if _ERROR.search(column)}
    used = set()
    for column, field in fields.items():
        error = _error_of(column, errors)
        if _ERROR.search(column) or not _FLUX.search(column) or error is None or fields[error].kind != field.kind:
            continue
        for flux, err, name in _elements(column, error, field):
            if name not in used:
                used.add(name)
                yield _band(name, flux, err, field)


def _error_of(column: str, errors: dict[str, str]) -> str | None:
    return errors.get(_bare(column)) or errors.get(_bare(re.sub("flux", "", column, flags=re.I)))


def _bare(column: str) -> str:
    return column.replace("_", "").lower()


def _elements(column: str, error: str, field: Field) -> Iterator[tuple[str, str, str]]:
    if field.element is None:
        yield column, error, _band_name(column)
        return
    length = int(match[1]) if (match := re.search(r"of (\d+)$", field.kind)) else 0
    for index, name in enumerate(_VECTORS.get(length, [f"b{index}" for index in range(length)])):
        yield f"{column}[{index}]", f"{error}[{index}]", name


def _band_name(column: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+|(?=[A-Z][a-z])", column) if word]
    known = {band.lower(): band for band in _FILTERS} | {band: band for band in _FILTERS}
    named = [known.get(word) or known.get(word.lower()) for word in reversed(words)]
    found = next((name for name in named if name), None)
    return found or re.sub(r"[^A-Za-z0-9]", "", column)


def _band(name: str, flux: str, err: str, field: Field) -> dict:
    kind = "flux_ivar" if "ivar" in err.lower() else "flux_err"
    unit = spelled_unit(field.unit or "")
    filter_, check = (_FILTERS[name], "") if name in _FILTERS else ("CHECK", "a name of speclite or a text file")
    return {"name": name, "filter": filter_, "check": check or "CHECK that it is the survey's own",
            "flux": flux, "kind": kind, "err": err, "unit": unit or ("ab_mag" if "mag" in flux.lower() else None)}


def _band_text(band: dict, unit: str, fields: dict[str, Field]) -> str:
    wanted = {f"{word}_{band['name']}".lower() for word in ("extinction", "a")}
    extinction = next((column for column in fields if column.lower() in wanted), None)
    own = f'unit = "{band["unit"]}"\n' if band["unit"] not in (None, unit) else ""
    dust = f'extinction = "{extinction}"  # CHECK that it is in magnitudes and not removed yet\n' if extinction else ""
    return _BAND.format(**band) + own + dust


_TEMPLATE = """\
# A survey file for {file}, written by `popcat survey draft`. Look at every line marked CHECK, then run
#   popcat survey check {file} --survey THIS_FILE
name = "{name}"
description = ""
unit = "{unit}"  # {unit_source}: nMgy, nJy, uJy, mJy, Jy, ab_mag or asinh_mag (which needs `softening` in every band)
redshift_range = [0.001, 1.0]  # CHECK: what a model is trained for
# Conditions on columns. Rows that fail are flagged, not dropped: quality = ["sdss_clean(flags)", "NQ >= 3"]
quality = []
# Numbers that stand for "not observed": missing_values = [-99.0, -999.0]
missing_values = []

# A column is a name, one element of a vector ("NMGY[2]"), or an expression ("RELEASE << 42 | BRICKID << 22 | OBJID").
[columns]
{keys}
# redshift_err = ""

# Magnitudes (AB, extinction removed) of the galaxies that a model is trained on.
[selection]
band = "{reference}"
bright_mag = 8.0  # CHECK
faint_mag = 22.0  # CHECK

# In each band, where they apply:
#   extinction = "EXTINCTION_r"    column in magnitudes; or E(B-V) with extinction_factor = 2.751; leave out if removed
#   ab_offset_mag = 0.0            added to the survey's magnitudes to reach AB
#   error_floor = 0.02             fraction of the flux, added in quadrature
#   softening = 1.2e-10            b of asinh magnitudes

{bands}
# Columns of the file:
{listing}
"""

_BAND = """\
[[bands]]
name = "{name}"
filter = "{filter}"  # {check}
flux = "{flux}"
{kind} = "{err}"
error_floor = 0.02
"""
