"""Adapted translators: what they write, what is saved, and the sentences for what cannot be used."""

import io
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch

import kshot.writer
from contract import translator
from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.meta_learner import MetaLearner, default_learner, load_task
from kshot.models.decoders import EncoderDecoder
from kshot.models.encoder import encode
from kshot.predictions import _writers
from kshot.translator import AdaptedTranslator, Translated
from toy import sentence_pairs, seq2seq

EXAMPLES = sentence_pairs(6)
SOURCES, TARGETS = [each.source for each in EXAMPLES], [each.target for each in EXAMPLES]
TEXTS = ["măr roșu", "水 нет!", "xyz"]
MOVING, STILL = "first-order-maml", "matching"
both = pytest.mark.parametrize("algorithm", [MOVING, STILL])


def meta_learner(algorithm: str = MOVING, **changes: Any) -> MetaLearner:
    return MetaLearner(translator(algorithm, seq2seq(**changes)), {"title": "toy"})


def task(algorithm: str = MOVING) -> AdaptedTranslator:
    adapted = meta_learner(algorithm).adapt(SOURCES, TARGETS)
    assert isinstance(adapted, AdaptedTranslator)
    return adapted


def refused(call: Any, *given: object, **named: object) -> str:
    with pytest.raises(KshotError) as caught:
        call(*given, **named)
    return str(caught.value)


# -- what is written ---------------------------------------------------------------------------------------------------


@both
def test_a_translation_says_what_it_must(algorithm: str) -> None:
    adapted = task(algorithm)
    found = adapted.predict(TEXTS)
    assert [each.text for each in found] == TEXTS
    for each in found:
        assert isinstance(each, Translated)
        assert each.score <= 0
        assert math.isfinite(each.score)
        assert "\ufffd" not in each.translation
        assert each.translation == each.translation.strip()
    assert adapted.translate(TEXTS) == [each.translation for each in found]
    assert adapted.predict([]) == adapted.translate([]) == []


@both
def test_a_text_is_translated_alike_alone_and_among_others(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted, texts = task(algorithm), [*TEXTS, *(each.source for each in sentence_pairs(20, 3))]
    together = adapted.translate(texts)
    monkeypatch.setattr(kshot.writer, "BLOCK", 3)
    assert adapted.translate(texts) == together
    assert [adapted.translate([text])[0] for text in texts] == together


def test_how_to_search_can_be_said() -> None:
    adapted = task()
    usual = adapted.predict(TEXTS)
    assert adapted.predict(TEXTS, beam=4, length_penalty=1.0) == usual
    assert adapted.translate(TEXTS, beam=1) == [each.translation for each in adapted.predict(TEXTS, beam=1)]
    without = adapted.predict(TEXTS, length_penalty=0.0)
    assert [each.score for each in without] != [each.score for each in usual]
    for beam in (0, -1, 1.5, True):
        assert refused(adapted.predict, TEXTS, beam=beam) == f"beam is {beam!r} but has to be a whole number from 1."
    for penalty in (-1.0, math.nan, math.inf, "x"):
        assert refused(adapted.predict, TEXTS, length_penalty=penalty) == (
            f"length_penalty is {penalty!r} but has to be a number from 0."
        )


def test_nothing_runs_for_ever() -> None:
    own = meta_learner()
    network = own.learner.encoder
    assert isinstance(network, EncoderDecoder)
    with torch.no_grad():  # the same at every position, and far from the end
        network.decoder.norm.weight.zero_()
        network.decoder.norm.bias.fill_(1.0)
        network.output[0][network.end_id] = -100.0
    for beam in (1, 3):
        for each in own.adapt(SOURCES, TARGETS).predict(["măr", "măr " * 7], beam=beam):
            assert not each.ended
            assert math.isfinite(each.score)


@pytest.mark.parametrize(
    "text",
    [
        "ტყე და მთა",  # a script that no pair has
        "Țară 水 नदी тёплый house",
        "e\u0301\u0323 👩‍👩‍👧",
        "[END] [PAD] [BEGIN]",
        "line\none\ttab",
        "\u2028 \u200b",
    ],
)
def test_no_character_is_unknown(text: str) -> None:
    adapted = task()
    vocabulary = adapted.learner.learner.encoder.vocabulary
    [ids] = vocabulary.encode([text])
    assert vocabulary.decode(ids) == unicodedata.normalize("NFC", text).strip()
    [found] = adapted.predict([text])
    assert found.text == text
    again = adapted.add_examples([text], [text])
    assert again.examples[-1] == SentencePair(text, text)


# -- learning, and learning more ---------------------------------------------------------------------------------------


def test_examples_bring_their_translations() -> None:
    assert meta_learner().adapt(EXAMPLES).predict(TEXTS) == task().predict(TEXTS)


@both
def test_more_pairs_are_as_if_given_at_once(algorithm: str) -> None:
    first = meta_learner(algorithm).adapt(SOURCES[:4], TARGETS[:4])
    wider = first.add_examples(SOURCES[4:], TARGETS[4:])
    assert len(first.examples) == 4
    assert wider.examples == tuple(EXAMPLES)
    assert wider.translate(TEXTS) == task(algorithm).translate(TEXTS)
    again = wider.add_examples(SOURCES[:1], TARGETS[:1])  # a pair that it has
    assert len(again.examples) == 7


def test_pairs_that_were_read_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = task(STILL)
    n_texts: list[int] = []

    def counting(encoder: Any, texts: Any, *given: Any, **named: Any) -> Any:
        n_texts.append(len(texts))
        return encode(encoder, texts, *given, **named)

    monkeypatch.setattr("kshot.meta.learner.encode", counting)
    adapted.add_examples(["mare"], ["sea"])
    assert sum(n_texts) == 1


@both
def test_a_task_that_was_saved_writes_the_same_to_the_last_bit(tmp_path: Path, algorithm: str) -> None:
    adapted = task(algorithm)
    adapted.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, AdaptedTranslator)
    assert again.examples == adapted.examples
    assert again.predict(TEXTS) == adapted.predict(TEXTS)
    more = [each.add_examples(["mare"], ["sea"]) for each in (again, adapted)]
    assert more[0].predict(TEXTS) == more[1].predict(TEXTS)


def test_a_learner_that_was_saved_adapts_the_same(tmp_path: Path) -> None:
    own = meta_learner()
    own.save(tmp_path / "learner")
    again = MetaLearner.from_pretrained(str(tmp_path / "learner"))
    assert again.fingerprint == own.fingerprint
    assert again.kind == "translation"
    assert again.adapt(EXAMPLES).predict(TEXTS) == own.adapt(EXAMPLES).predict(TEXTS)


def test_adapting_leaves_the_learner_as_it_was() -> None:
    own = meta_learner()
    before = {name: tensor.clone() for name, tensor in own.learner.state_dict().items()}
    own.adapt(SOURCES, TARGETS).predict(TEXTS)
    assert all(torch.equal(before[name], tensor) for name, tensor in own.learner.state_dict().items())


def test_another_algorithm_over_the_same_network() -> None:
    own = meta_learner()
    other = own.variant(algorithm="nearest-neighbour")
    assert other.learner.encoder is own.learner.encoder
    assert other.adapt(EXAMPLES).translate(TEXTS) == task("nearest-neighbour").translate(TEXTS)


# -- what cannot be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (["a", "b"], ["c"], "There are 2 sources and 1 target; give one translation of each text."),
        (["a"], ["c", "d", "e"], "There are 1 source and 3 targets; give one translation of each text."),
        (["a", " \n"], ["c", "d"], "Source 2 is empty; fill it in or leave it out."),
        (["a", "b"], ["", "d"], "Target 1 is empty; fill it in or leave it out."),
        ([], [], "There are no sentence pairs to learn from; give at least one."),
        (["a\x00b"], ["c"], "Source 1 has a control character (U+0000); take it out."),
        (["a", "b"], ["c", "d\x1b[1m"], "Target 2 has a control character (U+001B); take it out."),
        (["a", 3], ["c", "d"], "Source 2 is the number 3, not a text; turn it into a text or leave it out."),
        (["a", "b"], ["c", None], "Target 2 is None, not a text; turn it into a text or leave it out."),
        (["a\ud800"], ["c"], "Source 1 has half a character (a lone surrogate); read it again as UTF-8."),
        ("a", ["c"], 'One source was given where a list of them is expected; write ["..."].'),
        (["a"], "c", 'One target was given where a list of them is expected; write ["..."].'),
        (
            None,
            None,
            "adapt needs translations: give adapt(sources, targets), or adapt(examples) with SentencePairs.",
        ),
        (
            SOURCES,
            None,
            "adapt needs translations: give adapt(sources, targets), or adapt(examples) with SentencePairs.",
        ),
    ],
)
def test_bad_support(sources: Any, targets: Any, message: str) -> None:
    assert refused(meta_learner().adapt, sources, targets) == message
    if targets is not None:
        assert sources == [] or refused(task(STILL).add_examples, sources, targets) == message


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", ""], "Text 2 is empty; fill it in or leave it out."),
        (["a\x07"], "Text 1 has a control character (U+0007); take it out."),
        (["a\x85b", "\x9b"], "Text 2 has a control character (U+009B); take it out."),
        ("a", 'One text was given where a list of them is expected; write ["..."].'),
        ([["a"]], "Text 1 is a list, not a text; turn it into a text or leave it out."),
    ],
)
def test_bad_texts(texts: Any, message: str) -> None:
    assert refused(task().predict, texts) == message
    assert refused(task().translate, texts) == message


def test_ten_thousand_characters_are_refused_and_not_cut() -> None:
    long = "măr " * 2_500
    shown = f'"{long[:39]}…"'
    adapted = task()
    n_tokens = adapted.learner.learner.encoder.vocabulary.length(long)
    assert n_tokens > 2_500
    rest = f"has {n_tokens} tokens, more than the 32 that the learner reads at once; split it into sentences."
    assert refused(adapted.predict, ["mare", long]) == f"Text 2, {shown}, {rest}"
    assert refused(meta_learner().adapt, ["mare", long], ["sea", "x"]) == f"The source of pair 2, {shown}, {rest}"
    assert refused(meta_learner().adapt, ["mare"], [long]) == f"The target of pair 1, {shown}, {rest}"
    assert refused(adapted.add_examples, [long], ["x"]) == f"The source of pair 7, {shown}, {rest}"
    assert refused(adapted.predict, ["水" * 10_000]).startswith(f'Text 1, "{"水" * 39}…", has ')


def test_a_text_as_long_as_can_be_read() -> None:
    adapted = task()
    vocabulary = adapted.learner.learner.encoder.vocabulary
    text = next("a " * n + "a" for n in range(40) if vocabulary.length("a " * n + "a") == 32)
    assert len(adapted.predict([text])) == 1
    assert "has 33 tokens" in refused(adapted.predict, [text + " a"])


def test_steps_that_are_too_large_diverge() -> None:
    made = translator(MOVING, seq2seq(), inner={"optimiser": "sgd", "rate": 1e30, "hold_out": 0.0})
    assert refused(MetaLearner(made).adapt, SOURCES, TARGETS) == (
        "Adapting by first-order-maml diverged: the steps of its inner loop are too large for this task; meta-train "
        "with a smaller algorithm.inner.rate than 1e+30."
    )


def test_minilm_does_not_write() -> None:
    assert refused(default_learner, "translation") == (
        "MiniLM reads and does not write, so it learns no translation; give the run of a translation recipe, such as "
        "translation-joint."
    )


# -- how it is written -------------------------------------------------------------------------------------------------


def written(form: str) -> str:
    found = [Translated("măr\nroșu", "red  apple", -0.1234567, True), Translated("水", "water water", -2.0, False)]
    file = io.StringIO()
    _writers(task(), 5)[form](file)([each.text for each in found], found)
    return file.getvalue()


def test_forms() -> None:
    assert [json.loads(line) for line in written("jsonl").splitlines()] == [
        {"text": "măr\nroșu", "translation": "red  apple", "score": -0.123457},
        {"text": "水", "translation": "water water", "score": -2.0, "ended": False},
    ]
    assert "măr" in written("jsonl"), "no escapes"
    assert written("text") == "red apple\nwater water\n"
    assert written("table") == "măr roșu\n  red  apple  -0.12\n水\n  water water  -2.00, cut\n"
    assert set(_writers(task(), 5)) == {"table", "jsonl", "text"}
