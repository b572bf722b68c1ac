"""Speed and exactness of popcat's sampler against sbi's own, with the same weights, in one thread.

sbi samples an nflows MAF by nflows' inverse: one full pass per dimension and block. Here the very flow that popcat
samples is wrapped as sbi wraps its own (`NFlowsFlow` in a `DirectPosterior`), and its samples are drawn by sbi's
`sample` and `sample_batched`. The prior given to sbi has the whole space as its support, so that sbi never rejects a
draw: what sbi's rejection costs on a bounded prior is not in the ratio. popcat's side is `Sampler.transform`, standard
normal noise and log q (which sbi's side leaves out) included. Seconds are CPU seconds, so that other work on the
machine does not count.

ratio_torch is the same against popcat's own sampler in torch, block by block, which takes what the fused kernel does
not: GPUs, double precision, splines. compile_s are the CPU seconds of the first draw ever on a machine, which compiles
the kernel, and load_s those of the first one of a later process, which reads it from numba's cache.

The sizes: "15x2x500", the published one, random weights; "8x2x128", random weights. max_abs_diff_sigma is the largest
difference, over both sizes, from nflows' own inverse on the same noise, in standard deviations of the draws.
galaxies_per_s_100_draws is `Posterior.sample` of the embedded model, photometry to parameters, 100 draws a galaxy;
galaxies_per_s_with_properties is `Posterior.quantities`, with all derived properties and chi2, the best of five calls.
outside_prior_10m counts draws outside the prior among ten million (`--draws`).
"""

import copy
import os
import subprocess
import sys
import tempfile
import time
from functools import partial

import numpy as np
import torch
from sbi.inference.posteriors import DirectPosterior
from sbi.neural_nets.estimators import NFlowsFlow

from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.optimizer import Optimizer
from popcat.flows.sampler import BlockByBlock, Sampler, density_of
from popcat.flows.settings import Training
from popcat.forward.noise import add_noise
from popcat.galaxies import Observation
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_prior
from popcat.prior import FLAT

from environment import conclude, parser, print_table

N_DIM, N_CONTEXT = 11, 12
SIZES = {"15x2x500": (15, 2, 500), "8x2x128": (8, 2, 128)}
TASKS = ["1x1000", "1000x100"]
DRAWS = 100


def make_flow(size: str):
    """A flow of random weights."""
    torch.manual_seed(0)
    n_blocks, n_layers, hidden = SIZES[size]
    shape = {"n_blocks": n_blocks, "n_layers": n_layers, "hidden": hidden}
    return build_flow(Architecture(features=N_DIM, context=N_CONTEXT, **shape)).eval()


def sbi_posterior(flow) -> DirectPosterior:
    """The flow as sbi would hold it."""
    estimator = NFlowsFlow(flow, input_shape=torch.Size([N_DIM]), condition_shape=torch.Size([N_CONTEXT]))
    prior = torch.distributions.MultivariateNormal(torch.zeros(N_DIM), torch.eye(N_DIM))
    return DirectPosterior(estimator, prior)


def compare(size: str, tasks: list[str], repeat: int) -> list[dict]:
    """CPU seconds of each for each task."""
    flow = make_flow(size)
    posterior, fused, in_torch, rows = sbi_posterior(flow), Sampler(flow).transform, BlockByBlock(flow).inverse, []
    popcat_draws(fused, torch.randn(1, N_CONTEXT), 1)
    for task in tasks:
        n_galaxy, n_draw = (int(number) for number in task.split("x"))
        context = torch.randn(n_galaxy, N_CONTEXT)
        each = [partial(popcat_draws, fused, context, n_draw), partial(popcat_draws, in_torch, context, n_draw),
                partial(sbi_draws, posterior, context, n_draw)]  # fmt: skip
        seconds = best_of(repeat if n_galaxy == 1 else 1, *each)
        row = {"size": size, "task": task, **dict(zip(("popcat_s", "torch_s", "sbi_s"), seconds, strict=True))}
        rows.append(row | {"ratio": row["sbi_s"] / row["popcat_s"], "ratio_torch": row["torch_s"] / row["popcat_s"]})
    return rows


def popcat_draws(transform, context, n_draw):
    return transform(torch.randn(len(context), n_draw, N_DIM), context)


def sbi_draws(posterior, context, n_draw):
    if len(context) == 1:
        return posterior.sample((n_draw,), x=context, show_progress_bars=False)
    return posterior.sample_batched((n_draw,), x=context, show_progress_bars=False)


def best_of(repeat: int, *functions) -> list[float]:
    """CPU seconds of each one's fastest call; they take turns."""
    seconds = [[] for _ in functions]
    for _ in range(repeat):
        for function, taken in zip(functions, seconds, strict=True):
            start = time.process_time()
            function()
            taken.append(time.process_time() - start)
    return [min(taken) for taken in seconds]


@torch.no_grad()
def largest_difference(size: str, n_galaxy: int = 10, n_draw: int = 100) -> float:
    """From nflows' inverse on the same noise, in standard deviations of each galaxy's draws."""
    flow = make_flow(size)
    noise, context = torch.randn(n_galaxy, n_draw, N_DIM), torch.randn(n_galaxy, N_CONTEXT)
    draws, _ = Sampler(flow).transform(noise, context)
    expected, _ = flow._transform.inverse(noise.flatten(0, 1), context.repeat_interleave(n_draw, dim=0))
    expected = expected.view_as(draws)
    return ((draws - expected).abs() / expected.std(1, keepdim=True)).max().item()


def embedded(model: str, n_total: int) -> dict:
    """Galaxies a CPU second from photometry to draws, and draws outside the prior among `n_total`; flat prior."""
    posterior = load_posterior(model).under(FLAT)
    outside = n_drawn = seconds = 0
    while n_drawn < n_total:
        ids = n_drawn // DRAWS + np.arange(1000)
        data = mocks(posterior, ids)
        start = time.process_time()
        theta = posterior.sample(data, DRAWS, 0).theta
        seconds += time.process_time() - start
        outside += int((~posterior.prior.contains(theta.reshape(-1, theta.shape[-1]))).sum())
        n_drawn += len(ids) * DRAWS
    whole_s, *_ = best_of(5, partial(posterior.quantities, data, DRAWS, 0))
    return {
        "galaxies_per_s_100_draws": n_drawn / DRAWS / seconds, "outside_prior_10m": outside, "n_drawn": n_drawn,
        "galaxies_per_s_with_properties": len(ids) / whole_s,
    }  # fmt: skip


def mocks(posterior, ids):
    """Galaxies drawn from the prior, bright and faint, with noise."""
    survey, model = posterior.survey, posterior.galaxy_model
    theta, redshift = draw_prior(ids, survey, model, 1)
    flux = posterior.forward.flux(theta, redshift)
    normals = np.random.default_rng(int(ids[0])).standard_normal((len(ids), 2 * len(survey.bands)))
    return Observation(*add_noise(flux, posterior.noise, normals), redshift, np.full(len(ids), np.nan), ids)


FIRST_DRAW = """
import time, torch
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.sampler import Sampler
flow = build_flow(Architecture(features=3, context=2, n_blocks=1, hidden=8, n_layers=1))
start = time.process_time()
Sampler(flow).transform(torch.randn(1, 1, 3), torch.randn(1, 2))
print(time.process_time() - start)
"""


def first_draw() -> dict:
    """CPU seconds of the first draw in a process without numba's cache, and in one with it."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        runs = [subprocess.run([sys.executable, "-c", FIRST_DRAW], env=environment, capture_output=True, check=True)
                for _ in range(2)]  # fmt: skip
    return dict(zip(("compile_s", "load_s"), (float(run.stdout) for run in runs), strict=True))


def training_step(repeat: int, batch: int = 1024, n_step: int = 5) -> dict:
    """Pairs a CPU second of training at 8x2x128 in batches of 1,024, and how many times faster than nflows' own step.

    A step is the loss, its gradients, clipping and Adam; nflows' has autograd and torch's default Adam.
    """
    flow, theta, context = make_flow("8x2x128"), torch.randn(batch, N_DIM), torch.randn(batch, N_CONTEXT)
    other = copy.deepcopy(flow)
    optimizer, density = Optimizer(flow, Training(), 10_000), density_of(flow)
    adam = torch.optim.Adam(other.parameters(), lr=1e-4)

    def popcat_steps():
        for _ in range(n_step):
            density.loss_and_gradients(theta, context)
            optimizer.step()

    def nflows_steps():
        for _ in range(n_step):
            adam.zero_grad()
            (-other.log_prob(theta, context).mean()).backward()
            torch.nn.utils.clip_grad_norm_(other.parameters(), 5.0)
            adam.step()

    popcat_s, nflows_s = best_of(repeat, popcat_steps, nflows_steps)
    return {"training_pairs_per_s": n_step * batch / popcat_s, "ratio_nflows_training_step": nflows_s / popcat_s}


def on_device(device: str) -> dict:
    """Galaxies a second of the sampler alone at 8x2x128 on a device, 100 draws each (wall clock)."""
    sampler, context = Sampler(make_flow("8x2x128").to(device)), torch.randn(20_000, N_CONTEXT, device=device)
    noise = torch.randn(len(context), DRAWS, N_DIM, device=device)
    sampler.transform(noise[:1000], context[:1000])
    start = time.perf_counter()
    sampler.transform(noise, context)[0].sum().item()
    return {"device": device, "galaxies_per_s_device": len(context) / (time.perf_counter() - start)}


def main():
    """Compare, count, print."""
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    options.add_argument("--tasks", nargs="+", default=TASKS, help="galaxies x draws")
    options.add_argument("--repeat", type=int, default=7, help="calls of the task of one galaxy; the fastest counts")
    options.add_argument("--posterior", default="sdss", help="embedded model or folder")
    options.add_argument("--draws", type=int, default=10_000_000, help="draws to hold to the prior")
    options.add_argument("--device", help="also the sampler alone on this device, for example cuda")
    args = options.parse_args()
    torch.set_num_threads(1)
    rows = [row for size in args.sizes for row in compare(size, args.tasks, args.repeat)]
    print_table(rows, "sampling with the same weights, CPU seconds of one thread")
    result = {}
    for task in args.tasks:
        of_task = [row for row in rows if row["task"] == task]
        result |= {f"ratio_sbi_{task}": min(row["ratio"] for row in of_task)}
        result |= {f"ratio_torch_{task}": min(row["ratio_torch"] for row in of_task)}
    result["max_abs_diff_sigma"] = max(largest_difference(size) for size in args.sizes)
    result |= embedded(args.posterior, args.draws)
    result |= training_step(3 * args.repeat) | first_draw()
    result |= on_device(args.device) if args.device else {}
    print_table([result], "the smallest ratio over the sizes, and the embedded model")
    conclude(args.json, {**result, "sizes": rows})


if __name__ == "__main__":
    main()
