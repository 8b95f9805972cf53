"""What predictions are worth."""

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
