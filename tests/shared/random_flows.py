"""Flows of random weights, inputs for them, and what nflows makes of both."""

import torch

from popcat.flows.architecture import build_flow


def make_flow(architecture, scale=1.0, seed=0):
    """Random weights, larger than nflows' initial ones by `scale`, and biases of order one half."""
    torch.manual_seed(seed)
    flow = build_flow(architecture).eval()
    with torch.no_grad():
        for name, value in flow.named_parameters():
            value.copy_(scale * value if name.endswith("weight") else 0.5 * torch.randn_like(value))
    return flow


def inputs(architecture, n_galaxy=6, n_draw=10, dtype=torch.float32):
    torch.manual_seed(1)
    noise = torch.randn(n_galaxy, n_draw, architecture.features, dtype=dtype)
    return noise, torch.randn(n_galaxy, architecture.context, dtype=dtype)


def by_nflows(flow, noise, context):
    """Draws from nflows' inverse, and their density from its forward pass."""
    repeated = context.repeat_interleave(noise.shape[1], dim=0)
    with torch.no_grad():
        draws, _ = flow._transform.inverse(noise.flatten(0, 1), repeated)
        return draws.reshape(noise.shape), flow.log_prob(draws, repeated).reshape(noise.shape[:2])
