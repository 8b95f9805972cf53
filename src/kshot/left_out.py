"""What a learner makes of support examples that it was not given: what its confidence and its choice are judged by."""

import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kshot.errors import KshotNotice
from kshot.meta.adaptations import side_by_side
from kshot.meta.learner import Learner, gather
from kshot.meta.state import State
from kshot.tasks.base import Batch

MAX_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """Some of a support set, and what was learned from the others.

    Attributes:
        state: What was learned.
        query: The examples that were left out, as the learner takes them.
        vectors: Their vectors; None if the inner loop moves the encoder.
        examples: The examples themselves.
        classes: The classes that the others show.
    """

    state: State
    query: Batch
    vectors: Tensor | None
    examples: list[Any]
    classes: list[str]


def deal(labels: Sequence[Collection[Hashable]]) -> list[list[int]]:
    """Deals examples out, so that no part has two of a class: if one part is left out, the others show its classes.

    Part k has the k-th example of each class, where an example is of one class. An example that is the only one of each
    of its classes is in no part. Those of no class count as one class more.

    Args:
        labels: The classes of each example.

    Returns:
        The numbers of the examples of each part, in order.
    """
    kinds: list[Collection[Hashable]] = [each or (None,) for each in labels]
    counts = Counter(kind for each in kinds for kind in each)
    rank = {kind: place for place, kind in enumerate(sorted(counts, key=lambda kind: counts[kind]))}
    several = [number for number, each in enumerate(kinds) if any(counts[kind] > 1 for kind in each)]
    parts: list[list[int]] = []
    free = dict.fromkeys(counts, 0)  # the first part after those that have a class
    for number in sorted(several, key=lambda number: min(rank[kind] for kind in kinds[number])):  # the rare ones choose
        place = max(free[kind] for kind in kinds[number])
        free |= dict.fromkeys(kinds[number], place + 1)
        if place == len(parts):
            parts.append([])
        parts[place].append(number)
    return [sorted(part) for part in parts]


def folds(
    learner: Learner,
    examples: Sequence[Any],
    classes: Sequence[str],
    *,
    known: Mapping[bytes, Tensor] | None,
    labels: Sequence[Collection[Hashable]] | None = None,
    n_folds: int = MAX_FOLDS,
) -> Iterator[Fold]:
    """Leaves each example out once, of every class about as many at a time, and adapts to the others.

    An example that is the only one of its classes is never left out; of the classes of the others only those that are
    still shown are asked for in a fold. A task without classes, such as a translation, is dealt out as it is.

    Args:
        learner: The learner.
        examples: The support set.
        classes: The names of the classes.
        known: The vectors of the support, by `vector_keys`; None if the inner loop moves the encoder.
        labels: The classes of each example that it is dealt out by; None for all that it shows.
        n_folds: How many folds at most.
    """
    parts = deal([each.labels for each in examples] if labels is None else labels)
    n_folds = min(n_folds, len(parts))

    def fold(number: int) -> Fold:
        out = sorted(place for part in parts[number::n_folds] for place in part)
        left_out = [examples[place] for place in out]
        kept = [examples[place] for place in sorted(set(range(len(examples))) - set(out))]
        shown = {label for each in kept for label in each.labels}
        names = [name for name in classes if name in shown]
        support, query = (
            learner.task.collate(part, names, learner.encoder.vocabulary, support=part is kept)
            for part in (kept, left_out)
        )
        state = learner.adapt(support, None if known is None else gather(support, known))
        return Fold(state, query, None if known is None else gather(query, known), left_out, names)

    return side_by_side(learner, fold, range(n_folds))


def left_out_score(
    learner: Learner, examples: Sequence[Any], classes: Sequence[str], *, known: Mapping[bytes, Tensor] | None
) -> float:
    """The score on the left-out examples, of the measure that decides for the learner's task.

    Learners can be compared by it; after adapting to all examples they are better than it says.

    Returns:
        The mean over the folds, each counting for as many examples as it leaves out; 0 if there is no fold.

    Warns:
        KshotNotice: If there is none, since nothing can be compared then.
    """
    scores, sizes = [], []
    labels = [learner.task.judged_by(each) for each in examples]
    for fold in folds(learner, examples, classes, known=known, labels=labels):
        with torch.no_grad():
            scorer = learner.scorer(fold.state, fold.query, fold.vectors)
            scores.append(learner.task.score(scorer, fold.query, fold.examples, fold.classes)[0])
        sizes.append(len(fold.examples))
    if not scores:
        reason = "There is one example only" if len(examples) == 1 else "No two examples are of one class"
        warnings.warn(
            f"{reason}, so none can be left out to judge algorithms by: all score 0, and the first is taken; give more "
            "examples to choose.",
            KshotNotice,
            stacklevel=2,
        )
        return 0.0
    return float(np.average(scores, weights=sizes))
