"""What learning a task leaves behind."""

from dataclasses import dataclass

from torch import Tensor

State = dict[str, Tensor]
"""Tensors by name: prototypes, ridge weights and MAML's fast weights are all States. Never changed in place."""


@dataclass(frozen=True)
class Items:
    """Labelled vectors: all that a head ever sees of a support set.

    Attributes:
        x: The vectors, (n_items, dim).
        y: Their label numbers, (n_items,).
        n_labels: The number of labels; each has at least one item.
        weight: How many examples each item counts for, (n_items,).
    """

    x: Tensor
    y: Tensor
    n_labels: int
    weight: Tensor


def part_of(state: State, prefix: str) -> State:
    """The tensors whose names begin with `prefix.`, without it."""
    start = len(prefix) + 1
    return {name[start:]: tensor for name, tensor in state.items() if name.startswith(prefix + ".")}


def with_prefix(state: State, prefix: str) -> State:
    """The same tensors, their names beginning with `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}
