"""Derive popcat's star-formation and metallicity-history bases: popcat/data/bases.csv.

Run ``python popcat/data/derive/bases.py -o popcat/data/bases.csv`` in an environment with
``diffstarpop==0.0.2 diffstar==0.3.5 diffmah==0.7.3 jax==0.10.2 scikit-learn==1.9.1 scipy`` (one minute on one core).

The family. Haloes uniform in log mass today, 1e11 to 1e14.5 Msun, grow as DiffmahPop has them; DiffstarPop with
its IllustrisTNG parameters draws for each a main-sequence or a quenched history, with the probability of its mass.
A quarter are satellites, infallen 0 to 10 Gyr ago into a host ten times heavier. Each history is seen from its own
cosmic time, uniform in 8 to 13.8 Gyr (z = 0.6 to 0): the bases are functions of lookback time from the OBSERVED
galaxy, and with histories seen today only, three of four would lie before 9 Gyr and be empty at z = 0.5.

Smoothing. The value at lookback t is the mean under a Gaussian of width

    sigma(t) = max(0.1, min(0.3 + 0.1 t, 0.4 (t_obs - t))) Gyr,

reflected at t = 0: no wider than photometry can date stars, and narrow near the Big Bang, which it must not cross.

Weights. Galaxies of every stellar mass count alike (inverse number in bins of 0.25 dex of formed mass), and lookback
times count as 1 / (t + 0.5 Gyr), about as a unit of mass shines: the squared residual that NMF minimises is of the
rate times the square root of both.

Metallicity. A gas regulator's budget: the metals made so far are shared by stars, outflow and gas,

    Z(t) = y M(t) / (M_gas(t) + (1 + eta) M(t)),   M_gas = 4 Gyr (M / 1e10)^-0.25 SFR,   eta = (M / 1e10)^-0.35,

M(t) the mass formed by t in Msun. These are histories seen today, unweighted, each scaled to maximum 1, so the yield
y drops out. They need no other epochs: no star is older than the universe, so what a basis does there is not used.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

T_NOW_GYR = 13.8
ZH_MAXIMUM = 3.0  # with gamma up to 1.5e-2 the prior then reaches super-solar metallicity: 30% above 0.019
LOOKBACK_GYR = np.linspace(0.0, T_NOW_GYR, 50)
FINE_GYR = np.linspace(0.0, T_NOW_GYR, 49 * 14 + 1)
N_GALAXIES = 4000
SEED = 0
PACKAGES = ("diffstarpop", "diffstar", "diffmah", "jax", "scikit-learn")


def halo_histories(log_mhalo, cosmic_gyr, key):
    """Mass-assembly histories that reach log_mhalo (n,) today: DiffmahPop's centrals."""
    from diffmah.diffmahpop_kernels.bimod_censat_params import DEFAULT_DIFFMAHPOP_PARAMS
    from diffmah.diffmahpop_kernels.mc_bimod_cens import mc_cenpop
    from diffstar.defaults import LGT0

    t_obs = np.full_like(log_mhalo, T_NOW_GYR)
    return mc_cenpop(DEFAULT_DIFFMAHPOP_PARAMS, cosmic_gyr, log_mhalo, t_obs, key, LGT0)


def star_formation_rates(haloes, log_mhalo, cosmic_gyr, key, rng):
    """Star-formation rates (n, n_time) in Msun/yr: main sequence or quenched, as DiffstarPop draws it."""
    from diffstarpop.kernels.params import params_diffstarpopfits_line_sepms_satfrac_sigslope_tng as tng
    from diffstarpop.mc_diffstarpop_tpeak_sepms_satfrac_sigslope import mc_diffstar_sfh_galpop

    satellite = rng.random(len(log_mhalo)) < 0.25
    log_host_ratio = np.where(satellite, -1.0, 0.0)
    since_infall = np.where(satellite, rng.uniform(0.0, 10.0, len(log_mhalo)), -100.0)
    _, _, main_sequence, quenched, _, is_quenched = mc_diffstar_sfh_galpop(
        tng.DIFFSTARPOP_FITS_TNG_DIFFSTARPOP_PARAMS, haloes.mah_params, log_mhalo, np.where(satellite, 0, -1),
        log_host_ratio, log_mhalo - log_host_ratio, since_infall, key, cosmic_gyr,
    )  # fmt: skip
    return np.where(np.asarray(is_quenched)[:, None], quenched, main_sequence).astype(float)


def draw_family(n_galaxies=N_GALAXIES, seed=SEED):
    """Star-formation rates (n, len(FINE_GYR)) in Msun/yr on LOOKBACK time from today."""
    from jax import random

    cosmic_gyr = np.maximum(T_NOW_GYR - FINE_GYR[::-1], 0.01)
    log_mhalo = np.linspace(11.0, 14.5, n_galaxies)
    key_halo, key_stars = random.split(random.PRNGKey(seed))
    haloes = halo_histories(log_mhalo, cosmic_gyr, key_halo)
    rates = star_formation_rates(haloes, log_mhalo, cosmic_gyr, key_stars, np.random.default_rng(seed))
    # A few draws peak at once and never reach the mass that was asked for.
    reached = np.abs(np.asarray(haloes.log_mah)[:, -1] - log_mhalo) < 0.3
    return rates[reached, ::-1]


def observe(rates, seed=SEED):
    """The same galaxies seen from earlier: rates on lookback time from t_obs (zero before the Big Bang), and t_obs."""
    step = FINE_GYR[1]
    t_obs = np.random.default_rng(seed + 1).permutation(np.linspace(8.0, T_NOW_GYR, len(rates)))
    shifts = np.round((T_NOW_GYR - t_obs) / step).astype(int)
    seen = [np.concatenate([rate[k:], np.zeros(k)]) for rate, k in zip(rates, shifts, strict=True)]
    return np.array(seen), T_NOW_GYR - shifts * step


def smooth(curve, t_obs):
    """One curve, from FINE_GYR to LOOKBACK_GYR, with the kernel of the module docstring; zero from t_obs on."""
    width = np.maximum(np.minimum(0.3 + 0.1 * LOOKBACK_GYR, 0.4 * (t_obs - LOOKBACK_GYR)), 0.1)[:, None]
    node = LOOKBACK_GYR[:, None]
    kernel = np.exp(-0.5 * ((node - FINE_GYR) / width) ** 2) + np.exp(-0.5 * ((node + FINE_GYR) / width) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.where(t_obs > LOOKBACK_GYR, kernel @ curve, 0.0)


def unit_mass(table):
    """Rows of a table on LOOKBACK_GYR scaled to integral 1 (trapezoid), in 1/Gyr."""
    return table / np.trapezoid(table, LOOKBACK_GYR, axis=1)[:, None]


def unit_maximum(table):
    """Rows scaled to maximum 1."""
    return table / table.max(axis=1, keepdims=True)


def mass_weights(rates):
    """Weights (n,), mean 1, with which every 0.25 dex of formed stellar mass counts alike."""
    log_mass = np.log10(np.trapezoid(rates, FINE_GYR, axis=1) * 1e9)
    edges = np.arange(9.0, 12.01, 0.25)
    index = np.clip(np.digitize(log_mass, edges) - 1, 0, len(edges) - 2)
    weights = 1.0 / np.bincount(index, minlength=len(edges) - 1)[index]
    return weights / weights.mean()


def metallicity(rates):
    """The gas regulator's metallicity (n, n_time) up to a factor, from rates on lookback time from today."""
    mass = np.cumsum(rates[:, ::-1], axis=1)[:, ::-1] * FINE_GYR[1] * 1e9
    scaled = np.maximum(mass, 1e6) / 1e10
    gas = 4e9 * scaled**-0.25 * rates
    return mass / (gas + (1.0 + scaled**-0.35) * mass)


def factorise(table, n_components, *, row_weights=None, node_weights=None):
    """Non-negative components (n_components, n_node) of a table, youngest first; deterministic.

    The loss is sum_ij r_i w_j (X - W H)_ij^2. NNDSVDa starts from the data's own singular vectors: no random draw.
    """
    from sklearn.decomposition import NMF

    rows = np.ones(len(table)) if row_weights is None else row_weights
    nodes = np.ones(table.shape[1]) if node_weights is None else node_weights
    model = NMF(n_components, init="nndsvda", solver="cd", tol=1e-6, max_iter=20_000, random_state=0)
    model.fit(table * np.sqrt(rows)[:, None] * np.sqrt(nodes))
    parts = model.components_ / np.sqrt(nodes)
    return parts[np.argsort(parts @ LOOKBACK_GYR / parts.sum(axis=1))]


def mass_fractions(table):
    """Mass in each of the 49 intervals of the table, linear in between."""
    return (table[:, 1:] + table[:, :-1]) / 2 * LOOKBACK_GYR[1]


def sfh_residual(histories, bases):
    """L1 error (0 to 2) of the mass fraction per interval: best mixture of bases, against each history."""
    targets, parts = mass_fractions(histories), mass_fractions(unit_mass(bases))
    mixtures = [nnls(parts.T, target)[0] for target in targets]
    mixtures = [mixture / mixture.sum() for mixture in mixtures]
    return np.abs(targets - np.array(mixtures) @ parts).sum(axis=1)


def zh_residual(histories, bases, masses):
    """Mean |Z - fit| over the stars (mass fractions per interval) of histories with maximum 1."""
    weights = np.hstack([masses, np.zeros((len(masses), 1))])
    fits = [nnls((bases * np.sqrt(w)).T, z * np.sqrt(w))[0] @ bases for z, w in zip(histories, weights, strict=True)]
    return (weights * np.abs(histories - fits)).sum(axis=1)


def published_bases(folder):
    """The PROVABGS bases (4, 50) and (2, 50) on LOOKBACK_GYR, from a folder with its three text files."""
    folder = Path(folder)
    nodes = np.loadtxt(folder / "sfh_t_int.txt")[::-1]
    sfh = np.loadtxt(folder / "NMF_2basis_SFH_components_nowgt_lin_Nc4.txt")[[2, 0, 1, 3], ::-1]
    zh = np.loadtxt(folder / "NMF_2basis_Z_components_nowgt_lin_Nc2.txt")[:, ::-1]
    return tuple(np.array([np.interp(LOOKBACK_GYR, nodes, row) for row in rows]) for rows in (sfh, zh))


def quantiles(values, weights):
    """Weighted median and 95th percentile as text."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    median, high = values[order][np.searchsorted(share, [0.5, 0.95])]
    return f"median {median:.3f}, 95th percentile {high:.3f}"


def write_csv(path, sfh, zh):
    """The table, under a header of comments that say what it is."""
    made_with = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    comments = (
        "popcat's bases of star-formation (sfh) and metallicity (zh) histories",
        "made by popcat/data/derive/bases.py, whose docstring describes family, smoothing and weights",
        f"NMF of {N_GALAXIES} DiffstarPop galaxies (IllustrisTNG parameters), with {made_with}",
        "lookback_gyr: Gyr before the observed epoch; linear in between; zero beyond the age of the universe",
        "sfh1..4: star-formation rate of unit formed mass, 1/Gyr, integral 1 (trapezoid), youngest first",
        "zh1..2: metallicity history, maximum 3: Z(t) = gamma1 zh1(t) + gamma2 zh2(t), absolute mass fraction",
    )
    names = ["lookback_gyr", *(f"sfh{i + 1}" for i in range(len(sfh))), *(f"zh{i + 1}" for i in range(len(zh)))]
    rows = np.vstack([LOOKBACK_GYR, sfh, zh]).T
    with open(path, "w") as file:
        file.writelines(f"# {line}\n" for line in comments)
        file.write(",".join(names) + "\n")
        np.savetxt(file, rows, fmt="%.6g", delimiter=",")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Derive popcat's bases by NMF of DiffstarPop galaxies.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the CSV file to write")
    parser.add_argument("--compare", type=Path, help="folder with the published PROVABGS bases: print their residual")
    options = parser.parse_args(arguments)

    today = draw_family()
    seen, t_obs = observe(today)
    weights = mass_weights(seen)
    histories = unit_mass(np.array([smooth(*pair) for pair in zip(seen, t_obs, strict=True)]))
    metals = unit_maximum(np.array([smooth(curve, T_NOW_GYR) for curve in metallicity(today)]))
    masses = mass_fractions(unit_mass(np.array([smooth(curve, T_NOW_GYR) for curve in today])))

    sfh = unit_mass(factorise(histories, 4, row_weights=weights, node_weights=1.0 / (LOOKBACK_GYR + 0.5)))
    zh = ZH_MAXIMUM * unit_maximum(factorise(metals, 2))
    write_csv(options.output, sfh, zh)
    candidates = {"popcat": (sfh, zh)}
    if options.compare:
        candidates["published"] = published_bases(options.compare)
    for name, (star_formation, metal) in candidates.items():
        print(f"{name}: {len(histories)} histories, L1 of mass fractions:", end=" ")
        print(quantiles(sfh_residual(histories, star_formation), weights))
        print(f"{name}: mass-weighted |dZ| / max Z:", end=" ")
        print(quantiles(zh_residual(metals, metal, masses), np.ones(len(metals))))


if __name__ == "__main__":
    sys.exit(main())
