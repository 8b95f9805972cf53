"""Confidence that means what it says: a temperature found from the support alone.

    z_ik   the logit of class k for support text i, by a classifier that was fitted without text i
    y_i    its class                          T     the temperature
    T_0    a prior temperature                r     how many rows the prior counts for

    T = argmin  sum_i -log softmax(z_i / T)[y_i]  +  r (log T - log T_0)^2

Temperature scaling is Guo et al. 2017, arXiv:1706.04599, section 4.2.
Differs from the paper: the logits are of left-out support texts, since a few-shot task has no validation set; and the
prior keeps a handful of texts, all of them right, from giving a temperature of nearly zero.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.data.examples import Example
from kshot.left_out import MAX_FOLDS, deal, folds
from kshot.meta.adaptations import side_by_side
from kshot.meta.learner import Learner, Pair
from kshot.meta.state import State
from kshot.tasks.base import Batch
from kshot.tasks.classification import GROUP

PRIOR_ROWS = 2.0
MAX_FOLDS_MOVING = 2  # each costs an adaptation where the inner loop moves the encoder
LOWEST, HIGHEST = 0.02, 50.0
ABOUT_KEY = "temperature"

_PRIORS = {"ridge": 0.5, "linear-probe": 0.3}
"""Of learners that were never measured: by clinc150 and hwu64 with all-MiniLM-L6-v2 frozen; 1 for the others."""


def prior_temperature(about: Mapping[str, Any], algorithm: str) -> float:
    """The temperature of a learner before it has seen a task: the one in its `about`, or its algorithm's."""
    found = about.get(ABOUT_KEY)
    return float(found) if isinstance(found, (int, float)) and found > 0 else _PRIORS.get(algorithm, 1.0)


def measure_prior(learner: Learner, episodes: Sequence[Pair]) -> float:
    """The one temperature that suits some episodes; best of one shot, of classes that it was not trained on."""
    with torch.no_grad():
        scored = [_scored(learner, learner.adapt(support), query) for support, query in episodes]
    return fit_temperature(*_together(scored), prior=1.0, prior_rows=0.0)


def _scored(learner: Learner, state: State, query: Batch, vectors: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """The logits and the labels of the items of each group that have a label."""
    scored = []
    for name, logits in learner.logits(state, query, vectors).items():
        labels = query.groups[name].labels
        scored.append((logits.cpu()[labels >= 0], labels[labels >= 0]))
    return scored


def _together(scored: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
    """Logits of different numbers of labels one below the other: (n_items, most labels), (n_items,)."""
    flat = [pair for each in scored for pair in each]
    widest = max(logits.shape[-1] for logits, _ in flat)
    padded = [F.pad(logits, (0, widest - logits.shape[-1]), value=-math.inf) for logits, _ in flat]
    return torch.cat(padded), torch.cat([labels for _, labels in flat])


def calibrate(learner: Learner, support: Batch, vectors: Tensor | None, *, n_texts: int, prior: float) -> float:
    """Finds a task's temperature by leaving support texts out.

    Fold k leaves out the k-th text of every class that has at least two, so that no class is ever without an example.

    Args:
        learner: The learner.
        support: The task's support set; its first `n_texts` items are texts, the others are class names.
        vectors: Its vectors, or None if the inner loop moves the encoder.
        n_texts: The number of support texts.
        prior: The temperature where there is nothing to go by, as with one example a class.
    """
    parts = deal([(label,) for label in support.groups[GROUP].labels[:n_texts].tolist()])
    if not parts:
        return prior
    n_folds = MAX_FOLDS_MOVING if learner.moves else MAX_FOLDS
    scored = list(
        side_by_side(learner, lambda part: _left_out(learner, support, vectors, torch.tensor(part)), parts[:n_folds])
    )
    return fit_temperature(*_together(scored), prior=prior)


def calibrate_sentences(
    learner: Learner,
    examples: Sequence[Example],
    classes: Sequence[str],
    *,
    known: Mapping[bytes, Tensor] | None,
    prior: float,
) -> float:
    """Finds the temperature of a tagger by leaving support sentences out.

    Each is left out once (`kshot.left_out`); only types that the others show as well are judged in a fold.

    Args:
        learner: The learner.
        examples: The support set.
        classes: The names of the types.
        known: The vectors of the support, by `vector_keys`; None if the inner loop moves the encoder.
        prior: The temperature where there is nothing to go by, as with one sentence.
    """
    return calibrate_groups(learner, examples, classes, [learner.task.groups], known=known, prior=prior)[0]


def calibrate_groups(
    learner: Learner,
    examples: Sequence[Example],
    classes: Sequence[str],
    groups: Sequence[Sequence[str]],
    *,
    known: Mapping[bytes, Tensor] | None,
    prior: float,
) -> list[float]:
    """As `calibrate_sentences`, a temperature for each of several groups of the task, or for some together."""
    n_folds = MAX_FOLDS_MOVING if learner.moves else MAX_FOLDS
    with torch.no_grad():
        scored = [
            dict(zip(fold.query.groups, _scored(learner, fold.state, fold.query, fold.vectors), strict=True))
            for fold in folds(learner, examples, classes, known=known, n_folds=n_folds)
        ]
    if not scored:
        return [prior] * len(groups)
    return [
        fit_temperature(*_together([[each[name] for name in names] for each in scored]), prior=prior)
        for names in groups
    ]


def fit_temperature(logits: Tensor, labels: Tensor, *, prior: float, prior_rows: float = PRIOR_ROWS) -> float:
    """The temperature that minimises the objective above, by two passes over a grid.

    Args:
        logits: (n_texts, n_classes).
        labels: (n_texts,).
        prior: T_0.
        prior_rows: r.
    """
    logits = logits.double()

    def objective(log_temperature: float) -> float:
        loss = F.cross_entropy(logits / math.exp(log_temperature), labels, reduction="sum")
        return float(loss) + prior_rows * (log_temperature - math.log(prior)) ** 2

    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(2):
        grid = torch.linspace(low, high, 25, dtype=torch.float64).tolist()
        best = min(range(len(grid)), key=lambda place: objective(grid[place]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return math.exp(grid[best])


def _left_out(learner: Learner, support: Batch, vectors: Tensor | None, fold: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The logits of the items of a fold by a classifier of the others, and their labels."""
    kept = torch.ones(len(support.groups[GROUP].rows), dtype=torch.bool)
    kept[fold] = False
    others, left_out = support.part(GROUP, torch.nonzero(kept).flatten()), support.part(GROUP, fold)
    state = learner.adapt(others, vectors)
    with torch.no_grad():
        return _scored(learner, state, left_out, vectors)
