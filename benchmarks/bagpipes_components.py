"""The galaxy model with gas and dust emission against bagpipes, at redshifts 0.1, 1, 3 and 6.

Bagpipes reads the same files of stars, gas and dust, but its own way: it samples wavelengths 3000 times a factor of e
(its default is 100) and ages at the file's own ages with every interval split in four, as in bagpipes_agreement.py.
Its wavelengths are brought from air to vacuum. popcat's side is the reference on the embedded grids. Distances and ages
of the universe are those of bagpipes; what the two take for the Sun's luminosity and the parsec is divided out.

Each galaxy has formed stars at a constant rate for 0.3 Gyr. Cases: two metallicities, ionisation parameters at and
between the nodes, Calzetti's law and a power law, dust at nodes of the mixtures of the Milky Way with U_min up to 8,
beyond which bagpipes 1.3.6 mislabels its intensities. Its Calzetti law has the step at 6300 A and turns over at 1200 A;
popcat's is smooth, so the power law is what tests the rest.

Both take out what the intergalactic medium absorbs (Inoue et al. 2014). Bands that hold the Lyman alpha line are not
counted: bagpipes absorbs all of the line, popcat the half of it that lies below its own wavelength. Nor are bands below
it with Calzetti's law.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from popcat.forward.components import Components
from popcat.forward.engines.files import vacuum_wavelength
from popcat.forward.filters import load_curve
from popcat.forward.grid import load_grid
from popcat.forward.igm import LYMAN_ALPHA_AA
from popcat.forward.spectrum import reference_fluxes
from popcat.survey import Filter

from bagpipes_agreement import constant_model, fluxes, make_bagpipes, nearest
from environment import conclude, parser, print_table

REDSHIFTS = (0.1, 1.0, 3.0, 6.0)
AGE_GYR, Z_SUN = 0.3, 0.02
BANDS = {**{name: f"lsst2023-{name}" for name in "ugrizy"}, **{name: f"Euclid-{name}" for name in "YJH"},
         **{f"irac{k}": f"spitzer_irac_ch{k}" for k in (1, 2, 3, 4)}, "mips24": "spitzer_mips_24",
         "pacs100": "herschel_pacs_100", "spire250": "herschel_spire_250"}  # fmt: skip
FAINT = 1e-6
"""Of the brightest band: with less light a band is not counted."""
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
        print_table([{"band": band, **{f"z = {z:g}": _percent(rows[z][band]) for z in REDSHIFTS}} for band in BANDS],
                    f"popcat over bagpipes, less one: {case}")  # fmt: skip
    worst = {z: {band: _largest(rows[z][band] for rows in found.values()) for band in BANDS} for z in REDSHIFTS}
    conclude(arguments.json, {"agreement": {"bagpipes": worst}, "by_case": found})


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100.0 * ratio:+.2f}%"


def _largest(ratios: Iterable[float | None]) -> float | None:
    return max((ratio for ratio in ratios if ratio is not None), key=abs, default=None)


def bagpipes_agreement_by_redshift(folder: Path) -> dict[str, dict[float, dict[str, float | None]]]:
    """case -> redshift -> band -> relative difference; None where hardly any light is left, or it is not counted."""
    curves = [load_curve(Filter(name=name, filter=known)) for name, known in BANDS.items()]
    return {name: of_case(curves, folder, *case) for name, case in CASES.items()}


def of_case(curves, folder, z_solar, log_u, law, tau, q_pah, u_min, gamma) -> dict[float, dict[str, float | None]]:
    dust = {**THEIR_LAW[law], "Av": tau * MAGNITUDES_PER_TAU, "eta": 1.0, "qpah": q_pah, "umin": u_min, "gamma": gamma}
    history = {"massformed": 10.0, "metallicity": z_solar, "age_max": AGE_GYR, "age_min": 0.0}
    galaxy = {"redshift": 0.1, "constant": history, "nebular": {"logU": log_u}, "t_bc": 0.01, "dust": dust}
    in_vacuum()
    theirs = make_bagpipes(curves, folder, galaxy, max_redshift=max(REDSHIFTS) + 0.1)
    history["age_max"] = float(nearest(theirs.sfh.age_lhs / 1e9, AGE_GYR))
    # 1 + z = 8 at most
    model = constant_model(load_grid("bc03_miles"), history["age_max"], doublings=3)
    model = replace(model, components=Components("cloudy", law, "draine_li_2007"))
    shape = {"charlot_fall": (-0.7,), "calzetti": ()}[law]
    theta = np.array([10.0, 0.25, 0.25, 0.25, 0.25, 0.0, 1e-2, np.log10(z_solar * Z_SUN), 0.0, 0.0, tau, *shape, log_u,
                      0.0, q_pah, u_min, gamma])  # fmt: skip
    rows: dict[float, dict[str, float | None]] = {}
    for z in REDSHIFTS:
        theirs.update({**galaxy, "redshift": z})
        expected, found = fluxes(theirs), reference_fluxes(theta[None], [z], model, curves)[0]
        clear, below = ([curve.wave_aa[end] * sign > LYMAN_ALPHA_AA * (1.0 + z) * sign for curve in curves]
                        for end, sign in ((0, 1), (-1, -1)))  # fmt: skip
        counted = (np.array(clear) | (np.array(below) & (law != "calzetti"))) & (expected > FAINT * expected.max())
        rows[z] = {band: float(found[i] / expected[i] - 1.0) if counted[i] else None for i, band in enumerate(BANDS)}
    return rows


def in_vacuum() -> None:
    """Wavelengths of stars, continuum and lines; once is enough."""
    from bagpipes import config

    if getattr(config, "popcat_vacuum", False):
        return
    for name in ("wavelengths", "neb_wavs", "line_wavs"):
        setattr(config, name, vacuum_wavelength(np.asarray(getattr(config, name), dtype=float)))
    config.popcat_vacuum = True


if __name__ == "__main__":
    main()
