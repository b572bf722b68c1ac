"""Emission of dust: Draine & Li (2007, ApJ 657, 810), per unit of the luminosity that it absorbs.

Of the dust's mass 1 - gamma sits in starlight of the intensity U_min, and gamma in intensities from U_min to 10^6 with
dM/dU proportional to U^-2:

    j(w) = (1 - gamma) j(w; q_PAH, U_min, U_min) + gamma j(w; q_PAH, U_min, 10^6, alpha = 2)

q_PAH is the percentage of the dust's mass in polycyclic aromatic hydrocarbons of fewer than 1,000 carbon atoms, U is in
units of the local interstellar radiation. Here j is scaled to int j dw = 1 between 1 micron and 1 mm: what is absorbed
is emitted there. Between the nodes of the table, each of unit integral, the shapes are linear in q_PAH and in ln U_min,
and so is the ratio of the two terms' luminosities per mass; outside its range they are those of its edge.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from popcat.files import embedded_arrays
from popcat.forward.grid import linear_weights


@dataclass(frozen=True)
class DustEmission:
    """The two terms of j at the nodes.

    wave_aa : (n_wave,) rest-frame wavelengths in Angstrom, 1 micron to 1 mm; linear between them, none beyond
    q_pah : (n_q,) in percent. u_min : (n_U,)
    lum : (2, n_q, n_U, n_wave) in 1 / Angstrom, of unit integral: U_min alone, and the power law
    power_law : (n_q, n_U) luminosity per mass of the power law in units of that of U_min alone
    """

    wave_aa: np.ndarray
    q_pah: np.ndarray
    u_min: np.ndarray
    lum: np.ndarray
    power_law: np.ndarray


@cache
def load_dust_emission() -> DustEmission:
    """The embedded table.

    >>> load_dust_emission().lum.shape
    (2, 7, 22, 366)
    """
    arrays = embedded_arrays("dust_emission")
    arrays["lum"] /= np.trapezoid(arrays["lum"], arrays["wave_aa"])[..., None]
    return DustEmission(**arrays)


def dust_spectrum(wave_aa, q_pah: float, u_min: float, gamma_dust: float) -> np.ndarray:
    """L_lambda in 1 / Angstrom at rest-frame wavelengths, for unit luminosity.

    >>> table = load_dust_emission()
    >>> round(float(np.trapezoid(dust_spectrum(table.wave_aa, 2.0, 1.1, 0.02), table.wave_aa)), 12)
    1.0
    """
    table = load_dust_emission()
    weights = np.outer(*(linear_weights(nodes, at) for nodes, at in node_positions(table, q_pah, u_min)))
    alone, spread = (np.tensordot(weights, term, axes=2) for term in table.lum)
    share = power_law_share(gamma_dust, float((weights * table.power_law).sum()))
    return np.interp(wave_aa, table.wave_aa, (1.0 - share) * alone + share * spread, left=0.0, right=0.0)


def node_positions(table: DustEmission, q_pah: float, u_min: float) -> list[tuple[np.ndarray, float]]:
    """The table's nodes in q_PAH and in ln U_min, with where a galaxy is among them."""
    return [(table.q_pah, q_pah), (np.log(table.u_min), float(np.log(u_min)))]


def power_law_share(gamma_dust, ratio):
    """Share of the luminosity that comes from the power law: gamma R / (1 - gamma + gamma R).

    >>> power_law_share(0.5, 3.0)
    0.75
    """
    return gamma_dust * ratio / (1.0 - gamma_dust + gamma_dust * ratio)
