"""Portions of a support: what a step of an inner loop sees, and what is held out of it."""

from collections.abc import Callable

import numpy as np
import torch

from kshot.tasks.base import Batch


def portions(batch: Batch, size: int | None) -> Callable[[int], Batch]:
    """Gives the portion of each step, by its number: every n-th of the texts, in turn.

    Taking every n-th text, and not a run of them, gives each portion some of every class where texts are sorted.

    Args:
        batch: The support.
        size: Texts of a portion at most; None for all in every step.
    """
    n_parts = 1 if size is None else max(1, -(-len(batch.texts) // size))
    if n_parts == 1:
        return lambda step: batch
    parts = [batch.of_texts(range(part, len(batch.texts), n_parts)) for part in range(n_parts)]
    return lambda step: parts[step % n_parts]


def hold_out(batch: Batch, share: float, *, open: bool = False) -> tuple[Batch, Batch]:
    """Parts a support in two: what is learned from, and what is held out.

    A text is held out if others show its labels, so that each label of the support has an item to learn from; there may
    be fewer such texts than wanted, or none.

    Args:
        batch: The support.
        share: The share of its texts that is held out, one text at least, and one is left at least.
        open: Whether labels are the tokens of a vocabulary, most of which no support shows: then any text will do.
    """
    n = len(batch.texts)
    order = np.random.default_rng(n).permutation(n).tolist()
    n_out = min(max(round(share * n), 1), n - 1)
    kept, shown = set(order), set() if open else _labels(batch)
    for number in order:
        if n - len(kept) == n_out:
            break
        kept.remove(number)
        if not open and _labels(batch.of_texts(list(kept))) != shown:
            kept.add(number)
    return batch.of_texts(list(kept)), batch.of_texts([number for number in order if number not in kept])


def _labels(batch: Batch) -> set[tuple[str, int]]:
    """The labels that have an item, with their groups."""
    found = ((name, label) for name, group in batch.groups.items() for label in torch.unique(group.labels).tolist())
    return {(name, label) for name, label in found if label >= 0}
