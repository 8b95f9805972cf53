"""Texts and labels that cannot be used, word for word."""

from typing import Any

import numpy as np
import pytest

from kshot.data.examples import TextExample
from kshot.errors import KshotError
from users import LABELS, TEXTS, meta_learner, support

TWO = ["light on", "book it"]

WRONG: list[tuple[Any, Any, str]] = [
    (TWO, ["a", "a"], 'There is one class only, "a"; give examples of at least two.'),
    ([], [], "There are no texts to learn from; give at least one for each of two classes."),
    (["light on", "  "], ["a", "b"], "Text 2 is empty; fill it in or leave it out."),
    (TWO, ["a"], "There are 2 texts and 1 labels; give one label for each text."),
    (["light on", 3], ["a", "b"], "Text 2 is the number 3, not a text; turn it into a text or leave it out."),
    (["light on", None], ["a", "b"], "Text 2 is None, not a text; turn it into a text or leave it out."),
    (["light on", b"x"], ["a", "b"], "Text 2 is a bytes, not a text; turn it into a text or leave it out."),
    ("light on", ["a"], 'One text was given where a list of them is expected; write ["..."].'),
    (3, ["a"], "A int was given where a list of texts is expected."),
    (np.array([TWO]), ["a"], "The texts have 2 dimensions; give a list, or one column of a table."),
    (TWO, "ab", 'One label was given where a list of them is expected; write ["..."].'),
    (["ok", "half \ud83d"], ["a", "b"], "Text 2 has half a character (a lone surrogate); read it again as UTF-8."),
    (TWO, ["a", "b\udc00"], "Label 2 has half a character (a lone surrogate); read it again as UTF-8."),
    (TWO, ["a", ""], "Label 2 is empty; name the class."),
    (TWO, ["a", None], "Label 2 is None, not a name or a number; name the class or leave the text out."),
    (
        TWO,
        ["a", float("nan")],
        "Label 2 is the number nan, not a name or a number; name the class or leave the text out.",
    ),
    (TWO, ["a", ["b"]], "Label 2 is a list, not a name or a number; name the class or leave the text out."),
    (
        ["light on", "book it", " light on"],
        ["a", "b", "b"],
        'The text "light on" stands under two labels, "a" and "b"; leave it under one.',
    ),
    (TWO, None, "adapt needs labels: give adapt(texts, labels), or adapt(examples) with TextExamples."),
    (None, None, "adapt needs labels: give adapt(texts, labels), or adapt(examples) with TextExamples."),
    (TWO, ["a", " a "], 'There is one class only, "a"; give examples of at least two.'),
    (
        ["play\n  some jazz", "book it", "play\n  some jazz"],
        ["a", "b", "b"],
        'The text "play some jazz" stands under two labels, "a" and "b"; leave it under one.',
    ),
]


@pytest.mark.parametrize(("texts", "labels", "sentence"), WRONG, ids=[sentence[:40] for *_, sentence in WRONG])
def test_says_what_is_wrong(texts: Any, labels: Any, sentence: str) -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(texts, labels)

    assert str(caught.value) == sentence


def test_a_class_without_example_is_named() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(TWO, ["a", "b"], classes=["a", "b", "c"])
    assert str(caught.value) == 'The class "c" has no example; give at least one, or leave the class out.'


def test_a_label_that_is_not_among_the_classes_is_named() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(TWO, ["a", "b"], classes=["a", "c"])
    assert str(caught.value) == 'The label "b" is not one of the classes; add it to them or leave its texts out.'


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([1, 0], ("1", "0")), ([1.0, 2.5], ("1", "2.5")), ([True, False], ("true", "false"))],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_numbers_become_names(labels: list[Any], classes: tuple[str, ...], as_array: bool) -> None:
    assert meta_learner().adapt(TWO, np.array(labels) if as_array else labels).classes == classes


def test_white_space_around_a_label_does_not_count() -> None:
    task = meta_learner().adapt([*TWO, "light off"], [" a", "b", "a\n"], classes=["b ", "a"])
    assert task.classes == ("b", "a")
    assert task.add_examples(["lamp on"], ["a "]).classes == ("b", "a")


def test_a_class_may_be_named_by_a_number() -> None:
    task = meta_learner().adapt([*TWO, "rain today"], [1, 2, 3])
    with pytest.raises(KshotError) as caught:
        task.add_class(3, ["more rain"])
    assert str(caught.value) == 'There is a class "3" already; add_examples adds texts to it.'
    assert task.add_class(4.0, ["more rain"]).classes == ("1", "2", "3", "4")
    assert task.remove_class(3).classes == ("1", "2")
    with pytest.raises(KshotError) as caught:
        task.remove_class(5)
    assert str(caught.value) == 'There is no class "5". Known: 1, 2, 3.'


@pytest.mark.parametrize("change", ["add_class", "remove_class", "teach", "add_examples", "classes"])
def test_a_label_that_is_not_a_number_is_refused_everywhere(change: str) -> None:
    learner = meta_learner()
    task, nan = learner.adapt(TEXTS, LABELS), float("nan")
    refused = {
        "add_class": lambda: task.add_class(nan, ["x"]),
        "remove_class": lambda: task.remove_class(nan),
        "teach": lambda: task.teach("x", nan),
        "add_examples": lambda: task.add_examples(["x"], [nan]),
        "classes": lambda: learner.adapt(TEXTS, LABELS, classes=[nan, *LABELS]),
    }
    with pytest.raises(KshotError) as caught:
        refused[change]()
    assert str(caught.value) == (
        "Label 1 is the number nan, not a name or a number; name the class or leave the text out."
    )


def test_texts_may_be_an_array_or_a_generator() -> None:
    expected = meta_learner().adapt(TEXTS, LABELS).predict_proba(TEXTS)
    for texts in (np.array(TEXTS), np.array(TEXTS, dtype=object), (text for text in TEXTS)):
        assert np.array_equal(meta_learner().adapt(texts, LABELS).predict_proba(np.array(TEXTS)), expected)


def test_examples_bring_their_labels() -> None:
    learner = meta_learner()
    assert learner.adapt(support()).examples == learner.adapt(TEXTS, LABELS).examples


@pytest.mark.parametrize(
    "text",
    ["word " * 20_000, "é" * 100_000, "😀👩‍👩‍👧", "مرحبا بالعالم", "שלום", "\x01\x02", "日本語" * 50, "a\u202eb"],
)
def test_any_text_can_be_learned_and_predicted(text: str) -> None:
    task = meta_learner().adapt([*TWO, text], ["a", "b", "c"])
    assert task.predict([text])[0].label == "c"


def test_a_repeated_text_of_one_label_is_fine() -> None:
    examples = [TextExample("light on", "a"), TextExample("light on", "a"), TextExample("book it", "b")]
    assert len(meta_learner().adapt(examples).examples) == 3
