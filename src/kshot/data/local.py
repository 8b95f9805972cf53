"""A user's own file or folder as a data set in three parts."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kshot.data.dataset import PARTS, Dataset, TextDataset, Unit
from kshot.data.examples import TextExample
from kshot.data.normal import normalise
from kshot.data.readers import TABLE_SUFFIXES, read_examples
from kshot.errors import KshotError, did_you_mean

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
    """Loads a file, or a folder with a file for each part, as a data set.

    - A folder has `train`, `valid` (or `dev`, `val`, `validation`) and `test`, each in a format of `read_examples`; one
      may be missing.
    - A file whose rows have a field `part` (or `split`) with these names is split by it.
    - Any other file is split by whole classes, 60/20/20, or by whole tasks for unit ``tasks``, or each class by example
      for unit ``examples``. The split depends on the names (or texts) alone, so it stays when rows are put in another
      order; `Dataset.source` says how it was made.

    Args:
        path: The file or folder.
        unit: What the parts differ in. None decides: ``tasks`` if every row has a task and some class is in several
            tasks; else ``examples`` if the given parts share classes; else ``classes``.

    Raises:
        KshotError: If a file cannot be read, if the folder has no such files, if the parts do not fit the unit, or if
            there are too few classes.
    """
    if path.is_dir():
        examples, made = _read_folder(path), "parts as in the folder"
    else:
        examples, made = _read_file(path), "parts as in the file"
    unit_found = unit or _unit_of(examples)
    if any(not example.part for example in examples):
        examples, made = _split(path, examples, unit_found)
    parts = {name: tuple(example for example in examples if example.part == name) for name in PARTS}
    dataset = TextDataset(
        path.name, parts["train"], parts["valid"], parts["test"], unit_found, source=f"{path}, {made}"
    )
    _refuse_shared(path, dataset)
    return dataset


def _read_file(path: Path) -> list[TextExample]:
    """The examples of a file; all of them with a part, or none."""
    examples = read_examples(path)
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


def _read_folder(path: Path) -> list[TextExample]:
    files: dict[str, Path] = {}
    for each in sorted(path.iterdir()):
        stem, _, rest = each.name.partition(".")
        part = PART_NAMES.get(stem.lower())
        if part is None or f".{rest.lower()}".removesuffix(".gz") not in TABLE_SUFFIXES:
            continue
        if part in files:
            raise KshotError(
                f"{path} has two files for the part {part}, {files[part].name} and {each.name}; take one away."
            )
        files[part] = each
    if "train" not in files and "test" not in files:
        raise KshotError(
            f"{path} has no train, valid or test file ({', '.join(TABLE_SUFFIXES)}); name a file in it, or add these."
        )
    return [replace(example, part=part) for part, file in files.items() for example in read_examples(file)]


def _unit_of(examples: Sequence[TextExample]) -> Unit:
    tasks_of: dict[str, set[str]] = defaultdict(set)
    parts_of: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        tasks_of[example.label].add(example.task)
        parts_of[example.label].add(example.part)
    if all(example.task for example in examples) and any(len(tasks) > 1 for tasks in tasks_of.values()):
        return "tasks"
    return "examples" if any(len(parts) > 1 for parts in parts_of.values()) else "classes"


def _split(path: Path, examples: Sequence[TextExample], unit: Unit) -> tuple[list[TextExample], str]:
    """Gives each example a part, and says how."""
    if unit == "examples":
        parts: dict[str, str] = {}
        texts_of: dict[str, set[str]] = defaultdict(set)
        for example in examples:
            texts_of[example.label].add(normalise(example.text))
        for texts in texts_of.values():
            for text, part in _shares(texts).items():
                parts.setdefault(text, part)  # a text under two labels must not go to two parts
        return [
            replace(each, part=parts[normalise(each.text)]) for each in examples
        ], "each class split 60/20/20 by example"
    what, plural = ("task", "tasks") if unit == "tasks" else ("class", "classes")
    names = {example.task if unit == "tasks" else example.label for example in examples}
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
    return [replace(each, part=shares[each.task if unit == "tasks" else each.label]) for each in examples], made


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
    what = "class" if dataset.unit == "classes" else "task"
    seen: dict[str, str] = {}
    for part in PARTS:
        for example in getattr(dataset, part):
            name = example.label if dataset.unit == "classes" else example.task
            if seen.setdefault(name, part) != part:
                raise KshotError(
                    f'{path}: the {what} "{name}" is in both {seen[name]} and {part}, and for unit "{dataset.unit}" it '
                    "may be in one part only; move its rows to one part."
                )
