"""popcat's galaxy model against others of the same parameters: what stellar populations and dust geometry change.

`--provabgs FILE --bases FOLDER`: the published PROVABGS emulator (Hahn et al. 2023: FSPS with MIST and MILES, Chabrier
IMF), from a file of its spectra `lum` (n, n_wave) in Lsun/A for 1e10 Msun formed at `wave_aa` (vacuum, rest frame),
with `beta`, `gamma`, `tau_bc`, `tau_ism`, `n_dust`, `redshift` and `surviving_fraction`, no bursts; and the published
bases. The galaxy model is popcat's preset "provabgs"; birth clouds of 100 Myr, popcat's default, are beside it.

Magnitudes are popcat's less the emulator's, in the observed frame through SDSS's filters: median over the spectra, and
half the width of the central 68%; `u-r` also of the fifth that is poorest in metals, by mass, and of the richest.
`log_mstar_dex` is the median of log10 of the ratio of surviving masses.
"""

from pathlib import Path

import numpy as np

from popcat.forward.filters import load_curves
from popcat.forward.ingredients import load_ingredients
from popcat.forward.properties import Properties
from popcat.forward.spectrum import band_flux, rest_spectrum
from popcat.galaxy_model import GalaxyModel
from popcat.survey import load_survey

from environment import conclude, parser, print_table

CLOUDS_GYR = (0.01, 0.1)
COLOURS = (("u", "g"), ("g", "r"), ("r", "i"), ("i", "z"))


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--provabgs", metavar="FILE", type=Path, required=True, help="spectra of the emulator, .npz")
    arguments.add_argument("--bases", metavar="FOLDER", required=True, help="the published bases")
    arguments = arguments.parse_args()
    with np.load(arguments.provabgs, allow_pickle=False) as file:
        published = {name: file[name] for name in file.files}
    found = {age: provabgs(published, arguments.bases, age) for age in CLOUDS_GYR}
    by_age = {age: _flat(each) for age, each in found.items()}
    rows = [{"": name, **{f"birth clouds of {age:g} Gyr": f"{each[name]:+.3f}" for age, each in by_age.items()}}
            for name in by_age[CLOUDS_GYR[0]]]  # fmt: skip
    print_table(rows, "popcat less the PROVABGS emulator: magnitudes, colours, dex of surviving mass")
    conclude(arguments.json, {"agreement": {"provabgs": found[0.01], "provabgs_100myr_clouds": found[0.1]}})


def provabgs(published: dict, bases: str, cloud_gyr: float) -> dict:
    """Differences in magnitude, in colour, and in surviving mass."""
    model = GalaxyModel(preset="provabgs", bases=bases, birth_cloud_age_gyr=cloud_gyr)
    survey, ingredients = load_survey("sdss"), load_ingredients(model)
    n = len(published["redshift"])
    theta = np.column_stack([
        np.full(n, 10.0), published["beta"], np.zeros(n), np.ones(n), np.log10(published["gamma"]),
        published["tau_bc"], published["tau_ism"], published["n_dust"],
    ])  # fmt: skip
    ours = [rest_spectrum(row, z, ingredients, published["wave_aa"])
            for row, z in zip(theta, published["redshift"], strict=True)]  # fmt: skip
    curves = load_curves(survey)
    magnitudes = [np.array([_magnitudes(published["wave_aa"], lum, z, curves)
                            for lum, z in zip(spectra, published["redshift"], strict=True)])
                  for spectra in (ours, published["lum"].astype(float))]  # fmt: skip
    difference = dict(zip(survey.band_names, (magnitudes[0] - magnitudes[1]).T, strict=True))
    derived = Properties(survey, ingredients)(theta, published["redshift"])
    surviving, ends = derived["log_mstar"] - 10.0, np.percentile(derived["log_z_mw"], [20, 80])
    tilt, metals = difference["u"] - difference["r"], derived["log_z_mw"]
    return {
        "median_mag": {band: float(np.median(values)) for band, values in difference.items()},
        "scatter_mag": {band: float(np.diff(np.percentile(one, [16, 84]))[0] / 2) for band, one in difference.items()},
        "colours": {f"{a}-{b}": float(np.median(difference[a] - difference[b])) for a, b in COLOURS},
        "by_metals": {"u-r, metal-poor": float(np.median(tilt[metals < ends[0]])),
                      "u-r, metal-rich": float(np.median(tilt[metals > ends[1]]))},
        "log_mstar_dex": float(np.median(surviving - np.log10(published["surviving_fraction"]))),
    }


def _magnitudes(wave_aa, lum, redshift, curves) -> list[float]:
    """Magnitudes through the curves but for a constant, of light in Lsun/A at rest-frame wavelengths."""
    wave = wave_aa * (1.0 + redshift)
    fine = [np.union1d(wave[(wave > c.wave_aa[0]) & (wave < c.wave_aa[-1])], c.wave_aa) for c in curves]
    return [-2.5 * np.log10(band_flux(w, np.interp(w, wave, lum) * w**2, c)) for w, c in zip(fine, curves, strict=True)]


def _flat(each: dict) -> dict[str, float]:
    return {**each["median_mag"], **each["colours"], **each["by_metals"], "log_mstar_dex": each["log_mstar_dex"]}


if __name__ == "__main__":
    main()
