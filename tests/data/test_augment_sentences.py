"""Augmentations of sentences: seeded, as rightly tagged as before, and made of the support alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.augment_sentences import SENTENCE_AUGMENTATIONS, Pool, SentenceAugmentations
from kshot.data.examples import TaggedExample
from kshot.data.tags import first_problem

LETTERS = st.text("abCD", min_size=1, max_size=3)
SEGMENTS = st.tuples(st.sampled_from(["", "", "drug", "place"]), st.lists(LETTERS, min_size=1, max_size=4))


def tagged(segments: list[tuple[str, list[str]]]) -> TaggedExample:
    tokens = [word for _, words in segments for word in words]
    tags = [
        f"{'I' if place else 'B'}-{label}" if label else "O" for label, words in segments for place in range(len(words))
    ]
    return TaggedExample(tuple(tokens), tuple(tags), "task", "part")


SENTENCES = st.lists(st.lists(SEGMENTS, min_size=1, max_size=4).map(tagged), min_size=1, max_size=5)
NAMES = st.lists(st.sampled_from(sorted(SENTENCE_AUGMENTATIONS)), max_size=4)


def mentions(examples: tuple[TaggedExample, ...] | list[TaggedExample]) -> list[Counter[str]]:
    return [Counter(span.label for span in example.spans) for example in examples]


@given(SENTENCES, NAMES, st.integers(0, 99))
def test_what_is_tagged_stays_rightly_tagged(support: list[TaggedExample], names: list[str], seed: int) -> None:
    change = SentenceAugmentations(tuple(names))
    changed = change(support, np.random.default_rng(seed))
    assert mentions(changed) == mentions(support)
    words = {word for each in support for word in each.tokens}
    for before, after in zip(support, changed, strict=True):
        assert first_problem(after.tags) is None
        assert len(after.tokens) == len(after.tags)
        assert all(after.tokens)
        assert after.tags.count("O") == before.tags.count("O")
        assert {word.lower() for word in after.tokens} <= {word.lower() for word in words}
        assert (after.task, after.part) == ("task", "part")
    assert changed == change(support, np.random.default_rng(seed))


SUPPORT = [
    tagged([("", ["She", "took"]), ("drug", ["acetic", "acid"]), ("", ["in", "the", "old"]), ("place", ["York"])]),
    tagged([("drug", ["Aspirin"]), ("drug", ["salt"]), ("", ["helps"])]),
]


def apply(name: str) -> set[TaggedExample]:
    pool = Pool.of(SUPPORT)
    return {SENTENCE_AUGMENTATIONS[name](SUPPORT[0], pool, np.random.default_rng(i)) for i in range(400)}


def test_mentions_are_replaced_by_mentions_of_their_type() -> None:
    changed = apply("replace_mentions")
    found = {tuple((span.label, each.tokens[span.start : span.end]) for span in each.spans) for each in changed}
    place = ("place", ("York",))
    assert found == {(("drug", words), place) for words in [("acetic", "acid"), ("Aspirin",), ("salt",)]}
    assert all(tuple(each.tokens[:2]) == ("She", "took") for each in changed)


def test_words_are_replaced_by_words_of_their_tag() -> None:
    changed = apply("replace_words")
    assert {each.tags for each in changed} == {SUPPORT[0].tags}
    assert {each.tokens[2] for each in changed} == {"acetic", "Aspirin", "salt"}
    assert {each.tokens[3] for each in changed} == {"acid"}
    assert {each.tokens[0] for each in changed} == {"She", "took", "in", "the", "old", "helps"}


def test_segments_are_shuffled_within() -> None:
    changed = apply("shuffle_segments")
    assert {each.tags for each in changed} == {SUPPORT[0].tags}
    assert {each.tokens[:2] for each in changed} == {("She", "took"), ("took", "She")}
    assert {each.tokens[2:4] for each in changed} == {("acetic", "acid"), ("acid", "acetic")}
    assert len({each.tokens[4:7] for each in changed}) == 6
    assert {each.tokens[7:] for each in changed} == {("York",)}


@pytest.mark.parametrize("name", sorted(SENTENCE_AUGMENTATIONS))
def test_each_says_what_it_does(name: str) -> None:
    assert SENTENCE_AUGMENTATIONS[name].__doc__
    assert len(apply(name)) > 1
