"""The noise model finds the law that made a catalogue, whatever its partitions, and adds that noise to fluxes."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from popcat.errors import PopcatError
from popcat.forward.noise import (
    MIN_SCATTER,
    NOMINAL_SCATTER,
    WIDEN,
    BandNoise,
    Noise,
    add_noise,
    check_noise,
    default_noise,
    load_noise,
    noise_counts,
    noise_from_counts,
    nominal_noise,
)
from popcat.galaxies import FLAGS
from popcat.survey import Band, Selection, Survey, embedded_surveys, load_survey

N = 40_000
SCATTER = {"g": 0.3, "r": 0.02}


def median_err(flux):
    """Background and a fraction of the flux."""
    return np.hypot(0.5, 0.02 * flux)


@pytest.fixture(scope="module")
def survey():
    bands = tuple(Band(name=name, filter=f"sdss2010-{name}", flux=name, flux_err=f"{name}_err") for name in SCATTER)
    selection = Selection(band="r", bright_mag=10, faint_mag=22)
    return Survey(name="demo", redshift_range=(0.01, 0.5), bands=bands, selection=selection)


@pytest.fixture(scope="module")
def frame():
    """Fluxes from 0.1 to 1e4 nMgy, errors log-normal about median_err; one galaxy in ten has bad errors."""
    random = np.random.default_rng(0)
    bad = np.arange(N) % 10 == 0
    columns = {"flags": np.where(bad, FLAGS["bad_error"], FLAGS["negative_flux"])}
    for name, scatter in SCATTER.items():
        flux = 10 ** random.uniform(-1, 4, N)
        err = median_err(flux) * np.exp(scatter * random.standard_normal(N))
        columns |= {f"flux_{name}": flux, f"flux_err_{name}": np.where(bad, random.choice([0.0, -1.0, np.inf], N), err)}
    return pd.DataFrame(columns).astype({"flags": "int32"})


@pytest.fixture(scope="module")
def fitted(frame, survey):
    return noise_from_counts(noise_counts(frame, survey), survey)


@pytest.fixture(scope="module")
def simple(survey):
    """Two nodes a band: error 1 at 1 nMgy, 2 at 100 nMgy, scatter 0.2; r has three nodes and ten times the error."""
    g = BandNoise(ln_flux=(0.0, np.log(100.0)), ln_err=(0.0, np.log(2.0)), scatter=(0.2, 0.2))
    ln_err = tuple(np.log([10.0, 15.0, 20.0]))
    r = BandNoise(ln_flux=(0.0, np.log(10.0), np.log(100.0)), ln_err=ln_err, scatter=(0.2, 0.3, 0.4))
    return Noise(survey=survey.name, n_galaxies=100, bands={"g": g, "r": r})


def errors(flux, noise, normals=None):
    flux = np.column_stack([flux, flux])
    return add_noise(flux, noise, np.zeros((len(flux), 4)) if normals is None else normals)[1]


def test_the_median_error_is_recovered(fitted):
    for band in fitted.bands.values():
        np.testing.assert_allclose(band.ln_err, np.log(median_err(np.exp(band.ln_flux))), atol=0.08)


def test_the_scatter_is_recovered_widened_and_floored(fitted):
    assert np.mean(fitted.bands["g"].scatter) == pytest.approx(WIDEN * SCATTER["g"], rel=0.05)
    np.testing.assert_allclose(fitted.bands["g"].scatter, WIDEN * SCATTER["g"], rtol=0.3)
    assert set(fitted.bands["r"].scatter) == {MIN_SCATTER}


def test_bad_errors_do_not_enter(frame, survey, fitted):
    assert fitted.n_galaxies == (frame["flags"] != FLAGS["bad_error"]).sum()
    assert max(fitted.bands["r"].ln_err) < np.log(1e3)


@pytest.mark.parametrize("column", ["flux_g", "flux_err_g"])
def test_a_galaxy_counts_in_the_bands_that_it_has(frame, survey, column):
    """Half of them have no g: r is fitted as if they had, g on the others."""
    half = np.arange(N) % 2 == 0
    flags = np.where(half, frame["flags"] | FLAGS["missing_band"], frame["flags"]).astype(np.int32)
    holes = frame.assign(flags=flags, **{column: frame[column].where(~half)})
    counts = noise_counts(holes, survey)
    np.testing.assert_array_equal(counts[1], noise_counts(frame, survey)[1])
    np.testing.assert_array_equal(counts[0], noise_counts(frame[~half], survey)[0])


@pytest.mark.parametrize("n_parts", [2, 7])
def test_counts_of_partitions_add_up_to_those_of_the_catalogue(frame, survey, n_parts):
    order = np.random.default_rng(1).permutation(len(frame))
    parts = [noise_counts(frame.iloc[rows], survey) for rows in np.array_split(order, n_parts)]
    assert np.array_equal(sum(parts), noise_counts(frame, survey))


def test_counts_are_integers_so_their_sum_is_exact(frame, survey):
    assert noise_counts(frame, survey).dtype == np.int64


def test_an_empty_partition_counts_nothing(frame, survey):
    assert noise_counts(frame[:0], survey).sum() == 0


def test_fluxes_below_zero_do_not_enter_the_fit_of_their_band(frame, survey):
    changed = frame.assign(flux_g=-frame["flux_g"])
    counts = noise_counts(changed, survey)
    assert counts[0].sum() == 0
    assert np.array_equal(counts[1], noise_counts(frame, survey)[1])


def test_too_few_galaxies_are_refused_by_the_band(frame, survey):
    few = frame[frame["flags"] != FLAGS["bad_error"]][:59]
    with pytest.raises(PopcatError, match=r'band "g": expected at least 60 galaxies .* got 59; fit on more'):
        noise_from_counts(noise_counts(few, survey), survey)


def test_a_band_with_too_few_galaxies_is_filled_by_its_depth_or_by_the_errors_there_are(frame, survey):
    few = frame[frame["flags"] != FLAGS["bad_error"]].copy()
    few.loc[few.index[20:], "flux_g"] = np.nan
    counts = noise_counts(few, survey)
    found = noise_from_counts(counts, survey, fill=True)
    assert found.bands["r"] == noise_from_counts(noise_counts(frame, survey), survey).bands["r"]
    band, middle = found.bands["g"], np.sort(few["flux_err_g"][:20])[9]
    # faint galaxies have the error of the sky, which is most of that at five errors
    assert np.exp(band.ln_err[0]) == pytest.approx(middle, rel=0.03)
    deep = survey.bands[0].model_copy(update={"depth_5sigma_mag": 24.0})
    with_depth = survey.model_copy(update={"bands": (deep, survey.bands[1])})
    found = noise_from_counts(counts, with_depth, fill=True)
    cut = survey.selection.model_copy(update={"band": "g"})
    alone = with_depth.model_copy(update={"bands": (deep,), "selection": cut})
    assert found.bands["g"] == nominal_noise(alone).bands["g"]
    few["flux_g"] = np.nan
    with pytest.raises(PopcatError, match=r"got 0; give the band a depth_5sigma_mag, or leave it out"):
        noise_from_counts(noise_counts(few, survey), survey, fill=True)


def test_sixty_galaxies_are_enough(frame, survey):
    few = frame[frame["flags"] != FLAGS["bad_error"]][:60]
    noise = noise_from_counts(noise_counts(few, survey), survey)
    noisy, err = add_noise(few[["flux_g", "flux_r"]].to_numpy(), noise, np.zeros((60, 4)))
    assert np.isfinite(noisy).all() and (err > 0).all()


def test_galaxies_of_one_flux_give_one_error(survey):
    frame = pd.DataFrame({f"flux_{b}": np.full(100, 10.0) for b in "gr"} | {"flags": np.zeros(100, dtype="int32")})
    frame = frame.assign(flux_err_g=0.5, flux_err_r=0.5)
    noise = noise_from_counts(noise_counts(frame, survey), survey)
    np.testing.assert_allclose(errors(np.array([10.0]), noise), 0.5, rtol=0.02)


def test_between_nodes_the_error_is_linear_in_logarithms(simple):
    np.testing.assert_allclose(errors(np.array([1.0, 10.0, 100.0]), simple)[:, 0], [1, np.sqrt(2), 2], rtol=1e-12)
    np.testing.assert_allclose(errors(np.array([1.0, 10.0, 100.0]), simple)[:, 1], [10, 15, 20], rtol=1e-12)


def test_fainter_than_the_catalogue_the_error_is_constant(simple):
    np.testing.assert_allclose(errors(np.array([1e-9, 0.0, -3.0, 0.5]), simple), [[1.0, 10.0]] * 4, rtol=1e-12)


@pytest.mark.parametrize("factor", [1.5, 10.0, 1e4])
def test_brighter_than_the_catalogue_the_fractional_error_is_constant(simple, factor):
    flux = np.array([100.0, 100.0 * factor])
    fraction = errors(flux, simple) / flux[:, None]
    np.testing.assert_allclose(fraction[1], fraction[0], rtol=1e-12)


def test_errors_are_log_normal_with_the_scatter_of_the_model(simple):
    normals = np.random.default_rng(3).standard_normal((20_000, 4))
    err = errors(np.full(20_000, 10.0), simple, normals)
    assert kstest(np.log(err[:, 0] / np.sqrt(2)) / 0.2, "norm").pvalue > 1e-3
    assert kstest(np.log(err[:, 1] / 15.0) / 0.3, "norm").pvalue > 1e-3


def test_fluxes_scatter_by_their_error_and_keep_their_mean(simple):
    normals = np.random.default_rng(4).standard_normal((20_000, 4))
    flux = np.full((20_000, 2), 10.0)
    noisy, err = add_noise(flux, simple, normals)
    assert min(kstest(column, "norm").pvalue for column in ((noisy - flux) / err).T) > 1e-3
    assert abs(noisy[:, 0].mean() - 10.0) < 5 * err[:, 0].mean() / np.sqrt(20_000)


def test_negative_fluxes_survive_and_are_as_many_as_noise_makes(simple):
    normals = np.random.default_rng(5).standard_normal((20_000, 4))
    noisy, err = add_noise(np.zeros((20_000, 2)), simple, normals)
    np.testing.assert_allclose((noisy < 0).mean(axis=0), 0.5, atol=0.02)
    assert (err > 0).all()


def test_noise_is_row_by_row_and_leaves_its_input_alone(simple):
    random = np.random.default_rng(6)
    flux, normals = random.uniform(0, 200, (50, 2)).astype(np.float32), random.standard_normal((50, 4))
    before = flux.copy()
    noisy, err = add_noise(flux, simple, normals)
    part = add_noise(flux[10:20], simple, normals[10:20])
    assert np.array_equal(flux, before)
    assert np.array_equal(part[0], noisy[10:20]) and np.array_equal(part[1], err[10:20])


def test_a_catalogue_noised_by_its_own_model_has_wider_errors_than_it(frame, fitted):
    good = frame[frame["flags"] != FLAGS["bad_error"]]
    normals = np.random.default_rng(7).standard_normal((len(good), 4))
    _, err = add_noise(good[["flux_g", "flux_r"]].to_numpy(), fitted, normals)
    ratio = np.log(err / good[["flux_err_g", "flux_err_r"]].to_numpy())
    np.testing.assert_allclose(np.median(ratio, axis=0), 0.0, atol=0.03)
    seen = good["flux_err_g"] / median_err(good["flux_g"])
    assert np.std(np.log(err[:, 0] / median_err(good["flux_g"]))) > 1.3 * np.std(np.log(seen))


def test_a_stored_model_comes_back_as_it_was(fitted, survey, tmp_path):
    path = tmp_path / "noise.json"
    path.write_text(fitted.model_dump_json(), encoding="utf-8")
    again = load_noise(path, survey)
    assert again == fitted and list(again.bands) == list(fitted.bands)


def test_a_missing_file_says_what_writes_one(survey, tmp_path):
    with pytest.raises(PopcatError, match=r"no noise model at .*nowhere.json.*popcat noise fit"):
        load_noise(tmp_path / "nowhere.json", survey)


def test_the_noise_of_other_bands_is_refused_with_both(simple, survey):
    other = survey.model_copy(update={"bands": survey.bands[:1]})
    with pytest.raises(PopcatError, match=r'here holds bands g, r; survey "demo" has g: fit the noise'):
        check_noise(simple, other, "here")


def test_each_band_keeps_its_noise_whatever_the_order_it_was_stored_in(simple, survey, tmp_path):
    stored = json.loads(simple.model_dump_json())
    stored["bands"] = dict(reversed(stored["bands"].items()))
    (tmp_path / "noise.json").write_text(json.dumps(stored), encoding="utf-8")
    np.testing.assert_array_equal(load_noise(tmp_path / "noise.json", survey).tables(), simple.tables())


def replaced(noise, band="g", **changes):
    stored = json.loads(noise.model_dump_json())
    stored["bands"][band] |= changes
    return json.dumps(stored)


DAMAGE = {
    "cut": (lambda noise: noise.model_dump_json()[:-20], "not a noise model"),
    "not text": (lambda noise: "\udcff", "not a noise model"),
    "a list": (lambda noise: "[]", "not a noise model"),
    "unknown key": (lambda noise: replaced(noise, colour=1), "bands.g.colour"),
    "lengths": (lambda noise: replaced(noise, ln_err=[1.0]), "need the same length"),
    "order": (lambda noise: replaced(noise, ln_flux=[2.0, 1.0]), "ln_flux must ascend"),
    "nan": (lambda noise: replaced(noise, scatter=[0.2, float("nan")]), "bands.g.scatter.1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(simple, survey, tmp_path, case):
    make, message = DAMAGE[case]
    path = tmp_path / "noise.json"
    path.write_bytes(make(simple).encode("utf-8", "surrogateescape"))
    with pytest.raises(PopcatError, match=message) as caught:
        load_noise(path, survey)
    assert "noise.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def deep(survey):
    """g 5 sigma deep to 22.5 mag, which is 1 nMgy, without a floor; r to 25 with a floor of 2%."""
    depths = {"g": {"depth_5sigma_mag": 22.5}, "r": {"depth_5sigma_mag": 25.0, "error_floor": 0.02}}
    bands = tuple(band.model_copy(update=depths[band.name]) for band in survey.bands)
    return survey.model_copy(update={"bands": bands})


def test_at_its_depth_a_galaxy_has_five_sigma(deep):
    err = errors(np.array([1.0, 0.1]), nominal_noise(deep))
    assert err[0, 0] == pytest.approx(1.0 / 5.0, rel=1e-3)
    assert err[1, 1] == pytest.approx(np.hypot(0.1 / 5.0, 0.002), rel=1e-3)


def test_nominal_noise_is_the_formula_of_ivezic_et_al(deep):
    """sigma_rand of their eq. 5 with x = 10^(0.4 (m - m5)), as noise over signal; gamma = 0.039."""
    flux = np.geomspace(0.02, 1e4, 30)
    x = 1.0 / flux
    expected = np.sqrt((0.04 - 0.039) * x + 0.039 * x**2)
    np.testing.assert_allclose(errors(flux, nominal_noise(deep))[:, 0] / flux, expected, rtol=0.02)


def test_far_below_the_depth_the_sky_is_all_and_far_above_the_floor(deep):
    err = errors(np.array([1e-6, 0.0, -1.0]), nominal_noise(deep))
    np.testing.assert_allclose(err[:, 0], np.sqrt(0.039), rtol=5e-3)
    assert errors(np.array([1e6]), nominal_noise(deep))[0, 1] == pytest.approx(2e4, rel=1e-3)


def test_nominal_noise_says_so_and_is_wide(deep, fitted, simple):
    nominal = nominal_noise(deep)
    assert nominal.is_nominal and not fitted.is_nominal and not simple.is_nominal
    assert {s for band in nominal.bands.values() for s in band.scatter} == {NOMINAL_SCATTER}
    assert NOMINAL_SCATTER > MIN_SCATTER


def test_without_depths_the_error_names_the_bands_and_both_ways_out(deep, survey):
    half = deep.model_copy(update={"bands": (deep.bands[0], survey.bands[1])})
    with pytest.raises(PopcatError, match=r"popcat noise fit .*--noise, or give depth_5sigma_mag .* to bands r$"):
        default_noise(half)


FITTED = [name for name in embedded_surveys() if name.startswith(("nsa_", "sdss_casjobs"))]
"""Surveys of the columns of a catalogue, whose noise its own errors give."""


@pytest.mark.parametrize("name", FITTED)
def test_a_survey_of_other_columns_without_depths_asks_for_a_fit_of_its_noise(name):
    with pytest.raises(PopcatError, match=rf'survey "{name}" has no noise model: run `popcat noise fit'):
        default_noise(load_survey(name))


@pytest.mark.parametrize("name", [name for name in embedded_surveys() if name not in FITTED])
def test_every_other_embedded_survey_has_noise(name):
    """And at the faint end of its selection a galaxy is seen in the band of the selection."""
    survey = load_survey(name)
    noise = default_noise(survey)
    assert tuple(noise.bands) == survey.band_names
    assert noise.is_nominal == (name not in ("sdss", "sdss_nebular", "galex_sdss_2mass"))
    b = survey.band_names.index(survey.selection.band)
    flux = np.full((1, len(survey.bands)), 10 ** (0.4 * (22.5 - survey.selection.faint_mag)))
    err = add_noise(flux, noise, np.zeros((1, 2 * len(survey.bands))))[1]
    assert flux[0, b] > 2 * err[0, b]
