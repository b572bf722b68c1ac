"""From a simulated library to a frozen posterior."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from popcat import __version__
from popcat.catalog.partitions import open_catalog, read_manifest
from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture
from popcat.flows.training import History, train_flow
from popcat.inference.features import Features, fit_features, n_features
from popcat.inference.posterior import Posterior, save_posterior
from popcat.noise import NoiseModel, add_noise, check_noise
from popcat.prior import make_prior
from popcat.settings import Model, Survey, Training
from popcat.units import nmgy_to_ab_mag

_MAX_VALIDATION = 50_000
_MIN_GALAXIES = 1000
# The prior has no mass out there that a library can hold; float32 parameters on a bound would land there.
_W_MAX = 6.0


@dataclass(frozen=True)
class Library:
    """A simulated library in memory: unconstrained (n, d - 1), redshift (n,), model flux (n, n_band); float32 but z."""

    unconstrained: np.ndarray
    redshift: np.ndarray
    flux: np.ndarray

    @classmethod
    def from_theta(cls, theta: np.ndarray, redshift: np.ndarray, flux: np.ndarray, model: Model) -> "Library":
        """theta is (n, d), flux noise-free in nMgy."""
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
        names = make_prior(self.model).names
        fluxes = [f"flux_model_{band}" for band in self.survey.band_names]
        table = open_catalog(self.path).to_table(columns=["redshift", *names, *fluxes])
        theta = np.column_stack([table[name].to_numpy() for name in names])
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


def observe(library: Library, survey: Survey, noise: NoiseModel, seed: tuple[int, ...]):
    """Noisy fluxes and errors of the galaxies whose noisy magnitude passes the survey's selection, and their rows.

    The cut is on observed quantities, so it leaves p(theta | photometry) of what passes unchanged.
    """
    normals = np.random.default_rng(seed).standard_normal((len(library), 2 * len(survey.bands)))
    flux, err = add_noise(library.flux, noise, normals)
    selection = survey.selection
    mag = nmgy_to_ab_mag(flux[:, survey.band_names.index(selection.band)])
    rows = np.flatnonzero((mag >= selection.bright_mag) & (mag <= selection.faint_mag))
    return flux[rows], err[rows], rows


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
    """Train a conditional MAF on a library; noise is drawn anew every epoch.

    Raises PopcatError if too few galaxies pass the survey's selection.
    """
    noise = check_noise(noise, survey, "the noise model")
    n_validation = min(int(len(library) * settings.validation_fraction), _MAX_VALIDATION)
    held_out, rest = library[len(library) - n_validation :], library[: len(library) - n_validation]
    features = _fit(rest, survey, model, noise, settings)
    validation = _tensors(held_out, survey, noise, features, (settings.seed, 1))
    if len(validation[0]) == 0:
        raise PopcatError(
            f"training: none of {n_validation} galaxies held out for validation passes the survey's "
            f"selection: simulate more, or raise validation_fraction ({settings.validation_fraction:g})"
        )

    def epoch_data(epoch: int):
        return _tensors(rest, survey, noise, features, (settings.seed, 2, epoch))

    architecture = Architecture(
        features=make_prior(model).n_unconstrained, context=n_features(survey), n_blocks=settings.n_blocks,
        hidden=settings.hidden, n_layers=settings.n_layers,
    )  # fmt: skip
    flow, history = train_flow(architecture, epoch_data, validation, settings, device=device, report=report)
    made = {
        **provenance,
        "training": settings.model_dump(mode="json"),
        "history": asdict(history),
        "n_library": len(library),
        "validation_log_prob": history.validation[history.best_epoch],
    }
    return Posterior(survey, model, noise, features, flow, architecture, made), history


def _fit(library, survey, model, noise, settings) -> Features:
    flux, err, rows = observe(library[:400_000], survey, noise, (settings.seed, 0))
    if len(rows) < _MIN_GALAXIES:
        cut = survey.selection
        raise PopcatError(
            f"training: expected at least {_MIN_GALAXIES} simulated galaxies within the survey's "
            f"selection ({cut.band} {cut.bright_mag} to {cut.faint_mag} mag), got {len(rows)} of "
            f"{len(library)}: simulate more, or widen the selection"
        )
    return fit_features(flux, err, library.redshift[rows], model.cosmology)


def _tensors(library, survey, noise, features, seed) -> tuple[torch.Tensor, torch.Tensor]:
    flux, err, rows = observe(library, survey, noise, seed)
    context = features(flux, err, library.redshift[rows])
    return torch.from_numpy(library.unconstrained[rows]), torch.from_numpy(context)


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
