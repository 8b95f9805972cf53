"""The recurrence by PyTorch's operations: in any precision, on any device."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from kshot.models.products import Multiply


@dataclass(frozen=True)
class Run:
    """What a recurrence leaves behind; N is the sum of n_t.

    Attributes:
        counts: n_t.
        gates: i, f, g, o, (N, 4 h).
        cell: c, (N, h).
        squashed: tanh(c), (N, h).
        hidden: h, (N, h).
    """

    counts: list[int]
    gates: Tensor
    cell: Tensor
    squashed: Tensor
    hidden: Tensor

    @cached_property
    def slopes(self) -> Tensor:
        """The derivatives of i, f, g, o with respect to z, (N, 4 h)."""
        slopes = torch.addcmul(self.gates, self.gates, self.gates, value=-1.0)
        _, _, g, _ = self.gates.chunk(4, dim=1)
        torch.mul(g, g, out=slopes.chunk(4, dim=1)[2]).neg_().add_(1.0)
        return slopes

    @cached_property
    def of_cell(self) -> Tensor:
        """a_i, a_f, a_g, (N, 3, h)."""
        i, _, g, _ = self.gates.chunk(4, dim=1)
        of_i, of_f, of_g, _ = self.slopes.chunk(4, dim=1)
        return torch.stack([g * of_i, self.previous(self.cell) * of_f, i * of_g], dim=1)

    @cached_property
    def of_hidden(self) -> tuple[Tensor, Tensor]:
        """a_o and d, (N, h) each."""
        o, of_o = self.gates.chunk(4, dim=1)[3], self.slopes.chunk(4, dim=1)[3]
        return self.squashed * of_o, o * self.squashed_slope

    @cached_property
    def squashed_slope(self) -> Tensor:
        """The derivative of tanh(c), (N, h)."""
        return 1 - self.squashed * self.squashed

    @cached_property
    def before(self) -> Tensor:
        """h_{t-1}, (N, h)."""
        return self.previous(self.hidden)

    def previous(self, x: Tensor) -> Tensor:
        return previous(self.counts, x)

    def following(self, x: Tensor) -> Tensor:
        """The rows of the step after, zero where a text has ended: (N, k) -> (N, k)."""
        shifted = torch.zeros_like(x)
        for (start, count), (before, _) in _neighbours(self.counts):
            shifted[before : before + count] = x[start : start + count]
        return shifted


@dataclass(frozen=True)
class Change:
    """x* or x^ of the gates' input z (N, 4 h), of c (N, h) and of h (N, h)."""

    gates: Tensor
    cell: Tensor
    hidden: Tensor


def previous(counts: Sequence[int], x: Tensor) -> Tensor:
    """The rows of the step before, zero at the first: (N, k) -> (N, k)."""
    shifted = torch.zeros_like(x)
    for (start, count), (before, _) in _neighbours(counts):
        shifted[start : start + count] = x[before : before + count]
    return shifted


def _neighbours(counts: Sequence[int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Each step after the first, and the one before it, with their rows; steps of the same texts are one block."""
    if len(set(counts)) == 1:
        count, n_rows = counts[0], sum(counts)
        return [((count, n_rows - count), (0, n_rows))]
    steps = list(zip(accumulate(counts, initial=0), counts, strict=False))
    return list(zip(steps[1:], steps[:-1], strict=True))


def product(counts: Sequence[int], gates: Tensor, hidden: Tensor, multiply: Multiply) -> Tensor:
    """sum_t x_t' y_{t-1} by one product for all steps: (N, 4 h), (N, h) -> (4 h, h)."""
    if len(set(counts)) == 1:
        return multiply(gates[counts[0] :].t(), hidden[: len(hidden) - counts[0]].t())
    return multiply(gates.t(), previous(counts, hidden).t())


@dataclass(frozen=True)
class Written:
    """The steps of a recurrence, each as a few operations for all texts that it has.

    Attributes:
        counts: n_t.
        places: The row of p for each row, (N,).
        multiply: What multiplies.
        dtype: The precision of products.
    """

    counts: list[int]
    places: Tensor
    multiply: Multiply
    dtype: torch.dtype

    def forward(self, p: Tensor, recurrent: Tensor) -> Run:
        """z_t, i, f, g, o, c_t, h_t for t = 0, 1, ..."""
        size = recurrent.shape[1]
        # tanh(x) = 2 logistic(2 x) - 1, and the logistic function is several times as fast.
        gates, twice = p.index_select(0, self.places).to(recurrent.dtype), recurrent.clone()
        gates[:, 2 * size : 3 * size] *= 2.0
        twice[2 * size : 3 * size] *= 2.0
        u = twice.to(self.dtype)
        cell, squashed, hidden = (gates.new_empty(len(gates), size) for _ in range(3))
        before: tuple[Tensor, Tensor] | None = None
        for z, i, f, g, o, c, th, h in zip(
            *(torch.split(x, self.counts) for x in (gates, *gates.chunk(4, dim=1), cell, squashed, hidden)), strict=True
        ):
            if before is not None:
                h_before, c_before = (x[: len(z)] for x in before)
                z += self.multiply(h_before, u)
            z.sigmoid_()
            g.mul_(2.0).sub_(1.0)
            torch.mul(i, g, out=c)
            if before is not None:
                c.addcmul_(f, c_before)
            torch.mul(c, 2.0, out=th).sigmoid_().mul_(2.0).sub_(1.0)
            torch.mul(o, th, out=h)
            before = h, c
        return Run(self.counts, gates, cell, squashed, hidden)

    def adjoint(
        self, run: Run, recurrent: Tensor, of_hidden: Tensor | None, of_cell: Tensor | None, of_gates: Tensor | None
    ) -> Change:
        """h^_t, c^_t, z^_t for t = ..., 1, 0, given what reaches h, c and the gates from outside, if anything does."""
        u = recurrent.to(self.dtype).t()
        size = recurrent.shape[1]
        hidden = torch.zeros_like(run.hidden) if of_hidden is None else of_hidden.clone()
        cell = torch.zeros_like(run.cell) if of_cell is None else of_cell.clone()
        gates = torch.zeros_like(run.gates) if of_gates is None else of_gates * run.slopes
        to_cell, to_hidden = gates[:, : 3 * size].view(-1, 3, size), gates[:, 3 * size :]
        whole = (gates, to_cell, to_hidden, cell, hidden, run.of_cell, *run.of_hidden, run.gates[:, size : 2 * size])
        after: tuple[Tensor, Tensor, Tensor] | None = None
        for z, z_c, z_h, c, h, a_c, a_o, d, f in reversed(
            list(zip(*(torch.split(x, self.counts) for x in whole), strict=True))
        ):
            if after is not None:
                z_after, c_after, f_after = after
                h[: len(z_after)] += self.multiply(z_after, u)
            c.addcmul_(d, h)
            if after is not None:
                c[: len(z_after)].addcmul_(f_after, c_after)
            z_c.addcmul_(a_c, c.unsqueeze(1))
            z_h.addcmul_(a_o, h)
            after = z, c, f
        return Change(gates, cell, hidden)

    def tangent(self, run: Run, recurrent: Tensor, q: Tensor, v: Tensor) -> Change:
        """z*_t, c*_t, h*_t for t = 0, 1, ..."""
        u = recurrent.to(self.dtype)
        size = recurrent.shape[1]
        gates = self.multiply(run.before, v.to(self.dtype)).add_(q.index_select(0, self.places))
        cell, hidden = torch.empty_like(run.cell), torch.empty_like(run.hidden)
        to_cell, to_hidden = gates[:, : 3 * size].view(-1, 3, size), gates[:, 3 * size :]
        whole = (gates, to_cell, to_hidden, cell, hidden, run.of_cell, *run.of_hidden, run.gates[:, size : 2 * size])
        before: tuple[Tensor, Tensor] | None = None
        for z, z_c, z_h, c, h, a_c, a_o, d, f in zip(*(torch.split(x, self.counts) for x in whole), strict=True):
            if before is not None:
                h_before, c_before = (x[: len(z)] for x in before)
                z += self.multiply(h_before, u)
            torch.sum(a_c * z_c, dim=1, out=c)
            if before is not None:
                c.addcmul_(f, c_before)
            torch.mul(d, c, out=h).addcmul_(a_o, z_h)
            before = h, c
        return Change(gates, cell, hidden)

    def second(self, run: Run, change: Change, adjoint: Change, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What reaches h, c and the gates where they stand in the derivatives of a step and in U^."""
        i, f, g, o = run.gates.chunk(4, dim=1)
        i_slope, f_slope, g_slope, o_slope = run.slopes.chunk(4, dim=1)
        z_i, z_f, z_g, z_o = change.gates.chunk(4, dim=1)
        gates = torch.empty_like(run.gates)
        of_i, of_f, of_g, of_o = gates.chunk(4, dim=1)
        torch.addcmul(g_slope * z_g, g * (1 - 2 * i), z_i, out=of_i).mul_(adjoint.cell)
        torch.addcmul(run.previous(change.cell), run.previous(run.cell) * (1 - 2 * f), z_f, out=of_f).mul_(adjoint.cell)
        torch.addcmul(i_slope * z_i, i * g, z_g, value=-2, out=of_g).mul_(adjoint.cell)
        torch.addcmul(run.squashed_slope * change.cell, run.squashed * (1 - 2 * o), z_o, out=of_o).mul_(adjoint.hidden)
        cell = torch.addcmul(o_slope * z_o, o * run.squashed, change.cell, value=-2)
        cell = cell.mul_(run.squashed_slope).mul_(adjoint.hidden)
        cell += run.following(adjoint.cell * f_slope * z_f)
        hidden = run.following(self.multiply(adjoint.gates, v.to(self.dtype).t()))
        return hidden, cell, gates

    def product(self, gates: Tensor, hidden: Tensor) -> Tensor:
        """sum_t x_t' y_{t-1}: (N, 4 h), (N, h) -> (4 h, h)."""
        return product(self.counts, gates, hidden.to(self.dtype), self.multiply)
