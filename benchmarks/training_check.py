"""How often a whole catalogue is said not to fit the training of a posterior: without a fault, and with each of some.

Without a fault: fresh mocks of the posterior, and the real SDSS galaxies that popcat carries, at random and chosen by
magnitude, redshift and colour. With one: the same real galaxies, their photometry or redshifts changed, and mocks seen
through another filter than the survey file says.
"""

import time
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd

from popcat.checks.training_check import check_training
from popcat.io.photometry import to_photometry
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks

from environment import conclude, parser, print_table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--posterior", default="sdss", help="an embedded posterior that has u, g, r, i, z")
    options.add_argument("--trials", type=int, default=10, help="samples of each fault")
    options.add_argument("--clean-trials", type=int, default=50, help="samples of 60 without a fault")
    options.add_argument("--clean-only", action="store_true", help="leave out the faults")
    options.add_argument("--filters", nargs="*", default=["g=bessell-V", "r=bessell-R"], help="wrong filters of mocks")
    arguments = options.parse_args()
    posterior = load_posterior(arguments.posterior)
    real = to_photometry(pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet"), posterior.survey)
    rows = list(without_fault(posterior, real, arguments.clean_trials))
    if not arguments.clean_only:
        rows += with_fault(posterior, real, arguments.trials)
        rows += wrong_filters(posterior, arguments.filters, arguments.trials)
    shown = [{name: value for name, value in one.items() if name != "cause said"} for one in rows]
    print_table(shown, f"Catalogues that are said not to fit posterior {arguments.posterior}")
    conclude(arguments.json, {"posterior": arguments.posterior, "rows": rows})


WAVE_AA = {"u": 3550.0, "g": 4690.0, "r": 6170.0, "i": 7480.0, "z": 8930.0}


def photometry(mocks, survey) -> pd.DataFrame:
    """Mocks as a photometry frame."""
    return mocks.assign(redshift_err=np.nan, flags=np.zeros(len(mocks), dtype=np.int32))


def without_fault(posterior, real, trials):
    """Samples of mocks and of real galaxies."""
    mocks = photometry(draw_mocks(posterior, 20_000, 17), posterior.survey)
    for n in (60, 1000, 10_000):
        few = trials if n == 60 else max(trials // 5, 1) if n == 1000 else 2
        yield row("mocks", mocks, n, few, posterior)
        yield row("real galaxies", real, n, few, posterior)
    colour = -2.5 * np.log10(np.maximum(real["flux_u"], 1e-3) / real["flux_r"])
    mag = 22.5 - 2.5 * np.log10(real["flux_r"])
    chosen = {"r < 15": mag < 15, "r > 17.5": mag > 17.5, "r > 18": mag > 18, "z < 0.03": real["redshift"] < 0.03,
              "z > 0.2": real["redshift"] > 0.2, "z > 0.3": real["redshift"] > 0.3, "u - r > 2.7": colour > 2.7,
              "u - r < 1.6": colour < 1.6, "u - r < 1.3": colour < 1.3}  # fmt: skip
    for name, mask in chosen.items():
        yield row(f"real, {name}", real[mask], min(1000, int(mask.sum())), 1, posterior)
    hidden = real.assign(redshift=np.nan)
    yield row("real, redshift unknown", hidden, 1000, 2, posterior)
    masked = real.assign(flux_u=np.where(np.arange(len(real)) % 2, np.nan, real["flux_u"]))
    yield row("real, half without u", masked, 1000, 2, posterior)


def with_fault(posterior, real, trials):
    """Samples of real galaxies with each fault."""
    low, high = posterior.survey.redshift_range
    faults = {**of_all_bands(real, posterior.survey.band_names), **of_colours(real)}
    for shift in (-0.1, -0.05, 0.05, 0.1):
        off = real.assign(redshift=np.clip(real["redshift"] + shift, low, high))
        faults[f"redshifts {shift:+g}"] = off, "redshifts are"
    shuffled = real.assign(redshift=np.random.default_rng(3).permutation(real["redshift"]))
    faults["redshifts of other rows"] = shuffled, ""
    for name, (frame, word) in faults.items():
        for n in (60, 1000):
            yield row(name, frame, n, trials if n == 60 else max(trials // 3, 1), posterior, word)


def of_all_bands(real, names):
    """Faults of fluxes and errors alike in all bands, and a word of the right cause."""
    factors = (("uJy read as nMgy", 3.631, "uJy"), ("nJy read as nMgy", 3631.0, "nJy"),
               ("nMgy read as uJy", 1 / 3.631, "3.7"), ("transmission read as extinction", 2.2, "transmission"),
               ("half of the light", 0.5, "2.0"))  # fmt: skip
    faults = {f"{what} (x {c:.3g})": (scaled(real, dict.fromkeys(names, c)), word) for what, c, word in factors}
    for ratio in (0.5, 2.0):
        faults[f"errors x {ratio:g}"] = scaled(real, {}, errors=ratio), "errors are"
    halved = scaled(real, dict.fromkeys(names, 0.5), errors=2.0)
    return faults | {"fluxes x 0.5, errors as they are (aperture)": (halved, "aperture")}


def of_colours(real):
    """Faults of some bands of u, g, r, i, z, and a word of the right cause."""
    relative = {name: wave / 6170.0 for name, wave in WAVE_AA.items()}
    flam = scaled(real, {name: value**-2 for name, value in relative.items()})
    faults = {"f_lambda read as f_nu, u to z": (flam, "f_lambda")}
    for mag in (-0.3, 0.3):
        for name in WAVE_AA:
            faults[f"{name} {mag:+g} mag"] = scaled(real, {name: 10 ** (-0.4 * mag)}), f"{name} is about"
    for a, b in ("ug", "gr", "iz"):
        swap = {f"{kind}_{x}": real[f"{kind}_{y}"] for kind in ("flux", "flux_err") for x, y in ((a, b), (b, a))}
        faults[f"{a} and {b} exchanged"] = real.assign(**swap), "exchanged"
    for mag in (-0.2, 0.2):
        factors = {name: 10 ** (0.4 * mag * value**-1.3) for name, value in relative.items()}
        faults[f"extinction off by {mag:+g} mag in r"] = scaled(real, factors), None
    other = np.where(np.arange(len(real)) % 2, 1.0, 0.3)
    return faults | {"every other row: g, r, i, z x 0.3": (scaled(real, dict.fromkeys("griz", other)), "")}


def scaled(frame, factors, *, errors=1.0):
    """A frame with the fluxes and errors of some bands multiplied, and all errors times `errors` too."""
    bands = [name.removeprefix("flux_err_") for name in frame.columns if name.startswith("flux_err_")]
    return frame.assign(**{f"flux_{b}": frame[f"flux_{b}"] * factors.get(b, 1.0) for b in bands},
                        **{f"flux_err_{b}": frame[f"flux_err_{b}"] * factors.get(b, 1.0) * errors for b in bands})


def wrong_filters(posterior, filters, trials):
    """Mocks whose band was seen through another filter."""
    for text in filters:
        name, other = text.split("=")
        bands = tuple(band.model_copy(update={"filter": other, "wave_range_aa": None}) if band.name == name else band
                      for band in posterior.survey.bands)  # fmt: skip
        seen = replace(posterior, survey=posterior.survey.model_copy(update={"bands": bands}))
        mocks = photometry(draw_mocks(seen, 4000, 23), posterior.survey)
        for n in (60, 1000):
            yield row(f"mocks, {name} through {other}", mocks, n, trials if n == 60 else max(trials // 3, 1), posterior,
                      f"{name} is about")  # fmt: skip


def row(name, frame, n, trials, posterior, word=None):
    """The share of samples of n galaxies that do not fit, and of those whose cause is the right one."""
    start, found = time.perf_counter(), []
    for trial in range(trials):
        chosen = np.random.default_rng(trial).permutation(len(frame))[:n]
        found.append(check_training(frame.iloc[np.sort(chosen)].reset_index(drop=True), posterior, "posterior"))
    said = [one.cause or "none" for one in found if not one.fits]
    right = np.mean([word in cause for cause in said]) if word and said else None
    return {"catalogue": name, "galaxies": n, "samples": trials, "said not to fit": len(said) / trials,
            "cause right": None if right is None else float(right),
            "seconds each": round((time.perf_counter() - start) / trials, 2),
            "cause said": max(set(said), key=said.count, default="")}  # fmt: skip


if __name__ == "__main__":
    main()
