"""How a conversation goes with each kind of task: what answers a turn, and how a correction of it is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kshot.data.dialogue import SYSTEM, History, Turn
from kshot.data.examples import Example, SentencePair, TaggedExample, TextExample
from kshot.data.tagged import parse_annotated
from kshot.data.words import split_words
from kshot.errors import KshotError


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
        correct: Makes an example of an exchange and a correction of it, and what the task should have said.
        answer: What a task makes of a turn after a history.
        reply: What an answer says, if the task speaks.
        begun: The beginnings of corrections that a task knows, such as its classes.
    """

    usage: str
    correct: Callable[[Exchange, str], tuple[Example, str | None]]
    answer: Callable[[Any, History, Turn], Any] = lambda task, _, turn: task.predict([turn.text])[0]
    reply: Callable[[Any], str | None] = lambda _: None
    begun: Callable[[Any], tuple[str, ...]] = lambda _: ()


def _label(exchange: Exchange, correction: str) -> tuple[Example, None]:
    return TextExample(exchange.turn.text, correction), None


def _entities(exchange: Exchange, correction: str) -> tuple[Example, None]:
    example = parse_annotated("/teach", correction)
    check_same_words(example, exchange.turn.text)
    return example, None


def _translation(exchange: Exchange, correction: str) -> tuple[Example, None]:
    return SentencePair(exchange.turn.text, correction), None


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


MANNERS = {
    "classification": Manner("/teach LABEL, such as /teach billing", _label, begun=lambda task: task.classes),
    "tagging": Manner(
        "/teach and the turn with its entities marked, such as /teach call [Anna](person) in [Rome](place)", _entities
    ),
    "translation": Manner("/teach and the better translation", _translation),
}
"""By the kind of task."""
