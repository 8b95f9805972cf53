"""A user's own file or folder as a data set in three parts."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from kshot.data.checks import Finding, check, check_splits, worst_first
from kshot.data.dataset import (
    PARTS,
    Dataset,
    PairDataset,
    ReplyDataset,
    TaggedDataset,
    TextDataset,
    Unit,
    UtteranceDataset,
)
from kshot.data.examples import Example, Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.files import TABLE_SUFFIXES, found_at, suffix_of
from kshot.data.normal import normalise
from kshot.data.pairs import is_pairs, read_pairs
from kshot.data.readers import read_examples
from kshot.data.replies import is_replies, read_replies, with_candidates
from kshot.data.tagged import COLUMN_SUFFIXES, is_tagged, read_tagged
from kshot.data.utterances import is_utterances, read_utterances
from kshot.errors import KshotError, did_you_mean

E = TypeVar("E", TextExample, TaggedExample, SentencePair, Utterance, Reply)
D = TypeVar("D", bound=Dataset)

Parts: TypeAlias = Mapping[str, Sequence[E]]
"""Examples by part; all of them under an empty name if nothing says which part they are of."""

PART_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
"""What files and fields call the parts."""

TRAIN_SHARE, VALID_SHARE = 0.6, 0.2

MIN_PER_PART = 2
"""An episode has two classes at least."""


def load_path(path: Path, unit: Unit | None = None) -> Dataset:
    """Loads a file, or a folder with a file for each part: texts, tagged sentences, sentence pairs, turns or dialogues.

    - A folder has `train`, `valid` (or `dev`, `val`, `validation`) and `test`, each in a format of `read_examples`, of
      `read_tagged`, of `read_pairs`, of `read_utterances` or of `read_replies`; one may be missing. Rows may have a
      field `part` (or `split`) of their own, with these names: see `Dataset.pools`.
    - A file whose rows have that field is split by it.
    - Any other file is split by whole classes, 60/20/20, or by whole tasks for unit ``tasks``, or each class by example
      for unit ``examples``. Tagged sentences, sentence pairs and utterances are split by whole tasks where they have
      several, or else one by one. The split depends on the names (or texts) alone, so it stays when rows are put in
      another order; `Dataset.source` says how it was made.

    Args:
        path: The file or folder.
        unit: What the parts differ in. None decides: ``tasks`` if every row has a task and some class is in several
            tasks (of tagged sentences: if there are several tasks); else ``examples`` if the given parts share classes,
            or if tagged sentences have no parts; else ``classes``.

    Raises:
        KshotError: If a file cannot be read, if the folder has no such files or some of texts and some of tagged
            sentences, if the parts do not fit the unit, or if there are too few classes.
    """
    kind, parts = _read_own(path)
    dataset = kind.dataset(path, parts, unit)
    _refuse_shared(path, dataset)
    return dataset


def check_path(path: Path) -> tuple[list[Any], list[Finding]]:
    """Finds what may be wrong with a file or folder that `load_path` takes, or whose examples can be learned.

    Returns:
        Its examples, and what `check` finds in them, worst first; what `check_splits` finds, too, if rows or files say
        their parts.

    Raises:
        KshotError: If it cannot be read, or is of several parts that are no data set.
    """
    kind, parts = _read_own(path)
    examples = _all(parts)
    if "" in parts:
        return examples, check(examples)
    dataset = kind.dataset(path, parts, None)  # what parts share is a finding here
    return examples, worst_first([*check(examples, tasks=dataset.unit == "tasks"), *check_splits(dataset)])


def _read_own(path: Path) -> tuple["_Kind", dict[str, list[Any]]]:
    """What a file or folder holds, by part; all of it under an empty name if nothing says which part a row is of."""
    files = _files(path) if found_at(path) == "folder" else {"": path}
    kind, kept = next(
        (kind, kept) for kind in _KINDS if (kept := [file for file in files.values() if kind.is_in(file)])
    )
    if other := [file for file in files.values() if file not in kept]:
        raise KshotError(
            f"{path} has {kind.what} in {kept[0].name} and none in {other[0].name}; {kind.way_out}, or take it away."
        )
    return kind, _by_part(files, kind.read)


def _by_part(files: Mapping[str, Path], read: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    found = {part: _with_parts(file, read(file)) for part, file in files.items()}
    if "" in found:  # one file, whose rows say their parts, or nothing does
        return found if not found[""][0].part else _grouped(found[""])
    return {
        part: [each if each.part else replace(each, part=part) for each in examples] for part, examples in found.items()
    }


def _grouped(examples: Iterable[E]) -> dict[str, list[E]]:
    """Examples by their own parts."""
    parts: dict[str, list[E]] = {part: [] for part in PARTS}
    for each in examples:
        parts[each.part].append(each)
    return parts


def _text_dataset(path: Path, parts: Parts[TextExample], unit: Unit | None) -> TextDataset:
    return _in_parts(TextDataset, path, parts, unit or _unit_of(parts))


def _tagged_dataset(path: Path, parts: Parts[TaggedExample], unit: Unit | None) -> TaggedDataset:
    found = unit or _unit_of_tagged(parts)
    if found == "classes" and "" in parts:
        raise KshotError(
            f"{path} cannot be split by type, because a sentence may show several; give each row a part (train, "
            'valid or test), give a folder with a file for each, or use unit "examples".'
        )
    return _in_parts(TaggedDataset, path, parts, found)


def _pair_dataset(path: Path, parts: Parts[SentencePair], unit: Unit | None) -> PairDataset:
    return _in_parts(
        PairDataset, path, parts, _unit_by_task(path, parts, unit, "sentence pairs, which are of no class")
    )


def _utterance_dataset(path: Path, parts: Parts[Utterance], unit: Unit | None) -> UtteranceDataset:
    return _in_parts(UtteranceDataset, path, parts, _unit_by_task(path, parts, unit, "turns, each of several classes"))


def _reply_dataset(path: Path, parts: Parts[Reply], unit: Unit | None) -> ReplyDataset:
    """Whole persons in each part; those that are chosen or judged by have candidates for each of their replies."""
    if unit not in (None, "tasks") or any(not each.task for each in _all(parts)):
        raise KshotError(
            f'{path} has dialogues, which are split by whole persons; give each a task, the name of who "system" is, '
            'and leave unit out or make it "tasks".'
        )
    dataset = _in_parts(ReplyDataset, path, parts, "tasks")
    return replace(dataset, valid=with_candidates(dataset.valid), test=with_candidates(dataset.test))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a file may hold.

    Attributes:
        what: What that is called.
        way_out: What to do with a file of a folder that holds something else.
        is_in: Whether it is what a file holds.
        read: Reads it.
        dataset: Makes a data set of a path's examples by part.
    """

    what: str
    way_out: str
    is_in: Callable[[Path], bool]
    read: Callable[[Path], list[Any]]
    dataset: Callable[[Path, Parts[Any], Unit | None], Dataset]


_KINDS = (
    _Kind("sentence pairs", "give that one a source and a target", is_pairs, read_pairs, _pair_dataset),
    _Kind(
        "turns with slots",
        "give those of that one an intent and slots",
        is_utterances,
        read_utterances,
        _utterance_dataset,
    ),
    _Kind("dialogues", "give that one turns", is_replies, read_replies, _reply_dataset),
    _Kind("tagged sentences", "tag that one, too", is_tagged, read_tagged, _tagged_dataset),
    _Kind("labelled texts", "label those of that one", lambda _: True, read_examples, _text_dataset),
)
"""In the order in which a file is asked what it holds; what nothing else is, is labelled texts."""


def _in_parts(kind: Callable[..., D], path: Path, parts: Parts[E], unit: Unit) -> D:
    """A data set of examples, which are split if they have no parts."""
    made = f"parts as in the {'folder' if path.is_dir() else 'file'}"
    if "" in parts:
        examples, made = _split(path, parts[""], unit)
        parts = _grouped(examples)
    train, valid, test = (tuple(parts.get(name, ())) for name in PARTS)
    return kind(path.name, train, valid, test, unit, source=f"{path}, {made}")


def _all(parts: Parts[E]) -> list[E]:
    return [each for examples in parts.values() for each in examples]


def _with_parts(path: Path, examples: list[E]) -> list[E]:
    """The examples of a file with the names of parts that this library uses."""
    named = {example.part for example in examples}
    if named == {""}:
        return examples
    if unknown := sorted(name for name in named if name.lower() not in PART_NAMES):
        what = f'"{unknown[0]}"' if unknown[0] else "empty"
        raise KshotError(
            f"{path}: the part of a row is {what}, but has to be train, valid or test in every row or be missing in "
            "all." + did_you_mean(unknown[0], PART_NAMES)
        )
    return [replace(example, part=PART_NAMES[example.part.lower()]) for example in examples]


def _files(path: Path) -> dict[str, Path]:
    """The file of each part in a folder."""
    files: dict[str, Path] = {}
    for each in sorted(path.iterdir()):
        stem, _, rest = each.name.partition(".")
        part = PART_NAMES.get(stem.lower())
        if part is None or not _is_data(each, f".{rest.lower()}".removesuffix(".gz")):
            continue
        if part in files:
            raise KshotError(
                f"{path} has two files for the part {part}, {files[part].name} and {each.name}; take one away."
            )
        files[part] = each
    if "train" not in files and "test" not in files:
        raise KshotError(
            f"{path} has no train, valid or test file ({', '.join((*TABLE_SUFFIXES, *COLUMN_SUFFIXES))}); name a file "
            "in it, or add these."
        )
    return files


def _is_data(file: Path, suffix: str) -> bool:
    """Whether a file may be a part; plain text is, where entities are marked in it."""
    if suffix != suffix_of(file):
        return False  # train.old.jsonl
    return suffix in (*TABLE_SUFFIXES, *COLUMN_SUFFIXES) or (suffix == ".txt" and is_tagged(file))


def _unit_of(parts: Parts[TextExample]) -> Unit:
    examples, tasks_of = _all(parts), defaultdict[str, set[str]](set)
    for example in examples:
        tasks_of[example.label].add(example.task)
    if all(example.task for example in examples) and any(len(tasks) > 1 for tasks in tasks_of.values()):
        return "tasks"
    return "examples" if _share_classes(parts) else "classes"


def _unit_of_tagged(parts: Parts[TaggedExample]) -> Unit:
    if _has_tasks(parts):
        return "tasks"
    return "examples" if "" in parts or _share_classes(parts) else "classes"


def _unit_by_task(path: Path, parts: Parts[Any], unit: Unit | None, what: str) -> Unit:
    """Whole tasks in each part where there are several, or else a split one by one."""
    if unit == "classes":
        raise KshotError(f'{path} has {what}; use unit "tasks" or "examples".')
    return unit or ("tasks" if _has_tasks(parts) else "examples")


def _has_tasks(parts: Parts[Any]) -> bool:
    """Whether there are several tasks, and every row is of one."""
    tasks = {example.task for example in _all(parts)}
    return len(tasks) > 1 and "" not in tasks


def _share_classes(parts: Parts[Any]) -> bool:
    classes = [{label for example in examples for label in example.labels} for examples in parts.values()]
    return sum(map(len, classes)) > len(set().union(*classes))


def _split(path: Path, examples: Sequence[E], unit: Unit) -> tuple[list[E], str]:
    """Gives each example a part, and says how."""
    if unit == "examples":
        parts: dict[str, str] = {}
        texts_of: dict[str, set[str]] = defaultdict(set)
        for example in examples:
            texts_of[_group_of(example)].add(normalise(example.text))
        for texts in texts_of.values():
            for text, part in _shares(texts).items():
                parts.setdefault(text, part)  # a text under two labels must not go to two parts
        made = "each class split 60/20/20 by example" if "" not in texts_of else "split 60/20/20 by sentence"
        return [replace(each, part=parts[normalise(each.text)]) for each in examples], made
    what, plural = ("task", "tasks") if unit == "tasks" else ("class", "classes")
    names = {example.task if unit == "tasks" else _group_of(example) for example in examples}
    shares = _shares(names)
    counts = [sum(1 for part in shares.values() if part == name) for name in PARTS]
    least = 1 if unit == "tasks" else MIN_PER_PART
    if min(counts) < least:
        raise KshotError(
            f"{path} has {len(names)} {what if len(names) == 1 else plural}, too few to split into train, valid and "
            "test "
            f"by {what} ({3 * least} are needed); add {plural}, give each row a part (train, valid or test), or give a "
            "folder with a file for each."
        )
    made = f"split by {what} 60/20/20 ({counts[0]} train, {counts[1]} valid, {counts[2]} test {plural})"
    return [replace(each, part=shares[each.task if unit == "tasks" else _group_of(each)]) for each in examples], made


def _group_of(example: Example) -> str:
    """What is split as one: a class; all sentences alike, because one may show several types, or none."""
    return example.label if isinstance(example, TextExample) else ""


def _shares(names: set[str]) -> dict[str, str]:
    """Shares names out among the parts, in the order of their SHA-256: like chance, and the same everywhere."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    n_other = max(round(VALID_SHARE * len(order)), min(MIN_PER_PART, len(order) // 3))
    n_train = max(len(order) - 2 * n_other, 0)
    return {
        name: "train" if i < n_train else "valid" if i < n_train + n_other else "test" for i, name in enumerate(order)
    }


def _refuse_shared(path: Path, dataset: Dataset) -> None:
    """Refuses parts that share what they must not share."""
    if dataset.unit == "examples":
        return
    kind = "type" if isinstance(dataset, TaggedDataset) else "class"
    what = kind if dataset.unit == "classes" else "task"
    seen: dict[str, str] = {}
    for part in PARTS:
        for example in getattr(dataset, part):
            for name in example.labels if dataset.unit == "classes" else (example.task,):
                if seen.setdefault(name, part) != part:
                    raise KshotError(
                        f'{path}: the {what} "{name}" is in both {seen[name]} and {part}, and for unit '
                        f'"{dataset.unit}" it may be in one part only; move its rows to one part.'
                    )
