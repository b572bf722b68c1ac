"""Flow architectures: the only file that imports nflows, and that knows how it names its parts.

Three families, all in unconstrained space over a standard normal, each block after a fixed permutation:
"maf", affine masked autoregressive blocks as SEDflow has them (Papamakarios et al. 2017); "spline", the same with
monotonic rational-quadratic splines and linear tails; "coupling", those splines between halves of the dimensions
(Durkan et al. 2019), whose draws and densities cost the same.

A flow on disk: weights as safetensors, architecture as JSON. Nothing is ever unpickled.
"""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pydantic
import safetensors
import safetensors.torch
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import (
    CompositeTransform,
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    Permutation,
    PiecewiseRationalQuadraticCouplingTransform,
    ReversePermutation,
)

from popcat.errors import PopcatError
from popcat.flows.settings import Training

_ONE_AT_A_TIME = threading.RLock()

SMALLEST = 1e-3
"""Smallest scale, slope, bin width and bin height of nflows' transforms."""
FARTHEST = 1e12
"""Inverse affine transforms end here: for a context far from all training, one after the other would overflow."""
SPLINE_BOUND = 5.0
"""Splines end here, in standard deviations of the prior: 6 in ten million lie further out, where the map is linear."""


class Architecture(pydantic.BaseModel):
    """Shape of a conditional flow."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    family: Literal["maf", "spline", "coupling"] = "maf"
    features: int = pydantic.Field(ge=2)
    context: int = pydantic.Field(ge=1)
    n_blocks: int = pydantic.Field(ge=1)
    hidden: int = pydantic.Field(ge=1)
    n_layers: int = pydantic.Field(ge=1)
    activation: Literal["relu", "silu"] = "relu"
    n_bins: int = pydantic.Field(default=8, ge=2)
    """Bins of a spline; a MAF has none."""


def architecture_for(settings: Training, *, features: int, context: int) -> Architecture:
    """The architecture that training settings ask for, between parameters and inputs of these dimensions.

    >>> architecture_for(Training(hidden=32), features=11, context=12).hidden
    32
    """
    shape = {name: getattr(settings, name) for name in Architecture.model_fields if hasattr(settings, name)}
    return Architecture(features=features, context=context, **shape)


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """In the block torch's random weights are those of a seed, whatever other threads make at the same time.

    torch has one such generator a process, and several workers may be threads of one. None: weights of no seed.
    """
    with _ONE_AT_A_TIME:
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield


def build_flow(architecture: Architecture, seed: int | None = None) -> Flow:
    """An untrained flow with torch's random weights (`seeded`), every dimension's scale near one.

    softplus(0) = 0.7 would shrink each dimension by 0.06 over eight blocks, which training would have to undo.

    >>> flow = build_flow(Architecture(features=3, context=2, n_blocks=2, hidden=16, n_layers=1))
    >>> flow.log_prob(torch.zeros(4, 3), torch.zeros(4, 2)).shape
    torch.Size([4])
    """
    permute, build = _FAMILIES[architecture.family]
    transforms = []
    with seeded(seed):
        for i in range(architecture.n_blocks):
            transforms += [permute(architecture.features, i), build(architecture, i)]
    flow = Flow(CompositeTransform(transforms), StandardNormal([architecture.features]))
    _clear_masked(flow)
    return flow


@torch.no_grad()
def _clear_masked(flow) -> None:
    """Weights that a mask hides, half of them, are never used or trained: as zeros they compress."""
    for module in flow.modules():
        if hasattr(module, "mask"):
            module.weight.mul_(module.mask)


@dataclass(frozen=True)
class Layer:
    """A masked linear layer of a MADE: weight (n_out, n_in), bias and mask, and the degrees of its outputs."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter
    mask: torch.Tensor
    degrees: torch.Tensor


@dataclass(frozen=True)
class Made:
    """The network of an autoregressive block: h_0 = act(W_0 x + b_0 + act(W_c c + b_c)), h_i = act(W_i h_(i-1) + b_i).

    layers : the last one gives the outputs, all of the first dimension, then those of the second, ...
    """

    context: torch.nn.Linear
    layers: tuple[Layer, ...]
    activation: Callable

    @property
    def n_dim(self) -> int:
        return self.layers[0].weight.shape[1]


@dataclass(frozen=True)
class Halves:
    """The network of a coupling block: net(x[given], context) are the raw splines of the dimensions `changed`.

    scale : of the raw widths and heights.
    """

    net: torch.nn.Module
    given: torch.Tensor
    changed: torch.Tensor
    scale: float


@dataclass(frozen=True)
class Block:
    """A block of a flow, whose parameters it shares, and the permutation before it; n_bins is 0 where it is affine."""

    permutation: torch.Tensor
    network: Made | Halves
    n_bins: int
    bound: float


def blocks_of(flow: Flow) -> list[Block]:
    """The blocks of a flow from `build_flow`, data side first, as they are on its device.

    >>> flow = build_flow(Architecture(features=3, context=2, n_blocks=2, hidden=16, n_layers=1))
    >>> [block.network.n_dim for block in blocks_of(flow)]
    [3, 3]
    """
    transforms = list(flow._transform._transforms)
    return [_block(p._permutation, t) for p, t in zip(transforms[0::2], transforms[1::2], strict=True)]


def _block(permutation, transform) -> Block:
    network = _made(transform.autoregressive_net) if hasattr(transform, "autoregressive_net") else _halves(transform)
    has_spline = hasattr(transform, "num_bins")
    bins, bound = (transform.num_bins, transform.tail_bound) if has_spline else (0, math.inf)
    return Block(permutation, network, bins, bound)


def _made(net) -> Made:
    linear = [net.initial_layer, *(block.linear for block in net.blocks), net.final_layer]
    layers = tuple(Layer(layer.weight, layer.bias, layer.mask, layer.degrees) for layer in linear)
    return Made(net.context_layer, layers, net.activation)


def _halves(transform) -> Halves:
    net = transform.transform_net
    scale = 1.0 / math.sqrt(net.hidden_features)
    return Halves(net, transform.identity_features, transform.transform_features, scale)


def _affine(architecture, _):
    block = MaskedAffineAutoregressiveTransform(**_made_options(architecture))
    _start_near_identity(block.autoregressive_net.final_layer.bias, n_out=2, slopes=slice(0, 1))
    return block


def _spline(architecture, _):
    block = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        **_made_options(architecture), **_spline_options(architecture)
    )
    _start_spline(block.autoregressive_net.final_layer.bias, architecture)
    return block


def _coupling(architecture, i):
    """Every second dimension, as permuted, is transformed given the others and the context."""

    def net(n_in, n_out):
        made = ResidualNet(
            n_in, n_out, architecture.hidden, context_features=architecture.context, num_blocks=architecture.n_layers,
            activation=_activation(architecture),
        )  # fmt: skip
        _start_spline(made.final_layer.bias, architecture)
        return made

    mask = torch.arange(architecture.features).add(i) % 2
    return PiecewiseRationalQuadraticCouplingTransform(mask, net, **_spline_options(architecture))


def _made_options(architecture):
    return {
        "features": architecture.features,
        "hidden_features": architecture.hidden,
        "context_features": architecture.context,
        "num_blocks": architecture.n_layers,
        "use_residual_blocks": False,
        "activation": _activation(architecture),
    }


def _spline_options(architecture):
    return {"num_bins": architecture.n_bins, "tails": "linear", "tail_bound": SPLINE_BOUND}


def _activation(architecture):
    return getattr(torch.nn.functional, architecture.activation)


def _start_spline(bias, architecture):
    n_bins = architecture.n_bins
    _start_near_identity(bias, n_out=3 * n_bins - 1, slopes=slice(2 * n_bins, None))


@torch.no_grad()
def _start_near_identity(bias, *, n_out, slopes):
    """softplus(raw) + smallest = 1 for scales and slopes, zero for the rest of a dimension's outputs."""
    bias.zero_()
    bias.view(-1, n_out)[:, slopes] = math.log(math.expm1(1 - SMALLEST))


def _reversed(features, _):
    return ReversePermutation(features)


def _shuffled(features, i):
    """Evens, then odds, before every second block: with alternating masks each dimension is transformed once in every
    two blocks, and meets every other one within a few.
    """
    order = torch.arange(features)
    return Permutation(order if i % 2 else torch.cat([order[0::2], order[1::2]]))


_FAMILIES = {
    "maf": (_reversed, _affine),
    "spline": (_reversed, _spline),
    "coupling": (_shuffled, _coupling),
}


# The architecture decides masks and degrees: half of the file, if they were stored.
_DERIVED = (".mask", ".degrees")


def round_weights(module: torch.nn.Module) -> None:
    """Round every weight to half precision, 11 bits, in place: files are half as large.

    A flow's density and draws are those of the rounded weights alike; a weight moves by 2^-12 of itself at most.
    """
    with torch.no_grad():
        for weight in module.parameters():
            if torch.isfinite(half := weight.half()).all():
                weight.copy_(half)


def stored_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a file holds of a module, in half precision where that loses nothing."""
    found = {}
    for name, value in module.state_dict().items():
        if not name.endswith(_DERIVED):
            half = value.half() if value.dtype == torch.float32 else value
            found[name] = (half if torch.equal(half.to(value.dtype), value) else value).contiguous()
    return found


def flow_to_bytes(flow, architecture: Architecture) -> bytes:
    """Weights as a safetensors file with the architecture in its header."""
    tensors = stored_tensors(flow)
    return safetensors.torch.save(tensors, metadata={"architecture": architecture.model_dump_json()})


def flow_from_file(path):
    """A flow that `flow_to_bytes` stored, in evaluation mode, and its architecture.

    Raises PopcatError if the file is missing, damaged, or of another architecture.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            architecture = Architecture.model_validate(json.loads(file.metadata()["architecture"]))
        flow = build_flow(architecture)
        _fill(flow, safetensors.torch.load_file(str(path)))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no flow that popcat stored: {error}") from error
    return flow.eval(), architecture


def _fill(flow, tensors: dict) -> None:
    """Set every weight; ValueError names what is missing or foreign."""
    found = flow.load_state_dict(tensors, strict=False)
    missing = [name for name in found.missing_keys if not name.endswith(_DERIVED)]
    if missing or found.unexpected_keys:
        raise ValueError(f"missing {missing[:3]}, unexpected {found.unexpected_keys[:3]}")
