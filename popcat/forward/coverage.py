"""Whether a galaxy model has the light that a survey's bands see at the redshifts of the survey.

The SSP grid must cover every wavelength with response. What else a model may lack counts by how much of a band it is:

- Emission of dust. A band counts as far as the wavelength below which 95% of int T dw lies. From 2.5 micron in the rest
  frame on, dust adds to the stars; from 6 micron on it outshines them. Between the two a band with an error floor of at
  least 0.1, as the survey file of the Legacy Surveys has for W1 and W2, may do with stars alone.
- The intergalactic medium. A band counts where it takes more than 5% of int T dw at the largest redshift.

Simulation, training and population fits refuse such a pair of survey and galaxy model; `popcat survey check` remarks on
it. A posterior that is trained already may be used; popcat.spectrum has no survey and no bands to judge.
"""

from collections.abc import Iterator

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.filters import FilterCurve, load_curve
from popcat.forward.igm import transmission
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Band, Survey

DUST_FROM_AA, DUST_ALONE_FROM_AA = 25_000.0, 60_000.0
"""Rest-frame wavelengths from which on dust adds to the stars' light, and outshines it."""
DUST_FLOOR = 0.1
"""Error floor that stands for the missing emission of dust between the two."""
_WITHIN = 0.95
MEDIUM_TAKES = 0.05
"""Fraction of a band that may be missing in the medium."""


def red_end_aa(curve: FilterCurve) -> float:
    """The wavelength below which 95% of int T dw lies.

    >>> from popcat.forward.filters import make_curve
    >>> round(red_end_aa(make_curve("hat", np.linspace(4000.0, 5000.0, 101), np.ones(101))))
    4950
    """
    part = np.cumsum(0.5 * (curve.response[1:] + curve.response[:-1]) * np.diff(curve.wave_aa))
    return float(np.interp(_WITHIN * part[-1], np.append(0.0, part), curve.wave_aa))


def taken_by_medium(curve: FilterCurve, redshift: float) -> float:
    """Fraction of int T dw that the intergalactic medium absorbs, of a galaxy at a redshift.

    >>> from popcat.forward.filters import make_curve
    >>> curve = make_curve("hat", np.linspace(4000.0, 5000.0, 101), np.ones(101))
    >>> round(taken_by_medium(curve, 2.0), 2), round(taken_by_medium(curve, 4.0), 2)
    (0.0, 0.71)
    """
    through = np.trapezoid(curve.response * transmission(curve.wave_aa, redshift), curve.wave_aa)
    return float(1.0 - through / np.trapezoid(curve.response, curve.wave_aa))


def lacking(survey: Survey, galaxy_model: GalaxyModel) -> Iterator[str]:
    """What a galaxy model lacks for a survey, a line for each band and reason.

    >>> from popcat.survey import load_survey
    >>> list(lacking(load_survey("sdss"), GalaxyModel()))
    []
    >>> next(lacking(load_survey("galex_sdss_2mass"), GalaxyModel(igm="none")))[:69]
    'band "FUV" at redshift 1.5 loses 47% to the intergalactic medium, and'
    """
    for band in survey.bands:
        curve = load_curve(band)
        if galaxy_model.dust_emission == "none":
            yield from _without_dust(band, red_end_aa(curve), survey.redshift_range[0])
        if galaxy_model.igm == "none":
            yield from _without_medium(band, taken_by_medium(curve, survey.redshift_range[1]), survey.redshift_range[1])


def require_light(survey: Survey, galaxy_model: GalaxyModel) -> None:
    """PopcatError, of one line, if a galaxy model lacks light that a survey's bands see."""
    for line in lacking(survey, galaxy_model):
        raise PopcatError(line)


def _without_dust(band: Band, end_aa: float, redshift: float) -> Iterator[str]:
    rest_aa, floor = end_aa / (1.0 + redshift), ""
    if rest_aa < DUST_ALONE_FROM_AA:
        if rest_aa <= DUST_FROM_AA or band.error_floor >= DUST_FLOOR:
            return
        floor = f", or error_floor = {DUST_FLOOR:g} in this band"
    yield (f'band "{band.name}" at redshift {redshift:g} sees {rest_aa / 1e4:.1f} micron in the rest frame, where dust '
           'shines, and the galaxy model has dust_emission = "none": set dust_emission = "draine_li_2007", or a '
           f"redshift_range from {end_aa / DUST_FROM_AA - 1.0:.2g} on{floor}")  # fmt: skip


def _without_medium(band: Band, taken: float, redshift: float) -> Iterator[str]:
    if taken > MEDIUM_TAKES:
        yield (f'band "{band.name}" at redshift {redshift:g} loses {taken:.0%} to the intergalactic medium, and the '
               'galaxy model has igm = "none": set igm = "inoue_2014", or a smaller redshift_range')  # fmt: skip


def check_coverage(curves: list[FilterCurve], wave_aa: np.ndarray, z_range: tuple[float, float]) -> None:
    """PopcatError, naming band and redshift, where an SSP grid's wavelengths do not cover a filter."""
    for curve in curves:
        low, high = curve.wave_aa[0] / (1.0 + z_range[1]), curve.wave_aa[-1] / (1.0 + z_range[0])
        for edge, z, beyond in ((low, z_range[1], low < wave_aa[0]), (high, z_range[0], high > wave_aa[-1])):
            if beyond:
                raise PopcatError(
                    f'band "{curve.name}" at redshift {z:g} needs {edge:.0f} A in the rest frame; the SSP grid covers '
                    f"{wave_aa[0]:.0f} to {wave_aa[-1]:.0f} A: choose another redshift_range or grid"
                )
