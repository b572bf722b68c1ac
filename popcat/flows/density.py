"""The density of a flow of any family, with one interface."""

from popcat.flows.architecture import made_blocks
from popcat.flows.autoregressive import Autoregressive
from popcat.flows.coupling import Coupling


def density_of(flow) -> Autoregressive | Coupling:
    """Its `log_prob`, its `loss_and_gradients`, and `frozen` for many calls with the same weights."""
    return Autoregressive(flow) if made_blocks(flow) else Coupling(flow)
