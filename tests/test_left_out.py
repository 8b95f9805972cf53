"""What is learned from examples that leave one out, and the algorithm that is chosen by it."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contract import learner
from kshot.adapted import support_batch
from kshot.data.examples import TaggedExample
from kshot.errors import KshotError, KshotNotice
from kshot.left_out import MAX_FOLDS, deal, folds, left_out_score
from kshot.meta_learner import MetaLearner
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import CLASSES, scratch, tagged
from users import LABELS, TEXTS, meta_learner

EXAMPLES = tagged((3, 3, 3), 0, 3)
TYPES = CLASSES[:3]


def tagger(algorithm: str = "ridge", scheme: str = "bio") -> MetaLearner:
    task = Tagging(TaggingSettings(scheme=scheme))  # type: ignore[arg-type]
    return MetaLearner(learner(algorithm, scratch("cnn"), task=task))


# -- dealing -----------------------------------------------------------------------------------------------------------


def test_each_part_has_the_next_example_of_every_class_that_has_several() -> None:
    assert deal([[0], [1], [0], [2], [1], [0]]) == [[0, 1], [2, 4], [5]]  # class 2 has one example


def test_what_has_no_class_is_dealt_out_in_turn() -> None:
    assert deal([(), (), ()]) == [[0], [1], [2]]
    assert deal([()]) == deal([]) == deal([["a"], ["b"]]) == deal([["a"], ()]) == []


def test_an_example_of_several_classes_is_left_out_if_others_show_one_of_them() -> None:
    assert deal([["a", "b"], ["a"], ["c"], ["a", "d"]]) == [[0], [3], [1]]


def test_the_examples_of_a_rare_class_are_dealt_out_first() -> None:
    parts = deal([["a", "b"], ["a"], ["a"], ["a"], ["a"], ["a", "b"], ["a"]])
    assert [number for part in parts for number in part] == [0, 5, 1, 2, 3, 4, 6]


@given(st.lists(st.sets(st.integers(0, 5), max_size=3), max_size=30))
def test_the_others_show_every_class_of_a_part(labels: list[set[int]]) -> None:
    parts = deal(labels)
    dealt = [number for part in parts for number in part]
    counts = Counter(label for each in labels for label in each)
    nameless = sum(not each for each in labels)
    assert sorted(dealt) == [
        number
        for number, each in enumerate(labels)
        if any(counts[label] > 1 for label in each) or (not each and nameless > 1)
    ]
    for part in parts:
        assert max(Counter(label for number in part for label in labels[number]).values(), default=1) == 1
        assert sum(not labels[number] for number in part) <= 1
    assert len(parts) != 1  # what is in one has its like in another


# -- folds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
def test_every_example_is_left_out_once_and_not_learned_from(scheme: str) -> None:
    own = tagger(scheme=scheme).learner
    examples = EXAMPLES + tagged((3, 3, 3), 1, 3)
    known = own.known_vectors(support_batch(own, examples, TYPES), {})
    left_out = []
    for fold in folds(own, examples, TYPES, known=known):
        left_out += fold.examples
        assert fold.classes == list(TYPES)
        kept = [each for each in examples if each not in fold.examples]
        expected = own.adapt(own.task.collate(kept, TYPES, own.encoder.vocabulary, support=True))
        assert fold.state.keys() == expected.keys()
        for name, tensor in fold.state.items():
            torch.testing.assert_close(tensor, expected[name])
    assert sorted(left_out, key=str) == sorted(examples, key=str)


def test_folds_leave_out_as_many_of_every_class() -> None:
    """However the examples are sorted: by row number each of these five folds would leave out a whole class."""
    own = tagger().learner
    cycling = [each for trio in zip(EXAMPLES[:3], EXAMPLES[3:6], EXAMPLES[6:], strict=True) for each in trio]
    for examples in (EXAMPLES, cycling):
        found = list(folds(own, examples, TYPES, known=None))
        assert [sorted(label for each in fold.examples for label in each.labels) for fold in found] == [
            sorted(TYPES)
        ] * 3


def test_there_are_no_more_folds_than_asked_for() -> None:
    own, many = tagger().learner, tagged((9, 9), 0, 9)
    assert [len(fold.examples) for fold in folds(own, many, TYPES[:2], known=None, n_folds=2)] == [10, 8]
    assert len(list(folds(own, many, TYPES[:2], known=None))) == MAX_FOLDS


def test_the_only_example_of_a_type_is_never_left_out() -> None:
    own = tagger().learner
    found = list(folds(own, EXAMPLES[:3] + EXAMPLES[-1:], TYPES, known=None))
    assert [fold.examples for fold in found] == [[each] for each in EXAMPLES[:3]]
    assert [fold.classes for fold in found] == [[TYPES[0], TYPES[2]]] * 3


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        (EXAMPLES[:1], "There is one example only"),
        ([EXAMPLES[0], EXAMPLES[3], EXAMPLES[6]], "No two examples are of one class"),
    ],
)
def test_says_so_where_nothing_can_be_judged(examples: list[TaggedExample], reason: str) -> None:
    own = tagger().learner
    assert list(folds(own, examples, TYPES, known=None)) == []
    with pytest.warns(KshotNotice) as caught:
        assert left_out_score(own, examples, TYPES, known=None) == 0.0
    assert [str(each.message) for each in caught] == [
        f"{reason}, so none can be left out to judge algorithms by: all score 0, and the first is taken; give more "
        "examples to choose."
    ]


def test_folds_count_for_what_they_leave_out() -> None:
    own = tagger().learner
    scores, sizes = [], []
    for fold in folds(own, EXAMPLES[:-1], TYPES, known=None):
        scorer = own.scorer(fold.state, fold.query)
        scores.append(own.task.score(scorer, fold.query, fold.examples, fold.classes)[0])
        sizes.append(len(fold.examples))
    assert sizes == [3, 3, 2]
    expected = np.dot(scores, sizes) / 8
    assert left_out_score(own, EXAMPLES[:-1], TYPES, known=None) == pytest.approx(expected)


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


def test_a_class_of_one_text_is_not_asked_for() -> None:
    assert Counter(LABELS[:9]).most_common()[-1][1] == 1
    _, scores = meta_learner().choose(("prototypical", "ridge"), TEXTS[:9], LABELS[:9])
    assert all(0 <= score <= 1 for score in scores.values())


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
