"""The encoder's own output layer, where the labels are the tokens of a vocabulary."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from kshot.meta.heads.base import Head
from kshot.meta.state import Items, State
from kshot.settings import Settings


class OutputSettings(Settings):
    """Settings of `Output`."""


class Output(Head):
    """The encoder's own output layer, where the labels are the tokens of a vocabulary.

    A task starts with the layer as it is, whatever its support, and its inner loop may move it. Where the layer shares
    its table with the token embeddings, the two are one for all tasks, and part within a task.
    """

    moving: tuple[str, ...] = ("weight", "bias")
    looks = False

    def __init__(self, settings: Settings, dim: int) -> None:
        super().__init__()
        self.settings = settings

    def tie(self, encoder: Callable[[], tuple[Tensor, Tensor | None]]) -> None:
        """Says where the layer is: the parameters stay the encoder's, so they are kept and trained once."""
        self._layer = encoder

    def fit(self, items: Items) -> State:
        return self.bare()

    def bare(self) -> State:
        weight, bias = self._layer()
        return {"weight": weight, "bias": weight.new_zeros(len(weight)) if bias is None else bias}

    def logits(self, state: State, x: Tensor) -> Tensor:
        return F.linear(x, state["weight"], state["bias"])

    def rate_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (1, dim), "bias": (1,)}
