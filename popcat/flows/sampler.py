"""The density of a flow of any family, with one interface.

Draws from a conditional flow, and its density, both with the context projected once per galaxy.

A mixture of flows trained apart: draws of one member each, log q of the whole mixture.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from popcat.flows.architecture import Made, blocks_of
from popcat.flows.autoregressive import Autoregressive, AutoregressiveInverse, standard_normal_log_prob
from popcat.flows.fused import Fused, fits
from popcat.flows.settings import Training
from popcat.flows.splines import Coupling, CouplingInverse


def density_of(flow) -> Autoregressive | Coupling:
    """Its `log_prob`, its `loss_and_gradients`, and `frozen` for many calls with the same weights."""
    return Autoregressive(flow) if _is_autoregressive(flow) else Coupling(flow)


def _is_autoregressive(flow) -> bool:
    return isinstance(blocks_of(flow)[0].network, Made)


class Sampler:
    """Draws from a conditional flow that `build_flow` made, equal to nflows' own inverse on the same noise.

    The weights are those the flow has now. In single precision on the CPU a "maf" flow is fused (popcat.flows.fused),
    unless `torch_alone`, for what is to be moved elsewhere (popcat.flows.placement).
    """

    def __init__(self, flow, *, torch_alone: bool = False):
        blocks = blocks_of(flow)
        self._flow = Fused(blocks) if fits(blocks) and not torch_alone else BlockByBlock(flow)

    @torch.no_grad()
    def transform(
        self, noise: torch.Tensor, context: torch.Tensor, uniform: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws and their log q: (n_galaxy, n_draw, n_dim) and (n_galaxy, n_draw).

        noise is (n_galaxy, n_draw, n_dim), standard normal; context is (n_galaxy, n_context). uniform chooses among the
        members of a `popcat.flows.sampler.Mixture`; here there is one.
        """
        return self._flow.inverse(noise, context)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim) under each galaxy's context (n_galaxy, n_context)."""
        return self._flow.log_prob(x, context)


CHUNK = 2048
"""Samples at a time: the activations of one block then stay in cache, and memory is bounded."""
DEVICE_CHUNK = 1 << 18
"""The same on a GPU, which only large products keep busy."""


class BlockByBlock:
    """The inverse and the density of a flow in torch: any family, precision and device."""

    def __init__(self, flow):
        inverse_of = AutoregressiveInverse if _is_autoregressive(flow) else CouplingInverse
        blocks = blocks_of(flow)[::-1]
        self._blocks = [inverse_of(block) for block in blocks]
        self._orders = [torch.argsort(block.permutation) for block in blocks]
        self._density = density_of(flow).frozen()

    @torch.no_grad()
    def inverse(self, noise: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x of standard normal noise, both (n_galaxy, n_draw, n_dim), and log q (n_galaxy, n_draw)."""
        draws, log_q = torch.empty_like(noise), torch.empty_like(noise[..., 0])
        terms = [block.context_term(context) for block in self._blocks]
        work, n_work = None, -1
        for part in _parts(noise, CHUNK if noise.device.type == "cpu" else DEVICE_CHUNK):
            n = draws[part].shape[0] * noise.shape[1]
            if n != n_work:
                work, n_work = self._blocks[0].work(n, noise), n
            x, q = self._inverse(noise[part], [term[:, part] for term in terms], work)
            draws[part], log_q[part] = x.t().view_as(noise[part]), q.view_as(log_q[part])
        return draws, log_q

    def _inverse(self, noise, terms, work):
        x = noise.flatten(0, 1).t().contiguous()
        log_q = standard_normal_log_prob(x)
        for block, order, term in zip(self._blocks, self._orders, terms, strict=True):
            x, log_det = block.inverse(x, term, work)
            log_q -= log_det
            x = x.index_select(0, order)
        return x, log_q

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim); context is (n_galaxy, n_context)."""
        log_q = torch.empty_like(x[..., 0])
        for part in _parts(x, CHUNK // 2):
            log_q[part] = self._density.log_prob(x[part].flatten(0, 1), context[part]).view_as(log_q[part])
        return log_q


def _parts(values, chunk):
    """Slices of galaxies with about `chunk` samples each."""
    n_galaxy, n_draw = values.shape[:2]
    step = max(chunk // max(n_draw, 1), 1)
    return [slice(start, start + step) for start in range(0, n_galaxy, step)]


class Mixture:
    """Members sampled in proportion to their weights; the same interface as `Sampler`, and `uniform` decides.

    q(x) = sum_e w_e q_e(x), equal weights unless given. log q costs as many densities as there are members.
    """

    def __init__(self, flows: Sequence, weights: Sequence[float] | None = None, *, torch_alone: bool = False):
        self._members = [Sampler(flow, torch_alone=torch_alone) for flow in flows]
        values = torch.ones(len(flows)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.weights = values / values.sum()

    @torch.no_grad()
    def transform(self, noise: torch.Tensor, context: torch.Tensor, uniform: torch.Tensor | None):
        """Draws and their log q under the mixture: (n_galaxy, n_draw, n_dim) and (n_galaxy, n_draw).

        noise is (n_galaxy, n_draw, n_dim), standard normal; context (n_galaxy, n_context); uniform (n_galaxy, n_draw)
        in (0, 1): a draw is of the member in whose share of (0, 1) its number falls. Without them all draws, and log q,
        are of the first member.
        """
        if uniform is None:
            return self._members[0].transform(noise, context)
        draws, member = torch.empty_like(noise), self.member_of(uniform)
        for e, sampler in enumerate(self._members):
            galaxy, draw = torch.nonzero(member == e, as_tuple=True)
            values, _ = sampler.transform(noise[galaxy, draw][:, None], context[galaxy])
            draws[galaxy, draw] = values[:, 0]
        return draws, self.log_prob(draws, context)

    def member_of(self, uniform: torch.Tensor) -> torch.Tensor:
        """Number of the member that each uniform number stands for."""
        edges = torch.cumsum(self.weights.double(), 0)[:-1]
        return torch.bucketize(uniform.double(), edges.to(uniform.device), right=True)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim) under the mixture."""
        total = torch.full_like(x[..., 0], -torch.inf)
        for weight, sampler in zip(self.weights, self._members, strict=True):
            total = torch.logaddexp(total, sampler.log_prob(x, context) + torch.log(weight).to(x))
        return total


def make_sampler(
    flows: Sequence, weights: Sequence[float] | None = None, *, torch_alone: bool = False
) -> Sampler | Mixture:
    """A sampler of one flow or of a mixture of several; both take `transform(noise, context, uniform)`."""
    if len(flows) == 1:
        return Sampler(flows[0], torch_alone=torch_alone)
    return Mixture(flows, weights, torch_alone=torch_alone)


def member_settings(settings: Training) -> list[Training]:
    """Settings of each member's own training: other seeds, so other first weights and another order of batches.

    >>> [member.seed for member in member_settings(Training(members=3, seed=1))]
    [1, 1000, 1999]
    """
    apart = 999
    return [
        settings.model_copy(update={"members": 1, "seed": settings.seed + apart * e}) for e in range(settings.members)
    ]


def stacking_weights(log_prob: torch.Tensor, n_iteration: int = 200) -> torch.Tensor:
    """Weights (members,) that make the mixture most probable on held-out pairs, by expectation-maximisation.

    log_prob is (members, n): of each pair under each member.

    >>> stacking_weights(torch.tensor([[0.0, 0.0], [-50.0, -50.0]]))
    tensor([1., 0.])
    """
    log_weight = torch.full((len(log_prob),), 1 / len(log_prob), dtype=torch.float64).log()
    for _ in range(n_iteration):
        share = torch.softmax(log_prob.double() + log_weight[:, None], 0)
        log_weight = share.mean(1).clamp_min(1e-300).log()
    return log_weight.exp().float()


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: Dask does the parallelism, and a sampler's small products do not gain from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
