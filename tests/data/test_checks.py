"""The checks: each finding, word for word, and silence where all is well."""

from kshot.data.checks import Finding, check, check_splits
from kshot.data.dataset import TextDataset
from kshot.data.examples import TextExample


def pool(label: str, n: int = 10, task: str = "") -> list[TextExample]:
    return [TextExample(f"{label} {i}", label, task) for i in range(n)]


def test_good_examples_have_no_findings() -> None:
    assert check(pool("a") + pool("b")) == []


def test_each_finding_of_examples() -> None:
    examples = [
        *pool("a"),
        *pool("b", 3),
        TextExample("Same  Text", "a"),
        TextExample("same text", "b"),
        TextExample("A 0", "a"),
        TextExample("x" * 5000, "a"),
    ]
    assert check(examples) == [
        Finding("warning", '1 text stands under more than one label: "Same  Text" under "a" and "b".'),
        Finding("warning", '1 class has fewer than 10 different texts: "b" has 4.'),
        Finding("note", '1 text occurs more than once but for case and space: "a 0" 2 times.'),
        Finding(
            "note", "1 text is longer than 4,000 characters (the longest 5,000): an encoder reads the beginning only."
        ),
    ]


def test_one_class_or_none_is_an_error() -> None:
    assert check(pool("a")) == [Finding("error", 'There is one class only, "a": there is nothing to tell it from.')]
    assert check([]) == [Finding("error", "There are no examples.")]


def test_tasks_are_judged_each_on_its_own() -> None:
    examples = [TextExample(f"text {i}", "ab"[(i + t) % 2], f"task {t}") for t in range(2) for i in range(20)]
    assert check(examples, tasks=True) == []
    assert check(examples)[0].message.startswith("20 texts stand under more than one label")
    assert check([*examples, *pool("a", 12, "task 2")], tasks=True) == [
        Finding("error", 'Task "task 2" has one class only, "a": there is nothing to tell it from.')
    ]


def test_parts_must_not_share_what_is_new_in_them() -> None:
    train, valid, test = tuple(pool("a")), (*pool("a", 1), *pool("b")), tuple(pool("c"))
    assert check_splits(TextDataset("data", train, valid, test, "classes")) == [
        Finding("error", '1 class is in both train and valid: "a".'),
        Finding("warning", '1 text is in both train and valid, but for case and space: "a 0".'),
    ]
    assert check_splits(TextDataset("data", train, train[:0], test, "examples")) == [
        Finding("error", '1 class of test is not in train: "c".'),
        Finding("warning", 'The part "valid" is empty.'),
    ]
    one, other = tuple(pool("a", 2, "books")), tuple(TextExample(f"new {i}", "a", "books") for i in range(2))
    films = tuple(pool("f", 2, "films"))
    assert check_splits(TextDataset("data", one, films, other, "tasks")) == [
        Finding("error", '1 task is in both train and test: "books".')
    ]
    assert check_splits(TextDataset("data", train, tuple(pool("b")), test, "classes")) == []
