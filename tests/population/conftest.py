"""A mock catalogue of three hundred galaxies and a population fitted to it in a few steps: honest, not good."""

import numpy as np
import pandas as pd
import pytest

BANDS = ("u", "g", "r", "i", "z")


@pytest.fixture(scope="session")
def survey_file(made_once):
    """A survey with the bands of sdss, whose catalogue is in popcat's own units."""
    from popcat.survey import load_survey

    lines = ['name = "mock"', "redshift_range = [0.001, 0.6]", '[columns]\nra = ""\ndec = ""',
             '[selection]\nband = "r"\nbright_mag = 8.0\nfaint_mag = 21.5']  # fmt: skip
    for band in load_survey("sdss").bands:
        lines.append(f'[[bands]]\nname = "{band.name}"\nfilter = "{band.filter}"')
        lines.append(f'flux = "flux_{band.name}"\nflux_err = "flux_err_{band.name}"')
        if band.wave_range_aa:
            lines.append(f"wave_range_aa = {list(band.wave_range_aa)}")
    return made_once("survey", lambda folder: (folder / "mock.toml").write_text("\n".join(lines))) / "mock.toml"


@pytest.fixture(scope="session")
def catalogue(made_once):
    """Galaxies from one corner of the prior, r < 20, one of them without a u flux."""
    return made_once("catalogue", _make_catalogue) / "catalogue.parquet"


def _make_catalogue(folder):
    from popcat.forward.noise import default_noise
    from popcat.galaxy_model import GalaxyModel
    from popcat.posterior.simulated import simulate_partition
    from popcat.survey import load_survey

    frame = simulate_partition(0, 6000, load_survey("sdss"), GalaxyModel(), default_noise(load_survey("sdss")), 3)
    frame = frame[(frame["flux_r"] > 10) & (frame["tau_ism"] < 1) & (frame["redshift"] < 0.3)]
    names = [f"{kind}_{band}" for band in BANDS for kind in ("flux", "flux_err")]
    kept = frame[["object_id", "redshift", *names]][:500].reset_index(drop=True)
    kept.loc[0, "flux_u"] = np.nan
    pd.DataFrame(kept).to_parquet(folder / "catalogue.parquet")


@pytest.fixture(scope="session")
def quick():
    """Settings of a fit that takes a second."""
    from popcat.population.settings import PopulationSettings

    return PopulationSettings(members=2, n_blocks=2, hidden=16, n_bins=4, steps=6, batch=(300, 300), projections=8,
                              check_every=3, start_steps=6, start_batch=200, library=1000, iterations=2, rounds=2,
                              galaxies=32, second_start="none")  # fmt: skip


@pytest.fixture(scope="session")
def fitted(made_once, catalogue, survey_file, quick):
    """The folder of a population of two flows."""
    from popcat.population.fit import fit_population
    from popcat.run.client import SYNCHRONOUS

    def make(folder):
        fit_population(catalogue, folder / "population", survey=survey_file, cuts=["r<20"], settings=quick,
                       client=SYNCHRONOUS, samples=2000)  # fmt: skip

    return made_once("population", make) / "population"
