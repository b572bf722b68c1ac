"""One galaxy without training: popcat.fit_galaxy, and bagpipes with nautilus on the same fluxes.

    python benchmarks/fit_galaxy.py --json fit_galaxy.json

A galaxy of popcat's model at redshift 0.1, with errors of 5% and noise, in five bands of SDSS and in ten of GALEX,
SDSS and 2MASS. Each is fitted

- by popcat in a new process: seconds from its start to the posterior ("cold": kernels and tables are in the cache,
  where `--fill` puts them), and seconds of a second fit in the same process, with another seed;
- by bagpipes in this process: a delayed exponential history with Calzetti dust, sampled by nautilus: seconds of the
  fit, the set-up of the model apart.

The medians of log10 of the surviving mass are compared, in units of the larger of both widths, (p84 - p16) / 2. The
models differ: histories, dust, priors.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import popcat
from popcat.forward.filters import load_curves
from popcat.forward.properties import forward_for

from environment import conclude, parser, print_table

REDSHIFT, RELATIVE, SEED = 0.1, 0.05, 4
THETA = np.array([[10.9, 0.3, 0.3, 0.25, 0.15, 0.05, 3.0, -2.0, -2.0, 0.4, 0.3, -0.3]])
SURVEYS = ("sdss", "galex_sdss_2mass")
_FIT = """
import json, sys, time
started = float(sys.argv[1])
import popcat
flux, err, survey, n = json.loads(sys.argv[2])
for seed in (0, 1):
    galaxy = popcat.fit_galaxy(flux, err, survey, redshift=%s, n_draws=n, seed=seed)
    now = time.time()
    row = galaxy.table().loc["log_mstar"]
    print(json.dumps({"seconds": now - started, "status": galaxy.status, "ess": galaxy.ess,
                      "log_evidence": galaxy.log_evidence, "log_mstar": [row["p16"], row["p50"], row["p84"]]}))
    started = now
"""


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--fill", action="store_true", help="fit once before, to fill the caches")
    arguments.add_argument("--draws", type=int, default=1000, help="of each posterior")
    arguments.add_argument("--surveys", nargs="+", default=SURVEYS, help="whose bands; embedded ones' names")
    arguments.add_argument("--no-bagpipes", action="store_true", help="popcat alone")
    options = arguments.parse_args()
    result = {}
    for name in options.surveys:
        survey = popcat.load_survey(name)
        flux = forward_for(survey, popcat.GalaxyModel()).flux(THETA, np.array([REDSHIFT]))[0]
        err = RELATIVE * flux
        flux = flux + err * np.random.default_rng(SEED).standard_normal(len(flux))
        for _ in range(1 + options.fill):
            cold, second = by_popcat(flux, err, name, options.draws)
        case = {"bands": len(flux), "cold_s": cold["seconds"], "second_s": second["seconds"], "ess": second["ess"],
                "status": second["status"], "log_mstar": second["log_mstar"]}  # fmt: skip
        if not options.no_bagpipes:
            seconds, mass = by_bagpipes(survey, flux, err)
            width = max(0.5 * (part[2] - part[0]) for part in (mass, case["log_mstar"]))
            case |= {"bagpipes_s": seconds, "bagpipes_log_mstar": mass,
                     "shift_sigma": (case["log_mstar"][1] - mass[1]) / width}  # fmt: skip
        result[name] = case
    print_table([{"survey": name, **case} for name, case in result.items()], "One galaxy")
    conclude(options.json, {"fit_galaxy": result})


def by_popcat(flux, err, survey: str, draws: int) -> list[dict]:
    """Seconds and posterior of a first and a second fit in a new process."""
    given = json.dumps([flux.tolist(), err.tolist(), survey, draws])
    done = subprocess.run([sys.executable, "-c", _FIT % REDSHIFT, str(time.time()), given], check=True,
                          capture_output=True, text=True)  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_bagpipes(survey, flux, err, redshift: float = REDSHIFT, **dust) -> tuple[float, list[float]]:
    """Seconds of a fit by nautilus, and p16, p50, p84 of log10 of the surviving mass; `dust`: its emission."""
    import os

    import bagpipes

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # bagpipes writes into the working directory, and into that of its import
        bagpipes.utils.working_dir = folder
        try:
            files = []
            for curve in load_curves(survey):
                files.append(f"{curve.name}.txt")
                np.savetxt(files[-1], np.column_stack([curve.wave_aa, curve.response]))
            photometry = np.column_stack([flux, err]) * 3.631  # microjansky
            galaxy = bagpipes.galaxy("1", lambda _: photometry, spectrum_exists=False, filt_list=files)
            history = {"age": (0.1, 13.0), "tau": (0.1, 10.0), "massformed": (7.0, 12.5), "metallicity": (0.02, 2.5)}
            dust |= {"type": "Calzetti", "Av": (0.0, 3.0)}
            fit = bagpipes.fit(galaxy, {"redshift": redshift, "delayed": history, "dust": dust}, run="benchmark")
            started = time.perf_counter()
            fit.fit(verbose=False, sampler="nautilus", n_live=1000)
            seconds = time.perf_counter() - started
            fit.posterior.get_basic_quantities()
            return seconds, np.percentile(fit.posterior.samples["stellar_mass"], (16, 50, 84)).tolist()
        finally:
            os.chdir(before)


if __name__ == "__main__":
    main()
