r"""Files -> sentences with entities. An error names the file, the line and the value, and says what to do.

| suffix | one sentence is |
|---|---|
| `.jsonl`, `.json` | an object with `tokens` (or `words`) and `tags` (or `ner_tags`), a tag for each token |
| `.jsonl`, `.json` | an object with `text` and `spans` (`entities`), each `{"start": 0, "end": 7, "label": "Drug"}` |
| `.conll`, `.bio`, `.iob`, `.iob2`, `.tsv` | lines of columns: token first, tag last; an empty line ends it |
| `.txt` | a line, `[Aspirin](Chemical) can cause [nausea](Disease).`; `\[` and `\]` are brackets of the text |

Each may be compressed (`.jsonl.gz`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from kshot.data.examples import TaggedExample
from kshot.data.files import (
    PART_FIELDS,
    TASK_FIELDS,
    TEXT_FIELDS,
    Row,
    field_names,
    find_field,
    find_optional_field,
    first_row,
    kind_of,
    name_of,
    read_rows,
    read_utf8,
    shorten,
    show_value,
    suffix_of,
    text_of,
    unknown_suffix,
    usual_field,
    value_of,
    whole_characters,
)
from kshot.data.marks import SPAN, on_words, read_span, words_of
from kshot.data.tags import OUTSIDE, Span, as_bio, first_problem, tags_of
from kshot.errors import KshotError, several

Scheme = Literal["bio", "io"]
"""How tags mark entities: ``bio`` is IOB2; ``io`` is IO or the older IOB1, where an entity may begin with ``I-``."""

TOKEN_FIELDS = ("tokens", "words")
TAG_FIELDS = ("tags", "ner_tags")
SPAN_FIELDS = ("spans", "entities")

COLUMN_SUFFIXES = (".conll", ".bio", ".iob", ".iob2")
TAGGED_SUFFIXES = (".jsonl", ".json", *COLUMN_SUFFIXES, ".tsv", ".txt")

_DOCUMENT = "-DOCSTART-"
"""How a line begins that parts two documents."""

_INLINE = re.compile(
    r"""\\(?P<escaped>[\[\]()\\])
      | \[(?P<entity>(?:\\.|[^\[\]\\])*)\]\((?P<label>[^()\[\]]*)\)
      | (?P<bracket>[\[\]])
      | (?P<text>\\|[^\\\[\]]+)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence as it was read, its tags not yet judged.

    Attributes:
        tokens: Its words.
        tags: One for each.
        places: Where each stands, in words.
        task: Its named task, or empty.
        part: Its part, or empty.
    """

    tokens: Sequence[str]
    tags: Sequence[str]
    places: Sequence[str]
    task: str = ""
    part: str = ""


def read_tagged(
    path: str | Path, *, scheme: Scheme = "bio", task: str | None = None, part: str | None = None
) -> list[TaggedExample]:
    """Reads sentences with entities; see the table of this module for the formats.

    A text with spans, or with annotation in it, is split into words by `split_words`.

    Args:
        path: The file.
        scheme: How the tags mark entities; ``io`` makes BIO of IO and IOB1 (and of bare type names).
        task: In JSONL and JSON, the field with the named task (the domain); None finds ``task`` or ``domain``, or
            leaves it empty.
        part: The field with ``train``, ``valid`` or ``test``; None finds ``part`` or ``split``, or leaves it empty.

    Raises:
        KshotError: If the file cannot be read, if a sentence or a word is empty, if tags do not fit the words or are
            not of the scheme, if spans overlap or do not fit the words, or if there is no entity in the whole file.
    """
    path = Path(path)
    if scheme not in ("bio", "io"):
        raise KshotError(f'There is no scheme "{scheme}"; write "bio", or "io" for IO and IOB1.')
    examples = [_example(path, each, scheme) for each in _sentences(path, task, part)]
    if not examples:
        raise KshotError(f"{path} has no sentences; add at least one.")
    if not any(example.labels for example in examples):
        raise KshotError(f"{path} has no entity in {several(len(examples), 'sentence')}; mark at least one.")
    return examples


def is_tagged(path: str | Path) -> bool:
    """Whether a file has sentences with entities: by its suffix, or by what stands in it first.

    Raises:
        KshotError: If it has to be looked into and cannot be read.
    """
    path = Path(path)
    match suffix_of(path):
        case ".jsonl" | ".json":
            row = first_row(path)
            return row is not None and _has_entities(list(row.fields))
        case ".txt":
            return any(found["entity"] is not None for found in _INLINE.finditer(read_utf8(path)))
        case ".tsv":
            return _is_columns(read_utf8(path))
        case suffix:
            return suffix in COLUMN_SUFFIXES


def _sentences(path: Path, task: str | None, part: str | None) -> Iterator[_Sentence]:
    match suffix_of(path):
        case ".jsonl" | ".json":
            return _rows(path, task, part)
        case ".txt":
            return _annotated(path, read_utf8(path))
        case suffix if suffix in (*COLUMN_SUFFIXES, ".tsv"):
            return _columns(path, read_utf8(path))
        case _:
            raise unknown_suffix(path, TAGGED_SUFFIXES, "tagged sentences")


def _example(path: Path, sentence: _Sentence, scheme: Scheme) -> TaggedExample:
    """Judges tags, and makes BIO of IO."""
    tags = tuple(sentence.tags)
    if scheme == "io":
        tags = as_bio([tag if tag == OUTSIDE or tag[:2] in ("B-", "I-") else f"I-{tag}" for tag in tags])
    if problem := first_problem(tags):
        place, why = problem
        if tags[place].startswith("I-"):
            way_out = f'write "B-{tags[place][2:]}"' + (
                ', or read the file with scheme="io" if its tags are IO or IOB1' if scheme == "bio" else ""
            )
        else:
            way_out = 'write one of them, or read the file with scheme="io" if its tags are bare types'
        raise KshotError(
            f'{path}, {sentence.places[place]}: the tag "{shorten(tags[place])}" of word {place + 1} '
            f'("{shorten(sentence.tokens[place])}") {why}; {way_out}.'
        )
    return TaggedExample(tuple(sentence.tokens), tags, sentence.task, sentence.part)


# -- objects -----------------------------------------------------------------------------------------------------------


def _has_entities(names: Sequence[str]) -> bool:
    tagged = usual_field(names, TOKEN_FIELDS) is not None and usual_field(names, TAG_FIELDS) is not None
    return tagged or (usual_field(names, TEXT_FIELDS) is not None and usual_field(names, SPAN_FIELDS) is not None)


def _rows(path: Path, task: str | None, part: str | None) -> Iterator[_Sentence]:
    rows = read_rows(path)
    names = field_names(rows) if rows else []
    if rows and not _has_entities(names):
        fields = ", ".join(f'"{shorten(name)}"' for name in names) or "none"
        raise KshotError(
            f'{path} has neither "tokens" and "tags" nor "text" and "spans"; its fields are {fields}; rename them.'
        )
    task_field = find_optional_field(path, names, task, TASK_FIELDS, "task") if rows else None
    part_field = find_optional_field(path, names, part, PART_FIELDS, "part") if rows else None
    by_tokens = usual_field(names, TOKEN_FIELDS) is not None and usual_field(names, TAG_FIELDS) is not None
    for row in rows:
        if by_tokens:
            tokens, tags = _given(
                path,
                row,
                find_field(path, names, None, TOKEN_FIELDS, "tokens"),
                find_field(path, names, None, TAG_FIELDS, "tags"),
            )
        else:
            tokens, tags = _from_spans(
                path,
                row,
                find_field(path, names, None, TEXT_FIELDS, "text"),
                find_field(path, names, None, SPAN_FIELDS, "spans"),
            )
        yield _Sentence(
            tokens,
            tags,
            [row.place] * len(tokens),
            name_of(path, row, task_field, optional=True) if task_field else "",
            name_of(path, row, part_field, optional=True) if part_field else "",
        )


def _given(path: Path, row: Row, token_field: str, tag_field: str) -> tuple[list[str], list[str]]:
    tokens, tags = _texts(path, row, token_field, "word"), _texts(path, row, tag_field, "tag")
    if not tokens:
        raise KshotError(f'{path}, {row.place}: the field "{token_field}" is empty; fill it in or take the row out.')
    if len(tokens) != len(tags):
        raise KshotError(
            f"{path}, {row.place}: there are {several(len(tokens), 'token')} and {several(len(tags), 'tag')}; give "
            "one tag for each token."
        )
    for number, token in enumerate(tokens, 1):
        if not token.strip():
            raise KshotError(f"{path}, {row.place}: word {number} is empty; take it out, with its tag.")
    return tokens, tags


def _texts(path: Path, row: Row, field: str, what: str) -> list[str]:
    values = value_of(path, row, field)
    if not isinstance(values, list):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" is {kind_of(values)} ({show_value(values)}), not a list; write '
            f"one {what} for each word, [...]."
        )
    for number, value in enumerate(values, 1):
        if not isinstance(value, str):
            names = " (the names of the types, not their numbers)" if what == "tag" and isinstance(value, int) else ""
            raise KshotError(
                f"{path}, {row.place}: {what} {number} is {kind_of(value)} ({show_value(value)}), not a text; write "
                f"it in quotation marks{names}."
            )
        whole_characters(path, row, field, value)
    return list(values)


def _from_spans(path: Path, row: Row, text_field: str, span_field: str) -> tuple[list[str], list[str]]:
    text, spans = text_of(path, row, text_field), value_of(path, row, span_field)
    if not isinstance(spans, list):
        raise KshotError(
            f'{path}, {row.place}: the field "{span_field}" is {kind_of(spans)} ({show_value(spans)}), not a list; '
            'write [{"start": ..., "end": ..., "label": ...}].'
        )
    where = f"{path}, {row.place}"
    return _tagged(where, text, [read_span(where, text, value, number, SPAN) for number, value in enumerate(spans, 1)])


def _tagged(where: str, text: str, marks: Sequence[Span]) -> tuple[list[str], list[str]]:
    """The words of a text, and the tags that spans of characters give them."""
    words = words_of(where, text)
    return [word for word, _, _ in words], list(tags_of(on_words(where, text, words, marks, SPAN), len(words)))


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns(path: Path, content: str) -> Iterator[_Sentence]:
    tokens: list[str] = []
    tags: list[str] = []
    places: list[str] = []
    lines = [*content.split("\n"), ""]
    for number, line in enumerate(lines, 1):
        if not tokens and _is_comment(lines, number - 1):
            continue
        values = [] if line.startswith(_DOCUMENT) else _values(line)
        if not values:
            if tokens:
                yield _Sentence(tokens, tags, places)
            tokens, tags, places = [], [], []
            continue
        if len(values) == 1:
            raise KshotError(
                f'{path}, line {number}: there is one column only, "{shorten(values[0])}"; write the token first and '
                "its tag last, with a tab or a space between them."
            )
        if not values[0]:
            raise KshotError(f"{path}, line {number}: the token is empty; take the line out.")
        row = Row(f"line {number}", {})
        tokens.append(whole_characters(path, row, "token", values[0]))
        tags.append(values[-1])
        places.append(row.place)


def _values(line: str) -> list[str]:
    """The columns of a line: between tabs if there is one, else between white space."""
    stripped = line.strip("\r")
    if not stripped.strip():
        return []
    return [value.strip() for value in stripped.split("\t")] if "\t" in stripped else stripped.split()


def _is_comment(lines: Sequence[str], place: int) -> bool:
    """Whether a line before a sentence is about it; one with a tag, and as many columns as the next token, is `#`."""
    if not lines[place].startswith("# "):
        return False
    values = _values(lines[place])
    others = (lines[k] for k in chain(range(place + 1, len(lines)), range(place - 1, -1, -1)))
    tokens = (_values(line) for line in others if line.strip() and not line.startswith(("# ", _DOCUMENT)))
    return not _is_tag(values[-1]) or len(values) != len(next(tokens, values))


def _is_tag(value: str) -> bool:
    return value == OUTSIDE or value[:2] in ("B-", "I-")


def _is_columns(content: str, n_lines: int = 50) -> bool:
    """Whether the first lines of a table end in tags, all of them, and hence the first, which would name the fields."""
    lines = [line for line in content.split("\n") if line.strip() and not line.startswith(_DOCUMENT)]
    ends = [_values(line) for place, line in enumerate(lines[:n_lines]) if not _is_comment(lines, place)]
    return bool(ends) and all(len(each) > 1 and _is_tag(each[-1]) for each in ends)


# -- annotation in the text --------------------------------------------------------------------------------------------


def _annotated(path: Path, content: str) -> Iterator[_Sentence]:
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            tokens, tags = _tagged(where, *_without_annotation(where, line.strip()))
            yield _Sentence(tokens, tags, [f"line {number}"] * len(tokens))


def parse_annotated(where: str, line: str) -> TaggedExample:
    """Makes an example of a text with its entities marked, as `[Aspirin](Chemical)`.

    Args:
        where: What an error is about.
        line: The text.

    Raises:
        KshotError: If it has no words, or a mark cannot be read, cuts a word or overlaps with another.
    """
    tokens, tags = _tagged(where, *_without_annotation(where, line))
    return TaggedExample(tuple(tokens), tuple(tags))


def _without_annotation(where: str, line: str) -> tuple[str, list[Span]]:
    """The text of a line, and the entities marked in it, in characters of that text."""
    text, spans = "", []
    for found in _INLINE.finditer(line):
        if found["bracket"]:
            raise KshotError(
                f'{where}: the "{found["bracket"]}" at character {found.start() + 1} does not mark an entity as in '
                f"[Aspirin](Chemical); write \\{found['bracket']} for a bracket of the text."
            )
        if found["entity"] is None:
            text += found["escaped"] or found["text"]
            continue
        entity, label = re.sub(r"\\([\[\]()\\])", r"\1", found["entity"]), found["label"].strip()
        if not entity.strip() or not label:
            raise KshotError(
                f"{where}: {shorten(found[0])} lacks its {'words' if label else 'type'}; write [Aspirin](Chemical)."
            )
        spans.append(Span(len(text), len(text) + len(entity), label))
        text += entity
    return text, spans
