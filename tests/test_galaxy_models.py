"""Other galaxy models from end to end: a library, a model trained on it, posteriors, calibration, report."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from popcat.checks.calibration import calibrate
from popcat.columns import parameter_fields, posterior_schema
from popcat.flows.settings import Training
from popcat.forward.histories import load_bases
from popcat.galaxy_model import GalaxyModel
from popcat.inference.infer import infer
from popcat.pages.report import report
from popcat.posterior.library import simulate
from popcat.posterior.training import train
from popcat.prior import make_prior
from popcat.run.client import SYNCHRONOUS
from popcat.survey import load_survey

TRAINING = Training(hidden=16, n_blocks=2, n_layers=1, batch=64, learning_rate=1e-2, max_epochs=1, redshift_epochs=1,
                    redshift_hidden=16)  # fmt: skip


@pytest.fixture
def three_bases(tmp_path):
    """A CSV file of three star-formation bases and two of metallicity."""
    popcat = load_bases("popcat")
    table = np.column_stack([popcat.lookback_gyr, *popcat.sfh[:3], *popcat.zh])[:-1]
    np.savetxt(tmp_path / "b.csv", table, delimiter=",", header="lookback_gyr,sfh1,sfh2,sfh3,zh1,zh2", comments="")
    return str(tmp_path / "b.csv")


@pytest.mark.parametrize("kind", ["constant", pytest.param("3 bases", marks=pytest.mark.slow)])
def test_a_galaxy_model_goes_from_library_to_report(kind, three_bases, galaxies, tmp_path):
    chosen = {"metallicity": "constant"} if kind == "constant" else {"bases": three_bases}
    model, survey = GalaxyModel(log_mstar_formed=(9.5, 12.5), **chosen), load_survey("sdss")
    names = make_prior(model).names
    simulate(survey, 3000, output=tmp_path / "library", galaxy_model=model, client=SYNCHRONOUS)
    library = pq.read_table(tmp_path / "library" / "part-000000.parquet")
    assert library.column_names[2 : 2 + len(names)] == list(names)
    posterior = train(tmp_path / "library", tmp_path / "model", settings=TRAINING)
    with pytest.warns(UserWarning, match="has no calibration"):
        infer(galaxies, tmp_path / "model", output=tmp_path / "out", draws=20, allow_uncalibrated=True,
              client=SYNCHRONOUS)  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    assert table.schema.names == posterior_schema(posterior.survey, model).names
    ok = table.filter(np.array(table["status"].to_pylist()) == "ok")
    theta = np.column_stack([np.concatenate(ok[f"{name}_draws"].to_pylist()) for name in parameter_fields(model)])
    assert theta.shape == (20 * ok.num_rows, len(names))
    assert posterior.prior.contains(theta.astype(float), tolerance=1e-5).all()
    assert set(calibrate(tmp_path / "model", n=20, draws=20).first.ks) >= set(names)
    assert report(tmp_path / "out", tmp_path / "report.html").stat().st_size > 10_000
