"""Where a population starts in what the photometry leaves open: a wide, physical prior, or one of the user's.

Broad bands do not tell age, metallicity, dust and redshift apart in every galaxy, so different populations have the
same photometry, and a fit ends at the one nearest to its start. "physical" is what any galaxy survey may assume:

- parents uniform in comoving volume, with Schechter's mass function (log M* = 11.0 in mass formed, alpha = -1.1);
- half of them forming stars: the weight of the basis with the youngest stars is Beta(2, 2 b) instead of the training
  prior's Beta(1, b), of the same mean and 0.3 dex wide instead of 0.5, as the main sequence is (Speagle et al. 2014);
  tau_ism and tau_bc gamma of shape 2 and mean 0.5 and 0.7, since hardly any galaxy forms stars without dust (Brinchmann
  et al. 2004);
- half quiescent: that weight is Beta(0.2, b), tau_ism and tau_bc exponential (0.15, 0.15);
- slope of the attenuation -0.6 +- 0.5, metallicity weights log10 0.005 +- 0.4, bursts Beta(1, 20).

The fit moves from there as far as the photometry says. "wide" has of all this the volume, the mass function and the
slope of the attenuation, and dust exponential as that of no kind of galaxy (0.5, 0.7): draws of posteriors under the
training prior cover it, while of those that the whole of it would keep there are too few.

The library of a start: galaxies of its prior, as many of each flux as the data have.

Where cuts end the data, noise has brought fainter galaxies in, the more of them the larger it is at the cut: the
library goes on beyond, with the prior's own counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaln
from scipy.stats import beta, gamma, truncnorm

from popcat.errors import PopcatError
from popcat.forward.photometry import Photometry
from popcat.forward.sfh import Fractional, Lookback
from popcat.physical.laws import TAU_QUENCHED
from popcat.population.distance import Galaxies
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Space, Synthesis
from popcat.posterior.priors import load_prior

FLAT, PHYSICAL, WIDE = "flat", "physical", "wide"
_LOG_MSTAR, _ALPHA = 11.0, -1.1
_FORMING, _QUIESCENT = {"tau_ism": 0.25, "tau_bc": 0.35}, dict.fromkeys(("tau_ism", "tau_bc"), TAU_QUENCHED)
_ANY = {"tau_ism": 0.5, "tau_bc": 0.7}
_DUST_SHAPE = 2.0
_A_QUIESCENT, _A_FORMING = 0.2, 2.0
_NORMAL = {"n_dust": (-0.6, 0.5), "log_gamma1": (-2.3, 0.4), "log_gamma2": (-2.3, 0.4), "log_z": (-1.8, 0.4)}
_BURST_B = 20.0

LogRatio = Callable[[np.ndarray, np.ndarray], np.ndarray]


def start_prior(name: str, space: Space, photometry: Photometry) -> LogRatio:
    """A function of theta (n, d) and redshift (n,): ln of the start's prior over the training prior, (n,), up to a
    constant. `name` is "physical", "wide", "flat" (the training prior), or a TOML file as `popcat reweight` reads it.

    Raises PopcatError if there is no such file or it does not fit the galaxy model, or for "physical" and a history
    that is no mixture of bases.
    """
    if name == FLAT:
        return lambda theta, redshift: np.zeros(len(theta))
    history = photometry.ingredients.history
    if name == PHYSICAL and not isinstance(history, Lookback | Fractional):
        raise PopcatError(f'start_prior "{PHYSICAL}": expected a history that is a mixture of bases, got '
                          f'{type(history).__name__}: set start_prior = "{WIDE}" or "{FLAT}", or name a file')
    if name in (PHYSICAL, WIDE):
        prior = PhysicalPrior.of(space, photometry)
        return prior if name == PHYSICAL else prior.wide
    new = load_prior(name, space.prior, space.redshift_range)

    def log_ratio(theta, redshift):
        draws = dict(zip(space.prior.names, theta.T[:, :, None], strict=True)) | {"redshift": redshift[:, None]}
        return new.log_ratio(draws, np.ones(len(theta), dtype=bool))[:, 0]

    return log_ratio


@dataclass(frozen=True)
class PhysicalPrior:
    """The start's prior of the module's docstring, of the free parameters that the galaxy model has."""

    space: Space
    youngest: int
    """Column of theta with the SFH weight of the basis that has the most stars below 1 Gyr."""
    z: np.ndarray
    ln_volume: np.ndarray

    @classmethod
    def of(cls, space: Space, photometry: Photometry) -> "PhysicalPrior":
        z = np.linspace(*space.redshift_range, 2000)
        distance = 10.0 ** (photometry.ingredients.cosmology.distance_modulus(z) / 5.0) / (1.0 + z)
        t_age = float(photometry.ingredients.cosmology.age(space.redshift_range[0]))
        unit = t_age if isinstance(photometry.ingredients.history, Fractional) else 1.0
        young = photometry.ingredients.bases.cumulative_sfh(np.array([1.0 / unit])).ravel()
        return cls(space, 1 + int(np.argmax(young)), z, np.log(np.gradient(distance**3, z)))

    def __call__(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        column = dict(zip(self.names, theta.T, strict=True))
        prior = self.space.prior
        value = self.mass_and_volume(column["log_mstar_formed"], redshift)
        value -= self._log_training(column, redshift, {*_NORMAL, *_FORMING, "f_burst"})
        value -= prior.weights.log_density(prior.weights_of(column))
        for name, (mean, sigma) in _NORMAL.items():
            if name in self._free:
                value += -0.5 * ((column[name] - mean) / sigma) ** 2
        if "f_burst" in self._free:
            value += (_BURST_B - 1.0) * np.log1p(-np.minimum(column["f_burst"], 1.0 - 1e-9))
        young = np.clip(theta[:, self.youngest], 1e-5, 1.0 - 1e-9)
        others = prior.weights.n_free
        forming = _log_young(young, others, _A_FORMING, _A_FORMING * others)
        forming += self._dust(column, _FORMING, _DUST_SHAPE)
        quiescent = _log_young(young, others, _A_QUIESCENT, others) + self._dust(column, _QUIESCENT)
        return value + np.logaddexp(forming, quiescent)

    def wide(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln of the wide part of it over the training prior: mass, volume, dust."""
        column = dict(zip(self.names, theta.T, strict=True))
        value = self.mass_and_volume(column["log_mstar_formed"], redshift) + self._dust(column, _ANY)
        if "n_dust" in self._free:
            mean, sigma = _NORMAL["n_dust"]
            value += -0.5 * ((column["n_dust"] - mean) / sigma) ** 2
        return value - self._log_training(column, redshift, {"n_dust", *_ANY})

    @property
    def names(self) -> tuple[str, ...]:
        """theta's columns."""
        return self.space.prior.names

    @property
    def _free(self) -> set[str]:
        return set(self.space.prior.laws)

    def _log_training(self, column, redshift, own: set[str]) -> np.ndarray:
        """ln of the training prior's density in redshift, mass and the parameters of which this prior has a law of its
        own; all others keep that of training.
        """
        prior = self.space.prior
        total = prior.redshift_law(self.space.redshift_range).log_density(redshift)
        for name, law in prior.laws.items():
            if name in {"log_mstar_formed", *own}:
                total = total + law.log_density(law.inside(column[name]))
        return total

    def _dust(self, column, scales, shape: float = 1.0) -> np.ndarray | float:
        """ln of gamma laws of tau_ism and tau_bc."""
        return sum(gamma.logpdf(column[name], shape, scale=scale) for name, scale in scales.items()
                   if name in self._free)  # fmt: skip

    def mass_and_volume(self, log_mass: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln of the density in redshift and mass formed."""
        mass = np.log(10.0) * (log_mass - _LOG_MSTAR)
        return np.interp(redshift, self.z, self.ln_volume) + (_ALPHA + 1.0) * mass - np.exp(mass)

    def refine(self, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """theta, draws of the training prior, with what this prior has another law for replaced, but for the mass."""
        at = {name: i for i, name in enumerate(self.names)}
        n = len(theta)
        quiescent = random.uniform(size=n) < 0.5
        for name in (one for one in _FORMING if one in self._free):
            low, high = self.space.prior.bounds(name)
            for rows, shape, scale in ((quiescent, 1.0, _QUIESCENT[name]), (~quiescent, _DUST_SHAPE, _FORMING[name])):
                law = gamma(shape, scale=scale)
                level = random.uniform(law.cdf(low), law.cdf(high), int(rows.sum()))
                theta[rows, at[name]] = law.ppf(level)
        for name, (mean, sigma) in _NORMAL.items():
            if name in self._free:
                low, high = self.space.prior.bounds(name)
                theta[:, at[name]] = truncnorm.rvs((low - mean) / sigma, (high - mean) / sigma, loc=mean, scale=sigma,
                                                   size=n, random_state=random)  # fmt: skip
        if "f_burst" in self._free:
            low, high = self.space.prior.bounds("f_burst")
            law = beta(1.0, _BURST_B)
            theta[:, at["f_burst"]] = law.ppf(random.uniform(law.cdf(low), law.cdf(high), n))
        weights = [i for name, i in at.items() if name.startswith("beta")]
        others = [i for i in weights if i != self.youngest]
        if others:
            b = float(len(others))
            young = np.where(quiescent, random.beta(_A_QUIESCENT, b, n), random.beta(_A_FORMING, _A_FORMING * b, n))
            rest = random.standard_exponential((n, len(others)))  # a flat Dirichlet's
            theta[:, others] = rest / rest.sum(1, keepdims=True) * (1.0 - young)[:, None]
            theta[:, self.youngest] = young
        for name, tie in self.space.prior.tied.items():
            theta[:, at[name]] = tie.factor * theta[:, at[tie.to]] + tie.offset
        return theta


def _log_young(young: np.ndarray, others: int, a: float, b: float) -> np.ndarray:
    """ln of the density of SFH weights: Beta(a, b) of that with the youngest stars, the others share what is left."""
    if others == 0:  # a single basis has no weight to say it with
        return np.zeros_like(young)
    return beta.logpdf(young, a, b) - (others - 1.0) * np.log1p(-young) + gammaln(others)


def sample_start(
    name: str, n: int, space: Space, photometry: Photometry, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """theta (n, d), redshift (n,), and ln weights (n,) with which they are draws of the start's prior.

    Redshift and mass are the training prior's, so that rare bright galaxies are there too; the weights make up for it.
    """
    prior, law = space.prior, space.prior.redshift_law(space.redshift_range)
    theta = prior.from_unit(random.uniform(size=(n, prior.n_unconstrained)))
    redshift = law.from_unit(random.uniform(size=n))
    log_ratio = start_prior(name, space, photometry)
    if not isinstance(log_ratio, PhysicalPrior):
        return theta, redshift, log_ratio(theta, redshift)
    theta = log_ratio.refine(theta, random)
    drawn = law.log_density(redshift)
    if (mass := prior.names[0]) in prior.laws:
        drawn = drawn + prior.laws[mass].log_density(theta[:, 0])
    return theta, redshift, log_ratio.mass_and_volume(theta[:, 0], redshift) - drawn


_BATCH = 200_000
_MAX_BATCHES = 40
_HOPELESS = 4
_BINS = 40
SHARE = 0.9
"""Of `max_hidden`, beyond the cuts: a flow that learns the library has some more there, and should not pay for it."""
_BEYOND = 1.0
"""In ln flux, past the faintest: where noise brings galaxies in from."""


def sample_library(synthesis: Synthesis, galaxies: Galaxies, settings: PopulationSettings) -> torch.Tensor:
    """Galaxies (n, d) of the start's prior with the data's distribution of the middle band's flux.

    Raises PopcatError if hardly any galaxy of the prior is like those of the catalogue.
    """
    random = np.random.default_rng((settings.seed, 41))
    band = synthesis.n_band // 2
    parts, found = [], 0.0
    for _ in range(_MAX_BATCHES):
        parts.append(_candidates(synthesis, settings, galaxies, band, random))
        log_weight = np.concatenate([weight for _, weight in parts])
        weight = np.exp(log_weight - log_weight.max(initial=-np.inf))
        found = weight.sum() ** 2 / (weight**2).sum() if len(weight) else 0.0
        if found >= settings.library or (len(parts) >= _HOPELESS and found < 1.0):
            break
    if found < 500:
        raise PopcatError(f"the start's prior ({settings.start_prior or PHYSICAL}) has hardly any galaxy like those of "
                          f"the catalogue ({found:.0f} effective ones): check its units and cuts")  # fmt: skip
    rows = random.choice(len(weight), size=settings.library, p=weight / weight.sum())
    return torch.from_numpy(np.concatenate([x for x, _ in parts])[rows])


def _candidates(synthesis: Synthesis, settings, galaxies: Galaxies, band: int, random):
    """x and ln weights of one batch of the prior; flux of the middle band as in the data."""
    photometry = synthesis.photometry
    name = settings.start_prior or PHYSICAL
    theta, redshift, log_weight = sample_start(name, _BATCH, synthesis.space, photometry, random)
    flux = photometry.flux(theta, redshift)[:, band]
    data = np.log(np.maximum(galaxies.flux[:, band], 1e-3))
    edges, wanted = _data_fluxes(data, beyond=synthesis.cuts.end_faint)
    place = np.searchsorted(edges, np.log(np.maximum(flux, 1e-30))) - 1
    inside = (place >= 0) & (place < len(wanted))
    theta, redshift, log_weight, place = theta[inside], redshift[inside], log_weight[inside], place[inside]
    if not inside.any():
        return np.empty((0, synthesis.space.n_dim), dtype=np.float32), np.empty(0)
    there = np.bincount(place, weights=np.exp(log_weight - log_weight.max()), minlength=len(wanted))
    wanted = _wanted_fluxes(wanted, there, SHARE * settings.max_hidden)
    log_weight = log_weight - log_weight.max() + np.log(np.maximum(wanted, 1e-300) / np.maximum(there, 1e-300))[place]
    kept = log_weight > log_weight.max() - 12.0
    return synthesis.space.unconstrained(theta[kept], redshift[kept]), log_weight[kept]


def _data_fluxes(data: np.ndarray, *, beyond: bool) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins in ln flux, and how many galaxies of the data are in each: NaN `beyond` the faintest."""
    faint, bright = np.percentile(data, [0.05, 99.95])
    edges = np.linspace(faint, bright, _BINS + 1)
    found = np.histogram(data, edges)[0] + 0.5
    if not beyond:
        return edges, found
    step = edges[1] - edges[0]
    fainter = edges[0] - step * np.arange(int(np.ceil(_BEYOND / step)), 0, -1)
    return np.concatenate([fainter, edges]), np.concatenate([np.full(len(fainter), np.nan), found])


def _wanted_fluxes(found: np.ndarray, there: np.ndarray, max_hidden: float) -> np.ndarray:
    """How many galaxies the library shall have in each bin of flux: as `found` in the data, NaN beyond.

    Beyond the data the prior's counts, `there`, go on, in proportion to those of the data's faintest tenth, until they
    are a share `max_hidden` of all.
    """
    n_beyond = int(np.isnan(found).sum())
    wanted = np.nan_to_num(found)
    n_faint = int(np.searchsorted(np.cumsum(found[n_beyond:]), 0.1 * wanted.sum())) + 1
    faintest = slice(n_beyond, n_beyond + n_faint)
    ratio = wanted[faintest].sum() / max(there[faintest].sum(), 1e-300)
    inside, outside = wanted.sum(), 0.0
    for i in range(n_beyond - 1, -1, -1):
        outside += ratio * there[i]
        if outside > max_hidden * (inside + outside):
            break
        wanted[i] = ratio * there[i]
    return wanted
