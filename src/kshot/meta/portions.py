"""Portions of a support: what a step of an inner loop sees, and what is held out of it."""

from collections.abc import Callable

import numpy as np

from kshot.tasks.base import Batch


def portions(batch: Batch, size: int | None) -> Callable[[int], Batch]:
    """Gives the portion of each step, by its number: every text once, then every text again in another order.

    Args:
        batch: The support.
        size: Texts of a portion; None, or as many as there are, for all in every step.
    """
    n = len(batch.texts)
    if size is None or size >= n:
        return lambda step: batch
    per_round = n // size

    def portion(step: int) -> Batch:
        round_number, place = divmod(step, per_round)
        order = np.random.default_rng((n, round_number)).permutation(n)
        return batch.of_texts(order[place * size : (place + 1) * size].tolist())

    return portion


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
