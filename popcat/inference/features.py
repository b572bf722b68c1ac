"""What the flow is conditioned on: asinh magnitudes, log errors, redshift, distance modulus, whitened.

The asinh magnitude (Lupton, Gunn & Szalay 1999), mu = 22.5 - 2.5 / ln 10 [asinh(f / 2b) + ln b], is a magnitude for
bright fluxes, linear for faint and negative ones; b, the softening, is of the order of the survey's error.
"""

from dataclasses import dataclass

import numpy as np

from popcat.settings import Survey
from popcat.sps.cosmology import cosmology_table

_POGSON = 2.5 / np.log(10.0)


def asinh_mag(flux: np.ndarray, softening: np.ndarray) -> np.ndarray:
    """Asinh magnitude of a flux in nMgy for a softening in nMgy.

    >>> float(asinh_mag(np.array(100.0), np.array(0.01)).round(6))
    17.5
    """
    return 22.5 - _POGSON * (np.arcsinh(flux / (2.0 * softening)) + np.log(softening))


@dataclass(frozen=True)
class Features:
    """Photometry to whitened features: (x - mean) @ whiten, with unit covariance over the training set.

    Bands are strongly correlated; whitening gives colours the same weight as magnitudes.

    softening : (n_band,) nMgy. mean : (n_feature,). whiten : (n_feature, n_feature).
    """

    softening: np.ndarray
    mean: np.ndarray
    whiten: np.ndarray
    cosmology: str

    def __call__(self, flux: np.ndarray, flux_err: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Features (n, 2 n_band + 2) float32 of fluxes and errors (n, n_band) in nMgy and redshift (n,)."""
        raw = raw_features(flux, flux_err, redshift, self.softening, self.cosmology)
        return ((raw - self.mean) @ self.whiten).astype(np.float32)

    def to_dict(self) -> dict:
        """As JSON can hold it; `Features.from_dict` is the inverse."""
        arrays = {name: getattr(self, name).tolist() for name in ("softening", "mean", "whiten")}
        return {**arrays, "cosmology": self.cosmology}

    @classmethod
    def from_dict(cls, stored: dict) -> "Features":
        arrays = {name: np.array(stored[name], dtype=float) for name in ("softening", "mean", "whiten")}
        return cls(**arrays, cosmology=str(stored["cosmology"]))


def n_features(survey: Survey) -> int:
    """Number of features of a survey: a magnitude and an error a band, redshift, distance modulus."""
    return 2 * len(survey.bands) + 2


def raw_features(flux, flux_err, redshift, softening, cosmology: str) -> np.ndarray:
    """asinh magnitudes, log10 errors, redshift, distance modulus: (n, 2 n_band + 2) float64."""
    flux, flux_err = np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float)
    modulus = cosmology_table(cosmology).distance_modulus(redshift)
    return np.column_stack([asinh_mag(flux, softening), np.log10(flux_err), redshift, modulus])


def fit_features(flux, flux_err, redshift, cosmology: str) -> Features:
    """Softening (the 5th percentile of each band's error), mean and whitening of a training set."""
    softening = np.quantile(flux_err, 0.05, axis=0)
    raw = raw_features(flux, flux_err, redshift, softening, cosmology)
    values, vectors = np.linalg.eigh(np.cov(raw.T))
    return Features(softening, raw.mean(axis=0), vectors / np.sqrt(np.maximum(values, 1e-8)), cosmology)
