"""What a partition's rows say about trust: the tests that a galaxy must pass, and the proof of its correction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from popcat.catalog.photometry import observed
from popcat.inference.certify import Certified, Effort, certify
from popcat.inference.peers import Peers
from popcat.inference.posterior import Posterior
from popcat.inference.trust import N_DRAWS, worst_bands
from popcat.schema import CERTIFIED_ESS, CHI2_TAIL, FLAGS, PEERS_TAIL, SUPPORT_TAIL, UNCERTIFIED

if TYPE_CHECKING:
    from popcat.stages import Observation

# Draws at a time of the bands left out: bounds the memory of a partition.
_BATCH_DRAWS = 200_000
# Of a redshift over 1 + z: with a wider error it says little about colours.
_WIDE_REDSHIFT = 0.01


def certified_quantities(
    data: "Observation", posterior: Posterior, forward: Callable, derive: Callable, draws: int, seed: int,
    effort: Effort,
) -> tuple[dict[str, np.ndarray], Certified]:  # fmt: skip
    """Draws of every quantity, {name: (n, draws) float32}, corrected by the exact likelihood, and the proof of each.

    forward takes theta (m, n_parameter) and redshift (m,) to fluxes (m, n_band); derive to every quantity by name.
    """
    found = certify(
        posterior, forward, data.flux, data.flux_err, data.redshift, data.object_id, draws, seed,
        redshift_err=data.redshift_err, effort=effort,
    )  # fmt: skip
    quantities = derive(found.theta.reshape(len(data) * draws, -1), found.redshift.ravel())
    return {name: values.reshape(-1, draws).astype(np.float32) for name, values in quantities.items()}, found


@dataclass(frozen=True)
class Judgement:
    """What the tests say of n galaxies: flags (n,) bits to add; the columns of tails, each (n,); worst (n,), the index
    of the band that is off where a test failed, else -1."""

    flags: np.ndarray
    tails: dict[str, np.ndarray]
    worst: np.ndarray


def judge(
    data: "Observation", posterior: Posterior, forward: Callable, chi2_best: np.ndarray, seed: int,
    peers: Peers | None = None,
) -> Judgement:  # fmt: skip
    """The tests of galaxies whose best fit has chi2_best (n,), by the model and by the catalogue's own galaxies."""
    known = _known_redshift(data)
    noise, colours = posterior.support.tails(data.flux, data.flux_err, known)
    by_model, band = posterior.support.band_tails(data.flux, data.flux_err, known)
    by_peers, peers_band = np.full(len(data), np.nan), band
    if peers is not None:
        by_peers, peers_band = peers.band_tails(data.flux, data.flux_err, known, data.redshift_err)
    failed = {
        "high_chi2": chi2_best > _chi2_limit(observed(data.flux, data.flux_err).sum(axis=1)),
        "unusual_noise": noise < SUPPORT_TAIL,
        "unusual_colours": colours < SUPPORT_TAIL,
        "band_off": (by_model < SUPPORT_TAIL) | (by_peers < PEERS_TAIL),
    }
    worst = _worst(data, failed, posterior, forward, seed)
    worst = np.where(failed["band_off"], np.where(by_peers < PEERS_TAIL, peers_band, band), worst)
    flags = sum(FLAGS[name] * mask for name, mask in failed.items())
    tails = {"tail_noise": noise, "tail_colours": colours, "tail_band": by_model, "tail_peers": by_peers}
    return Judgement(flags, tails, worst)


def certificate_columns(proof: Certified | None, flags: np.ndarray, rows: np.ndarray) -> dict[str, pa.Array]:
    """The columns of popcat.schema.certificate_fields; without a proof they say so. flags (n,); rows were inferred."""
    n = len(flags)
    route, why = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
    route[rows] = "flow" if proof is None else proof.route
    certified = np.zeros(n, dtype=bool)
    numbers = ("log_evidence", "ess", "efficiency", "pareto_k")
    columns = {name: pa.nulls(n, pa.float32()) for name in numbers} | {"n_proposals": np.zeros(n, dtype=np.int32)}
    if proof is not None:
        why[rows] = np.where(proof.route_why == "", None, proof.route_why)
        passed = (flags[rows] & sum(FLAGS[name] for name in UNCERTIFIED)) == 0
        certified[rows] = passed & np.isin(proof.route, ("flow+is", "smc")) & (proof.ess >= CERTIFIED_ESS)
        columns |= {name: scatter(getattr(proof, name), rows, n, nan_is_null=True) for name in numbers}
        columns["n_proposals"][rows] = proof.n_proposals
    text = {"route": pa.array(route, type=pa.string()), "route_why": pa.array(why, type=pa.string())}
    return {"certified": certified, **text, **columns}


def scatter(values: np.ndarray, rows: np.ndarray, n: int, *, nan_is_null: bool = False) -> pa.Array:
    """A float32 column of n rows with nulls in the others.

    >>> scatter(np.array([1.5]), np.array([1]), 2).to_pylist()
    [None, 1.5]
    """
    full = np.zeros(n, dtype=np.float32)
    with np.errstate(over="ignore"):  # a chi2 beyond float32 is infinite
        full[rows] = values
    return pa.array(full, mask=others(rows, n) | (np.isnan(full) & nan_is_null))


def others(rows: np.ndarray, n: int) -> np.ndarray:
    """Which of n rows are not among `rows`, (n,) bool."""
    missing = np.ones(n, dtype=bool)
    missing[rows] = False
    return missing


def _known_redshift(data) -> np.ndarray:
    """Redshifts; NaN with a wide error, which is no coordinate of the colours."""
    is_wide = data.redshift_err > _WIDE_REDSHIFT * (1.0 + data.redshift)
    return np.where(is_wide, np.nan, data.redshift)


def _worst(data, failed: dict[str, np.ndarray], posterior: Posterior, forward: Callable, seed: int) -> np.ndarray:
    """Index of the band that is off where a galaxy fails a test, else -1: by its flux, or else by its error."""
    worst = np.full(len(data), -1)
    rows = np.flatnonzero(failed["unusual_noise"])
    worst[rows] = posterior.support.unusual_noise(data.flux[rows], data.flux_err[rows])
    # band_off names its own
    rows = np.flatnonzero((failed["high_chi2"] | failed["unusual_colours"]) & ~failed["band_off"])
    step = max(_BATCH_DRAWS // N_DRAWS, 1)
    for start in range(0, len(rows), step):
        some = data[rows[start : start + step]]
        worst[rows[start : start + step]] = worst_bands(posterior, forward, *vars(some).values(), seed)
    return worst


def _chi2_limit(n_bands: np.ndarray) -> np.ndarray:
    """chi2 that pure noise exceeds with probability CHI2_TAIL: even the best of all models would not fit."""
    from scipy.stats import chi2

    return chi2.isf(CHI2_TAIL, n_bands)
