"""Sentence pairs: read from files, and drawn into episodes.

{"source": "Bună ziua.", "target": "Good day."}        JSONL, JSON; CSV and TSV with these fields
Bună ziua.<TAB>Good day.                               TSV without a row of names
corpus.ro and corpus.en, line by line                  two files of plain text
"""

from pathlib import Path

from kshot.data.examples import SentencePair
from kshot.data.files import (
    PART_FIELDS,
    TABLE_SUFFIXES,
    TASK_FIELDS,
    field_names,
    find_field,
    find_optional_field,
    first_row,
    name_of,
    read_rows,
    read_utf8,
    suffix_of,
    text_of,
)
from kshot.data.normal import normalise
from kshot.data.pieces import PieceSampler
from kshot.errors import KshotError, several

SOURCE_FIELDS = ("source", "src")
TARGET_FIELDS = ("target", "tgt", "translation")


def is_pairs(path: Path) -> bool:
    """Whether a file has the fields of sentence pairs."""
    if suffix_of(path) not in TABLE_SUFFIXES:
        return False
    row = first_row(path)
    names = {name.lower() for name in row.fields} if row else set()
    return any(name in names for name in SOURCE_FIELDS) and any(name in names for name in TARGET_FIELDS)


def read_pairs(
    path: Path, targets: Path | None = None, *, source: str | None = None, target: str | None = None
) -> list[SentencePair]:
    """Reads sentence pairs.

    Args:
        path: A file with a field for each side; or the sources, a text a line, if `targets` is given.
        targets: Their translations, line by line.
        source: The field with the source; None finds ``source`` or ``src``.
        target: The field with the target; None finds ``target``, ``tgt`` or ``translation``.

    Raises:
        KshotError: If a file cannot be read, if a side of a pair is missing or empty, or if two files differ in their
            number of lines.
    """
    if targets is not None:
        return _side_by_side(path, targets)
    rows = read_rows(path)
    if not rows:
        raise KshotError(f"{path} has no pairs; add at least one.")
    names = field_names(rows)
    source_field = find_field(path, names, source, SOURCE_FIELDS, "source")
    target_field = find_field(path, names, target, TARGET_FIELDS, "target")
    task = find_optional_field(path, names, None, TASK_FIELDS, "task")
    part = find_optional_field(path, names, None, PART_FIELDS, "part")
    return [
        SentencePair(
            text_of(path, row, source_field).strip(),
            text_of(path, row, target_field).strip(),
            name_of(path, row, task, optional=True) if task else "",
            name_of(path, row, part, optional=True) if part else "",
        )
        for row in rows
    ]


def _side_by_side(path: Path, targets: Path) -> list[SentencePair]:
    sides = [read_utf8(each).removesuffix("\n").split("\n") for each in (path, targets)]
    if len(sides[0]) != len(sides[1]):
        raise KshotError(
            f"{path} has {several(len(sides[0]), 'line')} and {targets} has {len(sides[1])}; a line of one is the "
            "translation of the same line of the other, so give them as many."
        )
    for number, pair in enumerate(zip(*sides, strict=True), 1):
        for each, file in zip(pair, (path, targets), strict=True):
            if not each.strip():
                raise KshotError(f"{file}, line {number} is empty; fill it in, or take the line out of both files.")
    return [SentencePair(source.strip(), target.strip()) for source, target in zip(*sides, strict=True)]


class PairSampler(PieceSampler):
    """Episodes of sentence pairs: no source and no target, case and white space aside, stands on both sides of one."""

    piece, pieces, made = "pair", "sentence pairs", "translation"

    @staticmethod
    def piece_of(example: SentencePair) -> None:
        return None

    @staticmethod
    def marks_of(example: SentencePair) -> tuple[str, ...]:
        return tuple(map(normalise, example.texts))
