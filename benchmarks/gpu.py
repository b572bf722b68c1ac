"""A GPU that hosts the flow: galaxies/s of posteriors, certified ones and each stage, against one core of the CPU.

    python benchmarks/gpu.py --n 200000 --json gpu.json

Mock galaxies of a posterior's own prior and noise, in one process, as a GPU worker has them: random numbers, flow,
forward model, masses and properties on the device; percentiles, encoding and Parquet on the CPU. Where torch finds no
GPU the CPU is measured alone, and "gpu" in the JSON is null. The first part of every measurement is thrown away: it
holds the start of the device.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from popcat.checks.certify import Effort, certify
from popcat.galaxies import Observation, observation
from popcat.inference.partition import infer_table
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.posterior.simulated import draw_mocks

from environment import conclude, parser, posterior_options, print_table

SEED = 5


def main():
    arguments = options()
    posterior = load_posterior(arguments.posterior).under(arguments.prior)
    mocks = draw_mocks(posterior, arguments.n, SEED).assign(redshift_err=np.nan, ra=np.nan, dec=np.nan, flags=0)
    rows = [measure(posterior, mocks, arguments.cpu_n, arguments)]
    if torch.cuda.is_available():
        rows.append(measure(posterior.to("cuda"), mocks, arguments.n, arguments))
    print_table(rows, f"galaxies/s, {arguments.draws} draws a galaxy, in one process")
    cpu, gpu = rows[0], rows[1] if len(rows) > 1 else None
    if gpu:
        print(f"ratio to one core: posteriors {gpu['galaxies_per_s'] / cpu['galaxies_per_s']:.1f}, "
              f"certified {gpu['certified_per_s'] / cpu['certified_per_s']:.1f}")
    conclude(arguments.json, {"n": arguments.n, "draws": arguments.draws, "cpu": cpu, "gpu": gpu})


def options():
    arguments = parser(__doc__)
    posterior_options(arguments)
    arguments.add_argument("--n", type=int, default=200_000, help="galaxies on the GPU (200000)")
    arguments.add_argument("--cpu-n", type=int, default=5_000, help="galaxies on the CPU (5000)")
    arguments.add_argument("--draws", type=int, default=100, help="posterior draws a galaxy (100)")
    arguments.add_argument("--certified", type=int, default=20, help="one galaxy in so many is certified (20)")
    return arguments.parse_args()


def measure(posterior: Posterior, mocks: pd.DataFrame, n: int, arguments) -> dict:
    """Galaxies/s of each stage, of the whole and of certification, and what takes most of the whole's time."""
    some, draws = mocks.iloc[:n], arguments.draws
    data = observation(some, posterior.survey)
    warm = data[: max(n // 20, 10)]
    sampled = posterior.sample(warm, draws, SEED)
    posterior.derive(sampled.theta, sampled.redshift)
    step = max((200_000 if posterior.device == "cpu" else 2_000_000) // draws, 1)
    parts = [slice(start, start + step) for start in range(0, n, step)]
    kept = []
    seconds = {"sample": timed(posterior, lambda: kept.extend(posterior.sample(data[p], draws, SEED) for p in parts))}
    seconds["derive"] = timed(posterior, lambda: [posterior.derive(one.theta, one.redshift) for one in kept])
    unknown = replace(data, redshift=np.full(n, np.nan))
    seconds["sample, redshift unknown"] = timed(
        posterior, lambda: [posterior.sample(unknown[p], draws, SEED) for p in parts])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        whole = timed(posterior, lambda: pq.write_table(infer_table(some, posterior, draws, SEED),
                                                        Path(folder) / "part.parquet"))  # fmt: skip
    few: Observation = data[:: arguments.certified]
    corrected = timed(posterior, lambda: certify(posterior, few, draws, SEED, effort=Effort()))
    rates = {f"{name} /s": n / value for name, value in seconds.items()}
    shares = {"sample": seconds["sample"] / whole, "derive": seconds["derive"] / whole}
    shares["percentiles, encoding, checks, Parquet"] = max(1.0 - sum(shares.values()), 0.0)
    device = torch.cuda.get_device_name() if posterior.device.startswith("cuda") else posterior.device
    return {"device": device, "galaxies_per_s": n / whole, "certified_per_s": len(few) / corrected, **rates,
            "bound_by": max(shares, key=shares.__getitem__)}  # fmt: skip


def timed(posterior: Posterior, work) -> float:
    """Seconds of the work, the device's included."""
    started = time.perf_counter()
    work()
    if posterior.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
