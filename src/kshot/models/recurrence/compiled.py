"""The recurrence by `kshot/models/native/lstm.c`: in float32, products in bfloat16 if they are asked for, on a CPU."""

from functools import cached_property

import torch
from torch import Tensor

from kshot.models import native
from kshot.models.products import multiplier
from kshot.models.recurrence.written import Change, Run, product


class Compiled:
    """The steps of a recurrence over texts of given lengths.

    Args:
        counts: n_t.
        places: The row of p for each row, (N,).
        dtype: The precision of products: float32, or bfloat16 where the processor has it.
    """

    def __init__(self, counts: list[int], places: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self.counts = counts
        self.dtype = dtype
        self._in_half = int(dtype == torch.bfloat16 and native.has_half())
        self.places = places.contiguous()

    def forward(self, p: Tensor, recurrent: Tensor) -> Run:
        size = recurrent.shape[1]
        gates, cell, squashed, hidden = (p.new_empty(len(self.places), n * size) for n in (4, 1, 1, 1))
        self._call("forward", size, p, recurrent, gates, cell, squashed, hidden)
        return Run(self.counts, gates, cell, squashed, hidden)

    def adjoint(
        self, run: Run, recurrent: Tensor, of_hidden: Tensor | None, of_cell: Tensor | None, of_gates: Tensor | None
    ) -> Change:
        change, outside = _like(run), (of_hidden, of_cell, of_gates)
        known = run.gates, run.cell, run.squashed
        self._call("adjoint", recurrent.shape[1], recurrent, *known, *outside, change.gates, change.cell, change.hidden)
        return change

    def tangent(self, run: Run, recurrent: Tensor, q: Tensor, v: Tensor) -> Change:
        change = _like(run)
        known = run.gates, run.cell, run.squashed, run.hidden
        made = change.gates, change.cell, change.hidden
        self._call("tangent", recurrent.shape[1], recurrent, v, q, *known, *made)
        return change

    def second(self, run: Run, change: Change, adjoint: Change, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        made, known = _like(run), (run.gates, run.cell, run.squashed, change.gates, change.cell)
        adjoints = adjoint.gates, adjoint.cell, adjoint.hidden
        self._call("second", v.shape[1], v, *known, *adjoints, made.gates, made.cell, made.hidden)
        return made.hidden, made.cell, made.gates

    def product(self, gates: Tensor, hidden: Tensor) -> Tensor:
        return product(self.counts, gates, hidden.to(self.dtype), multiplier())

    def _call(self, name: str, size: int, *tensors: Tensor | None) -> None:
        """Calls a function of `lstm.c`; the last tensors are written."""
        ready = [None if each is None else each.contiguous() for each in tensors]  # those written are so already
        arguments = len(self.counts), size, self._in_half, self._counts, self.places, *ready
        if native.call(f"kshot_lstm_{name}", *arguments, threads=torch.get_num_threads()):
            raise MemoryError(f"There is no memory for the weights of an LSTM of {size} units.")

    @cached_property
    def _counts(self) -> Tensor:
        return torch.tensor(self.counts, dtype=torch.int64)


def _like(run: Run) -> Change:
    return Change(*(torch.empty_like(each) for each in (run.gates, run.cell, run.hidden)))
