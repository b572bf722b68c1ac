"""Flow architectures: the only file that imports nflows.

A masked autoregressive flow (MAF; Papamakarios et al. 2017) as SEDflow has it, in unconstrained space: affine MADE
blocks with the order of the dimensions reversed between them, over a standard normal.
"""

import pydantic
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms import CompositeTransform, MaskedAffineAutoregressiveTransform, ReversePermutation


class Architecture(pydantic.BaseModel):
    """Shape of a conditional MAF."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    family: str = pydantic.Field(default="maf", pattern="^maf$")
    features: int = pydantic.Field(ge=2)
    context: int = pydantic.Field(ge=1)
    n_blocks: int = pydantic.Field(ge=1)
    hidden: int = pydantic.Field(ge=1)
    n_layers: int = pydantic.Field(ge=1)


def build_flow(architecture: Architecture) -> Flow:
    """An untrained flow with torch's random initialisation.

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
                activation=torch.nn.functional.relu,
            )
        )
    return Flow(CompositeTransform(transforms), StandardNormal([architecture.features]))


def made_blocks(flow: Flow) -> list[torch.nn.Module]:
    """The MADE networks of a flow from `build_flow`, data side first."""
    return [t.autoregressive_net for t in flow._transform._transforms if hasattr(t, "autoregressive_net")]
