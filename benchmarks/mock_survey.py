"""A mock survey with a realistic joint distribution of all parameters: what benchmarks/population.py fits.

Parents, uniform in comoving volume to z = 0.5, surviving mass above 10^8 Msun:
- mass: double Schechter function of GAMA (Baldry et al. 2012): log M* = 10.66, phi = 3.96e-3 and 0.79e-3,
  alpha = -0.35 and -1.47;
- quenched with probability 1 / (1 + exp(-(log M - 10.5) / 0.35));
- star formation: log SFR = 0.76 (log M - 10.5) + 0.34 + 2.5 log10(1 + z), scatter 0.3 dex (slope and zero point of
  Renzini & Peng 2015), quenched log sSFR = -12 +- 0.4;
- histories: SFH weights from a pool of 400,000 Dirichlet draws, of concentration 0.3 to 3 towards each basis, 0.003 to
  10 towards the youngest, a burst of at most some per cent in a fifth of them; every galaxy takes one of the 400 whose
  sSFR is nearest to its own (of the 10,000 at either end beyond those), so that hardly any two have the same;
- metallicity: log Z = -1.85 + 0.3 (log M - 10.5), flatter above, +-0.1, through both weights;
- diffuse dust: ln tau_ism about ln(0.2 + 0.5 / (1 + exp(-2 (log M - 10)))) +- 0.4, quenched ln 0.1 +- 0.5;
  tau_bc = 0.8 to 1.6 times as much; slope -0.3 - 0.4 tau_ism +- 0.2.
Fluxes are the galaxy model's, noise the survey's, observed r < 19.8. None of this is a spline flow's.

What a fit starts from (popcat.population.start) was chosen with this mock at hand. `OTHER` had no part in it: a
main sequence lower by 0.3 dex, half of the galaxies quenched at 10^10 Msun already, half the dust.
"""

from dataclasses import dataclass

import numpy as np

from popcat.forward.cosmology import cosmology_table
from popcat.forward.noise import add_noise
from popcat.forward.properties import forward_for
from popcat.prior import make_prior

FAINT_MAG, Z_MAX, LOG_MASS_MIN = 19.8, 0.5, 8.0
_BATCH, _POOL = 400_000, 400_000
_NEAREST, _EDGE = 200, 5000


@dataclass(frozen=True)
class Truth:
    """What two mocks differ in: dex of the main sequence, log M* where half are quenched, factor of tau_ism."""

    forming: float = 0.0
    quenching: float = 10.5
    dust: float = 1.0


COMMON = Truth()
OTHER = Truth(forming=-0.3, quenching=10.0, dust=0.5)


def make_mock(n, survey, galaxy_model, noise, seed=1, truth=COMMON):
    """n observed galaxies: dict of theta (n, d), redshift, flux, err, log_mstar, log_sfr_1gyr, quenched."""
    random = np.random.default_rng(seed)
    pool = _history_pool(survey, galaxy_model, random)
    parts, found = [], 0
    while found < n:
        parts.append(_observed(_parents(_BATCH, pool, galaxy_model, random, truth), survey, galaxy_model, noise,
                               random))
        found += len(parts[-1]["redshift"])
    return {name: np.concatenate([part[name] for part in parts])[:n] for name in parts[0]}


def main_sequence(log_mstar, log_sfr, centres=(9.5, 10.0, 10.5), half_width=0.15, weight=None):
    """Median log SFR of star-forming galaxies (sSFR > 1e-11 / yr) at masses, dex."""
    rows = []
    for centre in centres:
        chosen = (np.abs(log_mstar - centre) < half_width) & (log_sfr - log_mstar > -11.0)
        rows.append(float(np.median(log_sfr[chosen])) if chosen.sum() > 5 else float("nan"))
    return np.array(rows)


def _parents(n, pool, galaxy_model, random, truth):
    """Parameters of n galaxies in the volume."""
    z = _redshifts(n, galaxy_model, random)
    mass = _masses(n, random)
    quenched = random.uniform(size=n) < 1.0 / (1.0 + np.exp(-(mass - truth.quenching) / 0.35))
    ssfr = np.where(
        quenched,
        random.normal(-12.0, 0.4, n),
        0.76 * (mass - 10.5) + 0.34 + truth.forming + 2.5 * np.log10(1.0 + z) - mass + random.normal(0.0, 0.3, n),
    )
    theta = np.empty((n, len(make_prior(galaxy_model).names)))
    for i, (edge_low, edge_high) in enumerate(zip(pool["z"][:-1], pool["z"][1:], strict=True)):
        rows = np.flatnonzero((z >= edge_low) & (z < edge_high))
        at = np.clip(np.searchsorted(pool["log_ssfr"][i], ssfr[rows]), _EDGE, _POOL - 1 - _EDGE)
        at_edge = (at == _EDGE) | (at == _POOL - 1 - _EDGE)
        at = at + np.rint(random.uniform(-1.0, 1.0, len(rows)) * np.where(at_edge, _EDGE, _NEAREST)).astype(int)
        chosen = pool["order"][i][at]
        theta[rows] = pool["theta"][chosen]
        theta[rows, 0] = mass[rows] + pool["formed"][i][chosen]
    log_z = np.where(mass < 10.5, -1.85 + 0.3 * (mass - 10.5), -1.85 + 0.1 * (mass - 10.5))
    theta[:, 7:9] = (log_z - np.log10(3.0) + random.normal(0, 0.1, n))[:, None] + random.normal(0, 0.05, (n, 2))
    centre = np.where(quenched, np.log(0.1), np.log(0.2 + 0.5 / (1.0 + np.exp(-2.0 * (mass - 10.0)))))
    tau = truth.dust * np.exp(centre + np.where(quenched, 0.5, 0.4) * random.normal(size=n))
    theta[:, 10] = tau
    theta[:, 9] = tau * random.uniform(0.8, 1.6, n)
    theta[:, 11] = -0.3 - 0.4 * tau + random.normal(0, 0.2, n)
    prior = make_prior(galaxy_model)
    for column in (0, *range(5, 12)):
        low, high = prior.bounds(prior.names[column])
        theta[:, column] = np.clip(theta[:, column], low + 1e-6, high - 1e-6)
    return {"theta": theta, "redshift": z, "quenched": quenched}


def _observed(parents, survey, galaxy_model, noise, random):
    forward = forward_for(survey, galaxy_model)
    theta, z = parents["theta"], parents["redshift"]
    flux = forward.photometry.flux(theta, z)
    normals = random.standard_normal((len(z), 2 * flux.shape[1]))
    noisy, err = add_noise(flux, noise, normals)
    seen = noisy[:, survey.band_names.index("r")] > 10 ** (0.4 * (22.5 - FAINT_MAG))
    properties = forward.properties(theta[seen], z[seen])
    return {"theta": theta[seen], "redshift": z[seen], "quenched": parents["quenched"][seen], "flux": noisy[seen],
            "err": err[seen], **{name: properties[name] for name in ("log_mstar", "log_sfr_1gyr")}}  # fmt: skip


def _history_pool(survey, galaxy_model, random):
    """Histories ordered by sSFR in bins of redshift."""
    prior = make_prior(galaxy_model)
    n_sfh = len(prior.weights.names)
    theta = prior.from_unit(np.full((_POOL, prior.n_unconstrained), 0.5))
    concentration = np.exp(random.uniform(np.log(0.3), np.log(3.0), (_POOL, n_sfh)))
    # the youngest basis decides the sSFR: the pool has to reach beyond the galaxies at both ends
    concentration[:, 0] = np.exp(random.uniform(np.log(0.003), np.log(10.0), _POOL))
    gamma = random.gamma(concentration) + 1e-12
    theta[:, 1 : 1 + n_sfh] = gamma / gamma.sum(1, keepdims=True)
    theta[:, 5] = np.where(random.uniform(size=_POOL) < 0.2, random.beta(1.0, 40.0, _POOL), 1e-4)
    theta[:, 6] = random.uniform(0.05, 8.0, _POOL)
    edges = np.linspace(0.0, Z_MAX + 1e-9, 11)
    pool = {"z": edges, "theta": theta, "order": [], "log_ssfr": [], "formed": []}
    for middle in 0.5 * (edges[1:] + edges[:-1]):
        found = forward_for(survey, galaxy_model).properties(theta, np.full(_POOL, middle))
        order = np.argsort(found["log_ssfr"])
        pool["order"].append(order)
        pool["log_ssfr"].append(found["log_ssfr"][order])
        pool["formed"].append(theta[:, 0] - found["log_mstar"])
    return pool


def _redshifts(n, galaxy_model, random):
    grid = np.linspace(0.002, Z_MAX, 2000)
    distance = 10 ** (cosmology_table(galaxy_model.cosmology).distance_modulus(grid) / 5.0) / (1.0 + grid)
    volume = distance**3 - distance[0] ** 3
    return np.interp(random.uniform(size=n), volume / volume[-1], grid)


def _masses(n, random):
    grid = np.linspace(LOG_MASS_MIN, 12.2, 2000)
    x = 10 ** (grid - 10.66)
    density = np.exp(-x) * (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47)
    cumulative = np.cumsum(density)
    return np.interp(random.uniform(size=n), cumulative / cumulative[-1], grid)
