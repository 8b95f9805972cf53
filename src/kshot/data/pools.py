"""The rows that episodes are drawn from, sorted once into tasks and classes."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kshot.data.examples import TextExample
from kshot.data.normal import normalise
from kshot.errors import KshotError


@dataclass(frozen=True, slots=True)
class Side:
    """One class's rows on one side.

    Attributes:
        rows: All rows, in order.
        texts: The text number of each row.
        distinct: The first row of each text.
    """

    rows: list[int]
    texts: list[int]
    distinct: list[int]


@dataclass(frozen=True, slots=True)
class ClassPool:
    """One class of one task.

    Attributes:
        name: Its name.
        support: The rows that its support is drawn from.
        query: The rows that its query is drawn from; the same object if both come from one pool.
        contested: The texts that stand under another class of the task as well.
        n_shared: How many of its query texts, contested ones aside, are somewhere in the task's support pool; 0 with
            one pool.
    """

    name: str
    support: Side
    query: Side
    contested: frozenset[int]
    n_shared: int


@dataclass(frozen=True, slots=True)
class TaskPool:
    """The classes of one task, or of the only one.

    Attributes:
        name: Its name; empty if episodes are drawn from all classes together.
        classes: Its classes, by name.
    """

    name: str
    classes: tuple[ClassPool, ...]


def number_texts(
    examples: Sequence[TextExample], query_examples: Sequence[TextExample], one_pool: bool
) -> tuple[list[int], list[int]]:
    """Numbers the texts, so that the same text has the same number in both pools."""
    numbers: dict[str, int] = {}
    texts = [numbers.setdefault(normalise(example.text), len(numbers)) for example in examples]
    if one_pool:
        return texts, texts
    return texts, [numbers.setdefault(normalise(example.text), len(numbers)) for example in query_examples]


def task_pools(
    examples: Sequence[TextExample],
    query_examples: Sequence[TextExample],
    texts: list[int],
    query_texts: list[int],
    tasks: bool,
    one_pool: bool,
) -> list[TaskPool]:
    """Sorts the rows into tasks and classes, both by name: the order of the file decides as little as possible.

    Raises:
        KshotError: If `tasks` is set and an example has no task.
    """
    support = _group(examples, texts, tasks)
    query = support if one_pool else _group(query_examples, query_texts, tasks)
    names = sorted({*support, *query})
    return [_task_pool(name, support.get(name, {}), query.get(name, {}), one_pool) for name in names]


def _task_pool(name: str, support: dict[str, Side], query: dict[str, Side], one_pool: bool) -> TaskPool:
    nothing = Side([], [], [])
    sides = {each: (support.get(each, nothing), query.get(each, nothing)) for each in sorted({*support, *query})}
    texts_of = {each: {*left.texts, *right.texts} for each, (left, right) in sides.items()}
    n_classes_of = Counter(text for texts in texts_of.values() for text in texts)
    in_support = set() if one_pool else {text for side in support.values() for text in side.texts}
    classes = []
    for each, (left, right) in sides.items():
        contested = frozenset(text for text in texts_of[each] if n_classes_of[text] > 1)
        classes.append(ClassPool(each, left, right, contested, len(in_support.intersection(right.texts) - contested)))
    return TaskPool(name, tuple(classes))


def _group(examples: Sequence[TextExample], texts: Sequence[int], tasks: bool) -> dict[str, dict[str, Side]]:
    """The rows of each class of each task; one task without a name unless `tasks`."""
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, example in enumerate(examples):
        if tasks and not example.task:
            raise KshotError(
                f'Example {row} ("{example.text[:40]}") has no task, and episodes are to be drawn from named tasks; '
                "fill in its task field."
            )
        groups[example.task if tasks else ""][example.label].append(row)
    return {task: {label: _side(rows, texts) for label, rows in group.items()} for task, group in groups.items()}


def _side(rows: list[int], texts: Sequence[int]) -> Side:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(texts[row], row)
    return Side(rows, [texts[row] for row in rows], list(first.values()))


def contested_texts(classes: list[ClassPool]) -> set[int]:
    """The texts that stand under two of the classes."""
    sets = [each.contested for each in classes if each.contested]
    if len(sets) < 2:
        return set()
    return {text for text, n in Counter(text for each in sets for text in each).items() if n > 1}


def rows_without(side: Side, texts: Collection[int]) -> list[int]:
    """All rows of a class but those with one of the texts."""
    return [row for row, text in zip(side.rows, side.texts, strict=True) if text not in texts]
