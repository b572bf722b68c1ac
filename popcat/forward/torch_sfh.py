"""Star-formation histories that move with the age of the universe, in torch: popcat.forward.sfh for many galaxies."""

import math

import numpy as np
import torch
from torch import Tensor

from popcat.forward.sfh import FIRST_STEPS_GYR, LAST_STEP
from popcat.forward.sfh_laws import FractionalLaw, Law, StepsLaw
from popcat.forward.sfh_parametric import ENDS, DelayedTauLaw, DoublePowerLawLaw, LognormalLaw


class Masses(torch.nn.Module):
    """Mass (n, n_bin) between lookback times (n, n_bin + 1) within t_age (n,), of a history's columns (n, n_column)."""

    def forward(self, beta: Tensor, edges: Tensor, t_age: Tensor) -> Tensor:
        raise NotImplementedError


class FractionalMasses(Masses):
    node: Tensor
    total: Tensor
    value: Tensor
    slope: Tensor

    def __init__(self, law: FractionalLaw, dtype: torch.dtype):
        super().__init__()
        for name, array in law._asdict().items():
            self.register_buffer(name, torch.tensor(array, dtype=dtype))

    def forward(self, beta, edges, t_age):
        i, _ = cell_of(u := edges / t_age[:, None], self.node)
        x = u - self.node[i]
        above = sum(beta[:, k, None] * (self.total[i, k] + x * (self.value[i, k] + 0.5 * x * self.slope[i, k]))
                    for k in range(beta.shape[1]))  # fmt: skip
        return torch.diff(above, dim=1)


class StepsMasses(Masses):
    def __init__(self, n: int, by_mass: bool):
        super().__init__()
        self.n, self.by_mass = n, by_mass

    def forward(self, beta, edges, t_age):
        last = LAST_STEP * t_age[:, None]
        rise = torch.arange(self.n - 2, device=t_age.device) / (self.n - 3)
        start = FIRST_STEPS_GYR[1]
        between = torch.minimum(start * torch.exp(rise * torch.log((last / start).clamp(min=1.0))), last)
        first = torch.minimum(torch.full_like(last, FIRST_STEPS_GYR[0]), last)
        ends = torch.cat([torch.zeros_like(last), first, between, t_age[:, None]], 1)
        width = torch.diff(ends, dim=1)
        rate = torch.where(width > 0.0, beta / width.clamp(min=1e-12), 0.0) if self.by_mass else beta
        low = torch.maximum(edges[:, :-1, None], ends[:, None, :-1])
        high = torch.minimum(edges[:, 1:, None], ends[:, None, 1:])
        return ((high - low).clamp(min=0.0) * rate[:, None, :]).sum(2)


class ParametricMasses(Masses):
    def forward(self, beta, edges, t_age):
        # in double precision: the youngest bins are short differences of long times
        time = (1.0 - edges.double() / t_age.double()[:, None]).clamp(min=0.0)
        return -torch.diff(self.formed(beta.double().T[:, :, None], time), dim=1).to(beta)

    def formed(self, column: Tensor, time: Tensor) -> Tensor:
        """The primitive of the rate, (n, n_edge), of columns (n_column, n, 1) at cosmic times over the age."""
        raise NotImplementedError


class DelayedTauMasses(ParametricMasses):
    def formed(self, column, time):
        x = (time - 1.0 + column[0]).clamp(min=0.0) * 10.0 ** -column[1]
        return -(1.0 + x) * torch.exp(-x)


class LognormalMasses(ParametricMasses):
    def formed(self, column, time):
        sigma = torch.asinh(0.5 * column[1] / column[0]) / (2.0 * math.log(2.0)) ** 0.5
        z = (torch.log(time.clamp(min=1e-30)) - torch.log(column[0]) - sigma**2) / sigma
        # counted from the end of time if half of the stars have formed, so that small masses keep their digits
        tail = 0.5 * torch.erfc(z.abs() * 0.5**0.5)
        return torch.where(z > 0.0, -tail, torch.where(z[:, :1] > 0.0, tail - 1.0, tail))


class DoublePowerLawMasses(ParametricMasses):
    def __init__(self, law: DoublePowerLawLaw):
        super().__init__()
        self.coefficient = law.coefficient.tolist()

    def formed(self, column, time):
        alpha, beta = 10.0 ** column[0], 10.0 ** column[1]
        a = (beta + 1.0) / (alpha + beta)
        q = (alpha + beta) * torch.log(time.clamp(min=1e-30) / column[2])
        before, after, ends = q.clamp(max=0.0), q.clamp(min=0.0), alpha > ENDS
        early, left, late = torch.zeros_like(q), torch.zeros_like(q), torch.zeros_like(q)
        for k, coefficient in enumerate(self.coefficient):
            early = early + coefficient * torch.exp((a + k) * before) / (a + k)
            y = torch.where(ends, k + 1.0 - a, 1.0)
            left = left + coefficient * torch.exp(-y * after) / y
            late = late + coefficient * _growth(torch.where(ends, 0.0, a - 1.0 - k), after)
        whole = math.pi / torch.sin(math.pi * torch.where(ends, a, 0.5))
        up_to_peak = torch.where(ends, early - whole, early)
        return torch.where(q <= 0.0, up_to_peak, torch.where(ends, -left, early + late))


def _growth(y: Tensor, q: Tensor) -> Tensor:
    """int_0^q e^(y t) dt."""
    u = y * q
    near = u.abs() < 1e-3
    series = q * (1.0 + u * (0.5 + u * (1.0 / 6.0 + u * (1.0 / 24.0))))
    return torch.where(near, series, torch.expm1(torch.where(near, 1.0, u)) / torch.where(near, 1.0, y))


def make_masses(law: Law | None, n_sfh: int, dtype: torch.dtype) -> Masses | None:
    """What gives the masses of a history of n_sfh columns that moves; None for bases in lookback time."""
    if isinstance(law, FractionalLaw):
        return FractionalMasses(law, dtype)
    if isinstance(law, StepsLaw):
        return StepsMasses(n_sfh, law.by_mass)
    if isinstance(law, DoublePowerLawLaw):
        return DoublePowerLawMasses(law)
    return {DelayedTauLaw: DelayedTauMasses, LognormalLaw: LognormalMasses}[type(law)]() if law is not None else None


def cell_of(x, nodes) -> tuple[Tensor, Tensor]:
    """Index and fraction of x between ascending nodes."""
    i = (torch.searchsorted(nodes, x.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


def between(x: Tensor, nodes: np.ndarray, values: np.ndarray) -> Tensor:
    """Linear between equidistant nodes, constant beyond."""
    at, value = (x - nodes[0]) / (nodes[1] - nodes[0]), torch.as_tensor(values).to(x)
    i = at.detach().long().clamp(0, len(nodes) - 2)
    return value[i] + (at - i).clamp(0.0, 1.0) * (value[i + 1] - value[i])


def bag(index: Tensor, table: Tensor, weight: Tensor) -> Tensor:
    """sum_j weight[:, j] table[index[:, j]], which keeps no row of the table for the way back."""
    return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
