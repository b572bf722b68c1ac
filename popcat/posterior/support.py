"""Is a galaxy like those the model was trained on? Tail probabilities of its noise, its colours and each of its bands.

A Gaussian mixture describes the inputs of the training set: magnitudes, log errors and redshift. A mixture can be
marginalised and conditioned in closed form, so any band and the redshift may be missing. Three questions are asked:

- noise: p(log errors | magnitudes), small where the errors are far from the survey's locus;
- colours: p(magnitudes, redshift), small where no model has such colours or such a brightness;
- bands: p(magnitude | the other magnitudes, redshift) of each band, small where one band is off.

Each answer becomes a tail probability by its rank among those of a reference sample with the same bands, so it is
calibrated however well the mixture fits: of galaxies from the training set, a fraction p has a score below p.

How probable is each band, given the others? Under a Gaussian mixture the answer is in closed form.

Of a Gaussian with precision P = C^-1 and deviation e = x - mean, coordinate b given the others has the standard score

    t_b = (P e)_b / sqrt(P_bb)

so ln p(x) = ln p(x_b | others) + ln p(others) gives each component's weight given the others, and the probability below
x_b is the mean of Phi(t_b) with these weights.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from scipy.special import logsumexp, ndtr

from popcat.errors import PopcatError
from popcat.galaxies import MIN_BANDS, asinh_mag, from_asinh_mag, observed
from popcat.units import LN_2PI

N_COMPONENTS, N_FIT, N_REFERENCE = 32, 60_000, 5000
_CODES, _FINEST = 2**16 - 1, 16
_MAX_PATTERNS = 2048


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

    def log_density(self, flux, flux_err, redshift) -> np.ndarray:
        """ln p of all that is observed of each galaxy, (n,): magnitudes, errors and redshift; 0 of nothing."""
        x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), redshift, self.softening)
        found = np.zeros(len(x))
        patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            rows = np.flatnonzero(which == i)
            if pattern.any():
                found[rows] = self._log_density(x[rows], list(np.flatnonzero(pattern)))
        return found

    def fainter(self, flux, flux_err, redshift) -> np.ndarray:
        """Probability (n, n_band) that a band is brighter than observed, given the others and the redshift; NaN where
        it is not observed. Near 1: the band is fainter than its others say.
        """
        x = _inputs(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float), redshift, self.softening)
        found = np.full((len(x), len(self.softening)), np.nan)
        patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            rows = np.flatnonzero(which == i)
            found[rows] = self._given_others(x[rows], pattern, below)
        return found

    def reference_photometry(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fluxes and errors (m, n_band) in nMgy and redshifts (m,) of the reference sample: training galaxies."""
        n_band, x = len(self.softening), self.reference.astype(float)
        flux = from_asinh_mag(x[:, :n_band], self.softening)
        return flux, 10.0 ** x[:, n_band : 2 * n_band], x[:, -1]

    def _least_band(self, x, pattern):
        """`least` of the probabilities of each observed band given the others and, where it is seen, the redshift."""
        return least(self._given_others(x, pattern, two_sided))

    def _given_others(self, x, pattern, side):
        """A probability of each observed band given the others and the redshift, (n, n_band), by `side`."""
        n_band = len(self.softening)
        columns = [j for j in np.flatnonzero(pattern) if j < n_band or j == 2 * n_band]
        probability = np.full((len(x), n_band), np.nan)
        if columns:
            precision = np.linalg.inv(self.covariances[:, columns][:, :, columns])[:, None]
            found = side(x[:, columns] - self.means[:, None, columns], precision, np.log(self.weights))
            bands = [j for j in columns if j < n_band]
            probability[:, bands] = found[:, : len(bands)]
        return probability

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
            norm = np.log(np.diag(lower)).sum() + 0.5 * len(columns) * LN_2PI
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
    reference = x[len(x) - n_reference :]
    step = _steps(reference, _CODES - 1)
    # as coarse as a file holds them, so that it loses nothing
    mean, covariance = (values.astype(np.float32).astype(float) for values in (
        centre + scale * mixture.means_, mixture.covariances_ * scale[:, None] * scale))  # fmt: skip
    return Support(np.asarray(softening, dtype=float), mixture.weights_, mean, covariance,
                   (np.rint(reference / step) * step).astype(np.float32))  # fmt: skip


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


_BATCH = 4096


def two_sided(deviation: np.ndarray, precision: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Probability (n, d) of a value further out, on either side, than each coordinate given all others of its row.

    deviation : (k, n, d) from the mean of each of k components. precision : (k, n, d, d), or (k, 1, d, d) if rows
    share it. log_weight : (k,).

    >>> at = np.array([[[0.0, 0.0], [0.0, 1.96]]])
    >>> two_sided(at, np.eye(2)[None, None], np.zeros(1)).round(3).tolist()
    [[1.0, 1.0], [1.0, 0.05]]
    """
    return np.minimum(2.0 * np.minimum(*_sides(deviation, precision, log_weight)), 1.0)


def below(deviation: np.ndarray, precision: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Probability (n, d) of a smaller value than each coordinate given all others; arguments as of `two_sided`.

    >>> below(np.array([[[0.0, 1.96]]]), np.eye(2)[None, None], np.zeros(1)).round(3).tolist()
    [[0.5, 0.975]]
    """
    return _sides(deviation, precision, log_weight)[0]


def _sides(deviation, precision, log_weight) -> np.ndarray:
    """Probabilities (2, n, d) of a smaller and of a larger value."""
    n = deviation.shape[1]
    parts = [slice(start, start + _BATCH) for start in range(0, n, _BATCH)] or [slice(0, 0)]
    is_shared = precision.shape[1] == 1
    found = [_some_sides(deviation[:, part], precision if is_shared else precision[:, part], log_weight)
             for part in parts]  # fmt: skip
    return np.concatenate(found, axis=1)


def _some_sides(deviation, precision, log_weight) -> np.ndarray:
    pull = (precision @ deviation[..., None])[..., 0]
    own = np.diagonal(precision, axis1=2, axis2=3)
    score = pull / np.sqrt(own)
    log_all = 0.5 * (np.linalg.slogdet(precision)[1] - np.sum(pull * deviation, axis=2)) + log_weight[:, None]
    log_others = log_all[:, :, None] + 0.5 * (score**2 - np.log(own))
    share = np.exp(log_others - logsumexp(log_others, axis=0))
    return np.stack([np.sum(share * ndtr(score), axis=0), np.sum(share * ndtr(-score), axis=0)])


def least(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest of a row's probabilities (n, d), NaN aside, times their number, and where it is: each (n,).

    The product, Bonferroni's, is the probability of one so small among so many; NaN and -1 with fewer than MIN_BANDS.

    >>> least(np.array([[0.5, 0.01, 0.2], [0.5, np.nan, 0.2]]))
    (array([0.03,  nan]), array([ 1, -1]))
    """
    seen = ~np.isnan(probability)
    enough = seen.sum(axis=1) >= MIN_BANDS
    found = np.where(seen, probability, np.inf)
    smallest = np.minimum(found.min(axis=1) * seen.sum(axis=1), 1.0)
    return np.where(enough, smallest, np.nan), np.where(enough, found.argmin(axis=1), -1)


def _steps(x: np.ndarray, n: int = _CODES) -> np.ndarray:
    """Of each column a power of two that is at least a part in n of its range, (d,): 2^-16 or more."""
    with np.errstate(divide="ignore"):
        return 2.0 ** -np.minimum(np.floor(np.log2(n / np.ptp(x.astype(float), axis=0))), _FINEST)


def support_to_bytes(support: Support) -> bytes:
    """A support as a safetensors file: whole numbers of steps, and single precision, where that loses nothing."""
    stored = {name: np.asarray(getattr(support, name)) for name in Support.names}
    for name in ("means", "covariances"):
        single = stored[name].astype(np.float32)
        stored[name] = single if (single == stored[name]).all() else stored[name]
    reference = stored["reference"].astype(float)
    if len(reference):
        step, low = _steps(reference), reference.min(axis=0)
        codes = np.rint((reference - low) / step)
        if (low + step * codes == reference).all():
            stored |= {"reference": codes.astype(np.uint16), "reference_low": low, "reference_step": step}
    return safetensors.numpy.save({name: np.ascontiguousarray(values) for name, values in stored.items()})


def support_from_file(path: Path) -> Support:
    """A support that `support_to_bytes` stored; PopcatError if the file holds none."""
    try:
        stored = safetensors.numpy.load_file(str(path))
        if "reference_step" in stored:
            low, step = stored.pop("reference_low"), stored.pop("reference_step")
            stored["reference"] = (low + step * stored["reference"]).astype(np.float32)
        return Support(**stored | {name: stored[name].astype(float) for name in ("means", "covariances")})
    except (OSError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no support that popcat stored: {error}") from error
