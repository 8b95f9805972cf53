"""How a conversation goes with each kind of task: what answers a turn, and how a correction of it is written."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kshot.data.dialogue import SYSTEM, History, Turn
from kshot.data.examples import Example, Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.tagged import parse_annotated
from kshot.data.tags import Span
from kshot.data.words import split_words
from kshot.errors import KshotError

_MARK = re.compile(r"\[([^\[\]]*)\]\([^()\[\]]*\)")


@dataclass(frozen=True)
class Exchange:
    """A turn of the user, and what the task made of it.

    Attributes:
        history: The turns before.
        turn: What the user said.
        answer: The task's prediction.
        reply: What the task said to it; None for a task that labels what is said and does not speak.
    """

    history: History
    turn: Turn
    answer: Any
    reply: str | None = None

    @property
    def turns(self) -> History:
        """The turns of both sides."""
        return (self.turn,) if self.reply is None else (self.turn, Turn(SYSTEM, self.reply))


@dataclass(frozen=True)
class Manner:
    """How one kind of task talks.

    Attributes:
        usage: How a correction is written.
        correct: Makes an example of a task's exchange and a correction of it, and what it should have said.
        answer: What a task makes of a turn after a history.
        reply: What an answer says, if the task speaks.
        begun: The beginnings of corrections that a task knows, such as its classes.
        hears: Whether what a system says to its user is a turn as well.
    """

    usage: str
    correct: Callable[[Any, Exchange, str], tuple[Example, str | None]]
    answer: Callable[[Any, History, Turn], Any] = lambda task, _, turn: task.predict([turn.text])[0]
    reply: Callable[[Any], str | None] = lambda _: None
    begun: Callable[[Any], Iterable[str]] = lambda _: ()
    hears: bool = False


# -- corrections -------------------------------------------------------------------------------------------------------


def _label(_: Any, exchange: Exchange, correction: str) -> tuple[Example, None]:
    return TextExample(exchange.turn.text, correction), None


def _entities(_: Any, exchange: Exchange, correction: str) -> tuple[Example, None]:
    example = parse_annotated("/teach", correction)
    check_same_words(example, exchange.turn.text)
    return example, None


def _translation(_: Any, exchange: Exchange, correction: str) -> tuple[Example, None]:
    return SentencePair(exchange.turn.text, correction), None


def _frame(task: Any, exchange: Exchange, correction: str) -> tuple[Example, None]:
    text, answer = exchange.turn.text, exchange.answer
    intent, annotated = _intent_and_turn(correction, text)
    if annotated is None:
        spans = tuple(Span(each.start, each.end, each.slot) for each in answer.slots)
    else:
        check_same_words(annotated, text)
        places = [(start, end) for _, start, end in split_words(text)]
        spans = tuple(Span(places[each.start][0], places[each.end - 1][1], each.label) for each in annotated.spans)
    history = task.read_of(exchange.history, text)  # what is not read is not kept either
    return Utterance(text, intent or answer.intent, spans, history), None


def _intent_and_turn(correction: str, text: str) -> tuple[str, TaggedExample | None]:
    """Splits `INTENT: the turn with its slots marked`, of which either may be left out, but not both.

    An intent, and a turn, may have colons: what stands after the right one has the words of the turn.
    """
    colons = [place for place, sign in enumerate(correction) if sign == ":"]
    for place in colons:
        if _without_marks(correction[place + 1 :]) == _without_marks(text):
            return correction[:place].strip(), parse_annotated("/teach", correction[place + 1 :].strip())
    if _without_marks(correction) == _without_marks(text) or (not colons and _MARK.search(correction)):
        return "", parse_annotated("/teach", correction)
    intent, _, rest = correction.partition(":")
    return intent.strip(), parse_annotated("/teach", rest.strip()) if rest.strip() else None


def _without_marks(text: str) -> list[str]:
    return [word for word, _, _ in split_words(_MARK.sub(r"\1", text))]


def check_same_words(example: TaggedExample, text: str) -> None:
    """Refuses an annotation of something else than what was said.

    Raises:
        KshotError: If the words are not those of the text.
    """
    words = tuple(word for word, _, _ in split_words(text))
    if example.tokens == words:
        return
    place = next((n for n, (a, b) in enumerate(zip(example.tokens, words, strict=False)) if a != b), None)
    if place is None:
        place = min(len(example.tokens), len(words))
    written, said = (f'"{each[place]}"' if place < len(each) else "nothing" for each in (example.tokens, words))
    raise KshotError(
        f"/teach is to mark the words of the last turn as they are, but word {place + 1} is {written} and in the turn "
        f"it is {said}; mark these words: {text}"
    )


def _reply(_: Any, exchange: Exchange, correction: str) -> tuple[Example, str]:
    return Reply((*exchange.history, exchange.turn), correction), correction


# -- the kinds ---------------------------------------------------------------------------------------------------------

MANNERS = {
    "classification": Manner("/teach LABEL, such as /teach billing", _label, begun=lambda task: task.classes),
    "tagging": Manner(
        "/teach and the turn with its entities marked, such as /teach call [Anna](person) in [Rome](place)", _entities
    ),
    "translation": Manner("/teach and the better translation", _translation),
    "understanding": Manner(
        "/teach INTENT, or the turn with its slots marked, or both, such as "
        "/teach TransferMoney: send [500 dollars](amount) to [Anna](recipient_name)",
        _frame,
        answer=lambda task, history, turn: task.predict([turn.text], [history])[0],
        begun=lambda task: [f"{intent}: " for intent in task.intents],
        hears=True,
    ),
    "responding": Manner(
        "/teach and the better reply",
        _reply,
        answer=lambda task, history, turn: task.predict([(*history, turn)])[0],
        reply=lambda answered: answered.reply.strip() or None,  # nothing said is no turn
    ),
}
"""By the kind of task."""
