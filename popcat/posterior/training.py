"""From a simulated library to a frozen posterior: q(z | photometry), then the members of q(theta | photometry, z).

Each member is a task, on a cluster where there is one.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from popcat import __version__
from popcat.catalog.lease import LEASE, alone
from popcat.catalog.manifest import RESULTS
from popcat.errors import PopcatError
from popcat.flows.architecture import architecture_for, flow_from_file, flow_to_bytes, round_weights
from popcat.flows.piecewise import PiecewiseShape, train_piecewise
from popcat.flows.placement import require_device
from popcat.flows.sampler import member_settings
from popcat.flows.settings import Training
from popcat.flows.training import History, mean_log_prob, train_flow
from popcat.forward.coverage import require_light
from popcat.forward.noise import Noise, check_noise
from popcat.galaxy_model import GalaxyModel
from popcat.paths import local
from popcat.plots import loss_curve, save_figure
from popcat.posterior.epochs import shown_epochs, told_epochs
from popcat.posterior.features import Features, fit_features, instruments, random_masks
from popcat.posterior.library import Library, LibraryArrays, Source, memory_source, observe, open_library
from popcat.posterior.posterior import Posterior, load_posterior, save_posterior
from popcat.posterior.support import fit_support
from popcat.prior import FLAT, make_prior
from popcat.run.client import SYNCHRONOUS, Where
from popcat.run.outcome import OnlyHere
from popcat.run.runner import How, run, values_of
from popcat.run.steps import Steps
from popcat.settings import settings_of, sha256_of_json
from popcat.survey import Survey
from popcat.timing import recorded

_MIN_GALAXIES = 1000
_MAX_SCALING = 400_000
_SECONDS = 5e-5
"""Of one core for one galaxy in one epoch of one flow, about."""
_REDSHIFT = 0.5
"""Of that, for the density of redshift, about."""
STEPS = ("redshift", "flows", "posterior")
"""Of a training."""
CHECKPOINTS = "checkpoints"
"""Folder inside an unfinished model's; a training that finds it goes on from there."""


@dataclass(frozen=True)
class Setup:
    """What the members of a training share: the survey's galaxies as they are shown, and the scaler.

    `draws_mass`: the mass is no coordinate of the flow. `priors`: names of those that the galaxies are drawn from.
    `stream` keeps the seeds of different sets apart.
    """

    survey: Survey
    noise: Noise
    settings: Training
    n_coordinates: int
    draws_mass: bool
    priors: tuple[str, ...] = (FLAT,)
    features: Features | None = None

    def photometry(self, library: LibraryArrays, *stream: int, hide: bool = True):
        """Noisy fluxes and errors of what passes the selection, NaN in bands that are hidden, and their rows."""
        seed = (self.settings.seed, *stream)
        flux, err, rows = observe(library, self.survey, self.noise, seed, widened=hide)
        if hide:
            random = np.random.default_rng((*seed, 7))
            seen = random_masks(random, len(rows), instruments(self.survey), self.settings.complete_fraction)
            flux, err = np.where(seen, flux, np.nan), np.where(seen, err, np.nan)
        return flux, err, rows

    def theta_set(self, library: LibraryArrays, *stream: int, hide: bool = True):
        """Unconstrained parameters and their context."""
        flux, err, rows = self.photometry(library, *stream, hide=hide)
        context = self.features(flux, err, library.redshift[rows], library.prior[rows])
        return torch.from_numpy(library.unconstrained[rows, int(self.draws_mass) :]), torch.from_numpy(context)

    def redshift_set(self, features: Features, library: LibraryArrays, *stream: int):
        """Redshift as a fraction of the survey's range, (n, 1), and its context."""
        flux, err, rows = self.photometry(library, *stream)
        low, high = self.survey.redshift_range
        u = ((library.redshift[rows] - low) / (high - low)).astype(np.float32)
        return torch.from_numpy(u[:, None]), torch.from_numpy(features(flux, err, prior=library.prior[rows]))


def train_posterior(
    library: LibraryArrays | Source,
    survey: Survey,
    galaxy_model: GalaxyModel,
    noise: Noise,
    settings: Training,
    *,
    provenance: dict,
    priors: tuple[str, ...] = (FLAT,),
    device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
    checkpoints: Path | None = None,
    how: How | None = None,
    steps: Steps | None = None,
) -> tuple[Posterior, History]:
    """Train q(z | photometry), the members of q(theta | photometry, z) and the support on a library of galaxies of
    these priors; noise and missing bands are drawn anew every epoch.

    Members are tasks of `popcat.run.runner.run`, carried out as `how` says, by default one after the other in this
    process; `report` is told of those that are trained in this process. With `checkpoints`, a folder, a training that
    was cut off goes on where it stopped. `steps` (with those of STEPS) show how far it is.
    Returns the posterior and the history of the first member.

    Raises PopcatError if too few galaxies pass the survey's selection.
    """
    steps = steps or Steps(dict.fromkeys(STEPS, 0.0), show=False)
    source = memory_source(library, settings.validation_fraction) if isinstance(library, LibraryArrays) else library
    noise = check_noise(noise, survey, "the noise model")
    prior = make_prior(galaxy_model)
    shape = prior.n_unconstrained - prior.mass_is_linear, prior.mass_is_linear, priors
    has_prior = len(priors) > 1
    flux, err, redshift, fraction = _scaling_set(source, Setup(survey, noise, settings, *shape))
    features = fit_features(flux, err, redshift, galaxy_model.cosmology, has_prior=has_prior)
    redshift_features = fit_features(flux, err, None, galaxy_model.cosmology, has_prior=has_prior)
    setup = Setup(survey, noise, settings, *shape, features)
    options = {"device": device, "report": report, "epoch_size": int(fraction * source.n), "checkpoints": checkpoints}
    per_epoch = _SECONDS * options["epoch_size"]
    steps.expect({"redshift": _REDSHIFT * per_epoch * settings.redshift_epochs,
                  "flows": per_epoch * settings.max_epochs * settings.members})  # fmt: skip
    with steps.step("redshift", "training the redshift density"):
        shown = options | {"report": shown_epochs(steps, settings.redshift_epochs, report)}
        density, redshift_history = _train_redshift(setup, redshift_features, source, shown)
    with steps.step("flows", f"training {settings.members} flow{'s' if settings.members > 1 else ''}"):
        flows, histories = zip(*_train_members(setup, source, how or How(SYNCHRONOUS), options), strict=True)
    for trained in (density, *flows):
        round_weights(trained)
    architecture = architecture_for(settings, features=setup.n_coordinates, context=features.n_features)
    complete = setup.theta_set(source.held_out, 1, hide=False)
    made = {
        **provenance,
        "training": settings.model_dump(mode="json"),
        "history": [asdict(history) for history in histories],
        "redshift_history": asdict(redshift_history),
        "n_library": source.n + len(source.held_out),
        "validation_log_prob": [history.validation[history.best_epoch] for history in histories],
        "validation_log_prob_all_bands": [mean_log_prob(flow, *complete) for flow in flows],
    }
    support = fit_support(flux, err, redshift, features.softening, seed=settings.seed)
    posterior = Posterior(
        survey, galaxy_model, noise, features, tuple(flows), architecture, redshift_features, density, support, made,
        prior.mass_is_linear, priors, priors[0],
    ).under(priors[-1])  # fmt: skip
    return posterior, histories[0]


def train_member(setup: Setup, settings: Training, source: Source, *, epoch_size: int, device: str = "cpu",
                 report=lambda epoch, history: None, checkpoints: Path | None = None):  # fmt: skip
    """One flow q(theta | photometry, z) and its history; members differ by the seed of their settings."""
    own = dataclasses.replace(setup, settings=settings)
    architecture = architecture_for(settings, features=own.n_coordinates, context=own.features.n_features)
    validation = _not_empty(setup.theta_set(source.held_out, 1), source, settings)

    def shards(epoch: int) -> Iterator:
        return (own.theta_set(shard, 2, epoch, i) for i, shard in enumerate(source.shards()))

    file = None if checkpoints is None else checkpoints / f"member-{settings.seed}.safetensors"
    return train_flow(
        architecture, shards, validation, settings, epoch_size=epoch_size, checkpoint=file,
        data_id=_name(own, source.n), device=device, report=report,
    )  # fmt: skip


def _train_members(setup: Setup, source: Source, how: How, options: dict) -> list[tuple[torch.nn.Module, History]]:
    """The members, each a task: their flows and histories, in order."""
    settings = setup.settings
    options = options | {"report": OnlyHere(options["report"])}
    jobs = {i: (setup, chosen, source, options, i) for i, chosen in enumerate(member_settings(settings))}
    seconds = _SECONDS * options["epoch_size"] * settings.max_epochs * len(jobs)
    outcomes = run(
        _train_member_task, jobs, verb="training", how=how, unit="epochs", noun="member", seconds=seconds,
        sizes=[settings.max_epochs] * len(jobs), told=options["checkpoints"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="popcat-members-") as folder:
        return [_member_of(content, history, Path(folder) / "member.safetensors")
                for content, history in values_of(outcomes, "member")]  # fmt: skip


def _train_member_task(
    setup: Setup, settings: Training, source: Source, options: dict, number: int
) -> tuple[bytes, dict]:
    """`train_member` as a task, on the GPU of a worker that has one: the flow as bytes, and its history."""
    on_gpu = {"device": "cuda"} if recorded().get("gpu") else {}
    report = told_epochs(options["checkpoints"], number, settings.max_epochs, options["report"])
    flow, history = train_member(setup, settings, source, **options | on_gpu | {"report": report})
    architecture = architecture_for(settings, features=setup.n_coordinates, context=setup.features.n_features)
    return flow_to_bytes(flow, architecture), asdict(history)


def _member_of(content: bytes, history: dict, file: Path) -> tuple[torch.nn.Module, History]:
    """What `_train_member_task` gave, as `train_member` would give it; `file` is where it is put on the way."""
    file.write_bytes(content)
    flow, _ = flow_from_file(file)
    return flow, History(**history)


def _train_redshift(setup: Setup, features: Features, source: Source, how: dict):
    """q(z | photometry) and its history."""
    settings = setup.settings
    shape = PiecewiseShape(context=features.n_features, n_bins=settings.redshift_bins,
                           hidden=settings.redshift_hidden, n_layers=3)  # fmt: skip
    validation = _not_empty(setup.redshift_set(features, source.held_out, 1), source, settings)

    def shards(epoch: int) -> Iterator:
        return (setup.redshift_set(features, shard, 3, epoch, i) for i, shard in enumerate(source.shards()))

    folder = how["checkpoints"]
    file = None if folder is None else folder / "redshift.safetensors"
    return train_piecewise(
        shape, shards, validation, settings, epoch_size=how["epoch_size"], checkpoint=file,
        data_id=_name(setup, source.n), device=how["device"], report=how["report"],
    )  # fmt: skip


def _name(setup: Setup, n: int) -> str:
    """Hash of what decides a training set, so that a checkpoint of another is refused."""
    made = [setup.survey.model_dump(mode="json"), setup.noise.model_dump(mode="json"), n, setup.features.to_dict(),
            setup.n_coordinates, setup.priors, RESULTS]  # fmt: skip
    return sha256_of_json(made)


def _scaling_set(source: Source, setup: Setup):
    """Photometry, with every band, and redshifts of galaxies that the scalers and the support are fitted to; and the
    fraction of galaxies that pass the selection.
    """
    library = next(iter(source.shards()))[:_MAX_SCALING]
    flux, err, rows = setup.photometry(library, 0, hide=False)
    if len(rows) < _MIN_GALAXIES:
        cut = setup.survey.selection
        raise PopcatError(
            f"training: expected at least {_MIN_GALAXIES} simulated galaxies within the survey's "
            f"selection ({cut.band} {cut.bright_mag} to {cut.faint_mag} mag), got {len(rows)} of "
            f"{len(library)}: simulate more, or widen the selection"
        )
    return flux, err, library.redshift[rows], len(rows) / len(library)


def _not_empty(validation, source: Source, settings: Training):
    if len(validation[0]) == 0:
        raise PopcatError(
            f"training: none of {len(source.held_out)} galaxies held out for validation passes the survey's "
            f"selection: simulate more, or raise validation_fraction ({settings.validation_fraction:g})"
        )
    return validation


def train(
    library: "str | Path" = "library",
    output: "str | Path" = "posterior",
    *,
    settings: "Training | str | Path | None" = None,
    device: str = "cpu",
    client: Where = None,
    workers: int | None = None,
    progress: bool = False,
    log: str | Path | None = None,
    report: Callable[[int, History], None] = lambda epoch, history: None,
) -> Posterior:
    """Train a posterior on the library in a folder and freeze it in the folder `output`.

    A library too large for memory is streamed. A training that was cut off goes on from the checkpoints in `output`.
    The members of an ensemble (settings.members) are tasks, where `client` and `workers` say
    (popcat.run.client.connect): one member, or little work, is trained in this process. Workers must see the library
    and `output` under the same paths; those with the resource GPU, where there are any, train on it.

    Raises PopcatError if the library is not one, its galaxy model lacks light that its survey sees, `output` already
    holds something else, torch has no such device, or a member fails.

    >>> from popcat import simulate
    >>> library = simulate("sdss", 5000, output="library_to_train_on", client="synchronous")
    >>> small = Training(n_blocks=1, hidden=16, n_layers=1, batch=256, max_epochs=1, redshift_hidden=16)
    >>> len(train("library_to_train_on", "my_posterior", settings=small).flows)
    1
    """
    output = local(output).absolute()
    How(client, workers, log=log).verify()
    require_device(device)
    folder, settings = open_library(library), settings_of(Training, settings, "training")
    require_light(folder.survey, folder.galaxy_model)
    with alone(output / LEASE, output):
        _require_new(output)
        with Steps(dict.fromkeys(STEPS, 2.0), show=progress, log=log) as steps:
            how = How(client, workers, steps.progress, log=log)
            _train_into(output, folder, settings, device, report, how, steps)
    return load_posterior(output)


def _require_new(output: Path) -> None:
    """PopcatError if a folder holds more than a training that was cut off."""
    known = (CHECKPOINTS, LEASE)
    if any(item.name not in known and item.suffix != ".tmp" for item in output.iterdir()):
        raise PopcatError(f"{output} is not empty: name a new folder for the model")


def _train_into(
    output: Path, folder: Library, settings: Training, device: str, report: Callable, how: How, steps: Steps
) -> None:
    checkpoints = output / CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    posterior, history = train_posterior(
        folder.source(settings.validation_fraction), folder.survey, folder.galaxy_model, folder.noise, settings,
        provenance=_provenance(folder), priors=folder.priors, device=device, report=report, checkpoints=checkpoints,
        how=how, steps=steps,
    )  # fmt: skip
    with steps.step("posterior", "writing the posterior", is_short=True):
        save_posterior(posterior, output)
        for file in checkpoints.iterdir():
            file.unlink()
        checkpoints.rmdir()
        save_figure(loss_curve([{"epoch": i + 1, "train": -a, "validation": -b} for i, (a, b) in enumerate(
            zip(history.train, history.validation, strict=True))]), output / "loss.png")  # fmt: skip


def _provenance(folder: Library) -> dict:
    return {
        "popcat_version": __version__,
        "library": folder.manifest.model_dump(include={"fingerprint_sha256", "rows", "popcat_version"}),
        "library_seed": folder.manifest.seed,
        **folder.manifest.forward_hashes,
        "torch": torch.__version__,
    }
