"""What the flows are conditioned on: asinh magnitudes, log errors, redshift, distance modulus; any band may be missing.

The asinh magnitude (Lupton, Gunn & Szalay 1999), mu = 22.5 - 2.5 / ln 10 [asinh(f / 2b) + ln b], is a magnitude for
bright fluxes, linear for faint and negative ones; b, the softening, is of the order of the survey's error.

A missing band is replaced by its best linear prediction from what is observed, and a bit says so: the network sees
values like those it was trained on, and nothing is invented, as the prediction is a function of the rest.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from popcat.catalog.photometry import observed
from popcat.settings import Survey
from popcat.sps.cosmology import cosmology_table

_POGSON = 2.5 / np.log(10.0)
# Of the variance, added where variables are predicted from others: exactly collinear ones stay invertible.
_RIDGE = 1e-6
_MAX_PATTERNS = 4096


def asinh_mag(flux: np.ndarray, softening: np.ndarray) -> np.ndarray:
    """Asinh magnitude of a flux in nMgy for a softening in nMgy.

    >>> float(asinh_mag(np.array(100.0), np.array(0.01)).round(6))
    17.5
    """
    return 22.5 - _POGSON * (np.arcsinh(flux / (2.0 * softening)) + np.log(softening))


@dataclass(frozen=True)
class Features:
    """Photometry to whitened features and one bit a band that says whether it is missing.

    Bands are strongly correlated; whitening gives colours the same weight as magnitudes.

    softening : (n_band,) nMgy. mean : (n_raw,). covariance : (n_raw, n_raw) of a training set with every band.
    has_redshift : whether redshift and distance modulus are among the features.
    """

    softening: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    cosmology: str
    has_redshift: bool = True

    @property
    def n_features(self) -> int:
        """Number of features: those of `raw_features`, and a bit a band."""
        return len(self.mean) + len(self.softening)

    def __call__(self, flux: np.ndarray, flux_err: np.ndarray, redshift: np.ndarray | None = None) -> np.ndarray:
        """Features (n, n_features) float32 of fluxes and errors (n, n_band) in nMgy, NaN where not observed, and of
        redshift (n,), which is left out if the features have none.
        """
        seen = observed(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float))
        raw = raw_features(
            np.where(seen, flux, np.nan), np.where(seen, flux_err, np.nan), self.softening,
            redshift if self.has_redshift else None, self.cosmology,
        )  # fmt: skip
        deviation = np.where(np.isnan(raw), 0.0, raw - self.mean)
        white = np.empty(raw.shape, dtype=np.float32)
        patterns, which = np.unique(seen, axis=0, return_inverse=True)
        order = np.argsort(which, kind="stable")
        counts = np.bincount(which, minlength=len(patterns))
        for pattern, stop, count in zip(patterns, np.cumsum(counts), counts, strict=True):
            rows = order[stop - count : stop]
            white[rows] = deviation[rows] @ self._transform(pattern)
        return np.column_stack([white, (~seen).astype(np.float32)])

    def _transform(self, bands: np.ndarray) -> np.ndarray:
        """Matrix (n_raw, n_raw) from deviations, zero where missing, to whitened features: fill in, then whiten."""
        key = bands.tobytes()
        if key not in self._cache:
            if len(self._cache) >= _MAX_PATTERNS:
                self._cache.clear()
            self._cache[key] = self._fill(bands) @ self._whiten
        return self._cache[key]

    def _fill(self, bands: np.ndarray) -> np.ndarray:
        """d @ fill is d with every missing entry replaced by its linear prediction from the others."""
        others = np.ones(len(self.mean) - 2 * len(bands), dtype=bool)
        seen = np.concatenate([bands, bands, others])
        fill = np.diag(seen.astype(float))
        if seen.any() and not seen.all():
            within = self.covariance[np.ix_(seen, seen)]
            within = within + _RIDGE * np.diag(np.diag(within) + 1e-12)
            fill[np.ix_(seen, ~seen)] = np.linalg.solve(within, self.covariance[np.ix_(seen, ~seen)])
        return fill

    @cached_property
    def _whiten(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors / np.sqrt(np.maximum(values, 1e-8))

    @cached_property
    def _cache(self) -> dict:
        return {}

    def to_dict(self) -> dict:
        """As JSON can hold it; `Features.from_dict` is the inverse."""
        arrays = {name: getattr(self, name).tolist() for name in ("softening", "mean", "covariance")}
        return {**arrays, "cosmology": self.cosmology, "has_redshift": self.has_redshift}

    @classmethod
    def from_dict(cls, stored: dict) -> "Features":
        arrays = {name: np.array(stored[name], dtype=float) for name in ("softening", "mean", "covariance")}
        return cls(**arrays, cosmology=str(stored["cosmology"]), has_redshift=bool(stored["has_redshift"]))


def n_features(survey: Survey, *, has_redshift: bool = True) -> int:
    """Number of features of a survey: a magnitude, an error and a bit a band; redshift and distance modulus."""
    return 3 * len(survey.bands) + 2 * has_redshift


def raw_features(flux, flux_err, softening, redshift=None, cosmology: str = "Planck13") -> np.ndarray:
    """asinh magnitudes, log10 errors and, if a redshift is given, redshift and distance modulus: (n, n_raw) float64."""
    flux, flux_err = np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float)
    columns = [asinh_mag(flux, softening), np.log10(flux_err)]
    if redshift is not None:
        columns += [redshift, cosmology_table(cosmology).distance_modulus(redshift)]
    return np.column_stack(columns)


def fit_features(flux, flux_err, redshift, cosmology: str) -> Features:
    """Softening (the 5th percentile of each band's error), mean and covariance of a training set with every band.

    redshift is (n,), or None for features without it.
    """
    softening = np.quantile(flux_err, 0.05, axis=0)
    raw = raw_features(flux, flux_err, softening, redshift, cosmology)
    return Features(softening, raw.mean(axis=0), np.cov(raw.T), cosmology, redshift is not None)
