"""Out-of-scope scores: the formula by hand, and what they tell apart."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kshot.scope import USUAL_THRESHOLD, fit_scope
from users import meta_learner, task


def test_the_formula_by_hand() -> None:
    x = F.normalize(torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0], [0.0, 0.6, 0.8]]), dim=-1)
    scope = fit_scope(x, torch.tensor([0, 0, 1, 1]), torch.ones(4), n_texts=4, n_classes=2)
    centre = (x[0] + x[1]) / (x[0] + x[1]).norm()
    assert torch.allclose(scope.centres[0], centre)
    assert scope.tightness.tolist() == pytest.approx([0.8, 0.8])  # each text against the only other one
    query = torch.tensor([[0.0, 2.0, 0.0]])
    nearest = max(float(F.normalize(query, dim=-1)[0] @ c) for c in scope.centres)
    assert float(scope.score(query)) == pytest.approx(1 - nearest / 0.8)


def test_a_class_name_is_part_of_the_centre_and_never_left_out() -> None:
    x = torch.eye(3)
    scope = fit_scope(x, torch.tensor([0, 1, 0]), torch.tensor([1.0, 1.0, 2.0]), n_texts=2, n_classes=2)
    assert scope.centres[0].tolist() == pytest.approx([1 / 5**0.5, 0, 2 / 5**0.5])
    assert scope.threshold == USUAL_THRESHOLD  # one text a class: nothing to leave out


def test_a_loose_class_asks_for_less_similarity() -> None:
    rng = np.random.default_rng(0)
    tight = np.array([5.0, 0, 0, 0]) + 0.1 * rng.normal(size=(5, 4))
    loose = np.array([0, 0, 5.0, 0]) + 3.0 * rng.normal(size=(5, 4))
    x = torch.tensor(np.concatenate([tight, loose]), dtype=torch.float32)
    scope = fit_scope(x, torch.tensor([0] * 5 + [1] * 5), torch.ones(10), n_texts=10, n_classes=2)
    assert scope.tightness[0] > scope.tightness[1]


def test_what_has_nothing_in_common_with_opposite_classes_of_one_text_is_out_of_scope() -> None:
    scope = fit_scope(
        torch.tensor([[1.0, 0.0], [-1.0, 0.1]]), torch.tensor([0, 1]), torch.ones(2), n_texts=2, n_classes=2
    )
    assert bool((scope.tightness > 0).all())
    own, other = scope.score(torch.tensor([[1.0, 0.0], [0.0, -1.0]])).tolist()
    assert own < scope.threshold < other


def test_few_texts_leave_the_threshold_near_the_usual_one() -> None:
    few = meta_learner().adapt(["light on", "light off", "book it", "book me"], ["a", "a", "b", "b"])
    assert abs(few.scope.threshold - USUAL_THRESHOLD) < abs(task().scope.threshold - USUAL_THRESHOLD)


def test_its_own_texts_are_in_scope_and_a_vector_of_nothing_is_not() -> None:
    adapted = task()
    assert (adapted.out_of_scope([e.text for e in adapted.examples]) <= adapted.scope.threshold).all()
    assert float(adapted.scope.score(torch.zeros(1, adapted.scope.centres.shape[1]))) == 1.0
