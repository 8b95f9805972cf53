"""Entities as spans and as tags: one way and back, and where tags stop being BIO."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.tags import Span, as_bio, first_problem, spans_of, tags_of

TYPES = st.sampled_from(["PER", "LOC", "B-cell", "x"])


@st.composite
def entities(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Entities that do not overlap, and a number of words; neighbours may touch."""
    n_words = draw(st.integers(1, 20))
    ends = sorted(draw(st.sets(st.integers(0, n_words), max_size=8)))
    return [Span(start, end, draw(TYPES)) for start, end in itertools.pairwise(ends) if draw(st.booleans())], n_words


@given(entities())
def test_spans_become_tags_and_spans_again(made: tuple[list[Span], int]) -> None:
    spans, n_words = made
    tags = tags_of(spans, n_words)
    assert len(tags) == n_words
    assert first_problem(tags) is None
    assert spans_of(tags) == tuple(spans)
    assert as_bio(tags) == tags


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), max_size=12))
def test_what_was_made_bio_is_bio_and_keeps_its_words(tags: list[str]) -> None:
    made = as_bio(tags)
    assert first_problem(made) is None
    assert [tag[2:] for tag in made] == [tag[2:] for tag in tags]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ([], ()),
        (["O", "O"], ()),
        (["B-PER"], (Span(0, 1, "PER"),)),
        (["B-PER", "I-PER", "B-PER", "O"], (Span(0, 2, "PER"), Span(2, 3, "PER"))),
        (["O", "B-PER", "B-LOC", "I-LOC"], (Span(1, 2, "PER"), Span(2, 4, "LOC"))),
    ],
)
def test_entities_by_hand(tags: list[str], spans: tuple[Span, ...]) -> None:
    assert spans_of(tags) == spans


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (["O", "I-PER"], (1, "goes on with an entity that does not begin (before it stands 'O')")),
        (["B-PER", "I-LOC"], (1, "goes on with an entity that does not begin (before it stands 'B-PER')")),
        (["I-PER"], (0, "goes on with an entity that does not begin (before it stands 'O')")),
        (["O", "E-PER"], (1, 'is neither "O" nor "B-TYPE" nor "I-TYPE"')),
        (["B-"], (0, 'is neither "O" nor "B-TYPE" nor "I-TYPE"')),
        (["PER"], (0, 'is neither "O" nor "B-TYPE" nor "I-TYPE"')),
        (["o"], (0, 'is neither "O" nor "B-TYPE" nor "I-TYPE"')),
        ([""], (0, 'is neither "O" nor "B-TYPE" nor "I-TYPE"')),
    ],
)
def test_the_first_problem_of_tags(tags: list[str], problem: tuple[int, str]) -> None:
    assert first_problem(tags) == problem


def test_io_and_iob1_by_hand() -> None:
    assert as_bio(["I-a", "I-a", "O", "I-b", "I-a"]) == ("B-a", "I-a", "O", "B-b", "B-a")
    assert as_bio(["I-a", "B-a", "I-a"]) == ("B-a", "B-a", "I-a"), "in IOB1 a B- parts two neighbours"
