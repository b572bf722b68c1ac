"""Every file of a catalogue holds fluxes of galaxies in one unit; sky regions and slices in brightness are no fault."""

import numpy as np
import pandas as pd
import pytest

from popcat.errors import PopcatError
from popcat.io.checking import _stretches, check_catalog
from popcat.io.inspection import inspect_catalog
from popcat.io.judging import faults_among, summary_of
from popcat.io.reading import read_catalog
from popcat.io.sources import plan_chunks
from popcat.survey import Band, Columns, Selection, Survey

BANDS = "ugriz"
SLOPE = dict(zip(BANDS, (0.1, 0.4, 1.0, 1.4, 1.8), strict=True))
SURVEY = Survey(
    name="demo", redshift_range=(0.01, 0.5), columns=Columns(object_id="id", redshift="z"),
    bands=tuple(Band(name=b, filter=f"sdss2010-{b}", flux=f"f_{b}", flux_err=f"e_{b}", extinction=f"a_{b}")
                for b in BANDS),
    selection=Selection(band="r", bright_mag=12.0, faint_mag=26.0),
)  # fmt: skip


def region(n=200, first=0, seed=0, mags=(17.0, 21.0), depth=1.0, floor=0.01):
    """Galaxies of a sky region: magnitudes in r uniform in a range, errors of the sky, of photons and of a floor."""
    rng = np.random.default_rng(seed)
    r = 10 ** (0.4 * (22.5 - rng.uniform(*mags, n)))
    raw = {"id": np.arange(first, first + n), "ra": 0.0, "dec": 0.0, "z": rng.uniform(0.02, 0.4, n)}
    for band, slope in SLOPE.items():
        flux = r * slope * 10 ** rng.normal(0, 0.1, n)
        err = np.sqrt((0.1 / depth) ** 2 + 2e-3 * flux / depth**2 + (floor * flux) ** 2) * rng.uniform(0.9, 1.1, n)
        raw |= {f"f_{band}": flux + err * rng.normal(size=n), f"e_{band}": err, f"a_{band}": rng.uniform(0, 0.3, n)}
    return pd.DataFrame(raw)


def scaled(frame, factor, kinds="fe"):
    names = [f"{kind}_{band}" for kind in kinds for band in BANDS]
    return frame.assign(**{name: frame[name] * factor for name in names})


def in_magnitudes(frame):
    fluxes = {band: np.maximum(frame[f"f_{band}"], 0.01) for band in BANDS}
    mags = {f"f_{band}": 22.5 - 2.5 * np.log10(flux) for band, flux in fluxes.items()}
    return frame.assign(**mags, **{f"e_{b}": np.minimum(frame[f"e_{b}"] / fluxes[b], 1.0) for b in BANDS})


def folder_of(tmp_path, frames):
    (tmp_path / "cat").mkdir()
    for i, frame in enumerate(frames):
        frame.assign(id=frame["id"] + 10_000 * i).to_parquet(tmp_path / "cat" / f"{i:02d}.parquet", index=False)
    return tmp_path / "cat"


SPOILT = {
    "magnitudes": (in_magnitudes, r"look like magnitudes"),
    "Jy": (lambda frame: scaled(frame, 3.631e-6), r"median flux"),
    "a unit of no galaxy": (lambda frame: scaled(frame, 1e-12), r"median r magnitude would be"),
    "nJy": (lambda frame: scaled(frame, 3631.0), r"median flux"),
    "inverse variances for errors": (
        lambda frame: frame.assign(**{f"e_{b}": 1e3 / frame[f"e_{b}"] ** 2 for b in BANDS}), r"median error"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("door", [read_catalog, inspect_catalog])
def test_a_file_in_another_unit_is_refused_by_name_wherever_it_stands(case, at, door, tmp_path):
    spoil, message = SPOILT[case]
    frames = [region(seed=i) for i in range(3)]
    frames[at] = spoil(frames[at])
    with pytest.raises(PopcatError, match=rf"0{at}\.parquet.*{message}"):
        door(folder_of(tmp_path, frames), SURVEY)


def test_of_two_files_the_line_names_both(tmp_path):
    with pytest.raises(PopcatError, match=r"01\.parquet differs from .*00\.parquet") as caught:
        read_catalog(folder_of(tmp_path, [region(), scaled(region(seed=1), 3631.0)]), SURVEY)
    assert "\n" not in str(caught.value)


REGIONS = {
    "slices in brightness": [{"mags": (low, low + 1.5)} for low in np.arange(13.0, 23.0, 1.5)],
    "slices in brightness with a floor": [{"mags": (low, low + 1.5), "floor": 0.05} for low in np.arange(13, 23, 1.5)],
    "a bright file among faint ones": [{"mags": (20, 23)}, {"mags": (20, 23)}, {"mags": (14, 15)}],
    "a faint file among bright ones": [{"mags": (14, 16)}, {"mags": (14, 16)}, {"mags": (21, 23)}],
    "a deep field": [{"mags": (17, 21)}, {"mags": (17, 21)}, {"mags": (19, 24), "depth": 15.0}],
    "a deep field of the same galaxies": [{"depth": 1.0}, {"depth": 1.0}, {"depth": 20.0}],
    "a shallow one": [{"mags": (19, 24), "depth": 15.0}, {"mags": (19, 24), "depth": 15.0}, {"mags": (16, 20)}],
    "two, bright and faint": [{"mags": (13, 15)}, {"mags": (21, 23)}],
    "few rows": [{"n": 200}, {"n": 5, "mags": (12, 12.5)}],
}  # fmt: skip


@pytest.mark.parametrize("case", REGIONS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sky_regions_and_slices_in_brightness_are_no_fault(case, seed):
    frames = {str(i): region(seed=10 * seed + i, **options) for i, options in enumerate(REGIONS[case])}
    assert list(faults_among({name: summary_of(frame, SURVEY) for name, frame in frames.items()}, SURVEY)) == []


def test_a_band_that_one_file_lacks_is_no_fault(tmp_path):
    frames = [region(seed=i) for i in range(3)]
    frames[1] = frames[1].assign(f_u=np.nan, e_u=np.nan)
    assert len(read_catalog(folder_of(tmp_path, frames), SURVEY)) == sum(map(len, frames))


def test_all_rows_are_judged_by_the_check_of_a_survey(tmp_path):
    """A stretch of magnitudes in the middle of one long file, where no sample of the other door looks."""
    long = region(n=40_000)
    long.iloc[6000:11_000] = in_magnitudes(long.iloc[6000:11_000])
    long.to_parquet(tmp_path / "long.parquet", index=False)
    with pytest.raises(PopcatError, match=r"long\.parquet.*look like magnitudes"):
        inspect_catalog(tmp_path / "long.parquet", SURVEY)


def test_fluxes_where_the_survey_says_magnitudes_are_refused(tmp_path):
    region().to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(PopcatError, match=r'are no magnitudes, such as .*is it in "ab_mag"'):
        read_catalog(tmp_path / "a.parquet", SURVEY.model_copy(update={"unit": "ab_mag"}))


@pytest.mark.parametrize(("value", "is_fault"), [(-1.0, True), (-0.06, True), (-0.04, False), (20.1, True),
                                                 (3.0, False)])  # fmt: skip
@pytest.mark.parametrize("door", [read_catalog, inspect_catalog])
def test_an_extinction_that_is_none_is_refused_at_the_door(value, is_fault, door, tmp_path):
    frame = region()
    frame.loc[120, "a_g"] = value
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    if not is_fault:
        door(tmp_path / "a.parquet", SURVEY)
        return
    with pytest.raises(PopcatError, match=rf'1 of 200 rows .*extinction .*"a_g", such as {value:g}.*missing_values'):
        door(tmp_path / "a.parquet", SURVEY)
    door(tmp_path / "a.parquet", SURVEY.model_copy(update={"missing_values": (value,)}))


def test_each_fault_of_a_file_is_told_once_wherever_it_begins(tmp_path):
    """The second stretch of rows has another fault before the one that it shares with the first."""
    long = region(n=3000)
    long["a_g"] = 30.0
    long.loc[1000:, "a_u"] = 30.0
    long.to_parquet(tmp_path / "long.parquet", index=False)
    with pytest.raises(PopcatError, match='in 2 ways') as told:
        inspect_catalog(tmp_path / "long.parquet", SURVEY)
    assert [str(told.value).count(f'in column "{name}"') for name in ("a_u", "a_g")] == [1, 1]


def test_stretches_of_a_file_are_evenly_spaced_and_bounded(tmp_path):
    region(n=9000).to_parquet(tmp_path / "a.parquet", index=False, row_group_size=1000)
    found = list(_stretches(plan_chunks(tmp_path / "a.parquet", rows_per_partition=2500), 2000, 4))
    assert [(chunk.start, chunk.stop) for chunk in found] == [(875, 1375), (3125, 3625), (5375, 5875), (7625, 8125)]


def test_a_catalogue_of_thousands_of_files_costs_few_rows_of_each(monkeypatch, tmp_path):
    import popcat.io.checking as checking

    read = []
    monkeypatch.setattr(checking, "ALL_ROWS", 60)
    monkeypatch.setattr(checking, "ALL_SPANS", 3)
    before = checking.read_raw
    monkeypatch.setattr(checking, "read_raw", lambda chunk, survey: read.append(chunk) or before(chunk, survey))
    path = folder_of(tmp_path, [region(seed=i) for i in range(3)])
    check_catalog(path, SURVEY, plan_chunks(path))
    assert [(chunk.start, chunk.stop) for chunk in read] == [(0, 200)] * 3
    monkeypatch.setattr(checking, "MOST_ROWS", 199)
    read.clear()
    check_catalog(path, SURVEY, plan_chunks(path))
    assert [(chunk.start, chunk.stop) for chunk in read] == [(90, 110)] * 3
