"""The steps of a fit, each skipped where its product is there and made of the same."""

import shlex
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from popcat.catalog.manifest import META
from popcat.catalog.queries import open_catalog
from popcat.checks.calibration import calibrate, calibration_of, default_output
from popcat.columns import posterior_schema
from popcat.display import duration
from popcat.errors import PopcatError
from popcat.files import sha256_of, write_bytes_atomic
from popcat.flows.settings import Training
from popcat.forward.noise import load_noise
from popcat.forward.properties import forward_for
from popcat.inference.infer import infer
from popcat.inference.partition import rows_per_part
from popcat.io.inspection import fit_noise
from popcat.io.named import Source, label_of
from popcat.io.survey_files import settings_text
from popcat.pages.report import report
from popcat.physical.prior import physical_prior
from popcat.pipeline.given import SURVEY, Given
from popcat.pipeline.record import Chosen, FitRecord, StepRecord, read_fit, same_fit
from popcat.pipeline.result import FitResult, result_of
from popcat.pipeline.sizes import FITTED, FLOW, NOMINAL, Sizes, choose_sizes, measure, planned_s, training_for
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.library import open_library, simulate
from popcat.posterior.locations import DESCRIPTION
from popcat.posterior.posterior import load_posterior, save_posterior
from popcat.posterior.training import CHECKPOINTS, train
from popcat.prior import BOTH, FLAT, PHYSICAL
from popcat.run.client import SYNCHRONOUS, Where, active, cores
from popcat.run.steps import Steps
from popcat.settings import sha256_of_json

NAMES = {
    "catalogue": "looking at the catalogue", "noise": "fitting the noise",
    "tables": "making tables of the bands' light", "sizes": "measuring this machine", "simulate": "simulating",
    "train": "training", "calibrate": "calibrating", "infer": "inferring", "report": "writing the report",
}  # fmt: skip
"""The steps, in their order."""
NOISE, MODEL, TRAINING = "noise.json", "galaxy_model.toml", "training.toml"
LIBRARY, POSTERIOR, POSTERIORS, PAGE = "library", "posterior", "posteriors", "report.html"
"""What a fit leaves in its folder, beside the survey file and fit.json."""
_LIBRARY_PARTS, _LEAST_LIBRARY_ROWS = 16, 2000
_PARTS, _LEAST_ROWS = 16, 25


@dataclass
class Run:
    """One fit as it goes: what it is given, its folder, its record."""

    given: Given
    folder: Path
    options: dict[str, Any]
    steps: Steps
    client: Where
    workers: int | None
    log: str | Path | None
    ends: float
    training: Training | None
    record: FitRecord | None = None

    def run(self, began: float) -> FitResult:
        """All steps, those that are done skipped, and what came of them."""
        self._begin()
        noise = self._step("noise", self.folder / NOISE, self._noise, self.given.digest)
        sizes = self._sizes(noise)
        library = self._step("simulate", self.folder / LIBRARY, self._simulate, noise, sizes.library)
        self._step("train", self.folder / POSTERIOR, self._train, library)
        name = load_posterior(self.folder / POSTERIOR).name
        if self._chosen.proposals == FLOW:
            self._step("calibrate", default_output(self.folder / POSTERIOR, self._priors()[0]), self._calibrate, name)
        self._step("infer", self.folder / POSTERIORS, self._infer, name, self.given.digest)
        manifest = sha256_of(self.folder / POSTERIORS / META / "manifest.json")
        self._step("report", self.folder / PAGE, self._report, manifest)
        made = self._record.steps
        result = result_of(self.folder, POSTERIORS, PAGE, {name: one.command for name, one in made.items()},
                           is_fitted=self._chosen.proposals == FITTED, seconds=time.monotonic() - began)  # fmt: skip
        self._record.result = result.to_dict()
        self._record.save(self.folder)
        return result

    @property
    def _record(self) -> FitRecord:
        assert self.record is not None
        return self.record

    def _begin(self) -> None:
        """The record of this fit, new or as the folder has it; the survey file and the galaxy model."""
        given = self.given
        made_of = self.options | {
            "catalogue": given.digest, "survey": sha256_of_json(given.survey.model_dump(mode="json")),
            "galaxy_model": sha256_of_json(given.galaxy_model.model_dump(mode="json")),
        }  # fmt: skip
        self.record = read_fit(self.folder)
        if self.record is not None:
            same_fit(self.folder, self.record, made_of)
            return
        write_bytes_atomic(self.folder / SURVEY, given.text.encode())
        write_bytes_atomic(self.folder / MODEL, settings_text(given.galaxy_model).encode())
        self.record = FitRecord(made_of=made_of, remarks=list(given.remarks))
        self.record.save(self.folder)

    def _step(self, name: str, product: Path, make: Callable[[], str], *parts: Any) -> str:
        """Make a product unless it is there, made of the same; `make` gives the command that does it again. What the
        product is made of, as a hash."""
        of, done = sha256_of_json([name, *parts]), self._record.steps.get(name)
        if done is not None and done.made_of == of and product.exists():
            self.steps.took[name] = 0.0
            return of
        began, words = time.monotonic(), NAMES[name]
        if name == "simulate":
            words += f" {self._chosen.library:,} galaxies"
        with self.steps.step(name, words):
            command = make()
        self._record.steps[name] = StepRecord(
            product=product.relative_to(self.folder).as_posix(), made_of=of,
            seconds=round(time.monotonic() - began, 1), command=command,
        )  # fmt: skip
        self._record.save(self.folder)
        return of

    @property
    def _chosen(self) -> Chosen:
        assert self._record.chosen is not None
        return self._record.chosen

    @property
    def _how(self) -> dict[str, Any]:
        return {"client": self.client, "workers": self.workers, "progress": self.steps.progress, "log": self.log}

    def _priors(self) -> tuple[str, ...]:
        """The priors of the posterior, the one that draws are made under first."""
        prior = self.options["prior"]
        return (PHYSICAL, FLAT) if prior == BOTH else (prior,)

    def _noise(self) -> str:
        survey, path = self.folder / SURVEY, self.folder / NOISE
        fit_noise(self.given.source, self.given.survey, output=path, fill=True)
        return _command("noise fit", *_sources(self.given.source), survey=survey, fill=True, output=path)

    def _sizes(self, noise: str) -> Chosen:
        """The sizes that were chosen for this fit; now, if they were not yet."""
        with self.steps.step("tables", NAMES["tables"]):  # once a machine; many bands take minutes
            survey, model = self.given.survey, self.given.galaxy_model
            forward_for(survey, model)
            if self.options["prior"] != FLAT:
                physical_prior(model, survey.redshift_range)
        if self._record.chosen is None:
            with self.steps.step("sizes", NAMES["sizes"]):
                self._choose(noise, self.given.found.rows)
        write_bytes_atomic(self.folder / TRAINING, settings_text(self._chosen.training).encode())
        return self._chosen

    def _choose(self, noise: str, n: int) -> None:
        survey, model, prior = self.given.survey, self.given.galaxy_model, self.options["prior"]
        used = 1 if self.client == SYNCHRONOUS else self.workers or cores()
        has_free, seed = self.given.n_free > 0.0, self.options["seed"]
        asked, training, proposals = self.options["library_size"], self.training, self.options["proposals"]
        is_decided = proposals == FITTED or (asked is not None and training is not None)
        rates = NOMINAL if is_decided else measure(
            survey, model, load_noise(self.folder / NOISE, survey), prior, has_free=has_free
        )  # fmt: skip
        sizes = choose_sizes(rates, n, max(self.ends - time.monotonic(), 1.0), used, has_free=has_free, seed=seed,
                             proposals=proposals)  # fmt: skip
        if asked is not None:
            training = training or training_for(asked, has_free=has_free, seed=seed)
        sizes = Sizes(asked or sizes.library, training or sizes.training, proposals=sizes.proposals)
        rows = min(rows_per_part(posterior_schema(survey, model), self.options["draws"], n),
                   max(-(-n // _PARTS), _LEAST_ROWS))  # fmt: skip
        self._record.chosen = Chosen(
            proposals=sizes.proposals, library=sizes.library, training=sizes.training, mocks=sizes.mocks,
            mock_draws=sizes.mock_draws,
            rows_per_library_part=max(-(-sizes.library // _LIBRARY_PARTS), _LEAST_LIBRARY_ROWS), rows_per_part=rows,
        )  # fmt: skip
        expected = planned_s(sizes, rates, n, used)
        self._record.measured = {} if is_decided else {**asdict(rates), "cores": used}
        if prior == BOTH:
            self._record.measured.pop("fitted_s", None)
        self._record.measured["expected_s"] = expected
        self._record.save(self.folder)
        self.steps.expect(expected)
        how = ("proposals fitted to each galaxy" if sizes.proposals == FITTED else
               f"{sizes.training.max_epochs} epochs of training")  # fmt: skip
        self.steps.say(f"{sizes.library:,} simulated galaxies, {how}; about {duration(sum(expected.values()))} from "
                       "here")  # fmt: skip

    def _simulate(self) -> str:
        chosen, output = self._chosen, self.folder / LIBRARY
        options = {"noise": self.folder / NOISE, "prior": self.options["prior"], "seed": self.options["seed"],
                   "rows_per_partition": chosen.rows_per_library_part, "output": output}  # fmt: skip
        simulate(self.given.survey, chosen.library, galaxy_model=self.given.galaxy_model, **options, **self._how)
        return _command("simulate", survey=self.folder / SURVEY, n=chosen.library,
                        galaxy_model=self.folder / MODEL, **options)  # fmt: skip

    def _train(self) -> str:
        chosen, output, library = self._chosen, self.folder / POSTERIOR, self.folder / LIBRARY
        if chosen.proposals == FITTED:
            return self._without_flow(output)
        if (output / DESCRIPTION).is_file():
            self._require_trained(output)
        else:
            epochs = chosen.training.max_epochs + chosen.training.redshift_epochs
            is_later = (output / CHECKPOINTS).is_dir() and any((output / CHECKPOINTS).glob("member*"))
            done = [chosen.training.redshift_epochs if is_later else 0]

            def tell(epoch: int, history: Any) -> None:
                done[0] += 1
                self.steps.at(done[0] / epochs)

            train(library, output, settings=chosen.training, report=tell, log=self.log)
        return _command("train", library=library, settings=self.folder / TRAINING, output=output, calibrate=False)

    def _without_flow(self, output: Path) -> str:
        """A posterior whose proposals are fitted to each galaxy, in the folder of a trained one."""
        made = open_library(self.folder / LIBRARY)
        frame = open_catalog(self.folder / LIBRARY).to_pandas()
        posterior = prior_posterior(self.given.survey, self.given.galaxy_model, prior=self._priors()[0],
                                    noise=made.noise, simulated=frame)  # fmt: skip
        save_posterior(posterior, output)
        return "(proposals are fitted to each galaxy: no flow is trained)"

    def _require_trained(self, output: Path) -> None:
        """PopcatError if the posterior that is there is of another library or training."""
        made = load_posterior(output).provenance
        library = open_library(self.folder / LIBRARY).manifest.fingerprint_sha256
        ours = made.get("library", {}).get("fingerprint_sha256") == library
        if not ours or made.get("training") != self._chosen.training.model_dump(mode="json"):
            raise PopcatError(f"{output} is of another library or training: remove it, or name another folder")

    def _calibrate(self) -> str:
        chosen, posterior = self._chosen, self.folder / POSTERIOR
        options: dict[str, Any] = {"n": chosen.mocks, "draws": chosen.mock_draws}
        for prior in self._priors():
            if calibration_of(posterior, prior) is None:
                calibrate(posterior, prior=prior, output=default_output(posterior, prior), **options, **self._how)
        return _command("calibrate", posterior=posterior, **options)

    def _infer(self) -> str:
        options = {"posterior": self.folder / POSTERIOR, "output": self.folder / POSTERIORS, "certify": True,
                   "refit": self._chosen.proposals == FLOW,
                   "prior": self._priors()[0], "draws": self.options["draws"], "seed": self.options["seed"],
                   "hide_redshift": self.options["hide_redshift"],
                   "rows_per_partition": self._chosen.rows_per_part, "allow_uncalibrated": True}  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*and is used all the same")  # the result says so
            how = self._how
            parts = -(-self.given.found.rows // self._chosen.rows_per_part)
            if self.client is None and active() is None and parts > 1:  # many proposals a galaxy are worth workers
                how["workers"] = min(self.workers or cores(), parts)
            infer(self.given.source, **options, **how)
        return _command("infer", *_sources(self.given.source), **options)

    def _report(self) -> str:
        title = Path(label_of(self.given.source)).name
        report(self.folder / POSTERIORS, self.folder / PAGE, title=title)
        return _command("report", str(self.folder / POSTERIORS), output=self.folder / PAGE, title=title)


def _sources(source: Source) -> list[str]:
    return [str(source)] if isinstance(source, str | Path) else [str(one) for one in source]


def _command(verb: str, *arguments: str, **options: Any) -> str:
    """A command of the shell.

    >>> _command("infer", "a b.fits", n=3, hide_redshift=False, certify=True)
    "popcat infer 'a b.fits' -n 3 --certify"
    """
    words = ["popcat", *verb.split(), *arguments]
    for name, value in options.items():
        flag = {"n": "-n", "output": "-o"}.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            words.append(flag)
        elif name == "calibrate":
            words.append("--no-calibrate")
        elif value is not False and value is not None:
            words += [flag, str(value)]
    return shlex.join(words)
