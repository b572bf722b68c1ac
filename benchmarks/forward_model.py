"""Photometry by band tables against the full-resolution reference, and against bagpipes: how exact, how fast.

Each survey is measured with the default galaxy model; LSST's ugrizy with Euclid's YJH and IRAC's ch1 to ch3 at
0.05 < z < 6 also with everything that a galaxy model can have (`_full`): gas of Cloudy, emission of dust, an active
nucleus. `--surveys` takes some of them.

Accuracy: relative flux errors over draws of the prior, redshift uniform in the survey's range, of every band with more
than 1e-8 (20 magnitudes) of the light that the galaxy's brightest band has without dust: behind 40 optical depths, or
below the Lyman limit, what is left comes through the last few Angstrom of a filter. `max_err_all` counts those too.

Speed: one thread, many galaxies at once for popcat (fluxes alone; with the exact gradient in 12 parameters and
redshift; all derived properties, a_v and two absolute magnitudes among them), one at a time for the others, as each is
made to be used. Seconds are of processor time, which other programs on the machine lengthen little; all take turns in
every repeat, medians of the repeats. Bagpipes computes a delayed-exponential history with Calzetti dust, which emits,
and the intergalactic medium, through the same filters: update() with new parameters. Beside `_full` it has nebular
emission too; it has no such nucleus.

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

from popcat.errors import did_you_mean
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
SEEN = 1e-8
EVERYTHING = GalaxyModel(gas="cloudy", dust_emission="draine_li_2007", agn="temple_2021")
ABSOLUTE_MAGNITUDES = tuple(Filter(name=band, filter=f"sdss2010-{band}") for band in "gr")


def main():
    arguments = options()
    run_single_threaded()
    if importlib.util.find_spec("bagpipes") is None:
        print("bagpipes is not installed (make install): ratio_bagpipes is null")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POPCAT_CACHE"] = folder
        result = {name: measure(*case, arguments, Path(folder)) for name, case in chosen(arguments.surveys).items()}
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
    arguments.add_argument("--surveys", metavar="NAME", nargs="+", help="some of the surveys (all)")
    arguments.add_argument("--simulate", metavar="N", type=int, default=1_000_000, help="size of the library; 0: none")
    return arguments.parse_args()


def run_single_threaded() -> None:
    """Start again with one thread a library, which must be said before numpy is imported."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})


def chosen(names: list[str] | None) -> dict[str, tuple[Survey, GalaxyModel]]:
    """The cases of these names; all without names."""
    known = cases()
    for name in names or ():
        if name not in known:
            sys.exit(f'no survey "{name}" here; {did_you_mean(name, known)}')
    return {name: known[name] for name in names or known}


def cases() -> dict[str, tuple[Survey, GalaxyModel]]:
    """Embedded surveys, sdss nearby, and u to 6 micron in twelve bands; the same bands at the same redshifts once."""
    default = GalaxyModel()
    nearby = load_survey("sdss").model_copy(update={"redshift_range": (0.001, 0.2)})
    found = {"sdss": (load_survey("sdss"), default), "sdss_z0.2": (nearby, default)}
    for name in embedded_surveys():
        survey = load_survey(name)
        if _light(survey) not in [_light(other) for other, _ in found.values()]:
            found[name] = (survey, default)
    wide = twelve_bands()
    return {**found, wide.name: (wide, default), f"{wide.name}_full": (wide, EVERYTHING)}


def _light(survey: Survey) -> tuple:
    return survey.redshift_range, [(band.filter, band.wave_range_aa, band.trim) for band in survey.bands]


def twelve_bands() -> Survey:
    """LSST's ugrizy, NISP's YJH and IRAC's ch1, ch2 and ch3."""
    nisp = [band.model_copy(update={"name": f"nisp{band.name}"}) for band in load_survey("euclid").bands[-3:]]
    irac = [band for band in load_survey("cosmos2020").bands if band.name in ("ch1", "ch2", "ch3")]
    return load_survey("lsst").model_copy(update={
        "name": "lsst_euclid_irac", "redshift_range": (0.05, 6.0),
        "bands": (*load_survey("lsst").bands, *nisp, *irac),
    })  # fmt: skip


def measure(survey: Survey, galaxy_model: GalaxyModel, arguments, folder: Path) -> dict:
    """One row of the table."""
    start = time.perf_counter()
    photometry = Photometry(survey, galaxy_model)
    build_s = time.perf_counter() - start
    curves = load_curves(survey)
    return {
        **accuracy(photometry, curves, *prior_draws(survey, galaxy_model, arguments.draws, seed=1)),
        **speed(photometry, curves, galaxy_model, arguments.repeats, folder),
        "table_mb": photometry.tables.megabytes,
        "build_s": build_s,
    }


def prior_draws(survey: Survey, galaxy_model: GalaxyModel, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,)."""
    rng = np.random.default_rng(seed)
    prior = make_prior(galaxy_model)
    theta = prior.from_unit(rng.random((n, prior.n_unconstrained)))
    return theta, rng.uniform(*survey.redshift_range, n)


def accuracy(photometry: Photometry, curves, theta, redshift) -> dict:
    """Relative errors of the fast path; the reference is the truth."""
    exact = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    # Hundreds of optical depths leave a flux of zero, which the tables may have as well.
    error = np.abs(photometry.flux(theta, redshift) - exact) / np.maximum(exact, np.finfo(float).tiny)
    seen = exact > SEEN * photometry.flux(without_dust(theta, photometry), redshift).max(axis=1, keepdims=True)
    by_band = np.where(seen, error, 0.0).max(axis=0)
    return {
        "max_err": float(error[seen].max()),
        "p999_err": float(np.quantile(error[seen], 0.999)),
        "max_err_all": float(error.max()),
        "max_err_by_band": dict(zip((c.name for c in curves), by_band.tolist(), strict=True)),
    }


def without_dust(theta: np.ndarray, photometry: Photometry) -> np.ndarray:
    """theta with no optical depths."""
    theta, first = theta.copy(), photometry.ingredients.n_history
    names = photometry.ingredients.components.names
    theta[:, [first + names.index(name) for name in ("tau_bc", "tau_ism")]] = 0.0
    return theta


def speed(photometry: Photometry, curves, galaxy_model: GalaxyModel, repeats: int, folder: Path) -> dict:
    """Galaxies a second of each, in turns."""
    theta, redshift = prior_draws(photometry.survey, galaxy_model, N_SPEED, seed=2)
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
        updates = bagpipes_updates(curves, photometry.survey.redshift_range, galaxy_model.gas == "cloudy", folder)
        contestants["bagpipes"] = (N_BAGPIPES, updates)
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


def bagpipes_updates(curves, z_range, nebular: bool, folder: Path):
    """A function that calls update() of one bagpipes model with N_BAGPIPES sets of parameters."""
    import bagpipes

    files = []
    for curve in curves:
        files.append(str(folder / f"{curve.name}.txt"))
        np.savetxt(files[-1], np.column_stack([curve.wave_aa, curve.response]))
    z_range = (z_range[0], min(z_range[1], bagpipes.config.max_redshift))
    galaxies = [bagpipes_components(rng, z_range, nebular) for rng in np.random.default_rng(3).spawn(N_BAGPIPES)]
    model = bagpipes.model_galaxy(galaxies[0], filt_list=files, phot_units="mujy")

    def updates():
        for components in galaxies:
            model.update(components)
            if not model.photometry[-1] > 0:  # the bluest may be dark: the intergalactic medium
                raise RuntimeError("bagpipes gave no light: its speed would mean nothing")

    return updates


def bagpipes_components(rng, z_range, nebular: bool) -> dict:
    """Parameters of one galaxy in bagpipes' words."""
    redshift = rng.uniform(*z_range)
    oldest = min(7.0, 0.9 * float(cosmology_table().age(redshift)))
    history = {"age": rng.uniform(oldest / 7.0, oldest), "tau": rng.uniform(0.3, 5.0), "massformed": 10.5,
               "metallicity": rng.uniform(0.1, 2.0)}  # fmt: skip
    dust = {"type": "Calzetti", "Av": rng.uniform(0.0, 2.0), "eta": 2.0, "qpah": rng.uniform(0.5, 4.5),
            "umin": rng.uniform(0.1, 8.0), "gamma": rng.uniform(0.0, 0.5)}  # fmt: skip
    gas = {"nebular": {"logU": rng.uniform(-4.0, -1.0)}} if nebular else {}
    # bagpipes has nebular emission of stars of up to 10 Myr
    return {"redshift": redshift, "t_bc": 0.01 if nebular else 0.1, "delayed": history, "dust": dust, **gas}


def report(result: dict) -> None:
    """One line a quantity, one column a survey, some surveys a table; the errors band by band are in the JSON."""
    names = list(result)
    quantities = [key for key in result[names[0]] if key != "max_err_by_band"]
    for some in (names[i : i + 4] for i in range(0, len(names), 4)):
        rows = [{"quantity": key, **{name: result[name][key] for name in some}} for key in quantities]
        print_table(rows, "Forward model")


if __name__ == "__main__":
    main()
