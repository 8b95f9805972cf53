"""Texts to predict as they come: block by block, so that a million of them need no more memory than a thousand."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from kshot.data.readers import TEXT_FIELDS, read_texts
from kshot.errors import KshotError

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
    if source == "-":
        return _blocks(cast(Bytes, sys.stdin.buffer) if stream is None else stream, "The input", field, jsonl=None)
    path = Path(source)
    if path.suffix.lower() in (".txt", ".jsonl") and path.is_file():
        return _of_file(path, field)
    texts = read_texts(path, text=field)
    return (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))


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


def _of_file(path: Path, field: str | None) -> Iterator[list[str]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise KshotError(f"{path} cannot be read: {error.strerror}; check the path and its permissions.") from error
    with file:
        yield from _blocks(file, str(path), field, jsonl=path.suffix.lower() == ".jsonl")


def _blocks(stream: Bytes, where: str, field: str | None, *, jsonl: bool | None) -> Iterator[list[str]]:
    """The texts of the lines that are not blank; the first one decides whether they are JSONL if `jsonl` is None."""
    number, found = 0, False
    for lines in _lines(stream):
        texts = []
        for line in lines:
            number += 1
            text = _decode(line, where, number).strip()
            if text:
                jsonl = text.startswith("{") if jsonl is None else jsonl
                texts.append(_json_text(text, f"{where}, line {number}", field) if jsonl else text)
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


def _json_text(line: str, where: str, field: str | None) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise KshotError(f"{where}: this is not valid JSON ({error}); correct the line.") from error
    if not isinstance(row, dict):
        raise KshotError(f'{where}: this is not an object; write {{"text": ...}}.')
    names = (field,) if field is not None else TEXT_FIELDS
    name = next((name for name in names if name in row), None)
    if name is None:
        known = ", ".join(f'"{key}"' for key in row) or "none"
        wanted = " or ".join(f'"{each}"' for each in names)
        raise KshotError(f"{where}: there is no field {wanted}; its fields are {known}; name one with --text.")
    if not isinstance(row[name], str):
        raise KshotError(f'{where}: the field "{name}" is not a text; write it in quotation marks.')
    return str(row[name])
