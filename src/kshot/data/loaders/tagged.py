"""Sentences whose entities are tagged."""

from collections.abc import Iterable
from pathlib import Path

from kshot.data.dataset import PARTS, TaggedDataset
from kshot.data.entries import Entry
from kshot.data.examples import TaggedExample
from kshot.data.verified import Fields, strings, verified_rows, verified_split


def load_tagged(folder: Path, entry: Entry, split: str) -> TaggedDataset:
    """Sentences in `train`, `valid` and `test`; those of crossner in a folder for each split, which is a domain."""
    below = f"{split}/" if len(entry.splits) > 1 else ""
    parts = {part: _sentences(verified_rows(entry, folder, f"{below}{part}.jsonl"), part) for part in PARTS}
    if "splits/types.json" in entry.checksums:
        verified_split(entry, folder, "types")
    return entry.dataset(TaggedDataset, split, parts)


def _sentences(rows: Iterable[Fields], part: str) -> tuple[TaggedExample, ...]:
    return tuple(TaggedExample(strings(row["tokens"]), strings(row["tags"]), part=part) for row in rows)
