"""The intergalactic medium: the paper's equations and absorbers, other codes, spectra and band tables behind it."""

import numpy as np
import pytest

from popcat.forward import quadrature, tables
from popcat.forward.filters import load_curves
from popcat.forward.igm import LYMAN_ALPHA_AA, is_seen, jumps_aa, load_lines, transmission
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.quadrature import make_segments
from popcat.forward.spectrum import observed_spectra, observed_spectrum, reference_fluxes, rest_spectrum, spectrum
from popcat.forward.tables import load_rest_tables, load_tables
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import load_survey

LIMIT = 911.8
# igm.Inoue14().full_IGM of redrock 0.21.0, by redshift, at the rest-frame wavelengths AT_AA. Below redshift 1.2 its
# continuum is that of 1.2 to 4.7.
REDROCK = {
    1.5: (0.584453, 0.770274, 0.942332, 0.934674),
    2.5: (0.278233, 0.501005, 0.833215, 0.791825),
    3.5: (0.054029, 0.194141, 0.630720, 0.553994),
    6.0: (0.000001, 0.000127, 0.068072, 0.014033),
}
# The table of models/igm_model.py of bagpipes 1.3.6, which its authors call that of the same paper.
BAGPIPES = {
    0.5: (0.810165, 0.896819, 0.970710, 0.972951),
    1.0: (0.697959, 0.843877, 0.958682, 0.961889),
    1.5: (0.586322, 0.772820, 0.942327, 0.934668),
    3.5: (0.053835, 0.193954, 0.630707, 0.553965),
}
AT_AA = np.array([700.0, 850.0, 1000.0, 1200.0])
REDSHIFTS = [0.3, 1.0, 1.7, 3.0, 4.6, 5.5, 7.0]


def tau(rest_aa, redshift):
    return -np.log(transmission(np.atleast_1d(rest_aa) * (1.0 + redshift), redshift))


@pytest.mark.parametrize("redshift", REDSHIFTS)
def test_the_lines_are_those_of_equations_21_and_22(redshift):
    """Line by line, as they are written, above the Lyman limit where there is no continuum."""
    lines = load_lines()
    for rest in np.linspace(912.5, 1214.0, 40):
        wave, expected = rest * (1.0 + redshift), 0.0
        for line, laf, dla in zip(lines.wave_aa, lines.laf.T, lines.dla.T, strict=True):
            if line < wave < line * (1.0 + redshift):
                x = wave / line
                expected += laf[0] * x**1.2 if x < 2.2 else laf[1] * x**3.7 if x < 5.7 else laf[2] * x**5.5
                expected += dla[0] * x**2 if x < 3.0 else dla[1] * x**3
        assert tau(rest, redshift)[0] == pytest.approx(expected, rel=1e-9)


def laf_continuum(x, u):
    """Equations 25 to 27."""
    if u < 2.2:
        return 0.3248 * (x**1.2 - u**-0.9 * x**2.1)
    if u < 5.7:
        return (2.545e-2 * u**1.6 * x**2.1 + 0.3248 * x**1.2 - 0.2496 * x**2.1 if x < 2.2
                else 2.545e-2 * (u**1.6 * x**2.1 - x**3.7))  # fmt: skip
    if x < 2.2:
        return 5.221e-4 * u**3.4 * x**2.1 + 0.3248 * x**1.2 - 3.140e-2 * x**2.1
    if x < 5.7:
        return 5.221e-4 * u**3.4 * x**2.1 + 0.2182 * x**2.1 - 2.545e-2 * x**3.7
    return 5.221e-4 * (u**3.4 * x**2.1 - x**5.5)


def dla_continuum(x, u):
    """Equations 28 and 29."""
    if u < 3.0:
        return 0.2113 * u**2 - 0.07661 * u**2.3 * x**-0.3 - 0.1347 * x**2
    if x < 3.0:
        return 0.6340 + 4.696e-2 * u**3 - 1.779e-2 * u**3.3 * x**-0.3 - 0.1347 * x**2 - 0.2905 * x**-0.3
    return 4.696e-2 * u**3 - 1.779e-2 * u**3.3 * x**-0.3 - 2.916e-2 * x**3


def lines_alone(wave, redshift):
    """Optical depth of the series below the limit: lines of absorbers nearer than the galaxy."""
    lines, total = load_lines(), 0.0
    for line, laf, dla in zip(lines.wave_aa, lines.laf.T, lines.dla.T, strict=True):
        x = wave / line
        if 1.0 < x < 1.0 + redshift:
            total += laf[0] * x**1.2 if x < 2.2 else laf[1] * x**3.7 if x < 5.7 else laf[2] * x**5.5
            total += dla[0] * x**2 if x < 3.0 else dla[1] * x**3
    return total


@pytest.mark.parametrize("redshift", REDSHIFTS)
def test_the_continua_are_equations_25_to_29_to_the_rounding_of_their_coefficients(redshift):
    for wave in np.linspace(1.01 * LIMIT, 0.999 * LIMIT * (1.0 + redshift), 40):
        x, u = wave / LIMIT, 1.0 + redshift
        expected = laf_continuum(x, u) + dla_continuum(x, u)
        found = -np.log(transmission(np.array([wave]), redshift)[0]) - lines_alone(wave, redshift)
        assert found == pytest.approx(expected, rel=1e-3, abs=6e-3)


def absorbed_by(wave, redshift, number, beta):
    """tau of absorbers of column densities N^-beta exp(-N / 1e21), N > 1e12, `number` of them per redshift (eq. 2)."""
    log_n = np.linspace(12.0, 23.0, 2201)
    density = 10.0 ** (log_n * (1.0 - beta)) * np.exp(-(10.0 ** (log_n - 21.0)))
    v = np.linspace(wave / LIMIT, 1.0 + redshift, 401)
    sigma = 6.30e-18 * (wave / (v * LIMIT))[:, None] ** 3
    taken = np.trapezoid(density * -np.expm1(-(10.0**log_n) * sigma), log_n) / np.trapezoid(density, log_n)
    return np.trapezoid(number(v) * taken, v)


def forest_per_redshift(v):
    """Equation 6: 500 at redshift 1.2."""
    late = 500.0 * (v / 2.2) ** np.where(v < 2.2, 0.2, 2.7)
    return np.where(v < 5.7, late, 500.0 * (5.7 / 2.2) ** 2.7 * (v / 5.7) ** 4.5)


def damped_per_redshift(v):
    """Equation 7: 1.1 at redshift 2."""
    return 1.1 * (v / 3.0) ** np.where(v < 3.0, 1.0, 2.0)


@pytest.mark.parametrize("redshift", [0.8, 2.0, 3.5, 5.0])
def test_the_continuum_is_that_of_the_papers_absorbers(redshift):
    """Counted by redshift and column density, without the approximations that lead to equations 25 to 29."""
    for wave in np.linspace(1.2 * LIMIT, 0.95 * LIMIT * (1.0 + redshift), 5):
        forest = absorbed_by(wave, redshift, forest_per_redshift, 1.7)
        damped = absorbed_by(wave, redshift, damped_per_redshift, 0.9)
        found = -np.log(transmission(np.array([wave]), redshift)[0]) - lines_alone(wave, redshift)
        assert found == pytest.approx(forest + damped, rel=0.02)


@pytest.mark.parametrize("redshift", REDROCK)
def test_transmission_is_that_of_redrock(redshift):
    found = transmission(AT_AA * (1.0 + redshift), redshift)
    np.testing.assert_allclose(found, REDROCK[redshift], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("redshift", BAGPIPES)
def test_transmission_is_that_of_bagpipes(redshift):
    found = transmission(AT_AA * (1.0 + redshift), redshift)
    np.testing.assert_allclose(found, BAGPIPES[redshift], atol=3e-3)


@pytest.mark.parametrize("redshift", [0.0, 0.1, 2.0, 6.0, 15.0])
def test_nothing_is_absorbed_from_lyman_alpha_up_and_something_below(redshift):
    rest = np.array([0.6, 0.8, 0.99, 0.999999, 1.0, 1.000001, 3.0]) * LYMAN_ALPHA_AA
    found = transmission(rest * (1.0 + redshift), redshift)
    assert (found[4:] == 1.0).all()
    assert (found[:4] < 1.0).all() if redshift else (found == 1.0).all()
    assert is_seen(rest * (1.0 + redshift), redshift).tolist() == [bool(redshift)] * 4 + [False] * 3


def test_transmission_falls_with_redshift_at_any_observed_wavelength():
    wave = np.geomspace(800.0, 12_000.0, 500)
    found = np.array([transmission(wave, z) for z in np.linspace(0.0, 8.0, 401)])
    assert ((found >= 0.0) & (found <= 1.0)).all()
    assert (np.diff(found, axis=0) <= 0.0).all()


def test_the_transmission_jumps_where_it_is_said_to_and_nowhere_else():
    at = jumps_aa(3.0)
    below, above = transmission(at * (1 - 1e-9), 3.0), transmission(at * (1 + 1e-9), 3.0)
    assert (below[1:] < above[1:]).all()
    wave = np.linspace(3000.0, 4900.0, 190_001)
    jump = np.abs(np.diff(np.log(transmission(wave, 3.0)))) > 1e-3
    nearest = np.abs(wave[:-1][jump][:, None] - at).min(axis=1)
    assert (nearest < 0.02).all()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def none():
    return load_ingredients(GalaxyModel(igm="none"))


@pytest.mark.parametrize("settings", [{}, {"gas": "cloudy", "agn": "temple_2021"}], ids=["stars", "all"])
def test_all_light_of_a_galaxy_goes_through_the_medium(settings):
    """Stars, gas, nucleus: one by one, many at once, and broadened."""
    behind, open_ = (GalaxyModel(**settings, igm=igm) for igm in ("inoue_2014", "none"))
    seen, emitted = load_ingredients(behind), load_ingredients(open_)
    theta = make_prior(behind).from_unit(np.full((1, make_prior(behind).n_unconstrained), 0.4))
    wave = np.linspace(4000.0, 6500.0, 60)
    through = transmission(wave, 3.5)
    assert through.min() < 0.5 < through.max() == 1.0
    expected = observed_spectrum(theta[0], 3.5, emitted, wave)[1] * through
    np.testing.assert_allclose(observed_spectrum(theta[0], 3.5, seen, wave)[1], expected, rtol=1e-12)
    np.testing.assert_allclose(observed_spectra(theta, np.array([3.5]), seen, wave)[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(rest_spectrum(theta[0], 3.5, seen), rest_spectrum(theta[0], 3.5, emitted))
    broad = [spectrum(theta[0], 3.5, settings=of, wave_aa=wave, sigma_v_km_s=300.0).f_nu_nmgy for of in (behind, open_)]
    np.testing.assert_allclose(broad[0], broad[1] * through, rtol=1e-12)


@pytest.mark.parametrize("redshift", [3.0, 6.0])
def test_a_lyman_alpha_line_of_the_gas_loses_what_lies_below_its_wavelength(redshift):
    model = GalaxyModel(gas="cloudy")
    seen, emitted = (load_ingredients(model.model_copy(update={"igm": igm})) for igm in ("inoue_2014", "none"))
    names = make_prior(model).names
    young = dict.fromkeys(names, 0.0) | {"log_mstar_formed": 10.0, "beta1": 1.0, "f_burst": 1.0, "t_burst": 0.01,
                                         "log_gamma1": -2.0, "log_gamma2": -2.0, "log_u": -2.5}  # fmt: skip
    some, no = (np.array([(young | {"f_esc": f_esc})[name] for name in names]) for f_esc in (0.0, 1.0))
    wave = np.linspace(1195.0, 1236.0, 40_001) * (1.0 + redshift)
    gas = [observed_spectrum(some, redshift, of, wave)[1] - observed_spectrum(no, redshift, of, wave)[1]
           for of in (seen, emitted)]  # fmt: skip
    below = transmission(np.array([1215.0 * (1.0 + redshift)]), redshift)[0]
    assert np.trapezoid(gas[0]) / np.trapezoid(gas[1]) == pytest.approx(0.5 * (1.0 + below), abs=0.05)


def errors(photometry, theta, redshift, none):
    """Relative errors of fluxes above 1e-8 of the brightest one without dust and medium."""
    curves = load_curves(photometry.survey)
    clear = theta.copy()
    clear[:, 9:11] = 0.0
    brightest = reference_fluxes(clear, redshift, none, curves).max(axis=1, keepdims=True)
    exact = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    seen = exact > 1e-8 * brightest
    return np.abs(photometry.flux(theta, redshift)[seen] / exact[seen] - 1.0)


@pytest.mark.parametrize(("name", "z_range", "p99"), [
    ("galex_sdss_2mass", (1.4, 1.5), 2e-4), ("lsst", (2.5, 2.6), 4e-4), ("lsst", (4.9, 5.0), 1e-3),
    ("lsst", (5.7, 5.8), 1e-3),
])  # fmt: skip
def test_band_tables_hold_the_medium(draw, none, name, z_range, p99):
    """Where the break crosses the steep edge of a filter, linear interpolation in redshift is what limits."""
    photometry = Photometry(load_survey(name).model_copy(update={"redshift_range": z_range}), GalaxyModel())
    found = errors(photometry, *draw(120, z_range=z_range), none)
    assert np.quantile(found, 0.99) < p99
    assert found.max() < 2e-3


@pytest.mark.parametrize("band", range(6), ids="ugrizy".__getitem__)
def test_nodes_of_a_wide_range_of_redshifts_do_between_those_they_were_chosen_at(model, band):
    """LSST from redshift 0.5 to 6, where Lyman alpha and the limit cross most bands."""
    stars, curve = tables._test_spectra(model.grid.age_gyr, model.grid.lum), load_curves(load_survey("lsst"))[band]
    light = model.grid.wave_aa, stars
    for segment in make_segments(curve, light, (0.5, 6.0), tables.NODE_TOLERANCE, model.transmission):
        cases = [quadrature._Case(segment.wave_aa, segment.weight, z, light, "kriek_conroy", model.transmission)
                 for z in np.linspace(0.5, 6.0, 56)]  # fmt: skip
        assert max(case.error(segment.nodes_aa, segment.basis) for case in cases) < 1e-3


def test_galex_at_redshift_1p5_is_fainter_by_the_medium(draw):
    survey = load_survey("galex_sdss_2mass").model_copy(update={"redshift_range": (1.49, 1.5)})
    theta, redshift = draw(500)[0], np.full(500, 1.4999)
    behind, open_ = (Photometry(survey, GalaxyModel(igm=igm)).flux(theta, redshift) for igm in ("inoue_2014", "none"))
    fainter = -2.5 * np.log10(behind / open_)
    np.testing.assert_allclose(np.median(fainter, axis=0), [0.565, 0.059, *[0.0] * 8], atol=1e-3)
    assert 0.54 < fainter[:, 0].min() < fainter[:, 0].max() < 0.70


@pytest.mark.parametrize(("name", "kept"), [("sdss", 1), ("galex_sdss_2mass", 2)])
def test_tables_of_bands_that_see_none_of_it_are_those_without(cache, none, model, name, kept):
    survey = load_survey(name).model_copy(update={"redshift_range": (0.5, 0.501)})
    found = [load_tables(survey, GalaxyModel(igm=igm))[0].coefficient for igm in ("inoue_2014", "none")]
    assert np.array_equal(*found) == (kept == 1)
    rest = [load_rest_tables(survey, of, load_curves(survey)).coefficient for of in (model, none)]
    np.testing.assert_array_equal(*rest)
    assert len(list(cache.glob("tables-*"))) == kept + 1
