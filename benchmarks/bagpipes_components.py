"""The galaxy model with gas, dust emission and intergalactic medium against bagpipes, at redshifts 0.1, 1, 3 and 6.

Bagpipes reads the same files of stars, gas and dust, but its own way: it samples wavelengths 3000 times a factor of e
(its default is 100) and ages at the file's own ages with every interval split in four, as in bagpipes_agreement.py.
Its wavelengths are brought from air to vacuum. popcat's side is the reference on the embedded grids. Distances and ages
of the universe are those of bagpipes; what the two take for the Sun's luminosity and the parsec is divided out.

Each galaxy has formed stars at a constant rate for 0.3 Gyr. Cases: two metallicities, ionisation parameters at and
between the nodes, Calzetti's law and a power law, dust at nodes of the mixtures of the Milky Way with U_min up to 8,
beyond which bagpipes 1.3.6 mislabels its intensities. Its Calzetti law has the step at 6300 A and turns over at 1200 A;
popcat's is smooth, so the power law is what tests the rest.

The medium is that of Inoue et al. (2014) on either side; bagpipes tabulates it every Angstrom and every 0.01 in
redshift.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from popcat.forward.components import Components
from popcat.forward.cosmology import CosmologyTable
from popcat.forward.engines.files import vacuum_wavelength
from popcat.forward.filters import load_curve
from popcat.forward.grid import load_grid
from popcat.forward.spectrum import reference_fluxes
from popcat.survey import Filter
from popcat.units import LSUN_ERG_S, NMGY_PER_UNIT, PC_CM

import bagpipes_agreement
from bagpipes_agreement import constant_model, nearest, refine_ages
from environment import conclude, parser, print_table

REDSHIFTS = (0.1, 1.0, 3.0, 6.0)
AGE_GYR, Z_SUN = 0.3, 0.02
BANDS = {**{name: f"lsst2023-{name}" for name in "ugrizy"}, **{name: f"Euclid-{name}" for name in "YJH"},
         **{f"irac{k}": f"spitzer_irac_ch{k}" for k in (1, 2, 3, 4)}, "mips24": "spitzer_mips_24",
         "pacs100": "herschel_pacs_100", "spire250": "herschel_spire_250"}  # fmt: skip
MAGNITUDES_PER_TAU = 2.5 / np.log(10.0)
# (metallicity in solar, log U, law, tau_ism, q_PAH, U_min, gamma)
CASES = {
    "power law": (0.4, -3.0, "charlot_fall", 0.5, 2.5, 1.2, 0.02),
    "power law, more": (1.0, -2.25, "charlot_fall", 1.5, 1.12, 5.0, 0.1),
    "calzetti": (0.4, -2.0, "calzetti", 0.7, 3.9, 3.5, 0.01),
}
THEIR_LAW = {"charlot_fall": {"type": "CF00", "n": 0.7}, "calzetti": {"type": "Calzetti"}}


def main():
    arguments = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = bagpipes_agreement_by_redshift(Path(folder))
    for case, rows in found.items():
        print_table([{"redshift": z, **by_band} for z, by_band in rows.items()],
                    f"popcat over bagpipes, less one: {case}")  # fmt: skip
    worst = {z: {band: max((rows[z][band] for rows in found.values()), key=abs) for band in BANDS} for z in REDSHIFTS}
    conclude(arguments.json, {"agreement": {"bagpipes": worst}, "by_case": found})


def bagpipes_agreement_by_redshift(folder: Path) -> dict[str, dict[float, dict[str, float]]]:
    """case -> redshift -> band -> relative difference."""
    curves = [load_curve(Filter(name=name, filter=known)) for name, known in BANDS.items()]
    return {name: of_case(curves, folder, *case) for name, case in CASES.items()}


def of_case(curves, folder, z_solar, log_u, law, tau, q_pah, u_min, gamma) -> dict[float, dict[str, float]]:
    dust = {**THEIR_LAW[law], "Av": tau * MAGNITUDES_PER_TAU, "eta": 1.0, "qpah": q_pah, "umin": u_min, "gamma": gamma}
    history = {"massformed": 10.0, "metallicity": z_solar, "age_max": AGE_GYR, "age_min": 0.0}
    galaxy = {"redshift": 0.1, "constant": history, "nebular": {"logU": log_u}, "t_bc": 0.01, "dust": dust}
    theirs = make_bagpipes(curves, folder, galaxy)
    history["age_max"] = float(nearest(theirs.sfh.age_lhs / 1e9, AGE_GYR))
    model = replace(model_at_all_redshifts(history["age_max"]), components=Components("cloudy", law, "draine_li_2007"))
    shape = {"charlot_fall": (-0.7,), "calzetti": ()}[law]
    theta = np.array([10.0, 0.25, 0.25, 0.25, 0.25, 0.0, 1e-2, np.log10(z_solar * Z_SUN), 0.0, 0.0, tau, *shape, log_u,
                      0.0, q_pah, u_min, gamma])  # fmt: skip
    sun_and_parsec = LSUN_ERG_S / 3.826e33 * (3.086e18 / PC_CM) ** 2
    rows = {}
    for z in REDSHIFTS:
        theirs.update({**galaxy, "redshift": z})
        expected = theirs.photometry * NMGY_PER_UNIT["uJy"] * sun_and_parsec
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = reference_fluxes(theta[None], [z], model, curves)[0] / expected - 1.0
        # bands in which hardly any light is left
        faint = expected < 1e-6 * expected.max()
        rows[z] = dict(zip(BANDS, np.where(faint, np.nan, ratio).tolist(), strict=True))
    return rows


def model_at_all_redshifts(age_gyr: float):
    """popcat's ingredients: a constant rate since `age_gyr` on the embedded stars, at bagpipes' distances."""
    from bagpipes import utils

    model = constant_model(load_grid("bc03_miles"), age_gyr)
    top = float(np.log1p(max(REDSHIFTS) + 1.0))
    z = np.expm1(np.linspace(0.0, top, 8193))
    dist_mpc = np.interp(z, utils.z_array, utils.ldist_at_z)
    return replace(model, cosmology=CosmologyTable("bagpipes", top, np.full(len(z), age_gyr), dist_mpc))


def make_bagpipes(curves, folder: Path, galaxy: dict):
    """A bagpipes model in vacuum that samples finely in wavelength and age."""
    import bagpipes
    from bagpipes import config
    from bagpipes.models.star_formation_history import star_formation_history

    in_vacuum(config)
    refine_ages()
    sample_ages(config)
    refine_gas_ages(config)
    config.R_phot, config.max_redshift = bagpipes_agreement.R_FINE, max(REDSHIFTS) + 0.1
    files = []
    for curve in curves:
        files.append(str(folder / f"{curve.name}.txt"))
        np.savetxt(files[-1], np.column_stack([curve.wave_aa, curve.response]))
    model = bagpipes.model_galaxy(galaxy, filt_list=files, phot_units="mujy")
    model.sfh = star_formation_history(galaxy, log_sampling=bagpipes_agreement.LOG_SAMPLING)
    return model


def in_vacuum(config) -> None:
    """Wavelengths of stars, continuum and lines; once is enough."""
    if getattr(config, "popcat_vacuum", False):
        return
    for name in ("wavelengths", "neb_wavs", "line_wavs"):
        setattr(config, name, vacuum_wavelength(np.asarray(getattr(config, name), dtype=float)))
    config.popcat_vacuum = True


def sample_ages(config) -> None:
    """bagpipes' ages and bins: those of the refined stars from 1 Myr on."""
    from bagpipes import utils

    ages, oldest = config.raw_stellar_ages, 1e9 * utils.cosmo.age(0.0).value
    config.age_sampling = ages[(ages >= 1e6) & (ages < oldest)]
    config.age_bins = utils.make_bins(config.age_sampling, make_rhs=True)[0]
    config.age_bins[0], config.age_bins[-1] = 0.0, oldest
    config.age_widths = np.diff(config.age_bins)


def refine_gas_ages(config) -> None:
    """Nebular emission of every log U on the ages of the stars, linear in ln t as popcat has it; once is enough."""
    if len(config.neb_ages) > 20:
        return
    young = config.age_sampling[: np.searchsorted(config.age_bins, bagpipes_agreement.T_NEBULAR_YR) + 1]
    weights = bagpipes_agreement.point_weights(config.neb_ages, np.maximum(young, config.neb_ages[0]))
    for name in ("cont_grid", "line_grid"):
        planes = [bagpipes_agreement._on_ages(plane, young, weights) for plane in getattr(config, name)[1:]]
        setattr(config, name, [None, *planes])
    config.neb_ages = young


if __name__ == "__main__":
    main()
