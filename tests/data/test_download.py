"""Downloads, without a network: the conversion of small files in the form of the sources, and what goes wrong.

Where the data sets are on this machine, their own rows are put back into the form of the sources, and the conversion
has to give the data set again.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kshot.data import catalogue
from kshot.data.catalogue import list_datasets, load_dataset
from kshot.data.download import CLINC, CLINC_BY_DOMAIN, PROTAUGMENT, content_digest, convert_clinc150, convert_hwu64
from kshot.errors import KshotError

FOUND = {entry.name: entry.found for entry in list_datasets()}
DOMAINS = {domain: [f"{domain}_intent"] for part in CLINC_BY_DOMAIN.values() for domain in part}


def labels_txt(folder: str, splits: dict[str, dict[str, list[str]]]) -> dict[str, str]:
    return {
        f"{PROTAUGMENT}/{folder}/few_shot/{name[-2:]}/labels.{part}.txt": "\n".join(labels) + "\n"
        for name, parts in splits.items()
        for part, labels in parts.items()
    }


def getter(pages: dict[str, str]) -> Callable[[str], bytes]:
    def fetch(url: str) -> bytes:
        if url not in pages:
            raise OSError("HTTP Error 404: Not Found")
        return pages[url].encode()

    return fetch


SPLITS = {f"fewshot_{n:02}": {"train": ["a/b"], "valid": ["c/d"], "test": ["e/f"]} for n in range(1, 6)}

CLINC_PAGES = {
    f"{CLINC}/data_full.json": json.dumps(
        {
            "oos_val": [["o1", "oos"]],
            "val": [["v1", "travel_intent"]],
            "train": [["t1", "travel_intent"], ["t2", "work_intent"]],
            "oos_test": [["o2", "oos"]],
            "test": [["s1", "meta_intent"]],
            "oos_train": [],
        }
    ),
    f"{CLINC}/domains.json": json.dumps(DOMAINS),
    **labels_txt("OOS", SPLITS),
}
HWU_PAGES = {
    f"{PROTAUGMENT}/HWU64/full.jsonl": '{"sentence": "dim lights", "label": "iot/hue_lightdim"}\n',
    **labels_txt("HWU64", SPLITS),
}


def rows(content: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.splitlines()]


def test_clinc150_is_converted() -> None:
    files = convert_clinc150(getter(CLINC_PAGES))
    assert rows(files["all.jsonl"]) == [
        {"text": "t1", "label": "travel_intent", "domain": "travel", "split": "train"},
        {"text": "t2", "label": "work_intent", "domain": "work", "split": "train"},
        {"text": "v1", "label": "travel_intent", "domain": "travel", "split": "valid"},
        {"text": "s1", "label": "meta_intent", "domain": "meta", "split": "test"},
    ]
    assert rows(files["oos.jsonl"]) == [
        {"text": "o1", "label": "oos", "domain": None, "split": "valid"},
        {"text": "o2", "label": "oos", "domain": None, "split": "test"},
    ]
    assert json.loads(files["splits/fewshot_03.json"]) == SPLITS["fewshot_03"]
    assert json.loads(files["splits/by_domain.json"])["valid"] == ["small_talk_intent", "meta_intent"]


def test_hwu64_is_converted() -> None:
    files = convert_hwu64(getter(HWU_PAGES))
    assert rows(files["all.jsonl"]) == [{"text": "dim lights", "label": "iot/hue_lightdim", "domain": "iot"}]
    assert sorted(files) == ["all.jsonl", *(f"splits/{name}.json" for name in SPLITS)]


def test_a_digest_is_of_the_content_alone() -> None:
    one = [{"a": 1, "b": "é"}, {"a": 2, "b": None}]
    assert content_digest(one) == content_digest([{"b": None, "a": 2}, {"b": "é", "a": 1}])
    assert content_digest(one) != content_digest(one[:1])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, where nothing is found elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(catalogue, "data_folders", lambda data_dir=None: [catalogue.cache_folder("data")])
    return tmp_path / "kshot" / "data"


def source_pages(name: str) -> dict[str, str]:
    """A data set of this machine in the form of its source."""
    folder = FOUND[name]
    if folder is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    with gzip.open(folder / "all.jsonl.gz", "rt", encoding="utf-8") as file:
        stored = rows(file.read())
    splits = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("splits/fewshot_*.json"))}
    if name == "hwu64":
        lines = [json.dumps({"sentence": row["text"], "label": row["label"]}) for row in stored]
        return {f"{PROTAUGMENT}/HWU64/full.jsonl": "\n".join(lines), **labels_txt("HWU64", splits)}
    full: dict[str, list[tuple[object, object]]] = {
        f"{oos}{part}": [] for oos in ("", "oos_") for part in ("train", "val", "test")
    }
    for prefix, each in (("", stored), ("oos_", rows((folder / "oos.jsonl").read_text(encoding="utf-8")))):
        for row in each:
            full[f"{prefix}{str(row['split']).replace('valid', 'val')}"].append((row["text"], row["label"]))
    domains = (folder / "splits" / "domains.json").read_text(encoding="utf-8")
    pages = {f"{CLINC}/data_full.json": json.dumps(full), f"{CLINC}/domains.json": domains}
    return {**pages, **labels_txt("OOS", splits)}


@pytest.mark.parametrize("name", ["hwu64", "clinc150"])
def test_a_download_gives_the_same_data_set_and_stays(name: str, cache: Path) -> None:
    pages = source_pages(name)
    downloaded = load_dataset(name, fetch=getter(pages))
    assert FOUND[name] is not None
    assert downloaded == load_dataset(name, data_dir=cache, fetch=getter({})), "the second time without a download"
    assert [path.name for path in cache.iterdir()] == [name], "nothing unfinished stays"
    assert len(downloaded.train) > 1000


def test_a_changed_source_is_refused_and_leaves_nothing(cache: Path) -> None:
    with pytest.raises(KshotError, match='is not the "clinc150" that kshot knows'):
        load_dataset("clinc150", fetch=getter(CLINC_PAGES))
    with pytest.raises(KshotError) as caught:
        load_dataset("hwu64", fetch=getter({**HWU_PAGES, f"{PROTAUGMENT}/HWU64/full.jsonl": '{"text": "x"}'}))
    assert str(caught.value) == (
        "The source of the data set \"hwu64\" no longer has the form that kshot knows (KeyError('sentence')); put a "
        "copy "
        'of the folder "hwu64" somewhere and set KSHOT_DATA to the folder above it.'
    )
    assert list(cache.iterdir()) == []


def test_no_network_is_an_error_with_a_way_out(cache: Path) -> None:
    with pytest.raises(KshotError) as caught:
        load_dataset("clinc150", fetch=getter({}))
    assert str(caught.value) == (
        'The data set "clinc150" is not on this machine and cannot be downloaded (HTTP Error 404: Not Found); put a '
        "copy "
        'of the folder "clinc150" somewhere and set KSHOT_DATA to the folder above it.'
    )
    assert not cache.exists()


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where a folder has to be", encoding="utf-8")
    with pytest.raises(KshotError, match=r"hwu64 cannot be written \(.*\); put a copy of the folder"):
        load_dataset("hwu64", fetch=getter(HWU_PAGES))
