"""Texts to predict as they come: block by block, so that a million of them need no more memory than a thousand.

So do dialogues so far, of which a line of plain text is what the user says first.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, cast

from kshot.data.dialogue import TURNS_FIELD, USER, History, Turn, read_turns
from kshot.data.files import Row, read_rows, text_of
from kshot.data.readers import TEXT_FIELDS, read_texts
from kshot.errors import KshotError

T = TypeVar("T")
OfRow = Callable[[Mapping[str, object], str], T]
"""Takes a row and where it stands."""

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
            otherwise.
        field: The field with the text, for files with fields; None finds it.
        stream: What to read in the place of the standard input.

    Raises:
        KshotError: If the file is missing, or, at once or on the way, if something in it cannot be read.
    """
    found = _streamed(source, stream, str, lambda row, where: _text(row, where, field))
    if found is not None:
        return found
    texts = read_texts(Path(source), text=field)
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))


def history_blocks(source: str, *, stream: Bytes | None = None) -> Iterator[list[History]]:
    """Reads the turns so far of dialogues in blocks, in their order.

    Args:
        source: As for `text_blocks`. A row is an object with `turns`, see `kshot.data.dialogue`, or with `text`, the
            newest turn of the user, and perhaps `history`, the turns before it.
        stream: What to read in the place of the standard input.

    Raises:
        KshotError: As `text_blocks`.
    """
    found = _streamed(source, stream, lambda line: (Turn(USER, line),), _history)
    if found is not None:
        return found
    path = Path(source)
    histories = [_history(row.fields, f"{path}, {row.place}") for row in read_rows(path, also=".txt")]
    return (histories[start : start + BLOCK] for start in range(0, len(histories), BLOCK))


def _streamed(
    source: str, stream: Bytes | None, of_line: Callable[[str], T], of_row: OfRow[T]
) -> Iterator[list[T]] | None:
    """What can be read as it comes; None of other files."""
    if source == "-":
        given = cast(Bytes, sys.stdin.buffer) if stream is None else stream
        return _blocks(given, "The input", of_line, of_row, jsonl=None)
    path = Path(source)
    if path.suffix.lower() in (".txt", ".jsonl") and path.is_file():
        return _of_file(path, of_line, of_row)
    return None


def _of_file(path: Path, of_line: Callable[[str], T], of_row: OfRow[T]) -> Iterator[list[T]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise KshotError(f"{path} cannot be read: {error.strerror}; check the path and its permissions.") from error
    with file:
        yield from _blocks(file, str(path), of_line, of_row, jsonl=path.suffix.lower() == ".jsonl")


def _blocks(
    stream: Bytes, where: str, of_line: Callable[[str], T], of_row: OfRow[T], *, jsonl: bool | None
) -> Iterator[list[T]]:
    """What the lines that are not blank say; the first one decides whether they are JSONL if `jsonl` is None."""
    number, found = 0, False
    for lines in _lines(stream):
        texts: list[T] = []
        for line in lines:
            number += 1
            text = _decode(line, where, number).strip()
            if text:
                jsonl = text.startswith("{") if jsonl is None else jsonl
                place = f"{where}, line {number}"
                texts.append(of_row(_json_row(text, place), place) if jsonl else of_line(text))
        found = found or bool(texts)
        yield from (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))
    if not found:
        raise KshotError(f"{where} has no texts; give one a line.")


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


def _json_row(line: str, where: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise KshotError(f"{where}: this is not valid JSON ({error}); correct the line.") from error
    if not isinstance(row, dict):
        raise KshotError(f'{where}: this is not an object; write {{"text": ...}}.')
    return row


def _history(row: Mapping[str, object], where: str) -> History:
    path, _, place = where.rpartition(", ")
    placed = Row(place, row)
    if TURNS_FIELD in row:
        return tuple(each.turn for each in read_turns(Path(path), placed, TURNS_FIELD))
    before = read_turns(Path(path), placed, "history") if "history" in row else []
    return (*(each.turn for each in before), Turn(USER, text_of(Path(path), placed, "text").strip()))


def _text(row: Mapping[str, object], where: str, field: str | None) -> str:
    names = (field,) if field is not None else TEXT_FIELDS
    name = next((name for name in names if name in row), None)
    if name is None:
        known = ", ".join(f'"{key}"' for key in row) or "none"
        wanted = " or ".join(f'"{each}"' for each in names)
        raise KshotError(f"{where}: there is no field {wanted}; its fields are {known}; name one with --text.")
    if not isinstance(row[name], str):
        raise KshotError(f'{where}: the field "{name}" is not a text; write it in quotation marks.')
    return str(row[name])
