"""Draws from a conditional flow, and its density, both with the context projected once per galaxy."""

import torch

from popcat.flows.architecture import made_blocks, permuted_transforms
from popcat.flows.autoregressive import standard_normal_log_prob
from popcat.flows.coupling import coupling_blocks
from popcat.flows.density import density_of
from popcat.flows.incremental import incremental_blocks

CHUNK = 2048
"""Samples at a time: the activations of one block then stay in cache, and memory is bounded."""


class Sampler:
    """Draws from a conditional flow that `build_flow` made, equal to nflows' own inverse on the same noise.

    The weights are those the flow has now.
    """

    def __init__(self, flow):
        blocks = incremental_blocks(flow) if made_blocks(flow) else coupling_blocks(flow)
        self._blocks = blocks[::-1]
        self._orders = [torch.argsort(permutation) for permutation, _ in permuted_transforms(flow)][::-1]
        self._density = density_of(flow).frozen()

    @torch.no_grad()
    def transform(
        self, noise: torch.Tensor, context: torch.Tensor, uniform: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws and their log q: (n_galaxy, n_draw, n_dim) and (n_galaxy, n_draw).

        noise is (n_galaxy, n_draw, n_dim), standard normal; context is (n_galaxy, n_context). uniform chooses among the
        members of a `popcat.flows.mixture.Mixture`; here there is one.
        """
        draws, log_q = torch.empty_like(noise), torch.empty_like(noise[..., 0])
        terms = [block.context_term(context) for block in self._blocks]
        work, n_work = None, -1
        for part in _parts(noise, CHUNK):
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
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim) under each galaxy's context (n_galaxy, n_context)."""
        log_q = torch.empty_like(x[..., 0])
        for part in _parts(x, CHUNK // 2):
            log_q[part] = self._density.log_prob(x[part].flatten(0, 1), context[part]).view_as(log_q[part])
        return log_q


def _parts(values, chunk):
    """Slices of galaxies with about `chunk` samples each."""
    n_galaxy, n_draw = values.shape[:2]
    step = max(chunk // max(n_draw, 1), 1)
    return [slice(start, start + step) for start in range(0, n_galaxy, step)]
