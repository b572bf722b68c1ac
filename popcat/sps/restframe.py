"""Light of galaxies in their own rest frame: absolute magnitudes, and the attenuation in V.

The stars are those of the observed epoch, none older than the universe then; the light is not redshifted, and is seen
from 10 pc. So the tables have one set of wavelengths, and the redshift changes only the bin that the age of the
universe cuts. Held to popcat.sps.spectrum.reference_rest_fluxes by tests.
"""

import numpy as np

from popcat.settings import Filter, Survey
from popcat.sps.filters import FilterCurve, load_curve
from popcat.sps.light import kernel_tables
from popcat.sps.lookups import make_histories
from popcat.sps.model import GalaxyModel
from popcat.sps.photometry import check_theta, flux_kernel, in_place_of, nearly_ascending, scratch
from popcat.sps.tables import load_rest_tables

V_BAND = Filter(name="V", filter="bessell-V")
"""The filter of the attenuation a_v."""


def rest_frame_curves(survey: Survey) -> list[FilterCurve]:
    """V, then the filters of the survey's absolute magnitudes."""
    return [load_curve(item) for item in (V_BAND, *survey.absolute_magnitudes)]


class RestFrame:
    """Rest-frame light under one galaxy model, for redshifts of one survey.

    >>> from popcat.settings import Model, load_survey
    >>> from popcat.sps.model import build_model
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> a_v, magnitudes = RestFrame(load_survey("sdss"), build_model(Model()))(theta, np.array([0.1]))
    >>> a_v.shape, magnitudes.shape
    ((1,), (1, 3))
    """

    def __init__(self, survey: Survey, model: GalaxyModel):
        self.model, self.redshift_range = model, survey.redshift_range
        self.tables = load_rest_tables(survey, model, rest_frame_curves(survey))
        self.histories, self.kernel_tables = make_histories(model), kernel_tables(self.tables)

    def __call__(self, theta: np.ndarray, redshift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """a_v (n,), and absolute AB magnitudes (n, n_filter), dust included, of theta (n, d) at redshift (n,).

        Raises PopcatError if a redshift is outside the survey's range or the shapes disagree.
        """
        light = self.light(theta, redshift)
        a_v = -2.5 * np.log10(light[:, 1] / light[:, 0])
        return a_v, 22.5 - 2.5 * (theta[:, :1] + np.log10(light[:, 2:]))

    def light(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """nMgy at 10 pc per Msun formed, (n, 2 + n_filter): V without dust, V, the survey's filters.

        Raises PopcatError as a call does.
        """
        theta, redshift = check_theta(theta, redshift, self.model.n_theta, self.redshift_range)
        order, t = nearly_ascending(redshift, self.redshift_range), self.kernel_tables
        flux, clear = np.zeros((len(theta), self.tables.n_band)), np.zeros(len(theta))
        room = scratch(self.model, t)
        flux_kernel(theta[order], redshift[order], self.histories, t, *room, True, flux, clear)
        return in_place_of(order, np.column_stack([clear, flux]))
