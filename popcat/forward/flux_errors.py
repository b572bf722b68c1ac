"""Errors of fluxes in the likelihood: those of the catalogue and, where a survey file has them, of the model's spectra.

No stellar library and no law of dust is right to a percent at every wavelength. A survey's `template_error` is the
relative error t of the galaxy model's spectra at each wavelength of the rest frame, as EAZY has it (Brammer, van Dokkum
& Coppi 2008, ApJ 686, 1503, section 2.3). In band b of a galaxy at redshift z

    s_b^2 = err_b^2 + (t(w_b / (1 + z)) f_b)^2

with w_b the pivot wavelength, f_b the observed flux (zero, where it is negative) and err_b its error with the band's
error_floor. Errors are independent from band to band and from galaxy to galaxy. Simulated galaxies have fluxes that
scatter by t about the model's, so that a posterior is trained for what its likelihood says.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from popcat.forward.filters import load_curves
from popcat.galaxies import Observation, observed
from popcat.survey import Survey


class FluxErrors:
    """Errors of a survey's fluxes.

    >>> from popcat.survey import TemplateError, load_survey
    >>> a_tenth = TemplateError(wave_aa=(4e3,), fraction=(0.1,))
    >>> survey = load_survey("sdss").model_copy(update={"template_error": a_tenth})
    >>> data = Observation(np.full((1, 5), 10.0), np.ones((1, 5)), np.full(1, 0.1), np.full(1, np.nan), np.arange(1))
    >>> FluxErrors(survey)(data, np.full((1, 2), 0.1))[0, :, 0].round(3).tolist()
    [1.414]
    """

    def __init__(self, survey: Survey):
        self.law = survey.template_error
        if self.law is not None:
            self.pivot_aa = np.array([curve.pivot_wavelength_aa for curve in load_curves(survey)])
            ln_wave = np.log(self.law.wave_aa)
            self.nodes = np.append(ln_wave, ln_wave[-1] + 1.0), np.append(self.law.fraction, self.law.fraction[-1])
            """ln of the law's wavelengths, two at least, and t there."""

    def fraction(self, redshift: np.ndarray) -> np.ndarray:
        """t of every band at redshift (...): (..., n_band); not for surveys without template_error."""
        assert self.law is not None
        return self.law.at(self.pivot_aa / (1.0 + np.asarray(redshift, dtype=float)[..., None]))

    def total(self, flux: np.ndarray, err: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """s (..., n_band) of fluxes and the catalogue's errors (..., n_band) at redshift (...)."""
        return np.hypot(err, self.fraction(redshift) * np.maximum(flux, 0.0))

    def __call__(self, data: Observation, redshift: np.ndarray) -> np.ndarray:
        """Errors of galaxies at redshift (n, k): (n, k, n_band), or (n, 1, n_band) where all draws have the same; 1
        where nothing is observed."""
        seen = observed(data.flux, data.flux_err)
        err = np.where(seen, data.flux_err, 1.0)[:, None]
        if self.law is None:
            return err
        flux = np.where(seen, data.flux, 0.0)[:, None]
        return self.total(flux, err, redshift if data.is_free.any() else redshift[:, :1])

    def applied(self, data: Observation, redshift: np.ndarray | None = None) -> Observation:
        """Photometry with these errors in place of the catalogue's, at redshift (n,), by default the galaxies' own;
        as they are where there is none."""
        if self.law is None:
            return data
        z = np.asarray(data.redshift if redshift is None else redshift, dtype=float)
        flux = np.where(observed(data.flux, data.flux_err), data.flux, 0.0)
        return replace(data, flux_err=np.where(np.isnan(z)[:, None], data.flux_err, self.total(flux, data.flux_err, z)))

    def scattered(
        self, noisy: np.ndarray, flux: np.ndarray, redshift: np.ndarray, normals: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Noisy fluxes (n, n_band) of simulated galaxies, model fluxes `flux` at redshift (n,), with the error of the
        spectra, too: `normals` gives as many standard normal numbers."""
        return noisy if self.law is None else noisy + self.fraction(redshift) * flux * normals()

    def largest(self, band: int, redshift_range: tuple[float, float]) -> float:
        """The largest t of a band within a range of redshifts."""
        return 0.0 if self.law is None else float(self.fraction(np.linspace(*redshift_range, 200))[:, band].max())
