"""What a learner makes of support examples that it was not given: what its confidence and its choice are judged by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def folds(
    learner: Learner,
    examples: Sequence[Any],
    classes: Sequence[str],
    *,
    known: Mapping[bytes, Tensor] | None,
    n_folds: int = MAX_FOLDS,
) -> Iterator[Fold]:
    """Deals the examples out to folds, and adapts to what each leaves.

    Only classes that the others show as well are asked for in a fold; one example alone makes no fold. A task without
    classes, such as a translation, is dealt out as it is.

    Args:
        learner: The learner.
        examples: The support set.
        classes: The names of the classes.
        known: The vectors of the support, by `vector_keys`; None if the inner loop moves the encoder.
        n_folds: How many folds at most.
    """
    n_folds = min(len(examples), n_folds)
    for number in range(n_folds if n_folds > 1 else 0):
        kept = [each for place, each in enumerate(examples) if place % n_folds != number]
        left_out = [each for place, each in enumerate(examples) if place % n_folds == number]
        shown = {label for each in kept for label in each.labels}
        names = [name for name in classes if name in shown]
        if classes and not names:
            continue
        support, query = (
            learner.task.collate(part, names, learner.encoder.vocabulary, support=part is kept)
            for part in (kept, left_out)
        )
        state = learner.adapt(support, None if known is None else gather(support, known))
        yield Fold(state, query, None if known is None else gather(query, known), left_out, names)


def left_out_score(
    learner: Learner, examples: Sequence[Any], classes: Sequence[str], *, known: Mapping[bytes, Tensor] | None
) -> float:
    """The score on the left-out examples, of the measure that decides for the learner's task.

    Learners can be compared by it; after adapting to all examples they are better than it says.

    Returns:
        The mean over the folds, each counting for as many examples as it leaves out; 0 if there is no fold.
    """
    scores, sizes = [], []
    for fold in folds(learner, examples, classes, known=known):
        with torch.no_grad():
            scorer = learner.scorer(fold.state, fold.query, fold.vectors)
            scores.append(learner.task.score(scorer, fold.query, fold.examples, fold.classes)[0])
        sizes.append(len(fold.examples))
    return float(np.average(scores, weights=sizes)) if scores else 0.0
