"""The flags of galaxies: how often they are wrong, what they find, and whether stars and quasars are told apart.

    python benchmarks/flags.py --json flags.json

- limits: the best chi2 that the flag high_chi2 allows with every band and 100 draws: by the posterior's own mocks, and
  by the chi2 law that served before.
- mocks, real: share of fresh mocks, and of the embedded galaxies, with each flag; high_chi2 by either limit.
- power: the same of real galaxies with one band off, or with the redshift of another galaxy: shares flagged high_chi2
  by either limit, and by any check.
- not_galaxy: shares with p_star and p_qso above a half, and certified, of real galaxies with their redshifts and
  without, of mocks without, of black bodies, of stars of the stellar locus whose colours scatter as they do on the sky,
  and of quasars; by the default odds, and by those of a catalogue without shapes (1 star and 0.02 quasars per galaxy).
  Stars and quasars have the magnitudes and the relative errors of real galaxies. Certified before: but for the flag
  not_galaxy, and with high_chi2 by the law.
"""

from importlib.resources import files

import numpy as np
import pandas as pd

from popcat.catalog.chi2_limits import limits_of
from popcat.checks.alternatives import DEFAULT_ODDS, QUASAR_STEP, Odds
from popcat.checks.calibration import calibration_of
from popcat.checks.certify import Effort
from popcat.checks.flags import describe_own_galaxies
from popcat.forward.filters import load_curves
from popcat.forward.quasar import quasar_f_nu
from popcat.forward.spectrum import band_flux
from popcat.forward.star_spectra import LOCUS_GI, LOCUS_NUMBER, black_body_f_nu, locus_f_nu
from popcat.galaxies import CERTIFIED_ESS, CHECK_FLAGS, FLAGS, NOT_CLEAN, UNCERTIFIED, chi2_limit
from popcat.inference.partition import infer_table
from popcat.io.photometry import to_photometry
from popcat.io.reading import without_redshift
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks

from environment import conclude, parser, posterior_options, print_table

DRAWS = 100
NO_SHAPES = Odds(1.0, 0.02)
OFFSETS_MAG = (0.3, 0.5)
SCATTER_MAG = {"u": 0.11}
"""Scatter of the locus in a band about its mean colours, 0.03 in others (Covey et al. 2007)."""


def main():
    arguments = options()
    posterior = load_posterior(arguments.posterior).under(arguments.prior)
    found = calibration_of(arguments.posterior, arguments.prior)
    limits = None if found is None else found.chi2_limits
    n_band = len(posterior.survey.bands)
    random = np.random.default_rng(arguments.seed)
    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")
    frame = to_photometry(raw, posterior.survey)
    own = describe_own_galaxies(frame, posterior)

    def look(of, *, certify=False, like=own):
        table = infer_table(of, posterior, DRAWS, 0, Effort() if certify else None, like, chi2_limits=limits)
        return shares(table) | (equal(table) if certify else {})

    mocks = mocks_of(posterior, arguments.mocks, arguments.seed)
    few = frame.iloc[np.sort(random.permutation(len(frame))[: arguments.n])]
    result = {
        "limits": {
            "mocks": float(limits_of(limits, np.array([n_band]), np.array([True]), DRAWS)[0]),
            "mocks_redshift_unknown": float(limits_of(limits, np.array([n_band]), np.array([False]), DRAWS)[0]),
            "law": float(chi2_limit(np.array([n_band]))[0]),
        },
        "mocks": look(mocks, like=None), "mocks_hidden": look(without_redshift(mocks), like=None),
        "real": look(frame.iloc[: arguments.real]),
        "real_hidden": look(without_redshift(frame.iloc[: arguments.real])),
    }  # fmt: skip
    result["power"] = {"nothing off": look(few)}
    for band in posterior.survey.band_names:
        for offset in [sign * size for size in OFFSETS_MAG for sign in (-1, 1)]:
            result["power"][f"{band} {offset:+g} mag"] = look(off(few, band, offset))
    wrong = few.assign(redshift=random.permutation(few["redshift"].to_numpy()))
    result["power"]["redshift of another galaxy"] = look(wrong)
    kinds = {"real, redshift given": few, "real, redshift hidden": without_redshift(few),
             "mocks, redshift hidden": without_redshift(mocks.iloc[: arguments.n])}  # fmt: skip
    kinds |= others(without_redshift(few), posterior, random)
    result["not_galaxy"] = {
        name: look(of, certify=True, like=None if name.startswith("mocks") else own) for name, of in kinds.items()
    }
    report(result)
    conclude(arguments.json, result)


def options():
    arguments = parser(__doc__)
    posterior_options(arguments)
    arguments.add_argument("--mocks", type=int, default=4000, help="number of mocks")
    arguments.add_argument("--real", type=int, default=10_000, help="number of real galaxies")
    arguments.add_argument("--n", type=int, default=500, help="number of galaxies that are spoilt or certified")
    arguments.add_argument("--seed", type=int, default=12)
    return arguments.parse_args()


def mocks_of(posterior, n, seed) -> pd.DataFrame:
    """Mocks as a photometry frame."""
    mocks = draw_mocks(posterior, n, seed)
    return mocks.assign(ra=np.nan, dec=np.nan, redshift_err=np.nan, flags=np.int32(0))


def shares(table) -> dict:
    """What a table of posteriors says: shares of the galaxies that have one."""
    frame = table.select(["status", "flags", "chi2_best", "n_bands", "certified", "route", "ess", "p_star", "p_qso"])
    frame = frame.to_pandas()
    frame = frame[frame["status"] == "ok"]
    flags, bit = frame["flags"].to_numpy(), FLAGS["high_chi2"]
    by_law = frame["chi2_best"].to_numpy() > chi2_limit(frame["n_bands"].to_numpy())
    others = sum(FLAGS[name] for name in UNCERTIFIED if name not in ("high_chi2", "not_galaxy"))
    enough = frame["route"].isin(["flow+is", "smc"]) & (frame["ess"] >= CERTIFIED_ESS)
    known = frame["p_star"].notna()
    return {
        "n": len(frame),
        "high_chi2": float(np.mean(flags & bit != 0)),
        "high_chi2_by_law": float(by_law.mean()),
        "chi2_p50": float(frame["chi2_best"].median()),
        "chi2_p99.9": float(frame["chi2_best"].quantile(0.999)),
        "any_check": float(np.mean(flags & CHECK_FLAGS != 0)),
        "any_check_before": float(np.mean((flags & CHECK_FLAGS & ~bit & ~FLAGS["not_galaxy"] != 0) | by_law)),
        "flags": {name: float(np.mean(flags & FLAGS[name] != 0)) for name in NOT_CLEAN},
        "p_known": float(known.mean()),
        "p_star_above_half": float((frame["p_star"] > 0.5).mean()),
        "p_qso_above_half": float((frame["p_qso"] > 0.5).mean()),
        "certified": float(frame["certified"].mean()),
        "certified_before": float((enough & ((flags & others) == 0) & ~by_law).mean()),
    }


def equal(table) -> dict:
    """p_star and p_qso above a half where shapes said nothing."""
    star, qso = (table[name].to_numpy().astype(float) for name in ("p_star", "p_qso"))
    galaxy = 1.0 - star - qso
    star, qso = star * NO_SHAPES.star / DEFAULT_ODDS.star, qso * NO_SHAPES.quasar / DEFAULT_ODDS.quasar
    total = galaxy + star + qso
    return {"p_star_above_half_no_shapes": float(np.mean(star > 0.5 * total)),
            "p_qso_above_half_no_shapes": float(np.mean(qso > 0.5 * total))}  # fmt: skip


def off(frame, band, offset):
    """One band fainter by so many magnitudes, its relative error kept."""
    columns = (f"flux_{band}", f"flux_err_{band}")
    return frame.assign(**{name: (10 ** (-0.4 * offset) * frame[name]).astype("float32") for name in columns})


def others(frame, posterior, random) -> dict[str, pd.DataFrame]:
    """Black bodies, stars of the locus and quasars in place of galaxies."""
    n, curves = len(frame), load_curves(posterior.survey)
    waves = [np.linspace(curve.wave_aa[0], curve.wave_aa[-1], 400) for curve in curves]

    def fluxes(spectra):
        return np.array([[band_flux(wave, f_nu(wave), curve) for wave, curve in zip(waves, curves, strict=True)]
                         for f_nu in spectra])  # fmt: skip

    chance = np.cumsum(LOCUS_NUMBER) / np.sum(LOCUS_NUMBER)
    kelvin, g_i = random.uniform(4500.0, 8000.0, n), np.interp(random.uniform(size=n), chance, LOCUS_GI)
    redshift = np.expm1(np.log1p(0.3) + random.uniform(size=n) * np.log(3.5 / 1.3)) + 0.37 * QUASAR_STEP
    scatter = np.array([SCATTER_MAG.get(name, 0.03) for name in posterior.survey.band_names])
    stars = fluxes([lambda wave, one=one: locus_f_nu(wave, one) for one in g_i])
    return {
        "black bodies, 4,500 to 8,000 K": as_source(
            frame, fluxes([lambda wave, one=one: black_body_f_nu(wave, one) for one in kelvin]), posterior, random),
        "stars of the locus, with scatter": as_source(
            frame, stars * 10 ** (0.4 * scatter * random.standard_normal(stars.shape)), posterior, random),
        "quasars, 0.3 < z < 2.5, with scatter of 0.1 mag": as_source(
            frame, fluxes([lambda wave, one=one: quasar_f_nu(wave, one, 0.0) for one in redshift])
            * 10 ** (0.04 * random.standard_normal(stars.shape)), posterior, random),
    }  # fmt: skip


def as_source(frame, shape, posterior, random) -> pd.DataFrame:
    """Sources of this shape (n, n_band) with the fluxes in the selection band and the relative errors of galaxies."""
    main = posterior.survey.band_names.index(posterior.survey.selection.band)
    flux = shape / shape[:, [main]] * frame[f"flux_{posterior.survey.selection.band}"].to_numpy()[:, None]
    columns = {}
    for b, band in enumerate(posterior.survey.band_names):
        relative = frame[f"flux_err_{band}"] / frame[f"flux_{band}"].abs()
        error = np.minimum(relative, 0.3) * flux[:, b]
        columns[f"flux_err_{band}"] = error.astype("float32")
        columns[f"flux_{band}"] = (flux[:, b] + error * random.standard_normal(len(frame))).astype("float32")
    return frame.assign(**columns)


def report(result) -> None:
    print_table([{"what": name, "best chi2": f"{value:.1f}"} for name, value in result["limits"].items()], "limits")
    rows = {name: result[name] for name in ("mocks", "mocks_hidden", "real", "real_hidden")} | result["power"]
    print_table([{"what": name, "n": one["n"], "high_chi2": f"{one['high_chi2']:.2%}",
                  "by law": f"{one['high_chi2_by_law']:.2%}", "any check": f"{one['any_check']:.1%}",
                  "before": f"{one['any_check_before']:.1%}", "chi2 p99.9": f"{one['chi2_p99.9']:.1f}"}
                 for name, one in rows.items()], "flagged")  # fmt: skip
    print_table([{"what": name, "n": one["n"], "p_star > 0.5": f"{one['p_star_above_half']:.1%}",
                  "p_qso > 0.5": f"{one['p_qso_above_half']:.1%}",
                  "star, no shapes": f"{one['p_star_above_half_no_shapes']:.1%}",
                  "qso, no shapes": f"{one['p_qso_above_half_no_shapes']:.1%}", "certified": f"{one['certified']:.1%}",
                  "before": f"{one['certified_before']:.1%}", "evidence": f"{one['p_known']:.1%}"}
                 for name, one in result["not_galaxy"].items()], "stars and quasars")  # fmt: skip


if __name__ == "__main__":
    main()
