"""What predictions are worth."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def accuracy(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The share of items whose label is right, both (n_items,)."""
    return float((true == predicted).mean())


def macro_f1(true: NDArray[np.int64], predicted: NDArray[np.int64], n_labels: int) -> float:
    """The mean over the labels of their F1, both (n_items,).

    As scikit-learn's `f1_score(average="macro")`: labels that are neither true nor predicted anywhere do not count.
    """
    hits = np.bincount(true[true == predicted], minlength=n_labels)
    total = np.bincount(true, minlength=n_labels) + np.bincount(predicted, minlength=n_labels)
    seen = total > 0
    return float((2 * hits[seen] / total[seen]).mean())


def span_scores(true: Sequence[Iterable[Hashable]], found: Sequence[Iterable[Hashable]]) -> tuple[float, float, float]:
    """Micro F1, precision and recall of the entities of some sentences: right is what has the same words and type.

    As seqeval's and the CoNLL script's; 0 where there is nothing to divide by, and 1 for all three if nothing was to be
    found and nothing was.
    """
    pairs = [(set(a), set(b)) for a, b in zip(true, found, strict=True)]
    hits = sum(len(a & b) for a, b in pairs)
    n_true, n_found = sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)
    if not n_true and not n_found:
        return 1.0, 1.0, 1.0
    precision = hits / n_found if n_found else 0.0
    recall = hits / n_true if n_true else 0.0
    return 2 * hits / (n_true + n_found), precision, recall
