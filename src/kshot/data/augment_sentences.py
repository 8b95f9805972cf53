"""Changes to tagged sentences that leave them as rightly tagged as they were (Dai & Adel 2020, arXiv:2010.11683).

What takes a place comes from the other sentences of the same support, so that nothing but the support has to be known.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from kshot.data.examples import TaggedExample
from kshot.data.tags import Span, tags_of
from kshot.errors import KshotError, did_you_mean

RATE = 0.3
"""The share of the mentions, words or segments of a sentence that a change touches on average."""


@dataclass(frozen=True)
class Pool:
    """What some sentences hold, each as often as it stands there.

    Attributes:
        mentions: The words of each mention, by type.
        words: The words, by tag.
    """

    mentions: Mapping[str, Sequence[tuple[str, ...]]]
    words: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, examples: Sequence[TaggedExample]) -> "Pool":
        """Collects it."""
        mentions: dict[str, list[tuple[str, ...]]] = {}
        words: dict[str, list[str]] = {}
        for example in examples:
            for span in example.spans:
                mentions.setdefault(span.label, []).append(example.tokens[span.start : span.end])
            for word, tag in zip(example.tokens, example.tags, strict=True):
                words.setdefault(tag, []).append(word)
        return cls(mentions, words)


SentenceAugmentation: TypeAlias = Callable[[TaggedExample, Pool, np.random.Generator], TaggedExample]
"""A change to a sentence; its types and mentions are in the pool, and the generator is the only source of chance."""


def replace_mentions(example: TaggedExample, pool: Pool, rng: np.random.Generator) -> TaggedExample:
    """Puts another mention of the same type in the place of about every third (mention replacement)."""
    tokens: list[str] = []
    spans = []
    for segment in _segments(example):
        words = example.tokens[segment.start : segment.end]
        if segment.label and rng.random() < RATE:
            others = pool.mentions[segment.label]
            words = others[int(rng.integers(len(others)))]
        if segment.label:
            spans.append(Span(len(tokens), len(tokens) + len(words), segment.label))
        tokens += words
    return replace(example, tokens=tuple(tokens), tags=tags_of(spans, len(tokens)))


def replace_words(example: TaggedExample, pool: Pool, rng: np.random.Generator) -> TaggedExample:
    """Puts another word of the same tag in the place of about every third (label-wise token replacement)."""
    chosen = rng.random(len(example.tokens)) < RATE
    tokens = [
        pool.words[tag][int(rng.integers(len(pool.words[tag])))] if change else word
        for word, tag, change in zip(example.tokens, example.tags, chosen, strict=True)
    ]
    return replace(example, tokens=tuple(tokens))


def shuffle_segments(example: TaggedExample, pool: Pool, rng: np.random.Generator) -> TaggedExample:
    """Shuffles the words of about every third segment: a mention, or what stands between two (shuffle in segments)."""
    tokens: list[str] = []
    for segment in _segments(example):
        words = list(example.tokens[segment.start : segment.end])
        if rng.random() < RATE:
            words = [words[place] for place in rng.permutation(len(words))]
        tokens += words
    return replace(example, tokens=tuple(tokens))


def lower_case(example: TaggedExample, pool: Pool, rng: np.random.Generator) -> TaggedExample:
    """Writes the sentence in lower case, in every second draw."""
    return replace(example, tokens=tuple(word.lower() for word in example.tokens)) if rng.random() < 0.5 else example


SENTENCE_AUGMENTATIONS: Mapping[str, SentenceAugmentation] = MappingProxyType(
    {each.__name__: each for each in (replace_mentions, replace_words, shuffle_segments, lower_case)}
)
"""The augmentations of sentences by name."""


@dataclass(frozen=True)
class SentenceAugmentations:
    """Several changes in turn, to each sentence of a support.

    Attributes:
        names: Keys of `SENTENCE_AUGMENTATIONS`.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in SENTENCE_AUGMENTATIONS:
                raise KshotError(
                    f'There is no augmentation of sentences "{name}"; there are {", ".join(SENTENCE_AUGMENTATIONS)}.'
                    f"{did_you_mean(name, SENTENCE_AUGMENTATIONS)}"
                )

    def __call__(self, support: Sequence[TaggedExample], rng: np.random.Generator) -> tuple[TaggedExample, ...]:
        """Changes the sentences; the types and the number of mentions of each are as before."""
        for name in self.names:
            pool = Pool.of(support)
            support = [SENTENCE_AUGMENTATIONS[name](example, pool, rng) for example in support]
        return tuple(support)


def _segments(example: TaggedExample) -> Iterator[Span]:
    """The mentions of a sentence, and what stands between them under an empty label."""
    place = 0
    for span in example.spans:
        if span.start > place:
            yield Span(place, span.start, "")
        yield span
        place = span.end
    if place < len(example.tags):
        yield Span(place, len(example.tags), "")
