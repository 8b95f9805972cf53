"""An adapted tagger: texts in, entities with their places out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from kshot.adapted import Adapted, Manifest, Vectors, fit
from kshot.calibration import calibrate_sentences, prior_temperature
from kshot.data.examples import TaggedExample
from kshot.data.tags import spans_of, tags_of
from kshot.data.words import split_words
from kshot.inputs import check_known_types, check_made, check_tagged, check_tagged_task, check_texts
from kshot.meta.state import State
from kshot.tasks.scores import span_scores
from kshot.tasks.tagging import Tagging

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 512  # sentences that are tagged together, so that memory does not grow with their number


@dataclass(frozen=True)
class Entity:
    """Something that was found in a text.

    Attributes:
        text: Its words, as they stand in the text.
        label: Its type.
        start: Its first character.
        end: One past its last character.
        confidence: How likely all of its words are what they were taken for, calibrated on the support.
    """

    text: str
    label: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Tagged:
    """A text with its entities.

    Attributes:
        text: The text.
        tokens: Its words.
        tags: Their tags, in BIO.
        entities: What was found, in order.
    """

    text: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]

    def displacy(self) -> dict[str, Any]:
        """The entities as spaCy's `displacy.render(..., style="ent", manual=True)` takes them."""
        ents = [{"start": each.start, "end": each.end, "label": each.label} for each in self.entities]
        return {"text": self.text, "ents": ents, "title": None}


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedTagger(Adapted):
    """A learner that has learned to find entities."""

    examples: tuple[TaggedExample, ...]
    task_type = Tagging
    example_type = TaggedExample

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[TaggedExample, ...]:
        if labels is None:
            needs = "adapt needs tags: give adapt(sentences, tags), or adapt(examples) with TaggedExamples."
            given = check_made(examples, TaggedExample, needs)
            examples, labels = [each.tokens for each in given], [each.tags for each in given]
        return check_tagged(examples, labels)

    @classmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[TaggedExample],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        check_tagged_task(examples, classes)
        core = learner.learner
        made = fit(core, examples, classes, known)
        prior = prior_temperature(learner.about, core.settings.name)
        temperature = calibrate_sentences(core, examples, classes, known=made.known, prior=prior)
        return cls(learner, tuple(classes), tuple(examples), temperature, made.state, made.vectors)

    def predict(self, texts: Iterable[str] | Iterable[Sequence[str]]) -> list[Tagged]:
        """Finds the entities of texts.

        Args:
            texts: Texts, or sentences that are split into words already; the places of their entities are then those in
                the words with a space between each two.

        Raises:
            KshotError: If one of them is neither a text nor a list of words.
        """
        given = [texts] if isinstance(texts, str) else list(texts)
        if given and all(isinstance(each, (list, tuple)) for each in given):
            split = [_spaced(check_texts(words, what="word")) for words in given]
        else:
            split = [(text, split_words(text)) for text in check_texts(texts)]
        return [tagged for start in range(0, len(split), BLOCK) for tagged in self._tag(split[start : start + BLOCK])]

    def _tag(self, split: Sequence[tuple[str, list[tuple[str, int, int]]]]) -> Iterator[Tagged]:
        core = self.learner.learner
        task = core.task
        assert isinstance(task, Tagging)
        sentences = [TaggedExample(tuple(word for word, _, _ in words), ("O",) * len(words)) for _, words in split]
        filled = [each for each in sentences if each.tokens]
        batch = task.collate(filled, self.classes, core.encoder.vocabulary, support=False)
        lengths = [len(each.tokens) for each in filled]
        with torch.no_grad():
            found = iter(task.find(core.scorer(self._state, batch), batch, lengths, self.classes, self.temperature))
        for (text, words), sentence in zip(split, sentences, strict=True):
            entities, spans = [], []
            for one in next(found) if words else ():
                span = one.span
                spans.append(span)
                start, end = words[span.start][1], words[span.end - 1][2]
                entities.append(Entity(text[start:end], span.label, start, end, one.confidence))
            yield Tagged(text, sentence.tokens, tags_of(spans, len(words)), tuple(entities))

    def score(self, sentences: Iterable[object], tags: Iterable[object]) -> dict[str, float]:
        """Compares what it finds in sentences with how they are tagged.

        Args:
            sentences: Lists of words, none of which it has learned from.
            tags: For each a list of tags in BIO.

        Returns:
            Micro F1, precision and recall of whole entities, as seqeval counts them, by `Tagging.measures`.

        Raises:
            KshotError: If a sentence or its tags cannot be used, or an entity is of a type that it cannot find.
        """
        asked = check_tagged(sentences, tags)
        check_known_types(asked, self.classes)
        found = self.predict([each.tokens for each in asked])
        scores = span_scores([each.spans for each in asked], [spans_of(each.tags) for each in found])
        return dict(zip(Tagging.measures, scores, strict=True))

    def add_examples(self, sentences: Iterable[object], tags: Iterable[object]) -> Self:
        """Returns a task with more sentences, adapted anew; types that are new in them become types of the task.

        Raises:
            KshotError: If a sentence or its tags cannot be used.
        """
        return self._with((*self.examples, *check_tagged(sentences, tags)))

    # -- saving --------------------------------------------------------------------------------------------------------

    @classmethod
    def _restored(
        cls,
        learner: "MetaLearner",
        manifest: Manifest,
        examples: tuple[Any, ...],
        state: State,
        tensors: Mapping[str, Tensor],
    ) -> Self:
        return cls(learner, manifest.classes, examples, manifest.temperature, state, tensors.get("support.vectors"))


def _spaced(words: Sequence[str]) -> tuple[str, list[tuple[str, int, int]]]:
    """A text of words, and the words with their places in it."""
    places, start = [], 0
    for word in words:
        places.append((word, start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), places
