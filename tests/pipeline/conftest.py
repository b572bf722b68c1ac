"""A small catalogue of five bands with names, some redshifts and some fluxes missing, and its survey file."""

import numpy as np
import pandas as pd
import pytest

N = 60


@pytest.fixture(scope="session")
def mocks():
    """Galaxies of the flat prior of the survey sdss, of r 16 to 18."""
    from popcat.forward.noise import default_noise
    from popcat.galaxy_model import GalaxyModel
    from popcat.posterior.simulated import simulate_partition
    from popcat.survey import load_survey

    survey = load_survey("sdss")
    cut = survey.selection.model_copy(update={"bright_mag": 16.0, "faint_mag": 18.0})
    frame = simulate_partition(
        0, 3 * N, survey.model_copy(update={"selection": cut}), GalaxyModel(), default_noise(survey), 5
    )
    return frame[(frame["flux_r"] > 63.1) & (frame["flux_r"] < 398.0)][:N].reset_index(drop=True)


@pytest.fixture(scope="session")
def catalogue(mocks):
    """The mocks as a user has them: a pandas frame."""
    number = np.arange(len(mocks))
    frame = pd.DataFrame({"name": [f"J{i:03d}+00" for i in number], "z": mocks["redshift"].where(number % 3 > 0)})
    for band in "ugriz":
        for kind in ("flux", "flux_err"):
            frame[f"{kind}_{band}"] = mocks[f"{kind}_{band}"].astype(float)
    frame.loc[number % 7 == 0, "flux_u"] = np.nan
    return frame


@pytest.fixture(scope="session")
def survey_file(tmp_path_factory):
    """Of the catalogue, with the bands of the survey sdss."""
    from popcat.io.survey_files import survey_text
    from popcat.survey import Columns, load_survey

    survey = load_survey("sdss")
    bands = tuple(
        band.model_copy(update={"flux": f"flux_{band.name}", "flux_err": f"flux_err_{band.name}", "extinction": None,
                                "ab_offset_mag": 0.0})
        for band in survey.bands
    )  # fmt: skip
    columns = Columns(object_id="name", ra="", dec="", redshift="z")
    path = tmp_path_factory.mktemp("survey") / "mine.toml"
    path.write_text(survey_text(survey.model_copy(update={"name": "mine", "bands": bands, "columns": columns})))
    return path
