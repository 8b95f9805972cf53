"""Texts and class names as items."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.examples import TextExample
from kshot.errors import KshotError
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, join
from kshot.tasks.classification import Classification, ClassificationSettings
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.names import in_words
from toy import corpus, episode, scratch

VOCABULARY = Vocabulary.words(corpus(), size=300, max_length=16)
WITHOUT_NAMES = Classification(ClassificationSettings(class_names=False))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alarm/set_time", "alarm set time"),
        ("alarm.setTime", "alarm set time"),
        ("card-arrival", "card-arrival"),
        ("BOOK FLIGHT", "book flight"),
        ("what's_up?", "what's up"),
        ("U.S. NEWS", "u s news"),
        ("ARTS & CULTURE", "arts culture"),
        ("AT&T", "at&t"),
        ("C++", "c++"),
        ("C#", "c#"),
        ("top10Songs", "top10 songs"),
        ("42", "42"),
        ("🙂", "🙂"),
        ("???", "???"),
        ("", ""),
        ("天气/查询", "天气 查询"),
        ("हिन्दी_भाषा", "हिन्दी भाषा"),
        ("مَرْحَبًا_بك", "مَرْحَبًا بك"),
        ("می‌خواهم", "می‌خواهم"),
    ],
)
def test_class_names_in_words(name: str, words: str) -> None:
    assert in_words(name) == words


@given(st.text(max_size=30))
def test_a_name_in_words_is_never_nothing(name: str) -> None:
    assert in_words(name) == name or in_words(name).strip()
    assert in_words(in_words(name)) == in_words(in_words(in_words(name)))


def test_a_support_has_a_row_for_each_example_and_each_telling_name() -> None:
    rows = [TextExample("lamp on", "light"), TextExample("rain", "2"), TextExample("lamp on", "light")]
    batch = Classification(ClassificationSettings(name_weight=0.5)).collate(
        rows, ("2", "light"), VOCABULARY, support=True
    )
    assert [text.tolist() for text in batch.texts] == [
        ids.tolist() for ids in VOCABULARY.encode(["lamp on", "rain", "light"])
    ]
    group = batch.groups["label"]
    assert group.rows.tolist() == [0, 1, 0, 2]
    assert group.labels.tolist() == [1, 0, 1, 1]
    assert group.weights.tolist() == [1, 1, 1, 0.5]
    assert group.n_labels == 2


def test_a_query_has_no_names_and_may_have_strangers() -> None:
    rows = [TextExample("rain", "weather"), TextExample("my cat", "pets")]
    batch = Classification().collate(rows, ("light", "weather"), VOCABULARY, support=False)
    assert batch.groups["label"].labels.tolist() == [1, -1]
    assert batch.groups["label"].weights.tolist() == [1, 1]


def test_features_are_a_vector_for_each_item() -> None:
    rows = [TextExample(text, "a") for text in ("rain", "lamp", "rain")]
    batch = WITHOUT_NAMES.collate(rows, ("a",), VOCABULARY, support=True)
    features = batch.groups["label"].features(torch.tensor([[float(ids[0])] for ids in batch.texts]))
    ids = [float(VOCABULARY.encode([row.text])[0][0]) for row in rows]
    assert features.tolist() == [[number] for number in ids]


def test_joined_batches_name_each_text_once() -> None:
    drawn = [episode(seed=seed) for seed in (0, 0, 1)]
    batches = [
        WITHOUT_NAMES.collate(part, each.classes, VOCABULARY, support=True)
        for each in drawn
        for part in (each.support, each.query)
    ]
    together, places = join(batches)
    texts = together.texts
    assert len({id(text) for text in texts}) == len(texts)
    assert len(texts) == len({id(text) for batch in batches for text in batch.texts})
    for batch, rows in zip(batches, places, strict=True):
        assert all(texts[row] is text for row, text in zip(rows, batch.texts, strict=True))
    assert join([]) == (Batch((), {}), [])


def test_an_empty_batch() -> None:
    batch = WITHOUT_NAMES.collate([], ("a", "b"), VOCABULARY, support=False)
    assert batch.texts == ()
    group = batch.groups["label"]
    assert group.rows.shape == group.weights.shape == group.labels.shape == (0,)
    network = scratch("cnn")
    assert len(network.vocabulary.encode([])) == 0


def test_a_task_and_its_description() -> None:
    task = Classification(ClassificationSettings(class_names=False, name_weight=2.0))
    described = describe_task(task)
    assert described == {"kind": "classification", "class_names": False, "name_weight": 2.0}
    again = build_task(described)
    assert isinstance(again, Classification)
    assert again.settings == task.settings


def test_an_unknown_kind_of_task() -> None:
    with pytest.raises(KshotError) as caught:
        build_task({"kind": "clasification"})
    assert str(caught.value) == (
        'There is no task kind "clasification". Did you mean "classification"? Known: classification, tagging, '
        "translation, understanding, responding."
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kind": "classification", "name_weight": -2.0},
            'The setting "name_weight" of classification cannot be -2.0: Input should be greater than or equal to 0.',
        ),
        (
            {"kind": "tagging", "name_weight": float("inf")},
            'The setting "name_weight" of tagging cannot be inf: Input should be a finite number.',
        ),
        (
            {"kind": "understanding", "name_weight": -0.5},
            'The setting "name_weight" of understanding cannot be -0.5: Input should be greater than or equal to 0.',
        ),
        (
            {"kind": "translation", "class_names": True},
            'The setting "class_names" of translation is unknown; it takes: search, kind.',
        ),
    ],
)
def test_a_setting_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(KshotError) as caught:
        build_task(settings)
    assert str(caught.value) == sentence


def test_a_name_of_no_weight_does_not_join() -> None:
    """A head that looks at neighbours would find it, however little it counts."""
    rows = [TextExample("lamp on", "light"), TextExample("rain", "weather")]
    weightless, nameless = (
        Classification(settings).collate(rows, ("light", "weather"), VOCABULARY, support=True)
        for settings in (ClassificationSettings(name_weight=0.0), ClassificationSettings(class_names=False))
    )
    assert len(weightless.texts) == len(nameless.texts) == 2
    assert weightless.groups["label"].rows.tolist() == nameless.groups["label"].rows.tolist() == [0, 1]
