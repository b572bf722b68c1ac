"""A toy catalogue of star-forming and quiescent galaxies, and the page about it."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from catalogues import record

from popcat.catalog.draws import encode
from popcat.catalog.galaxy_figures import Drawing
from popcat.catalog.parts import OutputFolder
from popcat.catalog.prior_draws import read_prior
from popcat.catalog.queries import open_catalog
from popcat.checks.calibration_result import Calibration
from popcat.checks.verdict import CalibrationRun, columns_of_run
from popcat.columns import PARAMETERS, PERCENTILES, posterior_schema, quantity_fields
from popcat.galaxies import FLAGS
from popcat.galaxy_model import GalaxyModel
from popcat.pages.report import build_report
from popcat.survey import load_survey

SURVEY = load_survey("sdss")
CENTRES = np.array([3560.0, 4720.0, 6180.0, 7490.0, 8950.0])
N_GALAXIES, N_DRAWS, N_MOCKS = 500, 50, 4000


def toy_fnu(theta, redshift, wave_aa):
    """f_nu in nMgy (n, n_wave) of a toy galaxy: a blue and a red part, with a break at 4000 A, behind dust."""
    rest = wave_aa[None, :] / (1 + redshift[:, None])
    column = dict(zip(PARAMETERS, theta.T[:, :, None], strict=True))
    jump = 1 / (1 + np.exp(-(rest - 3950) / 60))
    lines = np.exp(-0.5 * ((rest - 6563) / 12) ** 2) + 0.5 * np.exp(-0.5 * ((rest - 5007) / 10) ** 2)
    blue = (0.35 + 0.65 * jump) * (rest / 5500) ** 0.3 + 2.0 * lines
    red = (0.12 + 0.88 * jump) * (rest / 5500) ** 1.4 * 0.3
    share = np.clip(column["beta1"] + column["f_burst"], 0, 1)
    dust = np.exp(-column["tau_ism"] * (rest / 5500) ** (column["n_dust"] - 0.7))
    scale = 10 ** (column["log_mstar_formed"] - 10.6) * 60 * (0.1 / redshift[:, None]) ** 2
    return scale * (share * blue + (1 - share) * red) * dust


def toy_forward(theta, redshift):
    return toy_fnu(theta, redshift, CENTRES)


def toy_curves():
    wave_aa = np.arange(2900.0, 10500.0, 10.0)
    width = np.array([250, 500, 500, 550, 550])
    shapes = np.exp(-np.abs((wave_aa - CENTRES[:, None]) / width[:, None]) ** 6)
    return [(name, wave_aa, shape) for name, shape in zip(SURVEY.band_names, shapes, strict=True)]


def toy_spectrum(theta, redshift):
    wave_aa = np.arange(3000.0, 10500.0, 4.0)
    return wave_aa, toy_fnu(theta, redshift, wave_aa)


def toy_history(theta, redshift, edges=None):
    """Rates that fall by e in 5 Gyr, of the mass that formed."""
    edges = np.linspace(0.0, 13.0, 14) if edges is None else np.asarray(edges)
    shape = np.exp(edges[:-1] / 5.0)
    return edges, 10.0 ** theta[:, :1] * 1e-9 * shape / (shape * np.diff(edges)).sum()


def toy_drawing(prior=None):
    return Drawing(SURVEY, GalaxyModel(), toy_curves(), toy_forward, toy_spectrum, toy_history, prior)


def toy_draws(rng, n_galaxies, n_draws):
    """Redshift (n,) and draws of every quantity (n, n_draws) of star-forming and quiescent galaxies."""
    def scatter(size):
        return rng.normal(0, size, (n_galaxies, n_draws))

    redshift = np.clip(rng.gamma(3.0, 0.04, n_galaxies), 0.011, 0.58)
    mass = np.clip(rng.normal(10.55 + 0.8 * np.log10(redshift / 0.1), 0.45), 7.5, 12.1)
    quiescent = rng.random(n_galaxies) < 1 / (1 + np.exp(-(mass - 10.6) / 0.25))
    share = np.where(quiescent, 0.03, 0.3)[:, None] * 10 ** scatter(0.04)
    tau = np.abs(np.where(quiescent, 0.15, 0.7)[:, None] * 10 ** rng.normal(0, 0.15, (n_galaxies, 1)) + scatter(0.05))
    draws = {name: rng.uniform(0.05, 0.9, (n_galaxies, n_draws)) for name in quantity_fields(SURVEY, GalaxyModel())}
    draws |= {"beta1": share, "f_burst": 0.02 * rng.random((n_galaxies, n_draws)), "tau_ism": tau,
              "n_dust": np.clip(scatter(0.1) - 0.3, -2, 1), "t_burst": rng.uniform(0.01, 12, (n_galaxies, n_draws)),
              "tau_bc": rng.uniform(0, 3, (n_galaxies, n_draws)),
              "log_mstar_formed": mass[:, None] + 0.25 + 0.35 * (tau - tau.mean(1, keepdims=True)) + scatter(0.04)}
    draws["log_mstar"] = draws["log_mstar_formed"] - 0.25 + scatter(0.01)
    draws["log_ssfr"] = (-10.0 - 0.15 * (mass[:, None] - 10) - 2.0 * quiescent[:, None] + scatter(0.2)
                         + rng.normal(0, 0.25, (n_galaxies, 1)) - 0.8 * (tau - tau.mean(1, keepdims=True)))
    draws["log_sfr_1gyr"] = draws["log_ssfr"] + draws["log_mstar"]
    draws["log_sfr_100myr"] = draws["log_sfr_1gyr"] + scatter(0.25)
    draws["log_z_mw"] = np.clip(-2.0 + 0.25 * (mass[:, None] - 10.5) + scatter(0.25), -4.3, -1.35)
    draws["age_mw_gyr"] = np.clip(5.0 + 3.0 * quiescent[:, None] + scatter(1.2) - 4 * scatter(0.12), 0.5, 13)
    return redshift, draws


def toy_columns(rng, n_galaxies, n_draws):
    redshift, draws = toy_draws(rng, n_galaxies, n_draws)
    draws["redshift"] = np.repeat(redshift[:, None], n_draws, axis=1)
    theta = np.stack([draws[name] for name in PARAMETERS], axis=-1)
    model = toy_forward(theta.reshape(-1, len(PARAMETERS)), np.repeat(redshift, n_draws))
    model = model.reshape(n_galaxies, n_draws, -1)
    truth = model.mean(1)
    # Each draw takes the mass that gives the observed r flux, as a posterior would.
    shift = np.log10(truth[:, None, 2] / model[:, :, 2]) + rng.normal(0, 0.009, model.shape[:2])
    model *= 10 ** shift[..., None]
    for name in ("log_mstar_formed", "log_mstar", "log_sfr_1gyr", "log_sfr_100myr"):
        draws[name] += shift
    flux_err = np.hypot([0.9, 0.25, 0.3, 0.45, 1.5], [0.05, 0.02, 0.02, 0.02, 0.03] * truth)
    flux = truth + flux_err * rng.normal(size=truth.shape)
    chi2_best = (((flux[:, None] - model) / flux_err[:, None]) ** 2).sum(-1).min(1)
    columns = {"object_id": 1_237_648_704_586_000_000 + rng.permutation(n_galaxies),
               "ra": rng.uniform(0, 360, n_galaxies),
               "dec": rng.uniform(-5, 60, n_galaxies), "redshift": redshift, "chi2_best": chi2_best,
               "redshift_err": np.full(n_galaxies, np.nan), "n_bands": np.full(n_galaxies, 5, dtype="int32"),
               "tail_noise": rng.uniform(size=n_galaxies), "tail_colours": rng.uniform(size=n_galaxies),
               "tail_band": rng.uniform(size=n_galaxies), "tail_peers": None,
               "worst_band": np.where(chi2_best > 25.7, "u", None),
               "certified": np.zeros(n_galaxies, dtype=bool), "route": np.full(n_galaxies, "flow", dtype=object),
               **dict.fromkeys(("route_why", "log_evidence", "ess", "efficiency", "pareto_k", "n_proposals", "p_star",
                               "p_qso")),
               "status": np.full(n_galaxies, "ok", dtype=object),
               "flags": np.where((flux < 0).any(1), FLAGS["negative_flux"], 0)}
    columns["flags"] |= np.where(chi2_best > 25.7, FLAGS["high_chi2"], 0)
    for band, name in enumerate(SURVEY.band_names):
        columns |= {f"flux_{name}": flux[:, band], f"flux_err_{name}": flux_err[:, band]}
    return columns, draws


FAILED = ((7, "no_photometry"), (5, "redshift_out_of_range"))


def write_catalogue(folder, n_galaxies=N_GALAXIES, n_draws=N_DRAWS, *, failed=FAILED):
    """Two part files of a toy catalogue, a few rows of it without a posterior, and a manifest; returns the table."""
    rng = np.random.default_rng(11)
    columns, draws = toy_columns(rng, n_galaxies, n_draws)
    start = 0
    for count, reason in failed:
        columns["status"][start:start + count] = reason
        columns["flags"][start:start + count] = FLAGS[reason]
        start += count
    bad = np.arange(n_galaxies) < start
    for name, values in draws.items():
        for q, edge in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            columns[f"{name}_p{q}"] = pa.array(edge.astype("float32"), mask=bad)
        columns[f"{name}_draws"] = encode(values[~bad], np.flatnonzero(~bad), n_galaxies)
    columns["chi2_best"] = pa.array(columns["chi2_best"].astype("float32"), mask=bad)
    columns["flags"] = columns["flags"].astype("int32")
    schema = posterior_schema(SURVEY)
    nothing = [None] * n_galaxies
    filled = {name: pa.array(nothing if values is None else values) for name, values in columns.items()}
    filled |= {name: pa.array(nothing) for name in schema.names if name not in filled}
    table = pa.table({name: filled[name].cast(schema.field(name).type) for name in schema.names}, schema)
    half, output = n_galaxies // 2, OutputFolder.open(folder, {"n": n_galaxies}, 2, kind="posteriors")
    for number, part in enumerate((table[:half], table[half:])):
        output.write_part(number, part)
    output.finish(record(draws=n_draws))
    return table


def toy_calibration(*, passed=True, derived=()):
    """What `popcat calibrate` says of two runs: the second of which may have failed, in the first these columns."""
    tested, rng = SimpleNamespace(survey=SURVEY, galaxy_model=GalaxyModel()), np.random.default_rng(3)
    runs, ranks = {}, {}
    for name in ("exact", "unknown"):
        columns = columns_of_run(name, tested)
        bad = {q: (0.08, 0.79) for q in derived if name == "exact"}
        bad |= {} if passed or name == "exact" else {"tau_ism": (0.09, 0.6)}
        runs[name] = CalibrationRun(
            mode=name, n=N_MOCKS, ks={q: bad.get(q, (0.02, 0))[0] for q in columns}, tarp_max_deviation=0.01,
            coverage_68={q: bad.get(q, (0, 0.68))[1] for q in columns}, outside_prior=0, chi2_ks=0.1,
            high_chi2_fraction=0.0, by_magnitude=[], by_redshift=[],
        )  # fmt: skip
        ranks[name] = {q: rng.random(N_MOCKS) for q in columns}
    return Calibration(posterior="ab" * 32, seed=1, draws=100, limits={}, passed=True, failures=[], runs=runs,
                       ranks=ranks).judged(tested)  # fmt: skip


def build_page(folder, output, **options):
    catalog = open_catalog(folder)
    return build_report(catalog, output, drawing=toy_drawing(read_prior(catalog.path)), **options)


@pytest.fixture(scope="session")
def write():
    """Write a toy catalogue to a folder: its table."""
    return write_catalogue


@pytest.fixture(scope="session")
def build():
    """Build the page of a toy catalogue."""
    return build_page


@pytest.fixture(scope="session")
def calibration():
    """Make a calibration of two runs: the second failed if `passed=False`, derived columns if they are named."""
    return toy_calibration


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    """Folder and table of a toy catalogue of 500 galaxies."""
    folder = tmp_path_factory.mktemp("catalogue")
    return folder, write_catalogue(folder)


@pytest.fixture(scope="session")
def page_file(catalogue, tmp_path_factory):
    """The page about it."""
    output = tmp_path_factory.mktemp("page") / "report.html"
    made = build_page(catalogue[0], output, calibration=toy_calibration(derived=["abs_mag_g"]))
    assert made == output
    assert [item.name for item in output.parent.iterdir()] == ["report.html"], "a partial file was left behind"
    return output


@pytest.fixture(scope="session")
def page(page_file):
    """Its text."""
    return page_file.read_text(encoding="utf-8")
