"""A conversation in the terminal: lines in, answers and commands.

From a pipe the same lines are read without a prompt, and what is refused makes the command end with status 2.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from rich.padding import Padding
from rich.text import Text

from kshot.adapted import Adapted
from kshot.artefact import MANIFEST
from kshot.chat.conversation import Conversation, Taught
from kshot.data.dialogue import HistoryCut
from kshot.data.examples import INTENT, SLOT
from kshot.errors import KshotError, did_you_mean, several
from kshot.output import console
from kshot.predictions import presenter
from kshot.streams import Bytes, text_lines

PROMPT = "> "


def chat(task: Adapted, folder: Path) -> bool:
    """Talks until the input ends or the user has enough.

    Args:
        task: The task.
        folder: Where it is saved when it has been taught something.

    Returns:
        Whether a program that wrote the lines got all that it asked for; always so for a person.

    Raises:
        KshotError: If the input is not UTF-8.
    """
    return Terminal(Conversation(task, saver(folder))).run()


class Terminal:
    """What a conversation looks like.

    Args:
        conversation: The conversation.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._screen, self._complaints = console(), console(sys.stderr)
        self._ended = False
        self._commands: dict[str, tuple[str, Callable[[str], None]]] = {
            "/teach": (f"corrects the last answer: {conversation.manner.usage}", self._teach),
            "/system": ("adds what the system says to its user, such as /system Which day?", self._system),
            "/undo": ("takes back the last turn, /teach or /reset", self._undo),
            "/reset": ("forgets the turns; what was taught stays", self._reset),
            "/help": ("says this", self._help),
            "/quit": ("ends, as Ctrl-D does", self._quit),
        }
        if not conversation.manner.hears:
            del self._commands["/system"]
        self._said_what_is_read = False

    def run(self) -> bool:
        """Reads lines and answers them."""
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        if at_terminal:
            self._greet()
        refused = False
        for line in typed(self._completions) if at_terminal else piped():
            try:
                self._answer(line)
            except KshotError as error:
                refused = True
                self._complaints.print(Text(f"Error: {error}", "red"))
            sys.stdout.flush()
            if self._ended:
                break
        return at_terminal or not refused

    def _answer(self, line: str) -> None:
        if not line.strip():
            return
        if line.startswith("/"):
            name, _, rest = line.strip().partition(" ")
            self._command(name, rest.strip())
        else:
            self._show(self._said(line.strip()))

    def _said(self, text: str) -> object:
        """What the task makes of a turn; that it does not read all of a long history is said once."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HistoryCut)
            answer = self.conversation.say(text)
        for each in caught:
            if not issubclass(each.category, HistoryCut):
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
            elif not self._said_what_is_read:
                self._said_what_is_read = True
                self._complaints.print(Text(f"Note: {each.message} (This is said once.)", "dim"))
        return answer

    def _command(self, name: str, rest: str) -> None:
        if name not in self._commands:
            raise KshotError(
                f"There is no command {name}; /help lists them, and a space before it makes it a turn."
                + did_you_mean(name, self._commands)
            )
        if rest and name not in ("/teach", "/system"):
            raise KshotError(f'{name} takes nothing after it, but "{rest}" was given; write it alone.')
        self._commands[name][1](rest)

    # -- the commands --------------------------------------------------------------------------------------------------

    def _teach(self, correction: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HistoryCut)
            taught = self.conversation.teach(correction)
        self._screen.print(Text(_said_of(taught), "cyan"))
        self._show(taught.answer)
        known = [_class(name) for name in self.conversation.task.classes if name not in taught.new]
        for kind, name in map(_class, taught.new):
            if hint := did_you_mean(name, [other for of, other in known if of == kind]):
                self._screen.print(Text(f"{hint.strip()} /undo takes the new {kind} back.", "yellow"))

    def _system(self, text: str) -> None:
        self.conversation.hear(text)

    def _undo(self, _: str) -> None:
        self._screen.print(Text(f"Took back {self.conversation.undo()}.", "cyan"))

    def _reset(self, _: str) -> None:
        self._screen.print(Text(f"Forgot {several(self.conversation.reset(), 'turn')}; what was taught stays.", "cyan"))

    def _help(self, _: str) -> None:
        for name, (what, _run) in self._commands.items():
            self._screen.print(Text(f"{name:<8}", "bold").append(what, "not bold"))
        self._screen.print("Anything else is a turn.")

    def _quit(self, _: str) -> None:
        self._ended = True

    def _completions(self) -> list[str]:
        """Lines that the tab key completes: commands, and corrections as far as they are known."""
        begun = self.conversation.manner.begun(self.conversation.task)
        return [*self._commands, *(f"/teach {each}" for each in begun)]

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        task = self.conversation.task
        self._screen.print(Text("Write something. /teach corrects the answer, /help says how, Ctrl-D ends.", "dim"))
        if not task.examples:
            self._screen.print(
                Text("The task was saved without its examples: it answers, and learns nothing.", "yellow")
            )

    def _show(self, answer: object) -> None:
        self._screen.print(Padding(presenter(self.conversation.task)(answer), (0, 0, 0, 2), expand=False))


def _said_of(taught: Taught) -> str:
    """What a correction came to, in words."""
    changes = [f'the {kind} "{name}" is new' for kind, name in map(_class, taught.new)]
    changes += [f'the {kind} "{name}" has no example any more and is gone' for kind, name in map(_class, taught.gone)]
    times = f"{_milliseconds(taught.learning)}, saved in {_milliseconds(taught.saving)}"
    return "; ".join([f"Learned {several(taught.n_examples, 'example')} in {times}", *changes]) + ". The same turn now:"


def _class(name: str) -> tuple[str, str]:
    """What a class is called, and its name; the classes of some tasks are of several kinds."""
    kind, _, own = name.partition(":")
    return (kind, own) if kind in (INTENT, SLOT) and own else ("class", name)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


# -- where lines come from ---------------------------------------------------------------------------------------------


def typed(completions: Callable[[], list[str]]) -> Iterator[str]:
    """Lines of a person, who can edit them, have earlier ones back, and complete some with the tab key."""
    with contextlib.suppress(ImportError):  # a Python without it reads lines all the same
        import readline

        def complete(line: str, number: int) -> str | None:
            fitting = [each for each in completions() if line and each.startswith(line)]
            return fitting[number] if number < len(fitting) else None

        readline.set_completer_delims("")  # whole lines
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return


def piped() -> Iterator[str]:
    """Lines of the standard input, as they come."""
    return text_lines(cast(Bytes, sys.stdin.buffer), "The input")


# -- where what is taught is kept --------------------------------------------------------------------------------------


def saver(folder: Path) -> Callable[[Adapted], None]:
    """What saves a task in a folder, unless someone else has changed the folder meanwhile: theirs would be lost."""
    seen = _identity(folder)

    def save(task: Adapted) -> None:
        nonlocal seen
        if _identity(folder) != seen:
            raise KshotError(
                f"{folder} was changed by another program, so nothing was saved or learned; begin the chat again to "
                "teach the task as it is now."
            )
        task.save(folder)
        seen = _identity(folder)

    return save


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells one version of a folder from another."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
