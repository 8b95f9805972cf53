"""What a kind of problem is to an algorithm: items, each a vector with a label number."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kshot.data.examples import TextExample
from kshot.models.vocabulary import TokenIds, Vocabulary
from kshot.settings import Settings

Encode = Callable[[Sequence[TokenIds]], Tensor]
"""Texts to vectors, (n_texts, dim)."""


@dataclass(frozen=True)
class Batch:
    """A support or a query set as an algorithm needs it.

    Attributes:
        texts: The distinct token sequences, n_texts of them.
        rows: The text of each item, (n_items,).
        labels: For each group of items the label numbers, (n_items,); -1 where there is none to learn from.
        n_labels: For each group the number of labels.
        weights: How many examples each item counts for, (n_items,).
    """

    texts: tuple[TokenIds, ...]
    rows: Tensor
    labels: dict[str, Tensor]
    n_labels: dict[str, int]
    weights: Tensor


class Task(ABC):
    """One kind of problem.

    Attributes:
        groups: The kinds of items that it labels, each with a head of its own.
        settings: What rebuilds it.
    """

    groups: tuple[str, ...]
    settings: Settings

    @abstractmethod
    def collate(
        self, examples: Sequence[TextExample], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        """Makes a batch of examples; a label that is not in `classes` is -1."""

    @abstractmethod
    def features(self, encode: Encode, batch: Batch) -> dict[str, Tensor]:
        """Returns one vector for each item of each group, (n_items, dim)."""


def join(batches: Sequence[Batch]) -> tuple[tuple[TokenIds, ...], list[Tensor]]:
    """Collects the distinct texts of several batches.

    A vocabulary gives the same array for the same text, so arrays are compared by identity.

    Returns:
        The distinct texts, and for each batch the places of its texts among them, (n_texts,).
    """
    places: dict[int, int] = {}
    texts: list[TokenIds] = []
    found = []
    for batch in batches:
        numbers = np.empty(len(batch.texts), dtype=np.int64)
        for row, text in enumerate(batch.texts):
            place = places.setdefault(id(text), len(texts))
            if place == len(texts):
                texts.append(text)
            numbers[row] = place
        found.append(torch.from_numpy(numbers))
    return tuple(texts), found
