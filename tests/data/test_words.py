"""Where words are."""

from hypothesis import given
from hypothesis import strategies as st

from kshot.data.words import split_words


@given(st.text(st.characters(codec="utf-8")))
def test_words_stand_where_they_say_and_nothing_but_space_is_between(text: str) -> None:
    before = 0
    for word, start, end in split_words(text):
        assert text[start:end] == word
        assert not text[before:start].strip()
        assert start < end
        before = end
    assert not text[before:].strip()


def test_words_by_hand() -> None:
    assert split_words("😀 Aspirin's (5%) 東京") == [
        ("😀", 0, 1),
        ("Aspirin", 2, 9),
        ("'", 9, 10),
        ("s", 10, 11),
        ("(", 12, 13),
        ("5", 13, 14),
        ("%", 14, 15),
        (")", 15, 16),
        ("東京", 17, 19),
    ]
