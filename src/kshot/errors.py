"""The one kind of error that a user's input can cause, and of warning."""

from collections.abc import Iterable
from difflib import get_close_matches


class KshotError(ValueError):
    """Input that kshot cannot use; the message is one sentence that names the thing, the value and the way out."""


class KshotNotice(UserWarning):
    """Something that kshot does with an input and that a user should know; one sentence."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``' Did you mean "way"?'`` for the closest known word, or ``''`` if none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""


def several(number: int, what: str) -> str:
    """A number of things in words: ``1 text``, ``2 texts``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def first_line(error: Exception) -> str:
    """The first line of what another library says went wrong, for a sentence of one's own: without its full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")
