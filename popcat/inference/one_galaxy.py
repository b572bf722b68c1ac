"""The posterior of one galaxy, in a notebook: fluxes and filters in; draws, numbers and figures out; no training."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.catalog.draws import decode_table
from popcat.checks.certify import Effort
from popcat.display import listed
from popcat.errors import PopcatError, did_you_mean
from popcat.forward.component_tables import wavelengths
from popcat.forward.coverage import check_coverage
from popcat.forward.filters import load_curve, with_curves
from popcat.forward.ingredients import load_ingredients
from popcat.galaxies import FLAGS, has_posterior
from popcat.galaxy_model import GalaxyModel
from popcat.inference.galaxy_posterior import GalaxyPosterior
from popcat.inference.partition import infer_table
from popcat.io.photometry import to_photometry
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.posterior import Posterior
from popcat.prior import PHYSICAL, require_prior
from popcat.settings import settings_of
from popcat.survey import Band, Columns, Filter, Selection, Survey, embedded_surveys, load_survey
from popcat.units import NMGY_PER_UNIT

MOST_DRAWS = 8192
LEAST_REDSHIFT, UNKNOWN_UP_TO = 0.001, (6.0, 3.0, 1.5, 0.6)
_TOPS = (0.6, 1.5, 3.0, 6.0, 12.0, 20.0)
"""Upper ends of the range of redshifts, so that few ranges need tables: the least that holds the galaxy's."""
_REACH = 6.0
_LEAST_ESS, _BUDGET_MS = 200.0, 20_000.0
_UNITS = (*NMGY_PER_UNIT, "ab_mag")
_NO_DEPTH = 25.0
"""A depth, for which a survey asks; nothing depends on it."""

Values = Sequence[float] | np.ndarray | Mapping[str, float]


def fit_galaxy(
    flux: Values, flux_err: Values, filters: "Sequence[str | Path] | str | Path | Survey",
    redshift: float | None = None, redshift_err: float | None = None, *, unit: str = "nMgy",
    galaxy_model: "GalaxyModel | str | Path | None" = None, prior: str = PHYSICAL, n_draws: int = 1000, seed: int = 0,
    redshift_range: tuple[float, float] | None = None,
) -> GalaxyPosterior:  # fmt: skip
    """The exact posterior of one galaxy from its fluxes in whatever filters, without training; in seconds.

    Parameters
    ----------
    flux, flux_err : total fluxes and their errors, AB, corrected for Galactic extinction: in the order of the filters,
        or by the name of the filter (of the band, for a survey). NaN: not observed. They are fitted as they are:
        calibration errors and those of models belong into flux_err (2 to 5% of the flux is usual)
    filters : names of speclite ("sdss2010-r") or sedpy ("twomass_J"), or files, as survey files have them; or a survey,
        an embedded one's name or a survey file, of which the bands' filters are taken and nothing else
    redshift : None, or NaN, is unknown: it is inferred from the photometry
    redshift_err : its Gaussian error; None, or NaN, is exact
    unit : of the fluxes: nMgy, nJy, uJy, mJy, Jy, or ab_mag (magnitudes and their errors)
    galaxy_model : settings, or a TOML file of them; dust emission and nuclei are off by default
    prior : "physical", or "flat" for the galaxy model's own
    n_draws, seed : draws of the posterior; a function of the seed and the numbers above
    redshift_range : within which the redshift lies; by default that of the survey, else from 0.001 to the first of 0.6,
        1.5, 3, 6, 12 and 20 that a given redshift needs, or to 6, if stars have light in all filters there, where it is
        unknown. The first fit of a range makes tables, which are kept for the next

    The proposals of `popcat.posterior.per_galaxy` are corrected by importance sampling with the exact likelihood
    (popcat.checks.certify): what `infer(..., certify=True)` gives, to sampling noise.

    Raises PopcatError for numbers that do not go together, unknown filters or units, a redshift outside the range,
    no observed band, or a galaxy model that lacks light which a filter sees.

    >>> found = fit_galaxy([25.3, 98.4, 196.0, 267.0, 330.0], [1.5, 2.2, 4.1, 5.5, 10.0], "sdss", redshift=0.1)
    >>> found.status, len(found.draws["log_mstar"]), bool(10.0 < found.table().loc["log_mstar", "p50"] < 11.5)
    ('ok', 1000, True)
    """
    require_prior(prior)
    galaxy_model = settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    if not 10 <= n_draws <= MOST_DRAWS:
        raise PopcatError(f"n_draws: expected 10 to {MOST_DRAWS}, got {n_draws}")
    if unit not in _UNITS:
        raise PopcatError(f'unit "{unit}": expected one of {", ".join(_UNITS)}')
    z, z_err = _number("redshift", redshift), _number("redshift_err", redshift_err)
    survey, keys = _survey_of(filters, unit, redshift_range, z, z_err, galaxy_model)
    given = (_in_order(what, values, survey, keys) for what, values in (("flux", flux), ("flux_err", flux_err)))
    frame = _photometry(survey, next(given), next(given), z, z_err)
    posterior = _posterior_of(survey, galaxy_model, prior)
    effort = Effort(target_ess=max(_LEAST_ESS, float(n_draws)), budget_ms=_BUDGET_MS)
    row = infer_table(frame, posterior, n_draws, seed, effort)
    flags = int(row["flags"][0].as_py())
    names = tuple(name for name, bit in FLAGS.items() if flags & bit)

    def photometry(kind: str) -> dict[str, float]:
        return {name: float(frame[f"{kind}_{name}"].iloc[0]) for name in survey.band_names}

    numbers = ("certified", "ess", "log_evidence", "chi2_best", "n_bands")
    found = {name: row[name][0].as_py() for name in numbers}
    found["log_evidence"] = np.nan if found["log_evidence"] is None else found["log_evidence"]
    return GalaxyPosterior(
        draws={name: values[0] for name, values in decode_table(row)[1].items()}, flux=photometry("flux"),
        flux_err=photometry("flux_err"), redshift=z, redshift_err=z_err, **found, flags=names,
        status=_status(names, row["route_why"][0].as_py()), survey=survey, galaxy_model=galaxy_model,
        prior=prior,
    )  # fmt: skip


def _number(what: str, value) -> float:
    try:
        return np.nan if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise PopcatError(f"{what}: expected a number, or None, got {value!r}") from error


def _status(flags: tuple[str, ...], why: str | None) -> str:
    if "correction_failed" in flags:
        return f"not certified ({why}): the draws are proposals; do not use them"
    said = {"high_chi2": "no model fits: plot it with .sed()",
            "at_edge": "at the edge of the prior or the redshift range"}  # fmt: skip
    return "; ".join(text for name, text in said.items() if name in flags) or "ok"


def _posterior_of(survey: Survey, galaxy_model: GalaxyModel, prior: str) -> Posterior:
    """Made once a process: its tables take longer than a fit."""
    return _made(survey.model_dump_json(), galaxy_model.model_dump_json(), prior)


@lru_cache(maxsize=8)
def _made(survey: str, galaxy_model: str, prior: str) -> Posterior:
    return prior_posterior(Survey.model_validate_json(survey), GalaxyModel.model_validate_json(galaxy_model),
                           prior=prior)  # fmt: skip


def _survey_of(
    filters, unit: str, redshift_range, z: float, z_err: float, galaxy_model: GalaxyModel
) -> tuple[Survey, tuple[str, ...]]:
    """A survey of these filters, whose columns are a flux and an error a band; and the filters as they were named."""
    if isinstance(filters, str | Path) and not _is_survey(filters):
        raise PopcatError(f'filters "{filters}": expected a list of filters, or a survey: a survey file or an embedded '
                          f"name; {did_you_mean(str(filters), embedded_surveys())}")
    absolute: tuple[Filter, ...] = ()
    own = None
    if isinstance(filters, str | Path | Survey):
        given = load_survey(filters)
        shapes = [one.model_dump(include={"name", "filter", "wave_range_aa", "trim", "curve"}) for one in given.bands]
        keys, absolute, own = given.band_names, given.absolute_magnitudes, given.redshift_range
    else:
        keys = tuple(map(str, filters)) if isinstance(filters, Sequence | np.ndarray) else ()
        if not keys or len(set(keys)) < len(keys):
            raise PopcatError(f"filters: expected one or more, each once, got {listed(keys, 20) or 'none'}")
        shapes = [{"name": name, "filter": key} for name, key in zip(_band_names(keys), keys, strict=True)]
    bands = tuple(Band(**shape, flux=f"flux_{shape['name']}", flux_err=f"flux_err_{shape['name']}",
                       depth_5sigma_mag=_NO_DEPTH) for shape in shapes)  # fmt: skip
    if redshift_range is None and own is None and np.isnan(z):
        own = LEAST_REDSHIFT, _covered(bands, galaxy_model)
    within = _range(redshift_range or own, z, z_err)
    every = Selection(band=bands[0].name, bright_mag=-90.0, faint_mag=90.0)
    columns = Columns(ra=None, dec=None, redshift_err="redshift_err")
    survey = Survey(name="one_galaxy", unit=unit, redshift_range=within, columns=columns, bands=bands, selection=every,
                    absolute_magnitudes=absolute)  # fmt: skip
    return with_curves(survey), keys


def _covered(bands: tuple[Band, ...], galaxy_model: GalaxyModel) -> float:
    """The largest redshift for which stars have light in all bands: the first of a few that will do."""
    wave_aa, curves = wavelengths(load_ingredients(galaxy_model)), [load_curve(band) for band in bands]
    for top in UNKNOWN_UP_TO:
        try:
            check_coverage(curves, wave_aa, (LEAST_REDSHIFT, top))
        except PopcatError:
            continue
        return top
    return UNKNOWN_UP_TO[0]  # what is wrong is said when tables are made


def _is_survey(name: "str | Path") -> bool:
    try:
        load_survey(name)
    except PopcatError:
        return Path(name).is_file()  # a file says what is wrong with it
    return True


def _band_names(filters: tuple[str, ...]) -> list[str]:
    """Short names: the ends of the filters' own ("sdss2010-u" is u) where these differ."""
    stems = [Path(one).stem if Path(one).suffix else one for one in filters]
    for cut in (lambda stem: re.split(r"[-_.]", stem)[-1], lambda stem: stem):
        names = [re.sub(r"[^A-Za-z0-9]", "", cut(stem)) for stem in stems]
        names = [name if re.match(r"[A-Za-z]", name) else f"f{name}" for name in names]
        if len({name.lower() for name in names}) == len(names):
            return names
    return [f"{name}{chr(ord('a') + i)}" for i, name in enumerate(names)]


def _range(given: tuple[float, float] | None, z: float, z_err: float) -> tuple[float, float]:
    if np.isfinite(z_err) and not z_err > 0.0:
        raise PopcatError(f"redshift_err: expected a positive number, or None for an exact redshift, got {z_err:g}")
    if np.isnan(z) and not np.isnan(z_err):
        raise PopcatError(f"redshift_err: got {z_err:g} without a redshift: give that, too, or leave both out")
    if given is not None:
        low, high = (float(one) for one in given)
    else:
        most = z + _REACH * (0.0 if np.isnan(z_err) else z_err)
        low, high = min(LEAST_REDSHIFT, z), next((top for top in _TOPS if most <= top), _TOPS[-1])
    if not 0.0 < low < high <= _TOPS[-1]:
        raise PopcatError(f"redshift_range: expected 0 < low < high, at most {_TOPS[-1]:g}, got {low:g} to {high:g}")
    if not (np.isnan(z) or low <= z <= high):
        raise PopcatError(f"redshift {z:g}: expected one in the range {low:g} to {high:g}: correct it, or give another "
                          "redshift_range")  # fmt: skip
    return low, high


def _in_order(what: str, values, survey: Survey, keys: tuple[str, ...]) -> np.ndarray:
    """Numbers (n_band,) in the order of the bands, of a sequence or of a mapping by filter or band."""
    if isinstance(values, Mapping):
        places = {name: i for names in (survey.band_names, keys) for i, name in enumerate(names)}
        out = np.full(len(keys), np.nan)
        for name, value in values.items():
            if str(name) not in places:
                raise PopcatError(f'{what}: no filter "{name}": {did_you_mean(str(name), list(places))}')
            out[places[str(name)]] = _number(f"{what} in {name}", value)
        return out
    try:
        out = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise PopcatError(f"{what}: expected numbers, got {values!r}") from error
    if out.shape != (len(keys),):
        raise PopcatError(f"{what}: expected {len(keys)} numbers, one for each filter ({listed(keys, 12)}), got shape "
                          f"{out.shape}")  # fmt: skip
    return out


def _photometry(survey: Survey, flux: np.ndarray, flux_err: np.ndarray, z: float, z_err: float) -> pd.DataFrame:
    """The photometry frame of one galaxy; PopcatError if it can have no posterior."""
    seen = np.isfinite(flux)
    if bad := [name for name, is_bad in zip(survey.band_names, seen & ~(flux_err > 0.0), strict=True) if is_bad]:
        raise PopcatError(f"flux_err: expected a positive error for each flux, got others in {listed(bad, 12)}: give "
                          "them, or NaN as the flux of a band that is not observed")  # fmt: skip
    columns = {"object_id": 0, "redshift": z, "redshift_err": z_err}
    columns |= {f"flux_{name}": value for name, value in zip(survey.band_names, flux, strict=True)}
    columns |= {f"flux_err_{name}": value for name, value in zip(survey.band_names, flux_err, strict=True)}
    frame = to_photometry(pd.DataFrame([columns]), survey)
    if not has_posterior(frame["flags"].to_numpy())[0]:
        raise PopcatError("flux: expected one observed band or more, got none with a finite flux and error")
    return frame.assign(flags=frame["flags"] & ~FLAGS["outside_training"])  # there was none
