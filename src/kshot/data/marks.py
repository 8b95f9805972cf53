"""Spans of characters in a text: read from the objects of a file, and fitted to its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kshot.data.files import Row, kind_of, name_of, shorten, show_value
from kshot.data.tags import Span
from kshot.data.words import split_words
from kshot.errors import KshotError, did_you_mean, several

Word = tuple[str, int, int]
"""A word, its first character and one past its last."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How files and messages speak of a span.

    Attributes:
        name: What it is called.
        label: The field with its label.
        written: Fields that are not needed, as `kshot predict` writes them: predictions that were put right can be
            learned. The first ones say what stands there.
        way_out: What else to do where one cuts a word.
    """

    name: str
    label: str
    written: tuple[str, ...]
    way_out: str = ""

    @property
    def keys(self) -> tuple[str, str, str]:
        """The fields that one has."""
        return ("start", "end", self.label)


SPAN = Mark("span", "label", ("text", "confidence"), ", or give tokens and tags")
SLOT_MARK = Mark("slot", "slot", ("text", "value", "confidence"))


def read_span(where: str, text: str, value: object, number: int, mark: Mark) -> Span:
    """A span of characters.

    Args:
        where: Whose it is, such as a file and a line.
        text: The text.
        value: The object.
        number: Which one it is, from 1.
        mark: How to speak of it.

    Raises:
        KshotError: If it is no object with these fields, or does not lie in the text.
    """
    what = mark.name
    fields = f"{mark.keys[0]}, {mark.keys[1]} and {mark.keys[2]}"
    if not isinstance(value, Mapping):
        raise KshotError(
            f"{where}: {what} {number} is {kind_of(value)} ({show_value(value)}), not an object; write "
            f'{{"start": ..., "end": ..., "{mark.label}": ...}}.'
        )
    for key in value:
        if key not in (*mark.keys, *mark.written):
            raise KshotError(
                f'{where}: {what} {number} has a field "{shorten(key)}" that kshot does not know; the fields of a '
                f"{what} are {fields}.{did_you_mean(key, mark.keys)}"
            )
    for key in mark.keys:
        if key not in value:
            raise KshotError(f'{where}: {what} {number} has no field "{key}"; a {what} has {fields}.')
    start, end = (_character(where, f"the {key} of {what} {number}", value[key]) for key in ("start", "end"))
    if not 0 <= start < end <= len(text):
        raise KshotError(
            f"{where}: {what} {number} goes from {start} to {end}, but the text has {several(len(text), 'character')}; "
            "start is the first character from 0, and end is one past the last."
        )
    label = name_of(Path(where), Row(f"{what} {number}", value), mark.label)
    for key in mark.written[:-1]:
        written = value.get(key)
        if written is not None and written != text[start:end]:
            raise KshotError(
                f"{where}: {what} {number} says that it is {show_value(written)}, but from {start} to {end} stands "
                f'"{shorten(text[start:end])}"; put start and end right.'
            )
    return Span(start, end, label)


def _character(where: str, what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise KshotError(
            f"{where}: {what} is {kind_of(value)} ({show_value(value)}), not a whole number; count characters from 0."
        )
    return value


def words_of(where: str, text: str) -> list[Word]:
    """The words of a text.

    Raises:
        KshotError: If it has none.
    """
    words = split_words(text)
    if not words:
        raise KshotError(f"{where}: the text has no words; write one or take the row out.")
    return words


def on_words(where: str, text: str, words: Sequence[Word], spans: Sequence[Span], mark: Mark) -> list[Span]:
    """The same spans counted in words, in order; white space at the ends of one does not count.

    Raises:
        KshotError: If one cuts a word or is none, or if two overlap.
    """
    first = {start: number for number, (_, start, _) in enumerate(words)}
    last = {end: number for number, (_, _, end) in enumerate(words)}
    found = []
    for span in spans:
        inside = text[span.start : span.end]
        start = span.start + len(inside) - len(inside.lstrip())
        end = span.end - len(inside) + len(inside.rstrip())
        if start >= end:
            raise KshotError(
                f"{where}: the {mark.name} from {span.start} to {span.end} ({span.label}) holds white space alone; "
                "move it to a word or take it out."
            )
        if start not in first or end not in last:
            cut = start if start not in first else end
            word = next((word for word, begin, stop in words if begin < cut < stop), inside)
            raise KshotError(
                f'{where}: the {mark.name} "{shorten(inside.strip())}" ({span.label}) cuts the word "{shorten(word)}"; '
                f"let it begin and end with a word{mark.way_out}."
            )
        found.append((Span(first[start], last[end] + 1, span.label), shorten(inside.strip())))
    found.sort()
    for (one, shown), (other, also) in pairwise(found):
        if other.start < one.end:
            raise KshotError(
                f'{where}: the {mark.name}s "{shown}" ({one.label}) and "{also}" ({other.label}) overlap; keep one of '
                "them."
            )
    return [span for span, _ in found]
