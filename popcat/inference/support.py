"""Is a galaxy like those the model was trained on? Tail probabilities of its noise, its colours and each of its bands.

A Gaussian mixture describes the inputs of the training set: magnitudes, log errors and redshift. A mixture can be
marginalised and conditioned in closed form, so any band and the redshift may be missing. Three questions are asked:

- noise: p(log errors | magnitudes), small where the errors are far from the survey's locus;
- colours: p(magnitudes, redshift), small where no model has such colours or such a brightness;
- bands: p(magnitude | the other magnitudes, redshift) of each band, small where one band is off.

Each answer becomes a tail probability by its rank among those of a reference sample with the same bands, so it is
calibrated however well the mixture fits: of galaxies from the training set, a fraction p has a score below p.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from popcat.catalog.photometry import observed
from popcat.inference.features import asinh_mag
from popcat.inference.leave_one_out import least, two_sided

N_COMPONENTS, N_FIT, N_REFERENCE = 32, 60_000, 5000
_MAX_PATTERNS = 2048
_LN_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Support:
    """The mixture and the reference sample, in columns magnitudes, log10 errors, redshift.

    softening : (n_band,). weights : (k,). means : (k, d). covariances : (k, d, d). reference : (m, d) float32.
    """

    softening: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    reference: np.ndarray

    names = ("softening", "weights", "means", "covariances", "reference")

    def tails(self, flux, flux_err, redshift) -> tuple[np.ndarray, np.ndarray]:
        """Tail probabilities of noise and colours, each (n,), for photometry (n, n_band) and redshift (n,), NaN where
        missing; NaN for a galaxy without any band.
        """
        x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), redshift, self.softening)
        seen = ~np.isnan(x)
        noise, colours = np.full(len(x), np.nan), np.full(len(x), np.nan)
        patterns, which = np.unique(seen, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            rows = np.flatnonzero(which == i)
            if pattern[: len(self.softening)].any():
                noise[rows], colours[rows] = self._pattern_tails(x[rows], pattern)
        return noise, colours

    def unusual_noise(self, flux, flux_err) -> np.ndarray:
        """Band whose error is least expected given its own magnitude, as its index (n,); -1 without any band."""
        n_band = len(self.softening)
        x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), np.full(len(flux), np.nan),
                    self.softening)  # fmt: skip
        score = np.full((len(x), n_band), np.inf)
        for b in range(n_band):
            seen = np.flatnonzero(~np.isnan(x[:, b]))
            both, alone = self._log_density(x[seen], [b, n_band + b]), self._log_density(x[seen], [b])
            score[seen, b] = both - alone
        return np.where(np.isfinite(score).any(axis=1), np.argmin(score, axis=1), -1)

    def band_tails(self, flux, flux_err, redshift) -> tuple[np.ndarray, np.ndarray]:
        """Tail probability of the band that its others expect least, and its index, each (n,).

        NaN and -1 with fewer than three bands, of which none could be named.
        """
        x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), redshift, self.softening)
        patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
        tail, band = np.full(len(x), np.nan), np.full(len(x), -1)
        for i, pattern in enumerate(patterns):
            rows = np.flatnonzero(which == i)
            score, band[rows] = self._least_band(x[rows], pattern)
            key = (b"band", pattern.tobytes())
            known = self._remember(key, lambda p=pattern: np.sort(self._least_band(self.reference.astype(float), p)[0]))
            tail[rows] = np.where(np.isnan(score), np.nan, _rank(score, known))
        return tail, band

    def _least_band(self, x, pattern):
        """`least` of the probabilities of each observed band given the others and, where it is seen, the redshift."""
        n_band = len(self.softening)
        columns = [j for j in np.flatnonzero(pattern) if j < n_band or j == 2 * n_band]
        probability = np.full((len(x), n_band), np.nan)
        if columns:
            precision = np.linalg.inv(self.covariances[:, columns][:, :, columns])[:, None]
            found = two_sided(x[:, columns] - self.means[:, None, columns], precision, np.log(self.weights))
            bands = [j for j in columns if j < n_band]
            probability[:, bands] = found[:, : len(bands)]
        return least(probability)

    def _remember(self, key, make):
        """What belongs to a pattern of bands, made once."""
        if key not in self._cache:
            if len(self._cache) >= _MAX_PATTERNS:
                self._cache.clear()
            self._cache[key] = make()
        return self._cache[key]

    def _pattern_tails(self, x, pattern):
        """Ranks among the reference seen through the same pattern."""
        known = self._remember(
            pattern.tobytes(), lambda: [np.sort(score) for score in self._scores(self.reference.astype(float), pattern)]
        )
        return [_rank(values, sorted_) for sorted_, values in zip(known, self._scores(x, pattern), strict=True)]

    def _scores(self, x, pattern):
        """ln p(log errors | magnitudes) and ln p(magnitudes, redshift) over the observed columns."""
        n_band = len(self.softening)
        magnitudes = [j for j in np.flatnonzero(pattern) if j < n_band]
        errors = [j for j in np.flatnonzero(pattern) if n_band <= j < 2 * n_band]
        redshift = [j for j in np.flatnonzero(pattern) if j == 2 * n_band]
        alone = self._log_density(x, magnitudes)
        return self._log_density(x, magnitudes + errors) - alone, self._log_density(x, magnitudes + redshift)

    def _log_density(self, x, columns) -> np.ndarray:
        """ln of the mixture marginalised to some columns, (n,)."""
        parts = np.empty((len(self.weights), len(x)))
        for k, (weight, mean, covariance) in enumerate(zip(self.weights, self.means, self.covariances, strict=True)):
            lower = np.linalg.cholesky(covariance[np.ix_(columns, columns)])
            white = np.linalg.solve(lower, (x[:, columns] - mean[columns]).T)
            norm = np.log(np.diag(lower)).sum() + 0.5 * len(columns) * _LN_2PI
            parts[k] = np.log(weight) - norm - 0.5 * np.sum(white**2, axis=0)
        return np.logaddexp.reduce(parts, axis=0)

    @cached_property
    def _cache(self) -> dict:
        return {}


def _rank(values, known):
    """Share of sorted `known` that is not above each value, counting the value itself."""
    return (1.0 + np.searchsorted(known, values, side="right")) / (1.0 + len(known))


def fit_support(flux, flux_err, redshift, softening, *, seed: int = 0) -> Support:
    """The support of a training set in which every band is observed: (n, n_band) photometry and redshift (n,).

    The last rows are the reference; the mixture is fitted to others.
    """
    from sklearn.mixture import GaussianMixture

    x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), redshift, softening)
    n_reference = min(N_REFERENCE, len(x) // 4)
    fitted = x[: len(x) - n_reference][:N_FIT]
    centre, scale = fitted.mean(axis=0), fitted.std(axis=0) + 1e-9
    k = max(min(N_COMPONENTS, len(fitted) // 100), 1)
    mixture = GaussianMixture(k, reg_covar=1e-5, max_iter=60, tol=5e-3, init_params="k-means++", random_state=seed)
    _fit_quietly(mixture, (fitted - centre) / scale)
    return Support(
        np.asarray(softening, dtype=float), mixture.weights_, centre + scale * mixture.means_,
        mixture.covariances_ * scale[:, None] * scale, x[len(x) - n_reference :].astype(np.float32),
    )  # fmt: skip


def _fit_quietly(mixture, x):
    """A fit that stops at max_iter is as good: ranks calibrate the density whatever it is."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x)


def _inputs(flux, flux_err, redshift, softening) -> np.ndarray:
    """Magnitudes, log10 errors, redshift, (n, 2 n_band + 1); NaN where not observed."""
    seen = observed(flux, flux_err)
    err = np.where(seen, flux_err, np.nan)
    return np.column_stack([asinh_mag(np.where(seen, flux, np.nan), softening), np.log10(err), redshift])
