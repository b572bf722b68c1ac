"""One member of an ensemble: from the files of a fit to a flow; what a Dask task runs.

A fit's folder has, while it is under way, `_fit/`: galaxies.safetensors (what passes the cuts), draws.safetensors
(posterior draws, where there are any), job.json (everything else) and a checkpoint a member.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from popcat.catalog.manifest import RESULTS
from popcat.errors import PopcatError
from popcat.files import read_json, write_bytes_atomic, write_json_atomic
from popcat.flows.architecture import flow_from_file, flow_to_bytes
from popcat.flows.training import History, fit_loss
from popcat.forward.noise import Noise, check_noise
from popcat.forward.photometry import Photometry
from popcat.forward.properties import forward_hashes
from popcat.galaxy_model import GalaxyModel, as_recorded
from popcat.population.cuts import Cut, Cuts
from popcat.population.distance import Galaxies, Scaling, WassersteinLoss
from popcat.population.fitted import Member
from popcat.population.hierarchical import HierarchicalLoss, PosteriorDraws
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Space, Synthesis, new_flow
from popcat.population.telling import HIERARCHICAL, START, WASSERSTEIN, Teller
from popcat.population.unfolding import Start, StartLoss, unfold
from popcat.prior import make_prior
from popcat.settings import sha256_of_json
from popcat.survey import Survey

WORK = "_fit"
_GALAXIES, _DRAWS, _START = "galaxies.safetensors", "draws.safetensors", "start.safetensors"
_JOB = "job.json"
APART = 999
"""Between the seeds of two members."""
_TOLERANCE = 0.1
"""Share by which the last validations of a fit may be worse than its best: with so few held-out galaxies they differ by
less than their noise."""


@dataclass(frozen=True)
class Job:
    """What all members share.

    route : "wasserstein", or "hierarchical". galaxies, scaling, start : of the first; start may be None. draws : of the
    second.
    """

    survey: Survey
    galaxy_model: GalaxyModel
    noise: Noise
    cuts: Cuts
    settings: PopulationSettings
    route: str
    galaxies: Galaxies | None
    draws: PosteriorDraws | None
    scaling: Scaling | None
    start: Start | None = None
    digest: str = ""

    @property
    def space(self) -> Space:
        return Space(make_prior(self.galaxy_model), self.survey.redshift_range)

    def synthesis(self, device: str = "cpu") -> Synthesis:
        """The forward model of this survey."""
        return Synthesis(Photometry(self.survey, self.galaxy_model), self.noise, self.cuts, self.space, device)


def check_folder(job: Job, output: Path) -> None:
    """PopcatError if another fit is in the folder: its population would be shown beside this one's galaxies.

    `job` is as yet without its start.
    """
    path = output / WORK / _JOB
    if not path.is_file():
        return
    before = read_json(path)
    before["data"].pop(_START, None)
    if _digest(before) != _digest(_stored(job, _contents(job))):
        raise PopcatError(f"{output} holds a fit of other galaxies, cuts or settings: give another folder, or remove "
                          "that one")  # fmt: skip


def write_job(job: Job, output: Path) -> None:
    """Put a job where the tasks find it."""
    folder = output / WORK
    folder.mkdir(parents=True, exist_ok=True)
    contents = _contents(job)
    for name, content in contents.items():
        write_bytes_atomic(folder / name, content)
    write_json_atomic(folder / _JOB, _stored(job, contents))


def known_start(output: Path) -> Start | None:
    """The start that an earlier call has left in a folder that `check_folder` finds right; None without one."""
    is_there = (output / WORK / _JOB).is_file() and (output / WORK / _START).is_file()
    return read_job(output).start if is_there else None


def with_start(job: Job, output: Path, report: Callable[[str], None] = lambda text: None) -> Job:
    """The same job, with the library that its flows learn first; it may be in `output` from an earlier call
    (`check_folder` says whether of the same fit).
    """
    if job.galaxies is None or not job.settings.start_steps:
        return job
    start = known_start(output)
    if start is None:
        start = unfold(job.synthesis(), job.galaxies, job.scaling, job.settings, report)
    return replace(job, start=start)


def _contents(job: Job) -> dict[str, bytes]:
    """Files of the parts that a job has."""
    parts = {_GALAXIES: job.galaxies, _DRAWS: job.draws, _START: job.start}
    return {name: safetensors.numpy.save({key: _array(value) for key, value in vars(part).items()})
            for name, part in parts.items() if part is not None}  # fmt: skip


def _array(value) -> np.ndarray:
    return np.ascontiguousarray(value.numpy() if isinstance(value, torch.Tensor) else value)


def _stored(job: Job, contents: dict[str, bytes]) -> dict:
    """What job.json holds."""
    stored = {name: getattr(job, name).model_dump(mode="json") for name in ("survey", "galaxy_model", "noise",
                                                                            "settings")}
    prior = Path(job.settings.start_prior or "")
    return stored | {
        "start_prior": prior.read_text(encoding="utf-8") if prior.is_file() else None,
        "cuts": job.cuts.to_list(), "route": job.route,
        "scaling": None if job.scaling is None else job.scaling.to_dict(job.survey.band_names),
        "results": RESULTS, "forward": forward_hashes(job.survey, job.galaxy_model),
        "data": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }  # fmt: skip


def read_job(output: Path) -> Job:
    """The job in a fit's folder; PopcatError if there is none."""
    folder = Path(output) / WORK
    if not (folder / _JOB).is_file():
        raise PopcatError(f"no population fit under way in {output}: expected {WORK}/{_JOB}")
    stored = read_json(folder / _JOB)
    survey = Survey.model_validate(stored["survey"])
    noise = check_noise(Noise.model_validate(stored["noise"]), survey, str(folder))
    galaxies = draws = start = None
    if _GALAXIES in stored["data"]:
        galaxies = Galaxies(**safetensors.numpy.load_file(folder / _GALAXIES))
    if _DRAWS in stored["data"]:
        arrays = safetensors.numpy.load_file(folder / _DRAWS)
        draws = PosteriorDraws(*(torch.from_numpy(arrays[name]) for name in ("x", "log_weight", "log_start")))
    if _START in stored["data"]:
        arrays = safetensors.numpy.load_file(folder / _START)
        start = Start(*(torch.from_numpy(arrays[name]) for name in ("x", "log_weight")))
    cuts = Cuts(survey.band_names, tuple(Cut(**cut) for cut in stored["cuts"]))
    scaling = None if stored["scaling"] is None else Scaling.from_dict(stored["scaling"])
    settings = PopulationSettings.model_validate(stored["settings"])
    galaxy_model = GalaxyModel.model_validate(as_recorded(stored["galaxy_model"]))
    return Job(survey, galaxy_model, noise, cuts, settings, stored["route"], galaxies, draws, scaling, start,
               _digest(stored))  # fmt: skip


def _digest(stored: dict) -> str:
    """What tells checkpoints of other fits apart; an ensemble may grow, and a second start be another."""
    settings = {name: value for name, value in stored["settings"].items() if name not in ("members", "second_start")}
    return sha256_of_json(stored | {"settings": settings})


def fit_member(output: str, number: int, device: str = "cpu") -> tuple[Member, bytes]:
    """Fit one member of the fit in `output`: how it fared, and its flow as a safetensors file.

    A member that is done already is read; one that was cut off goes on from its checkpoint.
    """
    job, folder = read_job(Path(output)), Path(output) / WORK
    teller = Teller(folder, number, f"flow {number}", stages_of(job), job.settings)
    return fit_flow(job, folder, str(number), number, teller, device)


def fit_flow(
    job: Job, folder: Path, name: str, number: int, teller: Teller, device: str = "cpu"
) -> tuple[Member, bytes]:
    """Fit a flow to a job, as `fit_member`; `name` is that of its files in `folder`, `number` decides its seed."""
    torch.set_num_threads(1)
    began = time.process_time()
    done = _read_done(folder, name, job)
    if done is not None:
        return done
    seed = job.settings.seed + APART * number
    flow, architecture = new_flow(job.settings, job.space.n_dim, seed)
    flow.to(device)
    stages = [_STAGES[stage](job, flow, seed, folder / f"{name}-{stage}.safetensors", teller, device)
              for stage in stages_of(job)]  # fmt: skip
    score = stages[-1].validation[stages[-1].kept_epoch]
    member = Member(number=number, seed=seed, score=score, seconds=sum(stage.seconds[-1] for stage in stages),
                    steps=sum(stage.step[-1] for stage in stages), cpu_seconds=time.process_time() - began)  # fmt: skip
    content = flow_to_bytes(flow.to("cpu").eval(), architecture)
    write_bytes_atomic(folder / f"{name}.flow", content)
    write_json_atomic(folder / f"{name}.json", {"job": job.digest, "member": member.model_dump(mode="json"),
                                                "stages": [asdict(stage) for stage in stages]})  # fmt: skip
    return member, content


def stages_of(job: Job) -> list[str]:
    """The hierarchical stage from draws; the start from a library; the Wasserstein stage where there are galaxies."""
    stages = []
    if job.settings.start_steps:
        stages.append(START if job.draws is None else HIERARCHICAL)
    if job.route == "wasserstein" and job.settings.steps:
        stages.append(WASSERSTEIN)
    if not stages:
        raise PopcatError("nothing to fit: expected steps of the Wasserstein route, or posteriors and start_steps")
    return stages


def _hierarchical(job: Job, flow, seed: int, checkpoint: Path, teller: Teller, device: str) -> History:
    synthesis = job.synthesis(device) if job.cuts.cuts else None
    made = HierarchicalLoss(flow, job.draws, job.settings, seed, synthesis, device)
    training = job.settings.training(learning_rate=job.settings.start_learning_rate)
    return fit_loss(flow, made.loss, made.score, training, n_steps=job.settings.start_steps,
                    **_options(job, seed, checkpoint), report=teller.report(HIERARCHICAL, None))  # fmt: skip


def _start(job: Job, flow, seed: int, checkpoint: Path, teller: Teller, device: str) -> History:
    made = StartLoss(flow, job.start, job.settings, seed, device)
    validation = WassersteinLoss(flow, job.synthesis(device), job.galaxies, job.scaling, job.settings, seed)
    steps = job.settings.start_steps
    training = job.settings.training(learning_rate=job.settings.start_learning_rate, patience=steps)
    return fit_loss(flow, made.loss, validation.score, training, n_steps=steps, **_options(job, seed, checkpoint),
                    report=teller.report(START, validation.noise()))  # fmt: skip


def _wasserstein(job: Job, flow, seed: int, checkpoint: Path, teller: Teller, device: str) -> History:
    made = WassersteinLoss(flow, job.synthesis(device), job.galaxies, job.scaling, job.settings, seed)
    return fit_loss(flow, made.loss, made.score, job.settings.training(), n_steps=job.settings.steps,
                    tolerance=_TOLERANCE, **_options(job, seed, checkpoint),
                    report=teller.report(WASSERSTEIN, made.noise()))  # fmt: skip


_STAGES = {HIERARCHICAL: _hierarchical, START: _start, WASSERSTEIN: _wasserstein}


def _options(job: Job, seed: int, checkpoint: Path) -> dict:
    return {"every": job.settings.check_every, "checkpoint": checkpoint, "identity": {"job": job.digest, "seed": seed}}


def _read_done(folder: Path, name: str, job: Job) -> tuple[Member, bytes] | None:
    path = folder / f"{name}.json"
    if not path.is_file() or not (folder / f"{name}.flow").is_file():
        return None
    stored = read_json(path)
    if stored["job"] != job.digest:
        return None
    return Member.model_validate(stored["member"]), (folder / f"{name}.flow").read_bytes()


def flow_of(content: bytes, folder: Path):
    """The flow that `fit_member` gave, and its architecture."""
    path = folder / WORK / "member.safetensors"
    write_bytes_atomic(path, content)
    return flow_from_file(path)
