"""Derive the embedded sample of real galaxies: popcat/data/galaxies_sdss.parquet.

Run ``python popcat/data/derive/galaxies.py FITS -o popcat/data/galaxies_sdss.parquet`` with astropy and pyarrow, where
FITS is ``data/test/gst_tests_small.fits`` of kcorrect 5.1.9 (left out: the one of the installed kcorrect).

The file holds 10,000 SDSS galaxies with 2MASS and, for some, GALEX photometry. Each row is kept, in the file's order,
and no value is changed but for NaN where nothing was measured:

* SDSS (nMgy, SDSS zero points, Galactic extinction NOT removed): error = ivar^-1/2, NaN where ivar <= 0. A flux
  below zero is a measurement, and stays.
* 2MASS (Vega mag, extended-source total): magnitude and error are NaN where either is 0. A magnitude of 0 is an empty
  row; an error of 0 (715 rows in H) means that none is given, and J - H is bluer there: no measurement to use.
* GALEX (counts/s of SExtractor's AUTO aperture; AB zero point 20.08 mag in NUV, 18.82 mag in FUV): flux and error are
  NaN where the error is 0 (not observed) or -99 (not detected).

kcorrect's own example treats the same values as missing and takes the same zero points.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SDSS_BANDS = ("u", "g", "r", "i", "z")
TWOMASS_BANDS = {"j": "J", "h": "H", "ks": "K"}
GALEX_ZERO_POINTS = {"nuv": 20.08, "fuv": 18.82}
ROW_GROUP = 2_500


def kcorrect_file():
    """The FITS file of the installed kcorrect, or None. (find_spec: importing kcorrect is not needed.)"""
    spec = find_spec("kcorrect")
    return Path(spec.origin).parent / "data/test/gst_tests_small.fits" if spec else None


def read_fits(path):
    """Column name -> array in native byte order, of the first table extension."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        table = hdus[1].data
        return {name: np.array(table[name], dtype=table[name].dtype.newbyteorder("=")) for name in table.names}


def masked(values, measured):
    """float32 values, NaN where not measured."""
    return np.where(measured, values, np.nan).astype(np.float32)


def sky_columns(raw):
    """Identity, position and redshift: name -> (values, unit, description)."""
    return {
        "object_id": (np.arange(len(raw["RA"]), dtype=np.int64), "1", "row in kcorrect's gst_tests_small.fits, from 0"),
        "ra": (raw["RA"], "deg", "right ascension, J2000"),
        "dec": (raw["DEC"], "deg", "declination, J2000"),
        "redshift": (raw["Z"].astype(np.float64), "1", "spectroscopic redshift (SDSS), float32 in the source"),
    }


def sdss_columns(raw):
    """Model fluxes, their errors and extinctions: name -> (values, unit, description)."""
    ivar = raw["MODELFLUX_IVAR"].astype(np.float64)
    error = 1.0 / np.sqrt(np.where(ivar > 0, ivar, np.nan))
    columns = {}
    for i, band in enumerate(SDSS_BANDS):
        flux = raw["MODELFLUX"][:, i]
        columns[f"modelflux_{band}"] = (flux, "nMgy", f"SDSS {band} model flux, Galactic extinction not removed")
    for i, band in enumerate(SDSS_BANDS):
        columns[f"modelflux_err_{band}"] = (error[:, i].astype(np.float32), "nMgy", f"error of modelflux_{band}")
    for i, band in enumerate(SDSS_BANDS):
        columns[f"extinction_{band}"] = (raw["EXTINCTION"][:, i], "mag", f"Galactic extinction in SDSS {band} (SFD98)")
    return columns


def twomass_columns(raw):
    """Total magnitudes and errors: name -> (values, unit, description)."""
    columns = {}
    for band, name in TWOMASS_BANDS.items():
        mag, err = raw[f"{name}_M_EXT"], raw[f"{name}_MSIG_EXT"]
        measured = (mag != 0) & (err > 0)
        column = f"twomass_{band}_vega_mag"
        text = f"2MASS {name} total magnitude of the extended source, Vega, Galactic extinction not removed"
        columns[column] = (masked(mag, measured), "mag", text)
        columns[f"{column}_err"] = (masked(err, measured), "mag", f"error of {column}")
    return columns


def galex_columns(raw):
    """AUTO fluxes and errors: name -> (values, unit, description)."""
    columns = {}
    for band, zero_point in GALEX_ZERO_POINTS.items():
        flux, err = raw[f"{band.upper()}_FLUX_AUTO"], raw[f"{band.upper()}_FLUXERR_AUTO"]
        column = f"galex_{band}_flux"
        text = f"GALEX {band.upper()} AUTO flux, AB zero point {zero_point} mag, Galactic extinction not removed"
        columns[column] = (masked(flux, err > 0), "count/s", text)
        columns[f"{column}_err"] = (masked(err, err > 0), "count/s", f"error of {column}")
    return columns


def make_table(raw):
    """The Arrow table, with unit and description in the metadata of each field."""
    columns = sky_columns(raw) | sdss_columns(raw) | twomass_columns(raw) | galex_columns(raw)
    arrays = [pa.array(values) for values, _, _ in columns.values()]
    fields = [
        pa.field(name, array.type, nullable=False, metadata={"unit": unit, "description": description})
        for (name, (_, unit, description)), array in zip(columns.items(), arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def summary(table):
    """Lines that say how much was measured."""
    errors = np.array([table[f"modelflux_err_{band}"].to_numpy() for band in SDSS_BANDS])
    redshift = table["redshift"].to_numpy()
    yield f"{table.num_rows} rows; {(~(errors > 0)).any(axis=0).sum()} without an error in some SDSS band"
    yield f"{(table['modelflux_u'].to_numpy() <= 0).sum()} u fluxes <= 0"
    yield f"redshift {redshift.min():.4f} to {redshift.max():.4f}, median {np.median(redshift):.4f}"
    for name in table.column_names:
        if name.startswith(("twomass", "galex")) and not name.endswith("_err"):
            yield f"{name}: {np.isfinite(table[name].to_numpy()).sum()} measured"


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Derive popcat's embedded sample of SDSS galaxies.")
    parser.add_argument("fits", nargs="?", type=Path, default=kcorrect_file(), help="kcorrect's gst_tests_small.fits")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the Parquet file to write")
    options = parser.parse_args(arguments)
    if options.fits is None or not options.fits.is_file():
        parser.error(f"expected kcorrect's gst_tests_small.fits, found no {options.fits}: name it, or install kcorrect")
    table = make_table(read_fits(options.fits))
    pq.write_table(table, options.output, compression="zstd", compression_level=9, row_group_size=ROW_GROUP)
    print("\n".join(summary(table)))


if __name__ == "__main__":
    sys.exit(main())
