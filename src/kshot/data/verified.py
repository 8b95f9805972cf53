"""Files of known data sets, taken only if their checksums are those of the catalogue."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from kshot.data.download import content_digest
from kshot.data.entries import Entry
from kshot.data.readers import read_rows
from kshot.errors import KshotError

Fields = Mapping[str, object]
"""A row of a data set as it is stored."""


def find_file(folder: Path, name: str) -> Path:
    """Returns where a file of a data set is, which may be compressed."""
    compressed = folder / f"{name}.gz"
    return compressed if compressed.is_file() else folder / name


def verify(entry: Entry, folder: Path) -> None:
    """Reads all files of a data set.

    Raises:
        KshotError: If one cannot be read, or is not the one that the catalogue knows.
    """
    for name in entry.checksums:
        if name.endswith(".jsonl"):
            verified_rows(entry, folder, name)
        else:
            verified_split(entry, folder, Path(name).stem)


def verified_rows(entry: Entry, folder: Path, name: str) -> list[Fields]:
    """Returns the rows of a file.

    Their order does not depend on the file's, so that the number of an episode means the same everywhere.

    Raises:
        KshotError: If it cannot be read, or is not the one that the catalogue knows.
    """
    path = find_file(folder, name)
    rows = [row.fields for row in read_rows(path)]
    _compare(entry, path, name, content_digest(rows))
    return sorted(rows, key=lambda row: json.dumps(row, ensure_ascii=False, sort_keys=True))


def verified_split(entry: Entry, folder: Path, split: str) -> dict[str, object]:
    """Returns a file of `splits/`.

    Raises:
        KshotError: If it cannot be read, or is not the one that the catalogue knows.
    """
    path = folder / "splits" / f"{split}.json"
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KshotError(
            f'The split "{split}" of the data set "{entry.name}" cannot be read ({error}); get the folder again.'
        ) from error
    _compare(entry, path, f"splits/{split}.json", split_digest(content))
    parts: dict[str, object] = content
    return parts


def split_digest(split: object) -> str:
    """Returns the SHA-256 of a split, whatever the order of its labels."""
    return hashlib.sha256(json.dumps(_sorted_lists(split), ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def strings(value: object) -> tuple[str, ...]:
    """Returns a list of a row or a split as texts; nothing, if it is no list."""
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _sorted_lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted_lists(each) for key, each in value.items()}
    return sorted(value, key=str) if isinstance(value, list) else value


def _compare(entry: Entry, path: Path, name: str, digest: str) -> None:
    if digest != entry.checksums[name]:
        raise KshotError(
            f'{path} is not the "{entry.name}" that kshot knows (its checksum is {digest[:12]}…, not '
            f"{entry.checksums[name][:12]}…); "
            "get it again, or load a changed copy by its path."
        )
