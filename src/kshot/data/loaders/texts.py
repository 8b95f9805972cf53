"""Texts and their labels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from kshot.data.dataset import PARTS, Dataset, TextDataset
from kshot.data.entries import Entry
from kshot.data.examples import TextExample
from kshot.data.readers import read_rows
from kshot.data.verified import Fields, strings, verified_rows, verified_split

FIRST_DOMAIN = "wiki"
"""The domain of FewRel 1.0."""


def _load_starter(folder: Path, entry: Entry, split: str) -> Dataset:
    rows = [row.fields for row in read_rows(folder / "starter.jsonl")]
    return entry.dataset(
        TextDataset,
        split,
        {part: _examples((row for row in rows if row["part"] == part), task="domain") for part in PARTS},
    )


def _load_clinc150(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", verified_rows(entry, folder, "all.jsonl"), verified_split(entry, folder, split))
    out_of_scope = _examples(verified_rows(entry, folder, "oos.jsonl"), task="domain", part="split")
    return entry.dataset(
        TextDataset,
        split,
        {part: _examples(rows, task="domain", part="split") for part, rows in parts.items()},
        out_of_scope,
    )


def _load_hwu64(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", verified_rows(entry, folder, "all.jsonl"), verified_split(entry, folder, split))
    return entry.dataset(TextDataset, split, {part: _examples(rows, task="domain") for part, rows in parts.items()})


def _load_huffpost(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", verified_rows(entry, folder, "all.jsonl"), verified_split(entry, folder, split))
    return entry.dataset(TextDataset, split, {part: _examples(rows) for part, rows in parts.items()})


def _load_amazon_sentiment(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("task", verified_rows(entry, folder, "all.jsonl"), verified_split(entry, folder, split))
    return entry.dataset(
        TextDataset, split, {part: _examples(rows, task="task", part="split") for part, rows in parts.items()}
    )


def _load_sst2(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("split", verified_rows(entry, folder, "all.jsonl"), {part: [part] for part in PARTS})
    return entry.dataset(TextDataset, split, {part: _examples(rows, part="split") for part, rows in parts.items()})


def _load_fewrel(folder: Path, entry: Entry, split: str) -> Dataset:
    """`wiki` splits the relations of one domain; `domains` trains on one domain and tests on another."""
    labels = verified_split(entry, folder, split)
    rows = [{**row, "text": mark_entities(row)} for row in verified_rows(entry, folder, "all.jsonl")]
    if split == "wiki":
        parts = _by("label", [row for row in rows if row["domain"] == FIRST_DOMAIN], labels)
    else:
        domains = labels["domains"]
        parts = _by("domain", rows, domains if isinstance(domains, dict) else {})
    return entry.dataset(
        TextDataset, split, {part: _examples(each, label="label_name", task="domain") for part, each in parts.items()}
    )


def mark_entities(row: Fields) -> str:
    """Returns the text of a FewRel row with every mention of its entities in square brackets.

    ``Elmore Leonard 's [tail: Pronto] and [head: Riding the Rap]``: the words say which is which, because a relation
    has a direction.
    """
    tokens = str(row["text"]).split(" ")
    for role in ("head", "tail"):
        entity = row[role]
        mentions = entity["pos"] if isinstance(entity, dict) else []
        for positions in mentions:
            tokens[positions[0]] = f"[{role}: {tokens[positions[0]]}"
            tokens[positions[-1]] = f"{tokens[positions[-1]]}]"
    return " ".join(tokens)


def _by(key: str, rows: Sequence[Fields], split: Mapping[str, object]) -> dict[str, list[Fields]]:
    """The rows of each part, where a part is a list of values of a field."""
    part_of = {name: part for part in PARTS for name in strings(split[part])}
    parts: dict[str, list[Fields]] = {part: [] for part in PARTS}
    for row in rows:
        part = part_of.get(str(row[key]))
        if part is not None:
            parts[part].append(row)
    return parts


def _examples(
    rows: Iterable[Fields], *, label: str = "label", task: str = "", part: str = ""
) -> tuple[TextExample, ...]:
    return tuple(
        TextExample(
            str(row["text"]),
            str(row[label]),
            str(row[task] or "") if task else "",
            str(row[part] or "") if part else "",
        )
        for row in rows
    )


TEXT_LOADERS: Mapping[str, Callable[[Path, Entry, str], Dataset]] = MappingProxyType(
    {
        "starter": _load_starter,
        "clinc150": _load_clinc150,
        "hwu64": _load_hwu64,
        "huffpost": _load_huffpost,
        "amazon_sentiment": _load_amazon_sentiment,
        "sst2": _load_sst2,
        "fewrel": _load_fewrel,
    }
)
"""What loads a data set of texts: its folder, its entry and the name of a split in, its parts out."""
