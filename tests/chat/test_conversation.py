"""Conversations: what is remembered, what is taken back, and what a correction comes to."""

from collections.abc import Callable
from typing import Any

import pytest

from contract import learner, translator
from kshot.adapted import Adapted
from kshot.chat.conversation import Conversation
from kshot.chat.manners import MANNERS
from kshot.data.dialogue import Turn
from kshot.data.examples import SentencePair, TaggedExample, TextExample
from kshot.errors import KshotError
from kshot.meta_learner import ADAPTED, MetaLearner
from kshot.tasks.tagging import Tagging
from toy import scratch, sentence_pairs, seq2seq, tagged_episode
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
    assert talk.exchanges == ()
    assert refused(talk.undo) == "There is nothing to take back; a turn, /teach and /reset can be taken back."


def test_a_correction_joins_and_is_saved() -> None:
    talk, saved = kept(task())
    talk.say("something else")
    taught = talk.teach("new class")
    assert [talk.task] == saved
    assert talk.task.examples == (*task().examples, TextExample("something else", "new class"))
    assert (taught.n_examples, taught.new, taught.gone) == (17, ("new class",), ())
    assert taught.answer == talk.task.predict(["something else"])[0] == talk.exchanges[-1].answer
    assert taught.answer.label == "new class"
    assert min(taught.learning, taught.saving) > 0
    assert len(talk.exchanges) == 1, "the turn is still one"


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
    assert talk.exchanges[-1].answer == first.predict(["two"])[0]
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
    assert talk.exchanges[-1].answer.label == "new class"
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
