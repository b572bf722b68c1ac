"""A fitted population as the prior of single galaxies: draws are weighted by population / training prior."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from popcat.errors import PopcatError
from popcat.galaxy_model import Prior
from popcat.population.fitted import Population, load_population
from popcat.population.space import log_standard_normal

_DRAWS, _CELLS = 50_000, 200


@dataclass(frozen=True)
class PopulationPrior:
    """The density of the population in `folder`; picklable, for workers that see the folder.

    name : the hash of the population that was meant.
    """

    folder: str
    name: str

    @cached_property
    def population(self) -> Population:
        """The population; PopcatError if the folder holds another one by now."""
        found = load_population(self.folder)
        if found.name != self.name:
            raise PopcatError(f"population {self.folder} changed during the run: expected {self.name[:12]}, found "
                              f"{found.name[:12]}")  # fmt: skip
        return found

    def log_ratio(self, draws: Mapping[str, np.ndarray], is_free: np.ndarray) -> np.ndarray:
        """ln population / training prior, (n, k), of draws by name, each (n, k); is_free (n,): redshift inferred.

        Where the redshift is given it is that of p(theta | z).
        """
        names = self.population.space.prior.names
        shape = np.shape(draws["redshift"])
        theta = np.column_stack([np.asarray(draws[name], dtype=float).ravel() for name in names])
        x = self.population.space.unconstrained(theta, np.ravel(draws["redshift"]))
        ratio = self.population.log_density(x) - log_standard_normal(torch.from_numpy(x)).double().numpy()
        of_redshift = np.interp(x[:, -1], *self._redshift_ratio)
        return ratio.reshape(shape) - np.where(np.asarray(is_free)[:, None], 0.0, of_redshift.reshape(shape))

    def __getstate__(self):
        return {"folder": self.folder, "name": self.name}

    @cached_property
    def _redshift_ratio(self) -> tuple[np.ndarray, np.ndarray]:
        """ln of the population's p(z) over the flat one, at nodes of the redshift's coordinate: smoothed counts."""
        from scipy.ndimage import gaussian_filter1d

        x, _ = self.population.draw(_DRAWS, 1)
        edges = np.linspace(-5.0, 5.0, _CELLS + 1)
        middle = 0.5 * (edges[1:] + edges[:-1])
        density = gaussian_filter1d(np.histogram(x[:, -1], edges, density=True)[0], 2.0)
        return middle, np.log(np.maximum(density, 1e-12)) + 0.5 * middle**2 + 0.5 * np.log(2.0 * np.pi)


def population_prior(folder: "str | Path", prior: Prior, redshift_range: tuple[float, float]) -> PopulationPrior:
    """A population as the new prior of draws that were made under `prior`.

    Raises PopcatError where the population's range is not that of the training prior: beyond it there are no draws.
    """
    population = load_population(folder)
    own = population.space
    if own.prior.names != prior.names or own.prior.stick != prior.stick:
        raise PopcatError(f"population {folder} is of another galaxy model: expected the parameters "
                          f"{', '.join(prior.names)}")  # fmt: skip
    same = np.allclose(own.prior.low, prior.low) and np.allclose(own.prior.high, prior.high)
    if not same or not np.allclose(own.redshift_range, redshift_range):
        raise PopcatError(
            f"population {folder} was fitted in another range of parameters or redshift ({own.redshift_range}) than "
            f"the catalogue's training prior ({tuple(redshift_range)}): outside there are no draws; fit the population "
            "with the catalogue's survey and galaxy model"
        )
    return PopulationPrior(str(Path(folder).absolute()), population.name)
