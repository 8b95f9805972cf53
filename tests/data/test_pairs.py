"""Sentence pairs: what is read from files, what is refused, and what always holds for their episodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.catalogue import list_datasets, load_dataset
from kshot.data.dataset import PairDataset
from kshot.data.examples import Episode, Example, SentencePair
from kshot.data.normal import normalise
from kshot.data.pairs import PairSampler, is_pairs, read_pairs
from kshot.errors import KshotError

FOUND = {entry.name: entry.found for entry in list_datasets()}
TWO = [SentencePair("Bună ziua.", "Good day."), SentencePair("水", "water, and more")]


def written(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.jsonl",
            '{"source": "Bună ziua.", "target": "Good day."}\n\n{"source": " 水 ", "target": "water, and more"}\n',
        ),
        ("a.jsonl", '{"src": "Bună ziua.", "tgt": "Good day."}\n{"src": "水", "tgt": "water, and more"}\n'),
        (
            "a.json",
            '[{"source": "Bună ziua.", "translation": "Good day."},\n'
            '{"source": "水", "translation": "water, and more"}]',
        ),
        ("a.csv", 'target,source\nGood day.,Bună ziua.\n"water, and more",水\n'),
        ("a.tsv", "source\ttarget\nBună ziua.\tGood day.\n水\twater, and more\n"),
    ],
)
def test_files_of_pairs(tmp_path: Path, name: str, content: str) -> None:
    path = written(tmp_path, name, content)
    assert is_pairs(path)
    assert read_pairs(path) == TWO


def test_a_task_and_a_part_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "source\ttarget\ttask\tpart\na\tb\tron-eng\ttrain\nc\td\tcat-eng\ttest\n")
    assert read_pairs(path) == [SentencePair("a", "b", "ron-eng", "train"), SentencePair("c", "d", "cat-eng", "test")]


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        ("Bună ziua.\n水\n", "Good day.\nwater, and more\n"),
        ("Bună ziua.\n水", "Good day.\r\nwater, and more\r\n"),
        ("\ufeffBună ziua.\n 水\t\n", "Good day.\nwater, and more"),
    ],
)
def test_two_files_line_by_line(tmp_path: Path, sources: str, targets: str) -> None:
    paths = written(tmp_path, "corpus.ro", sources), written(tmp_path, "corpus.en", targets)
    assert read_pairs(*paths) == TWO


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x85"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str) -> None:
    """What `str.splitlines` takes for an end stands within sentences of real corpora."""
    paths = written(tmp_path, "a.ro", f"a{separator}b\nc\n"), written(tmp_path, "a.en", "d\ne\n")
    assert [each.source for each in read_pairs(*paths)] == [f"a{separator}b", "c"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "a", "label": "b"}\n'),
        ("a.jsonl", '{"source": "a", "label": "b"}\n'),
        ("a.csv", "text,label\na,b\n"),
        ("a.tsv", "text\tlabel\na\tb\n"),
        ("a.txt", "source\ttarget\n"),
        ("a.conll", "Ann B-PER\n"),
    ],
)
def test_what_holds_something_else(tmp_path: Path, name: str, content: str) -> None:
    assert not is_pairs(written(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"source": "a", "target": "b"}\n{"source": "c"}\n',
            '{path}, line 2: there is no field "target"; the fields are "source".',
        ),
        (
            "a.jsonl",
            '{"source": "a", "target": "b"}\n{"source": null, "target": "d"}\n',
            '{path}, line 2: the field "source" is null (null), not a text; write it in quotation marks.',
        ),
        (
            "a.json",
            '[{"source": "a", "target": " "}]',
            '{path}, item 1: the field "target" is empty; fill it in or take the row out.',
        ),
        (
            "a.jsonl",
            '{"source": "a", "target": 3}',
            '{path}, line 1: the field "target" is a number (3), not a text; write it in quotation marks.',
        ),
        (
            "a.tsv",
            "source\ttarget\na\tb\n\td\n",
            '{path}, line 3: the field "source" is empty; fill it in or take the row out.',
        ),
        (
            "a.csv",
            "text,label\na,b\n",
            "{path} has no field for the source that kshot knows (source, src); its fields are "
            '"text", "label"; rename one, or say which it is with source=... or --text of kshot adapt.',
        ),
        (
            "a.tsv",
            "source\ttarget\na\tb\tc\n",
            "{path}, line 2: 3 columns where the first row has 2 (source, target); write a tab inside a text as a "
            "space.",
        ),
        ("a.csv", "source,target\n", "{path} has no pairs; add at least one."),
        ("a.jsonl", "\n", "{path} is empty; add at least one line."),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(KshotError) as caught:
        read_pairs(path)
    assert str(caught.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (
            "a\nb\nc\n",
            "d\ne\n",
            "{ro} has 3 lines and {en} has 2; a line of one is the translation of the same line of the other, so give "
            "them as many.",
        ),
        (
            "a\n",
            "d\ne\n",
            "{ro} has 1 line and {en} has 2; a line of one is the translation of the same line of the other, so give "
            "them as many.",
        ),
        ("a\n \nc\n", "d\ne\nf\n", "{ro}, line 2 is empty; fill it in, or take the line out of both files."),
        ("a\nb\nc\n", "d\ne\n\n", "{en}, line 3 is empty; fill it in, or take the line out of both files."),
        ("a\n", "", "{en} is empty; add at least one line."),
    ],
)
def test_two_files_that_do_not_fit(tmp_path: Path, sources: str, targets: str, message: str) -> None:
    ro, en = written(tmp_path, "a.ro", sources), written(tmp_path, "a.en", targets)
    with pytest.raises(KshotError) as caught:
        read_pairs(ro, en)
    assert str(caught.value) == message.format(ro=ro, en=en)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "corpus.ro", "a\n")
    with pytest.raises(KshotError) as caught:
        read_pairs(path, tmp_path / "corpus.rn")
    assert str(caught.value) == (
        f'There is no file {tmp_path / "corpus.rn"}; check the path. Did you mean "corpus.ro"?'
    )


# -- a folder or file as a data set ------------------------------------------------------------------------------------


def test_a_file_is_split_by_task_or_by_pair(tmp_path: Path) -> None:
    rows = [f"s{i}\tt{i}\t{'abcdef'[i % 6]}" for i in range(36)]
    by_task = load_dataset(written(tmp_path, "tasks.tsv", "source\ttarget\ttask\n" + "\n".join(rows)))
    assert isinstance(by_task, PairDataset)
    assert by_task.unit == "tasks"
    tasks = [{each.task for each in by_task.part(part)} for part in ("train", "valid", "test")]
    assert sum(map(len, tasks)) == len(set.union(*tasks)) == 6
    plain = "source\ttarget\n" + "\n".join(row[: row.rindex("\t")] for row in rows)
    by_pair = load_dataset(written(tmp_path, "pairs.tsv", plain))
    assert by_pair.unit == "examples"
    assert [len(by_pair.part(part)) for part in ("train", "valid", "test")] == [22, 7, 7]
    episode = by_pair.sampler("test", way="all", shot=3, query=2, seed=0, n_episodes=1)[0]
    assert set(episode.support) <= set(by_pair.train)
    assert set(episode.query) <= set(by_pair.test)


def test_a_folder_of_parts(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        written(tmp_path, f"{part}.tsv", f"source\ttarget\n{part} a\tb\n{part} c\td\n")
    dataset = load_dataset(tmp_path)
    assert isinstance(dataset, PairDataset)
    assert {each.part for each in dataset.test} == {"test"}
    assert [each.source for each in dataset.valid] == ["valid a", "valid c"]
    with pytest.raises(KshotError) as caught:
        load_dataset(tmp_path, unit="classes")
    assert str(caught.value) == (
        f'{tmp_path} has sentence pairs, which are of no class; use unit "tasks" or "examples".'
    )
    written(tmp_path, "valid.tsv", "text\tlabel\na\tb\n")
    with pytest.raises(KshotError) as caught:
        load_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has sentence pairs in test.tsv and none in valid.tsv; give that one a source and a target, or "
        "take it away."
    )


# -- episodes ----------------------------------------------------------------------------------------------------------


def pairs(n: int, task: str = "", part: str = "", *, first: int = 0) -> list[SentencePair]:
    return [SentencePair(f"{task} s{i}", f"{task} t{i}", task, part) for i in range(first, first + n)]


def sampler(examples: Sequence[SentencePair], **changes: Any) -> PairSampler:
    settings: dict[str, Any] = {"way": "all", "shot": 3, "query": 2, "seed": 0, "n_episodes": 20}
    return PairSampler(examples, **{**settings, **changes})


def texts(examples: Sequence[Example]) -> set[str]:
    return {normalise(text) for each in examples for text in each.texts}


FEW_TEXTS = st.sampled_from(["a", "A ", "b", "c  d", "C d", "e", "f", "g"])


@given(
    st.lists(st.tuples(FEW_TEXTS, st.text("uvwxyz", min_size=1, max_size=2), st.sampled_from("pq")), min_size=12),
    st.integers(1, 3),
    st.integers(1, 3) | st.just("all"),
    st.integers(0, 999),
)
def test_no_text_stands_on_both_sides(rows: list[tuple[str, str, str]], shot: int, query: Any, seed: int) -> None:
    examples = [SentencePair(source, target, task) for source, target, task in rows]
    made = sampler(examples, shot=shot, query=query, seed=seed, n_episodes=3, skip_small=True)
    for i in range(3):
        try:
            episode = made[i]
        except KshotError:  # every pair of the task shares a text with the support, see below
            continue
        assert not texts(episode.support) & texts(episode.query)
        assert len({each.task for each in (*episode.support, *episode.query)}) == 1
        assert set(episode.support) | set(episode.query) <= set(examples)
        left = [each for each in examples if each.task == episode.support[0].task]
        left = [each for each in left if not texts([each]) & texts(episode.support)]
        assert len(episode.support) == shot
        assert len(episode.query) == (len(left) if query == "all" else min(query, len(left)))
        assert (episode.classes, episode.index) == ((), i)


@given(st.integers(0, 999), st.integers(0, 19))
def test_an_episode_depends_on_its_examples_seed_and_number_alone(seed: int, i: int) -> None:
    examples = [*pairs(12, "a"), *pairs(9, "b")]
    alone = sampler(examples, seed=seed)[i]
    again = sampler(examples, seed=seed, n_episodes=50)
    assert again[49] is not None
    assert again[i] == alone
    assert (sampler(examples, seed=seed + 1)[i].support, seed) != (alone.support, seed)


def test_every_pair_and_every_task_is_drawn() -> None:
    examples = [*pairs(6, "a"), *pairs(7, "b"), *pairs(8, "c")]
    episodes = sampler(examples, n_episodes=200)[:]
    assert {each for episode in episodes for each in episode.support} == set(examples)
    assert {each for episode in episodes for each in episode.query} == set(examples)
    counts = [sum(episode.support[0].task == task for episode in episodes) for task in "abc"]
    assert min(counts) > 40
    assert all(len(set(episode.support)) == 3 and len(set(episode.query)) == 2 for episode in episodes)


def test_ranges_are_drawn() -> None:
    episodes = sampler(pairs(12), shot=(2, 4), query=(1, 3), n_episodes=80)[:]
    assert {len(episode.support) for episode in episodes} == {2, 3, 4}
    assert {len(episode.query) for episode in episodes} == {1, 2, 3}


def test_the_whole_of_two_pools() -> None:
    shown, asked = pairs(5, "a"), pairs(4, "a", first=3)  # two of which are shown
    [episode] = sampler(shown, shot="all", query="all", query_examples=asked, n_episodes=1)
    assert set(episode.support) == set(shown)
    assert list(episode.query) == asked[2:]


def first(examples: Sequence[SentencePair], **changes: Any) -> Episode:
    return sampler(examples, **changes)[0]


def refused(examples: Sequence[SentencePair], **changes: Any) -> str:
    with pytest.raises(KshotError) as caught:
        first(examples, **changes)
    return str(caught.value)


def test_counts_that_cannot_be_used() -> None:
    assert refused(pairs(9), way=5) == 'way is 5, but a translation has no classes to draw; write "all".'
    assert refused(pairs(9), shot="all") == (
        'shot is "all", which leaves no pair for the query; give a number, or other query_examples.'
    )
    assert refused(pairs(9), shot=0) == 'shot is 0 but has to be a whole number from 1, a range (low, high) or "all".'
    assert refused(pairs(9), seed=-1) == "seed is -1 but has to be a whole number from 0."


def test_a_query_is_smaller_where_the_support_leaves_less_and_never_empty() -> None:
    shared = [*(SentencePair(f"s{i}", "t", "x") for i in range(3)), SentencePair("s3", "other", "x")]
    for episode in sampler(shared, shot=2, query=2, n_episodes=20):  # half of the supports leave nothing
        assert len(episode.query) == 1
        assert {each.texts[1] for each in episode.support}.isdisjoint(each.texts[1] for each in episode.query)


def test_too_few_pairs_are_refused_or_left_out() -> None:
    assert refused(pairs(4)) == (
        "The data set has 4 pairs to learn from and 4 to be judged by, but an episode needs shot 3 and query 2 of the "
        "same pairs; lower them or add pairs."
    )
    assert refused([*pairs(9, "a"), *pairs(1, "b")], shot=(1, 2)) == (
        'The task "b" has 1 pair to learn from and 1 to be judged by, but an episode needs shot 1 to 2 and query 2 of '
        "the same pairs; lower them or add pairs."
    )
    assert refused(pairs(9, "a"), query_examples=pairs(9, "b")) == (
        'The task "a" has 9 pairs to learn from and 0 to be judged by, but an episode needs shot 3 and query 2; lower '
        "them or add pairs."
    )
    left = sampler([*pairs(9, "a"), *pairs(1, "b")], skip_small=True)
    assert (left.tasks, left.skipped) == (("a",), ("b",))
    assert refused(pairs(1), skip_small=True) == (
        "No task has enough sentence pairs; lower shot and query or add pairs."
    )
    assert refused([]) == "No task has enough sentence pairs; lower shot and query or add pairs."
    same = [SentencePair("a", f"t{i}", "x") for i in range(9)]
    assert refused(same) == (
        'Episode 0 of the task "x" has no pair for its query that is not in its support as well; lower shot or add '
        "pairs."
    )


# -- data sets ---------------------------------------------------------------------------------------------------------


def test_a_new_task_has_its_support_from_train_and_its_query_from_its_part() -> None:
    def rows(task: str, *parts: str) -> tuple[SentencePair, ...]:
        return tuple(each for n, part in enumerate(parts) for each in pairs(6, task, part, first=10 * n))

    dataset = PairDataset("data", rows("a", "train"), rows("b", "train", "valid"), rows("c", "train", "test"), "tasks")
    assert dataset.pools("train") == (dataset.train, None)
    for part, task in (("valid", "b"), ("test", "c")):
        support, query = dataset.pools(part)
        assert query is not None
        assert {(each.task, each.part) for each in support} == {(task, "train")}
        assert {(each.task, each.part) for each in query} == {(task, part)}
        for episode in dataset.sampler(part, way="all", shot=4, query=3, seed=0, n_episodes=5):
            assert {each.part for each in episode.support} == {"train"}
            assert {each.part for each in episode.query} == {part}
    assert dataset.shot_counts == "pairs"
    by_pair = PairDataset("data", rows("", "train"), (), rows("", "", "test")[6:], "examples")
    assert by_pair.pools("test") == (by_pair.train, by_pair.test)


LANGUAGES = {
    "tatoeba": ("bul ces deu ita nld por rus spa swe ukr", "dan pol", "cat mkd nob ron"),
    "tico19": ("lug swa zul", "lin", "kin"),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_known_pairs_of_languages(name: str) -> None:
    if FOUND[name] is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    dataset = load_dataset(name)
    assert isinstance(dataset, PairDataset)
    assert dataset.name == f"{name}/into_english"
    for part, languages in zip(("train", "valid", "test"), LANGUAGES[name], strict=True):
        assert {each.task for each in dataset.part(part)} == {f"{language}-eng" for language in languages.split()}
        assert {each.part for each in dataset.part(part)} == {"train", part}
        assert all(each.source.strip() and each.target.strip() for each in dataset.part(part))
    episode = dataset.sampler("test", way="all", shot=20, query=20, seed=0, n_episodes=1)[0]
    assert not texts(episode.support) & texts(episode.query)


@pytest.mark.skipif(FOUND["tico19"] is None, reason="the data set tico19 is not on this machine (set KSHOT_DATA)")
def test_out_of_english_is_the_other_way_round() -> None:
    into, out_of = load_dataset("tico19"), load_dataset("tico19", split="from_english")
    for part in ("train", "valid", "test"):
        assert [(each.target, each.source, each.part) for each in into.part(part)] == [
            (each.source, each.target, each.part) for each in out_of.part(part)
        ]
        assert {each.task for each in out_of.part(part)} == {
            "-".join(reversed(each.task.split("-"))) for each in into.part(part)
        }
