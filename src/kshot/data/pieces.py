"""Episodes of one named task each, drawn piece by piece: a piece is a sentence pair, or a dialogue with its replies."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kshot.data.draws import (
    TRIES,
    Count,
    Sampler,
    count_ends,
    distinct_numbers,
    generator_of,
    pick,
    show_ends,
    whole_number,
)
from kshot.data.examples import Episode
from kshot.errors import KshotError, several

EpisodeAugmentation = Callable[[Episode, np.random.Generator], Episode]
"""A change to both sides of an episode; the generator is the only source of chance."""

Piece = tuple[int, ...]
"""The numbers of the examples that are drawn together."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """The pieces of one task: those that a support may have, and a query."""

    name: str
    support: tuple[Piece, ...]
    query: tuple[Piece, ...]


class PieceSampler(Sampler):
    """A sequence of episodes, each of one task: pieces to learn from, and pieces to be judged by.

    Nothing that an example of the support is known by (`marks_of`) is in the query.

    Attributes:
        examples: What the support is drawn from.
        query_examples: What the query is drawn from.
        skipped: With `skip_small`, the tasks that have too few pieces.
        n_episodes: The length of the sequence.
        seed: The seed.
    """

    piece: ClassVar[str]  # what a piece is called
    pieces: ClassVar[str]
    made: ClassVar[str]  # what is to be made in such a task

    def __init__(
        self,
        examples: Iterable[Any],
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        query_examples: Iterable[Any] | None = None,
        skip_small: bool = False,
        augment: EpisodeAugmentation | None = None,
    ) -> None:
        """Sorts the pieces by task.

        Args:
            examples: The examples.
            way: "all": there are no classes to draw.
            shot: Pieces of the support; "all" takes every one, and needs `query_examples`.
            query: Pieces of the query, fewer where the support leaves fewer, but never none; "all" takes every one that
                it leaves.
            seed: Any whole number from 0.
            n_episodes: The length of the sequence.
            query_examples: What the query is drawn from, if it is not `examples`.
            skip_small: Whether tasks that have too few pieces are left out instead of refused.
            augment: Changes made to both sides of an episode, drawn from the seed and the episode's number too.

        Raises:
            KshotError: If a count cannot be used, or there are too few pieces.
        """
        if way != "all":
            raise KshotError(f'way is {way!r}, but a {self.made} has no classes to draw; write "all".')
        self.examples = tuple(examples)
        self.query_examples = self.examples if query_examples is None else tuple(query_examples)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 0)
        self.seed = whole_number(seed, "seed", 0)
        self._augment = augment
        self._shot, self._query = count_ends(shot, "shot", 1), count_ends(query, "query", 1)
        if shot == "all" and query_examples is None:
            raise KshotError(
                f'shot is "all", which leaves no {self.piece} for the query; give a number, or other query_examples.'
            )
        self._pools, self.skipped = self._usable(skip_small)

    @staticmethod
    @abstractmethod
    def piece_of(example: Any) -> str | None:
        """The name of the piece of its task that an example belongs to; None if it is one of its own."""

    @staticmethod
    @abstractmethod
    def marks_of(example: Any) -> Iterable[str]:
        """What an example is known by, which must not stand on both sides of an episode."""

    def _usable(self, skip_small: bool) -> tuple[list[_Pool], tuple[str, ...]]:
        own_pieces, asked = self._by_task(self.examples), self._by_task(self.query_examples)
        shot, query = max(self._shot[1], 1), max(self._query[1], 1)
        one_pool = self.query_examples is self.examples
        kept, small = [], []
        for name, own in sorted(own_pieces.items()):
            others = asked.get(name, ())
            if len(own) >= shot + (query if one_pool else 0) and len(others) >= query:
                kept.append(_Pool(name, own, others))
            elif skip_small:
                small.append(name)
            else:
                where = f'The task "{name}"' if name else "The data set"
                raise KshotError(
                    f"{where} has {several(len(own), self.piece)} to learn from and {len(others)} to be judged by, but "
                    f"an episode needs shot {show_ends(self._shot)} and query {show_ends(self._query)}"
                    f"{f' of the same {self.piece}s' if one_pool else ''}; lower them or add {self.piece}s."
                )
        if not kept:
            raise KshotError(f"No task has enough {self.pieces}; lower shot and query or add {self.piece}s.")
        return kept, tuple(small)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that can be drawn."""
        return tuple(pool.name for pool in self._pools)

    def episode(self, i: int) -> Episode:
        rng = generator_of(self.seed, i)
        pool = self._pools[int(rng.random() * len(self._pools))]
        shot = pick(self._shot, len(pool.support), rng)
        for _ in range(TRIES):  # a support may take all that the query could have; another draw may not
            pieces = [pool.support[k] for k in distinct_numbers(rng.random(shot).tolist(), len(pool.support))]
            shown = tuple(self.examples[row] for piece in pieces for row in piece)
            if asked := self._asked(pool, shown, rng):
                drawn = Episode(shown, asked, (), i)
                return drawn if self._augment is None else self._augment(drawn, generator_of(self.seed, i, 1))
        raise KshotError(
            f'Episode {i} of the task "{pool.name}" has no {self.piece} for its query that is not in its support '
            f"as well; lower shot or add {self.piece}s."
        )

    def _asked(self, pool: _Pool, shown: Iterable[Any], rng: np.random.Generator) -> tuple[Any, ...]:
        """The examples of a query beside those of a support."""
        taken = {mark for example in shown for mark in self.marks_of(example)}
        query = pick(self._query, len(pool.query), rng)
        asked: list[Any] = []
        n_asked = 0
        for k in rng.permutation(len(pool.query)).tolist() if query < len(pool.query) else range(len(pool.query)):
            examples = [self.query_examples[row] for row in pool.query[k]]
            new = [example for example in examples if taken.isdisjoint(self.marks_of(example))]
            if new:
                asked += new
                n_asked += 1
                if n_asked == query:
                    break
        return tuple(asked)

    def _by_task(self, examples: Iterable[Any]) -> Mapping[str, tuple[Piece, ...]]:
        found: dict[str, dict[object, list[int]]] = {}
        for row, each in enumerate(examples):
            name = self.piece_of(each)
            found.setdefault(each.task, {}).setdefault(row if name is None else name, []).append(row)
        return {task: tuple(map(tuple, pieces.values())) for task, pieces in found.items()}
