"""A second, shorter fit from another start: what differs between the two is what the data do not measure.

Broad bands do not tell age, metallicity, dust and star formation apart in every galaxy, so populations that differ in
them have the same photometry, and a fit ends at the one nearest to its start (popcat.population.start). One fit cannot
show that. So another flow of the same shape and with the same random numbers is fitted from another start: with all
steps of the start, and a quarter of those to the photometry (of the hierarchical route: half of all). It has moved less
far from its start than the first one has, so the difference is rather too large than too small.
"""

import math
from dataclasses import replace
from pathlib import Path

import safetensors.numpy
import torch

from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic
from popcat.forward.photometry import Photometry
from popcat.forward.sfh import Fractional, Lookback
from popcat.population.fitted import Member
from popcat.population.members import WORK, Job, fit_flow, read_job, stages_of
from popcat.population.settings import PopulationSettings
from popcat.population.start import FLAT, PHYSICAL, WIDE, start_prior
from popcat.population.telling import Teller, draws_of
from popcat.population.unfolding import Start, unfold
from popcat.settings import sha256_of_json

NONE = "none"
"""As settings.second_start: no second fit."""
_SHARE, _SHARE_OF_POSTERIORS = 0.25, 0.5
"""Of the first fit's steps to the photometry, or to posteriors."""


def first_start(job: Job) -> str:
    """The start of a fit, by name."""
    if not job.settings.start_steps:
        return FLAT
    return job.settings.start_prior or (WIDE if job.galaxies is None else PHYSICAL)


def second_start(job: Job, photometry: Photometry) -> str | None:
    """The start of the second fit, by name; None for no second fit.

    Raises PopcatError if it is that of the first fit, or no start.
    """
    name, first = job.settings.second_start, first_start(job)
    if name == NONE or not job.settings.start_steps:
        return None
    if name is None:
        name = FLAT if first != FLAT else PHYSICAL
        has_bases = isinstance(photometry.ingredients.history, Lookback | Fractional)
        if name == PHYSICAL and (job.galaxies is None or not has_bases):
            name = WIDE
    if name == first:
        raise PopcatError(f'second_start: expected another start than the first one, got "{name}" for both: name '
                          f'another, or "{NONE}"')  # fmt: skip
    start_prior(name, job.space, photometry)
    return name


def second_settings(job: Job, start: str) -> PopulationSettings:
    """Settings of the second fit: those of the first, with another start and fewer steps."""
    old = job.settings
    steps = {"steps": math.ceil(_SHARE * old.steps)}
    if job.draws is not None:
        steps = {"start_steps": math.ceil(_SHARE_OF_POSTERIORS * old.start_steps)}
    return old.model_copy(update={"start_prior": start, "members": 1, **steps})


def second_job(job: Job, start: str) -> Job:
    """The fit from the second start: as yet without its library, and with a digest of its own."""
    settings, draws, prior = second_settings(job, start), job.draws, Path(start)
    if draws is not None:
        log_ratio = start_prior(start, job.space, Photometry(job.survey, job.galaxy_model))
        theta, redshift = job.space.arrays(draws.x.flatten(0, 1))
        log_start = torch.from_numpy(log_ratio(theta, redshift)).float().view(draws.log_start.shape)
        draws = replace(draws, log_start=log_start)
    text = prior.read_text(encoding="utf-8") if prior.is_file() else None
    digest = sha256_of_json([job.digest, settings.model_dump(mode="json", exclude={"second_start"}), text])
    return replace(job, settings=settings, draws=draws, start=None, digest=digest)


def work_of(job: Job, start: str | None) -> list[int]:
    """Draws that each member takes, and the second fit after them."""
    one = draws_of(stages_of(job), job.settings)
    if start is None:
        return [one] * job.settings.members
    return [*[one] * job.settings.members, draws_of(stages_of(job), second_settings(job, start))]


def fit_second(output: str, start: str, index: int, device: str = "cpu") -> tuple[Member, bytes]:
    """Fit a flow from the second start, as `popcat.population.members.fit_member` does from the first; `index` is that
    of the job that tells how far it is.
    """
    folder, job = Path(output) / WORK, second_job(read_job(Path(output)), start)
    name = _name(job)
    teller = Teller(folder, index, f"second start ({Path(start).name})", stages_of(job), job.settings)
    if job.galaxies is not None and not (folder / f"{name}.flow").is_file():
        teller.say("reweighting a library")
        job = replace(job, start=_library(job, folder / f"{name}-library.safetensors"))
    return fit_flow(job, folder, name, 0, teller, device)


def _name(job: Job) -> str:
    """Of the second fit's files, so that those of another second start are not taken for them."""
    return f"second-{job.digest[:12]}"


def _library(job: Job, path: Path) -> Start:
    """The library of the second start, which an earlier call may have left."""
    if not path.is_file():
        start = unfold(job.synthesis(), job.galaxies, job.scaling, job.settings)
        arrays = {"x": start.x.numpy(), "log_weight": start.log_weight.numpy()}
        write_bytes_atomic(path, safetensors.numpy.save(arrays))
    arrays = safetensors.numpy.load_file(path)
    return Start(*(torch.from_numpy(arrays[name]) for name in ("x", "log_weight")))
