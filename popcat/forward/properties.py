"""The forward model of a survey, photometry and derived properties, loaded once a process; and the properties.

Properties come from theta and redshift: surviving mass, star-formation rates, mass-weighted metallicity and age, and
light in a galaxy's own rest frame: absolute magnitudes, and the attenuation in V. Time bins and histories are those of
the photometry.

The stars are those of the observed epoch, none older than the universe then; the light is not redshifted, and is seen
from 10 pc. So the tables have one set of wavelengths, and the redshift changes only the bin that the age of the
universe cuts. Held to popcat.forward.spectrum.reference_rest_fluxes by tests.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from popcat.columns import component_properties, parameter_fields
from popcat.display import listed
from popcat.errors import PopcatError
from popcat.forward.component_tables import wavelengths
from popcat.forward.coverage import check_coverage
from popcat.forward.filters import FilterCurve, load_curve, load_curves
from popcat.forward.ingredients import Ingredients, load_ingredients
from popcat.forward.lookups import make_histories
from popcat.forward.photometry import Photometry, check_theta, flux_kernel, in_place_of, nearly_ascending, scratch
from popcat.forward.star_properties import SSFR_FLOOR, StarProperties
from popcat.forward.table_arrays import kernel_tables
from popcat.forward.tables import load_rest_tables, require_tables
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Filter, Survey
from popcat.units import LSUN_ERG_S, PC_CM

PROPERTY_NAMES = ("log_mstar", "log_sfr_100myr", "log_sfr_1gyr", "log_ssfr", "log_z_mw", "age_mw_gyr", "a_v")
LIGHT_FLOOR = 1e-10
"""Luminosities of dust and of lines are floored at this many Lsun per Msun formed, likewise."""


class Properties:
    """Derived properties under one galaxy model, with the absolute magnitudes of one survey.

    >>> from popcat.galaxy_model import GalaxyModel
    >>> from popcat.survey import load_survey
    >>> from popcat.forward.ingredients import load_ingredients
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> properties = Properties(load_survey("sdss"), load_ingredients(GalaxyModel()))
    >>> list(properties(theta, np.array([0.1])))[-3:]
    ['abs_mag_u', 'abs_mag_g', 'abs_mag_r']
    """

    def __init__(self, survey: Survey, ingredients: Ingredients):
        self.rest_frame = RestFrame(survey, ingredients)
        self.stars = StarProperties(ingredients)
        magnitudes = tuple(f"abs_mag_{item.name}" for item in survey.absolute_magnitudes)
        self.names = (*PROPERTY_NAMES, *component_properties(ingredients.components), *magnitudes)
        self.components, self.cosmology = ingredients.components, ingredients.cosmology
        self._n_theta, self._z_range = ingredients.n_theta, survey.redshift_range

    def __call__(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Properties by name (`names`), each (n,) float64, of theta (n, d) at redshift (n,).

        Raises PopcatError for shapes that disagree or redshifts outside the survey's range.
        """
        theta, redshift = check_theta(theta, redshift, self._n_theta, self._z_range)
        out = self.stars(theta, redshift)
        log_formed = theta[:, 0]
        log_mstar = log_formed + np.log10(out[:, 0])
        sfr = log_formed[:, None] + np.log10(np.maximum(out[:, 1:3], SSFR_FLOOR))
        light = self.rest_frame.measure(theta, redshift)
        columns = (log_mstar, sfr[:, 0], sfr[:, 1], sfr[:, 1] - log_mstar, np.log10(out[:, 3]), out[:, 4], light.a_v)
        own = self._of_components(log_formed, redshift, light)
        return dict(zip(self.names, (*columns, *own, *light.magnitudes(log_formed).T), strict=True))

    def _of_components(self, log_formed, redshift, light: "RestLight") -> list[np.ndarray]:
        """What `component_properties` names, each (n,)."""
        columns = []
        if self.components.dust_emission != "none":
            columns.append(log_formed + np.log10(np.maximum(light.absorbed, LIGHT_FLOOR)))
        if self.components.gas == "cloudy":
            log_lum = log_formed + np.log10(np.maximum(light.lines.T, LIGHT_FLOOR)) + np.log10(LSUN_ERG_S)
            modulus = self.cosmology.distance_modulus(redshift)
            log_area = np.log10(4.0 * np.pi * (10.0 * PC_CM) ** 2) + 0.4 * modulus
            columns += [*log_lum, *(log_lum - log_area), *(light.lines / light.beside).T]
        return columns


V_BAND = Filter(name="V", filter="bessell-V")
"""The filter of the attenuation a_v."""


def rest_frame_curves(survey: Survey) -> list[FilterCurve]:
    """V, then the filters of the survey's absolute magnitudes."""
    return [load_curve(item) for item in (V_BAND, *survey.absolute_magnitudes)]


@dataclass(frozen=True)
class RestLight:
    """Light of galaxies in their rest frame, per Msun formed.

    clear_v, seen_v : (n,) stars and gas in V, in nMgy at 10 pc, without dust and with it
    bands : (n, n_filter) the survey's filters, likewise, with everything
    absorbed : (n,) Lsun that dust absorbs, where its emission or a nucleus asks for it, else 0
    lines, beside : (n, n_line) luminosities of popcat.forward.gas.CONTINUUM_AA's lines in Lsun and L_lambda of the
        continuum beside them in Lsun / Angstrom, through the dust; no line where gas is no component
    """

    clear_v: np.ndarray
    seen_v: np.ndarray
    bands: np.ndarray
    absorbed: np.ndarray
    lines: np.ndarray
    beside: np.ndarray

    @property
    def a_v(self) -> np.ndarray:
        """Attenuation in V, (n,)."""
        return -2.5 * np.log10(self.seen_v / self.clear_v)

    def magnitudes(self, log_mstar_formed: np.ndarray) -> np.ndarray:
        """Absolute AB magnitudes (n, n_filter), dust included."""
        return 22.5 - 2.5 * (log_mstar_formed[:, None] + np.log10(self.bands))


class RestFrame:
    """Rest-frame light under one galaxy model, for redshifts of one survey.

    >>> from popcat.galaxy_model import GalaxyModel
    >>> from popcat.survey import load_survey
    >>> from popcat.forward.ingredients import load_ingredients
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> light = RestFrame(load_survey("sdss"), load_ingredients(GalaxyModel())).measure(theta, np.array([0.1]))
    >>> light.a_v.shape, light.bands.shape
    ((1,), (1, 3))
    """

    def __init__(self, survey: Survey, ingredients: Ingredients):
        self.ingredients, self.redshift_range = ingredients, survey.redshift_range
        curves = rest_frame_curves(survey)
        self.tables, self.n_filter = load_rest_tables(survey, ingredients, curves), len(curves)
        self.histories, self.kernel_tables = make_histories(ingredients), kernel_tables(self.tables, ingredients)

    def measure(self, theta: np.ndarray, redshift: np.ndarray) -> RestLight:
        """Light of theta (n, d) at redshift (n,).

        Raises PopcatError if a redshift is outside the survey's range or the shapes disagree.
        """
        theta, redshift = check_theta(theta, redshift, self.ingredients.n_theta, self.redshift_range)
        order, t = nearly_ascending(redshift, self.redshift_range), self.kernel_tables
        flux, rest = np.zeros((len(theta), self.tables.n_band)), np.zeros((len(theta), 3))
        room = scratch(self.ingredients, t)
        flux_kernel(theta[order], redshift[order], self.histories, t, *room, True, flux, rest)
        flux, (clear_v, seen_v, absorbed) = in_place_of(order, flux), in_place_of(order, rest).T
        lines, beside = np.split(flux[:, self.n_filter :], 2, axis=1)
        return RestLight(clear_v, seen_v, flux[:, 1 : self.n_filter], absorbed, lines, beside)


_MAX_FORWARDS = 4


@dataclass(frozen=True)
class Forward:
    """What theta and redshift imply: band fluxes and properties.

    >>> from popcat.survey import load_survey
    >>> forward = forward_for(load_survey("sdss"), GalaxyModel())
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> forward.flux(theta, np.array([0.1])).shape, forward.derive(theta, np.array([0.1]))["redshift"].tolist()
    ((1, 5), [0.1])
    """

    galaxy_model: GalaxyModel
    photometry: Photometry
    properties: Properties

    def flux(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Fluxes in nMgy, (n, n_band), of theta (n, d) and redshift (n,); PopcatError outside the survey's range."""
        return self.photometry.flux(theta, redshift)

    def derive(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity by name, each (n,): parameters, properties, redshift."""
        parameters = dict(zip(parameter_fields(self.galaxy_model), theta.T, strict=True))
        return {**parameters, **self.properties(theta, redshift), "redshift": redshift}


_forwards: OrderedDict[str, Forward] = OrderedDict()
_lock = threading.Lock()


def forward_for(survey: Survey, galaxy_model: GalaxyModel) -> Forward:
    """The forward model of a survey; built once a process, shared by its threads."""
    key = survey.model_dump_json() + galaxy_model.model_dump_json()
    with _lock:
        if key not in _forwards:
            photometry = Photometry(survey, galaxy_model)
            _forwards[key] = Forward(galaxy_model, photometry, Properties(survey, photometry.ingredients))
            if len(_forwards) > _MAX_FORWARDS:
                _forwards.popitem(last=False)
        return _forwards[key]


def forward_hashes(survey: Survey, galaxy_model: GalaxyModel) -> dict[str, str]:
    """SHA-256 of what a forward model reads from files and packages, by what it is: for fingerprints and provenance.

    Numbers count in single precision: other machines compute the last digits of a distance otherwise.

    Raises PopcatError if something is missing, or no forward model of these can be made.

    >>> from popcat.survey import load_survey
    >>> list(forward_hashes(load_survey("sdss"), GalaxyModel()))
    ['grid', 'bases', 'cosmology', 'filters']
    """
    found = load_ingredients(galaxy_model)
    require_tables(survey, found)
    bands, absolute = load_curves(survey), [load_curve(one) for one in survey.absolute_magnitudes]
    check_coverage(bands, wavelengths(found), survey.redshift_range)
    check_coverage(absolute, wavelengths(found), (0.0, 0.0))
    return {
        "grid": found.grid.content_hash(),
        "bases": _hash(found.bases.lookback_gyr, found.bases.sfh, found.bases.zh),
        "cosmology": _hash(*found.cosmology.arrays_to(survey.redshift_range[1])),
        "filters": _hash(*(values for curve in (*bands, *absolute) for values in (curve.wave_aa, curve.response))),
    }


def require_same(then: Mapping, now: dict[str, str], galaxy_model: GalaxyModel, what: str) -> None:
    """PopcatError if hashes of `forward_hashes` that were written down, as far as they were, are others now."""
    names = {"grid": f"SSP grid {galaxy_model.grid}", "bases": f"bases {galaxy_model.bases}",
             "cosmology": f"cosmology {galaxy_model.cosmology}", "filters": "filter curves"}  # fmt: skip
    if changed := [names[part] for part in now if then.get(part, now[part]) != now[part]]:
        raise PopcatError(f"{what}: since it was trained, {listed(changed)} changed: put back what has changed, or "
                          "train a posterior anew")


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return digest.hexdigest()
