"""What the physical prior (popcat.physical) says of real SDSS galaxies, beside the galaxy model's own prior.

Galaxies of the embedded catalogue at redshift 0.077 to 0.083, blue (u - r < 1.9) and of the red sequence (u - r > 2.6),
from ugriz alone. No trained posterior has a part in it: draws of either prior at redshift 0.08 are weighted by the
likelihood, the mass integrated out. The draws' masses are a fit each, of a percent in width, over which the prior does
not change; what it says of the mass is `log_ratio_of_masses`.
"""

from importlib.resources import files

import numpy as np
import pandas as pd

from popcat.forward.photometry import Photometry
from popcat.forward.star_properties import SSFR_FLOOR
from popcat.galaxy_model import GalaxyModel
from popcat.io.photometry import to_photometry
from popcat.physical.prior import JointPrior
from popcat.survey import load_survey

from environment import conclude, parser, print_table

REDSHIFT, RANGE = 0.08, (0.077, 0.083)
KINDS = {"blue": (-9.0, 1.9), "red": (2.6, 9.0)}
QUENCHED = -11.0
GRID = np.linspace(7.5, 12.5, 101)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--draws", type=int, default=150_000, help="Draws of each prior.")
    arguments.add_argument("--galaxies", type=int, default=20, help="Galaxies of each kind.")
    arguments.add_argument("--histories", nargs="+", default=("lookback", "continuity"))
    arguments = arguments.parse_args()
    survey = load_survey("sdss").model_copy(update={"redshift_range": (0.07, 0.09)})
    galaxies = pick(survey, arguments.galaxies)
    rows = [row for history in arguments.histories for row in fits(history, survey, galaxies, arguments.draws)]
    print_table(rows, "Real galaxies: medians over the galaxies of each kind")
    conclude(arguments.json, {"physical_prior_galaxies": rows})


def pick(survey, n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fluxes and errors (n, n_band) of galaxies of each kind, evenly over their colours."""
    frame = to_photometry(pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet"), survey)
    frame = frame[(frame["redshift"] > RANGE[0]) & (frame["redshift"] < RANGE[1])]
    flux, err = (frame[[f"{kind}_{band}" for band in survey.band_names]].to_numpy() for kind in ("flux", "flux_err"))
    seen = np.all(flux > 0.0, axis=1)
    flux, err = flux[seen], err[seen]
    colour = -2.5 * np.log10(flux[:, 0] / flux[:, 2])
    found = {}
    for kind, (low, high) in KINDS.items():
        rows = np.flatnonzero((colour > low) & (colour < high))
        rows = rows[np.argsort(colour[rows])][np.linspace(0, len(rows) - 1, n).astype(int)]
        found[kind] = flux[rows], err[rows]
    return found


def fits(history: str, survey, galaxies: dict, n: int) -> list[dict]:
    """A row a prior and a kind of galaxies."""
    model = GalaxyModel(history=history)
    photometry, prior = Photometry(survey, model), JointPrior(model, survey.redshift_range)
    random = np.random.default_rng(1)
    own = prior.prior.from_unit(random.uniform(size=(n, prior.prior.n_unconstrained)))
    drawn = prior.sample(n, random, candidates=6).theta
    ratio = prior.log_ratio_of_masses(drawn, np.full(n, REDSHIFT), GRID)
    ratio -= np.log(np.exp(ratio).sum(axis=1, keepdims=True))  # given all else, which the draws have
    rows = []
    for name, theta, log_prior in (("own", own, np.zeros((n, len(GRID)))), ("physical", drawn, ratio)):
        for kind, (flux, err) in galaxies.items():
            fitted = [fit(theta, log_prior, photometry, prior, *one) for one in zip(flux, err, strict=True)]
            median = {key: round(float(np.median([one[key] for one in fitted])), 2) for key in fitted[0]}
            rows.append({"history": history, "prior": name, "galaxies": kind} | median)
    return rows


def fit(theta, log_prior, photometry, prior: JointPrior, flux, err) -> dict:
    """Means of a galaxy's posterior, and the chance that it is quenched."""
    z, unit = np.full(len(theta), REDSHIFT), theta.copy()
    unit[:, 0] = 10.0
    model = photometry.flux(unit, z)
    precision = (model**2 / err**2).sum(axis=1)
    mass = np.maximum((model * flux / err**2).sum(axis=1) / precision, 1e-9)
    chi2 = ((flux - mass[:, None] * model) ** 2 / err**2).sum(axis=1)
    log_mass = 10.0 + np.log10(mass)
    at = np.clip((log_mass - GRID[0]) / (GRID[1] - GRID[0]), 0.0, len(GRID) - 1.001)
    below, row = at.astype(int), np.arange(len(theta))
    of_mass = log_prior[row, below] * (1.0 - at + below) + log_prior[row, below + 1] * (at - below)
    log_weight = -0.5 * chi2 + of_mass - np.log(mass * np.sqrt(precision))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    stars = prior.stars(theta, z)
    rates = np.log10(np.maximum(stars[:, 1:3] / stars[:, :1], SSFR_FLOOR))
    column = dict(zip(prior.prior.names, theta.T, strict=True))
    return {
        "P(quenched, 100 Myr)": weight @ (rates[:, 0] < QUENCHED), "1 Gyr": weight @ (rates[:, 1] < QUENCHED),
        "log_mstar": weight @ (log_mass + np.log10(stars[:, 0])), "log_z_mw": weight @ np.log10(stars[:, 3]),
        "tau_ism": weight @ column["tau_ism"], "effective": 1.0 / np.sum(weight**2), "least chi2": chi2.min(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
