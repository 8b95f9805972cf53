"""Tagging: entities in sentences, one item a word, or a word and an entity; see `kshot.tasks.spans`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, Self

from kshot.data.examples import Example, TaggedExample
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, Scorer, Task
from kshot.tasks.scores import span_scores
from kshot.tasks.spans import Found, Spans, SpanSettings, read_words
from kshot.tasks.viterbi import count_transitions


class TaggingSettings(SpanSettings):
    """How sentences become items, and scores become entities; see `SpanSettings`."""

    kind: Literal["tagging"] = "tagging"


class Tagging(Task):
    """Finds entities of some types in sentences."""

    measures = ("F1", "precision", "recall")
    settings: TaggingSettings

    def __init__(self, settings: TaggingSettings | None = None) -> None:
        self.settings = settings or TaggingSettings()
        self.spans = Spans(self.settings)
        self.groups = self.spans.groups

    def learned_from(self, examples: Iterable[Example]) -> Self:
        table = count_transitions(each.tags for each in examples if isinstance(each, TaggedExample))
        return type(self)(self.settings.model_copy(update={"table": table}))

    def collate(
        self, examples: Sequence[TaggedExample], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        names = self.spans.names(classes) if support else []
        batch, rows = read_words([each.tokens for each in (*examples, *names)], vocabulary)
        return replace(batch, groups=self.spans.items(examples, names, rows, classes, support=support))

    def find(
        self, scorer: Scorer, batch: Batch, lengths: Sequence[int], classes: Sequence[str], temperature: float = 1.0
    ) -> list[list[Found]]:
        """Finds the entities of each sentence; see `Spans.find`."""
        return self.spans.find(scorer, batch, lengths, classes, temperature)

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[TaggedExample], classes: Sequence[str]
    ) -> tuple[float, ...]:
        found = self.find(scorer, batch, [len(each.tokens) for each in examples], classes)
        return span_scores([each.spans for each in examples], [[one.span for one in each] for each in found])
