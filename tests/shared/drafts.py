"""Small catalogues as FITS files, and the survey files that are drafted for them."""

import numpy as np
from astropy.io import fits
from astropy.table import Table

from popcat.io.drafting import draft_survey
from popcat.survey import load_survey

N = 40
RNG = np.random.default_rng(5)
FLUX, MAG = RNG.uniform(5, 90, N), RNG.uniform(17, 21.5, N)
REDSHIFT = RNG.uniform(0.05, 0.62, N)
TYPICAL = np.sort(FLUX)[N // 2]
KEYS = {"id": np.arange(N), "ra": RNG.uniform(0, 360, N), "dec": RNG.uniform(-90, 90, N)}


def pairs(names, errors, kind="flux"):
    """Columns of values and errors; a name has {} for each of the bands after the colon: "MAG_{}: g r"."""
    columns = {}
    for name, error in zip(names, errors, strict=True):
        form, _, bands = name.partition(": ")
        for band in bands.split() or [""]:
            values = FLUX if kind == "flux" else MAG
            columns[form.format(band)] = values.copy()
            columns[error.format(band)] = 0.05 * values if kind == "flux" else np.full(N, 0.05)
    return columns


def fluxes(*names_and_errors):
    return pairs(names_and_errors[::2], names_and_errors[1::2])


def mags(*names_and_errors):
    return pairs(names_and_errors[::2], names_and_errors[1::2], "magnitude")


def draft(folder, columns, *, keys=KEYS, units=(), header=()):
    """The text of a draft for a FITS file of these columns, and the survey that it is."""
    path = folder / "catalog.fits"
    Table({**keys, **columns}).write(path, overwrite=True)
    with fits.open(path, mode="update") as hdus:
        for column, unit in dict(units).items():
            hdus[1].columns[column].unit = unit
        hdus[1].header.update(dict(header))
    text = draft_survey(path, name="mine")
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return text, load_survey(folder / "mine.toml")


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))
