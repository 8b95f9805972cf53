"""The support of a saved task as JSON Lines: an example a line. `kshot adapt` reads such a file again."""

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kshot.artefact import damaged
from kshot.data.examples import Example
from kshot.errors import KshotError, several

E = TypeVar("E", bound=Example)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a line for each row."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path, of_row: Callable[[dict[str, Any]], E], n_examples: int) -> tuple[E, ...]:
    """Reads examples.

    Args:
        path: The file.
        of_row: Makes an example of a line.
        n_examples: How many the task was adapted to.

    Raises:
        KshotError: If the file is missing or damaged, or has examples that the task was not adapted to.
    """
    if not path.is_file():
        raise KshotError(f"{path} is missing: the folder is not complete; restore it from a copy or make it again.")
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):  # not splitlines, which also splits inside a text
        if line.strip():
            try:
                found.append(of_row(json.loads(line)))
            except ValidationError as error:
                raise damaged(path, ValueError(f"line {number}: {_first_problem(error)}")) from error
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, ValueError(f"line {number}: {error}")) from error
    if len(found) != n_examples:
        raise KshotError(
            f"{path} has {several(len(found), 'example')}, but the task was adapted to {n_examples}; adapt again to "
            "learn from the file as it is: kshot adapt."
        )
    return tuple(found)


# -- examples as rows --------------------------------------------------------------------------------------------------


@cache
def _form_of(kind: type[E]) -> TypeAdapter[E]:
    return TypeAdapter(kind)


def as_row(example: Example) -> dict[str, Any]:
    """The fields of an example; what is empty is left out."""
    row: dict[str, Any] = _form_of(type(example)).dump_python(example, mode="json", exclude_defaults=True)
    return row


def from_row(kind: type[E], row: dict[str, Any]) -> E:
    """The example that has these fields.

    Raises:
        ValidationError: If they are not those of the kind.
    """
    found: E = _form_of(kind).validate_python(row)
    return found


def from_pair(kind: type[E], pair: tuple[Any, Any]) -> E:
    """The example whose first two fields have these values."""
    names = [each.name for each in fields(kind)[:2]]  # type: ignore[arg-type]
    return from_row(kind, dict(zip(names, pair, strict=True)))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
