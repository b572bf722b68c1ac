"""Posteriors without a flow against trained ones, both certified: seconds per galaxy, share certified, agreement.

    python benchmarks/from_prior.py --posterior sdss --prior physical --n 50 --json from_prior.json

For mocks of the posterior's prior and noise, and for real galaxies of the embedded catalogue (of which
`galex_sdss_2mass` has ten bands), with the redshift given and with it hidden:

- CPU seconds of one core per galaxy, and the share with 100 effective draws or more;
- differences of the evidences, ours less the trained posterior's, where that came from weights;
- the largest two-sample KS distance of all parameters: of the median galaxy, of the worst one, and the share of
  galaxies where it is larger than in one of a hundred pairs of samples of one distribution, as many effective draws.
"""

import time
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, kstwobign

from popcat.checks.certify import Effort, certify
from popcat.galaxies import CERTIFIED_ESS, observation
from popcat.io.photometry import to_photometry
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks

from environment import conclude, parser, print_table

DRAWS = 500


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--posterior", default="sdss", help="a trained one, by folder or embedded name")
    arguments.add_argument("--prior", help="one that it was trained under")
    arguments.add_argument("--n", type=int, default=50, help="mocks, and real galaxies")
    arguments.add_argument("--seed", type=int, default=3)
    options = arguments.parse_args()
    trained = load_posterior(options.posterior).under(options.prior)
    flowless = prior_posterior(trained.survey, trained.galaxy_model, prior=trained.prior_name, noise=trained.noise)
    mocks = draw_mocks(trained, options.n, options.seed).assign(redshift_err=np.nan)
    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").sample(options.n, random_state=0)
    samples = {"mocks": observation(mocks, trained.survey),
               "real": observation(to_photometry(raw, trained.survey), trained.survey)}  # fmt: skip
    certify(flowless, samples["mocks"][:1], 20, 0)  # compiles
    result = {}
    for name, data in samples.items():
        for way, z in (("redshift given", data.redshift), ("redshift unknown", np.full(len(data), np.nan))):
            result[f"{name}, {way}"] = compare(flowless, trained, replace(data, redshift=z))
    print_table([{"sample": name, **case} for name, case in result.items()],
                f"{options.posterior}, prior {trained.prior_name}, {len(trained.survey.bands)} bands")  # fmt: skip
    conclude(options.json, {"from_prior": result, "posterior": options.posterior, "prior": trained.prior_name})


def compare(flowless, trained, data) -> dict:
    started = time.process_time()
    ours = certify(flowless, data, DRAWS, 0, effort=Effort())
    seconds = (time.process_time() - started) / len(data)
    theirs = certify(trained, data, DRAWS, 0, effort=Effort(target_ess=400.0))
    good = (ours.route != "failed") & (ours.ess >= CERTIFIED_ESS)
    both = np.flatnonzero(good & (theirs.route == "flow+is"))
    apart = (ours.log_evidence - theirs.log_evidence)[both]
    distance, limit = np.array([largest_ks(ours, theirs, i) for i in both]).reshape(-1, 2).T
    return {
        "n": len(data), "s_per_galaxy": seconds, "certified": float(np.mean(good)),
        "routes": {name: int(np.sum(ours.route == name)) for name in ("flow+is", "smc", "failed")},
        "efficiency_median": float(np.median(ours.efficiency)), "compared": len(both),
        "evidence_p5_50_95": np.percentile(apart, (5, 50, 95)).round(3).tolist(),
        "ks_median": float(np.median(distance)), "ks_largest": float(distance.max()),
        "ks_beyond_expected": float(np.mean(distance > limit)),
    }  # fmt: skip


def largest_ks(ours, theirs, i: int) -> tuple[float, float]:
    """Largest KS distance of a parameter's two samples, and what one in a hundred pairs of samples would exceed."""
    columns = [k for k in range(ours.theta.shape[2]) if np.ptp(theirs.theta[i, :, k]) > 0.0]
    found = max(ks_2samp(ours.theta[i, :, k], theirs.theta[i, :, k]).statistic for k in columns)
    effective = 1.0 / sum(1.0 / min(one.ess[i], DRAWS) for one in (ours, theirs))
    return found, float(kstwobign.isf(0.01 / len(columns)) / np.sqrt(effective))


if __name__ == "__main__":
    main()
