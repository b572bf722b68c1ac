"""A posterior that nobody trained: for a galaxy, or a few hundred, of whatever survey.

Its draws are proposed from a mixture that is fitted to each galaxy (popcat.posterior.per_galaxy), starting from the
prior. That takes about half a second of one core per galaxy; a trained flow takes milliseconds, after its training. The
draws are to be certified (popcat.checks.certify): importance weights make of them draws of the exact posterior, and
give the evidence, as they do of a flow's draws.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from popcat import __version__
from popcat.columns import PRIOR
from popcat.errors import PopcatError
from popcat.flows.piecewise import PiecewiseDensity, PiecewiseShape
from popcat.forward.coverage import require_light
from popcat.forward.filters import with_curves
from popcat.forward.noise import Noise, noise_of
from popcat.forward.properties import forward_hashes
from popcat.galaxy_model import GalaxyModel
from popcat.physical.prior import prior_named, redshift_law_of
from popcat.posterior.features import Features, fit_features
from popcat.posterior.posterior import FITTED, Posterior
from popcat.posterior.simulated import selected
from popcat.posterior.support import Support, fit_support
from popcat.prior import BOTH, PHYSICAL, make_prior, require_prior
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey

_N_REDSHIFT = 512
"""Bins of the density that redshifts are proposed from before the fit: the prior, linear between nodes."""
_WIDE, _DEEPEST = 1e6, 60.0
_FEWEST = 1000


def prior_posterior(
    survey: "str | Path | Survey", galaxy_model: "GalaxyModel | str | Path | None" = None, *, prior: str = PHYSICAL,
    noise: "Noise | str | Path | None" = None, simulated: pd.DataFrame | None = None,
) -> Posterior:  # fmt: skip
    """The posterior of a survey under a prior ("flat" or "physical"), without a flow and without training.

    It serves wherever a trained one does, on the CPU; its draws are to be certified. `simulated`, a frame of
    `popcat.simulate` of this survey (1,000 galaxies or more within its selection), stands for the training set:
    galaxies that are not like these are flagged. Without it no galaxy is. `noise` is that of `simulated`, by default
    the survey's own.

    Raises PopcatError for no such survey or prior, for a survey without noise, and for a galaxy model that lacks light
    which the survey sees.

    >>> posterior = prior_posterior("sdss", prior="flat")
    >>> posterior.flows, posterior.priors, posterior.n_coordinates
    ((), ('flat',), 10)
    """
    require_prior(prior)
    survey, galaxy_model = with_curves(load_survey(survey)), settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    require_light(survey, galaxy_model)
    own, noise = make_prior(galaxy_model), noise_of(noise, survey)
    if simulated is None:
        softening = np.exp([band.ln_err[0] for band in noise.bands.values()])
        features, of_redshift = (_unscaled(softening, galaxy_model.cosmology, has_z) for has_z in (True, False))
        support = _anything(softening)
    else:
        flux, err, redshift = _selected(simulated, survey, prior)
        features, of_redshift = (fit_features(flux, err, z, galaxy_model.cosmology) for z in (redshift, None))
        support = fit_support(flux, err, redshift, features.softening)
    physical = prior_named(prior, galaxy_model, survey.redshift_range)
    law = redshift_law_of(own, survey.redshift_range, physical)
    log_nodes = law.log_density(np.linspace(*survey.redshift_range, _N_REDSHIFT + 1))
    made = {"popcat_version": __version__, "proposals": FITTED, **forward_hashes(survey, galaxy_model)}
    return Posterior(
        survey, galaxy_model, noise, features, (), None, of_redshift, _whatever_the_galaxy(log_nodes, of_redshift),
        support, made, own.mass_is_linear, (prior,), prior,
    )  # fmt: skip


def _whatever_the_galaxy(log_nodes: np.ndarray, features: Features) -> PiecewiseDensity:
    """A density of the redshift, by its logarithm at the nodes, that no photometry changes."""
    shape = PiecewiseShape(context=features.n_features, n_bins=len(log_nodes) - 1, hidden=1, n_layers=1)
    density = PiecewiseDensity(shape)
    with torch.no_grad():
        for weights in density.parameters():
            weights.zero_()
        weights.copy_(torch.from_numpy(np.maximum(log_nodes, log_nodes.max() - _DEEPEST)))  # the last: of the nodes
    return density.eval()


def _unscaled(softening: np.ndarray, cosmology: str, has_redshift: bool) -> Features:
    n = 2 * len(softening) + 2 * has_redshift
    return Features(softening, np.zeros(n), np.eye(n), cosmology, has_redshift)


def _anything(softening: np.ndarray) -> Support:
    """A support that every galaxy is like."""
    d = 2 * len(softening) + 1
    return Support(softening, np.ones(1), np.zeros((1, d)), _WIDE * np.eye(d)[None], np.empty((0, d), np.float32))


def _selected(frame: pd.DataFrame, survey: Survey, prior: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fluxes, errors and redshifts of simulated galaxies of this prior that pass the selection."""
    frame = selected(frame, survey, BOTH if PRIOR in frame else prior)
    if PRIOR in frame:
        frame = frame[frame[PRIOR] == prior]
    if len(frame) < _FEWEST:
        raise PopcatError(f"expected at least {_FEWEST} simulated galaxies of the prior {prior} within the selection "
                          f"of survey {survey.name}, got {len(frame)}: simulate more, or leave them out")
    flux, err = (np.column_stack([frame[f"{kind}_{name}"] for name in survey.band_names]).astype(float)
                 for kind in ("flux", "flux_err"))  # fmt: skip
    return flux, err, frame["redshift"].to_numpy(dtype=float)
