"""Is it a galaxy? Evidence of a star and of a quasar beside that of the galaxy model, of the same photometry.

Every template t has band fluxes A m_t, m_t in units of the survey's selection band, in which its flux is A. With errors
s, in which the template's own error is included,

    p(f | t) = integral of N(f; A m_t, s^2) p(A) dA  =  p(A0) sqrt(2 pi / P) Phi(A0 sqrt P) N(f; A0 m_t, s^2),
    P = sum m_t^2 / s^2,    A0 = sum(f m_t / s^2) / P

for a p(A) that changes little within an error. p(A) is how bright galaxies are: the evidence that the galaxy model
gives a flux in the selection band alone, at the redshift that is given or at any. So a star is as bright as a galaxy,
the prior odds are those among sources of one magnitude, and

    p_star = o_star E_star / (E_galaxy + o_star E_star + o_qso E_qso),    E = sum of the templates' p(f | t) by number

and likewise p_qso. Photometry knows nothing of shapes: where they are known the odds are others (`Odds`). The numbers
compare three models; where none of them fits (flag high_chi2), the one with the widest template errors wins.

A known redshift above STAR_REDSHIFT is no star's: then p_star is 0, and the quasar is at that redshift. Where a
redshift is given with a wide error neither is computed, because templates say nothing of such a measurement.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, logsumexp

from popcat.catalog.manifest import RESULTS
from popcat.checks.flags import known_redshift
from popcat.checks.weights import importance
from popcat.errors import PopcatError
from popcat.files import kept_array
from popcat.forward.filters import FilterCurve, load_curves
from popcat.forward.quasar import TEMPLATE_ERROR_MAG, quasar_f_nu
from popcat.forward.spectrum import band_flux
from popcat.forward.star_spectra import (
    COOLEST_K,
    HOTTEST_K,
    LOCUS_GI,
    LOCUS_NUMBER,
    black_body_f_nu,
    locus_f_nu,
    template_error_mag,
)
from popcat.galaxies import Observation, observed
from popcat.posterior.per_galaxy import PerGalaxy
from popcat.posterior.posterior import Posterior
from popcat.units import LN_2PI, POGSON, ab_mag_to_nmgy

NOT_GALAXY = 0.5
"""Flag not_galaxy: p_star + p_qso is larger."""
STAR_REDSHIFT = 0.003
"""900 km/s: no star of the Galaxy is that fast."""
N_LOCUS, N_BLACK_BODIES, LOCUS_PART = 166, 180, 0.8
"""Templates of the locus and black bodies, and the part of all stars that are on the locus."""
QUASAR_STEP, QUASAR_RANGE = 0.02, (0.05, 5.0)
"""Step in ln(1 + z) and range of the quasars' redshifts, all of which are as probable in ln(1 + z)."""
QUASAR_EBV, QUASAR_EBV_PART = (0.0, 0.05, 0.1, 0.2, 0.4), (0.5, 0.2, 0.15, 0.1, 0.05)
_N_MAG, _N_REDSHIFT, _MARGIN_MAG = 25, 17, 1.0
_N_ANY, _N_GIVEN = 4096, 1024
"""Draws behind each number of the brightness at any redshift, and at a given one."""
_N_WAVE = 400
_LEAST, _LOWEST = 1e-300, -2000.0
_SEED = 3


@dataclass(frozen=True)
class Odds:
    """Prior odds of a star and of a quasar to a galaxy, among sources of one magnitude; 0: there is none.

    The default is for a catalogue whose sources were taken for galaxies by their shapes, with a twentieth of the stars
    and quasars left. Without shapes, stars are about as many as galaxies at r = 20 and high Galactic latitude, and more
    where it is brighter or nearer to the Galactic plane; quasars are about a fiftieth.
    """

    star: float = 0.05
    quasar: float = 0.001


DEFAULT_ODDS = Odds()


def odds_of(star_odds: float | None = None, qso_odds: float | None = None, *, certify: bool = True) -> Odds:
    """What a user's choice comes to.

    Raises PopcatError for odds below zero, and for odds without `certify`, where there are no evidences.

    >>> odds_of(10.0)
    Odds(star=10.0, quasar=0.001)
    """
    given = {name: float(value) for name, value in (("star", star_odds), ("quasar", qso_odds)) if value is not None}
    if given and not certify:
        raise PopcatError("star_odds and qso_odds did nothing: expected them with certify=True (--certify), whose "
                          "evidences they are for; add that, or leave them out")
    if not all(0.0 <= value < np.inf for value in given.values()):
        raise PopcatError(f"expected star_odds and qso_odds of 0 or more, got {given}: they are numbers of stars and "
                          "quasars per galaxy of the same magnitude")
    return Odds(**given)


@dataclass(frozen=True)
class Templates:
    """Band fluxes of templates in units of the selection band's, (n_band,) the last axis; and ln of their parts.

    star : (n, n_band), log_star (n,), star_error (n_band,) fractions. quasar : (n_z, n_ebv, n_band), log_ebv (n_ebv,).
    quasar_ln1pz : (n_z,). ln_flux : (m,), equidistant, of the selection band in nMgy. log_density : 1 + n_redshift rows
    (m,), ln p(flux) of galaxies at any redshift, and at each of `redshift` (n_redshift,).
    """

    star: np.ndarray
    log_star: np.ndarray
    star_error: np.ndarray
    quasar: np.ndarray
    log_ebv: np.ndarray
    quasar_ln1pz: np.ndarray
    ln_flux: np.ndarray
    redshift: np.ndarray
    log_density: "np.ndarray | Brightness"

    def density(self, ln_amplitude: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln p(A) of amplitudes (n, ...) of galaxies at redshift (n,), NaN: any; constant beyond the ends."""
        known = ~np.isnan(redshift)
        at = np.interp(redshift[known], self.redshift, np.arange(len(self.redshift)))
        low = np.minimum(at.astype(int), len(self.redshift) - 2)
        part, table = (at - low)[:, None], np.empty((len(redshift), len(self.ln_flux)))
        if not known.all():
            table[~known] = self.log_density[0]
        below, above = (self._rows(nodes) for nodes in (1 + low, 2 + low))
        table[known] = (1.0 - part) * below + part * above
        place = (ln_amplitude - self.ln_flux[0]) / (self.ln_flux[1] - self.ln_flux[0])
        place = np.clip(place, 0.0, len(self.ln_flux) - 1.0)
        node = np.minimum(place.astype(int), len(self.ln_flux) - 2)
        row = np.arange(len(redshift)).reshape(-1, *[1] * (ln_amplitude.ndim - 1))
        first, rest = table[row, node], place - node
        return first + rest * (table[row, node + 1] - first)

    def log_evidences(self, data: Observation, redshift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p(fluxes) if a star, and if a quasar, each (n,), for galaxies at redshift (n,), NaN: any."""
        star = logsumexp(self._each(data, self.star, self.star_error, redshift) + self.log_star, axis=1)
        n_z, n_ebv, n_band = self.quasar.shape
        error = np.full(n_band, TEMPLATE_ERROR_MAG / POGSON)
        each = self._each(data, self.quasar.reshape(-1, n_band), error, redshift).reshape(-1, n_z, n_ebv)
        at = logsumexp(each + self.log_ebv, axis=2)
        quasar = logsumexp(at, axis=1) - np.log(n_z)
        known = np.flatnonzero(~np.isnan(redshift))
        nearest = np.argmin(np.abs(np.log1p(redshift[known])[:, None] - self.quasar_ln1pz), axis=1)
        quasar[known] = at[known, nearest]
        return star, quasar

    def _rows(self, number: np.ndarray) -> np.ndarray:
        """Rows of the density (n, m)."""
        each, which = np.unique(number, return_inverse=True)
        return np.reshape([self.log_density[i] for i in each], (-1, len(self.ln_flux)))[which]

    def _each(self, data: Observation, shape: np.ndarray, error: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln p(f | t) of templates (t, n_band), (n, t)."""
        seen = observed(data.flux, data.flux_err)
        flux, err = np.where(seen, data.flux, 0.0), np.where(seen, data.flux_err, 1.0)
        variance = err**2 + (error * np.maximum(flux, 0.0)) ** 2
        weight = seen / variance
        precision, fit = weight @ (shape**2).T, (weight * flux) @ shape.T
        precision = np.maximum(precision, _LEAST)  # a template without light in any band that is observed
        best = fit / precision
        chi2 = np.sum(weight * flux**2, axis=1)[:, None] - best * fit
        norm = np.sum(seen * (np.log(variance) + LN_2PI), axis=1)[:, None]
        prior = self.density(np.log(np.maximum(best, np.exp(self.ln_flux[0]))), redshift)
        # where the bands say little of A, the integral is no larger than that of p(A), which is 1
        of_amplitude = np.minimum(prior + 0.5 * (LN_2PI - np.log(precision)), 0.0)
        return of_amplitude - 0.5 * (chi2 + norm) + log_ndtr(best * np.sqrt(precision))


class Brightness:
    """ln p(flux in the selection band) of a posterior's galaxies: rows (m,), the first at any redshift, the others at
    each of some. A row is the evidence of fluxes in that band alone; it is made when it is first asked for, and kept.
    """

    def __init__(self, posterior: Posterior, main: int, ln_flux: np.ndarray, redshift: np.ndarray):
        self.posterior, self.main, self.ln_flux = posterior, main, ln_flux
        self.redshift = np.concatenate([[np.nan], redshift])
        self._known: dict[int, np.ndarray] = {}

    def __getitem__(self, row: int) -> np.ndarray:
        if (found := self._known.get(row)) is None:
            key = f"{RESULTS} {self.posterior.name} {self.posterior.prior_name} {self.redshift[row]} {self.ln_flux}"
            found = self._known[row] = kept_array(f"brightness {key}", lambda: self._row(self.redshift[row]))
        return found

    def _row(self, redshift: float) -> np.ndarray:
        posterior, flux, n = self.posterior, np.exp(self.ln_flux), len(self.ln_flux)
        error = np.exp(posterior.noise.bands[posterior.survey.selection.band].median_ln_err(self.ln_flux))
        seen = np.arange(len(posterior.survey.bands)) == self.main
        data = Observation(np.where(seen, flux[:, None], np.nan), np.where(seen, error[:, None], np.nan),
                           np.full(n, redshift), np.full(n, np.nan), np.arange(n))  # fmt: skip
        placed, n_draws = posterior.placed, _N_ANY if np.isnan(redshift) else _N_GIVEN
        if isinstance(placed, PerGalaxy):
            draws = placed.sample_alike(data, _N_ANY, _SEED)
        else:
            draws = placed.sample(data, n_draws, _SEED)
        return np.maximum(importance(draws.log_weight).log_evidence, _LOWEST)


def alternatives(
    posterior: Posterior, data: Observation, log_evidence: np.ndarray, odds: Odds
) -> tuple[np.ndarray, np.ndarray]:
    """p_star and p_qso of galaxies whose evidences ln p(photometry, measured redshift | galaxy model) are (n,).

    NaN where there is no evidence, or a redshift with a wide error.
    """
    known = known_redshift(data)
    is_wide = np.isnan(known) & ~np.isnan(data.redshift)
    rows = np.flatnonzero(np.isfinite(log_evidence) & ~is_wide)
    p_star, p_qso = np.full((2, len(data)), np.nan)
    if len(rows) == 0:
        return p_star, p_qso
    some, z, galaxy = data[rows], known[rows], log_evidence[rows].astype(float)
    measured = some.is_free & ~np.isnan(z)  # of these the evidence is of the photometry and of the redshift
    galaxy[measured] -= posterior.redshift_law.log_density(z[measured])
    with np.errstate(divide="ignore"):
        star, quasar = np.array(templates_of(posterior).log_evidences(some, z)) + np.log([[odds.star], [odds.quasar]])
    star[z > STAR_REDSHIFT] = -np.inf
    total = logsumexp([galaxy, star, quasar], axis=0)
    p_star[rows], p_qso[rows] = np.exp(star - total), np.exp(quasar - total)
    return p_star, p_qso


_kept: dict[tuple[str, str], Templates] = {}


def templates_of(posterior: Posterior) -> Templates:
    """The templates in a posterior's bands, and how bright its galaxies are; made once a process."""
    key = posterior.name, posterior.prior_name
    if key not in _kept:
        _kept[key] = _templates(posterior)
    return _kept[key]


def _templates(posterior: Posterior) -> Templates:
    survey = posterior.survey
    curves, main = load_curves(survey), survey.band_names.index(survey.selection.band)
    low, high = np.log1p(QUASAR_RANGE)
    ln1pz = np.arange(low, high, QUASAR_STEP)
    made = f"{RESULTS} {posterior.forward_hashes['filters']} {survey.band_names}"
    star = kept_array(f"stars {made}", lambda: _stars(curves))
    quasar = kept_array(f"quasars {made}", lambda: _quasars(curves, np.expm1(ln1pz)))
    bright, faint = survey.selection.bright_mag - _MARGIN_MAG, survey.selection.faint_mag + _MARGIN_MAG
    ln_flux = np.log(ab_mag_to_nmgy(np.linspace(faint, bright, _N_MAG)))
    redshift = np.linspace(*survey.redshift_range, _N_REDSHIFT)
    error = template_error_mag(np.array([curve.pivot_wavelength_aa for curve in curves])) / POGSON
    # a quasar may have no light in the selection band, below its Lyman limit
    in_main = np.maximum(quasar[:, :, [main]], 1e-6 * quasar.max(axis=2, keepdims=True) + _LEAST)
    return Templates(star / star[:, [main]], np.log(_star_parts()), error, quasar / in_main,
                     np.log(QUASAR_EBV_PART), ln1pz, ln_flux, redshift,
                     Brightness(posterior, main, ln_flux, redshift))  # fmt: skip


_STAR_GI = np.linspace(LOCUS_GI[0], LOCUS_GI[-1], N_LOCUS)


def _stars(curves: list[FilterCurve]) -> np.ndarray:
    """Band fluxes (n, n_band) of the stars: of the locus, and black bodies."""
    kelvin = np.geomspace(COOLEST_K, HOTTEST_K, N_BLACK_BODIES)
    spectra = [*((locus_f_nu, one) for one in _STAR_GI), *((black_body_f_nu, one) for one in kelvin)]
    return np.array([[band_flux(wave, f_nu(wave, one), curve) for wave, curve in _sampled(curves)]
                     for f_nu, one in spectra])  # fmt: skip


def _star_parts() -> np.ndarray:
    """The parts (n,) that these stars are of all, whose sum is 1."""
    number = np.interp(_STAR_GI, LOCUS_GI, LOCUS_NUMBER)
    black = np.full(N_BLACK_BODIES, (1.0 - LOCUS_PART) / N_BLACK_BODIES)
    return np.concatenate([LOCUS_PART * number / number.sum(), black])


def _quasars(curves: list[FilterCurve], redshift: np.ndarray) -> np.ndarray:
    """Band fluxes (n_z, n_ebv, n_band) of quasars."""
    return np.array([[[band_flux(wave, quasar_f_nu(wave, z, ebv), curve) for wave, curve in _sampled(curves)]
                      for ebv in QUASAR_EBV] for z in redshift])  # fmt: skip


def _sampled(curves: list[FilterCurve]):
    """Wavelengths for an integral over each band, and the band."""
    return [(np.linspace(curve.wave_aa[0], curve.wave_aa[-1], _N_WAVE), curve) for curve in curves]
