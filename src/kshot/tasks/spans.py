"""Words as items, and the spans that their labels make: what a tagger does with the words of a sentence.

| scheme | groups | labels |
|---|---|---|
| `bio` | tag: words | O, and for each type B (its first word) and I (the others) |
| `io` | tag: words | O, and for each type I |
| `spans` | boundary: words; entity: entities | O, B, I, whatever the type; the types |

`spans` finds entities first and says then what they are (Ma et al. 2022, arXiv:2204.05751): that there is an entity is
the same question in every domain, so what was meta-learned about it stays of use.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kshot.data.examples import TaggedExample
from kshot.data.tags import Span, spans_of, tags_of
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings
from kshot.tasks.base import Batch, Group, Scorer, group_of
from kshot.tasks.names import joining
from kshot.tasks.viterbi import Table, transitions, viterbi

TAG, BOUNDARY, ENTITY = "tag", "boundary", "entity"
_BOUNDARIES = ("O", "B-", "I-")  # of entities that have no type yet


class SpanSettings(Settings):
    """How words become items, and scores become spans.

    Attributes:
        scheme: What the items and their labels are: `bio`, `io` or `spans`, see `kshot.tasks.spans`.
        class_names: Whether the name of each type joins the support as one more entity of it; a name without a letter,
            such as a number, never does.
        name_weight: How many examples a type's name counts for; at 0 none joins.
        transitions: `valid`: any sequence that BIO allows is as good as another. `learned`: how often entities begin,
            go on and end in the meta-training data counts as well (StructShot, arXiv:2010.02405).
        transition_strength: What learned log probabilities are multiplied by.
        table: What `learned` has measured; filled in by meta-training.
    """

    scheme: Literal["bio", "io", "spans"] = "bio"
    class_names: bool = True
    name_weight: float = Field(1.0, ge=0)
    transitions: Literal["valid", "learned"] = "valid"
    transition_strength: float = 1.0
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An entity that was found.

    Attributes:
        span: Where it is, in words, and its type.
        confidence: How likely all of its words are what they were taken for.
    """

    span: Span
    confidence: float


def read_words(sentences: Sequence[tuple[str, ...]], vocabulary: Vocabulary) -> tuple[Batch, list[int]]:
    """Sentences as an encoder reads them, each once, a vector a word.

    Returns:
        A batch without items, and where the vectors of each sentence begin, (n_sentences,).
    """
    distinct = list(dict.fromkeys(sentences))
    windows = vocabulary.encode_words(distinct)
    begins = dict(zip(distinct, np.cumsum([0, *map(len, distinct)])[:-1].tolist(), strict=True))
    batch = Batch(
        texts=tuple(window.ids for each in windows for window in each),
        words=tuple(window.words for each in windows for window in each),
        groups={},
    )
    return batch, [begins[sentence] for sentence in sentences]


class Spans:
    """The words of sentences as items, and spans of what is known of them.

    Args:
        settings: How.

    Attributes:
        groups: The kinds of its items.
    """

    def __init__(self, settings: SpanSettings) -> None:
        self.settings = settings
        self.groups = (BOUNDARY, ENTITY) if settings.scheme == "spans" else (TAG,)

    # -- sentences to items --------------------------------------------------------------------------------------------

    def names(self, classes: Sequence[str]) -> list[TaggedExample]:
        """A sentence for each type: its name, all of it one entity."""
        spoken = {name: tuple(words.split()) for name, words in joining(classes, self.settings).items()}
        return [TaggedExample(each, tags_of([Span(0, len(each), name)], len(each))) for name, each in spoken.items()]

    def items(
        self,
        examples: Sequence[TaggedExample],
        names: Sequence[TaggedExample],
        rows: Sequence[int],
        classes: Sequence[str],
        *,
        support: bool,
    ) -> dict[str, Group]:
        """The items of each group.

        Args:
            examples: The sentences.
            names: What `names` made of the types, if they are to join.
            rows: Where the vectors of the words of each sentence begin, and of each name, (n_examples + n_names,).
            classes: The names of the types.
            support: Whether something is to be learned from them.
        """
        everything = [*examples, *names]
        weights = [1.0] * len(examples) + [self.settings.name_weight] * len(names)
        number_of = {name: number for number, name in enumerate(classes)}
        if self.settings.scheme == "spans":
            n = len(examples)  # a name says what an entity of its type is, not where one begins
            return {
                BOUNDARY: _words(examples, rows[:n], weights[:n], _boundary_label, len(_BOUNDARIES)),
                ENTITY: _entities(everything, rows, weights, number_of),
            }
        label = _Labels(number_of, self.settings.scheme)
        tagged = _words(everything, rows, weights, label.of, label.n_labels)
        return {TAG: _with_borrowed(tagged) if support and self.settings.scheme == "bio" else tagged}

    # -- scores to spans -----------------------------------------------------------------------------------------------

    def find(
        self, scorer: Scorer, batch: Batch, lengths: Sequence[int], classes: Sequence[str], temperature: float = 1.0
    ) -> list[list[Found]]:
        """Finds the entities of each sentence.

        Args:
            scorer: Scores the items of a batch.
            batch: The sentences, as `collate` makes them for a query.
            lengths: The number of words of each.
            classes: The names of the types.
            temperature: What scores are divided by before they are taken for log probabilities.
        """
        if not classes:
            return [[] for _ in lengths]
        if self.settings.scheme == "spans":
            return self._find_spans(scorer, batch, lengths, classes, temperature)
        emissions = _log_softmax(scorer(batch)[TAG], temperature)  # (n_words, n_labels)
        rules = transitions(len(classes), self.settings.scheme, self._table(), self.settings.transition_strength)
        label = _Labels({name: number for number, name in enumerate(classes)}, self.settings.scheme)
        tags = label.tags
        found = []
        for path, (begin, _) in zip(viterbi(emissions, lengths, rules), _places(lengths), strict=True):
            spans = spans_of(_as_spans([tags[number] for number in path], self.settings.scheme))
            chosen = emissions[begin + np.arange(len(path)), path]
            found.append([Found(span, float(np.exp(chosen[span.start : span.end].sum()))) for span in spans])
        return found

    def _find_spans(
        self, scorer: Scorer, batch: Batch, lengths: Sequence[int], classes: Sequence[str], temperature: float
    ) -> list[list[Found]]:
        words = replace(batch, groups={BOUNDARY: batch.groups[BOUNDARY]})
        emissions = _log_softmax(scorer(words)[BOUNDARY], temperature)
        rules = transitions(1, "bio", self._table(), self.settings.transition_strength)
        paths = viterbi(emissions, lengths, rules)
        spans = [spans_of([_BOUNDARIES[state] for state in path]) for path in paths]
        flat = [(begin, span) for each, (begin, _) in zip(spans, _places(lengths), strict=True) for span in each]
        rows = batch.groups[BOUNDARY].rows.numpy()
        candidates = Group(
            rows=torch.tensor([int(rows[begin + span.start]) for begin, span in flat], dtype=torch.int64),
            labels=torch.full((len(flat),), -1),
            n_labels=len(classes),
            weights=torch.ones(len(flat)),
            widths=torch.tensor([span.end - span.start for _, span in flat], dtype=torch.int64),
        )
        kinds = _log_softmax(scorer(replace(batch, groups={ENTITY: candidates}))[ENTITY], temperature)
        states = np.concatenate([*paths, np.empty(0, dtype=np.int64)])
        chosen = emissions[np.arange(len(states)), states]
        named = iter(
            Found(
                Span(span.start, span.end, classes[int(kind.argmax())]),
                float(np.exp(kind.max() + chosen[begin + span.start : begin + span.end].sum())),
            )
            for (begin, span), kind in zip(flat, kinds, strict=True)
        )
        return [[next(named) for _ in each] for each in spans]

    def _table(self) -> Table | None:
        return self.settings.table if self.settings.transitions == "learned" else None


class _Labels:
    """Label numbers of tags, and back."""

    def __init__(self, number_of: dict[str, int], scheme: str) -> None:
        marks = "BI" if scheme == "bio" else "I"
        self.tags = ("O", *(f"{mark}-{name}" for name in number_of for mark in marks))
        self.n_labels = len(self.tags)
        self._number_of = {tag: number for number, tag in enumerate(self.tags)}
        if scheme == "io":
            self._number_of |= {f"B-{name}": self._number_of[f"I-{name}"] for name in number_of}

    def of(self, tag: str) -> int:
        return self._number_of.get(tag, -1)


def _boundary_label(tag: str) -> int:
    return "OBI".index(tag[0])


def _words(
    examples: Sequence[TaggedExample],
    rows: Sequence[int],
    weights: Sequence[float],
    label: Callable[[str], int],
    n_labels: int,
) -> Group:
    """One item a word, sentence after sentence."""
    labels = [label(tag) for each in examples for tag in each.tags]
    places = [row + place for each, row in zip(examples, rows, strict=True) for place in range(len(each.tags))]
    counts = [weight for each, weight in zip(examples, weights, strict=True) for _ in each.tags]
    return group_of(labels, places, n_labels, counts)


def _entities(
    examples: Sequence[TaggedExample], rows: Sequence[int], weights: Sequence[float], number_of: dict[str, int]
) -> Group:
    """One item an entity: the mean of its words."""
    found = [
        (number_of.get(span.label, -1), row + span.start, span.end - span.start, weight)
        for each, row, weight in zip(examples, rows, weights, strict=True)
        for span in each.spans
    ]
    labels, places, widths, counts = zip(*found, strict=True) if found else ((), (), (), ())
    made = group_of(labels, places, max(1, len(number_of)), counts)  # a head has one label at least
    return replace(made, widths=torch.tensor(widths, dtype=torch.int64))


def _with_borrowed(group: Group) -> Group:
    """Gives a label I of BIO without an example the examples of its B, so that every label of a support has one."""
    has = torch.bincount(group.labels[group.labels >= 0], minlength=group.n_labels) > 0
    lenders = [label - 1 for label in range(2, group.n_labels, 2) if has[label - 1] and not has[label]]
    if not lenders:
        return group
    lent = [torch.nonzero(group.labels == label).flatten() for label in lenders]
    copies = group.part(torch.cat(lent))
    return Group(
        rows=torch.cat([group.rows, copies.rows]),
        labels=torch.cat([group.labels, copies.labels + 1]),
        n_labels=group.n_labels,
        weights=torch.cat([group.weights, copies.weights]),
    )


def _as_spans(tags: Sequence[str], scheme: str) -> list[str]:
    """BIO tags of a path: in IO, neighbours of one type are one entity."""
    if scheme == "bio":
        return list(tags)
    return [tag if tag == before else tag.replace("I-", "B-", 1) for before, tag in pairwise(("O", *tags))]


def _places(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends among the words of all."""
    begin = 0
    for length in lengths:
        yield begin, begin + length
        begin += length


def _log_softmax(logits: Tensor, temperature: float) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (logits.detach().cpu().double() / temperature).log_softmax(dim=-1).numpy()
    return values
