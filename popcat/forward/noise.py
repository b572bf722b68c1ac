"""The empirical noise model: flux -> flux error -> noisy flux (SEDflow, section 4.2).

Per band, ln(error) is normal about mu(f) with scatter s(f), both estimated in bins of flux from the observed catalogue
and interpolated in ln(flux): sigma' = exp(mu + s n1), f' = f + sigma' n2. A logarithm keeps every sigma' positive, so
no draw is removed. No flux is clipped or redrawn for being negative.

The posterior is conditioned on sigma, so the noise model only has to cover the data: the scatter is widened.

Without a catalogue there is a nominal model, from the survey's depths (`nominal_noise`).
"""

from importlib.resources import files
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pydantic

from popcat.display import Displayed, listed
from popcat.errors import PopcatError
from popcat.files import read_json
from popcat.paths import path_of
from popcat.settings import validation_summary
from popcat.survey import Band, Survey
from popcat.units import ab_mag_to_nmgy, nmgy_to_ab_mag

# Histograms that partitions add up: natural logarithms of flux and error in nMgy.
LN_FLUX_BINS = np.linspace(np.log(1e-4), np.log(1e8), 139)
LN_ERR_BINS = np.linspace(np.log(1e-6), np.log(1e6), 1382)
_MIN_COUNT = 30
WIDEN = 1.5
MIN_SCATTER = 0.2
NOMINAL_SCATTER = WIDEN * 0.3
"""Scatter of nominal noise in ln(error), widened like a fitted one: depths vary, and galaxies are no point sources."""
GAMMA = 0.039
"""Of 0.04, the share of the sky's noise at 5 sigma in LSST's g to y (Ivezic et al. 2019, table 2)."""
# Flux over that at 5 sigma: from where the sky is all to where the floor is.
_NOMINAL_NODES = np.geomspace(1e-2, 1e5, 36)


class BandNoise(pydantic.BaseModel):
    """One band: nodes in ln(flux), and there the median and scatter of ln(error); natural logarithms, nMgy."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    ln_flux: tuple[float, ...] = pydantic.Field(min_length=2)
    ln_err: tuple[float, ...]
    scatter: tuple[float, ...]

    def median_ln_err(self, ln_flux: np.ndarray) -> np.ndarray:
        """ln of the median error at fluxes (n,): fainter than the catalogue's the background's, which is constant;
        brighter a constant fraction of the flux. `add_noise` has the same.

        >>> band = BandNoise(ln_flux=(0.0, 1.0), ln_err=(-2.0, -1.5), scatter=(0.2, 0.2))
        >>> band.median_ln_err(np.array([-3.0, 0.5, 3.0])).tolist()
        [-2.0, -1.75, 0.5]
        """
        return np.interp(ln_flux, self.ln_flux, self.ln_err) + np.maximum(ln_flux - self.ln_flux[-1], 0.0)

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if not len(self.ln_flux) == len(self.ln_err) == len(self.scatter):
            raise ValueError("ln_flux, ln_err and scatter need the same length")
        if any(np.diff(self.ln_flux) <= 0):
            raise ValueError("ln_flux must ascend")
        return self


class Noise(Displayed, pydantic.BaseModel):
    """Noise of every band of a survey, in the order of its bands."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    survey: str
    n_galaxies: int
    """Galaxies of the best measured band; 0 says that the model is nominal."""
    bands: dict[str, BandNoise]

    def _title(self) -> str:
        return f"Noise of survey {self.survey}"

    def _facts(self) -> dict[str, object]:
        made = "the survey's depths (nominal)" if self.is_nominal else f"up to {self.n_galaxies:,} galaxies per band"
        return {"bands": listed(list(self.bands), 20), "from": made}

    @property
    def is_nominal(self) -> bool:
        """Whether it comes from published depths, not from a catalogue."""
        return self.n_galaxies == 0

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nodes, medians and scatters as (n_band, n_node) arrays for the kernel; short bands repeat their last node."""
        n = max(len(band.ln_flux) for band in self.bands.values())

        def padded(values, step):
            return np.concatenate([values, values[-1] + step * np.arange(1, n - len(values) + 1)])

        columns = [(padded(b.ln_flux, 1.0), padded(b.ln_err, 1.0), padded(b.scatter, 0.0)) for b in self.bands.values()]
        nodes, medians, scatters = (np.ascontiguousarray(part) for part in zip(*columns, strict=True))
        return nodes, medians, scatters


def noise_counts(frame: pd.DataFrame, survey: Survey) -> np.ndarray:
    """Counts of galaxies by ln(flux) and ln(error), (n_band, n_flux, n_err) int64, of one photometry frame.

    A galaxy counts in every band in which it has a positive flux and a good error, whatever its other bands have.
    Counts of partitions add up to those of the catalogue, so the fit does not depend on the partitioning.
    """
    counts = []
    for name in survey.band_names:
        flux, err = frame[f"flux_{name}"].to_numpy(), frame[f"flux_err_{name}"].to_numpy()
        seen = (flux > 0) & (err > 0) & np.isfinite(err)
        counts.append(np.histogram2d(np.log(flux[seen]), np.log(err[seen]), bins=(LN_FLUX_BINS, LN_ERR_BINS))[0])
    return np.array(counts).astype(np.int64)


def noise_from_counts(
    counts: np.ndarray, survey: Survey, *, widen: float = WIDEN, min_scatter: float = MIN_SCATTER, fill: bool = False
) -> Noise:
    """The noise model of summed `noise_counts`, its scatter `widen` times the catalogue's and at least `min_scatter`.

    fill : a band with too few galaxies gets the nominal noise of its depth, or of the errors that there are.

    Raises PopcatError where a band has too few galaxies with positive flux and error, and is not filled.
    """
    bands = {}
    for name, band, table in zip(survey.band_names, survey.bands, counts, strict=True):
        if table.sum() >= 2 * _MIN_COUNT:
            bands[name] = _fit_band(table, widen, min_scatter)
        elif fill and (band.depth_5sigma_mag is not None or table.sum()):
            bands[name] = _nominal_band(band if band.depth_5sigma_mag is not None else _with_depth(band, table))
        else:
            hint = "; give the band a depth_5sigma_mag, or leave it out" if fill else "; fit on more of the catalogue"
            raise PopcatError(
                f'noise fit, band "{name}": expected at least {2 * _MIN_COUNT} galaxies with positive '
                f"flux and error, got {int(table.sum())}{hint}"
            )
    return Noise(survey=survey.name, n_galaxies=int(counts.sum(axis=(1, 2)).max()), bands=bands)


def _with_depth(band: Band, table: np.ndarray) -> Band:
    """A band with the depth that its few galaxies' median error implies."""
    err_mid = 0.5 * (LN_ERR_BINS[1:] + LN_ERR_BINS[:-1])
    of_error = np.cumsum(table.sum(axis=0)) / table.sum()
    depth = nmgy_to_ab_mag(5.0 * np.exp(err_mid[np.searchsorted(of_error, 0.5)]))
    return band.model_copy(update={"depth_5sigma_mag": float(depth)})


def _fit_band(table: np.ndarray, widen: float, min_scatter: float) -> BandNoise:
    """Median and 16-84 half-width of ln(error) in groups of neighbouring flux bins that hold enough galaxies."""
    flux_mid, err_mid = 0.5 * (LN_FLUX_BINS[1:] + LN_FLUX_BINS[:-1]), 0.5 * (LN_ERR_BINS[1:] + LN_ERR_BINS[:-1])
    nodes, medians, scatters = [], [], []
    group = np.zeros(table.shape[1])
    weight = 0.0
    # groups of at least _MIN_COUNT galaxies and at most 100 of them
    target = max(_MIN_COUNT, table.sum() / 100.0)
    for i, row in enumerate(table):
        group += row
        weight += row.sum() * flux_mid[i]
        if group.sum() >= target or (i == len(table) - 1 and group.sum() >= _MIN_COUNT):
            cumulative = np.cumsum(group) / group.sum()
            low, median, high = err_mid[np.searchsorted(cumulative, [0.16, 0.5, 0.84])]
            nodes.append(float(weight / group.sum()))
            medians.append(float(median))
            scatters.append(float(max(widen * 0.5 * (high - low), min_scatter)))
            group, weight = np.zeros(table.shape[1]), 0.0
    if len(nodes) == 1:
        nodes, medians, scatters = [nodes[0], nodes[0] + 1.0], medians * 2, scatters * 2
    return BandNoise(ln_flux=tuple(nodes), ln_err=tuple(medians), scatter=tuple(scatters))


def nominal_noise(survey: Survey) -> Noise:
    """The noise model that a survey's published depths imply, for want of a catalogue.

        sigma^2 = (0.04 - gamma) f f5 + gamma f5^2 + (floor f)^2,  f5 = 10^(0.4 (22.5 - depth))

    with f5 the flux at 5 sigma: Ivezic et al. 2019 (ApJ 873, 111, eq. 5) in flux, with the photons of the source in its
    first term and those of the sky in its second, and the survey's error floor. Scatter `NOMINAL_SCATTER`.

    Raises PopcatError if a band has no `depth_5sigma_mag`.
    """
    missing = [band.name for band in survey.bands if band.depth_5sigma_mag is None]
    if missing:
        raise PopcatError(
            f'survey "{survey.name}" has no noise model: run `popcat noise fit CATALOG --survey ... -o noise.json` and '
            f"pass it with --noise, or give depth_5sigma_mag in the survey file to bands {', '.join(missing)}"
        )
    return Noise(survey=survey.name, n_galaxies=0, bands={band.name: _nominal_band(band) for band in survey.bands})


def _nominal_band(band: Band) -> BandNoise:
    depth = ab_mag_to_nmgy(band.depth_5sigma_mag)
    flux = depth * _NOMINAL_NODES
    err = np.sqrt((0.04 - GAMMA) * flux * depth + GAMMA * depth**2 + (band.error_floor * flux) ** 2)
    scatter = np.full(len(flux), NOMINAL_SCATTER)
    return BandNoise(ln_flux=tuple(np.log(flux).tolist()), ln_err=tuple(np.log(err).tolist()),
                     scatter=tuple(scatter.tolist()))


@numba.njit(nogil=True, cache=True)
def _add_noise_kernel(flux, normals, nodes, medians, scatters, noisy, err):
    n_band = flux.shape[1]
    last = nodes.shape[1] - 1
    for i in range(flux.shape[0]):
        for b in range(n_band):
            x = np.log(max(flux[i, b], 1e-30))
            # fainter than the catalogue the error is the background's; brighter it is a fraction of the flux
            above = max(x - nodes[b, last], 0.0)
            x = min(max(x, nodes[b, 0]), nodes[b, last])
            j = min(max(np.searchsorted(nodes[b], x) - 1, 0), last - 1)
            f = (x - nodes[b, j]) / (nodes[b, j + 1] - nodes[b, j])
            mean = medians[b, j] * (1.0 - f) + medians[b, j + 1] * f + above
            spread = scatters[b, j] * (1.0 - f) + scatters[b, j + 1] * f
            sigma = np.exp(mean + spread * normals[i, b])
            err[i, b] = sigma
            noisy[i, b] = flux[i, b] + sigma * normals[i, n_band + b]


def add_noise(flux: np.ndarray, noise: Noise, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noisy fluxes and their errors, each (n, n_band), of model fluxes (n, n_band) in nMgy.

    normals is (n, 2 n_band), standard normal: the first half draws the errors, the second the fluxes.
    """
    flux = np.ascontiguousarray(flux, dtype=np.float64)
    noisy, err = np.empty_like(flux), np.empty_like(flux)
    _add_noise_kernel(flux, np.ascontiguousarray(normals), *noise.tables(), noisy, err)
    return noisy, err


def load_noise(path: "str | Path", survey: Survey) -> Noise:
    """A noise model that `popcat noise fit` wrote.

    Raises PopcatError if there is none or it belongs to other bands.
    """
    return check_noise(read_noise(path), survey, str(path))


def read_noise(path: "str | Path") -> Noise:
    """A noise model of whatever bands; `check_noise` says whether they are a survey's.

    Raises PopcatError if there is none.
    """
    path = path_of(path)
    if not path.is_file():
        raise PopcatError(f"no noise model at {path}: expected a file written by `popcat noise fit`")
    try:
        return Noise.model_validate(read_json(path))
    except (ValueError, UnicodeDecodeError) as error:
        text = validation_summary(error) if isinstance(error, pydantic.ValidationError) else error
        raise PopcatError(f"{path} is not a noise model written by `popcat noise fit`: {text}") from error


def default_noise(survey: Survey) -> Noise:
    """The embedded noise model of an embedded survey, else the nominal one of its depths.

    Raises PopcatError if there is neither.
    """
    path = files("popcat") / "data" / "surveys" / f"{survey.name}.noise.json"
    return load_noise(Path(str(path)), survey) if path.is_file() else nominal_noise(survey)


def noise_of(given: "Noise | str | Path | None", survey: Survey) -> Noise:
    """Noise as a user gives it: itself, the file of `fit_noise`, or None for the survey's own (`default_noise`).

    Raises PopcatError if there is none, or it belongs to other bands.
    """
    if given is None:
        return default_noise(survey)
    return check_noise(given, survey, "noise") if isinstance(given, Noise) else load_noise(given, survey)


def check_noise(noise: Noise, survey: Survey, where: str) -> Noise:
    """The noise model with its bands in the survey's order; PopcatError if they are not the survey's bands.

    A JSON object has no order, and a canonical one is sorted: whatever was stored must come through here.
    """
    if set(noise.bands) != set(survey.band_names):
        raise PopcatError(
            f'{where} holds bands {", ".join(noise.bands)}; survey "{survey.name}" has '
            f"{', '.join(survey.band_names)}: fit the noise of this survey"
        )
    return noise.model_copy(update={"bands": {name: noise.bands[name] for name in survey.band_names}})
