"""popcat as an estimator of RAIL, the photometric-redshift pipelines of LSST DESC.

    python examples/rail_estimator.py CATALOG POSTERIOR OUTPUT.hdf5

It needs pz-rail-base: pip install 'popcat[rail]'. A RAIL pipeline imports `PopcatEstimator` from a copy of this file.
"""

import sys

import numpy as np
import pandas as pd
import qp
from ceci.config import StageParameter as Param
from rail.core.data import TableHandle
from rail.estimation.estimator import CatEstimator

import popcat
from popcat.catalog.photoz import density, estimates, redshift_grid
from popcat.catalog.qp_ensemble import ANCIL


class PopcatEstimator(CatEstimator):
    """p(z) of each galaxy from its photometry alone, by a trained posterior of popcat.

    The columns of the input are those that the survey file names. A redshift among them is not used. A galaxy without a
    posterior has a flat p(z), and False in the column `has_posterior` of the ancillary table. There is nothing to
    inform: a posterior is trained by `popcat train`.
    """

    name = "PopcatEstimator"
    entrypoint_function = "estimate"
    interactive_function = "popcat_estimator"
    inputs = [("input", TableHandle)]  # noqa: RUF012
    config_options = CatEstimator.config_options.copy()
    config_options.update(
        posterior=Param(str, "lsst", msg="folder of a trained posterior, or the name of an embedded one"),
        survey=Param(str, "", msg="survey file of the input's columns, where it is not the posterior's own"),
        draws=Param(int, 200, msg="posterior draws per galaxy"),
        seed=Param(int, 0, msg="seed of the draws"),
        allow_uncalibrated=Param(bool, False, msg="use a posterior that has not passed its calibration"),
    )

    def open_model(self, tag="model", **kwargs):
        """The trained posterior, and the survey that says what the columns mean."""
        self.model = popcat.load_posterior(self.config.posterior)
        self.survey = popcat.load_survey(self.config.survey) if self.config.survey else self.model.survey
        self.grid = redshift_grid(self.config.nzbins, (self.config.zmin, self.config.zmax))
        return self.model

    def validate(self):
        """popcat checks the columns itself, when it reads them."""

    def _process_chunk(self, start, end, data, first):
        frame = pd.DataFrame(dict(self._convert_table_format(data)))
        if self.survey.columns.object_id not in frame:
            frame[self.survey.columns.object_id] = np.arange(start, end)
        found = popcat.infer(frame, self.config.posterior, survey=self.survey, draws=self.config.draws,
                             seed=self.config.seed, hide_redshift=True, client="synchronous",
                             allow_uncalibrated=self.config.allow_uncalibrated)  # fmt: skip
        has_posterior = found["redshift_draws"].notna().to_numpy()
        pdf = np.full((len(found), len(self.grid)), 1 / (self.grid[-1] - self.grid[0]))
        ancil = {name: np.full(len(found), np.nan) for name in ANCIL.values()}
        if has_posterior.any():
            draws = np.stack(found["redshift_draws"][has_posterior].to_numpy())
            pdf[has_posterior] = density(draws, self.grid)
            points = estimates(draws, self.grid)
            for ours, theirs in ANCIL.items():
                ancil[theirs][has_posterior] = points[ours]
        ancil |= {"object_id": found["object_id"].to_numpy(), "has_posterior": has_posterior}
        ensemble = qp.Ensemble(qp.interp, data={"xvals": self.grid, "yvals": pdf})
        ensemble.set_ancil(ancil)
        self._do_chunk_output(ensemble, start, end, first, data=data)


def main(path: str, posterior: str, output: str) -> None:
    """The densities of a catalogue, in a file that qp reads."""
    low, high = popcat.load_posterior(posterior).survey.redshift_range
    stage = PopcatEstimator.make_stage(name="popcat", posterior=posterior, zmin=low, zmax=high, hdf5_groupname="",
                                       output=output)  # fmt: skip
    found = stage.estimate(pd.read_parquet(path)).read()
    print(f"{found.npdf} densities, {int(found.ancil['has_posterior'].sum())} galaxies have a posterior, in {output}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
