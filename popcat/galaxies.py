"""Photometry of galaxies as arrays, and what everything above says of it: what is observed, chi2, flags, status."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat.survey import Survey
from popcat.units import LN_2PI, POGSON

FLAGS = {
    "missing_band": 1,
    "bad_error": 2,
    "missing_redshift": 4,
    "redshift_out_of_range": 8,
    "outside_training": 16,
    "high_chi2": 32,
    "negative_flux": 64,
    "no_photometry": 128,
    "unusual_noise": 256,
    "unusual_colours": 512,
    "quality_cut": 1024,
    "band_off": 2048,
    "correction_failed": 4096,
    "at_edge": 8192,
    "not_galaxy": 16384,
}
"""Bits of the column `flags`; `FLAG_MEANING` says what each means."""

FLAG_MEANING = {
    "missing_band": "a flux or its error is missing; the posterior is that of the other bands",
    "bad_error": "an error is zero, negative or infinite; its band is left out",
    "missing_redshift": "no redshift is given, or it is not usable; the redshift is inferred",
    "redshift_out_of_range": "the redshift is outside the survey's redshift_range; there is no posterior",
    "outside_training": "the magnitude in the survey's selection band is outside the range of the training galaxies; "
                        "the posterior may be wrong",
    "high_chi2": "no draw fits the photometry: wrong redshift, blend, AGN or bad errors. chi2_best is above what one "
                 "in a thousand of the posterior's own mock galaxies reaches with as many bands and draws, or, where "
                 "that was not measured, above what the chi2 law says",
    "negative_flux": "a measured flux is below zero; it is kept and used, which is harmless",
    "no_photometry": "no band is observed with a valid error; there is no posterior",
    "unusual_noise": "the errors are rare for galaxies of these magnitudes: tail probability below 1e-3 in the "
                     "training set; see worst_band",
    "unusual_colours": "the colours or the brightness are rare: tail probability below 1e-3 in the training set; see "
                       "worst_band",
    "quality_cut": "the row fails a condition of the survey's `quality`; its posterior is inferred nevertheless",
    "band_off": "one band, worst_band, disagrees with the others: given these its flux is rare in the training set "
                "(tail_band below 1e-3) or among the catalogue's own galaxies (tail_peers below 0.01)",
    "correction_failed": "importance sampling was asked for and failed (route failed); the draws are the uncorrected "
                         "ones",
    "at_edge": "many draws lie where the redshift range or the prior ends; the galaxy may be beyond it",
    "not_galaxy": "a star or a quasar is more probable than a galaxy, given the same photometry (p_star + p_qso above "
                  "0.5)",
}  # fmt: skip
"""What each flag means, for tables of the report and of the documentation."""

SUPPORT_TAIL = 1e-3
"""unusual_noise, unusual_colours, band_off: a galaxy of the training set is this rare."""

OWN_TAIL = 0.01
"""band_off: among the catalogue's own galaxies a galaxy is this rare."""

CHI2_TAIL = 1e-4
"""high_chi2 without limits from mocks: pure noise exceeds this chi2 with this probability, for as many degrees of
freedom as bands."""

CERTIFIED_ESS = 100.0
"""A posterior is certified with at least so many effective draws."""

CERTIFIED_MEANS = "draws are right given the galaxy model, prior and data; not that these are right"
"""What a certificate says and what not: a wrong redshift, or a wrong unit, is certified like a right one."""

UNCERTIFIED = ("high_chi2", "outside_training", "unusual_noise", "unusual_colours", "band_off", "not_galaxy")
"""Flags with which no posterior is certified: the model, or the survey's noise, is not this galaxy's."""

NOT_CLEAN = (*UNCERTIFIED, "correction_failed", "at_edge")
"""Flags of posteriors that the usual clean sample leaves out."""

CHECK_FLAGS = sum(FLAGS[name] for name in NOT_CLEAN)
"""Bits of the flags NOT_CLEAN: checks that a galaxy or its posterior failed."""

CLEAN = f"status == 'ok' and flags & {CHECK_FLAGS} == 0"
"""Condition of the usual clean sample: there is a posterior, and no check failed (flags NOT_CLEAN).

For `where` of a catalogue and the filter of the report: `catalog.to_pandas(where=popcat.CLEAN)`. The column `clean` is
the same, for SQL and other readers: `select ... where clean`. Catalogues of earlier versions lack the column.
"""

ROUTES = {
    "flow": "not corrected", "flow+is": "importance sampling", "smc": "tempered particles",
    "failed": "not to be corrected within the compute limit; draws of the flow",
}  # fmt: skip
"""Column `route`: how the draws were made."""


def chi2_limit(n_bands: np.ndarray) -> np.ndarray:
    """chi2 that pure noise exceeds with probability CHI2_TAIL: even the best of all models would not fit.

    >>> chi2_limit(np.array([1, 5])).round(2).tolist()
    [15.14, 25.74]
    """
    from scipy.special import chdtri

    return chdtri(n_bands, CHI2_TAIL)


MIN_BANDS = 3
"""With fewer bands it cannot be said which of them disagrees."""

STATUS = ("ok", "no_photometry", "redshift_out_of_range")
"""Column `status`: "ok" where there is a posterior, else the first reason, in this order, why there is none."""


MIN_REDSHIFT_ERR = 1e-6
"""A redshift with a smaller error is taken as exact."""


OBJECT_NAME = "object_name"
"""Column of the identifiers of a catalogue in which they are text."""


def id_of_name(name: str) -> int:
    """The object_id of a galaxy whose identifier is text: the first 63 bits of the SHA-256 of the text.

    So random numbers, which are functions of object_id, do not depend on the rows around a galaxy. Among a million
    names two have the same number with a probability of 5e-8; such a catalogue is refused.

    >>> id_of_name("J0001+0002"), id_of_name(" J0001+0002 ") == id_of_name("J0001+0002")
    (7993081189352331336, True)
    """
    return int.from_bytes(hashlib.sha256(name.strip().encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Observation:
    """Photometry of n galaxies as arrays.

    flux, flux_err : (n, n_band) in nMgy, NaN in bands that are not observed. redshift : (n,), NaN where it is unknown.
    redshift_err : (n,), its Gaussian error, NaN where it is exact. object_id : (n,) integers.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    redshift: np.ndarray
    redshift_err: np.ndarray
    object_id: np.ndarray

    def __getitem__(self, rows) -> "Observation":
        return Observation(*(values[rows] for values in vars(self).values()))

    def __len__(self) -> int:
        return len(self.object_id)

    @property
    def is_free(self) -> np.ndarray:
        """Whether the redshift is drawn, because it is unknown or has an error, (n,) bool."""
        return np.isnan(self.redshift) | (self.redshift_err > MIN_REDSHIFT_ERR)


def observation(frame: pd.DataFrame, survey: Survey) -> Observation:
    """The arrays of a photometry frame."""
    names = ("redshift", "redshift_err", "object_id")
    return Observation(_bands(frame, "flux", survey), _bands(frame, "flux_err", survey),
                       *(frame[name].to_numpy() for name in names))  # fmt: skip


def _bands(frame, column, survey) -> np.ndarray:
    return np.column_stack([frame[f"{column}_{band}"].to_numpy(dtype=np.float64) for band in survey.band_names])


def observed(flux: np.ndarray, err: np.ndarray) -> np.ndarray:
    """Whether a band is observed and so used: its flux is finite, its error finite and positive. Any shape."""
    return np.isfinite(flux) & np.isfinite(err) & (err > 0)


def status_of(flags: np.ndarray) -> np.ndarray:
    """Column `status`: "ok", or the first reason in `popcat.columns.STATUS` why there is no posterior; (n,) str.

    >>> [str(status) for status in status_of([0, 16, 1 + 128, 8 + 128])]
    ['ok', 'ok', 'no_photometry', 'no_photometry']
    """
    flags = np.asarray(flags)
    status = np.full(flags.shape, "ok", dtype=f"U{max(map(len, STATUS))}")
    for reason in reversed(STATUS[1:]):
        status[(flags & FLAGS[reason]) != 0] = reason
    return status


def flag_counts(flags: np.ndarray) -> dict[str, int]:
    """Rows with each of the FLAGS.

    >>> flag_counts([0, 1, 1 + 4])["missing_band"]
    2
    """
    flags = np.asarray(flags)
    return {name: int(np.count_nonzero(flags & bit)) for name, bit in FLAGS.items()}


def has_posterior(flags: np.ndarray) -> np.ndarray:
    """Whether the status is "ok": bool (n,).

    >>> has_posterior([0, 1 + 4, 128]).tolist()
    [True, True, False]
    """
    return (np.asarray(flags) & sum(FLAGS[reason] for reason in STATUS[1:])) == 0


def is_clean(flags: np.ndarray) -> np.ndarray:
    """Column `clean`, what `CLEAN` asks for: bool (n,).

    >>> is_clean([0, 1 + 4, 32, 128]).tolist()
    [True, True, False, False]
    """
    return has_posterior(flags) & ((np.asarray(flags) & CHECK_FLAGS) == 0)


def chi2_of(model_flux: np.ndarray, data: Observation, err: np.ndarray | None = None) -> np.ndarray:
    """chi2 (n, k) of model fluxes (n, k, n_band) in nMgy against photometry, over the bands that are observed.

    err : (n, 1, n_band) or (n, k, n_band), by default the catalogue's.
    """
    seen, err = observed(data.flux, data.flux_err), data.flux_err[:, None] if err is None else err
    with np.errstate(over="ignore"):  # an absurdly small error is an infinite chi2
        away = model_flux - np.where(seen, data.flux, 0.0)[:, None]
        return np.sum(np.where(seen[:, None], away / np.where(seen[:, None], err, 1.0), 0.0) ** 2, axis=2)


def log_norm(data: Observation, err: np.ndarray) -> np.ndarray:
    """sum ln err + n / 2 ln 2 pi over the observed bands, (n, 1) or (n, k) as `err` is: -ln L of a perfect fit."""
    seen = observed(data.flux, data.flux_err)[:, None]
    return np.sum(np.log(np.where(seen, err, 1.0)) + 0.5 * LN_2PI * seen, axis=2)


def from_asinh_mag(mag: np.ndarray, softening: np.ndarray) -> np.ndarray:
    """Flux in nMgy of an asinh magnitude: the inverse of `asinh_mag`.

    >>> float(from_asinh_mag(np.array(17.5), np.array(0.01)).round(4))
    100.0
    """
    return 2.0 * softening * np.sinh((22.5 - mag) / POGSON - np.log(softening))


def asinh_mag(flux: np.ndarray, softening: np.ndarray) -> np.ndarray:
    """Asinh magnitude of a flux in nMgy for a softening in nMgy.

    >>> float(asinh_mag(np.array(100.0), np.array(0.01)).round(6))
    17.5
    """
    return 22.5 - POGSON * (np.arcsinh(flux / (2.0 * softening)) + np.log(softening))
