"""Adapted taggers: what they find and where, what is saved, and the sentences for what cannot be used."""

import io
import json
from pathlib import Path

import pytest
import torch
from seqeval import metrics as seqeval

from contract import learner
from kshot.data.examples import TaggedExample
from kshot.data.tags import Span
from kshot.errors import KshotError
from kshot.meta_learner import MetaLearner, load_task
from kshot.predictions import _writers
from kshot.tagger import AdaptedTagger, Tagged
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import scratch, tagged

EXAMPLES = tagged((3, 3), 0, 3)
SENTENCES, TAGS = [list(each.tokens) for each in EXAMPLES], [list(each.tags) for each in EXAMPLES]
TEXT = "Please, a lamp bulb now! My dinner?"


def meta_learner(algorithm: str = "ridge", scheme: str = "bio") -> MetaLearner:
    task = Tagging(TaggingSettings(scheme=scheme))  # type: ignore[arg-type]
    return MetaLearner(learner(algorithm, scratch("cnn"), task=task), {"title": "toy"})


def task(algorithm: str = "ridge", scheme: str = "bio") -> AdaptedTagger:
    adapted = meta_learner(algorithm, scheme).adapt(SENTENCES, TAGS)
    assert isinstance(adapted, AdaptedTagger)
    return adapted


def sentence(caught: pytest.ExceptionInfo[KshotError]) -> str:
    return str(caught.value)


# -- what is found -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
def test_entities_stand_where_they_say(scheme: str) -> None:
    found = task(scheme=scheme).predict([TEXT, SENTENCES[0][0]])
    assert [each.text for each in found] == [TEXT, SENTENCES[0][0]]
    assert any(each.entities for each in found)
    for each in found:
        assert len(each.tokens) == len(each.tags)
        for entity in each.entities:
            assert each.text[entity.start : entity.end] == entity.text
            assert 0 <= entity.confidence <= 1
    assert found[0].tokens == ("Please", ",", "a", "lamp", "bulb", "now", "!", "My", "dinner", "?")


def test_words_are_taken_as_they_are() -> None:
    words = SENTENCES[1]
    (found,) = task().predict([words])
    assert found.tokens == tuple(words)
    assert found.text == " ".join(words)


def test_a_text_without_words_has_no_entities() -> None:
    assert [each.entities for each in task().predict(["", " \t", "lamp"])][:2] == [(), ()]
    assert task().predict([]) == []


def test_long_texts_are_not_cut() -> None:
    (found,) = task().predict(["lamp bulb the a " * 2_500])
    assert len(found.tags) == 10_000
    assert found.tags[9_996:] != ("O",) * 4 or "O" in found.tags  # the end is tagged as the beginning is
    assert len(set(found.tags[4_000:4_400])) > 1


def test_a_text_is_tagged_alike_alone_and_among_others() -> None:
    adapted = task()
    together = adapted.predict([TEXT, *(" ".join(words) for words in SENTENCES)])
    assert adapted.predict([TEXT])[0].tags == together[0].tags


# -- learning, and learning more ---------------------------------------------------------------------------------------


def test_its_own_sentences_are_learned() -> None:
    adapted = meta_learner("nearest-neighbour", "io").adapt(SENTENCES, TAGS)
    right = [found.tags == each.tags for found, each in zip(adapted.predict(SENTENCES), EXAMPLES, strict=True)]
    assert sum(right) >= len(right) - 1


def test_a_score_is_seqevals() -> None:
    adapted = task()
    asked = tagged((4, 4), 7, 4)
    sentences, tags = [list(each.tokens) for each in asked], [list(each.tags) for each in asked]
    found = [list(each.tags) for each in adapted.predict(sentences)]
    scores = adapted.score(sentences, tags)
    assert 0 < scores["F1"] < 1
    assert scores["F1"] == pytest.approx(seqeval.f1_score(tags, found))
    assert scores["precision"] == pytest.approx(seqeval.precision_score(tags, found))
    assert scores["recall"] == pytest.approx(seqeval.recall_score(tags, found))


def test_examples_bring_their_tags() -> None:
    assert meta_learner().adapt(EXAMPLES).predict([TEXT]) == task().predict([TEXT])


@pytest.mark.parametrize("algorithm", ["ridge", "first-order-maml"])
def test_new_types_come_with_new_sentences(algorithm: str) -> None:
    adapted = task(algorithm)
    wider = adapted.add_examples([["wake", "up", "alarm"]], [["O", "O", "B-clock"]])
    assert wider.classes == (*adapted.classes, "clock")
    assert len(adapted.classes) == 2
    again = meta_learner(algorithm).adapt([*SENTENCES, ["wake", "up", "alarm"]], [*TAGS, ["O", "O", "B-clock"]])
    assert wider.predict([TEXT])[0].tags == again.predict([TEXT])[0].tags


@pytest.mark.parametrize("algorithm", ["prototypical", "decomposed"])
@pytest.mark.parametrize("scheme", ["bio", "spans"])
def test_a_task_that_was_saved_finds_the_same_to_the_last_bit(tmp_path: Path, algorithm: str, scheme: str) -> None:
    adapted = task(algorithm, scheme)
    adapted.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, AdaptedTagger)
    assert again.examples == adapted.examples
    assert again.predict([TEXT, *SENTENCES[0]]) == adapted.predict([TEXT, *SENTENCES[0]])
    assert again.add_examples(SENTENCES[:1], TAGS[:1]).classes == adapted.classes


def test_adapting_leaves_the_learner_as_it_was() -> None:
    own = meta_learner("decomposed", "spans")
    before = {name: tensor.clone() for name, tensor in own.learner.state_dict().items()}
    own.adapt(SENTENCES, TAGS).predict([TEXT])
    assert all(torch.equal(before[name], tensor) for name, tensor in own.learner.state_dict().items())


# -- what cannot be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentences", "tags", "expected"),
    [
        (
            [["a", "lamp"]],
            [["O", "I-light"]],
            'Sentence 1, word 2 ("lamp"): the tag "I-light" goes on with an entity that does not begin (before it '
            "stands 'O'); begin each entity with B- and its type.",
        ),
        (
            [["a", "lamp"]],
            [["O", "light"]],
            'Sentence 1, word 2 ("lamp"): the tag "light" is neither "O" nor "B-TYPE" nor "I-TYPE"; begin each entity '
            "with B- and its type.",
        ),
        ([["a", "lamp"]], [["O"]], "Sentence 1 has 2 words and 1 tags; give one tag for each word."),
        ([["a"], ["b"]], [["O"]], "There are 2 sentences and 1 lists of tags; give one list for each sentence."),
        ([[]], [[]], "Sentence 1 has no words; fill it in or leave it out."),
        ([["a", " "]], [["O", "O"]], "Sentence 1, word 2 is empty; leave it out, with its tag."),
        (
            [["a", 3]],
            [["O", "O"]],
            "Sentence 1, word 2 is the number 3, not a text; turn it into a text or leave it out.",
        ),
        ([], [], "There are no sentences to learn from; give at least one with an entity."),
        ([["a", "b"]], [["O", "O"]], "No sentence has an entity; tag at least one."),
        (
            [["a", "b"]],
            [["B-x", "I-x"]],
            'Every word is part of an entity, so nothing shows what is none; add a sentence with words tagged "O".',
        ),
        (["a lamp"], [["O"]], 'Sentence 1 is the text "a lamp", not a list of words; give one for each word.'),
    ],
)
def test_bad_support(sentences: list[object], tags: list[object], expected: str) -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(sentences, tags)
    assert sentence(caught) == expected


def test_a_type_without_a_mention() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(SENTENCES, TAGS, classes=[*EXAMPLES[0].labels, *EXAMPLES[-1].labels, "clock"])
    assert sentence(caught) == ('The type "clock" has no mention in the sentences; tag one, or leave the type out.')


def test_a_tag_of_a_type_that_is_not_of_the_task() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(SENTENCES, TAGS, classes=EXAMPLES[0].labels)
    assert sentence(caught) == (
        f'The label "{EXAMPLES[-1].labels[0]}" is not one of the classes; add it to them or leave its texts out.'
    )


def test_a_type_that_it_cannot_find() -> None:
    adapted = task()
    with pytest.raises(KshotError) as caught:
        adapted.score([["wake", "up"], ["an", "alarm"]], [["O", "O"], ["O", "B-clock"]])
    assert sentence(caught) == (
        f'Sentence 2 has an entity of the type "clock", which is not one of the task ({", ".join(adapted.classes)}); '
        "adapt to sentences that show it, or tag it otherwise."
    )


def test_texts_for_a_tagger_need_tags() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(SENTENCES)
    assert sentence(caught) == "adapt needs tags: give adapt(sentences, tags), or adapt(examples) with TaggedExamples."
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(None)  # type: ignore[arg-type]
    assert sentence(caught) == "adapt needs tags: give adapt(sentences, tags), or adapt(examples) with TaggedExamples."


def test_white_space_around_a_tag_does_not_count() -> None:
    given = [["to", "Rome"], ["to", "Bonn"]], [["O", "B-city "], ["O ", "B-city"]]
    assert meta_learner().adapt(*given, classes=["city "]).classes == ("city",)


def test_half_a_character_in_a_tag_is_refused() -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt([["to", "Rome"]], [["O", "B-city\ud800"]])
    assert sentence(caught) == (
        "Sentence 1, the tag of word 2 has half a character (a lone surrogate); read it again as UTF-8."
    )


# -- how it is written -------------------------------------------------------------------------------------------------


def written(form: str) -> str:
    adapted = task()
    found = Tagged(
        "Ann met Bob.",
        ("Ann", "met", "Bob", "."),
        ("B-light/switch_on", "O", "O", "O"),
        adapted.predict(["x"])[0].entities[:0],
    )
    from kshot.tagger import Entity

    found = Tagged(found.text, found.tokens, found.tags, (Entity("Ann", adapted.classes[0], 0, 3, 0.97),))
    file = io.StringIO()
    _writers(adapted, 5)[form](file)([found.text], [found])
    return file.getvalue()


def test_forms() -> None:
    label = task().classes[0]
    assert json.loads(written("jsonl")) == {
        "text": "Ann met Bob.",
        "entities": [{"text": "Ann", "label": label, "start": 0, "end": 3, "confidence": 0.97}],
    }
    assert written("conll") == "Ann\tB-light/switch_on\nmet\tO\nBob\tO\n.\tO\n\n"
    assert json.loads(written("displacy")) == {
        "text": "Ann met Bob.",
        "ents": [{"start": 0, "end": 3, "label": label}],
        "title": None,
    }
    assert written("table") == f"Ann [{label} 97%] met Bob.\n"


def test_spans_and_tags_are_two_views(tmp_path: Path) -> None:
    example = TaggedExample(("Ann", "met", "Bob"), ("B-p", "O", "B-p"))
    assert example.spans == (Span(0, 1, "p"), Span(2, 3, "p"))
