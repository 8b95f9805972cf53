"""Entities as spans and as tags: `B-TYPE` begins one, `I-TYPE` goes on with it, `O` is outside of all (IOB2)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OUTSIDE = "O"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """An entity in a sentence, or a slot in an utterance.

    Attributes:
        start: Its first word; of a slot its first character.
        end: One past its last word, or character.
        label: Its type.
    """

    start: int
    end: int
    label: str


def spans_of(tags: Sequence[str]) -> tuple[Span, ...]:
    """The entities of valid BIO tags, in order."""
    spans: list[Span] = []
    start = 0
    for place, tag in enumerate((*tags, OUTSIDE)):
        if not tag.startswith("I-"):
            if place and tags[place - 1] != OUTSIDE:
                spans.append(Span(start, place, tags[start][2:]))
            start = place
    return tuple(spans)


def tags_of(spans: Iterable[Span], n_words: int) -> tuple[str, ...]:
    """The BIO tags of entities that do not overlap."""
    tags = [OUTSIDE] * n_words
    for span in spans:
        tags[span.start] = f"B-{span.label}"
        tags[span.start + 1 : span.end] = [f"I-{span.label}"] * (span.end - span.start - 1)
    return tuple(tags)


def first_problem(tags: Sequence[str]) -> tuple[int, str] | None:
    """Where tags stop being BIO, and why; None if they are.

    Returns:
        The place of the first bad tag, and what is wrong with it in words that go on from `the tag "..."`.
    """
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or not tag[2:].strip()):
            return place, 'is neither "O" nor "B-TYPE" nor "I-TYPE"'
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return place, f"goes on with an entity that does not begin (before it stands {before!r})"
        before = tag
    return None


def as_bio(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags of IO or of the older IOB1 as BIO: an `I-` that does not go on with its type begins an entity."""
    made, before = [], OUTSIDE
    for tag in tags:
        made.append(f"B-{tag[2:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag)
        before = tag
    return tuple(made)
