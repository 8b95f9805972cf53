"""A data set's parts and the sampler of each unit."""

import pytest

from kshot.data.dataset import TextDataset
from kshot.data.examples import TextExample
from kshot.errors import KshotError


def pool(label: str, n: int, *, task: str = "", part: str = "") -> tuple[TextExample, ...]:
    return tuple(TextExample(f"{task} {part} {label} {i}", label, task, part) for i in range(n))


COUNTS = {"way": 2, "shot": 2, "query": 3, "seed": 0, "n_episodes": 4}


def test_a_part_is_named_and_not_empty() -> None:
    dataset = TextDataset("mine", pool("a", 3), (), pool("b", 3), "classes")
    assert dataset.part("train") == pool("a", 3)
    assert dataset.classes("test") == ("b",)
    with pytest.raises(KshotError) as caught:
        dataset.part("tset")
    assert str(caught.value) == ('There is no part "tset"; the parts are train, valid and test. Did you mean "test"?')
    with pytest.raises(KshotError) as caught:
        dataset.part("valid")
    assert str(caught.value) == 'The part "valid" of data set "mine" is empty; add examples to it or use another part.'


def test_unit_classes_draws_from_the_part() -> None:
    dataset = TextDataset("mine", pool("a", 9), (), pool("b", 9) + pool("c", 9), "classes")
    for episode in dataset.sampler("test", **COUNTS):  # type: ignore[arg-type]
        assert set(episode.support + episode.query) <= set(dataset.test)


def test_unit_examples_takes_the_support_from_train() -> None:
    dataset = TextDataset(
        "mine", pool("a", 9) + pool("b", 9), (), pool("a", 5, part="t") + pool("b", 5, part="t"), "examples"
    )
    for episode in dataset.sampler("test", **COUNTS):  # type: ignore[arg-type]
        assert set(episode.support) <= set(dataset.train)
        assert set(episode.query) <= set(dataset.test)
    for episode in dataset.sampler("train", **COUNTS):  # type: ignore[arg-type]
        assert set(episode.support + episode.query) <= set(dataset.train)


def test_unit_tasks_keeps_the_published_support_of_a_task() -> None:
    both = [(label, task) for task in ("books", "films") for label in ("good", "bad")]
    train = tuple(each for label, task in both for each in pool(label, 9, task=f"old {task}", part="train"))
    test = tuple(each for label, task in both for each in pool(label, 2, task=task, part="train"))
    test += tuple(each for label, task in both for each in pool(label, 6, task=task, part="test"))
    dataset = TextDataset("mine", train, (), test, "tasks")
    sampler = dataset.sampler("test", way="all", shot="all", query="all", seed=0, n_episodes=8)
    for episode in sampler:
        assert {example.part for example in episode.support} == {"train"}
        assert {example.part for example in episode.query} == {"test"}
        assert (len(episode.support), len(episode.query)) == (4, 12)
        assert len({example.task for example in episode.support + episode.query}) == 1
    for episode in dataset.sampler("train", **COUNTS):  # type: ignore[arg-type]
        assert len({example.task for example in episode.support + episode.query}) == 1


def test_small_classes_can_be_left_out() -> None:
    dataset = TextDataset("mine", pool("a", 9) + pool("b", 9) + pool("c", 1), (), (), "classes")
    assert dataset.sampler("train", skip_small=True, **COUNTS).skipped == ("c",)  # type: ignore[arg-type]
