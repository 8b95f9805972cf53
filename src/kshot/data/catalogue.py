"""Data sets by name: where they are, what they are, and how they are split."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from kshot.cache import cache_folder
from kshot.data.dataset import PARTS, Dataset, ReplyDataset, TaggedDataset, Unit
from kshot.data.download import Fetch, download, fetch_url
from kshot.data.entries import AND_SYNTHETIC, CATALOGUE, PERSONS, Entry
from kshot.data.examples import TaggedExample
from kshot.data.files import found_at
from kshot.data.loaders import LOADERS
from kshot.data.loaders.replies import in_lower_case
from kshot.data.local import load_path
from kshot.data.verified import find_file, verify
from kshot.errors import KshotError, did_you_mean

ENVIRONMENT_VARIABLE = "KSHOT_DATA"
"""Names a folder that has a folder for each data set."""

BELOW = ("text", "ner", "translation", "dialogue", ".")
"""The folders of a folder of data sets in which they may lie."""

COMPOSITE = "ner_domains"
"""The data set that is made of others."""

DOMAINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("conll2003", "wikigold", "wnut17", "gum", "crossner/politics"),
        "valid": ("crossner/literature",),
        "test": ("sec_filings", "bc5cdr", "anem", "crossner/science", "crossner/music"),
    }
)
"""The domains of its parts."""

SYNTHETIC = "synthetic_persona_chat"
"""The data set that gives `personachat` more persons to train on."""


def list_datasets(data_dir: Path | None = None) -> list[Entry]:
    """Returns the known data sets, each with the folder where it is on this machine.

    Args:
        data_dir: A folder to look in before the usual ones.
    """
    return [replace(entry, found=_find(entry, data_dir)) for entry in CATALOGUE.values()]


def load_dataset(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    unit: Unit | None = None,
    fetch: Fetch = fetch_url,
) -> Dataset:
    """Loads a known data set by name, or a file or folder of one's own.

    A known data set is looked for in `data_dir`; in the folder that KSHOT_DATA names; in `shared/data` in and beside
    the current folder and the repository; in the user's cache. If it is nowhere, it is downloaded into the cache where
    its licence allows that.

    Args:
        name_or_path: A name of `CATALOGUE`, or a path; see `load_path` for how files are split.
        split: The split of a known data set; None takes its first.
        data_dir: The folder that has a folder for each data set (or folders `text`, `ner`, `translation` and
            `dialogue` with them); no other is looked into.
        unit: For a path, what the parts differ in; None decides.
        fetch: How a download gets an address.

    Raises:
        KshotError: If there is no such data set, file or split, or if a data set is not on this machine and cannot be
            downloaded, or is not the one that the name stands for.
    """
    name = str(name_or_path)
    if name not in CATALOGUE or isinstance(name_or_path, Path):
        return _load_own(name_or_path, split, unit)
    entry = CATALOGUE[name]
    if unit is not None and unit != entry.unit:
        raise KshotError(f'The unit of the data set "{name}" is "{entry.unit}", not "{unit}"; leave unit out.')
    chosen = entry.splits[0] if split is None else split
    if chosen not in entry.splits:
        raise KshotError(
            f'The data set "{name}" has no split "{chosen}"; its splits are {", ".join(entry.splits)}.'
            + did_you_mean(chosen, entry.splits)
        )
    if name == COMPOSITE:
        return _load_domains(entry, chosen, data_dir, fetch)
    if chosen == AND_SYNTHETIC:
        return _load_with_synthetic(entry, data_dir, fetch)
    return LOADERS[name](_folder_of(entry, data_dir, fetch), entry, chosen)


def _load_own(name_or_path: str | Path, split: str | None, unit: Unit | None) -> Dataset:
    path = Path(name_or_path)
    if found_at(path) is None:
        if path.suffix or len(path.parts) > 1 or isinstance(name_or_path, Path):
            raise KshotError(f"There is no file or folder {path}; check the path.")
        raise KshotError(
            f'There is no data set "{path}", and no file or folder of that name; the data sets are '
            f"{', '.join(CATALOGUE)}." + did_you_mean(str(path), CATALOGUE)
        )
    if split is not None:
        raise KshotError(
            f'{path} has no split "{split}", because only known data sets have splits by name; leave split out.'
        )
    return load_path(path, unit)


def _load_domains(entry: Entry, split: str, data_dir: Path | None, fetch: Fetch) -> TaggedDataset:
    """Each domain is a task: its train sentences to learn from; of a new domain its test sentences to be judged by."""
    parts: dict[str, list[TaggedExample]] = {part: [] for part in PARTS}
    for part, domains in DOMAINS.items():
        for domain in domains:
            name, _, own = domain.partition("/")
            found = load_dataset(name, split=own or None, data_dir=data_dir, fetch=fetch)
            for of in ("train",) if part == "train" else ("train", "test"):
                parts[part] += [replace(each, task=domain) for each in found.part(of)]
    made = {part: tuple(sentences) for part, sentences in parts.items()}
    return entry.dataset(TaggedDataset, split, made)


def _load_with_synthetic(entry: Entry, data_dir: Path | None, fetch: Fetch) -> ReplyDataset:
    """More persons to train on, their turns spelled as those of Persona-Chat are."""
    own, more = (load_dataset(name, split=PERSONS, data_dir=data_dir, fetch=fetch) for name in (entry.name, SYNTHETIC))
    assert isinstance(own, ReplyDataset)
    assert isinstance(more, ReplyDataset)
    return replace(
        own,
        name=f"{entry.name}/{AND_SYNTHETIC}",
        train=own.train + tuple(in_lower_case(each) for each in more.train),
        licence=f"{own.licence}; {SYNTHETIC}: {more.licence}",
        source=f"{own.source}; {more.source}",
        personas={**own.personas, **more.personas},
    )


def data_folders(data_dir: Path | None = None) -> list[Path]:
    """Returns the folders that data sets are looked for in, in order; `data_dir` alone if it is given."""
    if data_dir is not None:
        return [Path(data_dir)]
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    package = Path(__file__).resolve()
    repository = [parent for parent in package.parents if (parent / "pyproject.toml").is_file()][:1]
    beside = [Path.cwd(), *repository]
    shared = [folder / "shared" / "data" for base in beside for folder in (base, base.parent)]
    return [*([Path(variable).expanduser()] if variable else []), *shared, cache_folder("data")]


def _find(entry: Entry, data_dir: Path | None) -> Path | None:
    if entry.name == "starter":
        return Path(__file__).parent / "starter"
    if entry.name == COMPOSITE:
        parts = [
            _find(CATALOGUE[name], data_dir)
            for name in dict.fromkeys(domain.partition("/")[0] for domain in _domains())
        ]
        return parts[0].parent if parts and all(parts) and parts[0] is not None else None
    candidates = [folder / below / entry.name for folder in data_folders(data_dir) for below in BELOW]
    return next((folder for folder in candidates if find_file(folder, entry.first_file).is_file()), None)


def _domains() -> list[str]:
    return [domain for domains in DOMAINS.values() for domain in domains]


def _folder_of(entry: Entry, data_dir: Path | None, fetch: Fetch) -> Path:
    """Finds the folder of a data set, or makes it by a download."""
    found = _find(entry, data_dir)
    if found is not None:
        return found
    if data_dir is not None:
        raise KshotError(
            f'{data_dir} has no data set "{entry.name}" (no {entry.name}/{entry.first_file} or {entry.first_file}.gz); '
            "name the folder that has a folder for each data set, or leave data_dir out."
        )
    if not entry.can_be_downloaded:
        raise KshotError(
            f'The data set "{entry.name}" is in none of {", ".join(map(str, data_folders()))}, and kshot does not '
            f'download it; it comes from {entry.source} (licence: {entry.licence}): put it in a folder "{entry.name}" '
            f"({entry.files}) and set {ENVIRONMENT_VARIABLE} to the folder above it."
        )
    target = cache_folder("data") / entry.name
    download(entry.name, target, verify=lambda folder: verify(entry, folder), fetch=fetch)
    return target
