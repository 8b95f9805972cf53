"""An adapted responder: dialogues so far in, what a person would answer out."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from kshot.data.dialogue import USER, History, HistoryCut, check_history, cut_notice
from kshot.data.examples import Reply, script_of
from kshot.errors import KshotError
from kshot.inputs import check_dialogues, check_length, check_written
from kshot.meta.learner import Learner
from kshot.tasks.responding import Responding
from kshot.writer import AdaptedWriter


@dataclass(frozen=True)
class Answered:
    """A dialogue so far, and what comes next.

    Attributes:
        history: The turns so far, the oldest first.
        reply: What is answered.
        score: See `kshot.writer.Written`.
        ended: Whether it ended by itself; if not, it was cut where no reply should be longer.
        n_read: How many of the turns, the newest, it answers; older ones do not count.
    """

    history: History
    reply: str
    score: float
    ended: bool
    n_read: int


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedResponder(AdaptedWriter):
    """A learner that has learned how one person answers."""

    examples: tuple[Reply, ...]
    task_type = Responding
    example_type = Reply

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[Reply, ...]:
        if labels is not None:
            raise KshotError(
                "adapt needs dialogues alone: their replies are in them; give adapt(dialogues), without labels."
            )
        return check_dialogues(examples)

    @classmethod
    def _readable(cls, core: Learner, examples: Sequence[Reply]) -> tuple[Reply, ...]:
        """Of each history only the turns that are read are kept."""
        task, vocabulary = core.task, core.encoder.vocabulary
        assert isinstance(task, Responding)
        for number, each in enumerate(examples, 1):
            check_length(each.text, vocabulary, f"Reply {number}")
            check_length(script_of(each.history[-1:]), vocabulary, f"The turn before reply {number}")
        return tuple(replace(each, history=task.read(each.history, vocabulary)) for each in examples)

    def predict(
        self, histories: Iterable[Any], *, beam: int | None = None, length_penalty: float | None = None
    ) -> list[Answered]:
        """Answers as the person would.

        Warns of `HistoryCut`, once a call, if histories have more turns than are read.

        Args:
            histories: The turns so far of each dialogue, the oldest first: `Turn`s, pairs such as ("user", "Hi!"), or
                objects with `speaker` and `text`; or a text, which is what the user says first. The user is whom the
                person answers, the system is the person.
            beam: Replies that are followed at once; 1 is the fastest. None as the learner says.
            length_penalty: Above 1 favours longer replies, below 1 shorter ones. None as the learner says.

        Raises:
            KshotError: If one of them is no history, or its newest turn is longer than the learner reads at once; or
                if `beam` or `length_penalty` cannot be used.
        """
        task, vocabulary = self._task, self.learner.learner.encoder.vocabulary
        assert isinstance(task, Responding)
        checked = _histories(histories)
        for number, history in enumerate(checked, 1):
            check_length(script_of(history[-1:]), vocabulary, f"The newest turn of history {number}")
        read = [task.read(history, vocabulary) for history in checked]
        _warn_of_cut(checked, read)
        found = self._write([script_of(history) for history in read], beam=beam, length_penalty=length_penalty)
        return [
            Answered(history, each.text, each.score, each.ended, len(own))
            for history, own, each in zip(checked, read, found, strict=True)
        ]

    def respond(self, histories: Iterable[Any], *, beam: int | None = None) -> list[str]:
        """The replies alone; see `predict`."""
        return [each.reply for each in self.predict(histories, beam=beam)]

    def add_examples(self, dialogues: Iterable[Any]) -> Self:
        """Returns a task with more dialogues, adapted anew.

        Raises:
            KshotError: If they cannot be used.
        """
        return self._with((*self.examples, *check_dialogues(dialogues, first=self._next_dialogue)))

    def add_replies(self, histories: Iterable[Any], replies: Iterable[object]) -> Self:
        """Returns a task with single replies more, such as corrections, adapted anew; earlier turns are not learned.

        Raises:
            KshotError: If they cannot be used, or if there are not as many of the ones as of the others.
        """
        return self._with((*self.examples, *self._replies(histories, replies)))

    def _new(self, example: Any, label: object | None) -> Reply:
        """A reply to a history, given as such or as the two."""
        if isinstance(example, Reply):
            example, label = example.history, example.text
        elif label is None:
            raise KshotError("teach needs a reply: give teach(history, reply), or teach(example) with a Reply.")
        return self._replies([example], [label])[0]

    def _replies(self, histories: Iterable[Any], replies: Iterable[object]) -> list[Reply]:
        given, made = _histories(histories), check_written(replies, what="reply")
        if len(given) != len(made):
            raise KshotError(
                f"There are {len(given)} histories and {len(made)} replies; give one reply to each history."
            )
        return [
            Reply(history, reply, dialogue=str(self._next_dialogue + number))
            for number, (history, reply) in enumerate(zip(given, made, strict=True))
        ]

    @property
    def _next_dialogue(self) -> int:
        """The number of a dialogue that joins."""
        return 1 + max((int(each.dialogue) for each in self.examples), default=-1)

    def _asked(self, example: Reply) -> object:
        task = self._task
        assert isinstance(task, Responding)
        return task.read(example.history, self.learner.learner.encoder.vocabulary)

    @property
    def n_dialogues(self) -> int:
        """How many dialogues it was adapted to."""
        return len({each.dialogue for each in self.examples})


def _histories(given: Iterable[Any]) -> list[History]:
    """Histories that a user gave; a text alone is what the user says first."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise KshotError('One history was given where a list of them is expected; write [[("user", "...")]].')
    return [
        check_history([(USER, each)] if isinstance(each, str) else each, f"History {number}")
        for number, each in enumerate(given, 1)
    ]


def _warn_of_cut(histories: Sequence[History], read: Sequence[History]) -> None:
    """Warns of the first history that is read in part; each `Answered` says of its own how much was."""
    for number, (history, own) in enumerate(zip(histories, read, strict=True), 1):
        if len(own) < len(history):
            warnings.warn(cut_notice(f"dialogue {number}", len(history), len(own)), HistoryCut, stacklevel=3)
            return
