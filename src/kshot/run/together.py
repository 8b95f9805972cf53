"""Many episodes at once: how a learner is evaluated whose encoder is the same for all tasks.

The plain way, in `kshot.run.evaluate`, collates, adapts and scores one episode after the other. Here episodes are drawn
as row numbers, the texts of many of them are encoded together and once, and the heads of episodes of one shape are
fitted together: `torch.func.vmap` over the same `fit` and `logits`, so that no algorithm has a second formula. The
figures are the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from kshot.data.examples import Episode
from kshot.data.sampler import EpisodeIndices, EpisodeSampler
from kshot.meta.heads import Head
from kshot.meta.learner import Learner
from kshot.meta.state import Items
from kshot.tasks.base import Batch
from kshot.tasks.classification import GROUP, Classification
from kshot.tasks.scores import accuracy, macro_f1

_DRAWN = 256  # episodes whose texts are encoded together
_ITEMS = 4_096  # vectors that are in the heads at once, 6 MB of MiniLM's: more leave the caches


def can_score_together(episodes: Sequence[Episode], learner: Learner) -> TypeGuard[EpisodeSampler]:
    """Whether the episodes are texts as they stand in a pool, and nothing but a head adapts to them."""
    settings = learner.inner.settings
    return (
        isinstance(episodes, EpisodeSampler)
        and not episodes.augments
        and isinstance(learner.task, Classification)
        and learner.shares_weights
        and (settings.steps if settings.test_steps is None else settings.test_steps) == 0
        and learner.head(GROUP).vectorises
    )


def score_together(sampler: EpisodeSampler, learner: Learner) -> NDArray[np.float64]:
    """Adapts to each episode and scores its queries: one row an episode, one column a measure.

    Memory holds the vectors of the texts that were drawn, however many the pool has.
    """
    vectors = _Vectors(learner)
    scores = np.empty((len(sampler), len(learner.task.measures)))
    for first in range(0, len(sampler), _DRAWN):
        numbers = range(first, min(first + _DRAWN, len(sampler)))
        drawn = [_in_table(learner, sampler, vectors, sampler.draw(i)) for i in numbers]
        table = vectors.table()
        alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for place, each in enumerate(drawn):
            alike[each.shape].append(place)
        for (n_labels, n_support, n_query), places in alike.items():
            n_at_once = max(1, _ITEMS // (n_support + n_query))
            for start in range(0, len(places), n_at_once):
                some = places[start : start + n_at_once]
                scores[[first + place for place in some]] = _scores(
                    learner.head(GROUP), n_labels, [drawn[place] for place in some], table
                )
    return scores


@dataclass(frozen=True)
class _Episode:
    """An episode as rows of a table of vectors, with the labels of these rows."""

    support: NDArray[np.int64]
    support_labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    query: NDArray[np.int64]
    query_labels: NDArray[np.int64]
    n_labels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.n_labels, len(self.support), len(self.query)


class _Vectors:
    """The vectors of texts: each has its row when it is asked for, and is encoded when the table is."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._row_of: dict[str, int] = {}
        self._waiting: list[str] = []
        self._table = torch.empty(0, learner.encoder.dim)

    def rows(self, texts: Iterable[str]) -> list[int]:
        row_of, rows = self._row_of, []
        for text in texts:
            row = row_of.get(text)
            if row is None:
                row = row_of[text] = len(row_of)
                self._waiting.append(text)
            rows.append(row)
        return rows

    def table(self) -> Tensor:
        """The vector of each row, (n_rows, dim)."""
        if self._waiting:
            tokens = self._learner.encoder.vocabulary.encode(self._waiting)
            new = self._learner.vectors(Batch(tuple(tokens), {}))
            self._table = torch.cat([self._table.to(new), new])
            self._waiting = []
        return self._table


def _in_table(learner: Learner, sampler: EpisodeSampler, vectors: _Vectors, drawn: EpisodeIndices) -> _Episode:
    """What `Classification.collate` makes of an episode, as rows of a table."""
    assert isinstance(learner.task, Classification)
    names, labels = learner.task.named(drawn.classes)
    support = vectors.rows(sampler.examples[row].text for row in drawn.support.tolist())
    weights = np.ones(len(support) + len(names), dtype=np.float32)
    weights[len(support) :] = learner.task.settings.name_weight
    return _Episode(
        np.array(support + vectors.rows(names), dtype=np.int64),
        np.concatenate([drawn.support_labels, np.array(labels, dtype=np.int64)]),
        weights,
        np.array(vectors.rows(sampler.query_examples[row].text for row in drawn.query.tolist()), dtype=np.int64),
        drawn.query_labels,
        len(drawn.classes),
    )


def _scores(head: Head, n_labels: int, episodes: Sequence[_Episode], table: Tensor) -> NDArray[np.float64]:
    """The scores of episodes of one shape, (n_episodes, n_measures)."""

    def logits(x: Tensor, y: Tensor, weights: Tensor, q: Tensor) -> Tensor:
        return head.logits(head.fit(Items(x, y, n_labels, weights)), q)

    def stacked(arrays: Iterable[NDArray[np.int64] | NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays))).to(table.device)

    found = vmap(logits)(
        table[stacked(each.support for each in episodes)],  # (n_episodes, n_support, dim)
        stacked(each.support_labels for each in episodes),
        stacked(each.weights for each in episodes).to(table.dtype),
        table[stacked(each.query for each in episodes)],
    )  # (n_episodes, n_query, n_labels)
    predicted = found.argmax(dim=-1).cpu().numpy()
    pairs = [(each.query_labels, row) for each, row in zip(episodes, predicted, strict=True)]
    return np.array([(accuracy(true, row), macro_f1(true, row, n_labels)) for true, row in pairs])
