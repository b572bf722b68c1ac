"""The unconditional flow of a population: spline coupling blocks, sampled with gradients."""

import torch

from popcat.flows.architecture import Architecture, architecture_for, build_flow, permuted_transforms
from popcat.flows.coupling import coupling_blocks
from popcat.population.settings import PopulationSettings

_CONTEXT = 1
"""The flows of popcat are conditional: these are so on a number that is always zero."""


def new_flow(settings: PopulationSettings, n_dim: int, seed: int) -> tuple[torch.nn.Module, Architecture]:
    """An untrained flow, near the identity: its draws are the prior's."""
    torch.manual_seed(seed)
    architecture = architecture_for(settings.training(), features=n_dim, context=_CONTEXT)
    return build_flow(architecture), architecture


def draw(flow: torch.nn.Module, noise: torch.Tensor) -> torch.Tensor:
    """x (n, d) of standard normal noise (n, d), with gradients in the flow's weights."""
    term = torch.zeros(_CONTEXT, 1, dtype=noise.dtype, device=noise.device)
    x = noise.t()
    blocks = zip(coupling_blocks(flow), permuted_transforms(flow), strict=True)
    for block, (permutation, _) in reversed(list(blocks)):
        x, _ = block.inverse(x, term, None)
        x = x.index_select(0, torch.argsort(permutation))
    return x.t()


def log_density(flow: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """ln q (n,) of x (n, d)."""
    return flow.log_prob(x, torch.zeros(len(x), _CONTEXT, dtype=x.dtype, device=x.device))
