"""The recurrence of an LSTM with its first and second derivatives written out.

Autograd would take a graph of a dozen small operations a time step, and multiply for the gradient of the recurrent
matrix at each of them. Here a time step is one product and a few operations in place; all that does not have to wait
for the step before (derivatives of the gates, the gradients of the matrix) is done for all time steps at once.

    n_t        how many texts are longer than t, longest first, so that no padding is ever computed
    p_t        the input's part of the gates, (n_t, 4 h)         U          the recurrent matrix, (4 h, h)
    z_t        p_t + h_{t-1} U'; in four parts: input, forget, cell, output
    i, f, o    the logistic function of z's parts                g          tanh of z's part
    c_t        f c_{t-1} + i g                                   h_t        o tanh(c_t)

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

The derivatives of a step, which are known for all steps once the recurrence has run:

    a_i = g i (1-i)      a_f = c_{t-1} f (1-f)      a_g = i (1-g^2)              of c_t with respect to z_t
    a_o = tanh(c_t) o (1-o)                         d = o (1 - tanh(c_t)^2)      of h_t with respect to z_t and c_t

Backward (x^ is the derivative of the loss with respect to x; l_h, l_c, l_z what reaches h, c and z from outside):

    h^_t = l_h + z^_{t+1} U    c^_t = l_c + d h^_t + f_{t+1} c^_{t+1}    z^_t = l_z + (a_i c^, a_f c^, a_g c^, a_o h^)
    p^_t = z^_t                  U^ = sum_t z^_t' h_{t-1}

Backward of that, given q and V, the derivatives of a second loss with respect to p^ and U^. Since p^ and U^ are linear
in l_h, so is  <q, p^> + <V, U^> = <l_h, h*>,  where x* is how x changes when p and U change by q and V:

    z*_t = q_t + h_{t-1} V' + h*_{t-1} U'
    c*_t = f c*_{t-1} + a_i z*_i + a_f z*_f + a_g z*_g
    h*_t = d c*_t + a_o z*_o

So the derivative with respect to l_h is h*. Those with respect to U where it stands in h^_t, and to h, c and the gates
where they stand in U^ and in the derivatives of a step, are

    U:  sum_t z^_t' h*_{t-1}                        h:  z^_{t+1} V
    i:  c^ (g (1-2i) z*_i + (1-g^2) z*_g)           f:  c^ (c_{t-1} (1-2f) z*_f + c*_{t-1})
    g:  c^ (i (1-i) z*_i - 2 i g z*_g)              o:  h^ (tanh(c) (1-2o) z*_o + (1 - tanh(c)^2) c*)
    c:  h^ (1 - tanh(c)^2) (o (1-o) z*_o - 2 o tanh(c) c*)  +  c^_{t+1} f_{t+1} (1-f_{t+1}) z*_{f,t+1}

All but the first reach p and U through the backward recurrence again, as l_h, l_c and l_z, together with whatever else
reaches h: one recurrence serves both (Pearlmutter 1994, Fast exact multiplication by the Hessian, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kshot.errors import KshotError
from kshot.models.products import Multiply, multiplier, product_type


def lstm(p: Tensor, recurrent: Tensor, counts: Sequence[int]) -> Tensor:
    """Runs the recurrence; can be differentiated twice.

    Args:
        p: The input's part of the gates, one time step after the other, (sum of n_t, 4 h).
        recurrent: U, the recurrent matrix, (4 h, h).
        counts: n_t, which never grows.

    Returns:
        The hidden states, (sum of n_t, h).
    """
    hidden: Tensor
    how = list(counts), multiplier(), product_type(recurrent)
    hidden, *_ = _Recurrence.apply(p, recurrent, *how)  # type: ignore[no-untyped-call]
    return hidden


class _Recurrence(torch.autograd.Function):
    """p, U -> h, c, and the gates i, f, g, o; what is saved of them is where second derivatives come in."""

    @staticmethod
    def forward(
        ctx: Any, p: Tensor, recurrent: Tensor, counts: list[int], multiply: Multiply, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        run = _run(p, recurrent, counts, multiply, dtype)
        outputs = run.hidden.view_as(run.hidden), run.cell.view_as(run.cell), run.gates.view_as(run.gates)
        ctx.save_for_backward(recurrent, *outputs)
        ctx.run = run
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        of_p, of_recurrent = _Backward.apply(ctx.run, *gradients, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return of_p, of_recurrent, None, None, None


class _Backward(torch.autograd.Function):
    """What reaches h, c and the gates -> p^, U^."""

    @staticmethod
    def forward(
        ctx: Any,
        run: "_Run",
        of_hidden: Tensor | None,
        of_cell: Tensor | None,
        of_gates: Tensor | None,
        recurrent: Tensor,
        *outputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(recurrent)
        ctx.run, ctx.is_second = run, of_gates is not None
        ctx.adjoint = adjoint = _adjoint(run, recurrent, of_hidden, of_cell, of_gates)
        return adjoint.gates.view_as(adjoint.gates), _product(run, adjoint.gates, run.before)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_second:
            raise KshotError('An LSTM can be differentiated twice, not three times, unless kernels is "plain".')
        [recurrent] = ctx.saved_tensors
        run, adjoint = ctx.run, ctx.adjoint
        change = _tangent(run, recurrent, q, v)
        of_recurrent = _product(run, adjoint.gates, run.previous(change.hidden))
        return None, change.hidden, None, None, of_recurrent, *_second(run, change, adjoint, v)


@dataclass(frozen=True)
class _Run:
    """What a recurrence leaves behind; N is the sum of n_t.

    Attributes:
        counts: n_t.
        multiply: What multiplies.
        dtype: The precision of products.
        gates: i, f, g, o, (N, 4 h).
        cell: c, (N, h).
        squashed: tanh(c), (N, h).
        hidden: h, (N, h).
    """

    counts: list[int]
    multiply: Multiply
    dtype: torch.dtype
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
        """The rows of the step before, zero at the first: (N, k) -> (N, k)."""
        shifted = torch.zeros_like(x)
        for (start, count), (before, _) in self._neighbours:
            shifted[start : start + count] = x[before : before + count]
        return shifted

    def following(self, x: Tensor) -> Tensor:
        """The rows of the step after, zero where a text has ended: (N, k) -> (N, k)."""
        shifted = torch.zeros_like(x)
        for (start, count), (before, _) in self._neighbours:
            shifted[before : before + count] = x[start : start + count]
        return shifted

    @cached_property
    def _neighbours(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Each step after the first, and the one before it, with their rows; steps of the same texts are one block."""
        steps = list(zip(accumulate(self.counts, initial=0), self.counts, strict=False))
        if len(set(self.counts)) == 1:
            count, n_rows = self.counts[0], sum(self.counts)
            return [((count, n_rows - count), (0, n_rows))]
        return list(zip(steps[1:], steps[:-1], strict=True))


@dataclass(frozen=True)
class _Change:
    """x* or x^ of the gates' input z (N, 4 h), of c (N, h) and of h (N, h)."""

    gates: Tensor
    cell: Tensor
    hidden: Tensor


def _product(run: _Run, gates: Tensor, hidden: Tensor) -> Tensor:
    """The sum over all steps of x' y: (N, 4 h), (N, h) -> (4 h, h)."""
    return run.multiply(gates.t(), hidden.t().to(run.dtype))


def _run(p: Tensor, recurrent: Tensor, counts: list[int], multiply: Multiply, dtype: torch.dtype) -> _Run:
    """z_t, i, f, g, o, c_t, h_t for t = 0, 1, ..."""
    size = recurrent.shape[1]
    # tanh(x) = 2 logistic(2 x) - 1, and the logistic function is several times as fast.
    gates, twice = p.to(recurrent.dtype, copy=True), recurrent.clone()
    gates[:, 2 * size : 3 * size] *= 2.0
    twice[2 * size : 3 * size] *= 2.0
    u = twice.to(dtype)
    cell, squashed, hidden = (gates.new_empty(len(p), size) for _ in range(3))
    before: tuple[Tensor, Tensor] | None = None
    for z, i, f, g, o, c, th, h in zip(
        *(torch.split(x, counts) for x in (gates, *gates.chunk(4, dim=1), cell, squashed, hidden)), strict=True
    ):
        if before is not None:
            h_before, c_before = (x[: len(z)] for x in before)
            z += multiply(h_before, u)
        z.sigmoid_()
        g.mul_(2.0).sub_(1.0)
        torch.mul(i, g, out=c)
        if before is not None:
            c.addcmul_(f, c_before)
        torch.mul(c, 2.0, out=th).sigmoid_().mul_(2.0).sub_(1.0)
        torch.mul(o, th, out=h)
        before = h, c
    return _Run(counts, multiply, dtype, gates, cell, squashed, hidden)


def _adjoint(
    run: _Run, recurrent: Tensor, of_hidden: Tensor | None, of_cell: Tensor | None, of_gates: Tensor | None
) -> _Change:
    """h^_t, c^_t, z^_t for t = ..., 1, 0, given what reaches h, c and the gates from outside, if anything does."""
    u = recurrent.to(run.dtype).t()
    size = recurrent.shape[1]
    hidden = torch.zeros_like(run.hidden) if of_hidden is None else of_hidden.clone()
    cell = torch.zeros_like(run.cell) if of_cell is None else of_cell.clone()
    gates = torch.zeros_like(run.gates) if of_gates is None else of_gates * run.slopes
    to_cell, to_hidden = gates[:, : 3 * size].view(-1, 3, size), gates[:, 3 * size :]
    whole = (gates, to_cell, to_hidden, cell, hidden, run.of_cell, *run.of_hidden, run.gates[:, size : 2 * size])
    after: tuple[Tensor, Tensor, Tensor] | None = None
    for z, z_c, z_h, c, h, a_c, a_o, d, f in reversed(
        list(zip(*(torch.split(x, run.counts) for x in whole), strict=True))
    ):
        if after is not None:
            z_after, c_after, f_after = after
            h[: len(z_after)] += run.multiply(z_after, u)
        c.addcmul_(d, h)
        if after is not None:
            c[: len(z_after)].addcmul_(f_after, c_after)
        z_c.addcmul_(a_c, c.unsqueeze(1))
        z_h.addcmul_(a_o, h)
        after = z, c, f
    return _Change(gates, cell, hidden)


def _tangent(run: _Run, recurrent: Tensor, q: Tensor, v: Tensor) -> _Change:
    """z*_t, c*_t, h*_t for t = 0, 1, ..."""
    u = recurrent.to(run.dtype)
    size = recurrent.shape[1]
    gates = run.multiply(run.before, v.to(run.dtype)).add_(q)
    cell, hidden = torch.empty_like(run.cell), torch.empty_like(run.hidden)
    to_cell, to_hidden = gates[:, : 3 * size].view(-1, 3, size), gates[:, 3 * size :]
    whole = (gates, to_cell, to_hidden, cell, hidden, run.of_cell, *run.of_hidden, run.gates[:, size : 2 * size])
    before: tuple[Tensor, Tensor] | None = None
    for z, z_c, z_h, c, h, a_c, a_o, d, f in zip(*(torch.split(x, run.counts) for x in whole), strict=True):
        if before is not None:
            h_before, c_before = (x[: len(z)] for x in before)
            z += run.multiply(h_before, u)
        torch.sum(a_c * z_c, dim=1, out=c)
        if before is not None:
            c.addcmul_(f, c_before)
        torch.mul(d, c, out=h).addcmul_(a_o, z_h)
        before = h, c
    return _Change(gates, cell, hidden)


def _second(run: _Run, change: _Change, adjoint: _Change, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives with respect to h, c and the gates where they stand in the derivatives of a step and in U^."""
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
    hidden = run.following(run.multiply(adjoint.gates, v.to(run.dtype).t()))
    return hidden, cell, gates
