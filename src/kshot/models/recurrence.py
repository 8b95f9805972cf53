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

Backward (x^ is the derivative of the loss with respect to x, given the direct part l_t of h^_t):

    h^_t = l_t + z^_{t+1} U       c^_t = d h^_t + f_{t+1} c^_{t+1}      z^_t = (a_i c^, a_f c^, a_g c^, a_o h^)
    p^_t = z^_t                   U^ = sum_t z^_t' h_{t-1}

Backward once more: given q, V, the derivative with respect to p, U and l of  <q, p^> + <V, U^>. That sum is
<l, h*>, where x* is the change of x when p and U change by q and V. So the derivative with respect to l is h*, and
those with respect to p and U are the changes p^* and U^* of the backward pass, l being held (Pearlmutter 1994, Fast exact multiplication by the Hessian, section 3):

    z*_t = q_t + h_{t-1} V' + h*_{t-1} U'     c*_t = f c*_{t-1} + a_i z*_i + a_f z*_f + a_g z*_g     h*_t = d c*_t + a_o z*_o
    h^*_t = z^_{t+1} V + z^*_{t+1} U          c^*_t = d h^*_t + d* h^_t + f_{t+1} c^*_{t+1} + f*_{t+1} c^_{t+1}
    z^*_t = (a c^* + a* c^, and for o with h^)      U^* = sum_t z^*_t' h_{t-1} + z^_t' h*_{t-1}

which is the backward recurrence again, with other sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kshot.models.products import Multiply, multiplier, product_type


def lstm(gates: Tensor, recurrent: Tensor, counts: Sequence[int]) -> Tensor:
    """Runs the recurrence; can be differentiated twice.

    Args:
        gates: p, the input's part of the gates, one time step after the other, (sum of n_t, 4 h).
        recurrent: U, (4 h, h).
        counts: n_t, which never grows.

    Returns:
        The hidden states, (sum of n_t, h).
    """
    hidden: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        gates, recurrent, tuple(counts), multiplier(), product_type(recurrent)
    )
    return hidden


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, recurrent: Tensor, counts: tuple[int, ...], multiply: Multiply, dtype: torch.dtype
    ) -> Tensor:
        run = _run(gates, recurrent, counts, multiply, dtype)
        ctx.save_for_backward(gates, recurrent)
        ctx.run = run
        return run.hidden.view_as(run.hidden)  # another tensor than the one that the context keeps: no cycle

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gates, recurrent = ctx.saved_tensors
        of_gates, of_recurrent = _Backward.apply(gradients[0], gates, recurrent, ctx.run)  # type: ignore[no-untyped-call]
        return of_gates, of_recurrent, None, None, None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of_hidden: Tensor, gates: Tensor, recurrent: Tensor, run: "_Run") -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(recurrent)
        ctx.run = run
        ctx.adjoint = adjoint = _adjoint(run, recurrent, of_hidden)
        return adjoint.gates.view_as(adjoint.gates), _product(run, adjoint.gates, run.before)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *changes: Tensor) -> tuple[Tensor | None, ...]:
        [recurrent] = ctx.saved_tensors
        run, first = ctx.run, ctx.adjoint
        q, v = changes
        tangent = _tangent(run, recurrent, q, v)
        second = _adjoint(run, recurrent, *_sources(run, tangent, first, v))
        of_recurrent = _product(run, second.gates, run.before)
        of_recurrent += _product(run, first.gates, run.previous(tangent.hidden))
        return tangent.hidden, second.gates, of_recurrent, None


@dataclass(frozen=True)
class _Run:
    """What a recurrence leaves behind; N is the sum of n_t.

    Attributes:
        counts: n_t.
        multiply: What multiplies.
        dtype: The precision of products.
        active: i, f, g, o, (N, 4 h).
        cell: c, (N, h).
        squashed: tanh(c), (N, h).
        hidden: h, (N, h).
    """

    counts: tuple[int, ...]
    multiply: Multiply
    dtype: torch.dtype
    active: Tensor
    cell: Tensor
    squashed: Tensor
    hidden: Tensor

    @cached_property
    def of_cell(self) -> Tensor:
        """a_i, a_f, a_g, (N, 3, h)."""
        i, f, g, _ = self.active.chunk(4, dim=1)
        return torch.stack([g * _slope(i), self.previous(self.cell) * _slope(f), i * (1 - g * g)], dim=1)

    @cached_property
    def of_hidden(self) -> tuple[Tensor, Tensor]:
        """a_o and d, (N, h) each."""
        o = self.active.chunk(4, dim=1)[3]
        return self.squashed * _slope(o), o * (1 - self.squashed * self.squashed)

    @cached_property
    def before(self) -> Tensor:
        """h_{t-1}, (N, h)."""
        return self.previous(self.hidden)

    def previous(self, x: Tensor) -> Tensor:
        """The rows of the step before, zero at the first: (N, k) -> (N, k)."""
        shifted = torch.zeros_like(x)
        for (start, count), (before, _) in zip(self.steps[1:], self.steps[:-1], strict=True):
            shifted[start : start + count] = x[before : before + count]
        return shifted

    def following(self, x: Tensor) -> Tensor:
        """The rows of the step after, zero where a text has ended: (N, k) -> (N, k)."""
        shifted = torch.zeros_like(x)
        for (start, count), (before, _) in zip(self.steps[1:], self.steps[:-1], strict=True):
            shifted[before : before + count] = x[start : start + count]
        return shifted

    @cached_property
    def steps(self) -> list[tuple[int, int]]:
        """Where each time step begins, and n_t."""
        return list(zip(accumulate(self.counts, initial=0), self.counts, strict=False))


@dataclass(frozen=True)
class _Change:
    """x* or x^ of the gates' input z (N, 4 h), of c (N, h) and of h (N, h)."""

    gates: Tensor
    cell: Tensor
    hidden: Tensor


def _product(run: _Run, gates: Tensor, hidden: Tensor) -> Tensor:
    """The sum over all steps of x' y: (N, 4 h), (N, h) -> (4 h, h)."""
    return run.multiply(gates.t(), hidden.t().to(run.dtype))


def _slope(x: Tensor) -> Tensor:
    """The derivative of the logistic function where it is x."""
    return x * (1 - x)


def _run(p: Tensor, recurrent: Tensor, counts: tuple[int, ...], multiply: Multiply, dtype: torch.dtype) -> _Run:
    """z_t, i, f, g, o, c_t, h_t for t = 0, 1, ..."""
    size = recurrent.shape[1]
    u = recurrent.to(dtype)
    active = p.to(recurrent.dtype, copy=True)
    cell, squashed, hidden = (active.new_empty(len(p), size) for _ in range(3))
    start = before = 0
    for t, count in enumerate(counts):
        now = slice(start, start + count)
        z = active[now]
        if t > 0:
            z += multiply(hidden[before : before + count], u)
        z[:, : 2 * size].sigmoid_()
        z[:, 2 * size : 3 * size].tanh_()
        z[:, 3 * size :].sigmoid_()
        i, f, g, o = z.chunk(4, dim=1)
        torch.mul(i, g, out=cell[now])
        if t > 0:
            cell[now].addcmul_(f, cell[before : before + count])
        torch.tanh(cell[now], out=squashed[now])
        torch.mul(o, squashed[now], out=hidden[now])
        start, before = start + count, start
    return _Run(counts, multiply, dtype, active, cell, squashed, hidden)


def _adjoint(
    run: _Run, recurrent: Tensor, hidden: Tensor, cell: Tensor | None = None, gates: Tensor | None = None
) -> _Change:
    """h^_t, c^_t, z^_t for t = ..., 1, 0, given what is to be added to each of them."""
    u = recurrent.to(run.dtype).t()
    size = recurrent.shape[1]
    hidden = hidden.clone()
    cell = torch.zeros_like(run.cell) if cell is None else cell
    gates = torch.zeros_like(run.active) if gates is None else gates
    forget, (a_o, d) = run.active[:, size : 2 * size], run.of_hidden
    later = slice(0, 0)
    for start, count in reversed(run.steps):
        now = slice(start, start + count)
        h, c, z = hidden[now], cell[now], gates[now]
        n_later = later.stop - later.start
        if n_later:
            h[:n_later] += run.multiply(gates[later], u)
        c.addcmul_(d[now], h)
        if n_later:
            c[:n_later].addcmul_(forget[later], cell[later])
        z[:, : 3 * size].view(count, 3, size).addcmul_(run.of_cell[now], c.unsqueeze(1))
        z[:, 3 * size :].addcmul_(a_o[now], h)
        later = now
    return _Change(gates, cell, hidden)


def _tangent(run: _Run, recurrent: Tensor, q: Tensor, v: Tensor) -> _Change:
    """z*_t, c*_t, h*_t for t = 0, 1, ..."""
    u = recurrent.to(run.dtype)
    size = recurrent.shape[1]
    gates = run.multiply(run.before, v.to(run.dtype)).add_(q)
    cell, hidden = torch.empty_like(run.cell), torch.empty_like(run.hidden)
    forget, (a_o, d) = run.active[:, size : 2 * size], run.of_hidden
    before = 0
    for start, count in run.steps:
        now, earlier = slice(start, start + count), slice(before, before + count)
        z, c, h = gates[now], cell[now], hidden[now]
        if start > 0:
            z += run.multiply(hidden[earlier], u)
        torch.sum(run.of_cell[now] * z[:, : 3 * size].view(count, 3, size), dim=1, out=c)
        if start > 0:
            c.addcmul_(forget[now], cell[earlier])
        torch.mul(d[now], c, out=h)
        h.addcmul_(a_o[now], z[:, 3 * size :])
        before = start
    return _Change(gates, cell, hidden)


def _sources(run: _Run, tangent: _Change, first: _Change, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is added to h^*_t, c^*_t and z^*_t from outside their recurrence."""
    i, f, g, o = run.active.chunk(4, dim=1)
    z_i, z_f, z_g, z_o = tangent.gates.chunk(4, dim=1)
    squashed = run.squashed
    i_, f_, o_ = _slope(i) * z_i, _slope(f) * z_f, _slope(o) * z_o
    g_ = (1 - g * g) * z_g
    squashed_ = (1 - squashed * squashed) * tangent.cell
    gates = torch.empty_like(run.active)
    of_i, of_f, of_g, of_o = gates.chunk(4, dim=1)
    torch.mul(g_ * _slope(i) + g * (1 - 2 * i) * i_, first.cell, out=of_i)
    f_slope = run.previous(tangent.cell) * _slope(f) + run.previous(run.cell) * (1 - 2 * f) * f_
    torch.mul(f_slope, first.cell, out=of_f)
    torch.mul(i_ * (1 - g * g) - 2 * i * g * g_, first.cell, out=of_g)
    torch.mul(squashed_ * _slope(o) + squashed * (1 - 2 * o) * o_, first.hidden, out=of_o)
    of_d = o_ * (1 - squashed * squashed) - 2 * o * squashed * squashed_
    cell = of_d * first.hidden + run.following(f_ * first.cell)
    hidden = run.following(run.multiply(first.gates, v.to(run.dtype).t()))
    return hidden, cell, gates
