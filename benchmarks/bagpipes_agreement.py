"""Bursts and constant star formation against bagpipes, from the same stellar populations: how well the two agree.

Both read the BC03+MILES file of bagpipes, all of its ages and wavelengths, and look through the same filters without
dust. Bagpipes samples finely: R = 3000 in wavelength (its default is 100), and in age the file's own ages with every
interval split in four: it sums light by the trapezoidal rule, which is 1.5e-3 off on the file's ages alone. Its
wavelengths are those of the file, in air, so popcat's are left in air too, and popcat takes bagpipes' distances and
ages of the universe. What the two take for the Sun's luminosity (3.826 and 3.828e33 erg/s) and the parsec is divided
out. popcat's side is the full-resolution reference, to which forward_model.py holds the fast path.

With nebular emission of log U = -3, bagpipes' is on the finer ages too. What remains is where a line lies: bagpipes
puts all of it in the nearest of its wavelengths, which are 1 A apart, popcat shares it between two. That is largest in
i at z = 0.05, where H alpha is on the steep side of the filter, and less with more of bagpipes' wavelengths. And
bagpipes ends the emission at 10 Myr, where popcat's fades to none at the next age of the stars, 10.5 Myr: the bursts
keep clear of that.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from popcat.forward.cosmology import CosmologyTable
from popcat.forward.engines import read_bc03, read_nebular
from popcat.forward.filters import load_curves
from popcat.forward.grid import with_nebular
from popcat.forward.histories import Bases, point_weights, time_bins
from popcat.forward.ingredients import Ingredients
from popcat.forward.spectrum import reference_fluxes
from popcat.survey import Survey, load_survey
from popcat.units import LSUN_ERG_S, NMGY_PER_UNIT, PC_CM

from environment import conclude, parser, print_table

R_FINE, LOG_SAMPLING = 3000.0, 5e-5
N_AGES_BC03, N_AGES_NEBULAR, N_SPLIT = 221, 20, 4
LOG_U, T_NEBULAR_YR = -3.0, 1e7
REDSHIFTS = (0.05, 0.2, 0.5)
Z_SOLAR = (0.2, 0.4, 1.0, 2.5)
BURST_GYR = (0.003, 0.01, 0.1, 0.5, 1.0, 3.0, 8.0)
YOUNG_BURST_GYR = (0.0015, 0.003, 0.006)
CONSTANT_GYR = (0.3, 1.0, 3.0, 8.0)
_BC03_Z_SUN = 0.02


def main():
    arguments = parser(__doc__).parse_args()
    survey = load_survey("sdss")
    with tempfile.TemporaryDirectory() as folder:
        errors = agreement(survey, Path(folder))
    rows = [{"history": kind, **{name: float(e) for name, e in zip(survey.band_names, by_band, strict=True)}}
            for kind, by_band in errors.items()]  # fmt: skip
    print_table(rows, "Largest relative difference to bagpipes")
    worst = np.max(list(errors.values()), axis=0)
    result = {"max_err": dict(zip(survey.band_names, worst.tolist(), strict=True)), "by_history": rows}
    conclude(arguments.json, {"bagpipes_agreement": result})


def agreement(survey: Survey, folder: Path) -> dict[str, np.ndarray]:
    """Largest relative difference in each band: history -> (n_band,)."""
    curves = load_curves(survey)
    stars = read_bc03(air_to_vacuum=False)
    gas = with_nebular(stars, read_nebular(stars.wave_aa, LOG_U, air_to_vacuum=False))
    cases = {"burst": ("burst", BURST_GYR, stars), "constant": ("constant", CONSTANT_GYR, stars),
             "young burst, nebular": ("burst", YOUNG_BURST_GYR, gas),
             "constant, nebular": ("constant", CONSTANT_GYR, gas)}  # fmt: skip
    return {name: largest_difference(curves, folder, *case) for name, case in cases.items()}


def largest_difference(curves, folder: Path, kind: str, ages_gyr: tuple, grid) -> np.ndarray:
    """Of one kind of history over its ages, metallicities and redshifts: (n_band,)."""
    nebular = "nebular_log_u" in grid.provenance
    theirs = make_bagpipes(curves, folder, components(kind, 1.0, 1.0, 0.1, nebular), max_redshift=1.0)
    # ages that both have: nodes of the grid for bursts, edges of bagpipes' own bins for the start of star formation
    there = grid.age_gyr if kind == "burst" else theirs.sfh.age_lhs / 1e9
    differences = [
        difference(theirs, grid, curves, components(kind, float(nearest(there, age)), z_solar, redshift, nebular))
        for age in ages_gyr for z_solar in Z_SOLAR for redshift in REDSHIFTS
    ]  # fmt: skip
    return np.max(np.abs(differences), axis=0)


def nearest(values: np.ndarray, wanted: float) -> float:
    return values[np.argmin(np.abs(values - wanted))]


def difference(theirs, grid, curves, galaxy: dict) -> np.ndarray:
    """popcat over bagpipes, less one, in each band, for a galaxy in bagpipes' words."""
    theirs.update(galaxy)
    expected = fluxes(theirs)
    is_burst, redshift = "burst" in galaxy, galaxy["redshift"]
    history = galaxy["burst" if is_burst else "constant"]
    age_gyr = history["age" if is_burst else "age_max"]
    theta = np.array([10.0, 0.25, 0.25, 0.25, 0.25, float(is_burst), age_gyr if is_burst else 1e-2,
                      np.log10(history["metallicity"] * _BC03_Z_SUN), 0.0, 0.0, 0.0, 0.0])  # fmt: skip
    model = constant_model(grid, 13.0 if is_burst else age_gyr)
    return reference_fluxes(theta[None], [redshift], model, curves)[0] / expected - 1.0


def fluxes(theirs) -> np.ndarray:
    """bagpipes' photometry in nMgy, with popcat's luminosity of the Sun and parsec."""
    return theirs.photometry * NMGY_PER_UNIT["uJy"] * LSUN_ERG_S / 3.826e33 * (3.086e18 / PC_CM) ** 2


def components(kind: str, age_gyr: float, z_solar: float, redshift: float, nebular: bool) -> dict:
    """A galaxy in bagpipes' words: a burst of this age, or constant star formation since it."""
    history = {"massformed": 10.0, "metallicity": z_solar}
    history |= {"age": age_gyr} if kind == "burst" else {"age_max": age_gyr, "age_min": 0.0}
    emission = {"nebular": {"logU": LOG_U}, "t_bc": T_NEBULAR_YR / 1e9} if nebular else {}
    return {"redshift": redshift, kind: history, **emission}


def constant_model(grid, age_of_universe_gyr: float, doublings: int = 1) -> Ingredients:
    """Constant star formation and metallicity in a universe of this age at every redshift, at bagpipes' distances, as
    far as 1 + z is doubled so many times.
    """
    from bagpipes import utils

    top = doublings * float(np.log(2.0))
    z = np.expm1(np.linspace(0.0, top, doublings * 4096 + 1))
    dist_mpc = np.interp(z, utils.z_array, utils.ldist_at_z)
    cosmology = CosmologyTable("bagpipes", top, np.full(len(z), age_of_universe_gyr), dist_mpc)
    bases = Bases("constant", np.array([0.0, 14.5]), np.ones((4, 2)), np.array([[1.0, 1.0], [0.0, 0.0]]))
    return Ingredients(grid, bases, time_bins("average", 0.1), cosmology, 0.1)


def make_bagpipes(curves, folder: Path, galaxy: dict, max_redshift: float):
    """A bagpipes model that samples finely in wavelength and age."""
    import bagpipes
    from bagpipes import config, utils
    from bagpipes.models.star_formation_history import star_formation_history

    refine_ages()
    # bagpipes' histories begin at 1 Myr: all that is younger is one bin, as with its own ages
    ages, oldest = config.raw_stellar_ages, 1e9 * utils.cosmo.age(0.0).value
    config.age_sampling = ages[(ages >= 1e6) & (ages < oldest)]
    config.age_bins = utils.make_bins(config.age_sampling, make_rhs=True)[0]
    config.age_bins[0], config.age_bins[-1] = 0.0, oldest
    config.age_widths = np.diff(config.age_bins)
    refine_nebular_ages()
    config.R_phot, config.max_redshift = R_FINE, max_redshift
    files = []
    for curve in curves:
        files.append(str(folder / f"{curve.name}.txt"))
        np.savetxt(files[-1], np.column_stack([curve.wave_aa, curve.response]))
    model = bagpipes.model_galaxy(galaxy, filt_list=files, phot_units="mujy")
    model.sfh = star_formation_history(galaxy, log_sampling=LOG_SAMPLING)
    return model


def refine_ages() -> None:
    """Split the intervals between bagpipes' ages, with light linear in ln t as popcat has it; once is enough."""
    from bagpipes import config

    ages = config.raw_stellar_ages
    if len(ages) > N_AGES_BC03:
        return
    index = np.arange(1, len(ages) - 1 + 1e-9, 1.0 / N_SPLIT)
    fine = np.exp(np.interp(index, np.arange(1, len(ages)), np.log(ages[1:])))
    weights = point_weights(ages[1:], fine)
    config.raw_stellar_grid = [
        SimpleNamespace(data=np.vstack([plane.data[:1], weights @ plane.data[1:]])) for plane in config.raw_stellar_grid
    ]
    config.live_frac = np.vstack([config.live_frac[:1], weights @ config.live_frac[1:]])
    config.raw_stellar_ages = np.append(ages[0], fine)


def refine_nebular_ages() -> None:
    """Nebular emission of every log U on the ages of the stars, linear in ln t as popcat has it; once is enough."""
    from bagpipes import config

    if len(config.neb_ages) > N_AGES_NEBULAR:
        return
    young = config.age_sampling[: np.searchsorted(config.age_bins, T_NEBULAR_YR) + 1]
    weights = point_weights(config.neb_ages, np.maximum(young, config.neb_ages[0]))
    for name in ("cont_grid", "line_grid"):
        planes = [_on_ages(plane, young, weights) for plane in getattr(config, name)[1:]]
        setattr(config, name, [None, *planes])
    config.neb_ages = young


def _on_ages(plane: np.ndarray, ages: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One table of bagpipes, wavelengths in the first row and ages in the first column, on other ages."""
    return np.vstack([plane[:1], np.column_stack([ages, weights @ plane[1:, 1:]])])


if __name__ == "__main__":
    main()
