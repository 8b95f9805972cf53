"""Episodes, drawn by number: `sampler[i]` depends on the examples, the seed and `i` alone.

Any process may draw any episode in any order and gets the same one, so a run can be resumed, split over machines and
compared with another system episode by episode.

A text never stands on both sides of an episode, where texts that differ in case or white space alone are the same text:

- a text that a class has several times is one text: its first row is drawn, and `"all"` takes its rows together;
- a text that stands under two classes of one episode is left out of that episode, because it has no right answer there.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kshot.data.augment import Augmentation
from kshot.data.draws import Count, Sampler, count_ends, distinct_numbers, generator_of, pick, show_ends, whole_number
from kshot.data.examples import Episode, TextExample
from kshot.data.pools import ClassPool, Side, TaskPool, contested_texts, number_texts, rows_without, task_pools
from kshot.errors import KshotError, several

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EpisodeIndices:
    """An episode as row numbers, for features that are computed once and looked up.

    Attributes:
        support: Rows of the sampler's examples, class after class, ``(n_support,)``.
        query: Rows of its query examples (the same sequence unless it was given another), class after class,
            ``(n_query,)``.
        classes: The class names; a label number is a place in them.
        support_sizes: The number of support rows of each class.
        query_sizes: The number of query rows of each class.
        task: The named task, or empty.
    """

    support: Rows
    query: Rows
    classes: tuple[str, ...]
    support_sizes: tuple[int, ...]
    query_sizes: tuple[int, ...]
    task: str = ""

    @property
    def support_labels(self) -> Rows:
        """The label number of each support row, ``(n_support,)``."""
        return np.repeat(np.arange(len(self.classes), dtype=np.int64), self.support_sizes)

    @property
    def query_labels(self) -> Rows:
        """The label number of each query row, ``(n_query,)``."""
        return np.repeat(np.arange(len(self.classes), dtype=np.int64), self.query_sizes)


class EpisodeSampler(Sampler):
    """A sequence of episodes, each drawn when it is asked for.

    Attributes:
        examples: What the support is drawn from.
        query_examples: What the query is drawn from.
        classes: The names of the classes that can be drawn.
        task_names: The named tasks that can be drawn; empty without ``tasks``.
        skipped: With ``skip_small``, the classes (or ``task: class``, or tasks) that are too small to be drawn.
        n_episodes: The length of the sequence; `draw` accepts any number.
        seed: The seed.
    """

    def __init__(
        self,
        examples: Iterable[TextExample],
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        tasks: bool = False,
        query_examples: Iterable[TextExample] | None = None,
        skip_small: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        """Builds the class tables and decides which classes can serve.

        Args:
            examples: The pool that support (and query) are drawn from.
            way: The number of classes of an episode. With ``tasks``, the upper end of a range is cut to what the task
                has.
            shot: The number of support examples of each class; ``"all"`` takes every row that the query leaves.
            query: The number of query examples of each class; ``"all"`` takes every row that the support leaves.
            seed: Any whole number from 0.
            n_episodes: The length of the sequence.
            tasks: Whether an episode is drawn from one named task (`TextExample.task`) instead of from all classes
                together.
            query_examples: The pool of the query, if it is not that of the support.
            skip_small: Whether classes with too few examples are left out (and listed in `skipped`) instead of refused.
            augment: A change made to each support example, drawn from the seed and the episode's number too.

        Raises:
            KshotError: If a count is not usable, or if there are too few classes or a class has too few examples.
        """
        self.examples = tuple(examples)
        self.query_examples = self.examples if query_examples is None else tuple(query_examples)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 0)
        self.seed = whole_number(seed, "seed", 0)
        self._way = count_ends(way, "way", 2)
        self._shot = count_ends(shot, "shot", 1)
        self._query = count_ends(query, "query", 1)
        self._tasks = tasks
        self._one_pool = query_examples is None
        self._augment = augment
        if self._one_pool and shot == "all" and query == "all":
            raise KshotError(
                'shot and query are both "all", which leaves nothing for one of them; give a number for one, or '
                "other query_examples."
            )
        if not self.examples:
            raise KshotError(
                "There are no examples to draw episodes from; check that the part or the file is not empty."
            )
        self._texts, self._query_texts = number_texts(self.examples, self.query_examples, self._one_pool)
        self._pools, self.skipped = self._usable(
            task_pools(self.examples, self.query_examples, self._texts, self._query_texts, tasks, self._one_pool),
            skip_small,
        )
        self.classes: tuple[str, ...] = tuple(sorted({each.name for pool in self._pools for each in pool.classes}))
        self.task_names: tuple[str, ...] = tuple(pool.name for pool in self._pools) if tasks else ()

    @property
    def augments(self) -> bool:
        """Whether support examples are changed, so that rows alone do not say what an episode holds."""
        return self._augment is not None

    def episode(self, i: int) -> Episode:
        drawn = self.draw(i)
        support = tuple(self.examples[row] for row in drawn.support)
        if self._augment is not None:
            rng = generator_of(self.seed, i, 1)  # a third word: not the numbers that drew the episode
            support = tuple(self._augment(example, rng) for example in support)
        return Episode(support, tuple(self.query_examples[row] for row in drawn.query), drawn.classes, i)

    def draw(self, i: int) -> EpisodeIndices:
        """Draws episode `i` as row numbers; any `i` from 0, whatever the sampler's length."""
        rng = generator_of(self.seed, i)
        pool = self._pools[int(rng.random() * len(self._pools))]
        way = pick(self._way, len(pool.classes), rng)
        if (
            self._way[1] < 0
        ):  # every class, always in the same order: a fixed row of a head then means the same everywhere
            classes = list(pool.classes)
        else:
            classes = [pool.classes[place] for place in distinct_numbers(rng.random(way).tolist(), len(pool.classes))]
        contested = contested_texts(classes)
        n_support, n_query = pick(self._shot, -1, rng), pick(self._query, -1, rng)
        if self._one_pool:
            supports, queries = self._draw_one_pool(classes, contested, n_support, n_query, rng)
        else:
            supports, queries = self._draw_two_pools(classes, contested, n_support, n_query, rng)
        return EpisodeIndices(
            np.array([row for rows in supports for row in rows], dtype=np.int64),
            np.array([row for rows in queries for row in rows], dtype=np.int64),
            tuple([each.name for each in classes]),
            tuple([len(rows) for rows in supports]),
            tuple([len(rows) for rows in queries]),
            pool.name if self._tasks else "",
        )

    def _draw_one_pool(
        self, classes: list[ClassPool], contested: set[int], n_support: int, n_query: int, rng: np.random.Generator
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Draws both sides from one pool; a count of -1 is all that the other side leaves."""
        n_drawn = max(n_support, 0) + max(n_query, 0)
        uniforms = rng.random(len(classes) * n_drawn).tolist()
        supports, queries = [], []
        for place, each in enumerate(classes):
            distinct = each.support.distinct
            if contested and not contested.isdisjoint(each.contested):
                distinct = [row for row in distinct if self._texts[row] not in contested]
            drawn = [
                distinct[k] for k in distinct_numbers(uniforms[place * n_drawn : (place + 1) * n_drawn], len(distinct))
            ]
            if n_support < 0:
                queries.append(drawn)
                supports.append(rows_without(each.support, contested.union(self._texts[row] for row in drawn)))
            else:
                supports.append(drawn[:n_support])
                queries.append(
                    drawn[n_support:]
                    if n_query >= 0
                    else rows_without(each.query, contested.union(self._texts[row] for row in drawn))
                )
        return supports, queries

    def _draw_two_pools(
        self, classes: list[ClassPool], contested: set[int], n_support: int, n_query: int, rng: np.random.Generator
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Draws the support, then the query from the other pool without the support's texts."""
        supports = [
            _draw_side(each.support, self._texts, contested & each.contested, n_support, rng) for each in classes
        ]
        taken = contested.union(self._texts[row] for rows in supports for row in rows)
        queries = [
            _draw_side(
                each.query, self._query_texts, taken if each.n_shared or each.contested else frozenset(), n_query, rng
            )
            for each in classes
        ]
        return supports, queries

    def _usable(self, pools: list[TaskPool], skip_small: bool) -> tuple[list[TaskPool], tuple[str, ...]]:
        """Leaves the classes and tasks that every episode can be drawn from; refuses the others unless `skip_small`."""
        kept: list[TaskPool] = []
        skipped: list[str] = []
        for pool in pools:
            prefix = f"{pool.name}: " if self._tasks else ""
            complaints = {each.name: self._complaint(each, len(pool.classes)) for each in pool.classes}
            small = [name for name, complaint in complaints.items() if complaint]
            if small and not skip_small:
                raise KshotError(self._too_small(pool, small, complaints[small[0]]))
            classes = tuple(each for each in pool.classes if not complaints[each.name])
            skipped += [prefix + name for name in small]
            needed = max(2, self._way[0] if self._tasks else self._way[1])
            if len(classes) < needed:
                if not (self._tasks and skip_small):
                    raise KshotError(self._too_few(pool, len(classes), len(small), needed))
                skipped.append(pool.name)
                continue
            kept.append(TaskPool(pool.name, classes))
        if not kept:
            raise KshotError(
                f"None of the {len(pools)} tasks has enough classes and examples "
                f"(way {show_ends(self._way)}, shot {show_ends(self._shot)}, query {show_ends(self._query)}); lower "
                "them or add examples."
            )
        return kept, tuple(skipped)

    def _complaint(self, each: ClassPool, n_classes: int) -> str:
        """What a class lacks, in words; empty if it lacks nothing. `"all"` needs at least one."""
        shot, query = (high if high > 0 else 1 for high in (self._shot[1], self._query[1]))
        n_contested = len(each.contested)
        own = "" if not n_contested else f" of its own ({n_contested} more stand under another class too)"
        if self._one_pool:
            has = len(each.support.distinct) - n_contested
            wanted = f"{shot + query} (shot {show_ends(self._shot)} and query {show_ends(self._query)})"
            return f"has {_texts(has)}{own} but needs {wanted}" if has < shot + query else ""
        has = len(each.support.distinct) - len(each.contested.intersection(each.support.texts))
        if has < shot:
            return f"has {_texts(has)} for the support but needs {shot} (shot {show_ends(self._shot)})"
        n_support = shot * (min(self._way[1], n_classes) if self._way[1] > 0 else n_classes)
        lost = each.n_shared if self._shot[1] < 0 else min(each.n_shared, n_support)
        has = len(each.query.distinct) - len(each.contested.intersection(each.query.texts)) - lost
        if has < query:
            return (
                f"has {_texts(max(has, 0))} for the query that the support cannot hold but needs {query} (query "
                f"{show_ends(self._query)})"
            )
        return ""

    def _too_small(self, pool: TaskPool, small: list[str], complaint: str) -> str:
        where = f' of task "{pool.name}"' if self._tasks else ""
        others = (
            ""
            if len(small) == 1
            else f", and {len(small) - 1} more {'class is' if len(small) == 2 else 'classes are'} too small"
        )
        return (
            f'Class "{small[0]}"{where} {complaint}{others}; add examples, lower shot or query, or leave small '
            "classes out with skip_small."
        )

    def _too_few(self, pool: TaskPool, n_classes: int, n_small: int, needed: int) -> str:
        has = f"{n_classes} class{'' if n_classes == 1 else 'es'}"
        after = f" after {n_small} too small ones were left out" if n_small else ""
        if self._tasks:
            way_out = "lower way, take the task out, or leave such tasks out with skip_small"
            return (
                f'Task "{pool.name}" has {has}{after} but an episode needs {needed} (way {show_ends(self._way)}); '
                f"{way_out}."
            )
        return (
            f"There are {has}{after} but an episode needs {needed} (way {show_ends(self._way)}); lower way or add "
            "classes."
        )


def _texts(n: int) -> str:
    return several(n, "different text")


def _draw_side(
    side: Side, texts: Sequence[int], left_out: Collection[int], count: int, rng: np.random.Generator
) -> list[int]:
    """Draws rows of different texts from one side of a class; a count of -1 takes all rows."""
    if count < 0:
        return rows_without(side, left_out)
    distinct = [row for row in side.distinct if texts[row] not in left_out] if left_out else side.distinct
    return [distinct[place] for place in distinct_numbers(rng.random(count).tolist(), len(distinct))]
