"""Populations of a mock survey, whose truth is known, and of the 10,000 real SDSS galaxies, whose redshifts are.

mock: 100,000 galaxies (mock_survey.py says of what), r < 19.8, five flows. `w1_redshift`, `w1_log_mstar`: 1-D
Wasserstein distances of what the survey selects from the truth. `distance_over_floor`: sliced distance of the
photometry to either half of the data in units of that of the two halves, means over 16 halvings, and the error of that
ratio. `between_fits`: by quantity, difference of a second, shorter fit from another start, in widths of the population
(what the data do not measure); `second_distance_over_floor`: that fit's distance from the data; `between_flows`: the
mean difference of two flows. `sfms_offset_dex`: main sequence at z < 0.1, log M* = 9.5, 10, 10.5. start: the reweighted
library that the flows learn first.
wrong: the same with errors taken twice as large, with the cut left out, and from the training prior instead of the
physical one, beside as small an ensemble with everything right (`right`), and one of a mock with another truth
(`other`); half as many steps.
scaling: seconds of a step against the number of galaxies.
real: galaxies with nebular emission (the embedded model sdss_nebular), redshifts hidden. `w1_redshift_wasserstein`,
`w1_redshift_hierarchical`: of p(z) from the spectroscopic one; `stacked`: the hierarchical route left at its start, the
posteriors stacked under the wide prior (stack_share = 1); `known`: Wasserstein route with the redshift distribution of
every tenth galaxy as data, compared with that of the others; `labelled`: of that tenth alone, redshifts a dimension of
the distance; `stars`: Wasserstein route without nebular emission; masses against kcorrect's at the true redshifts,
where it is installed; photo-z of every fifth galaxy, those of the tenth left out, under the flat prior and with each of
the populations as the prior.

Times are wall clock and CPU seconds of the members: on a machine that others use, the second can be compared.
"""

import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from mock_survey import COMMON, FAINT_MAG, OTHER, Truth, main_sequence, make_mock
from scipy.stats import wasserstein_distance

from popcat.catalog.photoz import point_scores
from popcat.catalog.queries import open_catalog
from popcat.forward.noise import BandNoise, Noise, default_noise
from popcat.galaxy_model import GalaxyModel
from popcat.inference.infer import infer
from popcat.inference.reweight import reweight
from popcat.population.fit import fit_population
from popcat.population.fitted import load_population
from popcat.population.sampling import sample_population
from popcat.population.settings import PopulationSettings
from popcat.population.trust import statements
from popcat.prior import FLAT
from popcat.run.client import SYNCHRONOUS
from popcat.survey import Survey, load_survey

from environment import conclude, parser, print_table

CUT = f"r<{FAINT_MAG}"
BANDS = ("u", "g", "r", "i", "z")
NEBULAR = "sdss_nebular"
SAMPLES = 400_000
"""More than a fit writes: of those, a few hundred are at a mass of the main sequence and z < 0.1."""


def main():
    arguments = options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = {}
        for part in arguments.parts.split(","):
            result |= PARTS[part](folder, arguments)
            for name, value in result.items():
                print_table(value if isinstance(value, list) else [flat(value)], name)
        conclude(arguments.json, result)


def options():
    arguments = parser(__doc__)
    arguments.add_argument("--folder", type=Path, help="for the fits, so that a second call goes on")
    arguments.add_argument("--parts", default="mock,wrong,scaling,real", help="of mock,wrong,scaling,real")
    arguments.add_argument("--n", type=int, default=100_000, help="galaxies of the mock (100,000)")
    arguments.add_argument("--members", type=int, default=5, help="flows (5; of wrong and real: at most 2)")
    arguments.add_argument("--workers", type=int, default=2, help="processes; 0: this one")
    arguments.add_argument("--draws", type=int, default=200, help="posterior draws of a real galaxy (200)")
    arguments.add_argument("--every", type=int, default=5, help="photo-z of every such galaxy (5)")
    arguments.add_argument("--many", type=int, default=8000, help="draws of each of those, to be reweighted (8000)")
    return arguments.parse_args()


def flat(value: dict) -> dict:
    return {key: str(item) if isinstance(item, list | dict) else item for key, item in value.items()}


def where(arguments) -> dict:
    """Where work runs: as many processes, or this one."""
    return {"workers": arguments.workers} if arguments.workers else {"client": SYNCHRONOUS}


def mock_survey() -> Survey:
    """The bands of sdss; fluxes in nMgy as they are."""
    survey = load_survey("sdss")
    plain = {"ab_offset_mag": 0.0, "error_floor": 0.0, "extinction": None}
    bands = tuple(band.model_copy(update={**plain, "flux": f"flux_{band.name}", "flux_err": f"flux_err_{band.name}"})
                  for band in survey.bands)  # fmt: skip
    columns = survey.columns.model_copy(update={"ra": None, "dec": None})
    return survey.model_copy(update={"name": "sdss_mock", "bands": bands, "columns": columns})


def mock_catalog(folder: Path, n: int, of: Truth = COMMON) -> tuple[Path, dict]:
    """The mock on disk, and its truth."""
    name = f"mock-{n}" if of == COMMON else f"other-{n}"
    stored = folder / f"{name}.npz"
    if not stored.exists():
        survey = load_survey("sdss")
        np.savez(stored, **make_mock(n, survey, GalaxyModel(), default_noise(survey), truth=of))
    truth = dict(np.load(stored))
    path = folder / f"{name}.parquet"
    columns = {f"{kind}_{band}": truth[name][:, i] for i, band in enumerate(BANDS)
               for kind, name in (("flux", "flux"), ("flux_err", "err"))}  # fmt: skip
    pd.DataFrame({"object_id": np.arange(n), "redshift": np.nan, **columns}).to_parquet(path)
    return path, truth


def fit(folder: Path, name: str, source, arguments, *, settings: PopulationSettings | None = None, **more) -> dict:
    """Fit, or read what is fitted: samples, description, seconds."""
    output, start = folder / name, time.monotonic()
    settings = settings or PopulationSettings(members=arguments.members)
    fit_population(source, output, settings=settings, report=lambda text: print(text, file=sys.stderr),
                   **where(arguments), **more)  # fmt: skip
    seconds = time.monotonic() - start
    samples = sample_population(output, SAMPLES, seed=1)
    return {"samples": samples, "description": load_population(output).description, "seconds": seconds}


def against_truth(found: dict, truth: dict) -> dict:
    """What the survey selects, against the truth."""
    frame = found["samples"][found["samples"]["selected"]]
    low, true_low = frame[frame["redshift"] < 0.1], truth["redshift"] < 0.1
    offset = main_sequence(low["log_mstar"].to_numpy(), low["log_sfr_1gyr"].to_numpy()) - main_sequence(
        truth["log_mstar"][true_low], truth["log_sfr_1gyr"][true_low]
    )
    members = found["description"].members
    quiescent = float((frame["log_ssfr"] < -11).mean())
    return {
        "w1_redshift": wasserstein_distance(frame["redshift"], truth["redshift"]),
        "w1_log_mstar": wasserstein_distance(frame["log_mstar"], truth["log_mstar"]),
        "mean_redshift_offset": float(frame["redshift"].mean() - truth["redshift"].mean()),
        "mean_log_mstar_offset": float(frame["log_mstar"].mean() - truth["log_mstar"].mean()),
        **ratio_of(found), **verdict_of(found),
        "sfms_offset_dex": [round(float(value), 3) for value in offset],
        "quiescent_fraction": quiescent,
        "quiescent_fraction_true": float((truth["log_sfr_1gyr"] - truth["log_mstar"] < -11).mean()),
        "seconds": found["seconds"],
        "member_cpu_seconds": [round(member.cpu_seconds, 1) for member in members],
        "members": sum(member.weight > 0 for member in members),
    }


def verdict_of(found: dict) -> dict:
    """What the start decides, and the random numbers."""
    measured = found["description"].measured
    second, rows = measured.get("second") or {}, measured["quantities"]
    kinds = {kind: {row["name"]: None if row[kind] is None else round(row[kind], 3) for row in rows}
             for kind in ("between_fits", "between_starts", "between_flows")}  # fmt: skip
    return {**kinds, "second_start": second.get("start"), "second_cpu_seconds": second.get("cpu_seconds"),
            "second_distance_over_floor": second.get("distance_over_floor"),
            "trust": [str(one) for one in statements(found["description"])]}  # fmt: skip


def ratio_of(found: dict, suffix: str = "") -> dict:
    """Distance of the photometry in units of the sampling floor."""
    measured = found["description"].measured
    return {f"{name}{suffix}": measured[name] for name in ("distance_over_floor", "distance_over_floor_err")}


def joint(found: dict, truth: dict) -> list:
    """Redshift and mass together: mean log M* (true, found) in bins of redshift."""
    frame = found["samples"][found["samples"]["selected"]]
    rows = []
    for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.5)):
        a, b = ((z >= low) & (z < high) for z in (frame["redshift"].to_numpy(), truth["redshift"]))
        rows.append({"low": low, "high": high, "share": float(a.mean()), "share_true": float(b.mean()),
                     "log_mstar": float(frame["log_mstar"][a].mean()),
                     "log_mstar_true": float(truth["log_mstar"][b].mean())})  # fmt: skip
    return rows


def mock(folder: Path, arguments) -> dict:
    path, truth = mock_catalog(folder, arguments.n)
    found = fit(folder, "mock", path, arguments, survey=mock_survey(), cuts=[CUT])
    return {"mock": against_truth(found, truth), "start": start_against_truth(folder / "mock", truth),
            "joint": joint(found, truth)}  # fmt: skip


def start_against_truth(folder: Path, truth: dict) -> dict:
    """The reweighted library that the flows learn, against the truth."""
    import torch

    from popcat.forward.properties import Properties
    from popcat.population.members import read_job

    job = read_job(folder)
    random = torch.Generator().manual_seed(0)
    rows = torch.multinomial(torch.softmax(job.start.log_weight, 0), 50_000, replacement=True, generator=random)
    synthesis = job.synthesis()
    _, _, seen = synthesis.arrays(job.start.x[rows], torch.randn(50_000, 10, generator=random))
    theta, redshift = job.space.arrays(job.start.x[rows][seen])
    found = Properties(job.survey, synthesis.photometry.ingredients)(theta, redshift)
    return {"w1_redshift": wasserstein_distance(redshift, truth["redshift"]),
            "w1_log_mstar": wasserstein_distance(found["log_mstar"], truth["log_mstar"])}  # fmt: skip


def wrong(folder: Path, arguments) -> dict:
    path, truth = mock_catalog(folder, arguments.n)
    few = PopulationSettings(members=min(arguments.members, 2), steps=900)
    flat_start = few.model_copy(update={"start_prior": "flat"})
    right = default_noise(load_survey("sdss"))
    runs = {
        "right": {"settings": few, "cuts": [CUT]},
        "errors_doubled": {"settings": few, "cuts": [CUT], "noise": louder(right, 2.0)},
        "no_selection": {"settings": few, "cuts": []},
        "flat_start": {"settings": flat_start, "cuts": [CUT]},
    }
    found = {name: against_truth(fit(folder, name, path, arguments, survey=mock_survey(), **options), truth)
             for name, options in runs.items()}  # fmt: skip
    path, truth = mock_catalog(folder, arguments.n, OTHER)
    other = fit(folder, "other", path, arguments, survey=mock_survey(), **runs["right"])
    return {**found, "other": against_truth(other, truth)}


def louder(noise: Noise, factor: float) -> Noise:
    """Errors that are larger by a factor."""
    bands = {name: BandNoise(ln_flux=band.ln_flux, scatter=band.scatter,
                             ln_err=tuple(np.array(band.ln_err) + np.log(factor)))
             for name, band in noise.bands.items()}  # fmt: skip
    return noise.model_copy(update={"bands": bands})


def scaling(folder: Path, arguments) -> dict:
    """CPU seconds of a step on 10,000, 100,000 and 1,000,000 galaxies: the mock's, repeated with fresh noise."""
    from popcat.population.distance import WassersteinLoss
    from popcat.population.jobs import job_of_photometry
    from popcat.population.synthesis import new_flow

    _, truth = mock_catalog(folder, arguments.n)
    random, rows = np.random.default_rng(0), []
    for n in (10_000, 100_000, 1_000_000):
        some = random.integers(len(truth["flux"]), size=n)
        err = truth["err"][some]
        flux = truth["flux"][some] + 0.1 * err * random.standard_normal(err.shape)
        frame = pd.DataFrame({f"{kind}_{band}": values[:, i] for i, band in enumerate(BANDS)
                              for kind, values in (("flux", flux), ("flux_err", err))})  # fmt: skip
        settings = PopulationSettings()
        start = time.process_time()
        job = job_of_photometry(frame.assign(redshift=np.nan), mock_survey(), GalaxyModel(), [CUT], settings)
        flow, _ = new_flow(settings, job.space.n_dim, 0)
        made = WassersteinLoss(flow, job.synthesis(), job.galaxies, job.scaling, settings, 0)
        made.loss(0).backward()
        ready = time.process_time()
        for step in range(10):
            made.loss(step).backward()
        rows.append({"n": n, "seconds_per_step": (time.process_time() - ready) / 10, "seconds_before": ready - start})
    return {"scaling": rows}


def real(folder: Path, arguments) -> dict:
    catalog = files("popcat") / "data" / "galaxies_sdss.parquet"
    z_spec = pd.read_parquet(catalog, columns=["object_id", "redshift"]).set_index("object_id")["redshift"]
    settings = PopulationSettings(members=min(arguments.members, 2), second_start="none")
    nebular = {"survey": NEBULAR, "galaxy_model": GalaxyModel(grid="bc03_miles_nebular")}
    with_second = settings.model_copy(update={"second_start": None})
    wasserstein = fit(folder, "real-wasserstein", catalog, arguments, settings=with_second, **nebular)
    stars = fit(folder, "real-stars", catalog, arguments, settings=settings, survey=NEBULAR)
    tenth = folder / "tenth.parquet"
    frame = pd.read_parquet(catalog)
    is_known = np.arange(len(frame)) % 10 == 0
    z_others = z_spec[~is_known]
    frame.assign(redshift=frame["redshift"].where(is_known)).to_parquet(tenth)
    with_known = settings.model_copy(update={"redshifts": "distribution"})
    known = fit(folder, "real-known", tenth, arguments, settings=with_known, **nebular)
    with_labels = settings.model_copy(update={"redshifts": "distance"})
    labelled = fit(folder, "real-labelled", tenth, arguments, settings=with_labels, **nebular)
    posteriors = infer_hidden(folder / "hidden", catalog, arguments.draws, arguments)
    hierarchical = fit(folder, "real-hierarchical", posteriors, arguments, settings=settings)
    stacked = fit(folder, "real-stacked", posteriors, arguments,
                  settings=settings.model_copy(update={"stack_share": 1.0}))  # fmt: skip
    result = {
        "w1_redshift_stacked": distance_to(stacked, z_spec),
        "w1_redshift_stars": distance_to(stars, z_spec),
        "w1_redshift_known": distance_to(known, z_others),
        "w1_redshift_labelled": distance_to(labelled, z_others),
        "w1_redshift_of_the_tenth": wasserstein_distance(z_spec[is_known], z_others),
        "w1_redshift_wasserstein": distance_to(wasserstein, z_spec),
        "w1_redshift_hierarchical": distance_to(hierarchical, z_spec),
        **ratio_of(wasserstein), **ratio_of(stars, "_stars"), **verdict_of(wasserstein),
        "seconds_wasserstein": wasserstein["seconds"], "seconds_hierarchical": hierarchical["seconds"],
    }  # fmt: skip
    some = folder / "some.parquet"
    pd.read_parquet(catalog).iloc[:: arguments.every].to_parquet(some)
    posteriors = infer_hidden(folder / "hidden-some", some, arguments.many, arguments)
    result |= photoz(posteriors, z_others, "flat")
    for name in ("hierarchical", "wasserstein", "stacked", "known", "labelled"):
        output = folder / f"reweighted-{name}"
        client = None if arguments.workers else SYNCHRONOUS
        reweight(posteriors, folder / f"real-{name}", output=output, client=client, workers=arguments.workers)
        result |= photoz(output, z_others, "population" if name == "hierarchical" else f"population_{name}")
    masses = kcorrect_masses(catalog)
    if masses is not None:
        fits = {"wasserstein": wasserstein, "hierarchical": hierarchical, "stacked": stacked, "known": known,
                "labelled": labelled}  # fmt: skip
        for name, found in fits.items():
            frame = found["samples"]
            result[f"w1_log_mstar_kcorrect_{name}"] = wasserstein_distance(frame["log_mstar"], masses)
            result[f"mean_log_mstar_kcorrect_{name}"] = float(frame["log_mstar"].mean() - masses.mean())
    return {"real": result}


def infer_hidden(folder: Path, catalog, draws: int, arguments) -> Path:
    """Posteriors with the redshifts hidden, unless they are there."""
    infer(catalog, NEBULAR, output=folder, draws=draws, hide_redshift=True, prior=FLAT, **where(arguments))
    return folder


def distance_to(found: dict, z_spec: pd.Series) -> float:
    return wasserstein_distance(found["samples"]["redshift"], z_spec)


def photoz(posteriors: Path, z_spec: pd.Series, name: str) -> dict:
    """NMAD, bias and outliers of the medians, and the effective draws, of the galaxies in z_spec."""
    columns = ["object_id", "redshift_p50", "ess"]
    frame = open_catalog(posteriors).to_pandas(columns)
    frame = frame[frame["object_id"].isin(z_spec.index) & frame["redshift_p50"].notna()]
    z = z_spec.loc[frame["object_id"]].to_numpy()
    found = point_scores(frame["redshift_p50"].to_numpy(float), z, beyond=0.05)
    return {
        f"photoz_nmad_{name}": found["nmad"],
        f"photoz_bias_{name}": found["bias"],
        f"photoz_outliers_{name}": found["outlier_fraction"],
        f"photoz_median_ess_{name}": float(frame["ess"].median()),
    }


def kcorrect_masses(catalog) -> np.ndarray | None:
    """log M* of kcorrect at the true redshifts; None where it is not installed."""
    try:
        import kcorrect  # noqa: F401
    except ImportError:
        return None
    from real_galaxies import kcorrect_masses as masses

    values = masses(pd.read_parquet(catalog))["log_mstar"].to_numpy()
    return values[np.isfinite(values)]


PARTS = {"mock": mock, "wrong": wrong, "scaling": scaling, "real": real}


if __name__ == "__main__":
    main()
