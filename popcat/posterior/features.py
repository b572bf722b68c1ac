"""What the flows are conditioned on: asinh magnitudes, log errors, redshift, distance modulus; any band may be missing.

The asinh magnitude (Lupton, Gunn & Szalay 1999), mu = 22.5 - 2.5 / ln 10 [asinh(f / 2b) + ln b], is a magnitude for
bright fluxes, linear for faint and negative ones; b, the softening, is of the order of the survey's error.

A missing band is replaced by its best linear prediction from what is observed, and a bit says so: the network sees
values like those it was trained on, and nothing is invented, as the prediction is a function of the rest.

Which bands of a training galaxy are hidden, so that one model serves any subset of a survey's bands.

q(redshift | photometry), and with a measured redshift of Gaussian error: drawn exactly, whatever the modes.

The network gives q(z | fluxes) under a prior uniform in the survey's range, linear between nodes. A redshift measured
with an error is independent information: q(z | fluxes, z_obs, sigma) is proportional to q(z | fluxes)
N(z_obs; z, sigma), so one network serves both, and no error is too small or too large for its training.
"""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from popcat.forward.cosmology import cosmology_table
from popcat.galaxies import asinh_mag, observed
from popcat.survey import Survey

# Of the variance, added where variables are predicted from others: exactly collinear ones stay invertible.
_RIDGE = 1e-6
_MAX_PATTERNS = 4096


@dataclass(frozen=True)
class Features:
    """Photometry to whitened features and one bit a band that says whether it is missing.

    Bands are strongly correlated; whitening gives colours the same weight as magnitudes.

    softening : (n_band,) nMgy. mean : (n_raw,). covariance : (n_raw, n_raw) of a training set with every band.
    has_redshift : whether redshift and distance modulus are among the features.
    has_prior : whether the last feature is the number of the prior in popcat.prior.PRIORS, for a posterior trained
    under several; `prior` : the number where none is given.
    """

    softening: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    cosmology: str
    has_redshift: bool = True
    has_prior: bool = False
    prior: float = 0.0

    @property
    def n_features(self) -> int:
        """Number of features: those of `raw_features`, a bit a band, and the prior if it is one."""
        return len(self.mean) + len(self.softening) + self.has_prior

    def __call__(
        self, flux: np.ndarray, flux_err: np.ndarray, redshift: np.ndarray | None = None,
        prior: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Features (n, n_features) float32 of fluxes and errors (n, n_band) in nMgy, NaN where not observed, and of
        redshift (n,) and number of the prior (n,), which are left out if the features have none.
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
        columns = [white, (~seen).astype(np.float32)]
        if self.has_prior:
            columns.append(np.full(len(white), self.prior, np.float32) if prior is None else prior.astype(np.float32))
        return np.column_stack(columns)

    def by_redshift(self, flux: np.ndarray, flux_err: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features as a function of the redshift, which they are linear in: (n, n_features) where redshift and distance
        modulus are at their means, and (n, 2, n_features) for each by which one of them is above it; float64.
        """
        seen = observed(np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float))
        slope = np.zeros((len(seen), 2, self.n_features))
        for pattern in np.unique(seen, axis=0):
            slope[np.all(seen == pattern, axis=1), :, : len(self.mean)] = self._transform(pattern)[-2:]
        return self(flux, flux_err, np.full(len(seen), self.mean[-2])) - self._away(self.mean[-2]) * slope[:, 1], slope

    def _away(self, redshift: float) -> float:
        """How far the distance modulus of a redshift is above the mean."""
        return float(cosmology_table(self.cosmology).distance_modulus(redshift) - self.mean[-1])

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
        flags = {"has_redshift": self.has_redshift, "has_prior": self.has_prior}
        return {**arrays, "cosmology": self.cosmology, **flags}

    @classmethod
    def from_dict(cls, stored: dict) -> "Features":
        arrays = {name: np.array(stored[name], dtype=float) for name in ("softening", "mean", "covariance")}
        softening, mean, covariance = arrays.values()
        return cls(softening, mean, covariance, str(stored["cosmology"]), bool(stored["has_redshift"]),
                   bool(stored.get("has_prior", False)))  # fmt: skip


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


def fit_features(flux, flux_err, redshift, cosmology: str, *, has_prior: bool = False) -> Features:
    """Softening (the 5th percentile of each band's error), mean and covariance of a training set with every band.

    redshift is (n,), or None for features without it. `has_prior`: with the number of the prior.
    """
    softening = np.quantile(flux_err, 0.05, axis=0)
    raw = raw_features(flux, flux_err, softening, redshift, cosmology)
    return Features(softening, raw.mean(axis=0), np.cov(raw.T), cosmology, redshift is not None, has_prior)


# A galaxy that misses bands misses each with a probability of its own, uniform up to the first number, and each
# instrument as a whole with the second: real catalogues lack a band here and there, or a whole survey.
_MAX_RATE, _INSTRUMENT_RATE = 0.8, 0.4


def instruments(survey: Survey) -> np.ndarray:
    """Number of each band's instrument, (n_band,): bands share one if their filters' names begin alike.

    >>> from popcat.survey import load_survey
    >>> instruments(load_survey("sdss")).tolist()
    [0, 0, 0, 0, 0]
    """
    groups = [band.filter.split("-")[0].split("_")[0] for band in survey.bands]
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups])


def random_masks(
    random: np.random.Generator, n: int, instrument: np.ndarray, complete_fraction: float
) -> np.ndarray:
    """Whether each band of n training galaxies is observed, (n, n_band) bool: at least one of each galaxy."""
    n_band, n_instrument = len(instrument), int(instrument.max()) + 1
    is_complete = random.uniform(size=n) < complete_fraction
    hidden = random.uniform(size=(n, n_band)) < random.uniform(0.0, _MAX_RATE, size=(n, 1))
    if n_instrument > 1:
        hidden |= (random.uniform(size=(n, n_instrument)) < _INSTRUMENT_RATE)[:, instrument]
    observed = ~hidden | is_complete[:, None]
    empty = np.flatnonzero(~observed.any(axis=1))
    observed[empty, random.integers(n_band, size=len(empty))] = True
    return observed


# Nodes on which q times the Gaussian is tabulated, over this many standard deviations to each side.
N_FINE, REACH = 512, 6.0


def draw_redshift(
    log_nodes: np.ndarray, bounds: tuple[float, float], z_obs: np.ndarray, sigma: np.ndarray, uniform: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts (n, k) and their log densities (n, k) for uniform numbers (n, k).

    log_nodes is (n, n_bins + 1): ln of the density in u = (z - low) / (high - low) at equidistant nodes. z_obs and
    sigma are (n,): NaN where no redshift was measured; the galaxy's z_obs must be within 6 sigma of the bounds.

    >>> unknown = np.array([np.nan])
    >>> z, log_q = draw_redshift(np.zeros((1, 3)), (0.0, 2.0), unknown, unknown, np.array([[0.5]]))
    >>> z.tolist(), np.exp(log_q).round(6).tolist()
    ([[1.0]], [[0.5]])
    """
    z, log_q = np.empty_like(uniform), np.empty_like(uniform)
    _draw(np.exp(log_nodes.astype(np.float64)), *bounds, z_obs, sigma, uniform, z, log_q)
    return z, log_q


@numba.njit(nogil=True, cache=True)
def _draw(density, low, high, z_obs, sigma, uniform, z, log_q):
    n_bins = density.shape[1] - 1
    width = (high - low) / n_bins
    value, below = np.empty(max(n_bins, N_FINE) + 1), np.empty(max(n_bins, N_FINE) + 1)
    for i in range(len(density)):
        if np.isnan(z_obs[i]):
            start, step, n = low, width, n_bins
            for j in range(n + 1):
                value[j] = density[i, j]
        else:
            start = max(low, z_obs[i] - REACH * sigma[i])
            stop = max(min(high, z_obs[i] + REACH * sigma[i]), start)
            n, step = N_FINE, (stop - start) / N_FINE
            for j in range(n + 1):
                at = start + j * step
                x = min(max((at - low) / width, 0.0), n_bins - 1e-9)
                k = int(x)
                q = density[i, k] + (x - k) * (density[i, k + 1] - density[i, k])
                value[j] = q * np.exp(-0.5 * ((at - z_obs[i]) / sigma[i]) ** 2)
        below[0] = 0.0
        for j in range(n):
            below[j + 1] = below[j] + 0.5 * step * (value[j] + value[j + 1])
        for m in range(uniform.shape[1]):
            z[i, m], log_q[i, m] = invert_density(value, below, n, start, step, uniform[i, m])


@numba.njit(nogil=True, cache=True)
def invert_density(value, below, n, start, step, u):
    """Where a piecewise linear density has this fraction of its mass below, and its logarithm there."""
    mass = u * below[n]
    j = min(max(np.searchsorted(below[: n + 1], mass, side="right") - 1, 0), n - 1)
    a, b = value[j], value[j + 1]
    rest = mass - below[j]
    # a x + (b - a) x^2 / (2 step) = rest, in the form that does not cancel
    root = np.sqrt(max(a * a + 2.0 * (b - a) * rest / step, 0.0)) if step > 0.0 else a
    x = min(2.0 * rest / (a + root), step) if a + root > 0.0 else 0.5 * step
    here = a + (b - a) * x / step if step > 0.0 else a
    return start + j * step + x, np.log(max(here, 1e-300)) - np.log(max(below[n], 1e-300))
