"""Conversations: what is remembered, what is taken back, and what a correction comes to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contract import learner, translator
from kshot.adapted import Adapted
from kshot.chat.conversation import Conversation
from kshot.chat.manners import MANNERS
from kshot.data.dialogue import HistoryCut, Turn
from kshot.data.examples import SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.tags import Span
from kshot.errors import KshotError
from kshot.meta_learner import ADAPTED, MetaLearner
from kshot.responder import AdaptedResponder
from kshot.tasks.tagging import Tagging
from kshot.tasks.understanding import Understanding
from kshot.understanding import AdaptedUnderstanding
from toy import replies, scratch, sentence_pairs, seq2seq, tagged_episode, utterances
from users import LABELS, TEXTS, task


def kept(made: Adapted) -> tuple[Conversation, list[Adapted]]:
    """A conversation, and the tasks that it saves."""
    saved: list[Adapted] = []
    return Conversation(made, saved.append), saved


def tagging_task() -> Adapted:
    made = MetaLearner(learner("prototypical", scratch("cnn"), task=Tagging())).adapt(tagged_episode().support)
    assert isinstance(made, Adapted)
    return made


def translating_task() -> Adapted:
    made = MetaLearner(translator("matching", seq2seq())).adapt(sentence_pairs(6))
    assert isinstance(made, Adapted)
    return made


def refused(call: Callable[..., Any], *given: object) -> str:
    with pytest.raises(KshotError) as caught:
        call(*given)
    return str(caught.value)


def test_every_kind_of_task_has_its_manner() -> None:
    assert MANNERS.keys() == ADAPTED.keys()


def test_an_answer_is_what_the_task_predicts_and_the_turn_is_remembered() -> None:
    talk, saved = kept(task())
    assert talk.say(TEXTS[0]) == task().predict([TEXTS[0]])[0]
    talk.say(TEXTS[1])
    assert talk.history == (Turn("user", TEXTS[0]), Turn("user", TEXTS[1]))
    assert saved == []


def test_a_turn_that_cannot_be_read_is_none() -> None:
    talk, _ = kept(translating_task())
    words = refused(talk.say, "măr " * 500)
    assert words.endswith("more than the 32 that the learner reads at once; split it into sentences.")
    assert talk.history == ()
    assert refused(talk.undo) == "There is nothing to take back; a turn, /teach and /reset can be taken back."


def test_a_correction_joins_and_is_saved() -> None:
    talk, saved = kept(task())
    talk.say("something else")
    taught = talk.teach("new class")
    assert [talk.task] == saved
    assert talk.task.examples == (*task().examples, TextExample("something else", "new class"))
    assert (taught.n_examples, taught.new, taught.gone) == (17, ("new class",), ())
    assert talk.last is not None
    assert taught.answer == talk.task.predict(["something else"])[0] == talk.last.answer
    assert taught.answer.label == "new class"
    assert min(taught.learning, taught.saving) > 0
    assert len(talk.history) == 1, "the turn is still one"


def test_a_correction_of_a_correction() -> None:
    talk, saved = kept(task())
    talk.say("something else")
    talk.teach("new clas")
    taught = talk.teach("new class")
    assert (taught.new, taught.gone, taught.n_examples) == (("new class",), ("new clas",), 17)
    assert len(saved) == 2


def test_steps_are_taken_back_one_by_one() -> None:
    talk, saved = kept(task())
    first = talk.task
    talk.say("one")
    talk.say("two")
    talk.teach("new class")
    talk.say("three")
    assert talk.reset() == 3
    assert talk.history == ()
    assert talk.undo() == "the reset"
    assert [turn.text for turn in talk.history] == ["one", "two", "three"]
    assert talk.undo() == 'the turn "three"'
    assert len(saved) == 1
    assert talk.undo() == 'what was taught about "two"'
    assert talk.task is first
    assert saved[1] is first
    assert [turn.text for turn in talk.history] == ["one", "two"]
    assert talk.last is not None
    assert talk.last.answer == first.predict(["two"])[0]
    assert talk.undo() == 'the turn "two"'
    assert talk.undo() == 'the turn "one"'
    assert refused(talk.undo) == "There is nothing to take back; a turn, /teach and /reset can be taken back."


def test_nothing_to_forget_is_nothing_to_take_back() -> None:
    talk, _ = kept(task())
    assert talk.reset() == 0
    assert refused(talk.undo).startswith("There is nothing to take back")


def test_what_cannot_be_saved_is_not_learned() -> None:
    full = False

    def save(_: Adapted) -> None:
        if full:
            raise KshotError("The disk is full.")

    talk = Conversation(task(), save)
    talk.say("something else")
    talk.teach("new class")
    before, full = talk.task, True
    assert refused(talk.teach, "another class") == "The disk is full."
    assert refused(talk.undo) == "The disk is full."
    assert talk.task is before
    assert talk.last is not None
    assert talk.last.answer.label == "new class"
    full = False
    assert talk.undo() == 'what was taught about "something else"'


def test_corrections_too_early_or_empty() -> None:
    talk, _ = kept(task())
    assert refused(talk.teach, "new class") == (
        "There is no answer to correct yet; write something first, then /teach what is right."
    )
    talk.say("something else")
    assert refused(talk.teach, "") == "/teach needs what is right: /teach LABEL, such as /teach billing."
    talk.reset()
    assert refused(talk.teach, "new class").startswith("There is no answer to correct yet")


# -- entities ----------------------------------------------------------------------------------------------------------


def test_entities_are_marked_in_the_turn() -> None:
    talk, _ = kept(tagging_task())
    talk.say("call Anna in San Jose, please")
    taught = talk.teach(r"call [Anna](person) in [San Jose](place), please")
    assert talk.task.examples[-1] == TaggedExample(
        ("call", "Anna", "in", "San", "Jose", ",", "please"), ("O", "B-person", "O", "B-place", "I-place", "O", "O")
    )
    assert taught.new == ("person", "place")
    assert taught.answer == talk.task.predict(["call Anna in San Jose, please"])[0]


def test_a_turn_without_entities_can_be_taught() -> None:
    talk, _ = kept(tagging_task())
    talk.say("call Anna")
    talk.teach("call Anna")
    assert talk.task.examples[-1] == TaggedExample(("call", "Anna"), ("O", "O"))


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (
            "call [Ann](person) now",
            '/teach is to mark the words of the last turn as they are, but word 2 is "Ann" and in the turn it is '
            '"Anna"; mark these words: call Anna now',
        ),
        (
            "call [Anna](person)",
            "/teach is to mark the words of the last turn as they are, but word 3 is nothing and in the turn it is "
            '"now"; mark these words: call Anna now',
        ),
        (
            "call [Anna](person) now please",
            '/teach is to mark the words of the last turn as they are, but word 4 is "please" and in the turn it is '
            "nothing; mark these words: call Anna now",
        ),
        (
            "call [Anna now",
            '/teach: the "[" at character 6 does not mark an entity as in [Aspirin](Chemical); write \\[ for a bracket '
            "of the text.",
        ),
        ("call [Anna]() now", "/teach: [Anna]() lacks its type; write [Aspirin](Chemical)."),
        (
            "call [Ann](person)a now",
            '/teach: the span "Ann" (person) cuts the word "Anna"; let it begin and end with a word, or give tokens '
            "and tags.",
        ),
        (
            "",
            "/teach needs what is right: /teach and the turn with its entities marked, such as "
            "/teach call [Anna](person) in [Rome](place).",
        ),
    ],
)
def test_entities_that_cannot_be_taught(correction: str, expected: str) -> None:
    talk, saved = kept(tagging_task())
    talk.say("call Anna now")
    assert refused(talk.teach, correction) == expected
    assert saved == []


# -- translations ------------------------------------------------------------------------------------------------------


def test_a_better_translation() -> None:
    talk, _ = kept(translating_task())
    talk.say("mare mare")
    talk.teach("sea sea")
    assert talk.task.examples[-1] == SentencePair("mare mare", "sea sea")
    assert refused(talk.teach, "") == "/teach needs what is right: /teach and the better translation."


# -- understanding -----------------------------------------------------------------------------------------------------


def understanding_task() -> AdaptedUnderstanding:
    own = MetaLearner(learner("prototypical", scratch("cnn", max_length=64), task=Understanding()))
    made = own.adapt(utterances((3, 3), 0, 3))
    assert isinstance(made, AdaptedUnderstanding)
    return made


TURN = "at ten: send 500 dollars to Anna, please"
SLOTS = (Span(13, 24, "amount"), Span(28, 32, "recipient"))
MARKED = "at ten: send [500 dollars](amount) to [Anna](recipient), please"


def test_what_was_said_before_is_given_to_the_task() -> None:
    made = understanding_task()
    talk, _ = kept(made)
    talk.say("hello")
    talk.hear("what about the lamp")
    answer = talk.say("now please")
    before = (Turn("user", "hello"), Turn("system", "what about the lamp"))
    assert answer == made.predict(["now please"], [before])[0]
    assert talk.history == (*before, Turn("user", "now please"))
    assert talk.undo() == 'the turn "now please"'
    assert talk.undo() == 'the turn "what about the lamp"'
    talk.say("now please")
    assert talk.last is not None
    assert talk.last.history == (Turn("user", "hello"),)


def test_a_dialogue_that_the_system_begins() -> None:
    talk, _ = kept(understanding_task())
    talk.hear("how can I help you")
    assert refused(talk.teach, "Wake").startswith("There is no answer to correct yet")
    talk.say("wake me")
    talk.teach("Wake")
    assert talk.task.examples[-1].history == (Turn("system", "how can I help you"),)


@pytest.mark.parametrize(
    ("correction", "intent", "spans"),
    [
        (f"TransferMoney: {MARKED}", "TransferMoney", SLOTS),
        (f"Transfer: Money : {MARKED}", "Transfer: Money", SLOTS),
        (f"TransferMoney:{MARKED}", "TransferMoney", SLOTS),
        (f"TransferMoney: {TURN}", "TransferMoney", ()),
        (MARKED, None, SLOTS),
        (TURN, None, ()),
        ("TransferMoney", "TransferMoney", None),
        ("TransferMoney: ", "TransferMoney", None),
    ],
)
def test_an_intent_and_slots(correction: str, intent: str | None, spans: tuple[Span, ...] | None) -> None:
    """What is not said stays as it was answered; an intent and a slot that are unknown become classes."""
    talk, _ = kept(understanding_task())
    answer = talk.say(TURN)
    taught = talk.teach(correction)
    found = tuple(Span(each.start, each.end, each.slot) for each in answer.slots)
    expected = Utterance(TURN, intent or answer.intent, found if spans is None else spans)
    assert talk.task.examples[-1] == expected
    assert ("intent:TransferMoney" in taught.new) == (intent == "TransferMoney")
    assert ("slot:amount" in taught.new) == (spans == SLOTS)
    assert taught.answer == talk.task.predict([TURN])[0]


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (
            "TransferMoney: send [600 dollars](amount) to Anna",
            '/teach is to mark the words of the last turn as they are, but word 1 is "send" and in the turn it is '
            f'"at"; mark these words: {TURN}',
        ),
        (
            "send [500 dollars](amount) to Anna, please",
            '/teach is to mark the words of the last turn as they are, but word 1 is "send" and in the turn it is '
            f'"at"; mark these words: {TURN}',
        ),
        (f": {MARKED}", None),
        (
            f"X: {MARKED.replace('(amount)', '()')}",
            "/teach: [500 dollars]() lacks its type; write [Aspirin](Chemical).",
        ),
    ],
)
def test_frames_that_cannot_be_taught(correction: str, expected: str | None) -> None:
    talk, saved = kept(understanding_task())
    talk.say(TURN)
    if expected is None:
        talk.teach(correction)
        assert talk.task.examples[-1].intent in understanding_task().intents, "no intent was said"
        return
    assert refused(talk.teach, correction) == expected
    assert saved == []


def test_the_same_words_after_other_words_are_another_example() -> None:
    talk, _ = kept(understanding_task())
    talk.say("yes")
    talk.teach("Agree")
    talk.hear("shall I stop")
    talk.say("yes")
    taught = talk.teach("Stop")
    assert taught.n_examples == len(understanding_task().examples) + 2
    assert taught.gone == ()


def test_of_a_long_history_what_is_read_is_kept() -> None:
    talk, _ = kept(understanding_task())
    for number in range(5):
        talk.hear(f"turn {number}")
    with pytest.warns(HistoryCut):
        talk.say("wake me")
    with pytest.warns(HistoryCut):
        talk.teach("Wake")
    assert talk.task.examples[-1].history == (Turn("system", "turn 3"), Turn("system", "turn 4"))


def test_only_a_task_that_reads_them_hears_others() -> None:
    talk, _ = kept(task())
    assert refused(talk.hear, "hello") == "/system adds what a system says to its user, which this task does not read."
    talk, _ = kept(understanding_task())
    assert refused(talk.hear, "") == "/system needs what the system says: /system Which day would you like?"


# -- responding --------------------------------------------------------------------------------------------------------


def responding_task() -> AdaptedResponder:
    made = MetaLearner(translator("matching", seq2seq(), kind="responding")).adapt(replies(3))
    assert isinstance(made, AdaptedResponder)
    return made


def test_replies_are_turns_and_a_better_one_takes_the_place() -> None:
    made = responding_task()
    talk, saved = kept(made)
    first = talk.say("mare").reply
    assert first == made.respond(["mare"])[0]
    assert talk.history == (Turn("user", "mare"), Turn("system", first))
    talk.say("roșu")
    assert talk.history[2] == Turn("user", "roșu")
    taught = talk.teach("red")
    asked = (Turn("user", "mare"), Turn("system", first), Turn("user", "roșu"))
    assert (talk.task.examples[-1].history, talk.task.examples[-1].text) == (asked, "red")
    assert talk.history == (*asked, Turn("system", "red")), "what should have been said was said"
    assert taught.answer.reply == talk.task.respond([asked])[0]
    assert taught.n_examples == len(made.examples) + 1
    talk.teach("redder")
    assert talk.task.examples[-1].text == "redder"
    assert len(talk.task.examples) == len(made.examples) + 1
    for expected in ("what was taught", "what was taught", 'the turn "roșu"'):
        assert talk.undo().startswith(expected)
    assert talk.history == (Turn("user", "mare"), Turn("system", first))
    assert saved[-1].examples == made.examples
    assert refused(talk.hear, "hello") == "/system adds what a system says to its user, which this task does not read."


def test_nothing_said_is_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = responding_task()
    empty = replace(made.predict(["mare"])[0], reply=" ")
    talk, _ = kept(made)
    monkeypatch.setattr(AdaptedResponder, "predict", lambda *_: [empty])
    talk.say("mare")
    monkeypatch.undo()
    talk.say("mare")
    assert [turn.text for turn in talk.history][:2] == ["mare", "mare"]


def test_replies_that_cannot_be_taught() -> None:
    talk, saved = kept(responding_task())
    talk.say("mare")
    assert refused(talk.teach, "") == "/teach needs what is right: /teach and the better reply."
    assert refused(talk.teach, "a\x07") == "Reply 1 has a control character (U+0007); take it out."
    assert saved == []


# -- what a session comes to -------------------------------------------------------------------------------------------


def test_a_session_equals_adapting_to_all_of_its_examples() -> None:
    own = task().learner
    with own.learner.encoder.remembering():
        talk, saved = kept(own.adapt(TEXTS, LABELS))
        for text, label in (("one", "new"), ("two", LABELS[0]), ("three", "new")):
            talk.say(text)
            talk.teach(label)
        talk.say("four")
        talk.teach("wrong")
        talk.undo()
        at_once = own.adapt([*TEXTS, "one", "two", "three"], [*LABELS, "new", LABELS[0], "new"])
    last = saved[-1]
    assert (last.examples, last.classes, last.temperature) == (at_once.examples, at_once.classes, at_once.temperature)
    assert all(tensor.equal(last._state[name]) for name, tensor in at_once._state.items())
