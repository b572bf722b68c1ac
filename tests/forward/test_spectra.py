"""Many spectra at once are the reference's, galaxy by galaxy."""

import numpy as np
import pytest

from popcat.forward.ingredients import load_ingredients
from popcat.forward.spectrum import observed_spectra, observed_spectrum
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior


@pytest.mark.parametrize("settings", [GalaxyModel(), GalaxyModel(metallicity="constant")], ids=["evolving", "constant"])
def test_spectra_of_many_galaxies_are_those_of_each_at_any_redshift(settings):
    model, prior = load_ingredients(settings), make_prior(settings)
    rng = np.random.default_rng(4)
    theta = prior.from_unit(rng.random((150, len(prior.names) - 1)))
    redshift = rng.uniform(0.01, 1.5, len(theta))
    wave_aa = np.geomspace(1500.0, 22_000.0, 80)
    many = observed_spectra(theta, redshift, model, wave_aa)
    each = [observed_spectrum(row, z, model, wave_aa)[1] for row, z in zip(theta, redshift, strict=True)]
    np.testing.assert_allclose(many, each, rtol=1e-6)
