"""Photometric redshifts of popcat, of a random forest, of EAZY and of LePHARE, for the same galaxies.

    python benchmarks/photoz.py zcosmos --data DIR --peer-python PYTHON --eazy DIR --lephare DIR --json photoz.json

Half of the sample, drawn at random, is for training: the forest learns from its redshifts, and the template codes take
their zero points from them. The other half, or --n galaxies of it, is scored. popcat takes part with --posterior: a
trained posterior whose survey file reads the sample's own file. It sees no redshift.

Each code gives a posterior of redshift per galaxy. All are scored in the same way, by popcat.catalog.photoz: 400 draws
per galaxy, and the median as point estimate. s_per_galaxy is the time on one core, without the set-up (setup_s):
training of the forest; templates and zero points; popcat's start. chi2_median is that of the best model in the code's
own terms, error floors included.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from photoz_samples import SAMPLES, Sample, source

from popcat.catalog.photoz import GRID_NODES, PhotoRedshifts, redshift_grid

from environment import conclude, parser, print_table

DRAWS = 400
TREES = 200
BINS = 4
SEED = 1
PEERS = ("eazy", "lephare")
_SCRIPT = Path(__file__).with_name("photoz_peers.py")


def main() -> None:
    args = options().parse_args()
    if args.peer_python is None and (args.eazy or args.lephare):
        raise SystemExit("--eazy and --lephare need --peer-python: a Python that has the packages")
    sample = SAMPLES[args.sample](args.data)
    order = np.random.default_rng(SEED).permutation(len(sample.ids))
    train, test = sample.take(order[::2]), sample.take(order[1::2][: args.n])
    codes = {"forest": forest(train, test)}
    for name in PEERS:
        if (templates := getattr(args, name)) is not None:
            codes[name] = peer(name, args.peer_python, templates, train if args.zero_points else None, test)
    if args.posterior is not None:
        codes["popcat"] = popcat_draws(args, test)
    truth = pd.Series(test.redshift, index=test.ids)
    result, bins = {}, {}
    for name, found in codes.items():
        estimates = redshifts(found.pop("draws"), test)
        result[name] = {**estimates.scores(truth).iloc[0].to_dict(), **found}
        bins[name] = {what: estimates.scores(truth, by=by, bins=BINS) for what, by in test.bins.items()}
    shown = [{"code": name, **{key: value for key, value in scores.items() if not isinstance(value, list)}}
             for name, scores in result.items()]  # fmt: skip
    print_table(shown, f"{args.sample}: {len(test.ids):,} galaxies, {len(train.ids):,} of known redshift beside them")
    for what in test.bins:
        print_table([{"code": name, **row} for name in bins for row in bins[name][what].to_dict("records")],
                    f"{args.sample} by {what}")  # fmt: skip
    conclude(args.json, {"sample": args.sample, "n_train": len(train.ids), "scores": result,
                         "bins": {name: {what: frame.to_dict("records") for what, frame in tables.items()}
                                  for name, tables in bins.items()}})  # fmt: skip


def options():
    result = parser(__doc__)
    result.add_argument("sample", choices=SAMPLES)
    result.add_argument("--data", type=Path, required=True, help="folder of the sample's files")
    result.add_argument("--n", type=int, help="galaxies that are scored at most; default: half of the sample")
    result.add_argument("--peer-python", help="a Python that has the packages eazy and lephare")
    result.add_argument("--eazy", type=Path, help="folder in which EAZY's folder `templates` is")
    result.add_argument("--lephare", type=Path, help="LEPHAREDIR: LePHARE's folder of templates")
    result.add_argument("--no-zero-points", dest="zero_points", action="store_false", help="fluxes as they are")
    result.add_argument("--posterior", help="a trained posterior of popcat whose survey file reads the sample's file")
    result.add_argument("--survey", help="survey file that reads the sample's file; default: that of the posterior")
    result.add_argument("--certify", action="store_true", help="popcat with --certify")
    return result


def redshifts(draws: np.ndarray, test: Sample) -> PhotoRedshifts:
    """Draws (n, k) as popcat's own photometric redshifts; galaxies without draws (NaN) are left out."""
    rows = np.isfinite(draws).all(axis=1)
    galaxies = pd.DataFrame({"object_id": test.ids[rows], "redshift": np.nan})
    return PhotoRedshifts(galaxies, draws[rows], redshift_grid(GRID_NODES, (0.0, test.z_max)), test.table)


def forest(train: Sample, test: Sample) -> dict:
    """A quantile regression forest (Meinshausen 2006): a draw is the redshift of a training galaxy in the same leaf."""
    from sklearn.ensemble import RandomForestRegressor

    start = time.perf_counter()
    softening = np.nanmedian(train.flux_err, axis=0)
    model = RandomForestRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=SEED, n_jobs=1)
    model.fit(colours(train, softening), train.redshift)
    leaves = model.apply(colours(train, softening))
    setup = time.perf_counter() - start
    found = model.apply(colours(test, softening))
    rng, draws = np.random.default_rng(SEED), []
    for tree in range(TREES):
        order = np.argsort(leaves[:, tree], kind="stable")
        first, last = (np.searchsorted(leaves[order, tree], found[:, tree], side=side) for side in ("left", "right"))
        draws += [train.redshift[order[rng.integers(first, last)]] for _ in range(DRAWS // TREES)]
    seconds = time.perf_counter() - start - setup
    return {"draws": np.column_stack(draws), "chi2_median": None, "s_per_galaxy": seconds / len(test.ids),
            "setup_s": setup}  # fmt: skip


def colours(sample: Sample, softening: np.ndarray) -> np.ndarray:
    """Asinh magnitudes of all bands, their neighbours' differences, and signal-to-noise ratios; NaN where missing."""
    magnitudes = -np.arcsinh(sample.flux / (2 * softening))
    ratio = np.arcsinh(sample.flux / sample.flux_err)
    return np.column_stack([magnitudes, np.diff(magnitudes, axis=1), ratio])


def peer(code: str, python: str, templates: Path, train: Sample | None, test: Sample) -> dict:
    """A template code in its own Python, on one core."""
    learn = train if train is not None else test.take(np.array([], dtype=int))
    given = {"flux": test.flux, "flux_err": test.flux_err, "floor": test.floor, "z_max": test.z_max}
    given |= {f"train_{name}": getattr(learn, name) for name in ("flux", "flux_err", "redshift")}
    for i, (wave, response) in enumerate(test.curves()):
        given |= {f"wave_{i}": wave, f"response_{i}": response}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("input.npz", "output.npz")]
        np.savez(files[0], **given)
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        subprocess.run([python, str(_SCRIPT), code, *files, str(templates.absolute())], check=True,
                       env=os.environ | one, stdout=subprocess.DEVNULL)  # fmt: skip
        found = dict(np.load(files[1]))
    return {"draws": draws_of(found["grid"], found["pdf"]), "chi2_median": float(np.median(found["chi2"])),
            "s_per_galaxy": float(found["fit_s"]) / len(test.ids), "setup_s": float(found["setup_s"]),
            "zero_points_mag": found["zero_points"].round(4).tolist()}  # fmt: skip


def draws_of(grid: np.ndarray, pdf: np.ndarray) -> np.ndarray:
    """Draws (n, k) from densities (n, m) that are linear between the redshifts of a grid; NaN where there is none."""
    rng = np.random.default_rng(SEED)
    cells = 0.5 * (pdf[:, 1:] + pdf[:, :-1]) * np.diff(grid)
    cdf = np.column_stack([np.zeros(len(pdf)), np.cumsum(cells, axis=1)])
    draws = np.full((len(pdf), DRAWS), np.nan)
    for row in np.flatnonzero(np.isfinite(cdf[:, -1]) & (cdf[:, -1] > 0)):
        draws[row] = np.interp(rng.random(DRAWS), cdf[row] / cdf[row, -1], grid)
    return draws


def popcat_draws(args, test: Sample) -> dict:
    """popcat on the galaxies that are scored, their redshifts hidden, in this process."""
    import popcat

    start = time.perf_counter()
    survey = popcat.load_survey(args.survey) if args.survey else popcat.load_posterior(args.posterior).survey
    frame = source(args.data, args.sample)
    chosen = frame[frame[survey.columns.object_id].isin(test.ids)].reset_index(drop=True)
    how = {"survey": survey, "draws": DRAWS, "hide_redshift": True, "certify": args.certify, "client": "synchronous"}
    popcat.infer(chosen.head(100), args.posterior, **how)
    setup = time.perf_counter() - start
    found = popcat.infer(chosen, args.posterior, **how).set_index("object_id").reindex(test.ids)
    seconds = time.perf_counter() - start - setup
    draws = np.full((len(test.ids), DRAWS), np.nan)
    there = found["redshift_draws"].notna().to_numpy()
    draws[there] = np.stack(found["redshift_draws"][there].to_numpy())
    return {"draws": draws, "chi2_median": float(found["chi2_best"].median()), "s_per_galaxy": seconds / len(test.ids),
            "setup_s": setup}  # fmt: skip


if __name__ == "__main__":
    main()
