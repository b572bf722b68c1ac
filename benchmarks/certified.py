"""What certification does: efficiency of the flow's proposals, tempering, time, calibration, another sampler.

    python benchmarks/certified.py --posterior sdss --json certified.json

- mocks: fresh ones from the prior and the noise model. Share with an effective sample size of 100 after the rescue; KS
  distances of SBC ranks before and after the correction; milliseconds of one core for 1,000 proposals, weighed.
- real: the embedded galaxies.
- calibration: limits, and of every column what the calibration kept with the posterior found, before the correction.
- crosscheck: draws of the prior accepted by the exact likelihood, without any flow, for random real galaxies of a
  catalogue with 1,000 draws a galaxy; and for some of those that fit badly. `--sampler emcee` or `nautilus` (extra
  bench) takes another sampler.
- wrong: real galaxies spoilt on purpose. None should be certified, and every one flagged.
- power: share of real galaxies flagged `band_off` when one band is off by so many magnitudes, by the model alone and
  with the catalogue's own galaxies; off by 0 is the false alarms. It needs 600 real galaxies.
"""

import tempfile
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.checks.calibration import calibration_of
from popcat.checks.certify import Effort, certify
from popcat.checks.flags import fit_own_galaxies
from popcat.checks.ranks import ks_critical
from popcat.checks.weights import importance
from popcat.columns import PARAMETERS, PROPERTIES
from popcat.galaxies import CERTIFIED_ESS, FLAGS, OWN_TAIL, ROUTES, SUPPORT_TAIL, UNCERTIFIED, observation
from popcat.inference.infer import infer
from popcat.inference.partition import infer_table
from popcat.io.photometry import to_photometry
from popcat.pages.crosscheck import crosscheck
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.ranks import ks_distance, ranks
from popcat.run.client import SYNCHRONOUS

from environment import conclude, parser, posterior_options, print_table

DRAWS, PROPOSALS = 200, 1000
ODD_CHI2, N_ODD = 5.0, 6
OFFSETS = (0.0, 0.2, 0.3, 0.5, 0.7, 1.0)
STARS = {"M dwarf": (2.5, 1.4, 1.2, 0.7), "A star": (1.1, -0.2, -0.2, -0.1), "white dwarf": (-0.3, -0.4, -0.3, -0.3)}
"""u - g, g - r, r - i, i - z."""


def main():
    arguments = options()
    posterior = load_posterior(arguments.posterior).under(arguments.prior)
    effort = Effort(budget_ms=arguments.budget_ms)
    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")
    some = raw.sample(min(arguments.real, len(raw)), random_state=arguments.seed)
    frame = to_photometry(some, posterior.survey)
    data = observation(frame, posterior.survey)
    own = fit_own_galaxies(data, posterior.features.softening)
    real, catalog = on_galaxies(frame, posterior, effort, own)
    result = {"certified": {"mocks": on_mocks(posterior, arguments.n, arguments.seed, effort), "real": real,
                            "ms_per_galaxy_real": real["ms_per_galaxy_with_rescue"]}}  # fmt: skip
    result["calibration"] = kept_calibration(arguments.posterior, arguments.prior)
    if own is not None:
        result["power"] = power(data, posterior, own)
    if arguments.wrong:
        result["wrong"] = on_wrong(frame[: arguments.wrong], posterior, effort, own)
    if arguments.crosscheck:
        result["crosscheck"] = sampled_again(some[: 2 * arguments.crosscheck], arguments, arguments.crosscheck)
        odd = some[catalog["route"].isin(["flow+is", "smc"]).to_numpy() & (catalog["chi2_best"] > ODD_CHI2).to_numpy()]
        if len(odd):
            result["crosscheck_badly_fitted"] = sampled_again(odd[:N_ODD], arguments, N_ODD)
    report(result)
    conclude(arguments.json, result)


def options():
    arguments = parser(__doc__)
    posterior_options(arguments)
    arguments.add_argument("--n", type=int, default=1000, help="number of mocks")
    arguments.add_argument("--real", type=int, default=10_000, help="number of real galaxies")
    arguments.add_argument("--wrong", type=int, default=50, help="number of real galaxies that are spoilt; 0 for none")
    arguments.add_argument("--crosscheck", type=int, default=50, help="galaxies that are sampled again; 0: none")
    arguments.add_argument("--sampler", default="prior", help="independent sampler: prior, emcee or nautilus")
    arguments.add_argument("--budget-ms", type=float, default=Effort().budget_ms, help="nominal, a galaxy")
    arguments.add_argument("--seed", type=int, default=11)
    return arguments.parse_args()


def on_mocks(posterior, n, seed, effort) -> dict:
    """Efficiency, effective draws, time, and SBC before and after."""
    mocks = draw_mocks(posterior, n, seed)
    data = observation(mocks.assign(redshift_err=np.nan), posterior.survey)
    theta = mocks[list(PARAMETERS)].to_numpy(dtype=np.float64)
    truth = posterior.forward.derive(theta, data.redshift)
    plain, _ = posterior.quantities(data, DRAWS, seed)
    started = time.process_time()
    found = certify(posterior, data, DRAWS, seed, effort=effort)
    derived = posterior.forward.derive(found.theta.reshape(n * DRAWS, -1), found.redshift.ravel())
    corrected = {name: values.reshape(n, DRAWS).astype(np.float32) for name, values in derived.items()}
    total_ms = 1e3 * (time.process_time() - started) / n
    return {
        **summary(found),
        "ms_per_galaxy": proposal_ms(data[: min(n, 128)], posterior, seed),
        "ms_per_galaxy_with_rescue": total_ms,
        "ks": distances(truth, corrected),
        "ks_uncorrected": distances(truth, plain),
        "ks_critical_1_percent": ks_critical(n),
        "n": n,
    }


def on_galaxies(frame, posterior, effort, own) -> tuple[dict, pd.DataFrame]:
    """The same of real galaxies, and which route made each posterior; and chi2 and route of each."""
    started = time.process_time()
    table = infer_table(frame, posterior, DRAWS, 0, effort, own)
    ms = 1e3 * (time.process_time() - started) / len(frame)
    ok = table["status"].to_numpy() == "ok"
    ess, route = table["ess"].to_numpy()[ok], table["route"].to_numpy()[ok]
    counts = {name: int(np.sum(route == name)) for name in ROUTES}
    flags = table["flags"].to_numpy()[ok]
    summary = {
        "efficiency_median": float(np.median(table["efficiency"].to_numpy()[ok])),
        "proposals_per_galaxy": float(np.mean(table["n_proposals"].to_numpy()[ok])),
        "ess100_fraction": float(np.mean((ess >= CERTIFIED_ESS) & (route != "failed"))),
        "routes": counts,
        "certified_fraction": float(np.mean(table["certified"].to_numpy()[ok])),
        "flagged_fraction": float(np.mean((flags & uncertified()) != 0)),
        "flags": {name: float(np.mean(flags & FLAGS[name] != 0)) for name in UNCERTIFIED},
        "ms_per_galaxy_with_rescue": ms,
        "n": int(ok.sum()),
    }
    return summary, table.select(["chi2_best", "route"]).to_pandas()


def power(data, posterior, own) -> dict:
    """Share flagged band_off by band and offset in magnitudes, brighter and fainter, by the model alone and in all."""
    result = {}
    for b, band in enumerate(posterior.survey.band_names):
        for offset in [sign * value for value in OFFSETS for sign in (1, -1)][1:]:
            factor = np.ones(data.flux.shape[1])
            factor[b] = 10 ** (0.4 * offset)
            spoilt = replace(data, flux=data.flux * factor, flux_err=data.flux_err * factor)
            alone = posterior.support.band_tails(spoilt.flux, spoilt.flux_err, data.redshift)[0] < SUPPORT_TAIL
            both = alone | (own.band_tails(spoilt)[0] < OWN_TAIL)
            shares = {"model": float(np.mean(alone)), "model_and_catalogue": float(np.mean(both))}
            result.setdefault(band, {})[f"{abs(offset) if offset == 0 else offset:+g} mag"] = shares
    return result


def kept_calibration(posterior, prior) -> dict | None:
    """Limits, and KS distance and coverage by column, the worst of all runs; None without a calibration."""
    found = calibration_of(posterior, prior)
    if found is None:
        return None
    columns = {name: one.model_dump(include={"ks", "coverage_68"}) for name, one in found.columns.items()}
    return {"columns": columns, "limits": found.limits}


def on_wrong(frame, posterior, effort, own) -> dict:
    """Share certified and share flagged of galaxies that are not what the model knows."""
    kinds = {f"{band} off by 0.5 mag": off(frame, band) for band in posterior.survey.band_names}
    kinds["errors understated 5x"] = frame.assign(**{name: frame[name] / 5 for name in frame if "flux_err" in name})
    kinds |= {name: as_star(frame, colours) for name, colours in STARS.items()}
    result = {}
    for name, spoilt in kinds.items():
        table = infer_table(spoilt, posterior, DRAWS, 0, effort, own)
        flagged = (table["flags"].to_numpy() & uncertified()) != 0
        result[name] = {"certified": float(np.mean(table["certified"].to_numpy())), "flagged": float(np.mean(flagged))}
    return result


def sampled_again(raw, arguments, n) -> dict:
    """A catalogue of real galaxies, and how an independent sampler's posteriors differ from it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "galaxies.parquet"
        raw.to_parquet(source)
        infer(source, arguments.posterior, output=Path(folder) / "posteriors", draws=1000, certify=True,
              prior=arguments.prior, budget_ms=arguments.budget_ms, target_ess=1000, allow_uncalibrated=True,
              client=SYNCHRONOUS)  # fmt: skip
        started = time.process_time()
        found = crosscheck(Path(folder) / "posteriors", n, seed=arguments.seed, report=print,
                           sampler=arguments.sampler)  # fmt: skip
        seconds = time.process_time() - started
    good = [one for one in found.galaxies if one.converged]
    certified = [one.c2st for one in good if one.certified and one.c2st is not None]
    evidence = [abs(one.log_evidence - one.log_evidence_sampler) for one in good
                if None not in (one.log_evidence, one.log_evidence_sampler)]  # fmt: skip
    return found.model_dump(include={"n", "n_not_converged", "quantile_shift_median", "c2st_median", "sampler"}) | {
        "c2st_largest": max((one.c2st for one in good if one.c2st is not None), default=None),
        "c2st_largest_of_certified": max(certified, default=None),
        "log_evidence_difference_median": float(np.median(evidence)) if evidence else None,
        "seconds_per_galaxy": seconds / max(len(found.galaxies), 1),
    }


def proposal_ms(data, posterior, seed) -> float:
    """Process milliseconds a galaxy for a round of proposals, weighed; the second of two goes, compiled and warm."""
    for _ in range(2):
        started = time.process_time()
        importance(posterior.sample(data, PROPOSALS, seed).log_weight)
        seconds = time.process_time() - started
    return 1e3 * seconds / len(data)


def summary(found) -> dict:
    """Distribution of efficiency, share with enough effective draws, routes."""
    reached = (found.ess >= CERTIFIED_ESS) & (found.route != "failed")
    return {
        "efficiency_median": float(np.median(found.efficiency)),
        "efficiency_percentiles": {f"p{q}": float(np.percentile(found.efficiency, q)) for q in (1, 5, 16, 84, 95)},
        "ess100_fraction": float(np.mean(reached)),
        "proposals_per_galaxy": float(found.n_proposals.mean()),
        "routes": {name: int(np.sum(found.route == name)) for name in ROUTES},
    }


def distances(truth, quantities) -> dict:
    """KS distances of SBC ranks."""
    names = (*PARAMETERS, *PROPERTIES)
    return {name: ks_distance(ranks(truth[name].astype(np.float32), quantities[name])) for name in names}


def off(frame, band):
    """One band brighter by 0.5 mag, its relative error kept."""
    columns = (f"flux_{band}", f"flux_err_{band}")
    return frame.assign(**{name: (10**0.2 * frame[name]).astype("float32") for name in columns})


def as_star(frame, colours):
    """The colours of a star at the galaxy's r magnitude, with each band's relative error."""
    ug, gr, ri, iz = (10 ** (0.4 * colour) for colour in colours)
    flux = {"r": frame["flux_r"], "g": frame["flux_r"] / gr, "i": frame["flux_r"] * ri}
    flux |= {"u": flux["g"] / ug, "z": flux["i"] * iz}
    columns = {f"flux_{band}": values.astype("float32") for band, values in flux.items()}
    relative = {band: frame[f"flux_err_{band}"] / frame[f"flux_{band}"].abs() for band in flux}
    errors = {f"flux_err_{band}": (relative[band] * values).astype("float32") for band, values in flux.items()}
    return frame.assign(**columns, **errors)


def uncertified() -> int:
    return sum(FLAGS[name] for name in UNCERTIFIED)


def report(result: dict) -> None:
    mocks, real = result["certified"]["mocks"], result["certified"]["real"]
    shared = ("n", "efficiency_median", "proposals_per_galaxy", "ess100_fraction", "ms_per_galaxy_with_rescue")
    print_table([{"sample": name, **{key: part[key] for key in shared}, **part["routes"]}
                 for name, part in {"mocks": mocks, "real": real}.items()], "certified")  # fmt: skip
    print(f"{mocks['ms_per_galaxy']:.1f} ms of one core for {PROPOSALS:,} proposals, weighed")
    print_table([{"quantity": name, "KS corrected": value, "KS uncorrected": mocks["ks_uncorrected"][name]}
                 for name, value in mocks["ks"].items()], "SBC")  # fmt: skip
    if "wrong" in result:
        print_table([{"galaxies": name, **values} for name, values in result["wrong"].items()], "wrong on purpose")
    print_table([{"band": band, "off": off, **shares} for band, some in result.get("power", {}).items()
                 for off, shares in some.items()], "flagged band_off")  # fmt: skip
    for name in ("crosscheck", "crosscheck_badly_fitted"):
        print(name, result.get(name))


if __name__ == "__main__":
    main()
