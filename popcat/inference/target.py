"""The exact likelihood of galaxies, and their importance weights as a function of a flow's own random numbers.

    ln L = -chi2 / 2 - sum ln err - n / 2 ln 2 pi

over the n observed bands, with the errors as fitted (floor included). The flow's map takes standard normal numbers x to
draws of q, so the posterior in x is N(x; 0, 1) w(x), with w = p(photometry, theta, z) / q(theta, z | photometry). A
redshift that is not given exactly has a number of its own, the last.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from popcat.catalog.photometry import observed
from popcat.inference.posterior import MIN_REDSHIFT_ERR, Draws, Posterior
from popcat.inference.trust import chi2_of

_LN_2PI = float(np.log(2.0 * np.pi))
# Uniform numbers stay this far from 0 and 1, as those of popcat.rng do.
_EDGE = 2.0**-53


@dataclass(frozen=True)
class Target:
    """Photometry of n galaxies, the posterior they are seen through, and the forward model they are compared with.

    forward : theta (m, n_parameter), redshift (m,) -> fluxes (m, n_band) in nMgy. flux, flux_err : (n, n_band) nMgy,
    NaN where not observed. redshift : (n,), NaN where unknown. redshift_err : (n,), NaN where it is exact or unknown.
    """

    posterior: Posterior
    forward: Callable
    flux: np.ndarray
    flux_err: np.ndarray
    redshift: np.ndarray
    redshift_err: np.ndarray

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows) -> "Target":
        parts = (values[rows] for values in (self.flux, self.flux_err, self.redshift, self.redshift_err))
        return Target(self.posterior, self.forward, *parts)

    @property
    def is_free(self) -> np.ndarray:
        """Whether the redshift is drawn, (n,)."""
        return np.isnan(self.redshift) | (self.redshift_err > MIN_REDSHIFT_ERR)

    @property
    def n_numbers(self) -> int:
        """Numbers behind a draw: the free parameters (the SFH weights add up to 1), and a free redshift's."""
        return len(self.posterior.prior.names) - 1 + bool(self.is_free.any())

    def weigh(self, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """ln of the importance weights, and chi2 over the observed bands, each (n, k)."""
        n, k, _ = draws.theta.shape
        flux = self.forward(draws.theta.reshape(n * k, -1), draws.redshift.ravel()).reshape(n, k, -1)
        chi2 = chi2_of(flux, self.flux, self.flux_err)
        return -0.5 * chi2 + self._log_norm()[:, None] + draws.log_prior - draws.log_q, chi2

    def sample(self, object_id: np.ndarray, n_draws: int, seed: int) -> Draws:
        """Draws of the flow."""
        return self.posterior.sample(self.flux, self.flux_err, self.redshift, object_id, n_draws, seed,
                                     redshift_err=self.redshift_err)  # fmt: skip

    def transform(self, x: np.ndarray) -> Draws:
        """The draws that numbers x (n, k, n_numbers) make; all galaxies must have free redshifts, or none."""
        uniforms = np.clip(ndtr(x[:, :, -1]), _EDGE, 1.0 - _EDGE)
        normals = x[:, :, : len(self.posterior.prior.names) - 1]
        return self.posterior.transform(self.flux, self.flux_err, self.redshift, normals, uniforms,
                                        redshift_err=self.redshift_err)  # fmt: skip

    def _log_norm(self) -> np.ndarray:
        """ln L of a perfect fit, (n,)."""
        seen = observed(self.flux, self.flux_err)
        return -np.sum(np.log(np.where(seen, self.flux_err, 1.0)) + 0.5 * _LN_2PI * seen, axis=1)
