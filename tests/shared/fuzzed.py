"""Catalogues made at random, with what is true of each, and the files that hold them.

A `Made` catalogue has the numbers that popcat must find, in nMgy; a `Form` says how files tell them: format, unit,
type of number, names and order of columns, marks of what is missing, order of rows, split over files.
"""

import string
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from popcat.survey import Band, Columns, Selection, Survey

BANDS = {"u": "sdss2010-u", "g": "sdss2010-g", "r": "sdss2010-r", "i": "sdss2010-i"}
NMGY_PER = {"nMgy": 1.0, "uJy": 1 / 3.631, "nJy": 1e-3 / 3.631, "mJy": 1e3 / 3.631, "Jy": 1e6 / 3.631}
UNITS = (*NMGY_PER, "ab_mag")
STATED = {"nMgy": "nanomaggy", "uJy": "uJy", "nJy": "nJy", "mJy": "mJy", "Jy": "Jy", "ab_mag": "mag"}
MARKS = (None, -999.0, -99.99, 1e30, -9.9e9)
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".fits", ".fits.gz", ".ecsv", ".vot", ".txt")
FOLDERS = (".parquet", ".csv", ".fits")
"""Formats of which several files make a folder."""


@dataclass(frozen=True)
class Made:
    """What is true of n galaxies: numbers (n,), or (n, n_band) in the order of `bands`; NaN where nothing is known."""

    bands: tuple[str, ...]
    object_id: list[int] | list[str]
    ra: np.ndarray
    dec: np.ndarray
    redshift: np.ndarray
    redshift_err: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    extinction: np.ndarray
    """All NaN in a band without one."""

    def __len__(self) -> int:
        return len(self.object_id)

    def __getitem__(self, rows) -> "Made":
        arrays = {name: getattr(self, name)[rows] for name in
                  ("ra", "dec", "redshift", "redshift_err", "flux", "flux_err", "extinction")}  # fmt: skip
        return replace(self, object_id=[self.object_id[row] for row in rows], **arrays)

    def expected(self, form: "Form") -> dict[str, np.ndarray]:
        """Columns of the photometry frame; the error of a magnitude says nothing without the magnitude."""
        found = {"ra": self.ra, "dec": self.dec, "redshift": self.redshift, "redshift_err": self.redshift_err}
        bright = 10.0 ** (0.4 * np.nan_to_num(self.extinction))
        for i, band in enumerate(self.bands):
            found[f"flux_{band}"] = (self.flux * bright)[:, i]
            known = np.where(np.isnan(self.flux), np.nan, 1.0) if form.unit == "ab_mag" else 1.0
            found[f"flux_err_{band}"] = (self.flux_err * bright * known)[:, i]
        return found


@dataclass(frozen=True)
class Form:
    """How files hold a catalogue."""

    suffix: str
    unit: str
    single: bool
    inverse_variance: bool
    mark: float | None
    """The number that stands for what is missing; None: a null, or NaN."""
    states_unit: bool
    names: dict[str, str]
    """Of the file's columns, by what they hold: "object_id", "ra", "flux g", ..."""
    order: tuple[str, ...]
    extra: tuple[str, ...]
    """Other columns, by their kinds."""
    cuts: tuple[int, ...]
    """Rows at which a new file begins."""


@st.composite
def catalogues(draw, max_rows: int = 30, text_ids: bool | None = None) -> Made:
    """Galaxies of plausible brightness, each number of which may be missing."""
    n = draw(st.integers(1, max_rows))
    bands = tuple(draw(st.permutations(list(BANDS)))[: draw(st.integers(1, len(BANDS)))])
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    holes = draw(st.sampled_from((0.0, 0.1, 0.6)))
    text = draw(st.booleans()) if text_ids is None else text_ids
    names = st.text(string.ascii_letters + string.digits + "+-._ /é", min_size=1, max_size=20).map(
        lambda name: f"J{name.strip()}"
    )
    ids = draw(st.lists(names if text else st.integers(-(2**63) + 1, 2**63 - 1), min_size=n, max_size=n, unique=True))
    flux = 10.0 ** random.uniform(0.0, 3.0, (n, len(bands)))
    err = flux * 10.0 ** random.uniform(-2.5, 0.3, flux.shape)
    extinction = np.full(flux.shape, np.nan)
    for i in range(len(bands)):
        if draw(st.booleans()):
            extinction[:, i] = random.uniform(0.0, 1.0, n)
    has_err = draw(st.booleans())

    def holed(values):
        return np.where(random.uniform(size=values.shape) < holes, np.nan, values)

    redshift = holed(random.uniform(0.02, 0.4, n))
    redshift_err = holed(random.uniform(1e-4, 1e-2, n)) if has_err else np.full(n, np.nan)
    return Made(bands, ids, random.uniform(0, 360, n), random.uniform(-90, 90, n), redshift,
                np.where(np.isnan(redshift), np.nan, redshift_err), holed(flux), holed(err), extinction)  # fmt: skip


_PLAIN = st.text(string.ascii_letters, min_size=1, max_size=6)
_ODD = st.text(string.ascii_letters + string.digits + " -+*/().[]µé%#@!$^&<>=:;~?|{}", min_size=1, max_size=12).filter(
    lambda name: name.strip() == name
)


@st.composite
def forms(draw, made: Made, suffixes=SUFFIXES) -> Form:
    """One way to write a catalogue."""
    if not all(str(name).isascii() for name in made.object_id):  # FITS knows no other letters
        suffixes = [suffix for suffix in suffixes if ".fits" not in suffix]
    suffix = draw(st.sampled_from(suffixes))
    roles = ["object_id", "ra", "dec", "redshift"]
    roles += ["redshift_err"] if np.isfinite(made.redshift_err).any() else []
    for i, band in enumerate(made.bands):
        roles += [f"flux {band}", f"flux_err {band}"]
        roles += [f"extinction {band}"] if np.isfinite(made.extinction[:, i]).any() else []
    extra = tuple(draw(st.lists(st.sampled_from(("text", "bool", "date", "int")), max_size=3)))
    kind = _PLAIN if suffix in (".vot", ".txt") or draw(st.booleans()) else _ODD
    kind = kind.filter(str.isascii) if ".fits" in suffix else kind
    n_names = len(roles) + len(extra)
    names = draw(st.lists(kind, min_size=n_names, max_size=n_names, unique_by=str.lower))
    order = [*roles, *(f"extra {i}" for i in range(len(extra)))]
    n_cuts = draw(st.integers(0, 3)) if suffix in FOLDERS else 0
    unit = draw(st.sampled_from(UNITS))
    return Form(
        suffix=suffix, unit=unit, single=draw(st.booleans()),
        inverse_variance=unit != "ab_mag" and draw(st.booleans()), mark=draw(st.sampled_from(MARKS)),
        states_unit=draw(st.booleans()), names=dict(zip(order, names, strict=True)),
        order=tuple(draw(st.permutations(order))), extra=extra,
        cuts=tuple(sorted(draw(st.sets(st.integers(1, max(len(made) - 1, 1)), max_size=n_cuts)))),
    )  # fmt: skip


def survey_of_form(made: Made, form: Form) -> Survey:
    """The survey file that a user would write for a catalogue in a form."""
    named = form.names.get
    bands = tuple(
        Band(name=band, filter=BANDS[band], flux=named(f"flux {band}"), extinction=named(f"extinction {band}"),
             **{"flux_ivar" if form.inverse_variance else "flux_err": named(f"flux_err {band}")})
        for band in made.bands
    )  # fmt: skip
    columns = {role: named(role) for role in ("object_id", "ra", "dec", "redshift", "redshift_err")}
    return Survey(
        name="made", unit=form.unit, redshift_range=(0.005, 0.6), columns=Columns(**columns), bands=bands,
        missing_values=() if form.mark is None else (form.mark,),
        selection=Selection(band=made.bands[0], bright_mag=5.0, faint_mag=30.0),
    )  # fmt: skip


def raw_columns(made: Made, form: Form) -> dict[str, np.ndarray | list]:
    """What a file's columns hold, by role."""
    found: dict = {"object_id": made.object_id}
    found |= {name: getattr(made, name) for name in ("ra", "dec", "redshift", "redshift_err")}
    for i, band in enumerate(made.bands):
        found[f"flux {band}"], found[f"flux_err {band}"] = _in_unit(made.flux[:, i], made.flux_err[:, i], form)
        found[f"extinction {band}"] = made.extinction[:, i]
    for role, values in found.items():
        if role != "object_id":
            values = values if form.mark is None else np.where(np.isnan(values), form.mark, values)
            found[role] = values.astype("f4") if form.single and role not in ("ra", "dec") else values
    kinds = {"text": "a,b", "bool": True, "date": np.datetime64("2026-01-01"), "int": 7}
    for i, kind in enumerate(form.extra):
        found[f"extra {i}"] = [kinds[kind]] * len(made)
    return {role: found[role] for role in form.order}


def _in_unit(flux, err, form: Form):
    if form.unit == "ab_mag":
        return 22.5 - 2.5 * np.log10(flux), 2.5 / np.log(10.0) * err / flux
    flux, err = flux / NMGY_PER[form.unit], err / NMGY_PER[form.unit]
    return flux, err**-2.0 if form.inverse_variance else err


def write(made: Made, form: Form, folder: Path) -> Path:
    """The catalogue's file, or its folder of files."""
    edges = [0, *(cut for cut in form.cuts if cut < len(made)), len(made)]
    if len(edges) == 2:
        path = folder / f"cat{form.suffix}"
        write_table(made, form, path)
        return path
    for i, (start, stop) in enumerate(pairwise(edges)):
        write_table(made[range(start, stop)], form, folder / f"cat{i}{form.suffix}")
    return folder


def write_table(made: Made, form: Form, path: Path) -> None:
    """One file."""
    columns = {form.names[role]: values for role, values in raw_columns(made, form).items()}
    units = _units(made, form) if form.states_unit else {}
    frame = pd.DataFrame(columns)
    if form.suffix == ".parquet":
        table = pa.Table.from_pandas(frame, preserve_index=False)
        fields = [field.with_metadata({"unit": units[field.name]}) if field.name in units else field
                  for field in table.schema]  # fmt: skip
        pq.write_table(table.cast(pa.schema(fields)), path, row_group_size=7)
    elif form.suffix in (".csv", ".csv.gz"):
        frame.to_csv(path, index=False)
    elif form.suffix == ".txt":  # columns parted by blanks
        frame.to_csv(path, index=False, sep=" ", na_rep="nan")
    else:
        _write_astropy(frame, units, path)


def _units(made: Made, form: Form) -> dict[str, str]:
    found = {}
    for band in made.bands:
        stated = STATED[form.unit]
        found[form.names[f"flux {band}"]] = stated
        found[form.names[f"flux_err {band}"]] = f"1/{stated}2" if form.inverse_variance else stated
    return found


def _write_astropy(frame: pd.DataFrame, units: dict[str, str], path: Path) -> None:
    from astropy.table import Table

    table = Table({name: _plain(frame[name]) for name in frame.columns})
    for name, unit in units.items():
        table[name].unit = unit if "nanomaggy" not in unit else None  # astropy writes it for itself alone
    # TABLEDATA would be written by C of astropy 8.0 that may overrun its buffer
    formats = {".ecsv": {"format": "ascii.ecsv"}, ".vot": {"format": "votable", "tabledata_format": "binary2"}}
    with warnings.catch_warnings():  # of names that other programs may not read
        warnings.simplefilter("ignore")
        table.write(path, **formats.get(path.suffix, {}))


def _plain(values: pd.Series) -> np.ndarray:
    if values.dtype.kind == "M":
        return values.dt.strftime("%Y-%m-%d").to_numpy(dtype="U10")
    return values.to_numpy() if values.dtype.kind in "iufb" else values.to_numpy(dtype=object).astype("U")
