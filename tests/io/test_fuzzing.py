"""Laws that hold for every catalogue, whatever its form: no row lost, the right numbers, or a line that says why not.

Catalogues and files are made at random (tests/shared/fuzzed.py). `-m slow` tries a hundred times as many.
"""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzed import Form, catalogues, forms, raw_columns, survey_of_form, write
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from popcat.errors import CatalogWarning, PopcatError
from popcat.galaxies import FLAGS, OBJECT_NAME
from popcat.io.reading import read_catalog
from popcat.io.tables import photometry_of

pytestmark = pytest.mark.filterwarnings("ignore::popcat.errors.CatalogWarning")
FAST = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
                phases=(Phase.generate,))  # fmt: skip
MANY = settings(FAST, max_examples=3000)


def read(path, survey, rows=2500) -> pd.DataFrame:
    return read_catalog(path, survey, rows_per_partition=rows).compute(scheduler="synchronous").reset_index(drop=True)


def identifiers(frame) -> list:
    """As the catalogue has them."""
    return frame[OBJECT_NAME if OBJECT_NAME in frame else "object_id"].tolist()


def require_right(frame, made, form, *, or_missing: bool = False):
    """Every row is there, in order, with the numbers of the catalogue (or, where allowed, a number less)."""
    assert list(map(str, identifiers(frame))) == list(map(str, made.object_id))
    tolerance = 2e-5 if form.single else 5e-7  # magnitudes of 30 in single precision; fluxes are stored in single
    for name, values in made.expected(form).items():
        found = frame[name].to_numpy(dtype=float)
        if or_missing:
            values = np.where(np.isnan(found), np.nan, values)
        np.testing.assert_allclose(found, values, rtol=tolerance, err_msg=name)
    missing = np.isnan(frame.filter(regex="^flux_").to_numpy()).any(axis=1)
    assert ((frame["flags"] & FLAGS["missing_band"] != 0) == missing).all()
    assert ((frame["flags"] & FLAGS["missing_redshift"] != 0) == np.isnan(frame["redshift"])).all()


@st.composite
def written(draw, **options):
    made = draw(catalogues(**options))
    return made, draw(forms(made))


def law_of_numbers(case):
    made, form = case
    with tempfile.TemporaryDirectory() as folder:
        require_right(read(write(made, form, Path(folder)), survey_of_form(made, form)), made, form)


def law_of_parts(case, rows):
    made, form = case
    with tempfile.TemporaryDirectory() as folder:
        path, survey = write(made, form, Path(folder)), survey_of_form(made, form)
        pd.testing.assert_frame_equal(read(path, survey, rows), read(path, survey))


def law_of_order(case, seed):
    made, form = case
    turned = made[np.random.default_rng(seed).permutation(len(made))]
    with tempfile.TemporaryDirectory() as folder:
        one, other = (Path(folder) / name for name in "ab")
        for place in (one, other):
            place.mkdir()
        survey = survey_of_form(made, form)
        frames = [read(write(*what, place), survey).sort_values("object_id", ignore_index=True)
                  for what, place in (((made, form), one), ((turned, replace(form, cuts=())), other))]
        pd.testing.assert_frame_equal(*frames)


def law_of_memory(case, kind):
    made, form = case
    columns = {form.names[role]: values for role, values in raw_columns(made, form).items()}
    require_right(photometry_of(_TABLES[kind](columns), survey_of_form(made, form)), made, form)


def _arrow(columns):
    import pyarrow as pa

    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def _astropy(columns):
    from astropy.table import Table

    return Table({name: np.asarray(values) for name, values in columns.items()})


_TABLES = {"pandas": pd.DataFrame, "arrow": _arrow, "astropy": _astropy}


OF_BYTES = ("cut off", "garbage", "empty")
DAMAGE = (*OF_BYTES, "repeated id", "no id", "text", "no column", "repeated name", "infinite",
          "negative redshift", "extinction", "other kind of id", "odd unit", "boolean", "one list")  # fmt: skip


def law_of_damage(case, damage, seed):
    """A damaged catalogue is refused in words, or read with nothing but right numbers and missing ones."""
    made, form = case
    if damage not in OF_BYTES and form.suffix not in (".parquet", ".csv"):
        form = replace(form, suffix=".parquet")
    with tempfile.TemporaryDirectory() as folder:
        survey = survey_of_form(made, form)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", CatalogWarning)
                frame = read(_damaged(made, form, damage, np.random.default_rng(seed), Path(folder)), survey)
        except PopcatError as error:
            assert str(error).strip() and "Traceback" not in str(error)
            return
        if damage == "repeated id":
            assert len(made) == 1
        elif damage == "cut off" and any("ends within a line" in str(one.message) for one in said):
            pass
        elif damage == "cut off" and form.suffix in (".csv", ".txt", ".ecsv"):  # between two lines: nothing can show it
            assert set(identifiers(frame)) <= set(made.object_id)
        elif damage == "other kind of id":
            assert len(list(Path(folder).iterdir())) == 1
        elif damage == "infinite":
            assert len(frame) == len(made)
        elif damage == "odd unit":
            require_right(frame, made, form)
        else:
            require_right(frame, made, form, or_missing=True)


def _damaged(made, form: Form, damage: str, random, folder: Path) -> Path:
    """The catalogue's files, one of which has one fault."""
    row, band = int(random.integers(len(made))), random.integers(len(made.bands))
    role = ("flux", "flux_err")[random.integers(2)] + f" {made.bands[band]}"
    if damage == "repeated id":
        made = replace(made, object_id=[*made.object_id[:-1], made.object_id[0]])
    elif damage == "infinite":
        values = made.flux.copy()
        values[row, band] = np.inf
        made = replace(made, flux=values)
    elif damage == "odd unit":
        form = replace(form, states_unit=False)
    path = write(made, form, folder)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    victim = files[random.integers(len(files))]
    if damage in OF_BYTES:
        data = bytearray(victim.read_bytes())
        if damage == "cut off":
            data = data[: int(random.integers(1, len(data)))]
        elif damage == "garbage":
            data[:40] = random.bytes(min(40, len(data)))
        victim.write_bytes(b"" if damage == "empty" else data)
        return path
    frame = pd.read_parquet(victim) if form.suffix == ".parquet" else pd.read_csv(victim)
    name, last = form.names[role], len(frame) - 1
    row = min(row, last)
    match damage:
        case "no id":
            frame[form.names["object_id"]] = frame[form.names["object_id"]].astype(object).where(frame.index != row)
        case "text":
            frame[name] = frame[name].astype(str).where(frame.index != row, "n/a (see notes)")
        case "no column":
            frame = frame.drop(columns=name)
        case "repeated name" if form.suffix == ".csv":
            text = victim.read_text().splitlines()
            victim.write_text("\n".join(f"{line},{frame.columns[0] if i == 0 else 1}" for i, line in enumerate(text)))
            return path
        case "negative redshift":
            frame.loc[row, form.names["redshift"]] = -9.99
        case "extinction":
            for key in (key for key in form.names if key.startswith("extinction")):
                frame.loc[row, form.names[key]] = -1.0
        case "other kind of id" if len(files) > 1:
            ids = frame[form.names["object_id"]]
            frame[form.names["object_id"]] = [f"J{name}" for name in ids] if ids.dtype == "int64" else range(len(ids))
        case "boolean":
            frame[name] = frame[name] > 0
        case "one list" if form.suffix == ".parquet":
            frame[name] = [[value] for value in frame[name]]
    if form.suffix == ".parquet":
        frame.to_parquet(victim, index=False)
    else:
        frame.to_csv(victim, index=False)
    return path


ROWS, SEEDS, KINDS = st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from(sorted(_TABLES))
FAULTS = st.sampled_from(DAMAGE)


@FAST
@given(written())
def test_numbers_are_right_in_every_form(case):
    law_of_numbers(case)


@FAST
@given(written(), ROWS)
def test_numbers_do_not_depend_on_the_parts(case, rows):
    law_of_parts(case, rows)


@FAST
@given(written(), SEEDS)
def test_numbers_do_not_depend_on_order_and_files(case, seed):
    law_of_order(case, seed)


@FAST
@given(written(), KINDS)
def test_tables_in_memory_are_as_files(case, kind):
    law_of_memory(case, kind)


@settings(FAST, max_examples=100)
@given(written(), FAULTS, SEEDS)
def test_what_is_damaged_is_refused_or_right(case, damage, seed):
    law_of_damage(case, damage, seed)


@pytest.mark.slow
@MANY
@given(written(), FAULTS, KINDS, ROWS, SEEDS)
def test_every_law_of_many_catalogues(case, damage, kind, rows, seed):
    law_of_numbers(case)
    law_of_parts(case, rows)
    law_of_order(case, seed)
    law_of_memory(case, kind)
    law_of_damage(case, damage, seed)
