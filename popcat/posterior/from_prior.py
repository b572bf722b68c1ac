"""A posterior without a trained flow: its proposals are the prior, and the exact likelihood does the rest.

The map from standard normal numbers to coordinates is the identity, a redshift that is not given comes from its prior,
and the mass from its own law given all else (popcat.posterior.draws). So a draw's importance weight is the likelihood
averaged over the mass, times the physical prior over the galaxy model's own where draws are under that:

    w = p(x | theta', z) R(theta, z)

Such proposals are far from a posterior. They are for `popcat.checks.certify`, which tempers them; draws that are not
certified are draws of the prior with the mass that the photometry asks for.
"""

import numpy as np
import torch

from popcat import __version__
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.piecewise import PiecewiseDensity, PiecewiseShape
from popcat.forward.coverage import require_light
from popcat.forward.filters import with_curves
from popcat.forward.noise import Noise
from popcat.forward.properties import forward_hashes
from popcat.galaxy_model import GalaxyModel
from popcat.physical.prior import prior_named, redshift_law_of
from popcat.posterior.features import Features, n_features
from popcat.posterior.posterior import Posterior
from popcat.posterior.support import Support
from popcat.prior import FLAT, PHYSICAL, make_prior, require_prior
from popcat.survey import Survey

_N_REDSHIFT = 256


def prior_posterior(survey, galaxy_model=None, prior=PHYSICAL, noise=None):
    own = make_prior(galaxy_model)
    draws_mass = own.mass_is_linear
    width = own.n_unconstrained - draws_mass
    features, of_redshift = _features(survey, galaxy_model, True), _features(survey, galaxy_model, False)
    architecture = Architecture(features=width, context=features.n_features, n_blocks=1, hidden=1, n_layers=1)
    flow = build_flow(architecture, seed=0)
    with torch.no_grad():
        for name, weight in flow.named_parameters():
            if name.endswith("weight"):
                weight.zero_()
    law = redshift_law_of(own, survey.redshift_range, prior_named(prior, galaxy_model, survey.redshift_range))
    density = _constant_density(law, survey.redshift_range, of_redshift.n_features)
    n_raw = 2 * len(survey.bands) + 1
    support = Support(features.softening, np.ones(1), np.zeros((1, n_raw)), np.eye(n_raw)[None] * 1e4, np.zeros((0, n_raw), dtype=np.float32))
    return Posterior(survey, galaxy_model, noise, features, (flow.eval(),), architecture, of_redshift, density, support, {}, draws_mass, (prior,), prior)


def _features(survey, galaxy_model, has_redshift):
    n = 2 * len(survey.bands) + 2 * has_redshift
    return Features(np.ones(len(survey.bands)), np.zeros(n), np.eye(n), galaxy_model.cosmology, has_redshift)


def _constant_density(law, bounds, n_context):
    density = PiecewiseDensity(PiecewiseShape(context=n_context, n_bins=_N_REDSHIFT, hidden=1, n_layers=1))
    log_nodes = law.log_density(np.linspace(*bounds, _N_REDSHIFT + 1))
    with torch.no_grad():
        for one in density.parameters():
            one.zero_()
        density.net[-1].bias.copy_(torch.from_numpy(np.maximum(log_nodes, -30.0)))
    return density.eval()
