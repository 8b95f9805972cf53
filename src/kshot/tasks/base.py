"""What a kind of problem is to an algorithm: items, each a vector with a label number."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from kshot.data.examples import Example
from kshot.models.encoder import Encoder, n_vectors, run_means
from kshot.models.vocabulary import TokenIds, Vocabulary, WordRanges
from kshot.settings import Settings


@dataclass(frozen=True)
class Group:
    """Items of one kind: texts, words, or runs of words.

    Attributes:
        rows: The vector of each item, or the first of the run whose mean it is, (n_items,).
        labels: Their label numbers, (n_items,); -1 where there is none to learn from.
        n_labels: The number of labels.
        weights: How many examples each item counts for, (n_items,).
        widths: The length of the run of each item, (n_items,); None if each is one vector.
    """

    rows: Tensor
    labels: Tensor
    n_labels: int
    weights: Tensor
    widths: Tensor | None = None

    def features(self, vectors: Tensor) -> Tensor:
        """Returns the vector of each item: (n_vectors, dim) -> (n_items, dim)."""
        if self.widths is None:
            return vectors[self.rows.to(vectors.device)]
        return run_means(vectors, self.rows, self.widths)

    def part(self, items: Tensor) -> "Group":
        """The items of some numbers, (n_chosen,)."""
        widths = None if self.widths is None else self.widths[items]
        return replace(
            self, rows=self.rows[items], labels=self.labels[items], weights=self.weights[items], widths=widths
        )


@dataclass(frozen=True)
class Batch:
    """A support or a query set as an algorithm needs it.

    Attributes:
        texts: The distinct token sequences.
        groups: The items of each group.
        words: Where the words of each text are, if each word has a vector of its own; None if each text has one. The
            vectors that `Group.rows` count are those of the words of all texts in order, or of the texts.
        given: The text that each text continues, as a translation its source; None if they stand alone.
    """

    texts: tuple[TokenIds, ...]
    groups: dict[str, Group]
    words: tuple[WordRanges, ...] | None = None
    given: tuple[TokenIds, ...] | None = None

    @property
    def tokens(self) -> list[TokenIds]:
        """All that an encoder reads of it."""
        return [*self.texts, *(self.given or ())]

    def part(self, group: str, items: Tensor) -> Self:
        """The batch with some items only of a group, (n_chosen,); its vectors are the same."""
        return replace(self, groups={**self.groups, group: self.groups[group].part(items)})

    def of_texts(self, chosen: Sequence[int]) -> Self:
        """The batch of some of its texts, in their order, with the items whose vectors are all of theirs."""
        chosen = sorted(chosen)
        counts = torch.tensor(n_vectors(self.texts, self.words), dtype=torch.int64)
        numbers = torch.zeros(len(counts), dtype=torch.int64)
        numbers[list(chosen)] = 1
        kept = torch.repeat_interleave(numbers, counts)  # 1 for each vector that stays
        before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])  # how many stay before each
        groups = {}
        for name, group in self.groups.items():
            widths = torch.ones_like(group.rows) if group.widths is None else group.widths
            whole = before[group.rows + widths] - before[group.rows] == widths
            part = group.part(torch.nonzero(whole).flatten())
            groups[name] = replace(part, rows=before[part.rows])
        return replace(
            self,
            texts=tuple(self.texts[number] for number in chosen),
            groups=groups,
            words=None if self.words is None else tuple(self.words[number] for number in chosen),
            given=None if self.given is None else tuple(self.given[number] for number in chosen),
        )


class Scorer(Protocol):
    """Scores items under what was learned from a support."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Scores the items of a batch: for each of its groups (n_items, n_labels)."""

    def scores(self, group: str, vectors: Tensor) -> Tensor:
        """Scores vectors of a group: (n_items, dim) -> (n_items, n_labels)."""

    def network(self) -> Encoder:
        """The encoder with the weights that were learned."""


class Task(ABC):
    """One kind of problem.

    Attributes:
        groups: The kinds of items that it labels, each with a head of its own.
        measures: The names of its scores, the one that decides first.
        numbers: Those of them that are no shares of 1, and are shown as they are.
        open: Whether labels are the tokens of a vocabulary, most of which no support shows.
        settings: What rebuilds it.
    """

    groups: tuple[str, ...]
    measures: ClassVar[tuple[str, ...]]
    numbers: ClassVar[frozenset[str]] = frozenset()
    open: ClassVar[bool] = False
    settings: Settings

    @property
    def kind(self) -> str:
        """Its name among the kinds of task."""
        return str(self.settings.model_dump()["kind"])

    @abstractmethod
    def collate(
        self, examples: Sequence[Any], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        """Makes a batch of examples; the label number of what is not of `classes` is -1."""

    @abstractmethod
    def score(self, scorer: Scorer, batch: Batch, examples: Sequence[Any], classes: Sequence[str]) -> tuple[float, ...]:
        """Predicts the examples of a batch and compares with what is true: a value for each of `measures`."""

    def judged_by(self, example: Any) -> tuple[str, ...]:
        """The classes of an example without which the measure that decides cannot count it; here all that it shows."""
        labels: tuple[str, ...] = example.labels
        return labels

    def signatures(self) -> tuple[str, ...]:
        """What tells others exactly how the measures are computed, where a library says; here nothing."""
        return ()

    def learned_from(self, examples: Iterable[Example]) -> Self:
        """The task with what it takes from the meta-training examples, apart from all learning; here nothing."""
        return self


def join(batches: Sequence[Batch]) -> tuple[Batch, list[Tensor]]:
    """Collects the distinct texts of several batches of one kind.

    A vocabulary gives the same array for the same text, so arrays are compared by identity.

    Returns:
        A batch of the distinct texts without items, and for each batch which of its vectors are the vectors of that
        batch, (n_vectors,).
    """
    places: dict[tuple[int, int], int] = {}  # where the vectors of a text begin
    texts: list[TokenIds] = []
    words: list[WordRanges] = []
    given: list[TokenIds] = []
    n_found = 0
    found = []
    for batch in batches:
        runs = []
        for row, text in enumerate(batch.texts):
            count = 1 if batch.words is None else len(batch.words[row])
            continued = None if batch.given is None else batch.given[row]
            place = places.setdefault((id(text), id(continued)), n_found)
            if len(places) > len(texts):
                texts.append(text)
                words += [] if batch.words is None else [batch.words[row]]
                given += [] if continued is None else [continued]
                n_found += count
            runs.append(torch.arange(place, place + count))
        found.append(torch.cat(runs) if runs else torch.empty(0, dtype=torch.int64))
    has_words, has_given = (batches[0].words is not None, batches[0].given is not None) if batches else (False, False)
    return Batch(tuple(texts), {}, tuple(words) if has_words else None, tuple(given) if has_given else None), found


def group_of(labels: Sequence[int], rows: Sequence[int], n_labels: int, weights: Sequence[float]) -> Group:
    """A group of items that are one vector each."""
    return Group(
        rows=torch.tensor(rows, dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
        n_labels=n_labels,
        weights=torch.tensor(weights, dtype=torch.float32),
    )
