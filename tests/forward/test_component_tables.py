"""Gas, laws of attenuation, dust emission and a nucleus in the fast path: against the reference spectrum, finite
differences and the torch twin, in optical and infrared bands.
"""

import numpy as np
import pytest
import torch

from popcat.columns import component_properties
from popcat.forward.components import luminosities, values
from popcat.forward.dust import LAWS
from popcat.forward.filters import load_curves
from popcat.forward.gas import CONTINUUM_AA
from popcat.forward.photometry import Photometry
from popcat.forward.properties import LIGHT_FLOOR, Properties
from popcat.forward.spectrum import clear_light, reference_fluxes, reference_lines
from popcat.forward.table_arrays import in_double
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.forward.torch_properties import TorchProperties
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Band, load_survey
from popcat.units import LSUN_ERG_S, PC_CM

FREE = {"f_esc": {"family": "uniform"}}
EVERYTHING = GalaxyModel(gas="cloudy", dust_law="salim", dust_emission="draine_li_2007", agn="temple_2021", priors=FREE)
MODELS = {
    **{law: GalaxyModel(dust_law=law) for law in LAWS if law != "kriek_conroy"},
    "gas": GalaxyModel(gas="cloudy", priors=FREE),
    "gas outside short-lived clouds": GalaxyModel(gas="cloudy", birth_cloud_age_gyr=0.004, priors=FREE),
    "gas without clouds": GalaxyModel(gas="cloudy", birth_cloud_age_gyr=0.0, binning="midpoint"),
    "gas of steps": GalaxyModel(gas="cloudy", history="continuity"),
    "gas of a delayed decline": GalaxyModel(gas="cloudy", history="delayed_tau", priors=FREE),
    "gas of moving bases": GalaxyModel(gas="cloudy", history="fractional"),
    "dust emission": GalaxyModel(dust_emission="draine_li_2007"),
    "nucleus": GalaxyModel(agn="temple_2021"),
    "everything": EVERYTHING,
}
Z_RANGE = (0.5, 0.56)


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    """A survey of u, r and two top hats, at 8 and at 100 micron."""
    folder, sdss = tmp_path_factory.mktemp("hats"), load_survey("sdss")
    hats = []
    for name, low, high in (("MIR", 7e4, 9e4), ("FIR", 8e5, 1.2e6)):
        wave = np.linspace(low, high, 101)
        np.savetxt(folder / f"{name}.txt", np.column_stack([wave, np.ones(101)]))
        hats.append(Band(name=name, filter=str(folder / f"{name}.txt"), flux="f", flux_err="e"))
    return sdss.model_copy(update={"redshift_range": Z_RANGE, "bands": (sdss.bands[0], sdss.bands[2], *hats)})


@pytest.fixture(scope="module")
def made(bands):
    """name of a model -> its photometry, theta and redshift of prior draws, and v; made once."""
    found = {}

    def function(name):
        if name not in found:
            model = MODELS[name]
            emits = model.dust_emission != "none"
            survey = bands if emits else bands.model_copy(update={"bands": bands.bands[:2]})
            photometry = Photometry(survey, model)
            prior, rng = make_prior(model), np.random.default_rng(3)
            theta = prior.from_unit(rng.random((150, prior.n_unconstrained)))
            theta[::10, prior.names.index("f_burst")] = 1.0
            theta[::5, prior.names.index("t_burst")] = rng.uniform(0.01, 0.0105, 30)
            redshift = rng.uniform(Z_RANGE[0] + 1e-3, Z_RANGE[1] - 1e-3, 150)
            v = rng.normal(size=(150, len(survey.bands))) / photometry.flux(theta, redshift)
            precise = in_double(photometry.kernel_tables)
            found[name] = photometry, precise, prior, theta, redshift, v
        return found[name]

    return function


@pytest.mark.parametrize("name", MODELS)
def test_the_fast_path_is_the_reference(made, name):
    photometry, _, _, theta, redshift, _ = made(name)
    expected = reference_fluxes(theta, redshift, photometry.ingredients, load_curves(photometry.survey))
    seen = expected > 1e-8 * expected.max(axis=1, keepdims=True)
    error = np.abs(photometry.flux(theta, redshift)[seen] / expected[seen] - 1.0)
    # lines that cross an edge of a filter, or what the air takes out of it, between the tables' redshifts
    assert np.quantile(error, 0.99) < 1e-3
    assert np.max(error) < (3e-3 if photometry.ingredients.components.gas == "cloudy" else 1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_every_derivative_agrees_with_finite_differences(made, name):
    """In float64, kinks (where the sides disagree) left out, as in test_gradients."""
    photometry, precise, prior, theta, redshift, v = made(name)
    single, photometry.kernel_tables = photometry.kernel_tables, precise
    flux, grad, grad_z = photometry.flux_vjp(theta, redshift, v)
    np.testing.assert_allclose(flux, photometry.flux(theta, redshift), rtol=1e-12)
    here = np.sum(v * flux, axis=1)
    for column, exact in enumerate([*grad.T, grad_z]):
        sides, step = [], 1e-8 if column == prior.names.index("t_burst") else 1e-7
        for sign in (-1.0, 1.0):
            moved, z = theta.copy(), redshift.copy()
            if column < len(prior.names):
                moved[:, column] += sign * step
            else:
                z += sign * step
            sides.append((np.sum(v * photometry.flux(moved, z), axis=1) - here) / (sign * step))
        size = np.sum(np.abs(v * flux), axis=1) + np.abs(exact)
        smooth = np.abs(sides[1] - sides[0]) < 2e-5 * size
        assert np.mean(smooth) > 0.9
        # short histories curve within a step
        limit = 5e-5 if MODELS[name].history == "delayed_tau" else 1e-5
        assert np.max(np.abs(0.5 * (sides[0] + sides[1]) - exact)[smooth] / size[smooth]) < limit
    photometry.kernel_tables = single


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_agrees_and_so_does_its_gradient(made, name):
    photometry, precise, _, theta, redshift, v = made(name)
    single, photometry.kernel_tables = photometry.kernel_tables, precise
    twin = TorchPhotometry(photometry, dtype=torch.float64)
    at, z = torch.tensor(theta, requires_grad=True), torch.tensor(redshift, requires_grad=True)
    seen = twin(at, z)
    flux, grad, grad_z = photometry.flux_vjp(theta, redshift, v)
    photometry.kernel_tables = single
    np.testing.assert_allclose(seen.detach().numpy(), flux, rtol=1e-5)
    (seen * torch.tensor(v)).sum().backward()
    size = np.sum(np.abs(v * flux), axis=1)
    for found, exact in ((at.grad.numpy(), grad), (z.grad.numpy()[:, None], grad_z[:, None])):
        error = np.abs(found - exact) / (size[:, None] + np.abs(exact))
        assert np.quantile(error, 0.99) < 2e-5


def test_lines_and_their_widths_are_those_of_the_reference(made):
    photometry, _, _, theta, redshift, _ = made("everything")
    out = Properties(photometry.survey, photometry.ingredients)(theta, redshift)
    rows = zip(theta, redshift, strict=True)
    lum, beside = (np.array(one) for one in zip(*(reference_lines(t, z, photometry.ingredients) for t, z in rows),
                                                strict=True))  # fmt: skip
    distance = photometry.ingredients.cosmology.luminosity_distance(redshift) * 1e6 * PC_CM
    for k, name in enumerate(CONTINUUM_AA):
        bright = lum[:, k] > 1e3 * LIGHT_FLOOR * 10.0 ** theta[:, 0]
        assert bright.sum() > 40
        found = 10.0 ** (out[f"log_l_{name}"] - np.log10(LSUN_ERG_S))
        np.testing.assert_allclose(found[bright], lum[bright, k], rtol=1e-3)
        np.testing.assert_allclose(out[f"ew_{name}"][bright], (lum / beside)[bright, k], rtol=1e-3)
        flux = 10.0 ** out[f"log_flux_{name}"] * 4.0 * np.pi * distance**2
        np.testing.assert_allclose(flux, 10.0 ** out[f"log_l_{name}"], rtol=1e-5)
    every = np.stack([out[name] for name in component_properties(EVERYTHING)])
    assert np.all(np.isfinite(every))


def test_dust_emits_what_the_reference_absorbs(made):
    photometry, _, _, theta, redshift, _ = made("everything")
    out = Properties(photometry.survey, photometry.ingredients)(theta, redshift)["log_l_dust"]
    n = photometry.ingredients.n_history
    for row, z, log_l in zip(theta, redshift, out, strict=True):
        clear, value = clear_light(row, z, photometry.ingredients), values(photometry.ingredients.components, row[n:])
        absorbed = luminosities(clear, "salim", value)[1]
        assert 10.0 ** (log_l - row[0]) == pytest.approx(absorbed, rel=2e-3)



def test_h_alpha_is_that_of_the_star_formation_rate():
    """Kennicutt & Evans (2012): log L(H alpha) = log SFR + 41.27 for a Kroupa IMF and constant star formation, good to
    0.2 dex for solar metallicity; of a galaxy without dust from which no ionising light escapes.
    """
    settings = GalaxyModel(gas="cloudy", metallicity="constant")
    survey = load_survey("sdss").model_copy(update={"redshift_range": (0.05, 0.06)})
    properties, names = Properties(survey, Photometry(survey, settings).ingredients), make_prior(settings).names
    galaxy = dict.fromkeys(names, 0.0) | {"log_mstar_formed": 10.0, "t_burst": 1.0, "log_z": np.log10(0.02),
                                          "log_u": -3.0} | {f"beta{k + 1}": 0.25 for k in range(4)}  # fmt: skip
    out = properties(np.array([[galaxy[name] for name in names]]), np.array([0.055]))
    assert out["log_l_h_alpha"][0] - out["log_sfr_100myr"][0] == pytest.approx(41.27, abs=0.2)
    assert 10.0 ** (out["log_l_h_alpha"] - out["log_l_h_beta"])[0] == pytest.approx(2.86, rel=0.04)


@pytest.mark.parametrize("name", MODELS)
def test_the_torch_twin_of_the_properties_agrees(made, name):
    photometry, _, _, theta, redshift, _ = made(name)
    properties = Properties(photometry.survey, photometry.ingredients)
    expected = properties(theta, redshift)
    properties.rest_frame.kernel_tables = in_double(properties.rest_frame.kernel_tables)
    twin = TorchProperties(properties, dtype=torch.float64)
    with torch.no_grad():
        found = twin(torch.from_numpy(theta), torch.from_numpy(redshift))
    assert list(found) == list(expected)
    for key, column in expected.items():
        np.testing.assert_allclose(found[key].numpy(), column, rtol=2e-5, atol=2e-5, err_msg=key)
