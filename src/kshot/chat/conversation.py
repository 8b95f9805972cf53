"""A conversation with an adapted task: what was said, what the task made of it, and what it was taught on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from kshot.adapted import Adapted
from kshot.chat.manners import MANNERS, Exchange
from kshot.data.dialogue import SYSTEM, USER, History, Turn
from kshot.errors import KshotError


@dataclass(frozen=True)
class Taught:
    """What became of a correction.

    Attributes:
        answer: What the task makes of the same turn now.
        n_examples: How many examples it knows now.
        new: The classes that joined.
        gone: The classes that have no example any more.
        learning: Seconds to adapt again.
        saving: Seconds to save.
    """

    answer: Any
    n_examples: int
    new: tuple[str, ...]
    gone: tuple[str, ...]
    learning: float
    saving: float


@dataclass(frozen=True)
class _Moment:
    """All that a step changes, so that it can be taken back: tasks never change, so an old one is as good as new."""

    task: Adapted
    history: History = ()
    last: Exchange | None = None


class Conversation:
    """Remembers the turns, and changes its task as it is taught.

    Args:
        task: The task to talk to.
        save: Keeps a task; what it refuses is not learned.
    """

    def __init__(self, task: Adapted, save: Callable[[Adapted], None]) -> None:
        self.manner = MANNERS[task.learner.kind]
        self._save = save
        self._now = _Moment(task)
        self._before: list[_Moment] = []

    @property
    def task(self) -> Adapted:
        """The task as it is now."""
        return self._now.task

    @property
    def history(self) -> History:
        """The turns of both sides, the oldest first."""
        return self._now.history

    @property
    def last(self) -> Exchange | None:
        """The last turn that was answered; None if there is none to correct."""
        return self._now.last

    def say(self, text: str) -> Any:
        """Adds a turn of the user, and returns what the task makes of it.

        Raises:
            KshotError: If the task cannot read it; it is no turn then.
        """
        turn = Turn(USER, text)
        answer = self.manner.answer(self.task, self.history, turn)
        said = Exchange(self.history, turn, answer, self.manner.reply(answer))
        self._go_on(_Moment(self.task, (*self.history, *said.turns), said))
        return answer

    def hear(self, text: str) -> None:
        """Adds a turn of the system that the user talks to, of which a task that understands users knows nothing else.

        Raises:
            KshotError: If the task does not read what was said before, or speaks itself.
        """
        if not self.manner.hears:
            raise KshotError("/system adds what a system says to its user, which this task does not read.")
        if not text:
            raise KshotError("/system needs what the system says: /system Which day would you like?")
        self._go_on(_Moment(self.task, (*self.history, Turn(SYSTEM, text)), self.last))

    def teach(self, correction: str) -> Taught:
        """Corrects what the task made of the last turn: the task adapts again, to this as well, and is saved.

        Args:
            correction: What would have been right, as the manner of the task has it written.

        Raises:
            KshotError: If there is no turn, or the correction cannot be used or kept; nothing has changed then.
        """
        if self.last is None:
            raise KshotError("There is no answer to correct yet; write something first, then /teach what is right.")
        if not correction:
            raise KshotError(f"/teach needs what is right: {self.manner.usage}.")
        last = self.last
        example, reply = self.manner.correct(self.task, last, correction)
        begin = perf_counter()
        task = self.task.teach(example)
        learned = perf_counter()
        self._save(task)
        saved = perf_counter()
        answer = self.manner.answer(task, last.history, last.turn)
        old, new = self.task.classes, task.classes
        corrected = Exchange(last.history, last.turn, answer, reply)
        since = self.history[len(last.history) + len(last.turns) :]
        self._go_on(_Moment(task, (*last.history, *corrected.turns, *since), corrected))
        return Taught(
            answer,
            len(task.examples),
            tuple(name for name in new if name not in old),
            tuple(name for name in old if name not in new),
            learned - begin,
            saved - learned,
        )

    def undo(self) -> str:
        """Takes the last step back, a turn, a correction or a reset, and says which; a correction is unlearned.

        Raises:
            KshotError: If there is none, or the task as it was cannot be saved; nothing has changed then.
        """
        if not self._before:
            raise KshotError("There is nothing to take back; a turn, /teach and /reset can be taken back.")
        last = self._before[-1]
        if last.task is not self.task:
            self._save(last.task)
        now, self._now = self._now, self._before.pop()
        if now.last is not None and now.task is not last.task:
            return f'what was taught about "{now.last.turn.text}"'
        if len(now.history) > len(last.history):
            return f'the turn "{now.history[len(last.history)].text}"'
        return "the reset"

    def reset(self) -> int:
        """Forgets the turns, and says how many there were; what was taught stays."""
        n_turns = len(self.history)
        if n_turns:
            self._go_on(_Moment(self.task))
        return n_turns

    def _go_on(self, moment: _Moment) -> None:
        self._before.append(self._now)
        self._now = moment
