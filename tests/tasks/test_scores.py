"""Scores, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from kshot.tasks.scores import accuracy, macro_f1

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@given(PAIRS)
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    assert accuracy(true, predicted) == pytest.approx(accuracy_score(true, predicted))
    assert macro_f1(true, predicted, 5) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0.0))
