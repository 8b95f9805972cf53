"""The winning windows of `kshot.models.windows` by `kshot/models/native/windows.c`: in float32, on a CPU.

With the winners known, the maximum is linear in the filters and in the vectors of tokens, and so are its derivatives:

    values(w, e)  = sum_k w_k e_v      for each text and filter, v being the token at offset k of its winner
    columns(g, e) = sum g e_v          for each filter and offset, over the texts
    rows(g, w)    = sum g w_k          for each token, over the texts, filters and offsets that have it

    <g, values(w, e)> = <w, columns(g, e)> = <e, rows(g, w)>

So each is the derivative of the others, and they can be differentiated any number of times. A text and a filter have
one winner, of three to five tokens: a dense product would multiply every token by every filter at every offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kshot.models import native


@dataclass(frozen=True)
class Winners:
    """The windows that win.

    Attributes:
        tokens: The number of a vector at each place, -1 where there is none, int32, (n, L).
        widths: Of windows.
        n_filters: Of each width, m.
        n_vectors: How many vectors there are.
        places: The middle of the winner of each text and filter, int32, (n, n_widths * m).
    """

    tokens: Tensor
    widths: Tensor
    n_filters: int
    n_vectors: int
    places: Tensor

    @classmethod
    def found(cls, y: Tensor, tokens: Tensor, widths: Sequence[int]) -> tuple["Winners", Tensor]:
        """Finds the winners, and what they come to.

        Args:
            y: What each token adds at each offset, (n_vectors, n_offsets * m).
            tokens: As above, (n, L).
            widths: Of windows.

        Returns:
            The winners, and sum_k y_{v,k} of each text and filter, (n, n_widths * m).
        """
        if tokens.numel() and int(tokens.max()) >= len(y):
            raise IndexError(f"A token has the number {int(tokens.max())}, and there are {len(y)} vectors.")
        m = y.shape[1] // sum(widths)
        sums = y.new_empty(len(tokens), len(widths) * m)
        own = torch.tensor(widths, dtype=torch.int64, device="cpu")
        places = torch.empty_like(sums, dtype=torch.int32)
        found = cls(tokens.to("cpu", torch.int32).contiguous(), own, m, len(y), places)
        found._call("maxima", 0, y.contiguous(), sums)
        return found, sums

    def values(self, columns: Tensor, vectors: Tensor) -> Tensor:
        """(n_offsets * m, d), (n_vectors, d) -> (n, n_widths * m)."""
        made = vectors.new_zeros(self.places.shape)
        return self._call("values", columns.shape[1], columns.contiguous(), vectors.contiguous(), made)

    def columns(self, g: Tensor, vectors: Tensor) -> Tensor:
        """(n, n_widths * m), (n_vectors, d) -> (n_offsets * m, d)."""
        made = vectors.new_zeros(int(self.widths.sum()) * self.n_filters, vectors.shape[1])
        return self._call("columns", vectors.shape[1], g.contiguous(), vectors.contiguous(), made)

    def rows(self, g: Tensor, columns: Tensor) -> Tensor:
        """(n, n_widths * m), (n_offsets * m, d) -> (n_vectors, d)."""
        made = columns.new_zeros(self.n_vectors, columns.shape[1])
        return self._call("rows", columns.shape[1], g.contiguous(), columns.contiguous(), made)

    def _call(self, name: str, d: int, *tensors: Tensor) -> Tensor:
        shape = *self.tokens.shape, self.n_filters, len(self.widths), d
        own = self.widths, self.tokens, self.places
        native.call(f"kshot_windows_{name}", *shape, *own, *tensors, threads=torch.get_num_threads())
        return tensors[-1]


class Values(torch.autograd.Function):
    """values(w, e), which may be known already."""

    @staticmethod
    def forward(ctx: Any, winners: Winners, columns: Tensor, vectors: Tensor, known: Tensor | None) -> Tensor:
        ctx.winners = winners
        ctx.save_for_backward(columns, vectors)
        return winners.values(columns, vectors) if known is None else known.view_as(known)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (columns, vectors), [g] = ctx.saved_tensors, gradients
        _, of_columns, of_vectors, _ = ctx.needs_input_grad
        return (
            None,
            Columns.apply(ctx.winners, g, vectors) if of_columns else None,  # type: ignore[no-untyped-call]
            Rows.apply(ctx.winners, g, columns) if of_vectors else None,  # type: ignore[no-untyped-call]
            None,
        )


class Columns(torch.autograd.Function):
    """columns(g, e)."""

    @staticmethod
    def forward(ctx: Any, winners: Winners, g: Tensor, vectors: Tensor) -> Tensor:
        ctx.winners = winners
        ctx.save_for_backward(g, vectors)
        return winners.columns(g, vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g, vectors), [x] = ctx.saved_tensors, gradients
        _, of_g, of_vectors = ctx.needs_input_grad
        return (
            None,
            Values.apply(ctx.winners, x, vectors, None) if of_g else None,  # type: ignore[no-untyped-call]
            Rows.apply(ctx.winners, g, x) if of_vectors else None,  # type: ignore[no-untyped-call]
        )


class Rows(torch.autograd.Function):
    """rows(g, w)."""

    @staticmethod
    def forward(ctx: Any, winners: Winners, g: Tensor, columns: Tensor) -> Tensor:
        ctx.winners = winners
        ctx.save_for_backward(g, columns)
        return winners.rows(g, columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g, columns), [x] = ctx.saved_tensors, gradients
        _, of_g, of_columns = ctx.needs_input_grad
        return (
            None,
            Values.apply(ctx.winners, columns, x, None) if of_g else None,  # type: ignore[no-untyped-call]
            Columns.apply(ctx.winners, g, x) if of_columns else None,  # type: ignore[no-untyped-call]
        )
