"""Files -> rows of named fields, or lines of text. An error names the file and the line, and says what to do.

| suffix | one row is |
|---|---|
| `.jsonl` | a line with a JSON object |
| `.json` | an object in a list |
| `.csv` | a row; the first row names the fields; separated by commas, or by semicolons if that row has no comma |
| `.tsv` | a row, separated by tabs; a quotation mark is a character like any other |

Each may be compressed (`.jsonl.gz`). Files are UTF-8, with or without a byte order mark.
"""

import csv
import errno
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kshot.data.normal import has_half_character
from kshot.errors import KshotError, did_you_mean

TEXT_FIELDS = ("text", "sentence", "utterance", "query")
LABEL_FIELDS = ("label", "intent", "class", "category")
TASK_FIELDS = ("task", "domain")
PART_FIELDS = ("part", "split")

_OPTIONS = {
    "text": "--text of kshot adapt and predict",
    "label": "--label of kshot adapt",
    "source": "--text of kshot adapt",
    "target": "--label of kshot adapt",
}
"""How the command line names a field for something."""

TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")

_MAX_FIELD = 2**31 - 1
"""The csv module refuses fields above 131,072 characters unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, not yet understood.

    Attributes:
        place: Where it stands, in words: ``line 3`` or ``item 3``.
        fields: Its values by field.
    """

    place: str
    fields: Mapping[str, object]


def read_rows(path: str | Path, *, also: str = "") -> list[Row]:
    """Reads the rows of a JSONL, JSON, CSV or TSV file, without looking into them.

    Args:
        path: The file.
        also: A suffix that the caller reads itself, for the message about an unknown one.

    Raises:
        KshotError: If the file is missing, empty, not text, not UTF-8 or not of its format.
    """
    path = Path(path)
    match suffix_of(path):
        case ".jsonl":
            return list(_jsonl_rows(path, read_utf8(path)))
        case ".json":
            return list(_json_rows(path, read_utf8(path)))
        case ".csv":
            content = read_utf8(path)
            first_line = content.lstrip().split("\n", 1)[0]
            return list(
                _table_rows(path, content, ";" if ";" in first_line and "," not in first_line else ",", quoted=True)
            )
        case ".tsv":
            return list(_table_rows(path, read_utf8(path), "\t", quoted=False))
        case _:
            raise unknown_suffix(path, (*TABLE_SUFFIXES, *([also] if also else ())))


def each_row(path: Path) -> Iterator[Row]:
    """The rows of a JSONL, JSON, CSV or TSV file; a line of JSONL is looked into only when it is asked for."""
    return _jsonl_rows(path, read_utf8(path)) if suffix_of(path) == ".jsonl" else iter(read_rows(path))


def first_row(path: Path) -> Row | None:
    """The first row of a JSONL, JSON, CSV or TSV file; None if it has none."""
    return next(each_row(path), None)


def suffix_of(path: Path) -> str:
    """The suffix of a file in lower case, that of the compressed file for `.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def unknown_suffix(path: Path, known: Sequence[str], what: str = "") -> KshotError:
    """The error about a file that is read by its suffix, and has another one or is not there.

    Args:
        path: The file.
        known: The suffixes that are read.
        what: What they are read as; empty if anything.
    """
    if found_at(path) != "file":
        return _no_file(path)
    return KshotError(
        f'{path} has the suffix "{suffix_of(path)}", which kshot does not read{f" as {what}" if what else ""}; use one '
        f"of {', '.join(known)} (or any of them with .gz)."
    )


def found_at(path: Path) -> Literal["file", "folder"] | None:
    """What is at a path.

    Raises:
        KshotError: If that cannot be told, because a name is too long for a file or a folder may not be looked into.
    """
    try:
        return "folder" if path.is_dir() else "file" if path.exists() else None
    except OSError as error:
        raise unreadable(path, error) from error


def read_utf8(path: Path) -> str:
    """The text of a file, decompressed and without byte order mark."""
    if found_at(path) != "file":
        raise _no_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if path.suffix.lower() == ".gz" and content:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise KshotError(
                f"{path} is not a whole gzip file ({error}); compress it again, or leave .gz off its name."
            ) from error
    return _decode(content, str(path))


def _no_file(path: Path) -> KshotError:
    if found_at(path) == "folder":
        return KshotError(f"{path} is a folder, not a file; name a file in it.")
    try:
        similar = did_you_mean(path.name, [each.name for each in path.parent.iterdir()])
    except OSError:
        similar = ""
    return KshotError(f"There is no file {path}; check the path.{similar}")


def unreadable(path: Path, error: OSError) -> KshotError:
    """The error about a path that the system gives nothing of."""
    if error.errno == errno.ENAMETOOLONG:
        return KshotError(f'The name "{shorten(max(path.parts, key=len), 41)}" is too long for a file.')
    return KshotError(f"{path} cannot be read: {error.strerror}; check the path and its permissions.")


def _decode(content: bytes, where: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise KshotError(f"{where} is UTF-16, not UTF-8; save it as UTF-8.")
    if (nul := content.find(b"\0")) >= 0:
        raise KshotError(
            f"{where} is not a text file (NUL byte at byte {nul}); if it is UTF-16 text, save it as UTF-8."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise KshotError(
            f"{where}, line {line}: byte {error.start} (0x{content[error.start]:02x}) is not UTF-8; save the file as "
            "UTF-8."
        ) from error
    if not text.strip():
        raise KshotError(f"{where} is empty; add at least one line.")
    return text


def _jsonl_rows(path: Path, content: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            place = f"line {number}"
            yield Row(place, _object(path, place, _parse(path, line, number), line))


def _json_rows(path: Path, content: str) -> Iterator[Row]:
    items = _parse(path, content, 1)
    if not isinstance(items, list):
        raise KshotError(
            f"{path} holds {kind_of(items)}, not a list; write [{{...}}, {{...}}], or one object a line in a .jsonl "
            "file."
        )
    for number, item in enumerate(items, 1):
        place = f"item {number}"
        yield Row(place, _object(path, place, item, json.dumps(item, ensure_ascii=False)))


def _parse(path: Path, content: str, first_line: int) -> object:
    try:
        value: object = json.loads(content)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise KshotError(
            f"{path}, line {line}, column {error.colno}: this is not valid JSON ({error.msg}); correct the line."
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets thousands deep
        raise KshotError(f"{path}, line {first_line}: this JSON cannot be read ({error}); correct the line.") from error
    return value


def _object(path: Path, place: str, value: object, content: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        shown = shorten(content)
        raise KshotError(
            f'{path}, {place}: {shown} is {kind_of(value)}, not an object; write {{"text": ..., "label": ...}}.'
        )
    return value


def _table_rows(path: Path, content: str, delimiter: str, quoted: bool) -> Iterator[Row]:
    """The rows of a table; a row that spans several lines is placed at its first one."""
    reader = csv.reader(
        io.StringIO(content, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    names: list[str] = []
    line = 1
    with _long_fields():
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise KshotError(
                    f"{path}, line {line}: this row cannot be read ({error}); put a text with quotation marks in "
                    'quotation marks and double them ("").'
                ) from error
            if not values or (len(values) == 1 and not values[0].strip()):
                pass  # a blank line
            elif not names:
                names = _header(path, line, values)
            elif len(values) != len(names):
                raise KshotError(
                    f"{path}, line {line}: {len(values)} columns where the first row has {len(names)} "
                    f"({', '.join(names)}); "
                    + (
                        "put a text with the separator in it in quotation marks."
                        if quoted
                        else "write a tab inside a text as a space."
                    )
                )
            else:
                yield Row(f"line {line}", dict(zip(names, values, strict=True)))
            line = reader.line_num + 1


def _header(path: Path, line: int, values: Sequence[str]) -> list[str]:
    names = [value.strip() for value in values]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise KshotError(
            f'{path}, line {line}: the field "{twice}" stands twice in the first row; give each column its own name.'
        )
    return names


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lets csv read long texts; its limit is one for the whole process, so it is put back."""
    before = csv.field_size_limit(_MAX_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def field_names(rows: Sequence[Row]) -> list[str]:
    """The fields of the first row; the others are judged by them."""
    return list(rows[0].fields)


def find_field(path: Path, names: Sequence[str], wanted: str | None, usual: Sequence[str], role: str) -> str:
    """The field for something: the wanted one, or the first of the usual ones.

    Raises:
        KshotError: If there is no such field.
    """
    fields = ", ".join(f'"{shorten(name)}"' for name in names) or "none"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise KshotError(
            f'{path} has no field "{wanted}" for the {role}; its fields are {fields}.{did_you_mean(wanted, names)}'
        )
    found = usual_field(names, usual)
    if found is not None:
        return found
    option = f" or {_OPTIONS[role]}" if role in _OPTIONS else ""
    raise KshotError(
        f"{path} has no field for the {role} that kshot knows ({', '.join(usual)}); its fields are {fields}; "
        f"rename one, or say which it is with {role}=...{option}."
    )


def find_optional_field(
    path: Path, names: Sequence[str], wanted: str | None, usual: Sequence[str], role: str
) -> str | None:
    """The same where none of the usual fields need be there; None if none is."""
    return usual_field(names, usual) if wanted is None else find_field(path, names, wanted, usual, role)


def usual_field(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first of the usual fields that is there, in any case of letters."""
    by_lower_case = {name.lower(): name for name in reversed(names)}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)


def value_of(path: Path, row: Row, field: str) -> object:
    """The value of a field.

    Raises:
        KshotError: If the row lacks it.
    """
    if field not in row.fields:
        fields = ", ".join(f'"{shorten(name)}"' for name in row.fields) or "none"
        raise KshotError(f'{path}, {row.place}: there is no field "{field}"; the fields are {fields}.')
    return row.fields[field]


def text_of(path: Path, row: Row, field: str) -> str:
    """A text, which may not be empty."""
    value = value_of(path, row, field)
    if not isinstance(value, str):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" is {kind_of(value)} ({show_value(value)}), not a text; write it '
            "in quotation marks."
        )
    if not value.strip():
        raise KshotError(f'{path}, {row.place}: the field "{field}" is empty; fill it in or take the row out.')
    return whole_characters(path, row, field, value)


def name_of(path: Path, row: Row, field: str, *, optional: bool = False) -> str:
    """A label, task or part: a text or a number, without white space around it."""
    if optional and row.fields.get(field) in (None, ""):
        return ""
    value = value_of(path, row, field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" is {show_value(value)}, which names nothing; fill it in or take '
            "the row out."
        )
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # 3.0 is what a spreadsheet makes of 3
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" is {kind_of(value)} ({show_value(value)}), not a name; write '
            "one text or number."
        )
    if not value.strip():
        raise KshotError(f'{path}, {row.place}: the field "{field}" is empty; fill it in or take the row out.')
    return whole_characters(path, row, field, value.strip())


def whole_characters(path: Path, row: Row, field: str, value: str) -> str:
    """Refuses half of a surrogate pair, which no encoder can take."""
    if has_half_character(value):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" has half a character (a lone surrogate); write the file again '
            "as UTF-8."
        )
    return value


def kind_of(value: object) -> str:
    """What a value of JSON is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def show_value(value: object) -> str:
    """A value as JSON, its beginning if it is long."""
    return shorten(json.dumps(value, ensure_ascii=False, default=str))


def shorten(text: str, limit: int = 60) -> str:
    """The beginning of a long text."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
