"""The support of a saved task as JSON Lines: an example a line, with the fields that `kshot adapt` reads."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kshot.artefact import damaged
from kshot.data.examples import Example
from kshot.errors import KshotError, several

E = TypeVar("E", bound=Example)


def write_support(path: Path, examples: Sequence[Example]) -> None:
    """Writes examples of one kind; what is empty in them is left out."""
    form = TypeAdapter(type(examples[0]))
    path.write_bytes(b"".join(form.dump_json(each, exclude_defaults=True) + b"\n" for each in examples))


def read_support(path: Path, kind: type[E], n_examples: int) -> tuple[E, ...]:
    """Reads examples.

    Args:
        path: The file.
        kind: What they are.
        n_examples: How many the task was adapted to.

    Raises:
        KshotError: If the file is missing or damaged, or has examples that the task was not adapted to.
    """
    if not path.is_file():
        raise KshotError(f"{path} is missing: the folder is not complete; restore it from a copy or make it again.")
    form = TypeAdapter(kind)
    lines = path.read_bytes().split(b"\n")  # not splitlines, which also splits inside a text
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(form.validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"])
                why = f"line {number}: {f'{place}: ' if place else ''}{first['msg']}"
                raise damaged(path, ValueError(why)) from error
    if len(found) != n_examples:
        raise KshotError(
            f"{path} has {several(len(found), 'example')}, but the task was adapted to {n_examples}; adapt again to "
            "learn from the file as it is: kshot adapt."
        )
    return tuple(found)


def from_pairs(kind: type[E], pairs: Iterable[tuple[Any, Any]]) -> tuple[E, ...]:
    """Makes examples of the values of their first two fields."""
    form = TypeAdapter(kind)
    names = [each.name for each in fields(kind)[:2]]  # type: ignore[arg-type]
    return tuple(form.validate_python(dict(zip(names, pair, strict=True))) for pair in pairs)
