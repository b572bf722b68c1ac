"""The figures: they draw the numbers they are given, survive awkward ones, and leave no trace in matplotlib."""

import base64
import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from popcat import plots
from popcat.errors import PopcatError
from popcat.galaxies import STATUS
from popcat.plots import style


def population(n=300, failed=20):
    """Scalar columns of a posterior catalogue, the last `failed` rows without a posterior."""
    rng = np.random.default_rng(2)
    mass = rng.normal(10.5, 0.4, n)
    sfr = mass - 10 + rng.normal(0, 0.4, n)
    frame = pd.DataFrame({"redshift_p50": rng.uniform(0.01, 0.3, n), "chi2_best": rng.chisquare(3, n)})
    for name, middle, width in (("log_mstar", mass, 0.1), ("log_sfr_1gyr", sfr, 0.3)):
        frame[f"{name}_p16"], frame[f"{name}_p50"], frame[f"{name}_p84"] = middle - width, middle, middle + width
    frame["status"] = "ok"
    lost = frame.index >= n - failed
    frame.loc[lost, "status"] = "no_photometry"
    frame.loc[lost, [name for name in frame if name != "status"]] = np.nan
    return frame


def curves():
    wave_aa = np.arange(3000.0, 10500.0, 20.0)
    centres = {"u": 3560, "g": 4720, "r": 6180, "i": 7490, "z": 8950}
    return [(name, wave_aa, np.exp(-0.5 * ((wave_aa - centre) / 250) ** 2)) for name, centre in centres.items()]


def sed(flux=(4.0, 18.0, 40.0, 60.0, 75.0), flux_err=(1.0, 0.5, 0.8, 1.2, 3.0), **options):
    model = np.array([5.0, 19.0, 40.0, 59.0, 76.0]) * (1 + 0.02 * np.random.default_rng(4).normal(size=(80, 5)))
    return model, plots.galaxy_sed(curves(), flux, flux_err, model, title="galaxy 1", **options)


def draws(n=400):
    rng = np.random.default_rng(8)
    return {name: rng.normal(size=n) for name in style.CORNER}


def ranks(n=500):
    rng = np.random.default_rng(6)
    return {name: rng.random(n) for name in ("log_mstar", "tau_ism", "n_dust", "f_burst", "age_mw_gyr")}


def sequence():
    random = np.random.default_rng(3)
    mass, sfr = random.normal(10.5, 0.5, 300), random.normal(0.0, 0.7, 300)
    x, y = np.linspace(8.5, 12.5, 21), np.linspace(-3.0, 3.0, 31)
    return mass, sfr, np.histogram2d(mass, sfr, bins=[x, y])[0] + 0.1, x, y


def marginals():
    edges = {name: np.linspace(-3.0, 3.0, 31) for name in style.CORNER}
    medians = draws(200)
    mass = {name: np.histogram(values, edges[name])[0] + 1.0 for name, values in medians.items()}
    return edges, mass, medians, draws()


def sky(width, n=200):
    random = np.random.default_rng(9)
    return (350.0 + width * random.random(n)) % 360.0, random.uniform(-0.5, 0.5, n)


def past():
    edges = np.array([0.0, 0.1, 1.0, 5.0, 9.0, 13.0])
    sfr = np.random.default_rng(1).uniform(1.0, 3.0, (50, 5))
    sfr[:, -1] = np.nan  # before the Big Bang
    return edges, sfr


def history():
    return [{"epoch": e, "train": 3 - 0.3 * e, "validation": 3.1 + 0.02 * (e - 5) ** 2} for e in range(9)]


FIGURES = {
    "mass_redshift": lambda: plots.mass_redshift(population()),
    "status_counts": lambda: plots.status_counts(population()),
    "chi2_histogram": lambda: plots.chi2_histogram(population(), 5),
    "stacked_sequence": lambda: plots.stacked_sequence(*sequence()),
    "stacked_marginals": lambda: plots.stacked_marginals(*marginals()),
    "sky_map": lambda: plots.sky_map(*sky(300.0)),
    "sky_map of a field": lambda: plots.sky_map(*sky(2.0)),
    "galaxy_sfh": lambda: plots.galaxy_sfh(*past(), title="galaxy 1", prior=past()[1]),
    "overlaid_corner": lambda: plots.overlaid_corner(draws(), draws(300), title=f"object_id {10**18}"),
    "galaxy_corner": lambda: plots.galaxy_corner(draws(), title="galaxy 1"),
    "galaxy_sed": lambda: sed()[1],
    "pp_curves": lambda: plots.pp_curves(ranks(), dict.fromkeys(ranks(), 0.03), 0.036),
    "rank_histograms": lambda: plots.rank_histograms(ranks()),
    "loss_curve": lambda: plots.loss_curve(history()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_labelled_and_changes_nothing_global(name):
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    words = [figure.get_supxlabel(), figure.get_supylabel()]
    words += [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel())]
    assert any(words)
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_is_cut(name):
    canvas = FigureCanvasAgg(FIGURES[name]())
    with rc_context(style.STYLE):
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all(), "ink reaches the edge of the figure"


def test_a_small_figure_keeps_the_colours_of_thin_lines():
    uri = plots.figure_to_data_uri(plots.mass_redshift(population(3000, failed=0)))
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    for name in (style.PURPLE, style.ORANGE, style.INK, "#ffffff"):
        colour = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels - colour).max(axis=1).min() < 16, name


def test_a_notebook_shows_a_figure_by_itself():
    assert FIGURES["sky_map"]()._repr_png_().startswith(b"\x89PNG")


def test_the_sky_map_counts_every_galaxy_that_has_a_position():
    ra, dec = sky(300.0)
    figure = plots.sky_map(np.append(ra, np.nan), np.append(dec, 10.0))
    assert figure.axes[0].collections[0].get_array().sum() == len(ra)
    assert figure.axes[0].get_title() == "200 galaxies, 1 without a position are left out"
    with pytest.raises(PopcatError, match="no galaxy has a position"):
        plots.sky_map(np.array([np.nan]), np.array([0.0]))


def test_a_field_across_right_ascension_zero_is_in_one_piece():
    ax = plots.sky_map(np.array([359.0, 0.5, 1.0]), np.array([0.0, 0.2, 0.4])).axes[0]
    left, right = ax.get_xlim()
    assert left > right and left - right < 4.0  # east is left


def test_stacked_posteriors_and_medians_are_densities_over_all_galaxies():
    edges, mass, medians, prior = marginals()
    figure = plots.stacked_marginals(edges, mass, medians, prior, np.ones(400))
    for ax, ends in zip(figure.axes, edges.values(), strict=False):
        below, stacked, middles = (patch.get_data().values for patch in ax.patches)
        assert (stacked * np.diff(ends)).sum() == pytest.approx(1.0)
        assert 0.97 < (middles * np.diff(ends)).sum() <= 1.0 and 0.97 < (below * np.diff(ends)).sum() <= 1.0


def test_the_medians_beside_the_stacked_posteriors_are_counted_in_the_same_cells():
    mass, sfr, stacked, x, y = sequence()
    left, right = (ax.collections[0].get_array() for ax in plots.stacked_sequence(mass, sfr, stacked, x, y).axes[:2])
    inside = (mass >= x[0]) & (mass <= x[-1]) & (sfr >= y[0]) & (sfr <= y[-1])
    assert left.sum() == inside.sum() and left.shape == right.shape


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("draw", [plots.mass_redshift, lambda frame: plots.chi2_histogram(frame, 5)])
def test_a_handful_of_galaxies_can_be_drawn(draw, n, tmp_path):
    plots.save_figure(draw(population(n, failed=0)), tmp_path / "few.png")
    assert (tmp_path / "few.png").stat().st_size > 5000


def test_rows_without_a_posterior_are_left_out():
    frame = population(300, failed=120)
    counts, expected = (plots.mass_redshift(part).axes[0].collections[0].get_array() for part in (frame, frame[:180]))
    np.testing.assert_array_equal(counts, expected)
    assert 170 <= counts.sum() <= 180


def test_a_catalogue_without_posteriors_is_refused():
    with pytest.raises(PopcatError, match="no row has finite"):
        plots.mass_redshift(population(10, failed=10))


def test_chi2_histogram_counts_every_galaxy_with_a_posterior():
    frame = population(300, failed=20)
    ax = plots.chi2_histogram(frame, 5).axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == 280
    assert ax.lines[1].get_xdata()[0] == pytest.approx(stats.chi2.isf(1e-4, 5))


def test_status_bars_are_as_long_as_the_counts():
    ax = plots.status_counts(population(300, failed=20)).axes[0]
    lengths = dict(zip(STATUS, (bar.get_width() for bar in ax.patches), strict=True))
    assert lengths["ok"] == 280 and lengths["no_photometry"] == 20
    assert [text.get_text().split()[0] for text in ax.texts] == ["280", "20", "0"]


def test_sed_residuals_are_in_units_of_the_flux_error():
    model, figure = sed()
    segments = figure.axes[1].collections[-1].get_segments()
    flux, flux_err = np.array([4.0, 18.0, 40.0, 60.0, 75.0]), np.array([1.0, 0.5, 0.8, 1.2, 3.0])
    expected = np.median((flux - model) / flux_err, axis=0)
    np.testing.assert_allclose([segment[0, 1] for segment in segments], expected)


def test_a_negative_flux_keeps_its_place_on_an_asinh_axis():
    _, figure = sed(flux=(-2.5, 18.0, 40.0, 60.0, 75.0))
    ax = figure.axes[0]
    assert ax.get_yscale() == "asinh" and "asinh" in ax.get_ylabel()
    points = ax.containers[-1].lines[0].get_ydata()
    np.testing.assert_array_equal(points, [-2.5, 18.0, 40.0, 60.0, 75.0])
    low, high = ax.get_ylim()
    assert low < -3.5 and high > 78.0
    assert 0.0 in ax.get_yticks()


def test_positive_fluxes_get_a_logarithmic_axis_that_holds_them():
    _, figure = sed()
    ax = figure.axes[0]
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 3.0 and ax.get_ylim()[1] > 78.0
    assert 3 <= len(ax.get_yticks()) <= 9


def test_a_spectrum_does_not_move_the_flux_axis():
    wave_aa = np.linspace(900.0, 30000.0, 300)
    spike = np.where(wave_aa < 1200, 1e-9, 50.0)
    with_spectrum = sed(spectrum=(wave_aa, 0.9 * spike, spike, 1.1 * spike))[1].axes[0]
    without = sed()[1].axes[0]
    assert with_spectrum.get_ylim() == without.get_ylim()
    assert with_spectrum.get_xlim() == without.get_xlim()


def test_a_missing_band_leaves_the_others_drawn(tmp_path):
    _, figure = sed(flux=(np.nan, 18.0, 40.0, 60.0, 75.0))
    assert figure.axes[0].get_yscale() == "log"
    plots.save_figure(figure, tmp_path / "gap.png")
    assert np.isfinite(figure.axes[1].get_ylim()).all()


def test_corner_shows_every_quantity_and_a_constant_one():
    sample = draws(60) | {"tau_ism": np.full(60, 0.3)}
    figure = plots.galaxy_corner(sample, title="galaxy 1")
    assert len(figure.axes) == 25
    low, high = figure.axes[-1].get_xlim()
    assert low < 0.3 < high
    assert figure.texts[0].get_text() == "galaxy 1"


def test_corner_has_the_prior_in_grey_below_and_marks_what_stays_it():
    sample, wide = draws(60), {name: 3.0 * values for name, values in draws(400).items()}
    alone = plots.galaxy_corner(sample, title="galaxy 1")
    figure = plots.galaxy_corner(sample, title="galaxy 1", prior=wide, stays_prior=["age_mw_gyr"])
    assert figure.texts[0].get_text() == "galaxy 1\ngrey: the prior"
    for i, (before, after) in enumerate(zip(alone.axes, figure.axes, strict=True)):
        assert before.get_xlim() == after.get_xlim()
        if i // 5 > i % 5:
            assert before.get_ylim() == after.get_ylim()
            assert len(after.collections) == len(before.collections) + 1  # contours
    heights = [patch.get_path().vertices[:, 1].max() for patch in figure.axes[0].patches]
    assert len(heights) == 2 and heights[1] < heights[0]  # less of a wider prior is in the panel
    titles = [figure.axes[6 * i].get_title() for i in range(5)]
    assert ["prior-dominated" in title for title in titles] == [False, False, False, True, False]
    constant = wide | {"tau_ism": np.full(400, 0.3)}
    assert len(plots.galaxy_corner(sample, title="galaxy 1", prior=constant).axes) == 25


def test_corner_of_too_few_draws_is_refused():
    with pytest.raises(PopcatError, match="at least 10 finite draws, got 4"):
        plots.galaxy_corner(draws(4), title="galaxy 1")


def test_pp_curves_end_on_the_diagonal_inside_a_band_as_wide_as_the_limit():
    n = 400
    exact = {"log_mstar": (np.arange(n) + 0.5) / n}
    figure = plots.pp_curves(exact, {"log_mstar": 0.5 / n}, 0.036)
    (ax,) = figure.axes
    curve = ax.lines[-1]
    assert curve.get_xydata()[0].tolist() == [0, 0] and curve.get_xydata()[-1].tolist() == [1, 0]
    assert np.abs(curve.get_ydata()).max() == pytest.approx(0.5 / n)
    assert ax.patches[0].get_height() == pytest.approx(2 * 0.036)


def test_only_the_p_p_curves_farthest_from_the_diagonal_have_names():
    many = {f"column{i}": np.random.default_rng(i).random(200) for i in range(12)}
    ks = {name: 0.01 * (1 + i) for i, name in enumerate(many)}
    (ax,) = plots.pp_curves(many, ks, 0.09).axes
    named = [label.split()[0] for label in ax.get_legend_handles_labels()[1]]
    assert named == ["limit", "7", *(f"column{i}" for i in (11, 10, 9, 8, 7))]
    assert len(ax.lines) == 13


def test_rank_histograms_keep_every_rank_in_one_panel_a_quantity():
    figure = plots.rank_histograms(ranks(500), n_bins=10)
    shown = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in shown] == list(ranks())
    for ax, values in zip(shown, ranks(500).values(), strict=True):
        counts, _ = np.histogram(values, bins=10, range=(0, 1))
        outline = ax.patches[-1].get_xy()[:, 1]
        assert outline.max() == counts.max() and set(counts) <= set(outline)


def test_loss_curve_marks_the_epoch_of_the_smallest_validation_loss():
    labels = plots.loss_curve(history()).axes[0].get_legend_handles_labels()[1]
    assert labels == ["training", "validation", "best: epoch 5"]


def test_a_data_uri_holds_a_png():
    head, _, body = plots.figure_to_data_uri(plots.loss_curve(history())).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body).startswith(b"\x89PNG\r\n")


def test_a_figure_is_saved_in_the_format_of_its_suffix(tmp_path):
    plots.save_figure(plots.loss_curve(history()), tmp_path / "loss.pdf")
    assert (tmp_path / "loss.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("n_bands", [5, 25])
def test_names_of_bands_do_not_overlap(n_bands):
    wave = np.geomspace(3500.0, 45_000.0, n_bands)
    grid = np.geomspace(3000.0, 60_000.0, 4000)
    many = [(f"band{i}", grid, np.exp(-0.5 * ((grid - one) / 150.0) ** 2)) for i, one in enumerate(wave)]
    flux = np.ones(n_bands)
    figure = plots.galaxy_sed(many, flux, 0.1 * flux, np.ones((40, n_bands)), title="galaxy 1")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith("band")]
    assert len(boxes) == 5 if n_bands == 5 else 5 <= len(boxes) < 25
    boxes.sort(key=lambda box: box.x0)
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
