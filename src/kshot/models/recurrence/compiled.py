"""The recurrence by `kshot/models/native/lstm.c`: in float32, products in bfloat16 if they are asked for, on a CPU."""

from itertools import pairwise

import torch
from torch import Tensor

from kshot.models import native
from kshot.models.kernels import tiles_of
from kshot.models.products import multiplier
from kshot.models.recurrence.written import Change, Run, product


class Compiled:
    """The steps of a recurrence over texts of given lengths.

    Args:
        counts: n_t, which never grows.
        places: The row of p for each row, (N,).
        dtype: The precision of products: float32, or bfloat16 where the processor has it.
    """

    def __init__(self, counts: list[int], places: Tensor, dtype: torch.dtype = torch.float32) -> None:
        if sum(counts) != len(places) or any(later > earlier for earlier, later in pairwise(counts)):
            raise ValueError(f"The numbers of texts must add up to {len(places)} and never grow: {counts}.")
        self.counts = counts
        self.dtype = dtype
        self.places = places.to("cpu", torch.int64).contiguous()
        self._counts = torch.tensor(counts, dtype=torch.int64, device="cpu")
        self._kind = tiles_of(dtype)
        self._multiply = multiplier(dtype)

    def forward(self, p: Tensor, recurrent: Tensor) -> Run:
        size = recurrent.shape[1]
        if not p.shape[1] == recurrent.shape[0] == 4 * size:
            raise ValueError(f"Shapes {tuple(p.shape)} and {tuple(recurrent.shape)} are not (n, 4 h) and (4 h, h).")
        gates, cell, squashed, hidden = (p.new_empty(len(self.places), n * size) for n in (4, 1, 1, 1))
        self._call("forward", size, len(p), p, recurrent, gates, cell, squashed, hidden)
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
        return product(self.counts, gates, hidden, self._multiply)

    def _call(self, name: str, size: int, *arguments: int | Tensor | None) -> None:
        """Calls a function of `lstm.c`; the last tensors are written."""
        ready = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]  # those written are so
        given = len(self.counts), size, self._kind, self._counts, self.places, *ready
        match native.call(f"kshot_lstm_{name}", *given, threads=torch.get_num_threads()):
            case 1:
                raise MemoryError(f"There is no memory for the weights of an LSTM of {size} units.")
            case 2:
                raise IndexError("A text takes a row of p that is not there.")


def _like(run: Run) -> Change:
    return Change(*(torch.empty_like(each) for each in (run.gates, run.cell, run.hidden)))
