"""Band tables: coverage, the cache, and workers that build at once."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward import tables
from popcat.forward.compression import Blocks
from popcat.forward.filters import load_curves
from popcat.forward.grid import save_grid
from popcat.forward.histories import straight_bins
from popcat.forward.photometry import Photometry
from popcat.forward.redshift_cells import CELL_LN1PZ, redshift_nodes
from popcat.forward.spectrum import reference_fluxes
from popcat.forward.table_arrays import kernel_tables, redshift_cell, whole_components
from popcat.forward.tables import bin_weights, build_tables, cut_bins, load_tables
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Selection, load_survey


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def settings(small_grid, tmp_path):
    """The galaxy model on the small grid."""
    save_grid(small_grid, tmp_path / "small.npz")
    return GalaxyModel(grid=str(tmp_path / "small.npz"))


def test_tables_come_back_from_the_cache_as_they_were_built(cache, settings, make_survey):
    survey = make_survey()
    loaded, model = load_tables(survey, settings)
    built = build_tables(survey, model, load_curves(survey))
    for name in loaded.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(built, name))
    assert loaded.coefficient.dtype == loaded.component.dtype == np.float32


def test_a_second_load_builds_nothing(cache, settings, make_survey, monkeypatch):
    load_tables(make_survey(), settings)
    monkeypatch.setattr(tables, "build_tables", None)
    load_tables(make_survey(), settings)
    assert len(list(cache.glob("tables-*"))) == 1


@pytest.mark.parametrize("change", [{"redshift_range": (0.05, 0.07)}, {"high": 5001.0}])
def test_another_range_or_filter_has_tables_of_its_own(cache, settings, make_survey, change):
    load_tables(make_survey(), settings)
    load_tables(make_survey(**change), settings)
    assert len(list(cache.glob("tables-*"))) == 2


@pytest.mark.parametrize("change", [{"binning": "midpoint"}, {"birth_cloud_age_gyr": 0.01}, {"cosmology": "WMAP9"}])
def test_another_model_has_tables_of_its_own(cache, settings, make_survey, change):
    load_tables(make_survey(), settings)
    load_tables(make_survey(), settings.model_copy(update=change))
    assert len(list(cache.glob("tables-*"))) == 2


def test_names_columns_and_offsets_enter_no_table(cache, settings, make_survey):
    survey = make_survey()
    load_tables(survey, settings)
    load_tables(survey.model_copy(update={"name": "other", "description": "renamed"}), settings)
    assert len(list(cache.glob("tables-*"))) == 1


def test_two_builders_at_once_leave_one_folder_and_nothing_else(cache, settings, make_survey, monkeypatch):
    both, build, results = threading.Barrier(2, timeout=30), tables.build_tables, []

    def build_together(*arguments, **options):
        both.wait()
        return build(*arguments, **options)

    monkeypatch.setattr(tables, "build_tables", build_together)
    survey = make_survey()
    threads = [threading.Thread(target=lambda: results.append(load_tables(survey, settings)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    np.testing.assert_array_equal(results[0].coefficient, results[1].coefficient)
    (folder,) = cache.glob("tables-*")
    assert not folder.name.endswith(".tmp")


def test_a_cache_that_cannot_be_written_is_named(settings, make_survey, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path / "file"))
    with pytest.raises(PopcatError, match="POPCAT_CACHE"):
        load_tables(make_survey(), settings)


@pytest.mark.parametrize(
    ("band", "redshift", "wave"),
    [((29000.0, 31700.0), 0.05, 30190), ((1010.0, 2000.0), 0.06, 953)],
    ids=["red", "blue"],
)
def test_light_beyond_the_grid_is_refused_by_band_and_redshift(cache, settings, make_survey, band, redshift, wave):
    with pytest.raises(PopcatError, match=rf'band "hat" at redshift {redshift:g} needs {wave} A'):
        load_tables(make_survey(*band), settings)
    assert not cache.exists()


def test_redshift_nodes_cover_the_range_in_equal_steps():
    nodes = redshift_nodes((0.01, 0.5))
    np.testing.assert_allclose(np.expm1(nodes[[0, -1]]), [0.01, 0.5])
    np.testing.assert_allclose(np.diff(nodes), nodes[1] - nodes[0])
    assert nodes[1] - nodes[0] <= CELL_LN1PZ


def test_cells_are_narrower_where_a_break_leaves_a_band():
    """The Lyman limit is in the last Angstrom of u, and none of the nucleus's light lies below it. Every redshift is
    between the nodes of its cell, and fluxes are as exact as elsewhere."""
    lsst, everything = load_survey("lsst"), GalaxyModel(gas="cloudy", agn="temple_2021")
    survey = lsst.model_copy(update={"redshift_range": (3.34, 3.38), "bands": lsst.bands[:2],
                                     "selection": Selection(band="g", bright_mag=15.0, faint_mag=25.0)})  # fmt: skip
    photometry, prior = Photometry(survey, everything), make_prior(everything)
    widths = np.diff(photometry.tables.ln1pz)
    assert widths.min() < 0.3 * CELL_LN1PZ < widths.max()
    rng = np.random.default_rng(4)
    theta, redshift = prior.from_unit(rng.random((60, prior.n_unconstrained))), rng.uniform(3.34, 3.38, 60)
    for z in redshift:
        cell, fraction = redshift_cell.py_func(np.log1p(z), photometry.kernel_tables.cells)
        assert cell == np.searchsorted(photometry.tables.ln1pz, np.log1p(z)) - 1
        assert 0.0 <= fraction <= 1.0
    exact = reference_fluxes(theta, redshift, photometry.ingredients, load_curves(survey))
    seen = exact > 1e-8 * photometry.flux(theta, redshift).max(axis=1, keepdims=True)
    assert np.abs(photometry.flux(theta, redshift) / exact - 1.0)[seen].max() < 1e-3


def test_every_bin_is_a_weighted_mean_of_ages(model):
    z_range = (0.01, 0.6)
    first, last = cut_bins(model, z_range)
    weights = bin_weights(model, z_range, 0.3)
    n_bin = last + (last - first + 1)
    assert len(weights) == n_bin + 2 * tables.N_MOMENT
    np.testing.assert_allclose(weights[:n_bin].sum(axis=1), 1.0, rtol=1e-9)


def test_bins_of_a_universe_younger_than_those_that_merge(model):
    z_range = (17.0, 19.0)
    first, last = cut_bins(model, z_range)
    weights = bin_weights(model, z_range, 18.0)
    assert last < straight_bins(model.bases, model.bins.edges_gyr)
    np.testing.assert_allclose(weights[: last + (last - first + 1)].sum(axis=1), 1.0, rtol=1e-9)


def test_moments_sum_the_straight_bins_on_both_sides_of_the_birth_clouds(model):
    weights = bin_weights(model, (0.01, 0.6), 0.3)
    n = straight_bins(model.bases, model.bins.edges_gyr)
    width, middle = np.diff(model.bins.edges_gyr)[:n], model.bins.mid_gyr[:n]
    young, old = weights[-2 * tables.N_MOMENT :].reshape(2, tables.N_MOMENT, -1)
    for power in range(tables.N_MOMENT):
        expected = (width * middle**power) @ weights[:n]
        np.testing.assert_allclose((young + old)[power], expected, rtol=1e-12, atol=1e-15)
    assert young[0].sum() == pytest.approx(0.1)
    assert old[0].sum() == pytest.approx(model.bins.edges_gyr[n] - 0.1)


def test_columns_fill_up_with_none_of_the_light(model, curves, survey):
    built = build_tables(survey.model_copy(update={"redshift_range": (0.1, 0.101)}), model, curves)
    kernel, used = kernel_tables(built, model), len(built.column_aa)
    assert len(kernel.band) % 16 == 0
    assert not whole_components(kernel)[..., used:].any()


def test_components_are_the_light_of_every_row(model, curves, survey, monkeypatch):
    """To 3e-4 of a band's light, for 99.9% of rows, metallicities and redshifts; over two blocks of redshifts."""
    kept, add = [], Blocks.add
    monkeypatch.setattr(Blocks, "add", lambda self, light: (kept.append(light), add(self, light)))
    built = build_tables(survey.model_copy(update={"redshift_range": (0.1, 0.111)}), model, curves)
    components = whole_components(kernel_tables(built, model))
    assert (len(kept), len(components), built.block.tolist()) == (11, 12, [0] * 8 + [1] * 2)
    for i, light in enumerate(kept):
        block = built.block[min(i, 9)]
        found = built.coefficient[block].reshape(len(light), -1) @ components[i + block][:, : light.shape[1]]
        for band in range(5):
            own = built.column_band == band
            error = np.abs(found - light)[:, own].sum(axis=1) / np.abs(light[:, own]).sum(axis=1)
            assert np.quantile(error, 0.999) < 3e-4


def test_twice_the_light_is_twice_the_table(model, curves, survey):
    narrow = survey.model_copy(update={"redshift_range": (0.1, 0.101)})
    one = build_tables(narrow, model, curves[2:3])
    two = build_tables(narrow, replace(model, grid=replace(model.grid, lum=2.0 * model.grid.lum)), curves[2:3])
    light = [whole_components(kernel_tables(built, model)) for built in (one, two)]
    n = one.coefficient.shape[3]
    both = [built.coefficient[0].reshape(-1, n) @ whole[0] for built, whole in zip((one, two), light, strict=True)]
    np.testing.assert_allclose(both[1], 2.0 * both[0], rtol=1e-4, atol=1e-6 * both[0].max())
    assert one.megabytes > 0
