"""How well time bins stand for continuous histories: fluxes with 10 (PROVABGS), 20 and 40 bins a dex against 100.

In a bin all stars have the bin's mean light and the metallicity at its middle, whatever the history does inside.
Families without bursts, from the prior: the default bases; bases as steep as popcat takes them, delayed exponentials
t exp(-t / tau) of tau = 0.1, 0.3, 1 and 3 Gyr that begin 1, 4, 8 and 12 Gyr ago, of which one has nearly all stars
(Dirichlet of concentration 0.1); and every other setting of `history`. Everything else is the slow reference
popcat.forward.spectrum, so that the differences are of the bins alone.
"""

import tempfile
from pathlib import Path

import numpy as np

from popcat.forward.filters import load_curves
from popcat.forward.ingredients import load_ingredients
from popcat.forward.spectrum import reference_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import load_survey

from environment import conclude, parser, print_table

EXACT, COARSE = 100, (10, 20, 40)
HISTORIES = ("fractional", "continuity", "continuity_bursty", "dirichlet", "delayed_tau", "lognormal",
             "double_power_law")  # fmt: skip
TAU_GYR, START_GYR = (0.1, 0.3, 1.0, 3.0), (1.0, 4.0, 8.0, 12.0)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--galaxies", type=int, default=200, help="Galaxies of each family.")
    arguments = arguments.parse_args()
    survey = load_survey("sdss")
    with tempfile.TemporaryDirectory() as folder:
        one = {"beta": {"family": "dirichlet", "concentration": [0.1] * 4}}
        families = {"default": {}, "steep": {"bases": str(_steep(Path(folder))), "priors": one}}
        families |= {name: {"history": name} for name in HISTORIES}
        rows = [row for name, settings in families.items()
                for row in differences(name, settings, survey, arguments.galaxies)]  # fmt: skip
    print_table(rows, f"Relative difference of fluxes to those with {EXACT} bins a dex")
    conclude(arguments.json, {"time_bins": rows})


def differences(name: str, settings: dict, survey, n: int) -> list[dict]:
    """Root mean square and largest difference in u and r, a row a number of bins."""
    curves = load_curves(survey)
    settings = settings | {"priors": settings.get("priors", {}) | {"f_burst": {"family": "fixed", "value": 0.0}}}
    prior = make_prior(GalaxyModel(**settings))
    random = np.random.default_rng(1)
    theta = prior.from_unit(random.uniform(size=(n, prior.n_unconstrained)))
    redshift = random.uniform(*survey.redshift_range, n)
    models = {each: load_ingredients(GalaxyModel(**settings | {"bins_per_dex": each})) for each in (*COARSE, EXACT)}
    flux = {each: reference_fluxes(theta, redshift, model, curves) for each, model in models.items()}
    rows = []
    for each in COARSE:
        error = flux[each] / flux[EXACT] - 1.0
        row = {"histories": name, "bins a dex": each}
        for band in ("u", "r"):
            values = error[:, survey.band_names.index(band)]
            row |= {f"{band} rms": float(np.sqrt(np.mean(values**2))), f"{band} largest": float(np.abs(values).max())}
        rows.append(row)
    return rows


def _steep(folder: Path) -> Path:
    """A CSV file of delayed exponentials with popcat's metallicity bases."""
    from popcat.forward.histories import load_bases

    own = load_bases("popcat")
    t = np.unique(np.concatenate([np.linspace(0.0, 13.8, 691), *(s - np.geomspace(1e-3, 0.9, 60) for s in START_GYR)]))
    columns = [t]
    for tau, start in zip(TAU_GYR, START_GYR, strict=True):
        since = np.maximum(start - t, 0.0)
        columns.append(since * np.exp(-since / tau))
    columns += [np.interp(t, own.lookback_gyr, z) for z in own.zh]
    path = folder / "steep.csv"
    np.savetxt(path, np.column_stack(columns), delimiter=",", header="lookback_gyr,sfh1,sfh2,sfh3,sfh4,zh1,zh2",
               comments="")  # fmt: skip
    return path


if __name__ == "__main__":
    main()
