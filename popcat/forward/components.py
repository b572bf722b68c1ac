"""What a galaxy model has beside stars: gas, the law of attenuation, emission of dust, an active nucleus.

The slow, obvious reference of each in a galaxy's spectrum. Young and old starlight, each with the gas it lights up,
goes through the birth clouds (the young) and the diffuse dust; what both absorb from the Lyman limit up, dust emits; a
nucleus adds its own light:

    L(w) = [old(w) + young(w) exp(-tau_bc c(w))] exp(-tau_ism k(w)) + L_abs j(w) + f_AGN L_clear a(w)
    L_clear = int (old + young) dw,  L_abs = L_clear - int [old + young exp(-tau_bc c)] exp(-tau_ism k) dw

Both integrals run from the Lyman limit to the end of the stars' wavelengths; a(w) is in units of the disc's luminosity
from 0.1 to 1 micron. All terms are linear in the galaxy's mass. Emission of dust is not absorbed again.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from popcat.forward.agn import agn_spectrum
from popcat.forward.dust import LAWS, power_law_curve
from popcat.forward.dust_emission import dust_spectrum
from popcat.forward.gas import age_weights, load_gas, node_weights
from popcat.forward.grid import LYMAN_LIMIT_AA, SSPGrid, ionises
from popcat.galaxy_model import GalaxyModel, component_parameters


@dataclass(frozen=True)
class Components:
    """Which components there are, as the galaxy model's settings of these names have it."""

    gas: str = "grid"
    dust_law: str = "kriek_conroy"
    dust_emission: str = "none"
    agn: str = "none"

    @classmethod
    def of(cls, settings: GalaxyModel) -> "Components":
        """Those of a galaxy model."""
        return cls(settings.gas, settings.dust_law, settings.dust_emission, settings.agn)

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """Names of theta's last columns, component by component: dust, gas, emission of dust, nucleus."""
        return component_parameters(self.dust_law, self.gas, self.dust_emission, self.agn)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of theta's last columns.

        >>> Components(dust_law="calzetti", agn="temple_2021").names
        ('tau_bc', 'tau_ism', 'log_f_agn', 'ebv_agn')
        """
        return tuple(name for part in self.parts for name in part)

    @property
    def only_attenuation(self) -> bool:
        """Whether light at one wavelength depends on the stars' light there alone."""
        return not any(self.parts[1:])


class Values(NamedTuple):
    """The components' parameters of one galaxy; None where it has no such component."""

    tau_bc: float
    tau_ism: float
    shape: tuple[float, ...]
    gas: "tuple[float, ...] | None"
    dust: "tuple[float, ...] | None"
    agn: "tuple[float, ...] | None"


def values(components: Components, last: np.ndarray) -> Values:
    """theta's last columns of one galaxy, (n,) as in `Components.names`, by component.

    >>> values(Components(dust_law="smc", gas="cloudy"), np.array([1.0, 0.5, -2.5, 0.0])).gas
    (-2.5, 0.0)
    """
    ends = np.cumsum([0, *(len(part) for part in components.parts)])
    (tau_bc, tau_ism, *shape), *rest = (tuple(last[a:b].tolist()) for a, b in pairwise(ends))
    return Values(tau_bc, tau_ism, tuple(shape), *(part or None for part in rest))


class Clear(NamedTuple):
    """Light before dust, in Lsun / Angstrom at rest-frame wavelengths in Angstrom, each (n_wave,)."""

    wave_aa: np.ndarray
    old: np.ndarray
    young: np.ndarray

    def at(self, wave_aa: np.ndarray) -> "Clear":
        """At other wavelengths, linear in between; beyond the last as Rayleigh and Jeans have it, w^-4."""
        tail = np.minimum(self.wave_aa[-1] / np.asarray(wave_aa), 1.0) ** 4
        return Clear(wave_aa, *(np.interp(wave_aa, self.wave_aa, part) * tail for part in (self.old, self.young)))


def gas_of(mass, log_z, by_age, grid: SSPGrid, log_u: float, f_esc: float) -> np.ndarray:
    """Weights (n_Z, n_age, n_U) of the gas around SSPs: mass (n,), log_z (n,), by_age (n, n_age) of the grid's ages."""
    gas = load_gas()
    by_age = by_age @ age_weights(gas, grid.age_gyr)
    shining = np.flatnonzero(by_age.any(axis=1))
    weights = sum((mass[i] * node_weights(gas, log_z[i], by_age[i], log_u) for i in shining),
                  np.zeros(gas.lines.shape[:3]))  # fmt: skip
    return (1.0 - f_esc) * weights


def escaping(grid: SSPGrid, f_esc: float) -> np.ndarray:
    """Fraction of the SSPs' light that their gas leaves, (n_age, n_wave): f_esc of what ionises it."""
    taken = ionises(grid.age_gyr)[:, None] & (grid.wave_aa < LYMAN_LIMIT_AA)
    return np.where(taken, f_esc, 1.0)


def attenuated(clear: Clear, law: str, value: Values) -> np.ndarray:
    """Light after birth clouds and diffuse dust (n_wave,)."""
    clouds = power_law_curve(clear.wave_aa, LAWS[law].birth_cloud)
    diffuse = LAWS[law].curve(clear.wave_aa, *value.shape)
    return (clear.old + clear.young * np.exp(-value.tau_bc * clouds)) * np.exp(-value.tau_ism * diffuse)


def luminosities(clear: Clear, law: str, value: Values) -> tuple[float, float]:
    """L_clear and L_abs in Lsun: light before dust from the Lyman limit up, and how much of it dust absorbs."""
    seen = clear.wave_aa >= LYMAN_LIMIT_AA
    before, after = clear.old + clear.young, attenuated(clear, law, value)
    whole, left = (float(np.trapezoid(light[seen], clear.wave_aa[seen])) for light in (before, after))
    return whole, whole - left


def through_dust(clear: Clear, components: Components, value: Values, wave_aa: np.ndarray) -> np.ndarray:
    """L(w) at rest-frame wavelengths (n,): `clear`, which is at the stars' own wavelengths, with every component."""
    lum = attenuated(clear.at(wave_aa), components.dust_law, value)
    if value.dust is None and value.agn is None:
        return lum
    whole, absorbed = luminosities(clear, components.dust_law, value)
    if value.dust is not None:
        lum = lum + absorbed * dust_spectrum(wave_aa, *value.dust)
    if value.agn is not None:
        log_f_agn, ebv_agn = value.agn
        lum = lum + 10.0**log_f_agn * whole * agn_spectrum(wave_aa, ebv_agn)
    return lum
