"""A user's own file or folder as a data set."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kshot.data.catalogue import load_dataset
from kshot.data.checks import size_of
from kshot.data.dataset import Dataset, TaggedDataset
from kshot.data.local import check_path
from kshot.errors import KshotError

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def classes(names: str, n: int = 3, **fields: str) -> list[dict[str, str]]:
    return [
        {"text": f"{fields.get('task', '')} {name} {i}", "label": name, **fields} for name in names for i in range(n)
    ]


def parts(dataset: Dataset) -> list[str]:
    """The classes of each part, in a word each."""
    return [
        "".join(sorted({example.label for example in part})) for part in (dataset.train, dataset.valid, dataset.test)
    ]


@one_folder
@given(st.integers(6, 40), st.randoms())
def test_a_file_is_split_by_class_whatever_its_order(tmp_path: Path, n_classes: int, chance: random.Random) -> None:
    rows = classes("".join(chr(ord("A") + i) for i in range(n_classes)))
    before = load_dataset(write(tmp_path / "mine.jsonl", rows))
    chance.shuffle(rows)
    dataset = load_dataset(write(tmp_path / "mine.jsonl", rows))
    assert parts(dataset) == parts(before)
    sizes = [len(part) for part in parts(dataset)]
    assert sum(sizes) == n_classes
    assert min(sizes) >= 2
    assert sizes[1] == sizes[2] == max(round(0.2 * n_classes), 2)
    assert dataset.unit == "classes"
    assert dataset.source == (
        f"{tmp_path / 'mine.jsonl'}, split by class 60/20/20 ({sizes[0]} train, {sizes[1]} valid, {sizes[2]} test "
        "classes)"
    )


def test_the_split_of_a_file_does_not_change_between_versions(tmp_path: Path) -> None:
    assert parts(load_dataset(write(tmp_path / "mine.jsonl", classes("abcdefghij")))) == ["bcdefj", "ah", "gi"]


def test_a_file_may_say_its_parts(tmp_path: Path) -> None:
    rows = classes("ab", split="Training") + classes("cd", split="dev") + classes("ef", split="test")
    dataset = load_dataset(write(tmp_path / "mine.jsonl", rows))
    assert (parts(dataset), dataset.unit) == (["ab", "cd", "ef"], "classes")
    assert dataset.source == f"{tmp_path / 'mine.jsonl'}, parts as in the file"
    same = classes("ab", split="train") + classes("ab", split="test")
    assert load_dataset(write(tmp_path / "same.jsonl", same)).unit == "examples"


def test_a_folder_has_a_file_for_each_part(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", classes("ab"))
    write(tmp_path / "dev.jsonl", classes("cd"))
    (tmp_path / "test.csv").write_text("text,label\nx,e\ny,f\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("not data", encoding="utf-8")
    dataset = load_dataset(str(tmp_path))
    assert (parts(dataset), dataset.unit, dataset.name) == (["ab", "cd", "ef"], "classes", tmp_path.name)
    (tmp_path / "dev.jsonl").unlink()
    assert load_dataset(tmp_path).valid == ()


def test_rows_of_a_folder_may_have_a_part_of_their_own(tmp_path: Path) -> None:
    pairs = [
        {"source": f"{task} {part} {n}", "target": f"{task} {part} {n}!", "task": task, "part": part}
        for task in ("ron-eng", "ces-eng")
        for part in ("train", "val", "Test")
        for n in range(4)
    ]
    write(tmp_path / "train.jsonl", [{"source": f"a {n}", "target": f"b {n}", "task": "deu-eng"} for n in range(9)])
    write(tmp_path / "valid.jsonl", [pair for pair in pairs if pair["task"] == "ron-eng"])
    write(tmp_path / "test.jsonl", [pair for pair in pairs if pair["task"] == "ces-eng"])
    dataset = load_dataset(tmp_path)
    assert (dataset.unit, [len(each) for each in (dataset.train, dataset.valid, dataset.test)]) == (
        "tasks",
        [9, 12, 12],
    )
    assert {each.part for each in dataset.train} == {"train"}
    for part, query in (("valid", "valid"), ("test", "test")):
        episode = dataset.sampler(part, way="all", shot=4, query="all", seed=0, n_episodes=1)[0]
        assert ({each.part for each in episode.support}, {each.part for each in episode.query}) == ({"train"}, {query})
        assert len(episode.query) == 4
    assert dataset.pools("train")[1] is None
    write(tmp_path / "test.jsonl", [{**pair, "part": "tests"} for pair in pairs[12:]])
    with pytest.raises(KshotError) as caught:
        load_dataset(tmp_path)
    assert str(caught.value) == (
        f'{tmp_path / "test.jsonl"}: the part of a row is "tests", but has to be train, valid or test in every row or '
        'be missing in all. Did you mean "test"?'
    )
    write(tmp_path / "test.jsonl", [*pairs[12:], {**pairs[12], "part": ""}])
    with pytest.raises(
        KshotError, match=r"test\.jsonl: the part of a row is empty, but has to be train, valid or test"
    ):
        load_dataset(tmp_path)


def test_tasks_are_found_and_split_whole(tmp_path: Path) -> None:
    rows = [row for task in "uvwxyz" for row in classes("ab", task=task)]
    dataset = load_dataset(write(tmp_path / "mine.jsonl", rows))
    assert dataset.unit == "tasks"
    tasks = [{example.task for example in part} for part in (dataset.train, dataset.valid, dataset.test)]
    assert [len(each) for each in tasks] == [2, 2, 2]
    assert set.union(*tasks) == set("uvwxyz")
    assert "split by task 60/20/20" in dataset.source
    for part in ("train", "valid", "test"):
        episode = dataset.sampler(part, way="all", shot=1, query="all", seed=0, n_episodes=1)[0]
        assert len({example.task for example in episode.support + episode.query}) == 1


def test_a_file_can_be_split_by_example(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path / "mine.jsonl", classes("abc", 10)), unit="examples")
    assert parts(dataset) == ["abc", "abc", "abc"]
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [18, 6, 6]


def test_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", classes("abcde"))
    with pytest.raises(KshotError) as caught:
        load_dataset(path)
    assert str(caught.value) == (
        f"{path} has 5 classes, too few to split into train, valid and test by class (6 are needed); add classes, give "
        "each row a part (train, valid or test), or give a folder with a file for each."
    )
    write(path, classes("ab", part="train") + classes("cd"))
    with pytest.raises(KshotError) as caught:
        load_dataset(path)
    assert str(caught.value) == (
        f"{path}: the part of a row is empty, but has to be train, valid or test in every row or be missing in all."
    )
    write(path, classes("ab", part="trian"))
    with pytest.raises(KshotError, match=r'the part of a row is "trian", .* Did you mean "train"\?'):
        load_dataset(path)
    write(path, classes("ab", part="train") + classes("bc", part="test"))
    with pytest.raises(KshotError) as caught:
        load_dataset(path, unit="classes")
    assert str(caught.value) == (
        f'{path}: the class "b" is in both train and test, and for unit "classes" it may be in one part only; move its '
        "rows to one part."
    )
    with pytest.raises(KshotError) as caught:
        load_dataset(path, split="fewshot_01")
    assert str(caught.value) == (
        f'{path} has no split "fewshot_01", because only known data sets have splits by name; leave split out.'
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(KshotError) as caught:
        load_dataset(folder)
    assert str(caught.value) == (
        f"{folder} has no train, valid or test file (.jsonl, .json, .csv, .tsv, .conll, .bio, .iob, .iob2); name a "
        "file in it, or add these."
    )
    for name in ("valid.jsonl", "dev.jsonl"):
        write(folder / name, classes("ab"))
    with pytest.raises(KshotError) as caught:
        load_dataset(folder)
    assert str(caught.value) == (
        f"{folder} has two files for the part valid, dev.jsonl and valid.jsonl; take one away."
    )


def sentences(types: str, n: int = 4, **fields: str) -> list[dict[str, object]]:
    return [
        {"tokens": [name, str(i), fields.get("task", "in")], "tags": [f"B-{name}", f"I-{name}", "O"], **fields}
        for name in types
        for i in range(n)
    ]


def tagged(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@one_folder
@given(st.integers(5, 40), st.randoms())
def test_sentences_are_split_one_by_one_whatever_their_order(tmp_path: Path, n: int, chance: random.Random) -> None:
    rows = sentences("A", n) + sentences("A", 2)
    before = load_dataset(tagged(tmp_path / "mine.jsonl", rows))
    chance.shuffle(rows)
    dataset = load_dataset(tagged(tmp_path / "mine.jsonl", rows))
    assert isinstance(dataset, TaggedDataset)
    assert (dataset.unit, dataset.source) == ("examples", f"{tmp_path / 'mine.jsonl'}, split 60/20/20 by sentence")
    texts = [{example.text for example in dataset.part(part)} for part in ("train", "valid", "test")]
    assert texts == [{example.text for example in before.part(part)} for part in ("train", "valid", "test")]
    assert sum(len(each) for each in texts) == len(set.union(*texts)) == n, "a repeated sentence is in one part"
    assert len(dataset.train) + len(dataset.valid) + len(dataset.test) == n + 2


def test_parts_of_tagged_sentences(tmp_path: Path) -> None:
    tagged(tmp_path / "train.jsonl", sentences("ab"))
    (tmp_path / "dev.conll").write_text("x B-c\n\ny B-c\n")
    (tmp_path / "test.txt").write_text("[x](d)\n")
    (tmp_path / "test.old.txt").write_text("[x](d)\n")
    dataset = load_dataset(tmp_path)
    assert isinstance(dataset, TaggedDataset)
    assert (dataset.unit, dataset.source) == ("classes", f"{tmp_path}, parts as in the folder")
    assert [dataset.classes(part) for part in ("train", "valid", "test")] == [("a", "b"), ("c",), ("d",)]
    tagged(tmp_path / "train.jsonl", sentences("abd"))
    assert load_dataset(tmp_path).unit == "examples"
    with pytest.raises(KshotError) as caught:
        load_dataset(tmp_path, unit="classes")
    assert str(caught.value) == (
        f'{tmp_path}: the type "d" is in both train and test, and for unit "classes" it may be in one part only; move '
        "its rows to one part."
    )


def test_domains_are_split_whole(tmp_path: Path) -> None:
    rows = [row for task in ("law", "music", "sport", "war", "work") for row in sentences("ab", task=task)]
    dataset = load_dataset(tagged(tmp_path / "mine.jsonl", rows))
    assert dataset.unit == "tasks"
    tasks = [{example.task for example in dataset.part(part)} for part in ("train", "valid", "test")]
    assert [len(each) for each in tasks] == [3, 1, 1]
    assert len(set.union(*tasks)) == 5
    [episode] = dataset.sampler("test", way="all", shot=2, query=3, seed=0, n_episodes=1)
    assert {example.task for example in (*episode.support, *episode.query)} == tasks[2]


def test_errors_of_tagged_sentences(tmp_path: Path) -> None:
    path = tagged(tmp_path / "train.jsonl", sentences("ab"))
    with pytest.raises(KshotError) as caught:
        load_dataset(path, unit="classes")
    assert str(caught.value) == (
        f"{path} cannot be split by type, because a sentence may show several; give each row a part (train, valid or "
        'test), give a folder with a file for each, or use unit "examples".'
    )
    write(tmp_path / "test.jsonl", classes("ab"))
    with pytest.raises(KshotError) as caught:
        load_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has tagged sentences in train.jsonl and none in test.jsonl; tag that one, too, or take it away."
    )


def messages(path: Path) -> list[str]:
    return [f"{found.severity}: {found.message}" for found in check_path(path)[1]]


def test_a_file_that_says_its_parts_is_checked_as_a_folder_is(tmp_path: Path) -> None:
    rows = classes("ab", 10)
    leak = [rows[0], *({**row, "text": f"new {row['text']}"} for row in rows)]
    for part, own in (("train", rows), ("test", leak)):
        write(tmp_path / f"{part}.jsonl", own)
    folder = messages(tmp_path)
    assert folder == [
        'warning: The part "valid" is empty.',
        'warning: 1 text is in both train and test, but for case and space: "a 0".',
        'note: 1 text occurs more than once but for case and space: " a 0" 2 times.',
    ]
    for file in tmp_path.iterdir():
        file.unlink()
    parted = [*({**row, "part": "train"} for row in rows), *({**row, "split": "x", "part": "test"} for row in leak)]
    path = write(tmp_path / "mine.jsonl", parted)
    assert messages(path) == folder
    assert messages(write(path, rows)) == []
    shared = [
        {**row, "task": row["label"] + "bc"[n % 2], "part": ("train", "test")[n < 3]} for n, row in enumerate(rows)
    ]
    assert any("error: 2 tasks are in both train and test" in each for each in messages(write(path, shared)))


def test_everything_that_can_be_learned_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    turns = [{"speaker": "user", "text": "hi"}, {"speaker": "system", "text": "hello"}]
    for rows, size in (
        ([{"source": "a", "target": "b"}] * 2, "2 pairs"),
        ([{"turns": turns}] * 2, "2 dialogues, 2 replies"),
        ([{"history": turns[:1], "text": "hello"}] * 2, "2 dialogues, 2 replies"),
        ([{"turns": [{**turns[0], "intent": "greet"}]}] * 2, "2 turns, 1 intent or slot"),
        (sentences("a", 2), "2 sentences, 1 type"),
    ):
        tagged(path, rows)
        examples, findings = check_path(path)
        assert size_of(examples) == size
        assert any("occur" in found.message for found in findings) == (size != "2 sentences, 1 type")
    tagged(path, [{"source": "a", "target": "b"}, {"source": " ", "target": "b"}])
    with pytest.raises(KshotError, match='line 2: the field "source" is empty; fill it in or take the row out'):
        check_path(path)
