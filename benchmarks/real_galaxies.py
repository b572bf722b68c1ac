"""Surviving stellar masses of popcat against those of kcorrect, for the same 10,000 real SDSS galaxies.

Both see the same photometry (ugriz model fluxes, Galactic extinction removed, AB offsets, error floors), redshifts and
cosmology (Planck13, its own h); kcorrect's is computed here from the raw columns, so that popcat's own reading of them
is checked too.

kcorrect (Blanton & Roweis 2007) gives the one best non-negative sum of five templates, without a prior; popcat the
median of a posterior. What else is expected of popcat - kcorrect:
- IMF: kcorrect's templates are BC03 with Chabrier (2003), popcat's embedded grid is BC03+MILES with Kroupa (2001):
  +0.03 dex for the same light (log10 of 0.66 / 0.61, Madau & Dickinson 2014).
- Remnants: kcorrect's surviving mass has them (its oldest template keeps 0.52 of what formed; living stars alone would
  be 0.40). The embedded posterior's are of living stars (`remnants = "none"`): smaller by about 0.1 dex when old.
- The prior: five optical bands leave dust, age and metallicity degenerate, and the published priors (tau_ism uniform on
  0 to 3, n_dust on -2 to 1) allow dustier, heavier galaxies than any kcorrect template. `other_priors` says what the
  comparison would be under narrower ones: each galaxy's draws under the flat prior re-weighted, nothing fitted again.

`photoz`: the same galaxies with their redshifts hidden. popcat's redshift is the median of its draws; the peer is the
redshift of the least chi2 of kcorrect's templates over a grid, on --peer galaxies. `photoz_with_zero_points`: with
offsets of the bands from the redshifts of a fifth of the galaxies (`popcat survey zeropoints`), for the others.
`without_jhk`: masses from FUV to Ks against those from the same catalogue with J, H and Ks removed.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from popcat import open_catalog
from popcat.catalog.photoz import point_scores

from environment import conclude, parser, print_table

BANDS = ("u", "g", "r", "i", "z")
OUTLIER = 0.05
AB_OFFSET_MAG = np.array([-0.036, 0.012, 0.010, 0.028, 0.040])
ERROR_FLOOR = np.array([0.05, 0.02, 0.02, 0.02, 0.03])
POSTERIOR_COLUMNS = (
    *("object_id", "status", "chi2_best", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84"),
    *("log_ssfr_p50", "tau_ism_p50"),
    *(f"flux_{band}" for band in BANDS),
    *(f"flux_err_{band}" for band in BANDS),
)
REDSHIFT_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.35, 0.6)
G_R_EDGES = (-1.0, 0.4, 0.6, 0.8, 1.0, 1.3, 3.0)
LOG_SSFR_EDGES = (-20.0, -11.5, -11.0, -10.5, -10.0, -7.0)
TAU_ISM_EDGES = (0.0, 0.25, 0.5, 1.0, 3.0)
# ln of a prior over the published uniform one.
OTHER_PRIORS = {
    "tau_ism exponential, mean 0.5": lambda tau_ism, n_dust: -tau_ism / 0.5,
    "n_dust normal, -0.5 +- 0.4": lambda tau_ism, n_dust: -0.5 * ((n_dust + 0.5) / 0.4) ** 2,
    "both": lambda tau_ism, n_dust: -tau_ism / 0.5 - 0.5 * ((n_dust + 0.5) / 0.4) ** 2,
}


def main():
    arguments = options()
    catalog = pd.read_parquet(arguments.catalog)
    with tempfile.TemporaryDirectory() as folder:
        posteriors = arguments.posteriors or run_popcat(arguments.catalog, Path(folder) / "posteriors")
        popcat = read_posteriors(posteriors)
        flat = run_popcat(arguments.catalog, Path(folder) / "flat", "--prior", "flat")
        draws = read_posteriors(flat, ("object_id", "log_mstar_draws", "tau_ism_draws", "n_dust_draws"))
        hidden = run_popcat(arguments.catalog, Path(folder) / "hidden", "--hide-redshift")
        redshifts = read_posteriors(hidden, ("object_id", "redshift_p50", "redshift_draws"))
        mended = with_zero_points(catalog, Path(folder))
        jhk = without_jhk(catalog, arguments.catalog, Path(folder))
    peer = kcorrect_masses(catalog)
    both = popcat.merge(peer, on="object_id", suffixes=("", "_kcorrect"), validate="one_to_one")
    result = compare(both, n_in=len(catalog), n_out=len(popcat))
    result["photoz"] = photoz(redshifts, catalog, n_peer=arguments.peer)
    result["photoz_with_zero_points"] = mended
    result["without_jhk"] = jhk
    result["other_priors"] = under_other_priors(draws.merge(peer["log_mstar"], on="object_id"))
    report(result)
    conclude(arguments.json, result)


def options():
    embedded = files("popcat") / "data" / "galaxies_sdss.parquet"
    arguments = parser(__doc__)
    arguments.add_argument("--posteriors", metavar="DIR", type=Path, help="of a former popcat infer; default: run it")
    arguments.add_argument("--peer", metavar="N", type=int, default=1000, help="galaxies for the template fit (1000)")
    arguments.add_argument("--catalog", metavar="FILE", default=str(embedded), help="default: the embedded galaxies")
    return arguments.parse_args()


def run_popcat(catalog: str, output: Path, *more: str, posterior: str = "sdss") -> Path:
    """The posterior catalogue of the galaxies, by the command that a user types."""
    command = [sys.executable, "-m", "popcat"]
    subprocess.run([*command, "infer", catalog, "--posterior", posterior, "-o", output, *more], check=True)
    return output


def photoz(redshifts: pd.DataFrame, catalog: pd.DataFrame, *, n_peer: int) -> dict:
    """How near inferred redshifts are to the spectroscopic ones, and whether their spread is honest."""
    both = redshifts.merge(catalog[["object_id", "redshift"]], on="object_id")
    z_spec = both["redshift"].to_numpy(float)
    draws = np.stack(both["redshift_draws"].to_numpy())
    pit = (draws < z_spec[:, None]).mean(axis=1)
    some = catalog.sample(min(n_peer, len(catalog)), random_state=1)
    return {
        **point_scores(both["redshift_p50"].to_numpy(float), z_spec, beyond=OUTLIER),
        "pit_histogram": np.histogram(pit, bins=10, range=(0.0, 1.0), density=True)[0].round(3).tolist(),
        "n_peer": len(some),
        **{f"peer_{name}": value for name, value in
           point_scores(template_redshifts(some), some["redshift"].to_numpy(float), beyond=OUTLIER).items()},
    }  # fmt: skip


def with_zero_points(catalog: pd.DataFrame, folder: Path) -> dict:
    """Redshifts of four galaxies of five, with zero points from the known redshifts of the fifth."""
    known = np.arange(len(catalog)) % 5 == 0
    catalog[known].to_parquet(folder / "known.parquet")
    catalog[~known].to_parquet(folder / "others.parquet")
    survey = folder / "zero_points.toml"
    command = [sys.executable, "-m", "popcat", "survey", "zeropoints", folder / "known.parquet", "-o", survey, "--json"]
    fitted = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = run_popcat(str(folder / "others.parquet"), folder / "mended", "--hide-redshift", "--survey", str(survey))
    both = read_posteriors(found, ("object_id", "redshift_p50")).merge(catalog[["object_id", "redshift"]])
    scores = point_scores(both["redshift_p50"].to_numpy(float), both["redshift"].to_numpy(float), beyond=OUTLIER)
    return {"n": len(both), **scores, "zero_points": fitted["bands"]}


def template_redshifts(catalog: pd.DataFrame) -> np.ndarray:
    """The redshift where kcorrect's templates have their least chi2."""
    grid = np.arange(0.002, 0.6, 0.004)
    fitter, maggies, ivar = kcorrect_fitter(catalog)
    chi2 = np.empty((len(grid), len(catalog)))
    for k, z in enumerate(grid):
        redshift = np.full(len(catalog), z)
        coeffs = fitter.fit_coeffs(redshift=redshift, maggies=maggies, ivar=ivar)
        chi2[k] = ((maggies - fitter.reconstruct(redshift=redshift, coeffs=coeffs)) ** 2 * ivar).sum(axis=1)
    return grid[np.argmin(chi2, axis=0)]


def without_jhk(catalog: pd.DataFrame, path: str, folder: Path) -> dict:
    """Masses of the model FUV to Ks, with and without J, H and Ks: their differences in units of the errors."""
    columns = [f"twomass_{band}_vega_mag{kind}" for band in ("j", "h", "ks") for kind in ("", "_err")]
    catalog.assign(**dict.fromkeys(columns, np.nan)).to_parquet(folder / "optical.parquet")
    names = ("object_id", "n_bands", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84", "chi2_best")
    posterior = "galex_sdss_2mass"
    full = read_posteriors(run_popcat(path, folder / "full", posterior=posterior), names)
    part = read_posteriors(run_popcat(str(folder / "optical.parquet"), folder / "part", posterior=posterior), names)
    both = full.merge(part, on="object_id", suffixes=("", "_part"))
    width = {end: (both[f"log_mstar_p84{end}"] - both[f"log_mstar_p16{end}"]) / 2 for end in ("", "_part")}
    difference = both["log_mstar_p50_part"] - both["log_mstar_p50"]
    pull = difference / np.maximum(width[""], width["_part"])
    return {
        "n": int(difference.notna().sum()),
        "offset_dex": float(difference.median()),
        "nmad_dex": centre_and_scatter(difference.dropna())[1],
        "half_width_full_dex": float(width[""].median()),
        "half_width_without_jhk_dex": float(width["_part"].median()),
        "within_one_error": float((pull.abs() < 1.0).mean()),
        "within_two_errors": float((pull.abs() < 2.0).mean()),
        "chi2_best_median": float(both["chi2_best"].median()),
    }


def read_posteriors(folder: Path, columns=POSTERIOR_COLUMNS) -> pd.DataFrame:
    """The columns needed here."""
    return open_catalog(folder).to_pandas(list(columns))


def photometry(catalog: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and errors, (n, 5) in nMgy: extinction removed, on the AB system, error floor added in quadrature."""
    columns = {kind: catalog[[f"{kind}_{band}" for band in BANDS]].to_numpy(float)
               for kind in ("modelflux", "modelflux_err", "extinction")}  # fmt: skip
    factor = 10.0 ** (0.4 * (columns["extinction"] - AB_OFFSET_MAG))
    flux = columns["modelflux"] * factor
    return flux, np.hypot(columns["modelflux_err"] * factor, ERROR_FLOOR * flux)


def kcorrect_masses(catalog: pd.DataFrame) -> pd.DataFrame:
    """log_mstar, chi2 and g_r of each galaxy by object_id, with the photometry that they come from.

    NaN where kcorrect has no fit.
    """
    flux, flux_err = photometry(catalog)
    fitter, maggies, ivar = kcorrect_fitter(catalog)
    redshift = catalog["redshift"].to_numpy(float)
    coeffs = fitter.fit_coeffs(redshift=redshift, maggies=maggies, ivar=ivar)
    model = fitter.reconstruct(redshift=redshift, coeffs=coeffs)
    mass = fitter.derived(redshift=redshift, coeffs=coeffs)["mremain"].astype(float)
    columns = {
        "log_mstar": np.log10(np.where(mass > 0, mass, np.nan)),
        "chi2": ((maggies - model) ** 2 * ivar).sum(axis=1),
        "g_r": -2.5 * np.log10(flux[:, 1] / flux[:, 2]),
        **{f"flux_{band}": flux[:, index] for index, band in enumerate(BANDS)},
        **{f"flux_err_{band}": flux_err[:, index] for index, band in enumerate(BANDS)},
        "redshift": redshift,
    }
    return pd.DataFrame(columns, index=pd.Index(catalog["object_id"], name="object_id"))


def kcorrect_fitter(catalog: pd.DataFrame):
    """kcorrect on SDSS bands, and the photometry as it takes it: maggies and inverse variances."""
    from astropy.cosmology import Planck13
    from kcorrect.kcorrect import Kcorrect

    flux, flux_err = photometry(catalog)
    fitter = Kcorrect(responses=[f"sdss_{band}0" for band in BANDS], redshift_range=[0.0, 0.7], nredshift=2000,
                      abcorrect=False, cosmo=Planck13)  # fmt: skip
    return fitter, flux * 1e-9, (flux_err * 1e-9) ** -2.0


def compare(both: pd.DataFrame, *, n_in: int, n_out: int) -> dict:
    """The result: the keys that every run is compared by, and the bins that explain them."""
    both = both.assign(difference=both["log_mstar_p50"] - both["log_mstar"])
    ok = both[(both["status"] == "ok") & both["difference"].notna()]
    offset, nmad = centre_and_scatter(ok["difference"])
    bins = {"redshift": REDSHIFT_EDGES, "g_r": G_R_EDGES, "log_ssfr_p50": LOG_SSFR_EDGES, "tau_ism_p50": TAU_ISM_EDGES}
    return {
        "n_in": n_in,
        "n_out": n_out,
        "log_mstar_offset_dex": offset,
        "log_mstar_nmad_dex": nmad,
        "chi2_best_median": float(ok["chi2_best"].median()),
        "status_counts": {str(name): int(count) for name, count in both["status"].value_counts().items()},
        "n_compared": len(ok),
        "n_without_kcorrect": int(both["log_mstar"].isna().sum()),
        "log_mstar_popcat_median": float(ok["log_mstar_p50"].median()),
        "log_mstar_kcorrect_median": float(ok["log_mstar"].median()),
        "log_mstar_half_width_dex": float((ok["log_mstar_p84"] - ok["log_mstar_p16"]).median() / 2),
        "fraction_beyond_half_dex": float((ok["difference"].sub(offset).abs() > 0.5).mean()),
        "chi2_best_percentiles": percentiles(ok["chi2_best"]),
        "chi2_kcorrect_percentiles": percentiles(ok["chi2"]),
        "photometry_max_difference": photometry_difference(ok),
        "bins": {name: binned(ok[name], ok["difference"], edges) for name, edges in bins.items()},
    }


def under_other_priors(draws: pd.DataFrame) -> dict:
    """Offset and scatter of the median mass when each galaxy's draws are re-weighted to another prior."""
    draws = draws.dropna()
    of_draws = [np.stack(draws[f"{name}_draws"].to_numpy()) for name in ("log_mstar", "tau_ism", "n_dust")]
    whole = np.all(np.isfinite(of_draws), axis=(0, 2)) & np.isfinite(draws["log_mstar"].to_numpy(float))
    draws, (mass, tau_ism, n_dust) = draws[whole], (values[whole] for values in of_draws)
    result = {}
    for name, log_ratio in OTHER_PRIORS.items():
        weight = np.exp(log_ratio(tau_ism, n_dust))
        offset, nmad = centre_and_scatter(weighted_median(mass, weight) - draws["log_mstar"].to_numpy())
        result[name] = {"offset_dex": offset, "nmad_dex": nmad}
    return result


def weighted_median(values, weight):
    """Median of each row of values (n, k) under its weights."""
    order = np.argsort(values, axis=1)
    cumulative = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    at = np.argmax(cumulative >= 0.5 * cumulative[:, -1:], axis=1)
    return np.take_along_axis(np.take_along_axis(values, order, axis=1), at[:, None], axis=1)[:, 0]


def centre_and_scatter(values) -> tuple[float, float]:
    """Median, and normalised median absolute deviation: 1.4826 x median |x - median|."""
    centre = np.median(values)
    return float(centre), float(1.4826 * np.median(np.abs(values - centre)))


def percentiles(values) -> dict:
    """The 16th, 50th, 84th and 99th percentile."""
    return {f"p{q}": float(np.percentile(values, q)) for q in (16, 50, 84, 99)}


def photometry_difference(frame: pd.DataFrame) -> float:
    """Largest difference between what popcat fitted and what kcorrect was given, in units of the error."""
    names = [f"{kind}_{band}" for kind in ("flux", "flux_err") for band in BANDS]
    errors = frame[[f"flux_err_{band}_kcorrect" for band in BANDS * 2]].to_numpy()
    difference = frame[names].to_numpy(float) - frame[[f"{name}_kcorrect" for name in names]].to_numpy(float)
    return float(np.abs(difference / errors).max())


def binned(values, difference, edges) -> list[dict]:
    """Offset and scatter in bins that hold at least 20 galaxies."""
    rows = []
    for low, high in itertools.pairwise(edges):
        chosen = difference[(values >= low) & (values < high)]
        if len(chosen) >= 20:
            offset, nmad = centre_and_scatter(chosen)
            rows.append({"low": low, "high": high, "n": len(chosen), "offset_dex": offset, "nmad_dex": nmad})
    return rows


def report(result: dict) -> None:
    """The result as tables."""
    rows = [{"quantity": name, "value": value} for name, value in result.items() if not isinstance(value, dict)]
    rows += [{"quantity": f"status {name}", "value": count} for name, count in result["status_counts"].items()]
    for key in ("chi2_best_percentiles", "chi2_kcorrect_percentiles"):
        name = key.removesuffix("_percentiles")
        rows += [{"quantity": f"{name} {q}", "value": value} for q, value in result[key].items()]
    print_table(rows, "popcat - kcorrect")
    for key in ("photoz", "photoz_with_zero_points", "without_jhk"):
        print_table([{"quantity": name, "value": value} for name, value in result[key].items()], key)
    print_table([{"prior": name, **values} for name, values in result["other_priors"].items()], "under other priors")
    for name, table in result["bins"].items():
        if table:
            print_table(table, f"by {name}")


if __name__ == "__main__":
    main()
