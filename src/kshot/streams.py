"""Texts to predict as they come: block by block, so that a million of them need no more memory than a thousand."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

from kshot.data.dialogue import HISTORY_FIELD, TURNS_FIELD, USER, History, Turn, dialogue_of, read_turns
from kshot.data.files import find_field, suffix_of, text_of, unreadable
from kshot.data.readers import TEXT_FIELDS, Row, read_rows, read_texts
from kshot.errors import KshotError

T = TypeVar("T")
OfText = Callable[[str], T]
"""What a line of plain text says."""
OfLine = Callable[[str, str, int], Sequence[T]]
"""What a line of JSONL says, given where it is from and its number."""

BLOCK = 1024  # texts
_CHUNK = 1 << 17  # bytes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Bytes(Protocol):
    """A binary stream."""

    def read1(self, size: int, /) -> bytes:
        """Returns what is there, at most `size` bytes, and waits only if nothing is; b"" at the end."""


def text_blocks(source: str, *, field: str | None = None, stream: Bytes | None = None) -> Iterator[list[str]]:
    """Reads texts in blocks, in their order.

    Plain text and JSONL are read as they come, other files as a whole.

    Args:
        source: A file, or `-` for the standard input, which is JSONL if its first text begins with `{`, and plain text
            otherwise; another form has to come as a file.
        field: The field with the text, for files with fields; None finds it.
        stream: What to read in the place of the standard input.

    Raises:
        KshotError: If the file is missing, or, at once or on the way, if something in it cannot be read.
    """

    def of_line(line: str, where: str, number: int) -> list[str]:
        return [_text(Path(where), _row(line, where, number), field)]

    if _comes(source):
        return _blocks(source, stream, str, of_line)
    return _in_blocks(read_texts(source, text=field))


@dataclass(frozen=True, slots=True)
class Asked:
    """A text, and the turns before it.

    Attributes:
        text: What is said.
        history: What was said before, the oldest first.
    """

    text: str
    history: History


def turn_blocks(source: str, *, field: str | None = None, stream: Bytes | None = None) -> Iterator[list[Asked]]:
    """Reads what users say in dialogues, in blocks, as `text_blocks` does.

    A line of plain text has no history; a row of JSONL or JSON is a text, perhaps with a `history`, or a dialogue with
    `turns`, of which each turn of the user is one.

    Args:
        source: As for `text_blocks`.
        field: The field with the text; None finds it.
        stream: What to read in the place of the standard input.

    Raises:
        KshotError: As `text_blocks`, or if a dialogue has a turn without text or by an unknown speaker, or none of the
            user.
    """

    def of_line(line: str, where: str, number: int) -> list[Asked]:
        return _asked(Path(where), _row(line, where, number), field)

    if _comes(source):
        return _blocks(source, stream, lambda text: Asked(text, ()), of_line)
    path = Path(source)
    if suffix_of(path) == ".txt":
        return _in_blocks([Asked(text, ()) for text in read_texts(path)])
    return _in_blocks([each for row in read_rows(path, also=".txt") for each in _asked(path, row, field)])


def history_blocks(source: str, *, stream: Bytes | None = None) -> Iterator[list[History]]:
    """Reads the turns so far of dialogues in blocks, in their order.

    Args:
        source: As for `text_blocks`. A row is an object with `turns`, see `kshot.data.dialogue`, or with `text`, the
            newest turn of the user, and perhaps `history`, the turns before it.
        stream: What to read in the place of the standard input.

    Raises:
        KshotError: As `text_blocks`.
    """

    def of_line(line: str, where: str, number: int) -> list[History]:
        return [_history(Path(where), _row(line, where, number))]

    if _comes(source):
        return _blocks(source, stream, lambda text: (Turn(USER, text),), of_line)
    path = Path(source)
    if suffix_of(path) == ".txt":
        return _in_blocks([(Turn(USER, text),) for text in read_texts(path)])
    return _in_blocks([_history(path, row) for row in read_rows(path, also=".txt")])


def _history(path: Path, row: Row) -> History:
    """The turns so far in a row."""
    if TURNS_FIELD in row.fields:
        return tuple(each.turn for each in read_turns(path, row, TURNS_FIELD))
    return (*_before(path, row), Turn(USER, text_of(path, row, "text").strip()))


def text_lines(stream: Bytes, where: str) -> Iterator[str]:
    """Reads lines as they come, blank ones too, without the white space around them at their ends.

    Args:
        stream: What to read.
        where: What an error is about.

    Raises:
        KshotError: On the way, if a line is not UTF-8.
    """
    lines = (line for each in _lines(stream) for line in each)
    return (_decode(line, where, number).rstrip() for number, line in enumerate(lines, 1))


def _asked(path: Path, row: Row, field: str | None) -> list[Asked]:
    """What the user says in a row."""
    if TURNS_FIELD in row.fields:
        dialogue = dialogue_of(path, row, of=USER)
        return [
            Asked(text_of(path, each.row, "text"), dialogue.before(number))
            for number, each in enumerate(dialogue.turns)
            if each.turn.speaker == USER
        ]
    return [Asked(_text(path, row, field), _before(path, row))]


def _before(path: Path, row: Row) -> History:
    """The turns before the text of a row."""
    before = read_turns(path, row, HISTORY_FIELD) if row.fields.get(HISTORY_FIELD) is not None else []
    return tuple(each.turn for each in before)


def _text(path: Path, row: Row, field: str | None) -> str:
    """The text of a row, of which no other need have the same fields."""
    where = Path(f"{path}, {row.place}")
    return text_of(path, row, find_field(where, list(row.fields), field, TEXT_FIELDS, "text"))


def _comes(source: str) -> bool:
    """Whether a source is read as it comes."""
    return source == "-" or (Path(source).suffix.lower() in (".txt", ".jsonl") and Path(source).is_file())


def _in_blocks(found: Sequence[T]) -> Iterator[list[T]]:
    return (list(found[start : start + BLOCK]) for start in range(0, len(found), BLOCK))


def _blocks(source: str, stream: Bytes | None, of_text: OfText[T], of_line: OfLine[T]) -> Iterator[list[T]]:
    """What a source says that is read as it comes."""
    if source == "-":
        standard = cast(Bytes, sys.stdin.buffer) if stream is None else stream
        yield from _of_stream(standard, "The input", of_text, of_line, jsonl=None)
        return
    path = Path(source)
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        yield from _of_stream(file, str(path), of_text, of_line, jsonl=path.suffix.lower() == ".jsonl")


def _of_stream(
    stream: Bytes, where: str, of_text: OfText[T], of_line: OfLine[T], *, jsonl: bool | None
) -> Iterator[list[T]]:
    """What the lines say that are not blank; the first one decides whether they are JSONL if `jsonl` is None."""
    number, is_empty = 0, True
    for lines in _lines(stream):
        found: list[T] = []
        for line in lines:
            number += 1
            text = _decode(line, where, number).strip()
            if text:
                jsonl = _is_jsonl(text, where) if jsonl is None else jsonl
                found += of_line(text, where, number) if jsonl else [of_text(text)]
        is_empty = is_empty and not found
        yield from _in_blocks(found)
    if is_empty:
        raise KshotError(f"{where} has no texts; give one a line.")


def _is_jsonl(first: str, where: str) -> bool:
    """Whether a stream that begins with a text is JSONL."""
    if first.startswith("[") and (first == "[" or first[1:].lstrip().startswith("{")):
        raise KshotError(
            f"{where} begins with a list of JSON, which is read from a file alone; give its name, or an object a line."
        )
    return first.startswith("{")


def _lines(stream: Bytes) -> Iterator[list[bytes]]:
    """The whole lines that are there, again and again; whoever writes slowly is answered at once."""
    rest = b""
    while chunk := stream.read1(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _decode(line: bytes, where: str, number: int) -> str:
    if number == 1:
        line = line.removeprefix(_BYTE_ORDER_MARK)
    if b"\0" in line:
        raise KshotError(f"{where}, line {number}: there is a NUL byte, so this is not UTF-8 text; save it as UTF-8.")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise KshotError(f"{where}, line {number}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8.") from error


def _row(line: str, where: str, number: int) -> Row:
    """A line of JSONL."""
    place = f"line {number}"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise KshotError(f"{where}, {place}: this is not valid JSON ({error}); correct the line.") from error
    if not isinstance(fields, dict):
        raise KshotError(f'{where}, {place}: this is not an object; write {{"text": ...}}.')
    return Row(place, fields)
