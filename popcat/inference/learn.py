"""From a simulated library to a frozen posterior."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from popcat import __version__
from popcat.catalog.partitions import open_catalog, read_manifest
from popcat.errors import PopcatError
from popcat.flows.architecture import architecture_for
from popcat.flows.piecewise import PiecewiseShape, train_piecewise
from popcat.flows.training import History, mean_log_prob, train_flow
from popcat.inference.features import Features, fit_features
from popcat.inference.masks import instruments, random_masks
from popcat.inference.posterior import Posterior, save_posterior
from popcat.inference.support import fit_support
from popcat.noise import NoiseModel, add_noise, check_noise
from popcat.prior import N_UNCONSTRAINED, make_prior
from popcat.schema import PARAMETERS
from popcat.settings import Model, Survey, Training
from popcat.units import nmgy_to_ab_mag

_MAX_VALIDATION = 50_000
_MIN_GALAXIES = 1000
# The prior has no mass out there that a library can hold; float32 parameters on a bound would land there.
_W_MAX = 6.0
_MAX_SCALING = 400_000
# Of the natural logarithm of all errors of a galaxy.
_COMMON_SCATTER = 0.4


@dataclass(frozen=True)
class Library:
    """A simulated library in memory: unconstrained (n, 11) float32, redshift (n,), model flux (n, n_band) float32."""

    unconstrained: np.ndarray
    redshift: np.ndarray
    flux: np.ndarray

    @classmethod
    def from_theta(cls, theta: np.ndarray, redshift: np.ndarray, flux: np.ndarray, model: Model) -> "Library":
        """theta is (n, 12), flux noise-free in nMgy."""
        w = make_prior(model).to_unconstrained(np.asarray(theta, dtype=float))
        w = np.clip(w, -_W_MAX, _W_MAX).astype(np.float32)
        return cls(w, np.asarray(redshift, dtype=float), np.asarray(flux, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.redshift)

    def __getitem__(self, rows) -> "Library":
        return Library(self.unconstrained[rows], self.redshift[rows], self.flux[rows])


@dataclass(frozen=True)
class LibraryFolder:
    """A library on disk with what it was simulated with, as its manifest records it."""

    path: Path
    survey: Survey
    model: Model
    noise: NoiseModel
    manifest: dict

    def load(self) -> Library:
        """Read parameters, redshifts and model fluxes into memory: about 70 bytes a galaxy for five bands."""
        fluxes = [f"flux_model_{band}" for band in self.survey.band_names]
        table = open_catalog(self.path).to_table(columns=["redshift", *PARAMETERS, *fluxes])
        theta = np.column_stack([table[name].to_numpy() for name in PARAMETERS])
        flux = np.column_stack([table[name].to_numpy() for name in fluxes])
        return Library.from_theta(theta, table["redshift"].to_numpy(), flux, self.model)


def open_library(path: "str | Path") -> LibraryFolder:
    """A library that `popcat simulate` wrote; PopcatError if the folder holds none or an unfinished one."""
    manifest = read_manifest(path)
    if manifest["kind"] != "library":
        raise PopcatError(f"{path} holds {manifest['kind']}, not a library: name a folder that `popcat simulate` wrote")
    made = manifest["fingerprint"]
    survey, model = Survey.model_validate(made["survey"]), Model.model_validate(made["model"])
    noise = check_noise(NoiseModel.model_validate(made["noise"]), survey, f"library {path}")
    return LibraryFolder(Path(path), survey, model, noise, manifest)


def observe(library: Library, survey: Survey, noise: NoiseModel, seed: tuple[int, ...], *, widened: bool = False):
    """Noisy fluxes and errors of the galaxies whose noisy magnitude passes the survey's selection, and their rows.

    The cut is on observed quantities, so it leaves p(theta | photometry) of what passes unchanged. `widened` adds
    worse and better errors than the survey's, see `widen`.
    """
    normals = np.random.default_rng(seed).standard_normal((len(library), 2 * len(survey.bands)))
    flux, err = add_noise(library.flux, noise, normals)
    if widened:
        flux, err = widen(library.flux, flux, err, np.random.default_rng((*seed, 5)))
    selection = survey.selection
    mag = nmgy_to_ab_mag(flux[:, survey.band_names.index(selection.band)])
    rows = np.flatnonzero((mag >= selection.bright_mag) & (mag <= selection.faint_mag))
    return flux[rows], err[rows], rows


def widen(flux_model: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, random) -> tuple[np.ndarray, np.ndarray]:
    """Half of the galaxies with all their errors, and their noise, scaled by a common log-normal factor.

    The posterior is conditioned on the errors: a model that has seen worse ones serves shallower data too.
    """
    scale = np.exp(_COMMON_SCATTER * random.standard_normal(len(flux)) * (random.uniform(size=len(flux)) < 0.5))
    return flux_model + scale[:, None] * (flux - flux_model), scale[:, None] * flux_err


def train_posterior(
    library: Library,
    survey: Survey,
    model: Model,
    noise: NoiseModel,
    settings: Training,
    *,
    provenance: dict,
    device: str = "cpu",
    report=lambda epoch, history: None,
) -> tuple[Posterior, History]:
    """Train q(z | photometry), q(theta | photometry, z) and the support on a library; noise and missing bands are
    drawn anew every epoch.

    Raises PopcatError if too few galaxies pass the survey's selection.
    """
    noise = check_noise(noise, survey, "the noise model")
    n_validation = min(int(len(library) * settings.validation_fraction), _MAX_VALIDATION)
    held_out, rest = library[len(library) - n_validation :], library[: len(library) - n_validation]
    task = _Task(survey, noise, settings)
    flux, err, redshift = _scaling_set(rest, task)
    features = fit_features(flux, err, redshift, model.cosmology)
    redshift_features = fit_features(flux, err, None, model.cosmology)
    how = {"device": device, "report": report}
    density, redshift_history = _train_redshift(task, redshift_features, rest, held_out, how)
    flow, architecture, history = _train_theta(task, features, rest, held_out, how)
    made = {
        **provenance,
        "training": settings.model_dump(mode="json"),
        "history": asdict(history),
        "redshift_history": asdict(redshift_history),
        "n_library": len(library),
        "validation_log_prob": history.validation[history.best_epoch],
        "validation_log_prob_all_bands": mean_log_prob(flow, *task.theta_set(features, held_out, 1, hide=False)),
    }
    support = fit_support(flux, err, redshift, features.softening, seed=settings.seed)
    posterior = Posterior(
        survey, model, noise, features, flow, architecture, redshift_features, density, support, made
    )  # fmt: skip
    return posterior, history


def _train_redshift(task, features, library, held_out, how):
    """q(z | photometry) and its history."""
    settings = task.settings
    shape = PiecewiseShape(context=features.n_features, n_bins=settings.redshift_bins,
                           hidden=settings.redshift_hidden, n_layers=3)  # fmt: skip
    validation = _not_empty(task.redshift_set(features, held_out, 1), held_out, task)
    return train_piecewise(
        shape, lambda epoch: task.redshift_set(features, library, 3, epoch), validation, settings, **how
    )


def _train_theta(task, features, library, held_out, how):
    """q(theta | photometry, z), its architecture and its history."""
    settings = task.settings
    architecture = architecture_for(settings, features=N_UNCONSTRAINED, context=features.n_features)
    validation = _not_empty(task.theta_set(features, held_out, 1), held_out, task)
    flow, history = train_flow(
        architecture, lambda epoch: task.theta_set(features, library, 2, epoch), validation, settings, **how
    )
    return flow, architecture, history


@dataclass(frozen=True)
class _Task:
    """What training sets are made with: fixed for a training. `stream` keeps the seeds of different sets apart."""

    survey: Survey
    noise: NoiseModel
    settings: Training

    def photometry(self, library: Library, *stream: int, hide: bool = True):
        """Noisy fluxes and errors of what passes the selection, NaN in bands that are hidden, and their rows."""
        seed = (self.settings.seed, *stream)
        flux, err, rows = observe(library, self.survey, self.noise, seed, widened=hide)
        if hide:
            random = np.random.default_rng((*seed, 7))
            seen = random_masks(random, len(rows), instruments(self.survey), self.settings.complete_fraction)
            flux, err = np.where(seen, flux, np.nan), np.where(seen, err, np.nan)
        return flux, err, rows

    def theta_set(self, features: Features, library: Library, *stream: int, hide: bool = True):
        """Unconstrained parameters and their context."""
        flux, err, rows = self.photometry(library, *stream, hide=hide)
        context = features(flux, err, library.redshift[rows])
        return torch.from_numpy(library.unconstrained[rows]), torch.from_numpy(context)

    def redshift_set(self, features: Features, library: Library, *stream: int):
        """Redshift as a fraction of the survey's range, (n, 1), and its context."""
        flux, err, rows = self.photometry(library, *stream)
        low, high = self.survey.redshift_range
        u = ((library.redshift[rows] - low) / (high - low)).astype(np.float32)
        return torch.from_numpy(u[:, None]), torch.from_numpy(features(flux, err))


def _not_empty(validation, held_out, task: _Task):
    if len(validation[0]) == 0:
        raise PopcatError(
            f"training: none of {len(held_out)} galaxies held out for validation passes the survey's "
            f"selection: simulate more, or raise validation_fraction ({task.settings.validation_fraction:g})"
        )
    return validation


def _scaling_set(library: Library, task: _Task):
    """Photometry, with every band, and redshifts of galaxies that the scalers and the support are fitted to."""
    flux, err, rows = task.photometry(library[:_MAX_SCALING], 0, hide=False)
    if len(rows) < _MIN_GALAXIES:
        cut = task.survey.selection
        raise PopcatError(
            f"training: expected at least {_MIN_GALAXIES} simulated galaxies within the survey's "
            f"selection ({cut.band} {cut.bright_mag} to {cut.faint_mag} mag), got {len(rows)} of "
            f"{len(library)}: simulate more, or widen the selection"
        )
    return flux, err, library.redshift[rows]


def train(
    library: "str | Path",
    output: "str | Path",
    *,
    settings: Training | None = None,
    device: str = "cpu",
    report=lambda epoch, history: None,
) -> tuple[Posterior, History]:
    """Train a posterior on the library in a folder and freeze it in the folder `output`.

    Raises PopcatError if the library is not one, or `output` already holds something.
    """
    folder, settings = open_library(library), settings or Training()
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise PopcatError(f"{output} is not empty: name a new folder for the model")
    provenance = {
        "popcat_version": __version__,
        "library": {key: folder.manifest[key] for key in ("fingerprint_sha256", "rows", "popcat_version")},
        "library_seed": folder.manifest["fingerprint"]["seed"],
        "grid": folder.manifest["fingerprint"]["grid"],
        "torch": torch.__version__,
    }
    posterior, history = train_posterior(
        folder.load(), folder.survey, folder.model, folder.noise, settings, provenance=provenance, device=device,
        report=report,
    )  # fmt: skip
    save_posterior(posterior, output)
    return posterior, history
