"""Data sets by name: where they are, what they are, and how they are split."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

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
from kshot.data.dialogue import SPEAKERS, USER, Turn, speaker_of
from kshot.data.download import Fetch, content_digest, download, fetch_url
from kshot.data.entries import AND_SYNTHETIC, CATALOGUE, INTO_ENGLISH, PERSONS, Entry
from kshot.data.examples import Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.local import load_path
from kshot.data.readers import read_rows
from kshot.data.replies import replies_of, with_candidates
from kshot.data.tags import Span, spans_of
from kshot.data.words import split_words
from kshot.errors import KshotError, did_you_mean

Fields = Mapping[str, object]
"""A row of a data set as it is stored."""

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

FIRST_DOMAIN = "wiki"
"""The domain of FewRel 1.0."""


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
    return _LOADERS[name](_folder_of(entry, data_dir, fetch), entry, chosen)


def _load_own(name_or_path: str | Path, split: str | None, unit: Unit | None) -> Dataset:
    path = Path(name_or_path)
    if not path.exists():
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


def cache_folder() -> Path:
    """Returns the folder where downloaded data sets are kept: `kshot/data` in XDG_CACHE_HOME or `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "kshot" / "data"


def data_folders(data_dir: Path | None = None) -> list[Path]:
    """Returns the folders that data sets are looked for in, in order; `data_dir` alone if it is given."""
    if data_dir is not None:
        return [Path(data_dir)]
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    package = Path(__file__).resolve()
    repository = [parent for parent in package.parents if (parent / "pyproject.toml").is_file()][:1]
    beside = [Path.cwd(), *repository]
    shared = [folder / "shared" / "data" for base in beside for folder in (base, base.parent)]
    return [*([Path(variable).expanduser()] if variable else []), *shared, cache_folder()]


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
    return next((folder for folder in candidates if _file(folder, entry.first_file).is_file()), None)


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
    target = cache_folder() / entry.name
    download(entry.name, target, verify=lambda folder: _verify_all(entry, folder), fetch=fetch)
    return target


def _file(folder: Path, name: str) -> Path:
    """A file of a data set, which may be compressed."""
    compressed = folder / f"{name}.gz"
    return compressed if compressed.is_file() else folder / name


def _verify_all(entry: Entry, folder: Path) -> None:
    for name in entry.checksums:
        if name.endswith(".jsonl"):
            _rows(entry, folder, name)
        else:
            _split(entry, folder, Path(name).stem)


def _rows(entry: Entry, folder: Path, name: str) -> list[Fields]:
    """The verified rows of a file.

    Their order does not depend on the file's, so that the number of an episode means the same everywhere.
    """
    path = _file(folder, name)
    rows = [row.fields for row in read_rows(path)]
    _compare(entry, path, name, content_digest(rows))
    return sorted(rows, key=lambda row: json.dumps(row, ensure_ascii=False, sort_keys=True))


def _split(entry: Entry, folder: Path, split: str) -> dict[str, object]:
    """A verified file of `splits/`."""
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


def _optional(row: Fields, key: str) -> str:
    return str(row[key] or "") if key else ""


def _dataset(
    entry: Entry,
    split: str,
    parts: Mapping[str, tuple[TextExample, ...]],
    out_of_scope: tuple[TextExample, ...] = (),
) -> TextDataset:
    return TextDataset(
        f"{entry.name}/{split}",
        parts["train"],
        parts["valid"],
        parts["test"],
        entry.unit,
        entry.licence,
        entry.source,
        out_of_scope,
    )


def _by(key: str, rows: Sequence[Fields], split: Mapping[str, object]) -> dict[str, list[Fields]]:
    """The rows of each part, where a part is a list of values of a field."""
    part_of = {name: part for part in PARTS for name in _names(split[part])}
    parts: dict[str, list[Fields]] = {part: [] for part in PARTS}
    for row in rows:
        part = part_of.get(str(row[key]))
        if part is not None:
            parts[part].append(row)
    return parts


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _load_starter(folder: Path, entry: Entry, split: str) -> Dataset:
    rows = [row.fields for row in read_rows(folder / "starter.jsonl")]
    return _dataset(
        entry, split, {part: _examples((row for row in rows if row["part"] == part), task="domain") for part in PARTS}
    )


def _load_clinc150(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", _rows(entry, folder, "all.jsonl"), _split(entry, folder, split))
    out_of_scope = _examples(_rows(entry, folder, "oos.jsonl"), task="domain", part="split")
    return _dataset(
        entry, split, {part: _examples(rows, task="domain", part="split") for part, rows in parts.items()}, out_of_scope
    )


def _load_hwu64(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", _rows(entry, folder, "all.jsonl"), _split(entry, folder, split))
    return _dataset(entry, split, {part: _examples(rows, task="domain") for part, rows in parts.items()})


def _load_huffpost(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("label", _rows(entry, folder, "all.jsonl"), _split(entry, folder, split))
    return _dataset(entry, split, {part: _examples(rows) for part, rows in parts.items()})


def _load_amazon_sentiment(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("task", _rows(entry, folder, "all.jsonl"), _split(entry, folder, split))
    return _dataset(entry, split, {part: _examples(rows, task="task", part="split") for part, rows in parts.items()})


def _load_sst2(folder: Path, entry: Entry, split: str) -> Dataset:
    parts = _by("split", _rows(entry, folder, "all.jsonl"), {part: [part] for part in PARTS})
    return _dataset(entry, split, {part: _examples(rows, part="split") for part, rows in parts.items()})


def _load_fewrel(folder: Path, entry: Entry, split: str) -> Dataset:
    """`wiki` splits the relations of one domain; `domains` trains on one domain and tests on another."""
    labels = _split(entry, folder, split)
    rows = [{**row, "text": mark_entities(row)} for row in _rows(entry, folder, "all.jsonl")]
    if split == "wiki":
        parts = _by("label", [row for row in rows if row["domain"] == FIRST_DOMAIN], labels)
    else:
        domains = labels["domains"]
        parts = _by("domain", rows, domains if isinstance(domains, dict) else {})
    return _dataset(
        entry, split, {part: _examples(each, label="label_name", task="domain") for part, each in parts.items()}
    )


def _load_tagged(folder: Path, entry: Entry, split: str) -> TaggedDataset:
    """Sentences in `train`, `valid` and `test`; those of crossner in a folder for each split, which is a domain."""
    below = f"{split}/" if len(entry.splits) > 1 else ""
    parts = {part: _sentences(_rows(entry, folder, f"{below}{part}.jsonl"), part=part) for part in PARTS}
    if "splits/types.json" in entry.checksums:
        _split(entry, folder, "types")
    return TaggedDataset(
        f"{entry.name}/{split}", parts["train"], parts["valid"], parts["test"], entry.unit, entry.licence, entry.source
    )


def _load_pairs(folder: Path, entry: Entry, split: str) -> PairDataset:
    """Each pair of languages is a task, from or into English, the other side of all of them.

    The meta-training tasks have their train rows alone; of a new pair those of its train part are to learn from, and
    those of valid or test to be judged by.
    """
    languages = _split(entry, folder, "pairs")
    parts: dict[str, tuple[SentencePair, ...]] = {}
    for part in PARTS:
        pairs: list[SentencePair] = []
        for name in _names(languages[part]):
            for of in ("train",) if part == "train" else ("train", part):
                for row in _rows(entry, folder, f"{name}/{of}.jsonl"):
                    source, target = str(row["src"]), str(row["tgt"])
                    task = f"{row['src_lang']}-{row['tgt_lang']}"
                    if split == INTO_ENGLISH:
                        source, target, task = target, source, f"{row['tgt_lang']}-{row['src_lang']}"
                    pairs.append(SentencePair(source, target, task, of))
        parts[part] = tuple(pairs)
    return PairDataset(
        f"{entry.name}/{split}", parts["train"], parts["valid"], parts["test"], entry.unit, entry.licence, entry.source
    )


def _load_replies(folder: Path, entry: Entry, split: str) -> ReplyDataset:
    """Each person is a task. Those that a learner is chosen or judged by have candidates for each of their replies."""
    parts: dict[str, tuple[Reply, ...]] = {part: () for part in PARTS}
    personas: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        if f"{part}.jsonl" in entry.checksums:
            rows = _rows(entry, folder, f"{part}.jsonl")
            personas |= {str(row["id"]): _texts(row["persona"]) for row in rows}
            found = tuple(reply for row in rows for reply in _replies(row))
            parts[part] = found if part == "train" else with_candidates(found)
    return ReplyDataset(
        f"{entry.name}/{split}",
        parts["train"],
        parts["valid"],
        parts["test"],
        entry.unit,
        entry.licence,
        entry.source,
        personas,
    )


def _replies(row: Fields) -> list[Reply]:
    """The replies of one person in all of their dialogues."""
    dialogues = row["dialogues"]
    assert isinstance(dialogues, list)
    name = str(row["id"])
    return [
        reply
        for number, turns in enumerate(dialogues)
        for reply in replies_of(
            [Turn(speaker_of(each["speaker"], name), str(each["text"])) for each in turns],
            task=name,
            dialogue=str(number),
        )
    ]


def _load_with_synthetic(entry: Entry, data_dir: Path | None, fetch: Fetch) -> ReplyDataset:
    """More persons to train on, their turns spelled as those of Persona-Chat are."""
    own, more = (load_dataset(name, split=PERSONS, data_dir=data_dir, fetch=fetch) for name in (entry.name, SYNTHETIC))
    assert isinstance(own, ReplyDataset)
    assert isinstance(more, ReplyDataset)
    return replace(
        own,
        name=f"{entry.name}/{AND_SYNTHETIC}",
        train=own.train + tuple(_in_lower_case(each) for each in more.train),
        licence=f"{own.licence}; {SYNTHETIC}: {more.licence}",
        source=f"{own.source}; {more.source}",
        personas={**own.personas, **more.personas},
    )


def _in_lower_case(reply: Reply) -> Reply:
    history = tuple(replace(turn, text=spelled_apart(turn.text)) for turn in reply.history)
    return replace(reply, history=history, text=spelled_apart(reply.text))


@lru_cache(maxsize=100_000)
def spelled_apart(text: str) -> str:
    """Spells a text as Persona-Chat is spelled: in lower case, signs apart from the words: `hi ! i'm fine .`."""
    return " ".join(re.sub(r"([.,!?;:()\"])", r" \1 ", text.lower().replace("\u2019", "'")).split())


def _sentences(rows: Iterable[Fields], *, part: str, task: str = "") -> tuple[TaggedExample, ...]:
    return tuple(TaggedExample(_texts(row["tokens"]), _texts(row["tags"]), task, part) for row in rows)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


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
    return TaggedDataset(
        f"{entry.name}/{split}", made["train"], made["valid"], made["test"], entry.unit, entry.licence, entry.source
    )


def _load_utterances(folder: Path, entry: Entry, split: str) -> UtteranceDataset:
    """Each domain is a task: its train rows to learn from, its test rows to be judged by.

    The split of SGD is in a file of its own; a file of SNIPS has all seven.
    """
    name = "domains" if entry.name == "sgd" else "leave_one_out"
    content = _split(entry, folder, name)
    domains = content if entry.name == "sgd" else content[split]
    assert isinstance(domains, dict)
    made = {
        part: tuple(
            utterance
            for domain in _names(domains[part])
            for of in ("train", "test")
            for row in _rows(entry, folder, f"{domain}/{of}.jsonl")
            for utterance in (_turns(row, domain, of) if "turns" in row else _request(row, domain, of))
        )
        for part in PARTS
    }
    return UtteranceDataset(
        f"{entry.name}/{split}", made["train"], made["valid"], made["test"], entry.unit, entry.licence, entry.source
    )


def _turns(row: Fields, task: str, part: str) -> Iterator[Utterance]:
    """The turns of the user of a dialogue. "NONE" is an intent as others are: that of a goodbye."""
    said: list[Turn] = []
    for turn in _objects(row["turns"]):
        speaker, text = SPEAKERS[str(turn["speaker"])], str(turn["text"])
        if speaker == USER:
            slots = tuple(sorted(_slot(each) for each in _objects(turn["slots"])))
            yield Utterance(text, str(turn["intent"]), slots, tuple(said), task, part)
        said.append(Turn(speaker, text))


def _request(row: Fields, task: str, part: str) -> Iterator[Utterance]:
    """A request of SNIPS, unless words are missing a space, so that a slot ends within one: four of 6,293."""
    text, places, end = str(row["text"]), [], 0
    for token in _texts(row["tokens"]):
        start = text.index(token, end)
        end = start + len(token)
        places.append((start, end))
    slots = [Span(places[span.start][0], places[span.end - 1][1], span.label) for span in spans_of(_texts(row["tags"]))]
    words = split_words(text)
    starts, ends = {start for _, start, _ in words}, {end for _, _, end in words}
    if all(each.start in starts and each.end in ends for each in slots):
        yield Utterance(text, str(row["intent"]), tuple(slots), (), task, part)


def _objects(value: object) -> list[Fields]:
    return list(value) if isinstance(value, list) else []


def _slot(row: Fields) -> Span:
    start, end = row["start"], row["end"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    return Span(start, end, str(row["slot"]))


def _domains() -> list[str]:
    return [domain for domains in DOMAINS.values() for domain in domains]


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


_LOADERS: Mapping[str, Callable[[Path, Entry, str], Dataset]] = MappingProxyType(
    {
        "starter": _load_starter,
        "clinc150": _load_clinc150,
        "hwu64": _load_hwu64,
        "huffpost": _load_huffpost,
        "amazon_sentiment": _load_amazon_sentiment,
        "sst2": _load_sst2,
        "fewrel": _load_fewrel,
        **{name: _load_tagged for name, entry in CATALOGUE.items() if entry.task_kind == "tagging"},
        **{name: _load_pairs for name, entry in CATALOGUE.items() if entry.task_kind == "translation"},
        **{name: _load_utterances for name, entry in CATALOGUE.items() if entry.task_kind == "understanding"},
        **{name: _load_replies for name, entry in CATALOGUE.items() if entry.task_kind == "responding"},
    }
)
