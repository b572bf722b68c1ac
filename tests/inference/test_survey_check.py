"""`check_survey` of a catalogue in which no galaxy can have a posterior."""

import re

import pandas as pd
import pytest

from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.inference.survey_check import check_survey

HOPELESS = {
    "velocities": ({"redshift": 5000.0}, 'redshift_out_of_range 150.*column "redshift" has 5000 to 5000'),
    "no fluxes": ({f"modelflux_{band}": float("nan") for band in "ugriz"},
                  "no_photometry 150.*no band has a finite flux"),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_a_catalogue_without_a_galaxy_to_infer_is_told_in_words(galaxies, tmp_path, case):
    columns, words = HOPELESS[case]
    pd.read_parquet(galaxies).assign(**columns).to_parquet(tmp_path / "a.parquet")
    found = check_survey(tmp_path / "a.parquet", "sdss")
    assert found.inferable == 0
    assert re.search(f"none of the 150 galaxies that were read can have a posterior .*{words}", found.remarks[0])


def test_the_galaxies_that_can_be_inferred_are_counted(galaxies):
    assert 0 < check_survey(galaxies, "sdss").inferable <= 150


def test_rows_as_dicts_are_no_catalogue(galaxies, tiny_model):
    with pytest.raises(PopcatError, match=r"got a list of dict; .*pandas\.DataFrame\(rows\)"):
        infer(pd.read_parquet(galaxies).to_dict("records"), tiny_model, draws=4)
