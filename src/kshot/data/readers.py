"""Files -> examples. An error names the file, the line and the field, and says what to do.

See `kshot.data.files` for the formats, and `kshot.data.tagged` for sentences with entities.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from kshot.data.checks import Finding, check, check_splits
from kshot.data.examples import TextExample
from kshot.data.files import (
    LABEL_FIELDS,
    PART_FIELDS,
    TABLE_SUFFIXES,
    TASK_FIELDS,
    TEXT_FIELDS,
    Row,
    field_names,
    find_field,
    find_optional_field,
    name_of,
    read_rows,
    read_utf8,
    suffix_of,
    text_of,
)
from kshot.data.tagged import is_tagged, read_tagged
from kshot.data.utterances import is_utterances, read_utterances
from kshot.errors import KshotError

__all__ = [
    "TABLE_SUFFIXES",
    "TEXT_FIELDS",
    "Finding",
    "Row",
    "check",
    "check_splits",
    "is_tagged",
    "is_utterances",
    "read_examples",
    "read_hf",
    "read_rows",
    "read_tagged",
    "read_texts",
    "read_utterances",
]


def read_examples(
    path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    task: str | None = None,
    part: str | None = None,
) -> list[TextExample]:
    """Reads labelled texts from a JSONL, JSON, CSV or TSV file.

    Args:
        path: The file.
        text: The field with the text; None finds ``text``, ``sentence``, ``utterance`` or ``query``.
        label: The field with the class; None finds ``label``, ``intent``, ``class`` or ``category``. A number is taken
            as a name.
        task: The field with the named task; None finds ``task`` or ``domain``, or leaves it empty.
        part: The field with ``train``, ``valid`` or ``test``; None finds ``part`` or ``split``, or leaves it empty.

    Raises:
        KshotError: If the file is missing, empty, not text, not UTF-8 or not of its format, or if a row lacks a field,
            or has an empty text or label.
    """
    path = Path(path)
    rows = read_rows(path)
    if not rows:
        raise KshotError(f"{path} has no examples; add at least one.")
    names = field_names(rows)
    text_field = find_field(path, names, text, TEXT_FIELDS, "text")
    label_field = find_field(path, names, label, LABEL_FIELDS, "label")
    task_field = find_optional_field(path, names, task, TASK_FIELDS, "task")
    part_field = find_optional_field(path, names, part, PART_FIELDS, "part")
    return [
        TextExample(
            text_of(path, row, text_field),
            name_of(path, row, label_field),
            name_of(path, row, task_field, optional=True) if task_field else "",
            name_of(path, row, part_field, optional=True) if part_field else "",
        )
        for row in rows
    ]


def read_texts(path_or_stream: str | Path | TextIO, *, text: str | None = None) -> list[str]:
    """Reads texts to predict: plain text (`.txt`, or a stream) has one a line, and other files have one a row.

    Blank lines of plain text are skipped, and white space around a line is cut.

    Args:
        path_or_stream: A file, or an open stream of plain text.
        text: The field with the text, for files with fields; None finds it.

    Raises:
        KshotError: If the file cannot be read or has no text.
    """
    if not isinstance(path_or_stream, (str, Path)):
        return _plain_lines(_read_stream(path_or_stream), "The input")
    path = Path(path_or_stream)
    if suffix_of(path) == ".txt":
        return _plain_lines(read_utf8(path), str(path))
    rows = read_rows(path, also=".txt")
    if not rows:
        raise KshotError(f"{path} has no texts; add at least one.")
    field = find_field(path, field_names(rows), text, TEXT_FIELDS, "text")
    return [text_of(path, row, field) for row in rows]


def read_hf(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    text: str | None = None,
    label: str | None = None,
    task: str | None = None,
) -> list[TextExample]:
    """Reads one split of a data set of the Hugging Face Hub, or of a folder that `datasets` can read.

    Class numbers become class names where the data set knows them.

    Args:
        name: The name on the Hub, or a folder.
        config: The configuration (subset), where there are several.
        split: The split.
        text: The field with the text; None finds it as `read_examples` does.
        label: The field with the class; None finds it.
        task: The field with the named task; None finds it or leaves it empty.

    Raises:
        ImportError: If `datasets` is not installed.
        KshotError: If the data set cannot be loaded, or lacks a field.
    """
    try:
        import datasets  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError(
            'Data sets of the Hugging Face Hub need one more package: pip install "kshot[datasets]"'
        ) from error
    try:
        table = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError) as error:  # not found, no network, unknown configuration or split
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise KshotError(
            f'The data set "{name}" (split "{split}") cannot be loaded: {reason.rstrip(".")}; check the name, the '
            "split and the network."
        ) from error
    place = Path(f"hf:{name}")
    names = list(table.column_names)
    text_field = find_field(place, names, text, TEXT_FIELDS, "text")
    label_field = find_field(place, names, label, LABEL_FIELDS, "label")
    task_field = find_optional_field(place, names, task, TASK_FIELDS, "task")
    class_names = {field: getattr(feature, "names", None) for field, feature in table.features.items()}
    kept = table.select_columns([field for field in (text_field, label_field, task_field) if field])
    return [
        TextExample(
            text_of(place, row, text_field),
            name_of(place, row, label_field),
            name_of(place, row, task_field, optional=True) if task_field else "",
        )
        for row in (
            Row(f"row {number}", {field: _class_name(value, class_names[field]) for field, value in fields.items()})
            for number, fields in enumerate(kept)
        )
    ]


def _read_stream(stream: TextIO) -> str:
    try:
        return stream.read()
    except UnicodeDecodeError as error:
        raise KshotError(
            f"The input is not {error.encoding.upper()} (byte 0x{error.object[error.start]:02x}); give it as UTF-8."
        ) from error


def _plain_lines(content: str, where: str) -> list[str]:
    texts = [
        line.strip() for line in content.split("\n")
    ]  # not splitlines, which also splits at signs that stand inside a text
    texts = [text for text in texts if text]
    if not texts:
        raise KshotError(f"{where} has no texts; give one a line.")
    return texts


def _class_name(value: object, names: Sequence[str] | None) -> object:
    """The name of a class number of the Hub; -1 is how the Hub says that a label is hidden."""
    return names[value] if names is not None and isinstance(value, int) and 0 <= value < len(names) else value
