"""Galaxies of known redshift for benchmarks/photoz.py: fluxes, redshifts and filter curves of three samples.

    zcosmos     zCOSMOS-bright (Lilly et al. 2009) with COSMOS photometry: zcosmos_half.parquet, filters/
    dc2         simulated LSST galaxies (DC2, as pz-rail-base has them): dc2_training.parquet, filters/
    cosmos2020  galaxies of COSMOS2020 CLASSIC (Weaver et al. 2022) that LePHARE's examples have:
                COSMOS_first100specz.fits; the curves are those of popcat's survey cosmos2020
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.forward.filters import read_filter
from popcat.units import ab_mag_err_to_nmgy, ab_mag_to_nmgy, nmgy_per

FILES = {"zcosmos": "zcosmos_half.parquet", "dc2": "dc2_training.parquet", "cosmos2020": "COSMOS_first100specz.fits"}
UJY_PER_NMGY = 1.0 / nmgy_per("uJy")
ERG_PER_UJY = 1e-29
NOT_DETECTED = 99.0
ZCOSMOS = {"FUV": "FUV_galex", "NUV": "NUV_galex", "u": "u_megacam", "B": "B_subaru", "g": "g_subaru", "V": "V_subaru",
           "r": "r_subaru", "i": "i_subaru", "z": "z_subaru", "J": "J_wfcam", "K": "Ks_wircam"}  # fmt: skip
COSMOS2020 = {
    "u": ("cosmos/u_new.pb", "cfht_megacam-u"), "ustar": ("cosmos/u_cfht.lowres", "cfht_megacam-ustar"),
    "g": ("hsc/gHSC.pb", "hsc2017-g"), "r": ("hsc/rHSC.pb", "hsc2017-r2"), "i": ("hsc/iHSC.pb", "hsc2017-i2"),
    "z": ("hsc/zHSC.pb", "hsc2017-z"), "hscy": ("hsc/yHSC.pb", "hsc2017-y"),
    **{f"uvista{band}": (f"vista/{band}.lowres", f"vista_vircam_{band}") for band in "YJH"},
    "Ks": ("vista/K.lowres", "vista_vircam_Ks"),
    **{f"IB{n}": (f"cosmos/IB{n}.lowres", f"suprime-IB{n}")
       for n in (427, 464, 484, 505, 527, 574, 624, 679, 709, 738, 767, 827)},
    **{f"ch{n}": (f"cosmos/irac_ch{n}.lowres", f"spitzer_irac_ch{n}") for n in (1, 2)},
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Galaxies with fluxes in uJy (n, b), NaN where not observed, known redshifts (n,), and the curves of the bands.

    floor : error, relative to the flux, that template codes add. z_max : the largest redshift that they try.
    magnitude, colour : bands of the magnitude and the colour in whose bins scores are given.
    """

    ids: np.ndarray
    redshift: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    filters: dict[str, str]
    floor: float
    z_max: float
    magnitude: str
    colour: tuple[str, str]

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the galaxies."""
        some = {name: getattr(self, name)[rows] for name in ("ids", "redshift", "flux", "flux_err")}
        return Sample(**(vars(self) | some))

    def curves(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Wavelength in Angstrom and photon response of each band."""
        return [read_filter(name) for name in self.filters.values()]

    def table(self, names: list[str]) -> pa.Table:
        """Columns of object_id and flux_<band>."""
        columns = {f"flux_{band}": self.flux[:, i] / UJY_PER_NMGY for i, band in enumerate(self.filters)}
        return pa.table({name: (columns | {"object_id": self.ids})[name] for name in names})

    @property
    def bins(self) -> dict[str, str]:
        """Expressions of the magnitude, the redshift and the colour."""
        blue, red = self.colour
        return {"magnitude": f"22.5 - 2.5 * log10(flux_{self.magnitude})", "redshift": "true_redshift",
                "colour": f"-2.5 * log10(flux_{blue} / flux_{red})"}  # fmt: skip


def zcosmos(folder: Path) -> Sample:
    """Secure redshifts (classes 3.x, 4.x, 9.5 and 2.5) of galaxies; broad-line nuclei (class 10 and more) left out."""
    frame = source(folder, "zcosmos")
    secure = frame["cc"].between(3, 5, inclusive="left") | frame["cc"].isin([9.5, 2.5])
    frame = frame[secure & (frame["z_spec"] > 0.01)].reset_index(drop=True)
    flux, flux_err = (UJY_PER_NMGY * frame[[f"{kind}_{band.lower()}" for band in ZCOSMOS]].to_numpy(float)
                      for kind in "fe")  # fmt: skip
    filters = {band: str(folder / "filters" / f"{curve}.res") for band, curve in ZCOSMOS.items()}
    return Sample(frame["id_zcosmos"].to_numpy(np.int64), frame["z_spec"].to_numpy(float), flux, flux_err, filters,
                  0.05, 3.0, "i", ("u", "r"))  # fmt: skip


def dc2(folder: Path) -> Sample:
    """All galaxies; one that is not detected in a band has a flux of 0, with the error of the limiting magnitude."""
    frame = source(folder, "dc2")
    mag, err = (frame[[f"mag_{kind}{band}_lsst" for band in "ugrizy"]].to_numpy(float) for kind in ("", "err_"))
    is_limit = mag == NOT_DETECTED
    flux = np.where(is_limit, 0.0, ab_mag_to_nmgy(mag))
    flux_err = np.where(is_limit, ab_mag_to_nmgy(err), ab_mag_err_to_nmgy(mag, err))
    filters = {band: str(folder / "filters" / f"DC2LSST_{band}.res") for band in "ugrizy"}
    return Sample(frame["id"].to_numpy(np.int64), frame["redshift"].to_numpy(float), UJY_PER_NMGY * flux,
                  UJY_PER_NMGY * flux_err, filters, 0.02, 3.0, "i", ("g", "i"))  # fmt: skip


def cosmos2020(folder: Path) -> Sample:
    """All galaxies; a negative error marks what is no measurement."""
    table = source(folder, "cosmos2020")
    flux, flux_err = (np.column_stack([np.array(table[f"{kind}_{name}"], float) for name, _ in COSMOS2020.values()])
                      / ERG_PER_UJY for kind in ("f", "ferr"))  # fmt: skip
    missing = ~(flux_err > 0)
    flux[missing] = flux_err[missing] = np.nan
    return Sample(np.array(table["id"]).astype(np.int64), np.array(table["zspec"], float), flux, flux_err,
                  {band: curve for band, (_, curve) in COSMOS2020.items()}, 0.03, 6.0, "i", ("g", "i"))  # fmt: skip


def source(folder: Path, name: str) -> pd.DataFrame:
    """The file of a sample as it is."""
    from astropy.table import Table

    path = folder / FILES[name]
    return pd.read_parquet(path) if path.suffix == ".parquet" else Table.read(path).to_pandas()


SAMPLES = {"zcosmos": zcosmos, "dc2": dc2, "cosmos2020": cosmos2020}
