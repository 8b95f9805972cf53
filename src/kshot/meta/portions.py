"""Portions of a support: what a step of an inner loop sees, and what is held out of it."""

from collections.abc import Callable

import numpy as np

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


def hold_out(batch: Batch, share: float) -> tuple[Batch, Batch]:
    """Parts a support of at least two texts in two: what is learned from, and what is held out.

    Args:
        batch: The support.
        share: The share of its texts that is held out, one text at least, and one is left at least.
    """
    n = len(batch.texts)
    order = np.random.default_rng(n).permutation(n).tolist()
    n_out = min(max(round(share * n), 1), n - 1)
    return batch.of_texts(sorted(order[n_out:])), batch.of_texts(sorted(order[:n_out]))
