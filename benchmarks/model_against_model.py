"""Stellar masses of galaxies made with one star-formation history, found with another: what the choice of it costs.

For each pair of histories, mock galaxies of one are drawn from its prior at a known redshift, seen in LSST's ugrizy and
Euclid's YJH with errors of 10%, and their surviving masses found under the other: the posterior is that of draws of its
prior weighted by their likelihood. Fluxes are linear in the mass, so each draw has the mass that fits best, and counts
by the chance of the photometry with the mass integrated over (a prior flat in its logarithm):

    w = exp(-chi2_best / 2) / (M P^(1/2)),  M = sum f m / s^2 / P,  P = sum m^2 / s^2

with m the draw's fluxes per solar mass. Galaxies for which fewer than 30 draws count are left out; how many are left is
printed. All histories have the same dust, metallicities and no burst, so that they alone differ.
"""

from functools import cache

import numpy as np

from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Band, load_survey

from environment import conclude, parser, print_table

HISTORIES = ("lookback", "fractional", "continuity", "dirichlet", "delayed_tau", "lognormal", "double_power_law")
REDSHIFTS = (0.1, 1.0, 3.0)
ERROR, LEAST_DRAWS = 0.1, 30.0
NO_BURST = {"f_burst": {"family": "fixed", "value": 0.0}}
NEAR_INFRARED = tuple(Band(name=f"N{name}", filter=f"Euclid-{name}", flux="f", flux_err="e") for name in "YJH")


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--mocks", metavar="N", type=int, default=200, help="galaxies of each history (200)")
    arguments.add_argument("--draws", metavar="N", type=int, default=200_000, help="draws of each prior (200,000)")
    arguments = arguments.parse_args()
    result = {}
    for z in REDSHIFTS:
        found = {made: {fit: compare(made, fit, z, arguments) for fit in HISTORIES} for made in HISTORIES}
        rows = [{"made with": made, **{fit: _cell(one) for fit, one in row.items()}} for made, row in found.items()]
        print_table(rows, f"z = {z:g}: median log M found - true, truths in the 68%, galaxies; columns: found with")
        result[str(z)] = found
    conclude(arguments.json, {"model_against_model": result, "mocks": arguments.mocks, "draws": arguments.draws})


def _cell(found: dict) -> str:
    return f"{found['offset']:+.2f}, {found['within']:.0%}, {found['n']}"


def compare(made: str, fit: str, z: float, arguments) -> dict:
    """Median offset in dex, fraction of truths in the central 68%, galaxies that count."""
    flux, truth = galaxies(made, z, arguments.mocks, 1)
    noisy = flux * (1.0 + ERROR * np.random.default_rng(2).normal(size=flux.shape))
    model, log_mstar = galaxies(fit, z, arguments.draws, 3)
    offset, within = [], []
    for seen, mass in zip(noisy, truth, strict=True):
        inverse = 1.0 / (ERROR * seen) ** 2
        precision = (model**2 * inverse).sum(axis=1)
        scale = (model * seen * inverse).sum(axis=1) / precision
        chi2 = ((seen - scale[:, None] * model) ** 2 * inverse).sum(axis=1)
        weight = np.exp(-0.5 * (chi2 - chi2.min())) / (scale * np.sqrt(precision))
        weight /= weight.sum()
        if 1.0 / (weight**2).sum() < LEAST_DRAWS:
            continue
        low, middle, high = quantiles(log_mstar + np.log10(scale), weight, (0.16, 0.5, 0.84))
        offset.append(middle - mass)
        within.append(low <= mass <= high)
    if not offset:
        return {"offset": np.nan, "within": np.nan, "n": 0}
    return {"offset": float(np.median(offset)), "within": float(np.mean(within)), "n": len(offset)}


@cache
def galaxies(history: str, z: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes (n, n_band) and log10 of the surviving mass (n,) of draws of a history's prior that form 10^10 Msun."""
    lsst = load_survey("lsst")
    survey = lsst.model_copy(update={"redshift_range": (z, z + 0.004), "bands": (*lsst.bands, *NEAR_INFRARED)})
    model = GalaxyModel(history=history, priors=NO_BURST)
    photometry, prior = Photometry(survey, model), make_prior(model)
    theta = prior.from_unit(np.random.default_rng(seed).random((n, prior.n_unconstrained)))
    theta[:, 0] = 10.0
    redshift = np.full(n, z + 0.002)
    return photometry.flux(theta, redshift), Properties(survey, photometry.ingredients)(theta, redshift)["log_mstar"]


def quantiles(values: np.ndarray, weight: np.ndarray, at) -> np.ndarray:
    """Weighted quantiles."""
    order = np.argsort(values)
    return np.interp(at, np.cumsum(weight[order]), values[order])


if __name__ == "__main__":
    main()
