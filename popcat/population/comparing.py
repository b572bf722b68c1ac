"""Two populations side by side: 1-D Wasserstein distances of every quantity, and the main sequence."""

from pathlib import Path

import numpy as np
import pandas as pd

from popcat.errors import PopcatError

QUANTITIES = ("redshift", "log_mstar", "log_sfr_1gyr", "log_ssfr", "age_mw_gyr", "log_z_mw", "tau_ism")
STAR_FORMING_LOG_SSFR = -11.0
CENTRES = (9.5, 10.0, 10.5)


def compare_tables(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """W_1, mean difference (first - second) and quantiles of the quantities that both have values of.

    Raises PopcatError if there is none.
    """
    from scipy.stats import wasserstein_distance

    rows = []
    for name in QUANTITIES:
        if name in first.columns and name in second.columns:
            a, b = (frame[name].to_numpy(dtype=float) for frame in (first, second))
            a, b = a[np.isfinite(a)], b[np.isfinite(b)]
            if not len(a) or not len(b):
                continue
            rows.append({"quantity": name, "w1": wasserstein_distance(a, b), "difference": a.mean() - b.mean(),
                         **{f"p{q}": np.percentile(a, q) - np.percentile(b, q) for q in (16, 50, 84)}})  # fmt: skip
    if not rows:
        raise PopcatError(f"nothing to compare: expected columns such as {', '.join(QUANTITIES[:3])}, with values, in "
                          "both tables")  # fmt: skip
    return pd.DataFrame(rows)


def main_sequence(frame: pd.DataFrame, *, centres=CENTRES, half_width: float = 0.15) -> np.ndarray:
    """Median log SFR (Msun / yr, over 1 Gyr) of galaxies with sSFR > 1e-11 / yr at masses log M* = centres; NaN where
    there are fewer than five.
    """
    mass, sfr = frame["log_mstar"].to_numpy(dtype=float), frame["log_sfr_1gyr"].to_numpy(dtype=float)
    forming = sfr - mass > STAR_FORMING_LOG_SSFR
    rows = [sfr[forming & (np.abs(mass - centre) < half_width)] for centre in centres]
    return np.array([np.median(row) if len(row) >= 5 else np.nan for row in rows])


def read_samples(path: "str | Path", *, selected: bool = True) -> pd.DataFrame:
    """The samples of a population's folder, or a table with columns such as theirs.

    Raises PopcatError if there is neither.
    """
    path = Path(path)
    file = path / "samples.parquet" if path.is_dir() else path
    if not file.is_file():
        raise PopcatError(f"no samples at {path}: expected a folder of `popcat population fit`, or a Parquet file")
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise PopcatError(f"{file} cannot be read as Parquet: {error}") from error
    return frame[frame["selected"]] if selected and "selected" in frame.columns else frame
