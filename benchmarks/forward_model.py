"""Photometry by band tables against the full-resolution reference, and against bagpipes: how exact, how fast.

Accuracy: relative flux errors over draws of the prior, redshift uniform in the survey's range, of every band with more
than 1e-10 (25 magnitudes) of the light of the galaxy's brightest band: behind 40 optical depths, what is left comes
through the last few Angstrom of a filter. `max_err_all` counts those too.

Speed: one thread, many galaxies at once for popcat (fluxes alone; with the exact gradient in 12 parameters and
redshift; all derived properties, a_v and two absolute magnitudes among them), one at a time for the others, as each is
made to be used. Seconds are of processor time, which other programs on the machine lengthen little; all take turns in
every repeat, medians of the repeats. Bagpipes computes a delayed-exponential history with Calzetti dust, through the
same filters: update() with new parameters.

`simulate`: a library of a million galaxies by `popcat simulate` on two workers, see benchmarks/simulation.py.

`build_s` is the time to the first photometry object in an empty cache: reading the grid, building and storing tables.
"""

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from popcat.forward.cosmology import cosmology_table
from popcat.forward.filters import load_curves
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.forward.spectrum import reference_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Filter, Survey, embedded_surveys, load_survey

from environment import conclude, parser, print_table
from simulation import simulate

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
N_SPEED, N_REFERENCE, N_BAGPIPES = 200_000, 50, 100
SEEN = 1e-10
ABSOLUTE_MAGNITUDES = tuple(Filter(name=band, filter=f"sdss2010-{band}") for band in "gr")


def main():
    arguments = options()
    run_single_threaded()
    if importlib.util.find_spec("bagpipes") is None:
        print("bagpipes is not installed (make install): ratio_bagpipes is null")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POPCAT_CACHE"] = folder
        result = {name: measure(survey, arguments, Path(folder)) for name, survey in surveys().items()}
        simulated = simulate(arguments.simulate, workers=2) if arguments.simulate else None
    report(result)
    if simulated:
        print_table([{"quantity": name, "value": value} for name, value in simulated.items()], "popcat simulate")
    sizes = {"draws": arguments.draws, "repeats": arguments.repeats}
    conclude(arguments.json, {"surveys": result, "simulate": simulated, **sizes})


def options():
    arguments = parser(__doc__)
    arguments.add_argument("--draws", metavar="N", type=int, default=5000, help="prior draws for the accuracy (5000)")
    arguments.add_argument("--repeats", metavar="N", type=int, default=9, help="repeats of each timing (9)")
    arguments.add_argument("--simulate", metavar="N", type=int, default=1_000_000, help="size of the library; 0: none")
    return arguments.parse_args()


def run_single_threaded() -> None:
    """Start again with one thread a library, which must be said before numpy is imported."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})


def surveys() -> dict[str, Survey]:
    """The embedded surveys, each on its own redshift range, and sdss nearby; each set of bands once."""
    nearby = load_survey("sdss").model_copy(update={"redshift_range": (0.001, 0.2)})
    found = {"sdss": load_survey("sdss"), "sdss_z0.2": nearby}
    for name in embedded_surveys():
        survey = load_survey(name)
        if _bands(survey) not in map(_bands, found.values()):
            found[name] = survey
    return found


def _bands(survey: Survey) -> list[tuple]:
    return [(band.filter, band.wave_range_aa, band.trim) for band in survey.bands]


def measure(survey: Survey, arguments, folder: Path) -> dict:
    """One row of the table."""
    start = time.perf_counter()
    photometry = Photometry(survey, GalaxyModel())
    build_s = time.perf_counter() - start
    curves = load_curves(survey)
    return {
        **accuracy(photometry, curves, *prior_draws(survey, arguments.draws, seed=1)),
        **speed(photometry, curves, arguments.repeats, folder),
        "table_mb": photometry.tables.megabytes,
        "build_s": build_s,
    }


def prior_draws(survey: Survey, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, 12) and redshift (n,)."""
    rng = np.random.default_rng(seed)
    prior = make_prior(GalaxyModel())
    theta = prior.from_unit(rng.random((n, prior.n_unconstrained)))
    return theta, rng.uniform(*survey.redshift_range, n)


def accuracy(photometry: Photometry, curves, theta, redshift) -> dict:
    """Relative errors of the fast path; the reference is the truth."""
    exact = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    # Hundreds of optical depths leave a flux of zero, which the tables may have as well.
    error = np.abs(photometry.flux(theta, redshift) - exact) / np.maximum(exact, np.finfo(float).tiny)
    seen = exact > SEEN * exact.max(axis=1, keepdims=True)
    by_band = np.where(seen, error, 0.0).max(axis=0)
    return {
        "max_err": float(error[seen].max()),
        "p999_err": float(np.quantile(error[seen], 0.999)),
        "max_err_all": float(error.max()),
        "max_err_by_band": dict(zip((c.name for c in curves), by_band.tolist(), strict=True)),
    }


def speed(photometry: Photometry, curves, repeats: int, folder: Path) -> dict:
    """Galaxies a second of each, in turns."""
    theta, redshift = prior_draws(photometry.survey, N_SPEED, seed=2)
    few = slice(0, N_REFERENCE)
    v = np.ones((N_SPEED, len(curves)))
    two = photometry.survey.model_copy(update={"absolute_magnitudes": ABSOLUTE_MAGNITUDES})
    properties = Properties(two, photometry.ingredients)
    contestants = {
        "popcat": (N_SPEED, lambda: photometry.flux(theta, redshift)),
        "gradient": (N_SPEED, lambda: photometry.flux_vjp(theta, redshift, v)),
        "properties": (N_SPEED, lambda: properties(theta, redshift)),
        "reference": (N_REFERENCE, lambda: reference_fluxes(theta[few], redshift[few], photometry.ingredients, curves)),
    }
    if importlib.util.find_spec("bagpipes") is not None:
        contestants["bagpipes"] = (N_BAGPIPES, bagpipes_updates(curves, photometry.survey.redshift_range, folder))
    rates = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        for name, (n, function) in contestants.items():
            rate = n / seconds(function)
            if repeat > 0:  # the first is the warm-up: compilation, caches
                rates[name].append(rate)
    median = {name: float(np.median(values)) for name, values in rates.items()}
    fast, peer = median["popcat"], median.get("bagpipes")
    return {
        "galaxies_per_s": fast,
        "galaxies_per_s_grad": median["gradient"],
        "properties_per_s": median["properties"],
        "reference_per_s": median["reference"],
        "bagpipes_per_s": peer,
        "ratio_reference": fast / median["reference"],
        "ratio_bagpipes": fast / peer if peer else None,
    }


def seconds(function) -> float:
    """Processor time of this process, in which all contestants run on one thread."""
    start = time.process_time()
    function()
    return time.process_time() - start


def bagpipes_updates(curves, z_range, folder: Path):
    """A function that calls update() of one bagpipes model with N_BAGPIPES sets of parameters."""
    import bagpipes

    files = []
    for curve in curves:
        files.append(str(folder / f"{curve.name}.txt"))
        np.savetxt(files[-1], np.column_stack([curve.wave_aa, curve.response]))
    galaxies = [bagpipes_components(rng, z_range) for rng in np.random.default_rng(3).spawn(N_BAGPIPES)]
    model = bagpipes.model_galaxy(galaxies[0], filt_list=files, phot_units="mujy")

    def updates():
        for components in galaxies:
            model.update(components)
            if not np.all(model.photometry > 0):
                raise RuntimeError("bagpipes gave no light: its speed would mean nothing")

    return updates


def bagpipes_components(rng, z_range) -> dict:
    """Parameters of one galaxy in bagpipes' words."""
    redshift = rng.uniform(*z_range)
    oldest = min(7.0, float(cosmology_table().age(redshift)) - 0.5)
    history = {"age": rng.uniform(1.0, oldest), "tau": rng.uniform(0.3, 5.0), "massformed": 10.5,
               "metallicity": rng.uniform(0.1, 2.0)}  # fmt: skip
    dust = {"type": "Calzetti", "Av": rng.uniform(0.0, 2.0), "eta": 2.0}
    return {"redshift": redshift, "t_bc": 0.1, "delayed": history, "dust": dust}


def report(result: dict) -> None:
    """One line a quantity, one column a survey."""
    flat = {}
    for name, row in result.items():
        flat[name] = row | {f"max_err {band}": error for band, error in row["max_err_by_band"].items()}
    quantities = dict.fromkeys(key for row in flat.values() for key in row if key != "max_err_by_band")
    rows = [{"quantity": key, **{name: row.get(key) for name, row in flat.items()}} for key in quantities]
    print_table(rows, "Forward model")


if __name__ == "__main__":
    main()
