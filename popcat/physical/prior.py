"""The physical prior of galaxies, as its density over that of the galaxy model's own prior.

    ln R(theta, z) = ln p_physical(theta, z) - ln p(theta, z)

The model's own prior p is changed by one factor for each quantity x that a published law (popcat.physical.laws) is
about, each given those before it:

    R = t(M) / q(M) times the product of (1 - FLOOR) t(x) / (q(x) + q_0) / c + FLOOR over the other x

t is the law's density, q the density that p induces (popcat.physical.induced), both given the quantities before. q_0
keeps weights bounded where p has hardly a galaxy, and c is what normalises: each factor is 1 in the mean over q, so
that evidences stay evidences. FLOOR, and the tail of the mass function, keep every galaxy possible. The quantities, in
their order:

    M          surviving stellar mass, given the redshift
    s          specific star-formation rate over 100 Myr, given M and the redshift: the star-forming sequence, and
               quenched galaxies below it
    a          mass-weighted age over the age of the universe, given M, the redshift and s
    Z          mass-weighted metallicity, given M, and a
    tau_ism    given M, and whether s is that of a galaxy that forms stars
    tau_bc     given tau_ism
    n_dust     given tau_ism

A redshift that is not given has a law of its own, `JointPrior.redshift_law`: as many galaxies as the mass functions
say, in every comoving volume. A quantity that the galaxy model lacks, fixes or ties has no factor, and all else keeps
the model's own prior.
"""

import hashlib
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from popcat.distributions import Law, Table, Uniform, Volume
from popcat.files import kept_array, sha256_of
from popcat.forward.cosmology import cosmology_table
from popcat.forward.ingredients import load_ingredients
from popcat.forward.star_properties import StarProperties
from popcat.galaxy_model import GalaxyModel
from popcat.physical.density import N_FACTORS, Factors, Known, log_ratio_kernel, pack, unpack
from popcat.physical.induced import Axis, Induced, Summaries, induce, redshift_axis, summarise
from popcat.physical.laws import log_mass_function
from popcat.physical.tables import make_factors
from popcat.prior import MASS, PHYSICAL, Prior, make_prior

N_DRAWS = 100_000
"""Draws a redshift of the model's own prior from which its densities are tabulated."""
_SEED = 1
_NORM_DEX = 0.25
_N_REDSHIFT = 257
_PILOTS, _LEAST_PART = 40, 1e-6
"""Histories a redshift that say how many galaxies are above a least mass; and this at least, of the most."""
_UNIFORM_PART = 1e-3
"""Of the law of the redshift: the nearest volumes are small, and not the mean of the universe. Much more of it would
make most bright galaxies dwarfs in our neighbourhood."""


@dataclass(frozen=True)
class Draws:
    """Draws of the physical prior: theta (n, d), redshift (n,).

    effective : effective number of the weighted draws that they were resampled from.
    """

    theta: np.ndarray
    redshift: np.ndarray
    effective: float


Least = Callable[[np.ndarray, np.ndarray], np.ndarray]


class JointPrior:
    """The physical prior of one galaxy model in a range of redshifts.

    >>> prior = JointPrior(GalaxyModel(), (0.05, 0.2), n_draws=2000)
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> prior.log_ratio(theta, np.array([0.1])).shape
    (1,)
    >>> prior.log_ratio_of_masses(theta, np.array([0.1]), np.array([9.0, 10.0, 11.0])).shape
    (1, 3)
    """

    def __init__(self, galaxy_model: GalaxyModel, redshift_range: tuple[float, float], *, n_draws: int = N_DRAWS):
        self.prior, self.redshift_range = make_prior(galaxy_model), redshift_range
        self.cosmology, self.cosmology_name = cosmology_table(galaxy_model.cosmology), galaxy_model.cosmology
        ingredients = load_ingredients(galaxy_model)
        self.stars = StarProperties(ingredients)
        self._column = {name: i for i, name in enumerate(self.prior.names)}

        def make():
            induced = induce(self.prior, self.stars, self.cosmology, redshift_axis(redshift_range), n_draws, _SEED)
            return pack(_normalised(make_factors(self.prior, galaxy_model.dust_law, induced, self.cosmology), induced))

        bases = ingredients.bases
        tables = b"".join(np.ascontiguousarray(one).tobytes() for one in (bases.lookback_gyr, bases.sfh, bases.zh))
        code = [sha256_of(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
        parts = [ingredients.grid.content_hash(), hashlib.sha256(tables).hexdigest(), *code, redshift_range, n_draws]
        self.factors = unpack(kept_array(f"physical prior {galaxy_model.model_dump_json()} {parts}", make))

    @cached_property
    def redshift_law(self) -> Law:
        """Of a redshift that is not given: galaxies of all masses of the prior, by dV / dz and the mass functions, and
        one in a thousand uniform. A galaxy model whose priors name a law of the redshift keeps that.
        """
        own = self.prior.redshift_law(self.redshift_range)
        if not isinstance(self.prior.redshift, Uniform):
            return own
        z, mass = np.linspace(own.low, own.high, _N_REDSHIFT), np.linspace(*self.prior.bounds(MASS), 112)
        number = np.array([np.exp(log_mass_function(mass, one)).mean() for one in z])
        volume = Volume(family="volume", cosmology=self.cosmology_name)
        density = np.exp(volume.log_shape(z)) * number
        density /= np.trapezoid(density, z)
        density = (1.0 - _UNIFORM_PART) * density + _UNIFORM_PART / (own.high - own.low)
        return Law(Table(family="table", x=tuple(z), density=tuple(density)), own.low, own.high, within=True)

    def log_ratio(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln R of theta (n, d) at redshift (n,): (n,)."""
        return self.log_ratio_of_masses(theta, redshift, theta[:, :1])[:, 0]

    def log_ratio_of_masses(self, theta: np.ndarray, redshift: np.ndarray, log_mass: np.ndarray) -> np.ndarray:
        """ln R (n, k) if the mass formed were log_mass, (k,) or (n, k), and all else as in theta (n, d)."""
        known = self._known(theta, redshift, summarise(self.stars, self.cosmology, theta, redshift))
        masses = np.broadcast_to(log_mass, (len(theta), np.shape(log_mass)[-1]))
        return _evaluate(self.factors, known, masses)

    def without_dust(self) -> "JointPrior":
        """The same with dust as the galaxy model's own prior has it: more of the draws are effective."""
        return self._with(0, 1, 2, 3)

    def _with(self, *factors: int) -> "JointPrior":
        """The same with these factors alone of those that it has."""
        other = copy(self)
        other.factors = self.factors._replace(has=self.factors.has * np.isin(np.arange(N_FACTORS), factors))
        return other

    def _known(self, theta, redshift, summaries: Summaries) -> Known:
        """What the factors are about but for the mass; 0 for what the model lacks."""
        dust = [theta[:, self._column[name]] if name in self._column else np.zeros(len(theta))
                for name in ("tau_ism", "tau_bc", "n_dust")]  # fmt: skip
        return Known(np.log1p(redshift), *summaries, *(np.ascontiguousarray(one, dtype=float) for one in dust))

    def sample(
        self, n: int, random: np.random.Generator, *, candidates: int = 20, least: "Least | None" = None,
        redshifts: Law | None = None,
    ) -> Draws:  # fmt: skip
        """n draws: of `candidates` times as many of the model's own prior, with masses of the physical one, so many
        resampled by weight; their dust is then drawn from its own law.

        least : gives log10 of the least mass (n,) of candidates theta (n, d) at redshift (n,), whatever their dust:
        the draws are those of the prior that have more. redshifts : the law that candidates' redshifts are drawn from,
        such as `redshifts_above` of it, which makes more of them count; the draws' are those of the prior.
        """
        size, law = n * candidates, self.redshift_law
        proposal = law if redshifts is None else redshifts
        theta = self.prior.from_unit(random.uniform(size=(size, self.prior.n_unconstrained)))
        redshift = proposal.from_unit(random.uniform(size=size))
        summaries = summarise(self.stars, self.cosmology, theta, redshift)
        log_weight = np.zeros(size) if proposal is law else law.log_density(redshift) - proposal.log_density(redshift)
        if self.factors.has[0]:
            low = np.full(size, -np.inf) if least is None else least(theta, redshift)
            masses = _draw_masses(self.factors, self.prior, redshift, summaries.log_survived, low, random)
            theta[:, 0], log_weight = masses[0], log_weight + masses[1]
        inner = self.without_dust().factors
        log_weight += _evaluate(inner, self._known(theta, redshift, summaries), theta[:, :1])[:, 0]
        weight = np.exp(log_weight - log_weight.max())
        total = weight.sum()
        places = np.searchsorted(np.cumsum(weight) / total, (np.arange(n) + random.uniform()) / n)
        rows = random.permutation(np.minimum(places, size - 1))
        theta, redshift = theta[rows], redshift[rows]
        self._draw_dust(theta, redshift, Summaries(*(one[rows] for one in summaries)), random)
        for name, tie in self.prior.tied.items():
            theta[:, self._column[name]] = tie.factor * theta[:, self._column[tie.to]] + tie.offset
        return Draws(theta, redshift, float(total**2 / (weight**2).sum()))

    def redshifts_above(self, least: Least) -> Law:
        """A law from which to draw redshifts of galaxies of more than the least mass: that of all galaxies, times the
        part of them that has more, as a few of the model's own prior say.
        """
        from scipy.ndimage import gaussian_filter1d

        own, random = self.redshift_law, np.random.default_rng(_SEED)
        if not self.factors.has[0]:
            return own
        z = np.geomspace(1.0 + own.low, 1.0 + own.high, _N_REDSHIFT) - 1.0
        z[[0, -1]] = own.low, own.high
        rows = np.repeat(z, _PILOTS)
        theta = self.prior.from_unit(random.uniform(size=(len(rows), self.prior.n_unconstrained)))
        found = summarise(self.stars, self.cosmology, theta, rows).log_survived
        above = _draw_masses(self.factors, self.prior, rows, found, least(theta, rows), random)[2]
        part = gaussian_filter1d(above.reshape(len(z), _PILOTS).mean(axis=1), 3.0, mode="nearest")
        density = np.exp(own.log_density(z)) * np.maximum(part, _LEAST_PART * part.max())
        return Law(Table(family="table", x=tuple(z), density=tuple(density)), own.low, own.high, within=True)

    def _draw_dust(self, theta, redshift, summaries: Summaries, random) -> None:
        """Each of the dust parameters from its density given what comes before it, in place."""
        for k, name in ((4, "tau_ism"), (5, "tau_bc"), (6, "n_dust")):
            if not self.factors.has[k]:
                continue
            law, alone = self.prior.laws[name], self._with(k).factors
            nodes = np.linspace(law.low, law.high, 61)
            own = np.exp(law.log_density(nodes))
            for rows in np.array_split(np.arange(len(theta)), max(len(theta) // 4000, 1)):
                part = theta[rows]
                density = np.empty((len(rows), len(nodes)))
                for j, x in enumerate(nodes):
                    part[:, self._column[name]] = x
                    known = self._known(part, redshift[rows], Summaries(*(one[rows] for one in summaries)))
                    density[:, j] = own[j] * np.exp(_evaluate(alone, known, part[:, :1])[:, 0])
                theta[rows, self._column[name]] = _quantile(nodes, density, random.uniform(size=len(rows)))


def physical_prior(galaxy_model: GalaxyModel, redshift_range: tuple[float, float]) -> JointPrior:
    """The physical prior of a galaxy model, made once a process.

    >>> physical_prior(GalaxyModel(), (0.05, 0.2)) is physical_prior(GalaxyModel(), (0.05, 0.2))
    True
    """
    return _made(galaxy_model.model_dump_json(), redshift_range)


def prior_named(name: str, galaxy_model: GalaxyModel, redshift_range: tuple[float, float]) -> JointPrior | None:
    """The physical prior where that is the name, None for the galaxy model's own (popcat.prior.PRIORS)."""
    return physical_prior(galaxy_model, redshift_range) if name == PHYSICAL else None


def redshift_law_of(prior: Prior, redshift_range: tuple[float, float], physical: JointPrior | None) -> Law:
    """The prior of a redshift that is not given."""
    return prior.redshift_law(redshift_range) if physical is None else physical.redshift_law


@lru_cache(maxsize=4)
def _made(galaxy_model: str, redshift_range: tuple[float, float]) -> JointPrior:
    return JointPrior(GalaxyModel.model_validate_json(galaxy_model), redshift_range)


def _evaluate(factors: Factors, known: Known, log_mass: np.ndarray) -> np.ndarray:
    out = np.empty(log_mass.shape)
    log_ratio_kernel(factors, known, np.ascontiguousarray(log_mass, dtype=float), out)
    return out


def _quantile(nodes: np.ndarray, density: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Where densities (n, k), linear between nodes (k,), have the part u (n,) of their mass below."""
    step = np.diff(nodes)
    below = np.concatenate([np.zeros((len(density), 1)),
                            np.cumsum(0.5 * step * (density[:, 1:] + density[:, :-1]), axis=1)], axis=1)  # fmt: skip
    wanted = u * below[:, -1]
    j = np.clip(np.sum(below <= wanted[:, None], axis=1) - 1, 0, len(step) - 1)
    row = np.arange(len(u))
    first, last, rest = density[row, j], density[row, j + 1], wanted - below[row, j]
    slope = (last - first) / step[j]
    root = np.sqrt(np.maximum(first**2 + 2.0 * slope * rest, 0.0))
    return nodes[j] + np.clip(2.0 * rest / np.maximum(first + root, 1e-300), 0.0, step[j])


def _draw_masses(factors: Factors, prior: Prior, redshift, log_survived, least, random):
    """Masses formed, above `least`, whose surviving masses have the physical prior's density; ln of the own prior over
    the density that they are drawn from, -inf where the prior has none above; and the part of the masses that is."""
    law, axis = prior.laws[MASS], Axis(factors.mass_low, factors.mass_high, factors.laws.shape[1])
    i, f = Axis(factors.z_low, factors.z_high, len(factors.laws)).place(np.log1p(redshift))
    surviving, log_drawn, part = np.empty((3, len(redshift)))
    table = factors.laws[:, :, 0]
    low, high = np.maximum(law.low, least) + log_survived, law.high + log_survived
    for rows in np.array_split(np.arange(len(redshift)), max(len(redshift) // 4000, 1)):
        density = (1.0 - f[rows, None]) * table[i[rows]] + f[rows, None] * table[i[rows] + 1]
        below = np.cumsum(0.5 * axis.step * (density[:, 1:] + density[:, :-1]), axis=1)
        below = np.concatenate([np.zeros((len(rows), 1)), below], axis=1)
        first, last = (_below(axis, density, below, ends[rows]) for ends in (low, high))
        u = first + random.uniform(size=len(rows)) * (last - first)
        surviving[rows] = _quantile(axis.nodes, density, u / below[:, -1])
        (j, g), row = axis.place(surviving[rows]), np.arange(len(rows))
        part[rows] = np.maximum(last - first, 1e-300)
        log_drawn[rows] = np.log(((1.0 - g) * density[row, j] + g * density[row, j + 1]) / part[rows])
    formed = law.inside(surviving - log_survived)
    return formed, np.where(low < high, law.log_density(formed) - log_drawn, -np.inf), part


def _below(axis: Axis, density: np.ndarray, below: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Integral (n,) up to x (n,) of densities (n, k), linear between nodes; `below` is that up to each node."""
    (j, g), row = axis.place(x), np.arange(len(x))
    first, last = density[row, j], density[row, j + 1]
    return below[row, j] + axis.step * g * (first + 0.5 * g * (last - first))


def _normalised(factors: Factors, induced: Induced) -> Factors:
    """With the mean of R at each mass and redshift, over the draws. Dust has no part in it: its factors are normalised.

    It is not quite 1, for the tables are not as fine as a history's quantities depend on each other. What is left then
    is mostly the sampling noise of the draws that are effective here: 1% where a tenth of them are.
    """
    from scipy.ndimage import gaussian_filter1d

    inner = factors._replace(has=factors.has * np.isin(np.arange(N_FACTORS), (1, 2, 3)))
    mass = Axis(factors.mass_low, factors.mass_high, factors.laws.shape[1]).nodes
    coarse = np.linspace(mass[0], mass[-1], int(np.ceil((mass[-1] - mass[0]) / _NORM_DEX)) + 1)
    log_mean = np.empty((induced.redshift.n, len(coarse)))
    for k, (ln1pz, draws) in enumerate(zip(induced.redshift.nodes, induced.draws, strict=True)):
        zero = np.zeros(len(draws.s))
        known = Known(np.full(len(zero), ln1pz), *draws, zero, zero, zero)
        ratio = _evaluate(inner, known, coarse - draws.log_survived[:, None])
        log_mean[k] = np.log(np.exp(ratio).mean(axis=0))
    log_mean = gaussian_filter1d(log_mean, 1.0, axis=1, mode="nearest")
    return factors._replace(norm=np.exp(-np.stack([np.interp(mass, coarse, row) for row in log_mean])))
