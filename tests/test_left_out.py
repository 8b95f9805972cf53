"""What is learned from examples that leave one out, and the algorithm that is chosen by it."""

import numpy as np
import pytest
import torch

from contract import learner
from kshot.adapted import support_batch
from kshot.errors import KshotError
from kshot.left_out import folds, left_out_score
from kshot.meta_learner import MetaLearner
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import CLASSES, scratch, tagged
from users import LABELS, TEXTS, meta_learner

EXAMPLES = tagged((3, 3, 3), 0, 3)
TYPES = CLASSES[:3]


def tagger(algorithm: str = "ridge", scheme: str = "bio") -> MetaLearner:
    task = Tagging(TaggingSettings(scheme=scheme))  # type: ignore[arg-type]
    return MetaLearner(learner(algorithm, scratch("cnn"), task=task))


@pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
def test_every_example_is_left_out_once_and_not_learned_from(scheme: str) -> None:
    own = tagger(scheme=scheme).learner
    known = own.known_vectors(support_batch(own, EXAMPLES, TYPES), {})
    left_out = []
    for number, fold in enumerate(folds(own, EXAMPLES, TYPES, known=known)):
        left_out += fold.examples
        kept = [each for place, each in enumerate(EXAMPLES) if place % 5 != number]
        assert fold.classes == list(TYPES)
        expected = own.adapt(own.task.collate(kept, TYPES, own.encoder.vocabulary, support=True))
        assert fold.state.keys() == expected.keys()
        for name, tensor in fold.state.items():
            torch.testing.assert_close(tensor, expected[name])
    assert sorted(left_out, key=str) == sorted(EXAMPLES, key=str)


def test_a_type_that_the_others_do_not_show_is_not_asked_for() -> None:
    own = tagger().learner
    shown = [list(fold.classes) for fold in folds(own, EXAMPLES[:3] + EXAMPLES[-1:], TYPES, known=None)]
    assert shown == [[TYPES[0], TYPES[2]]] * 3 + [[TYPES[0]]]


def test_one_example_makes_no_fold() -> None:
    own = tagger().learner
    assert list(folds(own, EXAMPLES[:1], TYPES, known=None)) == []
    assert left_out_score(own, EXAMPLES[:1], TYPES, known=None) == 0.0


def test_folds_count_for_what_they_leave_out() -> None:
    own = tagger().learner
    scores, sizes = [], []
    for fold in folds(own, EXAMPLES, TYPES, known=None):
        scorer = own.scorer(fold.state, fold.query)
        scores.append(own.task.score(scorer, fold.query, fold.examples, fold.classes)[0])
        sizes.append(len(fold.examples))
    assert sizes == [2, 2, 2, 2, 1]
    expected = np.dot(scores, sizes) / 9
    assert left_out_score(own, EXAMPLES, TYPES, known=None) == pytest.approx(expected)


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_the_best_of_several_is_chosen() -> None:
    best, scores = tagger().choose(("prototypical", "ridge", "matching"), EXAMPLES)
    assert list(scores) == ["prototypical", "ridge", "matching"]
    assert scores[best.learner.settings.name] == max(scores.values())
    assert scores["ridge"] == left_out_score(tagger().learner, EXAMPLES, TYPES, known=None)


def test_an_algorithm_that_moves_the_encoder_can_be_chosen_from_too() -> None:
    own = MetaLearner(learner("ridge", scratch("cnn"), task=Tagging()))
    _, scores = own.choose(("ridge", "first-order-maml"), EXAMPLES)
    assert len(scores) == 2


def test_the_encoder_is_run_once_for_those_that_leave_it() -> None:
    own = tagger()
    seen: list[int] = []
    own.learner.encoder.register_forward_hook(lambda *_: seen.append(1))
    own.choose(("prototypical", "ridge", "matching"), EXAMPLES)
    assert len(seen) == 1


def test_texts_are_chosen_for_by_accuracy() -> None:
    best, scores = meta_learner().choose(("prototypical", "ridge"), TEXTS, LABELS)
    assert all(0 <= score <= 1 for score in scores.values())
    assert best.adapt(TEXTS, LABELS).classes == meta_learner().adapt(TEXTS, LABELS).classes


def test_what_cannot_be_known_looks_hard() -> None:
    """Labels that were dealt out anew can be learned by heart, and nothing else."""
    right = meta_learner().choose(("prototypical",), TEXTS, LABELS)[1]["prototypical"]
    wrong = [
        meta_learner().choose(("prototypical",), TEXTS, np.random.default_rng(seed).permutation(LABELS).tolist())[1]
        for seed in range(5)
    ]
    assert right > 0.1 + np.mean([each["prototypical"] for each in wrong])


def test_nothing_to_choose_from() -> None:
    with pytest.raises(KshotError) as caught:
        tagger().choose((), EXAMPLES)
    assert str(caught.value) == "No algorithm was named to choose from; name at least one, such as ridge."
    with pytest.raises(KshotError, match=r'There is no algorithm "rigde"\. Did you mean "ridge"\?'):
        tagger().choose(("rigde",), EXAMPLES)
