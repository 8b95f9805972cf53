"""The sampler: what must hold of every episode, whatever the examples and the counts."""

import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.augment import build_augmentation
from kshot.data.examples import Episode, TextExample
from kshot.data.normal import normalise
from kshot.data.sampler import EpisodeSampler
from kshot.errors import KshotError


def pool(n_classes: int = 6, n_texts: int = 12, task: str = "") -> list[TextExample]:
    return [
        TextExample(f"{task} text {i} of {c}", f"class {c}", task) for c in range(n_classes) for i in range(n_texts)
    ]


def texts(examples: tuple[TextExample, ...]) -> set[str]:
    return {normalise(example.text) for example in examples}


@st.composite
def messy_pools(draw: st.DrawFn) -> list[TextExample]:
    """Classes of unequal size, with texts that repeat in other case and space, also under other labels."""
    n_classes = draw(st.integers(2, 5))
    examples = []
    for c in range(n_classes):
        own = [f"text {i} of {c}" for i in range(draw(st.integers(8, 14)))]
        repeats = [text.upper().replace(" ", "  ") for text in draw(st.lists(st.sampled_from(own), max_size=4))]
        shared = draw(st.lists(st.sampled_from(["Yes", " yes ", "no", "NO"]), max_size=3))
        examples += [TextExample(text, f"class {c}") for text in own + repeats + shared]
    return draw(st.permutations(examples))


counts = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 2), st.integers(2, 4)))


def within(n: int, count: int | tuple[int, int]) -> bool:
    return n == count if isinstance(count, int) else count[0] <= n <= count[1]


def check_episode(episode: Episode) -> None:
    """What holds of every episode."""
    assert len(set(episode.classes)) == episode.way
    assert not texts(episode.support) & texts(episode.query)
    assert {example.label for example in episode.support} == set(episode.classes)
    assert {example.label for example in episode.query} == set(episode.classes)


@given(messy_pools(), counts, counts, st.integers(0, 2**70), st.integers(0, 2**40))
def test_counts_are_exact_and_no_text_is_on_both_sides(
    examples: list[TextExample], shot: int | tuple[int, int], query: int | tuple[int, int], seed: int, i: int
) -> None:
    sampler = EpisodeSampler(examples, way=2, shot=shot, query=query, seed=seed, n_episodes=i + 1)
    episode = sampler[i]
    check_episode(episode)
    assert episode.way == 2
    assert episode.index == i
    (n_support,) = set(Counter(example.label for example in episode.support).values())
    (n_query,) = set(Counter(example.label for example in episode.query).values())
    assert within(n_support, shot)
    assert within(n_query, query)
    assert len(texts(episode.support)) == len(episode.support), "a text is drawn once"
    assert len(texts(episode.query)) == len(episode.query)


@given(messy_pools(), st.integers(0, 5), st.sampled_from(["shot", "query"]))
def test_all_takes_every_row_that_the_other_side_leaves(examples: list[TextExample], seed: int, which: str) -> None:
    shot, query = ("all", 2) if which == "shot" else (2, "all")
    episode = EpisodeSampler(examples, way="all", shot=shot, query=query, seed=seed, n_episodes=1)[0]
    check_episode(episode)
    assert set(episode.classes) == {example.label for example in examples}
    drawn, rest = (episode.query, episode.support) if which == "shot" else (episode.support, episode.query)
    labels_of: dict[str, set[str]] = {}
    for example in examples:
        labels_of.setdefault(normalise(example.text), set()).add(example.label)
    left = [
        each
        for each in examples
        if normalise(each.text) not in texts(drawn) and len(labels_of[normalise(each.text)]) == 1
    ]
    assert Counter(rest) == Counter(left)


@given(messy_pools(), messy_pools(), st.sampled_from([1, (1, 3), "all"]), st.integers(0, 5))
def test_query_from_another_pool(
    examples: list[TextExample], others: list[TextExample], query: int | tuple[int, int] | str, seed: int
) -> None:
    labels = {example.label for example in examples} & {example.label for example in others}
    others = [TextExample(f"other {example.text}", example.label) for example in others if example.label in labels]
    others += [example for example in examples if example.label in labels][:3]  # texts that are in both pools
    examples = [example for example in examples if example.label in labels]
    sampler = EpisodeSampler(
        examples,
        way=2,
        shot=3,
        query=query,
        seed=seed,
        n_episodes=3,
        query_examples=others,  # type: ignore[arg-type]
    )
    for episode in sampler:
        check_episode(episode)
        assert len(episode.support) == 6
        assert set(episode.query) <= set(others)


@given(st.tuples(st.integers(2, 3), st.integers(4, 6)), st.integers(0, 20))
def test_a_range_of_ways_is_respected_and_reached(way: tuple[int, int], seed: int) -> None:
    sampler = EpisodeSampler(pool(), way=way, shot=1, query=1, seed=seed, n_episodes=100)
    ways = {episode.way for episode in sampler}
    assert ways == set(range(way[0], way[1] + 1))


def test_each_class_and_row_is_drawn_equally_often() -> None:
    sampler = EpisodeSampler(pool(6, 10), way=3, shot=2, query=2, seed=0, n_episodes=4000)
    drawn = [sampler.draw(i) for i in range(4000)]
    for side in ("support", "query"):
        counted = np.bincount(np.concatenate([getattr(each, side) for each in drawn]), minlength=60)
        expected = 4000 * 3 * 2 / 60
        assert np.abs(counted - expected).max() < 5 * expected**0.5
    first = Counter(each.classes[0] for each in drawn)
    assert max(abs(n - 4000 / 6) for n in first.values()) < 5 * (4000 / 6) ** 0.5


def test_an_episode_is_the_same_in_any_order_and_any_sampler() -> None:
    settings = {"way": (2, 4), "shot": (1, 3), "query": 2, "seed": 3}
    one = EpisodeSampler(pool(), n_episodes=50, **settings)  # type: ignore[arg-type]
    other = EpisodeSampler(pool(), n_episodes=9, **settings)  # type: ignore[arg-type]
    backwards = [one[i] for i in reversed(range(50))][::-1]
    assert backwards == list(one)
    assert list(other) == backwards[:9]
    assert one[-1] == backwards[-1]
    assert one[3:6] == tuple(backwards[3:6])
    assert pickle.loads(pickle.dumps(one))[7] == backwards[7]
    assert len({tuple(one.draw(i).support) for i in range(50)}) > 45, "episodes differ"


PROGRAM = """
from kshot.data.examples import TextExample
from kshot.data.sampler import EpisodeSampler
pool = [TextExample(f"text {i} of {c}", f"class {c}") for c in range(9) for i in range(12)]
sampler = EpisodeSampler(pool, way=(2, 5), shot=(1, 3), query="all", seed=12345678901234567890123, n_episodes=1)
print([(*map(int, sampler.draw(i).support), *sampler.draw(i).classes) for i in (10**12, 3)])
"""


EXPECTED = """\
[(62, 66, 65, 43, 47, 45, 93, 92, 89, 55, 52, 58, 'class 5', 'class 3', 'class 7', 'class 4'), \
(73, 74, 80, 85, 88, 91, 31, 27, 35, 'class 6', 'class 7', 'class 2')]
"""


def test_an_episode_is_the_same_in_a_fresh_process_and_on_every_platform() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stdout == EXPECTED


def test_labels_and_rows_of_an_index_draw_agree_with_the_episode() -> None:
    sampler = EpisodeSampler(pool(), way=3, shot=2, query=(1, 4), seed=1, n_episodes=5)
    for i, episode in enumerate(sampler):
        drawn = sampler.draw(i)
        assert tuple(sampler.examples[row] for row in drawn.support) == episode.support
        assert [drawn.classes[label] for label in drawn.support_labels] == [each.label for each in episode.support]
        assert [drawn.classes[label] for label in drawn.query_labels] == [each.label for each in episode.query]
        assert drawn.support.dtype == drawn.support_labels.dtype == np.int64


def test_an_episode_of_named_tasks_is_one_task() -> None:
    examples = pool(3, 8, "books") + pool(2, 8, "films") + pool(5, 8, "music")
    sampler = EpisodeSampler(examples, way=(2, 4), shot=2, query="all", seed=0, n_episodes=60, tasks=True)
    for i, episode in enumerate(sampler):
        check_episode(episode)
        (task,) = {example.task for example in episode.support + episode.query}
        assert sampler.draw(i).task == task
        assert episode.way <= {"books": 3, "films": 2, "music": 4}[task]
    assert sampler.task_names == ("books", "films", "music")
    assert {sampler.draw(i).task for i in range(60)} == {"books", "films", "music"}


def test_the_same_text_may_have_another_label_in_another_task() -> None:
    examples = [
        TextExample(f"text {i}", label, task)
        for task, flip in (("strict", 1), ("mild", 0))
        for i in range(8)
        for label in ["good" if (i + flip) % 2 else "bad"]
    ]
    sampler = EpisodeSampler(examples, way="all", shot=2, query=2, seed=0, n_episodes=4, tasks=True)
    assert all(len(episode.query) == 4 for episode in sampler)


def test_support_is_augmented_and_query_is_not() -> None:
    plain = EpisodeSampler(pool(), way=2, shot=3, query=3, seed=0, n_episodes=2)
    changed = EpisodeSampler(
        pool(), way=2, shot=3, query=3, seed=0, n_episodes=2, augment=build_augmentation(["swap_words"])
    )
    assert changed[1].query == plain[1].query
    assert changed[1].support != plain[1].support
    assert changed[1] == changed[1]
    assert [example.label for example in changed[1].support] == [example.label for example in plain[1].support]


def test_small_classes_are_left_out_and_listed() -> None:
    examples = [*pool(3, 8), TextExample("alone", "tiny")]
    sampler = EpisodeSampler(examples, way="all", shot=2, query=2, seed=0, n_episodes=5, skip_small=True)
    assert sampler.skipped == ("tiny",)
    assert sampler.classes == ("class 0", "class 1", "class 2")
    assert all("tiny" not in episode.classes for episode in sampler)
    tasks = [*pool(3, 8, "books"), *pool(1, 8, "films"), TextExample("alone", "tiny", "books")]
    named = EpisodeSampler(tasks, way="all", shot=2, query=2, seed=0, n_episodes=5, tasks=True, skip_small=True)
    assert named.skipped == ("books: tiny", "films")
    assert named.task_names == ("books",)


def test_an_index_outside_is_refused() -> None:
    sampler = EpisodeSampler(pool(), way=2, shot=1, query=1, seed=0, n_episodes=3)
    assert len(sampler) == 3
    for i in (3, -4):
        with pytest.raises(IndexError, match=f"Episode {i} of a sampler of 3 episodes"):
            sampler[i]


WAY_OUT = "add examples, lower shot or query, or leave small classes out with skip_small."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shot": 10, "query": 5},
            'Class "class 0" has 12 different texts but needs 15 (shot 10 and query 5), and 5 more classes are too '
            f"small; {WAY_OUT}",
        ),
        (
            {
                "examples": [*pool(2), TextExample("a", "tiny"), TextExample(" A", "tiny")],
                "shot": (1, 2),
                "query": "all",
            },
            f'Class "tiny" has 1 different text but needs 3 (shot 1 to 2 and query all); {WAY_OUT}',
        ),
        (
            {"examples": [*pool(2, 3), TextExample("yes", "class 0"), TextExample("YES", "class 1")], "shot": 3},
            'Class "class 0" has 3 different texts of its own (1 more stand under another class too) but needs 4 '
            "(shot 3 "
            f"and query 1), and 1 more class is too small; {WAY_OUT}",
        ),
        (
            {"query_examples": pool(2)},
            f'Class "class 2" has 0 different texts for the query that the support cannot hold but needs 1 (query '
            "1), and "
            f"3 more classes are too small; {WAY_OUT}",
        ),
        (
            {"query_examples": [*pool(6), TextExample("new", "new")]},
            f'Class "new" has 0 different texts for the support but needs 1 (shot 1); {WAY_OUT}',
        ),
        ({"way": 7}, "There are 6 classes but an episode needs 7 (way 7); lower way or add classes."),
        (
            {"examples": pool(1, 9, "books"), "tasks": True},
            'Task "books" has 1 class but an episode needs 2 (way 2); lower way, take the task out, or leave such '
            "tasks "
            "out with skip_small.",
        ),
        (
            {"examples": pool(1, 9, "books"), "tasks": True, "skip_small": True},
            "None of the 1 tasks has enough classes and examples (way 2, shot 1, query 1); lower them or add examples.",
        ),
        (
            {"tasks": True},
            'Example 0 (" text 0 of 0") has no task, and episodes are to be drawn from named tasks; fill in its task '
            "field.",
        ),
        (
            {"examples": []},
            "There are no examples to draw episodes from; check that the part or the file is not empty.",
        ),
        (
            {"shot": "all", "query": "all"},
            'shot and query are both "all", which leaves nothing for one of them; give a number for one, or other '
            "query_examples.",
        ),
        ({"shot": 0}, 'shot is 0 but has to be a whole number from 1, a range (low, high) or "all".'),
        ({"way": 1}, 'way is 1 but has to be a whole number from 2, a range (low, high) or "all".'),
        ({"query": "al"}, "query is 'al' but has to be a whole number from 1, a range (low, high) or \"all\"."),
        ({"shot": (5, 2)}, "shot is (5, 2), but the lower end of a range comes first; write (2, 5)."),
        ({"shot": (0, 2)}, "The lower end of shot is 0 but has to be a whole number from 1."),
        ({"seed": -1}, "seed is -1 but has to be a whole number from 0."),
        ({"n_episodes": 1.5}, "n_episodes is 1.5 but has to be a whole number from 0."),
    ],
)
def test_errors_name_the_class_and_the_way_out(changes: dict[str, object], message: str) -> None:
    settings = {"examples": pool(), "way": 2, "shot": 1, "query": 1, "seed": 0, "n_episodes": 3, **changes}
    with pytest.raises(KshotError) as caught:
        EpisodeSampler(settings.pop("examples"), **settings)  # type: ignore[arg-type]
    assert str(caught.value) == message
