"""Known data sets: the starter's promises, what is found where, and that the right rows come."""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from kshot.data import catalogue
from kshot.data.catalogue import DOMAINS, list_datasets, load_dataset
from kshot.data.checks import check, check_splits
from kshot.data.dataset import PARTS, TaggedDataset, UtteranceDataset
from kshot.data.entries import CATALOGUE
from kshot.data.examples import INTENT, Utterance, names_of
from kshot.data.loaders.texts import mark_entities
from kshot.data.normal import normalise
from kshot.data.tags import first_problem
from kshot.errors import KshotError

FOUND = {entry.name: entry.found for entry in list_datasets()}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        FOUND[name] is None, reason=f"the data set {name} is not on this machine (set KSHOT_DATA)"
    )


def test_the_starter_keeps_its_promises() -> None:
    dataset = load_dataset("starter")
    everything = dataset.train + dataset.valid + dataset.test
    sizes = Counter(example.label for example in everything)
    assert len(sizes) == CATALOGUE["starter"].n_classes >= 60
    assert min(sizes.values()) >= 20
    assert len({example.task for example in everything}) == 12
    assert len({normalise(example.text) for example in everything}) == len(everything)
    assert [len({example.task for example in part}) for part in (dataset.train, dataset.valid, dataset.test)] == [
        7,
        2,
        3,
    ]
    assert check(everything) == []
    assert check_splits(dataset) == []
    assert len({(example.task, example.label) for example in everything}) == len(sizes), "an intent has one domain"
    assert dataset.licence == "CC0-1.0"
    episode = dataset.sampler("test", way=5, shot=5, query=5, seed=0, n_episodes=1)[0]
    assert len(episode.query) == 25


def test_the_starter_comes_with_its_licence_and_description() -> None:
    assert FOUND["starter"] is not None
    assert "SPDX-License-Identifier: CC0-1.0" in (FOUND["starter"] / "LICENSE").read_text(encoding="utf-8")
    described = (FOUND["starter"] / "README.md").read_text(encoding="utf-8")
    assert all(f"`{example.label}`" in described for example in load_dataset("starter").test)
    assert "1,728 texts, 72 intents in 12 domains" in described


@pytest.mark.parametrize(
    ("name", "split", "classes", "rows"),
    [
        ("clinc150", None, [50, 50, 50], [7500, 7500, 7500]),
        ("clinc150", "by_domain", [75, 30, 45], [11250, 4500, 6750]),
        ("hwu64", "fewshot_02", [30, 15, 19], None),
        ("huffpost", None, [20, 5, 16], [18000, 4500, 14400]),
        ("amazon_sentiment", None, [2, 2, 2], [2842, 540, 1920]),
        ("sst2", None, [2, 2, 2], [6920, 872, 1821]),
        ("fewrel", None, [9, 2, 5], [2700, 600, 1500]),
        ("fewrel", "domains", [16, 17, 10], [4800, 1700, 1000]),
    ],
)
def test_known_data_sets_have_their_sizes(
    name: str, split: str | None, classes: list[int], rows: list[int] | None
) -> None:
    if FOUND[name] is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    dataset = load_dataset(name, split=split)
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [len({example.label for example in part}) for part in parts] == classes
    assert rows is None or [len(part) for part in parts] == rows
    assert dataset.name == f"{name}/{split or CATALOGUE[name].splits[0]}"
    assert dataset.unit == CATALOGUE[name].unit
    assert len(dataset.out_of_scope) == (1200 if name == "clinc150" else 0)
    assert [finding for finding in check_splits(dataset) if finding.severity == "error"] == []


@pytest.mark.parametrize(
    ("name", "split", "types", "sentences"),
    [
        ("conll2003", None, [4, 4, 4], [14041, 3250, 3453]),
        ("wikigold", None, [4, 4, 4], [1115, 167, 405]),
        ("wnut17", None, [6, 6, 6], [3394, 1009, 1287]),
        ("gum", None, [11, 11, 11], [2127, 310, 981]),
        ("sec_filings", None, [4, 4, 4], [967, 175, 292]),
        ("bc5cdr", None, [2, 2, 2], [2000, 500, 1000]),
        ("anem", None, [11, 11, 11], [1161, 185, 932]),
        ("crossner", None, [9, 9, 9], [200, 541, 651]),
        ("crossner", "science", [17, 17, 17], [200, 450, 543]),
        ("crossner", "music", [13, 13, 13], [100, 380, 465]),
        ("crossner", "literature", [12, 12, 12], [100, 400, 416]),
        ("fewnerd_inter", None, [10, 3, 17], [6326, 1323, 6709]),
        ("ner_domains", None, [26, 12, 40], [20877, 516, 7660]),
    ],
)
def test_known_tagged_sets_have_their_sizes(
    name: str, split: str | None, types: list[int], sentences: list[int]
) -> None:
    if FOUND[name] is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    dataset = load_dataset(name, split=split)
    assert isinstance(dataset, TaggedDataset)
    assert [len(dataset.classes(part)) for part in PARTS] == types
    assert [len(dataset.part(part)) for part in PARTS] == sentences
    assert dataset.name == f"{name}/{split or CATALOGUE[name].splits[0]}"
    assert (dataset.unit, CATALOGUE[name].task_kind) == (CATALOGUE[name].unit, "tagging")
    assert [finding for finding in check_splits(dataset) if finding.severity == "error"] == []
    assert all(first_problem(example.tags) is None for part in PARTS for example in dataset.part(part))


@needs("ner_domains")
def test_a_new_domain_is_learned_from_its_train_sentences_and_judged_by_its_test_sentences() -> None:
    dataset = load_dataset("ner_domains")
    every = {example.labels for part in PARTS for example in dataset.part(part)}
    assert len({label for labels in every for label in labels}) == CATALOGUE["ner_domains"].n_classes
    for part, domains in DOMAINS.items():
        assert {example.task for example in dataset.part(part)} == set(domains)
    assert {example.part for example in dataset.train} == {"train"}
    episodes = dataset.sampler("test", way="all", shot=5, query=20, seed=0, n_episodes=40)
    assert {each.task for episode in episodes for each in episode.support} == set(DOMAINS["test"])
    for episode in episodes:
        assert {each.part for each in episode.support} == {"train"}
        assert {each.part for each in episode.query} == {"test"}
        assert len({each.task for each in (*episode.support, *episode.query)}) == 1


@pytest.mark.parametrize(
    ("name", "split", "domains", "turns"),
    [
        ("sgd", None, [12, 2, 3], [7893, 682, 1847]),
        ("snips", None, [5, 1, 1], [3983, 792, 824]),
        ("snips", "07", [5, 1, 1], [3969, 824, 806]),
    ],
)
def test_dialogues_are_tasks_by_domain(name: str, split: str | None, domains: list[int], turns: list[int]) -> None:
    if FOUND[name] is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    dataset = load_dataset(name, split=split)
    assert isinstance(dataset, UtteranceDataset)
    assert [len({each.task for each in dataset.part(part)}) for part in PARTS] == domains
    assert [len(dataset.part(part)) for part in PARTS] == turns
    assert (dataset.unit, CATALOGUE[name].task_kind) == ("tasks", "understanding")
    assert [finding for finding in check_splits(dataset) if finding.severity == "error"] == []
    for each in (each for part in PARTS for each in dataset.part(part)):
        assert len(each.sentence.spans) == len(each.spans)  # every slot begins and ends with a word
    for episode in dataset.sampler("test", way="all", shot=5, query=20, seed=0, n_episodes=20):
        intents = Counter(each.intent for each in episode.support if isinstance(each, Utterance))
        assert set(intents.values()) == {5}
        assert set(intents) == set(names_of(INTENT, episode.classes))
        assert {each.part for each in episode.support} == {"train"}
        assert {each.part for each in episode.query} == {"test"}


@needs("sgd")
def test_the_new_domains_of_sgd_are_alarms_banks_and_calendars_and_a_goodbye_is_an_intent() -> None:
    dataset = load_dataset("sgd")
    assert {each.task for each in dataset.test} == {"Alarm", "Banks", "Calendar"}
    assert "intent:NONE" in dataset.classes("test")
    goodbye = next(each for each in dataset.test if each.text == "No, that's all i need.")
    assert (goodbye.intent, goodbye.spans, len(goodbye.history)) == ("NONE", (), 8)
    assert goodbye.history[0].text == "Can you show me my set alarms please?"


@needs("snips")
def test_every_request_of_snips_is_new_once() -> None:
    found = [load_dataset("snips", split=split) for split in CATALOGUE["snips"].splits]
    assert len({each.task for dataset in found for each in dataset.test}) == 7
    request = next(each for each in found[0].test if each.text == "Add this tune to my Dinnertime Acoustics list")
    assert [(request.text[each.start : each.end], each.label) for each in request.spans] == [
        ("tune", "music_item"),
        ("my", "playlist_owner"),
        ("Dinnertime Acoustics", "playlist"),
    ]


@needs("fewnerd_inter")
def test_the_parts_of_fewnerd_have_the_types_of_its_split() -> None:
    dataset, folder = load_dataset("fewnerd_inter"), FOUND["fewnerd_inter"]
    assert folder is not None
    split = json.loads((folder / "splits" / "types.json").read_text(encoding="utf-8"))
    assert {part: list(dataset.classes(part)) for part in PARTS} == {part: sorted(split[part]) for part in PARTS}
    for episode in dataset.sampler("test", way=5, shot=5, query=5, seed=0, n_episodes=20):
        counts = Counter(span.label for each in episode.support for span in each.spans)  # type: ignore[attr-defined]
        assert set(counts) == set(episode.classes)
        assert min(counts.values()) >= 5
        assert sorted(counts.values())[2] <= 10, "a sentence may force one above 2K, not most"


@needs("clinc150")
def test_an_episode_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    assert FOUND["clinc150"] is not None
    shutil.copytree(FOUND["clinc150"], tmp_path / "clinc150")
    with gzip.open(tmp_path / "clinc150" / "all.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    (tmp_path / "clinc150" / "all.jsonl.gz").unlink()
    changed = tmp_path / "clinc150" / "all.jsonl"
    changed.write_text("\n".join(reversed(lines)), encoding="utf-8")
    settings = {"way": 5, "shot": 5, "query": 5, "seed": 0, "n_episodes": 3}
    here = load_dataset("clinc150", data_dir=tmp_path).sampler("test", **settings)  # type: ignore[arg-type]
    there = load_dataset("clinc150").sampler("test", **settings)  # type: ignore[arg-type]
    assert list(here) == list(there)
    changed.write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(KshotError) as caught:
        load_dataset("clinc150", data_dir=tmp_path)
    assert str(caught.value).startswith(f'{changed} is not the "clinc150" that kshot knows (its checksum is ')
    assert str(caught.value).endswith("; get it again, or load a changed copy by its path.")


@needs("sst2")
def test_all_of_the_published_test_set_is_judged() -> None:
    sampler = load_dataset("sst2").sampler("test", way="all", shot=8, query="all", seed=1, n_episodes=1)
    assert sum(sampler.draw(0).query_sizes) == 1821


@needs("amazon_sentiment")
def test_a_new_task_has_its_published_support() -> None:
    sampler = load_dataset("amazon_sentiment").sampler("test", way="all", shot="all", query="all", seed=0, n_episodes=5)
    assert len(sampler.task_names) == 12
    assert all(len(episode.support) == 10 for episode in sampler)


def test_entities_are_marked() -> None:
    row = {
        "text": "The series is based on Pronto and Riding the Rap , as Pronto",
        "head": {"name": "riding the rap", "pos": [[7, 8, 9]]},
        "tail": {"name": "pronto", "pos": [[5], [12]]},
    }
    assert mark_entities(row) == "The series is based on [tail: Pronto] and [head: Riding the Rap] , as [tail: Pronto]"


def test_every_entry_says_what_a_person_has_to_know() -> None:
    for entry in list_datasets():
        assert entry.title
        assert entry.licence
        assert entry.source
        assert entry.splits
        assert entry.n_classes >= 2
    assert [entry.name for entry in list_datasets() if entry.can_be_downloaded] == ["clinc150", "hwu64"]


def test_folders_are_looked_into_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHOT_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folders = catalogue.data_folders()
    assert folders[:3] == [tmp_path / "mine", tmp_path / "shared" / "data", tmp_path.parent / "shared" / "data"]
    assert folders[-1] == tmp_path / "cache" / "kshot" / "data"
    assert catalogue.data_folders(tmp_path) == [tmp_path]
    (tmp_path / "mine" / "text" / "sst2").mkdir(parents=True)
    (tmp_path / "mine" / "text" / "sst2" / "all.jsonl").write_text("{}", encoding="utf-8")
    assert {entry.name: entry.found for entry in list_datasets()}["sst2"] == tmp_path / "mine" / "text" / "sst2"


def test_errors_about_names(tmp_path: Path) -> None:
    names = ", ".join(CATALOGUE)
    for name, message in {
        "clinc": f'There is no data set "clinc", and no file or folder of that name; the data sets are {names}. '
        'Did you mean "clinc150"?',
        "data/mine.csv": f"There is no file or folder {Path('data/mine.csv')}; check the path.",
    }.items():
        with pytest.raises(KshotError) as caught:
            load_dataset(name)
        assert str(caught.value) == message
    with pytest.raises(KshotError) as caught:
        load_dataset("clinc150", split="fewshot_1")
    assert str(caught.value) == (
        'The data set "clinc150" has no split "fewshot_1"; its splits are fewshot_01, fewshot_02, fewshot_03, '
        "fewshot_04, "
        'fewshot_05, by_domain. Did you mean "fewshot_01"?'
    )
    with pytest.raises(KshotError) as caught:
        load_dataset("starter", unit="examples")
    assert str(caught.value) == 'The unit of the data set "starter" is "classes", not "examples"; leave unit out.'
    with pytest.raises(KshotError) as caught:
        load_dataset("sst2", data_dir=tmp_path)
    assert str(caught.value) == (
        f'{tmp_path} has no data set "sst2" (no sst2/all.jsonl or all.jsonl.gz); name the folder that has a folder for '
        "each data set, or leave data_dir out."
    )


def test_a_data_set_that_may_not_be_downloaded_says_where_it_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "data_folders", lambda data_dir=None: [tmp_path])
    with pytest.raises(KshotError) as caught:
        load_dataset("huffpost")
    assert str(caught.value) == (
        f'The data set "huffpost" is in none of {tmp_path}, and kshot does not download it; it comes from '
        "https://github.com/YujiaBao/Distributional-Signatures (licence: not stated (origin CC0)): put it in a folder "
        '"huffpost" (all.jsonl and splits/) and set KSHOT_DATA to the folder above it.'
    )


def test_a_split_that_cannot_be_read(tmp_path: Path) -> None:
    if FOUND["hwu64"] is None:
        pytest.skip("the data set hwu64 is not on this machine (set KSHOT_DATA)")
    shutil.copytree(FOUND["hwu64"], tmp_path / "hwu64")
    split = tmp_path / "hwu64" / "splits" / "fewshot_01.json"
    content = json.loads(split.read_text(encoding="utf-8"))
    content["test"].append(content["train"].pop())
    split.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(KshotError, match=r'fewshot_01\.json is not the "hwu64" that kshot knows'):
        load_dataset("hwu64", data_dir=tmp_path)
    split.unlink()
    with pytest.raises(KshotError, match=r'The split "fewshot_01" of the data set "hwu64" cannot be read \(.*get the'):
        load_dataset("hwu64", data_dir=tmp_path)
