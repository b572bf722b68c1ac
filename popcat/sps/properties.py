"""Properties of galaxies from theta and redshift: surviving mass, star-formation rates, mass-weighted Z and age, and
what popcat.sps.restframe knows of their light. Same time bins and histories as the photometry.
"""

import numpy as np

from popcat.settings import Survey
from popcat.sps.ages import row_weights
from popcat.sps.fastmath import kernel
from popcat.sps.lookups import burst, metal_cell, sfh_weights, time_metallicity, universe, zh_weights
from popcat.sps.model import GalaxyModel
from popcat.sps.photometry import check_theta
from popcat.sps.restframe import RestFrame

PROPERTY_NAMES = ("log_mstar", "log_sfr_100myr", "log_sfr_1gyr", "log_ssfr", "log_z_mw", "age_mw_gyr", "a_v")
SSFR_FLOOR = 1e-14
"""Star-formation rates are floored at this fraction of the formed mass per year, so a logarithm is never -inf."""
_WINDOWS_GYR = (0.1, 1.0)


class Properties:
    """Derived properties under one galaxy model, with the absolute magnitudes of one survey.

    >>> from popcat.settings import Model, load_survey
    >>> from popcat.sps.model import build_model
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> properties = Properties(load_survey("sdss"), build_model(Model()))
    >>> list(properties(theta, np.array([0.1])))[-3:]
    ['abs_mag_u', 'abs_mag_g', 'abs_mag_r']
    """

    def __init__(self, survey: Survey, model: GalaxyModel):
        self.rest_frame = RestFrame(survey, model)
        self.histories = self.rest_frame.histories
        self.names = (*PROPERTY_NAMES, *(f"abs_mag_{item.name}" for item in survey.absolute_magnitudes))
        self._n_theta, self._z_range = model.n_theta, survey.redshift_range
        edges, ages = model.bins.edges_gyr, model.grid.age_gyr
        self._whole = np.ascontiguousarray(row_weights(model.bins, ages, edges[:-1], edges[1:]) @ model.grid.mstar.T)
        self._mstar = np.ascontiguousarray(model.grid.mstar.T)
        self._ln_age = np.log(ages)
        self._windows = np.ascontiguousarray(model.bases.cumulative_sfh(np.array(_WINDOWS_GYR)).T)

    def __call__(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Properties by name (`names`), each (n,) float64, of theta (n, d) at redshift (n,).

        Raises PopcatError for shapes that disagree or redshifts outside the survey's range.
        """
        theta, redshift = check_theta(theta, redshift, self._n_theta, self._z_range)
        out = np.empty((len(theta), 5))
        _properties_kernel(theta, redshift, self.histories, self._whole, self._mstar, self._ln_age, self._windows, out)
        log_formed = theta[:, 0]
        log_mstar = log_formed + np.log10(out[:, 0])
        sfr = log_formed[:, None] + np.log10(np.maximum(out[:, 1:3], SSFR_FLOOR))
        a_v, magnitudes = self.rest_frame(theta, redshift)
        columns = (log_mstar, sfr[:, 0], sfr[:, 1], sfr[:, 1] - log_mstar, np.log10(out[:, 3]), out[:, 4], a_v)
        return dict(zip(self.names, (*columns, *magnitudes.T), strict=True))


@kernel(inline="always")
def _surviving(table, ln_age, ln_t, iq, fq):
    """Surviving fraction of one SSP: linear in ln t and ln Z; table is (n_age, n_Z)."""
    x = min(max(ln_t, ln_age[0]), ln_age[-1])
    i = min(max(np.searchsorted(ln_age, x, side="right") - 1, 0), len(ln_age) - 2)
    f = (x - ln_age[i]) / (ln_age[i + 1] - ln_age[i])
    low = table[i, iq] * (1.0 - fq) + table[i, iq + 1] * fq
    high = table[i + 1, iq] * (1.0 - fq) + table[i + 1, iq + 1] * fq
    return low * (1.0 - f) + high * f


@kernel()
def _properties_kernel(theta, redshift, h, whole, mstar, ln_age, windows, out):
    """Per Msun formed: surviving mass, SFR (1/yr) in two windows, mean Z; and the mean age (Gyr)."""
    for n in range(len(theta)):
        _, t_age, total = universe(np.log1p(redshift[n]), h, theta[n])
        beta, gamma = sfh_weights(theta[n], h), zh_weights(theta[n], h)
        f_burst, t_burst = burst(theta[n], t_age, h)
        scale = (1.0 - f_burst) / total
        survived, mean_z, mean_age, below = 0.0, 0.0, 0.0, 0.0
        j = 0
        while True:
            is_whole = h.edges[j + 1] < t_age
            above = total
            if is_whole:
                above = 0.0
                for i in range(len(beta)):
                    above += beta[i] * h.cumulative[j + 1, i]
            upper = h.edges[j + 1] if is_whole else t_age
            mid = 0.5 * (h.edges[j] + upper)
            mass = scale * (above - below)
            z = time_metallicity(gamma, h.zh_time, h.zh_value, mid)
            iq, fq = metal_cell(z, h.ln_z, h.per_cell)
            if is_whole:
                survived += mass * (whole[j, iq] * (1.0 - fq) + whole[j, iq + 1] * fq)
            else:
                # at the midpoint, not averaged: the whole is good to 1e-3
                survived += mass * _surviving(mstar, ln_age, np.log(mid), iq, fq)
            mean_z += mass * np.exp(h.ln_z[iq] + fq / h.per_cell[iq])
            mean_age += mass * mid
            below = above
            j += 1
            if not is_whole:
                break
        for w in range(2):
            formed = 0.0
            for i in range(len(beta)):
                formed += beta[i] * windows[w, i]
            recent = f_burst if t_burst < _WINDOWS_GYR[w] else 0.0
            out[n, 1 + w] = (scale * formed + recent) / (_WINDOWS_GYR[w] * 1e9)
        if f_burst > 0.0:
            z = time_metallicity(gamma, h.zh_time, h.zh_value, t_burst)
            iq, fq = metal_cell(z, h.ln_z, h.per_cell)
            survived += f_burst * _surviving(mstar, ln_age, np.log(t_burst), iq, fq)
            mean_z += f_burst * np.exp(h.ln_z[iq] + fq / h.per_cell[iq])
            mean_age += f_burst * t_burst
        out[n, 0], out[n, 3], out[n, 4] = survived, mean_z, mean_age
