"""The recurrence of an LSTM with its first and second derivatives written out.

Autograd would take a graph of a dozen small operations a time step, and multiply for the gradient of the recurrent
matrix at each of them. Here a time step is one product and a few operations in place; all that does not have to wait
for the step before (derivatives of the gates, the gradients of the matrix) is done for all time steps at once. In
float32 on a CPU where there is a C compiler, the steps are those of `kshot/models/native/lstm.c`.

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
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kshot.errors import KshotError
from kshot.models.native import can_take
from kshot.models.products import multiplier, product_type
from kshot.models.recurrence.compiled import Compiled
from kshot.models.recurrence.written import Change, Run, Written


class Steps(Protocol):
    """The steps of a recurrence over texts of given lengths, and of its derivatives; x^ and x* as above."""

    @property
    def places(self) -> Tensor:
        """The row of p for each row, (N,)."""
        ...

    def forward(self, p: Tensor, recurrent: Tensor) -> Run: ...

    def adjoint(
        self, run: Run, recurrent: Tensor, of_hidden: Tensor | None, of_cell: Tensor | None, of_gates: Tensor | None
    ) -> Change:
        """x^, given what reaches h, c and the gates from outside, if anything does."""
        ...

    def tangent(self, run: Run, recurrent: Tensor, q: Tensor, v: Tensor) -> Change:
        """x*."""
        ...

    def second(self, run: Run, change: Change, adjoint: Change, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What reaches h, c and the gates where they stand in the derivatives of a step and in U^."""
        ...

    def product(self, gates: Tensor, hidden: Tensor) -> Tensor:
        """sum_t x_t' y_{t-1}: (N, 4 h), (N, h) -> (4 h, h)."""
        ...


def lstm(p: Tensor, recurrent: Tensor, counts: Sequence[int], places: Tensor | None = None) -> Tensor:
    """Runs the recurrence; can be differentiated twice.

    Args:
        p: The input's part of the gates, (n_inputs, 4 h).
        recurrent: U, the recurrent matrix, (4 h, h).
        counts: n_t, which never grows.
        places: Which row of p each text takes, one time step after the other, (sum of n_t,); one after the other if
            left out.

    Returns:
        The hidden states, (sum of n_t, h).
    """
    hidden: Tensor
    if places is None:
        places = torch.arange(len(p), device=p.device)
    p = p.to(recurrent.dtype)  # nothing is added up in reduced precision
    steps = _steps(p, recurrent, list(counts), places)
    hidden, *_ = _Recurrence.apply(p, recurrent, steps)  # type: ignore[no-untyped-call]
    return hidden


def _steps(p: Tensor, recurrent: Tensor, counts: list[int], places: Tensor) -> Steps:
    """In C where that can be."""
    dtype = product_type(recurrent)
    if can_take(p, recurrent):
        return Compiled(counts, places, dtype)
    return Written(counts, places, multiplier(dtype), dtype)


class _Recurrence(torch.autograd.Function):
    """p, U -> h, c, and the gates i, f, g, o; what is saved of them is where second derivatives come in."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, recurrent: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        run = steps.forward(p, recurrent)
        outputs = run.hidden.view_as(run.hidden), run.cell.view_as(run.cell), run.gates.view_as(run.gates)
        ctx.save_for_backward(recurrent, *outputs)
        ctx.steps, ctx.run, ctx.n_inputs = steps, run, len(p)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = ctx.steps, ctx.run, ctx.n_inputs, *gradients, *ctx.saved_tensors
        of_p, of_recurrent = _Backward.apply(*given)  # type: ignore[no-untyped-call]
        return of_p, of_recurrent, None


class _Backward(torch.autograd.Function):
    """What reaches h, c and the gates -> p^, U^."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: Steps,
        run: Run,
        n_inputs: int,
        of_hidden: Tensor | None,
        of_cell: Tensor | None,
        of_gates: Tensor | None,
        recurrent: Tensor,
        *outputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(recurrent)
        ctx.steps, ctx.run, ctx.is_second = steps, run, of_gates is not None
        ctx.adjoint = adjoint = steps.adjoint(run, recurrent, of_hidden, of_cell, of_gates)
        of_p = torch.ops.aten.embedding_dense_backward(adjoint.gates, steps.places, n_inputs, -1, False)
        return of_p, steps.product(adjoint.gates, run.hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_second:
            raise KshotError('An LSTM can be differentiated twice, not three times, unless kernels is "plain".')
        [recurrent] = ctx.saved_tensors
        steps, run, adjoint = ctx.steps, ctx.run, ctx.adjoint
        change = steps.tangent(run, recurrent, q, v)
        of_recurrent = steps.product(adjoint.gates, change.hidden)
        return None, None, None, change.hidden, None, None, of_recurrent, *steps.second(run, change, adjoint, v)
