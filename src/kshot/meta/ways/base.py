"""What a way to run the tasks of a meta-step is, and where the gradients go."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from kshot.meta.learner import Learner, Pair, Rows


class Way(ABC):
    """Runs the tasks of meta-steps of a learner.

    Attributes:
        title: How it runs them, in words.
    """

    title: ClassVar[str]

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def why_not(self, episodes: Sequence[Pair]) -> str | None:
        """What keeps some episodes from being run so, if anything does."""
        return None

    @abstractmethod
    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        """Adds the gradient of the mean outer loss to the `grad` of the learner's parameters and of the rows.

        Args:
            episodes: Support and query of each.
            progress: How much of the training is done, 0 to 1.
            rows: See `Learner.rows_of`.

        Returns:
            The mean outer loss.
        """


def learned(learner: Learner, rows: Rows | None) -> list[Tensor]:
    """What a meta-step differentiates with respect to: the parameters that learn, and the rows, the last."""
    own: list[Tensor] = [tensor for tensor in learner.parameters() if tensor.requires_grad]
    return own if rows is None else [*own, rows.values]


def add(tensors: Sequence[Tensor], gradients: Iterable[Tensor | None]) -> None:
    """Adds gradients to the `grad` of tensors; None is the gradient of what took no part."""
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if gradient is None:
            continue
        if tensor.grad is None:
            tensor.grad = gradient.clone(memory_format=torch.contiguous_format)  # its memory may be written again
        else:
            tensor.grad += gradient
