"""The layers of a BERT in one call: `kshot/models/native/bert.c`.

Threads take whole texts through all layers, so that none waits for another and nothing between products comes back to
Python; and texts lie one after the other without padding. It is for vectors that nobody differentiates, from layers
whose weights stay as they are (`kshot.models.packed`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kshot.models import native
from kshot.models.packed import ready
from kshot.models.products import Linear
from kshot.models.tiles import LaidOut

if TYPE_CHECKING:
    from kshot.models.bert import Layer


@dataclass(frozen=True)
class InOneCall:
    """The layers of a BERT.

    Attributes:
        layout: Of the weights; see `kshot.models.kernels.layout_in_c`.
        shape: The number of layers, and of heads, and the size of what is between the last two products of a layer.
        tensors: Those of all layers, in the order in which they are used: weights, biases, norms.
        epsilon: What the norms add to a variance, (1,).
    """

    layout: int
    shape: tuple[int, int, int]
    tensors: Sequence[Tensor]
    epsilon: Tensor

    @classmethod
    def of(cls, layers: Sequence["Layer"]) -> "InOneCall | None":
        """Takes layers; None if there are none, not all weights are ready, or something may be dropped out."""
        if not layers or any(layer.training for layer in layers):
            return None
        tensors: list[Tensor] = []
        for layer in layers:
            linear, norms = layer.parts()
            weights = [_laid_out(each) for each in linear]
            if None in weights:
                return None
            tensors += [each.content for each in weights if each is not None]
            tensors += [each.bias for each in (*linear, *norms)]
            tensors += [each.weight for each in norms]
        [first, *_], [norm, *_] = weights, norms
        assert first is not None
        shape = len(layers), layer.n_heads, layer.inner
        return cls(first.kind, shape, [each.contiguous() for each in tensors], torch.tensor([norm.eps]))

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Takes the tokens of texts through the layers.

        Args:
            x: The vectors of all tokens, text after text, (n_tokens, dim), float32.
            lengths: The tokens of each text, (n_texts,).

        Returns:
            (n_tokens, dim).
        """
        n_layers, n_heads, inner = self.shape
        addresses = torch.tensor([each.data_ptr() for each in self.tensors])
        made = x.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        given = self.layout, n_layers, len(lengths), x.shape[1], n_heads, inner, lengths.cumsum(0), addresses
        if native.call("kshot_bert_layers", *given, self.epsilon, made, threads=torch.get_num_threads()):
            raise MemoryError(f"There is no memory for the layers of {len(x)} tokens.")
        return made


def _laid_out(layer: nn.Module) -> LaidOut | None:
    """The weights of a linear layer for functions in C, if that is all that it does."""
    known = ready(layer.weight) if isinstance(layer, Linear) else None
    return None if known is None or known.for_c is None else known.for_c()
