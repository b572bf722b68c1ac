"""The physical prior (popcat.physical) under each star-formation history: can the galaxy model be what is published?

Draws of the model's own prior, weighted to the physical one at one surviving mass and redshift: the part that is
quenched (1 dex below the star-forming sequence) and the median of the others, against the published ones; the part of
the draws that is effective, dust apart, whose draws are exact. And how many draws a second one core weighs.
"""

import time

import numpy as np

from popcat.galaxy_model import GalaxyModel
from popcat.physical import laws
from popcat.physical.induced import summarise
from popcat.physical.prior import JointPrior

from environment import conclude, parser, print_table

HISTORIES = ("lookback", "fractional", "continuity", "continuity_bursty", "dirichlet", "delayed_tau", "lognormal",
             "double_power_law")  # fmt: skip
MASSES = (9.0, 10.0, 10.5, 11.0)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--draws", type=int, default=100_000)
    arguments.add_argument("--histories", nargs="+", default=HISTORIES)
    arguments.add_argument("--redshifts", nargs="+", type=float, default=(0.1, 1.0))
    arguments.add_argument("--z-max", type=float, default=1.2)
    arguments = arguments.parse_args()
    rows, speeds = [], []
    for history in arguments.histories:
        start = time.perf_counter()
        prior = JointPrior(GalaxyModel(history=history), (0.0, arguments.z_max))
        made = time.perf_counter() - start
        speeds.append({"history": history, "ready after s": round(made, 1), **mean_of(prior, arguments.draws),
                       **speed(prior, arguments.draws)})  # fmt: skip
        for redshift in arguments.redshifts:
            rows += [{"history": history} | compare(prior, redshift, mass, arguments.draws) for mass in MASSES]
    print_table(rows, "Weighted draws against published laws")
    print_table(speeds, "Normalisation, dust apart, and speed of one core")
    conclude(arguments.json, {"physical_prior": rows, "speed": speeds})


def compare(prior: JointPrior, redshift: float, log_mass: float, n: int) -> dict:
    """Quenched fraction, and dex from the sequence, of draws of this mass and redshift."""
    theta, z = own_draws(prior, n, redshift)
    found = summarise(prior.stars, prior.cosmology, theta, z)
    theta[:, 0] = log_mass - found.log_survived
    weight = np.exp(prior.without_dust().log_ratio(theta, z))
    sequence = float(laws.star_forming_sequence(log_mass, float(prior.cosmology.age(redshift))))
    quenched = found.s < sequence - 1.0
    order = np.argsort(found.s[~quenched])
    below = np.cumsum(weight[~quenched][order])
    median = found.s[~quenched][order][np.searchsorted(below / below[-1], 0.5)]
    return {
        "redshift": redshift, "log mass": log_mass, "quenched": round(float(weight[quenched].sum() / weight.sum()), 3),
        "published": round(float(laws.quenched_fraction(log_mass, redshift)), 3),
        "above the sequence, dex": round(float(median - sequence), 3),
        "effective, part": round(float(weight.sum() ** 2 / (weight**2).sum() / n), 4),
    }  # fmt: skip


def mean_of(prior: JointPrior, n: int, times: int = 10) -> dict:
    """The mean of R over the model's own prior at all redshifts, which should be 1, and its error."""
    inner, random, means = prior.without_dust(), np.random.default_rng(12), []
    for _ in range(times):
        theta = prior.prior.from_unit(random.uniform(size=(n, prior.prior.n_unconstrained)))
        redshift = prior.prior.redshift_law(prior.redshift_range).from_unit(random.uniform(size=n))
        means.append(np.exp(inner.log_ratio(theta, redshift)).mean())
    return {"mean of R": round(float(np.mean(means)), 3), "error": round(float(np.std(means) / times**0.5), 3)}


def speed(prior: JointPrior, n: int) -> dict:
    """Draws a second, of one mass each and of 32 masses each."""
    theta, z = own_draws(prior, n, 0.1)
    grid, rates = np.linspace(8.0, 12.0, 32), {}
    for name, run in (("draws/s", lambda: prior.log_ratio(theta, z)),
                      ("draws/s, 32 masses each", lambda: prior.log_ratio_of_masses(theta, z, grid))):  # fmt: skip
        run()
        start = time.process_time()
        run()
        rates[name] = round(n / (time.process_time() - start))
    return rates


def own_draws(prior: JointPrior, n: int, redshift: float) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift of the galaxy model's own prior."""
    uniform = np.random.default_rng(11).uniform(size=(n, prior.prior.n_unconstrained))
    return prior.prior.from_unit(uniform), np.full(n, redshift)


if __name__ == "__main__":
    main()
