"""Sentences to items, scores to entities, and F1 against a count by other means."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics
from torch import Tensor

from kshot.data.examples import TaggedExample
from kshot.data.tags import Span, tags_of
from kshot.models.vocabulary import plan_windows
from kshot.tasks.base import Batch
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.scores import span_scores
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import scratch

VOCABULARY = scratch("cnn").vocabulary
ONE = TaggedExample(("rain", "in", "New", "York"), ("O", "O", "B-place", "I-place"))
TWO = TaggedExample(("Ann", "sings"), ("B-person", "O"))
TYPES = ("person", "place")


def task(scheme: str, **settings: object) -> Tagging:
    return Tagging(TaggingSettings(scheme=scheme, **settings))  # type: ignore[arg-type]


def collate(made: Tagging, examples: Sequence[TaggedExample], *, support: bool = True) -> Batch:
    return made.collate(examples, TYPES, VOCABULARY, support=support)


# -- sentences to items ------------------------------------------------------------------------------------------------


def test_bio_labels() -> None:
    group = collate(task("bio", class_names=False), [ONE, TWO]).groups["tag"]
    assert group.n_labels == 5  # O, B-person, I-person, B-place, I-place
    assert group.labels.tolist() == [0, 0, 3, 4, 1, 0, 2]  # the last: what begins a person lends itself to going on
    assert group.rows.tolist() == [0, 1, 2, 3, 4, 5, 4]


def test_a_query_borrows_nothing_and_has_no_names() -> None:
    group = collate(task("bio"), [ONE, TWO], support=False).groups["tag"]
    assert group.labels.tolist() == [0, 0, 3, 4, 1, 0]


def test_io_labels() -> None:
    group = collate(task("io", class_names=False), [ONE, TWO]).groups["tag"]
    assert (group.n_labels, group.labels.tolist()) == (3, [0, 0, 2, 2, 1, 0])


def test_entities_are_items_of_their_own() -> None:
    batch = collate(task("spans", class_names=False), [ONE, TWO])
    assert batch.groups["boundary"].labels.tolist() == [0, 0, 1, 2, 1, 0]
    entity = batch.groups["entity"]
    assert (entity.labels.tolist(), entity.rows.tolist()) == ([1, 0], [2, 4])
    assert entity.widths is not None
    assert entity.widths.tolist() == [2, 1]
    vectors = torch.arange(12.0).reshape(6, 2)
    assert entity.features(vectors).tolist() == [[5.0, 6.0], [8.0, 9.0]]  # the mean of words 2 and 3; word 4


def test_names_are_entities() -> None:
    batch = collate(task("bio", name_weight=0.5), [ONE, TWO])
    group = batch.groups["tag"]
    assert group.labels.tolist()[6:8] == [1, 3]
    assert group.weights.tolist() == [1.0] * 6 + [0.5, 0.5, 1.0, 0.5]
    spans = collate(task("spans", name_weight=0.5), [ONE, TWO])
    assert len(spans.groups["boundary"].labels) == 6  # a name does not say where an entity begins
    assert spans.groups["entity"].weights.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert len(collate(task("spans", name_weight=0.0), [ONE, TWO]).groups["entity"].labels) == 2


def test_a_type_that_is_not_of_the_task_has_no_label() -> None:
    stranger = TaggedExample(("Tuesday", "rain"), ("B-day", "O"))
    assert collate(task("io"), [stranger], support=False).groups["tag"].labels.tolist() == [-1, 0]
    groups = collate(task("spans"), [stranger], support=False).groups
    assert groups["boundary"].labels.tolist() == [1, 0]
    assert groups["entity"].labels.tolist() == [-1]


def test_the_same_sentence_is_encoded_once() -> None:
    batch = collate(task("io", class_names=False), [ONE, TWO, ONE])
    assert len(batch.texts) == 2
    assert batch.groups["tag"].rows.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


# -- long sentences ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.data())
def test_windows_hold_every_word_once_and_no_more_than_fits(capacity: int, data: st.DataObject) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, capacity), max_size=60)), dtype=np.int64)
    expected = 0
    for first, own, own_end, end in plan_windows(lengths, capacity):
        assert first <= own < own_end <= end
        assert own == expected
        assert lengths[first:end].sum() <= capacity
        expected = own_end
    assert expected == len(lengths)


def test_a_sentence_of_ten_thousand_words_has_a_vector_for_each() -> None:
    network = scratch("lstm")
    words = tuple(f"rain{number % 7}" for number in range(10_000))
    windows = network.vocabulary.encode_words([words])[0]
    assert max(len(window.ids) for window in windows) <= network.vocabulary.max_length
    assert sum(len(window.words) for window in windows) == len(words)


def test_a_word_without_a_known_character_is_one_unknown_token() -> None:
    windows = scratch("lstm").vocabulary.encode_words([("rain", "\u200b", "lamp")])[0]
    assert [end - start for window in windows for start, end in window.words.tolist()] == [1, 1, 1]


# -- scores to entities ------------------------------------------------------------------------------------------------


def oracle(tags: Sequence[str], names: Sequence[str]) -> Tensor:
    return 20 * torch.eye(len(names))[[names.index(tag) for tag in tags]]


def test_entities_are_found_where_the_scores_say() -> None:
    made = task("bio")
    batch = collate(made, [ONE, TWO], support=False)
    names = ("O", "B-person", "I-person", "B-place", "I-place")
    scores = oracle([*ONE.tags, *TWO.tags], names)
    found = made.find(lambda _: {"tag": scores}, batch, [4, 2], TYPES)
    assert [[one.span for one in each] for each in found] == [list(ONE.spans), list(TWO.spans)]
    assert found[0][0].confidence > 0.99
    assert made.score(lambda _: {"tag": scores}, batch, [ONE, TWO], TYPES) == (1.0, 1.0, 1.0)


def test_a_temperature_makes_less_sure() -> None:
    made = task("io")
    batch = collate(made, [TWO], support=False)
    scores = oracle(["I-person", "O"], ("O", "I-person", "I-place"))
    (sure,), (unsure,) = (made.find(lambda _: {"tag": scores}, batch, [2], TYPES, t)[0] for t in (1.0, 20.0))
    assert sure.span == unsure.span
    assert sure.confidence > unsure.confidence


def test_boundaries_first_and_types_after() -> None:
    made = task("spans")
    batch = collate(made, [ONE, TWO], support=False)

    def scorer(asked: Batch) -> dict[str, Tensor]:
        scores = {}
        if "boundary" in asked.groups:
            scores["boundary"] = oracle(["O", "O", "B", "I", "B", "O"], ("O", "B", "I"))
        if "entity" in asked.groups:
            rows = asked.groups["entity"].rows.tolist()
            scores["entity"] = torch.tensor([[0.0, 9.0] if row == 2 else [9.0, 0.0] for row in rows]).reshape(-1, 2)
        return scores

    found = made.find(scorer, batch, [4, 2], TYPES)
    assert [[one.span for one in each] for each in found] == [[Span(2, 4, "place")], [Span(0, 1, "person")]]


def test_neighbours_of_one_type_are_one_entity_in_io() -> None:
    made = task("io")
    pair = TaggedExample(("Ann", "Bob"), ("B-person", "B-person"))
    batch = collate(made, [pair], support=False)
    scores = oracle(["I-person", "I-person"], ("O", "I-person", "I-place"))
    assert [one.span for one in made.find(lambda _: {"tag": scores}, batch, [2], TYPES)[0]] == [Span(0, 2, "person")]


def test_what_is_learned_from_the_source_is_kept() -> None:
    made = task("bio", transitions="learned").learned_from([ONE, TWO])
    again = build_task(describe_task(made))
    assert isinstance(again, Tagging)
    assert again.settings == made.settings
    assert again.settings.table is not None


@given(st.lists(st.lists(st.sampled_from(["O", "A", "B"]), min_size=1, max_size=8), min_size=1, max_size=4), st.data())
def test_f1_is_that_of_counting(kinds: list[list[str]], data: st.DataObject) -> None:
    """Against the definition: an entity is right if an entity of the other side has the same words and type."""
    guesses = [data.draw(st.permutations(each)) for each in kinds]
    true = [_spans(each) for each in kinds]
    found = [_spans(each) for each in guesses]
    f1, precision, recall = span_scores(true, found)
    hits = sum(span in other for own, other in zip(true, found, strict=True) for span in own)
    n_true, n_found = sum(map(len, true)), sum(map(len, found))
    if n_true and n_found:
        assert precision == pytest.approx(hits / n_found)
        assert recall == pytest.approx(hits / n_true)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)


def _spans(kinds: Sequence[str]) -> list[Span]:
    return [Span(place, place + 1, kind) for place, kind in enumerate(kinds) if kind != "O"]


def test_f1_is_seqevals() -> None:
    rng = np.random.default_rng(0)
    true, found = [], []
    for _ in range(40):
        each = [
            tags_of(
                [
                    Span(p, p + int(rng.integers(1, 3)), str(rng.choice(["A", "B"])))
                    for p in range(0, 9, 3)
                    if rng.random() < 0.6
                ],
                10,
            )
            for _ in range(2)
        ]
        true.append(each[0])
        found.append(each[1])
    examples = [TaggedExample(("x",) * 10, tags) for tags in true]
    guesses = [TaggedExample(("x",) * 10, tags) for tags in found]
    ours = span_scores([each.spans for each in examples], [each.spans for each in guesses])
    theirs = (
        metrics.f1_score([list(t) for t in true], [list(t) for t in found]),
        metrics.precision_score([list(t) for t in true], [list(t) for t in found]),
        metrics.recall_score([list(t) for t in true], [list(t) for t in found]),
    )
    assert ours == pytest.approx(theirs)
