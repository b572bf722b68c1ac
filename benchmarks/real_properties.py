"""What real SDSS galaxies are under each prior of a trained posterior, against published values; and mocks of them.

The 10,000 embedded galaxies, certified. Published values, none of which the physical prior is made of:

- star-forming sequence at 0.02 < z < 0.085: log SFR = 0.76 log M - 7.64 (Renzini & Peng 2015, ApJ 801, L29), against
  the ridge, the most frequent SFR over 100 Myr, of galaxies in 0.3 dex of mass;
- quenched fraction (specific star-formation rate below 10^-11 / yr) of central galaxies at z = 0: -6.04 + 0.63 log M
  (Wetzel et al. 2013, MNRAS 432, 336, as Hahn et al. 2017, ApJ 841, 6, have it), against the mean chance of a galaxy
  at z < 0.1, each galaxy weighted by one over the volume in which it is brighter than r = 17.77;
- colours: red sequence u - r > 2.5, blue cloud u - r < 1.9, at rest, without correction for dust; between them is where
  Strateva et al. 2001 (AJ 122, 1861) separate the two, u - r = 2.22;
- masses of kcorrect by observed g - r: the trend is the offset of the reddest bin less that of the bluest.

`rest` of the table of properties are medians by mass: older and more metal-rich with mass is what is published
(Gallazzi et al. 2005). `mocks` are those of benchmarks/mock_survey.py, whose laws are neither prior's: the part of the
truths within the 68% intervals, of all galaxies and of kinds of them.
"""

import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from mock_survey import make_mock
from population import BANDS, mock_survey
from real_galaxies import G_R_EDGES, binned, kcorrect_masses

from popcat import infer
from popcat.forward.cosmology import cosmology_table
from popcat.forward.noise import default_noise
from popcat.posterior.posterior import load_posterior
from popcat.units import nmgy_to_ab_mag

from environment import conclude, parser, print_table

MASSES, HALF_WIDTH = (9.5, 10.0, 10.5, 11.0), 0.15
QUENCHED, RED, BLUE, FAINT_MAG = -11.0, 2.5, 1.9, 17.77
COVERED = ("log_mstar", "log_sfr_100myr", "log_ssfr", "log_z_mw", "age_mw_gyr", "tau_ism", "a_v", "abs_mag_r")
_N_DRAWS, _MIN = 100, 20


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--posterior", default="sdss", help="A trained posterior of ugriz.")
    arguments.add_argument("--galaxies", type=int, default=10_000, help="Real galaxies (10,000).")
    arguments.add_argument("--mocks", type=int, default=4000, help="Mock galaxies (4,000).")
    arguments = arguments.parse_args()
    catalog = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").iloc[: arguments.galaxies]
    kcorrect, result = kcorrect_masses(catalog), {}
    posterior = load_posterior(arguments.posterior)
    mocks = mock_galaxies(posterior, arguments.mocks)
    for prior in posterior.priors:
        with tempfile.TemporaryDirectory() as folder:
            found = certified(catalog, arguments.posterior, prior, Path(folder) / "real")
            of_mocks = certified(mocks[0], arguments.posterior, prior, Path(folder) / "mocks", survey=mock_survey())
        result[prior] = {**properties(found, kcorrect), "mocks": coverage(of_mocks, *mocks[1:])}
    report(result)
    conclude(arguments.json, {"posterior": arguments.posterior, "priors": result})


def certified(catalog: pd.DataFrame, posterior: str, prior: str, output: Path, survey=None) -> dict[str, np.ndarray]:
    """Draws (n, k) by quantity, the photometry that was fitted and the redshifts, of galaxies with a posterior."""
    names = [*COVERED, "log_sfr_1gyr", "abs_mag_u"]
    made = infer(catalog, posterior, output=output, prior=prior, draws=_N_DRAWS, certify=True, survey=survey,
                 allow_uncalibrated=True, progress=True)  # fmt: skip
    columns = ["object_id", "redshift", "flux_r", *(f"{name}_draws" for name in dict.fromkeys(names))]
    frame = made.to_pandas(columns, where="status == 'ok'")
    found = {name: np.stack(frame[f"{name}_draws"].to_numpy()) for name in dict.fromkeys(names)}
    return found | {name: frame[name].to_numpy() for name in ("object_id", "redshift", "flux_r")}


def properties(found: dict, kcorrect: pd.DataFrame) -> dict:
    """Of the real galaxies: against published values."""
    median = {name: np.median(values, axis=1) for name, values in found.items() if values.ndim == 2}
    mass, colour, z = median["log_mstar"], median["abs_mag_u"] - median["abs_mag_r"], found["redshift"]
    quenched = np.mean(found["log_sfr_100myr"] - found["log_mstar"] < QUENCHED, axis=1)
    is_near, weight = (z > 0.02) & (z < 0.085), 1.0 / volume(z, found["flux_r"])
    rows = []
    for centre in MASSES:
        here = np.abs(mass - centre) < HALF_WIDTH
        forming = here & is_near & (quenched < 0.5)
        some = here & (z < 0.1)
        rows.append({
            "log_mstar": centre, "n": int(here.sum()), "sequence": ridge(median["log_sfr_100myr"][forming]),
            "published sequence": round(0.76 * centre - 7.64, 2),
            "quenched": mean(quenched[some], weight[some]), "n_quenched": int(some.sum()),
            "published quenched": float(np.clip(-6.04 + 0.63 * centre, 0.0, 1.0)),
            "age_mw_gyr": float(np.median(median["age_mw_gyr"][here])),
            "log_z_mw": float(np.median(median["log_z_mw"][here])),
        })  # fmt: skip
    peer = kcorrect.loc[found["object_id"]]
    good = np.isfinite(peer["log_mstar"].to_numpy())
    by_colour = binned(peer["g_r"].to_numpy()[good], (mass - peer["log_mstar"].to_numpy())[good], G_R_EDGES)
    return {
        "red sequence": mean(quenched[colour > RED]), "n_red": int((colour > RED).sum()),
        "blue cloud": mean(quenched[colour < BLUE]), "n_blue": int((colour < BLUE).sum()),
        "massive": float(np.mean(found["log_mstar"] > 10.8)),
        "massive and quenched": float(np.mean((found["log_mstar"] > 10.8)
                                              & (found["log_sfr_100myr"] - found["log_mstar"] < QUENCHED))),
        "by_mass": rows, "kcorrect_by_g_r": by_colour,
        "kcorrect_trend_dex": by_colour[-1]["offset_dex"] - by_colour[0]["offset_dex"],
    }  # fmt: skip


def volume(redshift: np.ndarray, flux_r: np.ndarray) -> np.ndarray:
    """Cube of the luminosity distance at which a galaxy is at the survey's limit, no farther than z = 0.1."""
    cosmology = cosmology_table("Planck13")
    farther = cosmology.distance_modulus(redshift) + FAINT_MAG - nmgy_to_ab_mag(flux_r)
    return 10.0 ** (0.6 * (np.minimum(farther, cosmology.distance_modulus(np.array(0.1))) - 38.0))


def ridge(values: np.ndarray) -> float | None:
    """The most frequent value: the peak of a smoothed density."""
    from scipy.stats import gaussian_kde

    if len(values) < _MIN:
        return None
    at = np.linspace(values.min(), values.max(), 400)
    return float(at[np.argmax(gaussian_kde(values)(at))])


def mean(values, weight=None) -> float | None:
    """None of few."""
    return float(np.average(values, weights=weight)) if len(values) >= _MIN else None


def mock_galaxies(posterior, n: int) -> tuple[pd.DataFrame, dict, dict]:
    """A catalogue with known redshifts, its true quantities, and kinds of galaxies."""
    noise = default_noise(posterior.survey)
    made = make_mock(n, posterior.survey, posterior.galaxy_model, noise, seed=5)
    columns = {f"{kind}_{band}": made[name][:, i] for i, band in enumerate(BANDS)
               for kind, name in (("flux", "flux"), ("flux_err", "err"))}  # fmt: skip
    truth = posterior.forward.derive(made["theta"], made["redshift"])
    kinds = {
        "all": np.ones(n, dtype=bool), "quenched": made["quenched"], "forming": ~made["quenched"],
        "dusty": truth["tau_ism"] > np.quantile(truth["tau_ism"], 0.9),
        "young": truth["age_mw_gyr"] < np.quantile(truth["age_mw_gyr"], 0.1),
        "metal-poor": truth["log_z_mw"] < np.quantile(truth["log_z_mw"], 0.1),
    }  # fmt: skip
    return pd.DataFrame({"object_id": np.arange(n), "redshift": made["redshift"], **columns}), truth, kinds


def coverage(found: dict, truth: dict, kinds: dict) -> list[dict]:
    """The part of the truths inside the 68% intervals, and the median of posterior median less truth, by kind."""
    rows = []
    for kind, chosen in kinds.items():
        some = chosen[found["object_id"]]
        row = {"kind": kind, "n": int(some.sum())}
        for name in COVERED:
            draws, true = found[name][some], truth[name][found["object_id"]][some]
            low, high = np.percentile(draws, (16, 84), axis=1)
            row[name] = round(float(np.mean((true >= low) & (true <= high))), 3)
            row[f"bias {name}"] = round(float(np.median(np.median(draws, axis=1) - true)), 3)
        rows.append(row)
    return rows


def report(result: dict) -> None:
    """The result as tables."""
    for prior, found in result.items():
        print_table([{"quantity": name, "value": value} for name, value in found.items()
                     if not isinstance(value, list)], f"prior {prior}")  # fmt: skip
        print_table(found["by_mass"], f"prior {prior}: by mass")
        print_table(found["kcorrect_by_g_r"], f"prior {prior}: popcat - kcorrect by g - r")
        covered = [{key: value for key, value in row.items() if not key.startswith("bias")} for row in found["mocks"]]
        print_table(covered, f"prior {prior}: mocks, truths inside the 68% intervals")
        biased = [{key: value for key, value in row.items() if key.startswith("bias") or key == "kind"}
                  for row in found["mocks"]]  # fmt: skip
        print_table(biased, f"prior {prior}: mocks, median less truth")


if __name__ == "__main__":
    main()
