"""Flow architectures: the only file that imports nflows.

A masked autoregressive flow (MAF; Papamakarios et al. 2017) as SEDflow has it, in unconstrained space: affine MADE
blocks with the order of the dimensions reversed between them, over a standard normal.
"""

import math
from typing import Literal

import pydantic
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms import CompositeTransform, MaskedAffineAutoregressiveTransform, ReversePermutation

from popcat.settings import Training


class Architecture(pydantic.BaseModel):
    """Shape of a conditional MAF."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    family: str = pydantic.Field(default="maf", pattern="^maf$")
    features: int = pydantic.Field(ge=2)
    context: int = pydantic.Field(ge=1)
    n_blocks: int = pydantic.Field(ge=1)
    hidden: int = pydantic.Field(ge=1)
    n_layers: int = pydantic.Field(ge=1)
    activation: Literal["relu", "silu"] = "relu"


AFFINE_EPSILON = 1e-3
"""Smallest scale of nflows' MaskedAffineAutoregressiveTransform."""


def build_flow(architecture: Architecture) -> Flow:
    """An untrained flow with torch's random weights, every dimension's scale near one.

    softplus(0) = 0.7 would shrink each dimension by 0.06 over eight blocks, which training would have to undo.

    >>> flow = build_flow(Architecture(features=3, context=2, n_blocks=2, hidden=16, n_layers=1))
    >>> flow.log_prob(torch.zeros(4, 3), torch.zeros(4, 2)).shape
    torch.Size([4])
    """
    transforms = []
    for _ in range(architecture.n_blocks):
        transforms.append(ReversePermutation(features=architecture.features))
        transforms.append(
            MaskedAffineAutoregressiveTransform(
                features=architecture.features,
                hidden_features=architecture.hidden,
                context_features=architecture.context,
                num_blocks=architecture.n_layers,
                use_residual_blocks=False,
                activation=getattr(torch.nn.functional, architecture.activation),
            )
        )
    flow = Flow(CompositeTransform(transforms), StandardNormal([architecture.features]))
    for made in made_blocks(flow):
        _start_at_scale_one(made.final_layer.bias)
    return flow


@torch.no_grad()
def _start_at_scale_one(bias):
    """softplus(raw) + epsilon = 1 and no shift; raw scales and shifts alternate."""
    bias.zero_()
    bias[0::2] = math.log(math.expm1(1 - AFFINE_EPSILON))


def architecture_for(settings: Training, *, features: int, context: int) -> Architecture:
    """The architecture that training settings ask for, between parameters and inputs of these dimensions.

    >>> architecture_for(Training(hidden=32), features=11, context=12).hidden
    32
    """
    shape = {name: getattr(settings, name) for name in Architecture.model_fields if hasattr(settings, name)}
    return Architecture(features=features, context=context, **shape)


def made_blocks(flow: Flow) -> list[torch.nn.Module]:
    """The MADE networks of a flow from `build_flow`, data side first."""
    return [t.autoregressive_net for t in flow._transform._transforms if hasattr(t, "autoregressive_net")]
