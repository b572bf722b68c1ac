"""Draws of a posterior on the CPU, on one thread, in numpy and numba's kernels; torch for what is not fused."""

import numpy as np
import torch

from popcat import rng
from popcat.flows.sampler import one_thread
from popcat.forward.cosmology import cosmology_table
from popcat.forward.flux_errors import FluxErrors
from popcat.galaxies import Observation, chi2_of, log_norm
from popcat.posterior.draws import Draws, draw_mass
from popcat.posterior.features import draw_redshift
from popcat.prior import MASS
from popcat.units import LN_2PI


class OnCPU:
    """What a `popcat.posterior.posterior.Posterior` samples with on the CPU."""

    def __init__(self, posterior):
        self.posterior, self.flux_errors = posterior, FluxErrors(posterior.survey)

    def sample(self, data: Observation, n_draws: int, seed: int) -> Draws:
        """`Posterior.sample`."""
        posterior, ids = self.posterior, np.asarray(data.object_id)
        width = posterior.n_coordinates
        normals = rng.normal(seed, rng.STREAM_FLOW, ids, n_draws * width).reshape(-1, n_draws, width)
        uniforms = rng.uniform(seed, rng.STREAM_REDSHIFT, ids, n_draws)
        masses = rng.uniform(seed, rng.STREAM_MASS, ids, n_draws) if posterior.draws_mass else None
        member = None
        if len(posterior.flows) > 1:
            member = torch.from_numpy(rng.uniform(seed, rng.STREAM_MEMBER, ids, n_draws))
        return self.of_numbers(data, normals, uniforms, masses, member)

    def of_numbers(
        self, data: Observation, normals: np.ndarray, uniforms: np.ndarray, masses: np.ndarray | None = None,
        member: torch.Tensor | None = None,
    ) -> Draws:  # fmt: skip
        """`Posterior.transform`; `member` (n, k), uniform, chooses among the flows, without it all are of the first."""
        width, is_free = self.posterior.n_coordinates, data.is_free
        z = np.repeat(np.asarray(data.redshift, dtype=float)[:, None], normals.shape[1], axis=1)
        log_q, log_prior = np.zeros(z.shape), np.zeros(z.shape)
        with one_thread():
            noise = torch.from_numpy(normals.astype(np.float32))
            w = torch.empty_like(noise)
            for rows in (np.flatnonzero(~is_free), np.flatnonzero(is_free)):
                if len(rows) == 0:
                    continue
                some = data[rows]
                if is_free[rows[0]]:
                    z[rows], log_q[rows], log_prior[rows] = self._redshifts(some, uniforms[rows])
                w[rows], q = self._conditioned(some, z[rows], noise[rows], None if member is None else member[rows])
                log_q[rows] += q.numpy()
        flat = w.reshape(-1, width).double().numpy()
        log_prior += -0.5 * np.sum(flat**2, axis=1).reshape(z.shape) - 0.5 * width * LN_2PI
        return self._measured(data, z, flat, masses, log_q, log_prior)

    def derive(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity by name, each (n,), of theta (n, d) at redshift (n,)."""
        return self.posterior.forward.derive(theta, redshift)

    def _redshifts(self, data: Observation, uniform):
        """Redshifts (n, k), ln q and ln prior of them, times the likelihood of a measured one."""
        posterior, z_obs = self.posterior, np.asarray(data.redshift, dtype=float)
        bounds, sigma = posterior.survey.redshift_range, np.where(np.isnan(z_obs), np.nan, data.redshift_err)
        z, log_q = draw_redshift(posterior.redshift_nodes(data.flux, data.flux_err), bounds, z_obs, sigma, uniform)
        with np.errstate(invalid="ignore"):
            measured = -0.5 * ((z - z_obs[:, None]) / sigma[:, None]) ** 2 - np.log(sigma[:, None]) - 0.5 * LN_2PI
        log_prior = posterior.redshift_law.log_density(z)
        return z, log_q, np.where(np.isnan(z_obs)[:, None], 0.0, measured) + log_prior

    def _conditioned(self, data: Observation, z, noise, member):
        """w and ln q(w | x, z); where all draws of a galaxy share its redshift they share its context."""
        features, sampler = self.posterior.features, self.posterior.sampler
        if not data.is_free[0]:
            return sampler.transform(noise, torch.from_numpy(features(data.flux, data.flux_err, z[:, 0])), member)
        n, k, _ = noise.shape
        base, slope = features.by_redshift(data.flux, data.flux_err)
        modulus = cosmology_table(features.cosmology).distance_modulus(z)
        context = base[:, None] + (z - features.mean[-2])[..., None] * slope[:, None, 0]
        context += (modulus - features.mean[-1])[..., None] * slope[:, None, 1]
        flat = None if member is None else member.reshape(-1, 1)
        context = torch.from_numpy(context.reshape(n * k, -1).astype(np.float32))
        w, q = sampler.transform(noise.reshape(n * k, 1, -1), context, flat)
        return w.reshape(noise.shape), q.reshape(n, k)

    def _measured(self, data: Observation, redshift, w, masses, log_q, log_prior) -> Draws:
        """The draws whose coordinates are w (n k, d), with their masses and likelihoods."""
        posterior, physical = self.posterior, self.posterior.physical
        if posterior.draws_mass:
            w = np.column_stack([np.zeros(len(w)), w])  # theta has one mass, the prior's median
        theta = posterior.prior.from_unconstrained(w)
        flux = posterior.forward.flux(theta, redshift.ravel()).reshape(*redshift.shape, data.flux.shape[1])
        err = self.flux_errors(data, redshift)
        if not posterior.draws_mass:
            if physical is not None:
                log_prior = log_prior + physical.log_ratio(theta, redshift.ravel()).reshape(redshift.shape)
            chi2, theta = chi2_of(flux, data, err), theta.reshape(*redshift.shape, -1)
            return Draws(theta, redshift, chi2, log_q, log_prior, -0.5 * chi2 - log_norm(data, err))
        theta = theta.reshape(*redshift.shape, theta.shape[1])

        def log_factor(part: slice, log_mass: np.ndarray) -> np.ndarray:
            return physical.log_ratio_of_masses(
                theta[part].reshape(len(log_mass), -1), redshift[part].ravel(), log_mass
            )

        law, numbers = posterior.prior.laws[MASS], np.full(redshift.shape, 0.5) if masses is None else masses
        theta[..., 0], log_l, chi2 = draw_mass(flux, float(law.from_unit(np.array(0.5))), data, law, numbers,
                                               None if physical is None else log_factor, err)  # fmt: skip
        return Draws(theta, redshift, chi2, log_q, log_prior, log_l)
