"""Whole characters: the automaton against Python's own decoder, and against the decoders of tokenizers."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from kshot.models.utf8 import WHOLE, Characters
from kshot.models.vocabulary import Vocabulary

LEADS = [0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF, 0x8F, 0x90]
BYTES = st.lists(st.sampled_from(LEADS) | st.integers(0x80, 0xBF) | st.integers(0, 255), max_size=8).map(bytes)
TEXTS = ["Țară și apă, жёлтый снег", "水の音 नदी 😀😁😂", "é" * 4, "ăă âî"] * 3


@pytest.fixture(scope="module")
def byte_level() -> Vocabulary:
    """Tokens of one byte each, and longer ones, some of which begin or end within a character."""
    return Vocabulary.cased(TEXTS, size=340, max_length=64)


@pytest.fixture(scope="module")
def fallback() -> Tokenizer:
    """A vocabulary as SentencePiece makes it: words, and a token for each byte."""
    pieces = ["<unk>", "<s>", "</s>", "▁the", "▁é", "水", "a", "<0xZZ>"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def state_after(characters: Characters, tokens: list[int]) -> int:
    """Where the automaton is after some tokens, -1 if one of them must not come."""
    state = WHOLE
    for token in tokens:
        state = int(characters.following[state, token])
        if state < 0:
            return state
    return state


def python_says(content: bytes) -> int | None:
    """`WHOLE` if Python reads the bytes; None if it does with more at their end; -1 if it never will."""
    ends = (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\x80", b"\x80\x80\x80", b"\xbf\x80\x80")
    for end in ends:
        try:
            (content + end).decode()
        except UnicodeDecodeError:
            continue
        return None if end else WHOLE
    return -1


def agree(state: int, expected: int | None) -> bool:
    return state == expected or (expected is None and state > WHOLE)


def byte_tokens(tokenizer: Tokenizer) -> list[int]:
    """The token of each byte."""
    return [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]


@given(content=BYTES)
@example(content=b"\xed\xa0\x80")  # half a pair
@example(content=b"\xf4\x90\x80\x80")  # beyond the last character
@example(content=b"\xe0\x9f\xbf")  # longer than need be
@example(content=b"\xf0\x9f\x98\x80\xc3")
def test_bytes_as_python_decodes_them(content: bytes, fallback: Tokenizer) -> None:
    of_byte = byte_tokens(fallback)
    characters = Characters.of(fallback)
    assert agree(state_after(characters, [of_byte[byte] for byte in content]), python_says(content))


def test_every_two_bytes_as_python_decodes_them(fallback: Tokenizer) -> None:
    of_byte, following = byte_tokens(fallback), Characters.of(fallback).following.tolist()
    for one in range(256):
        state = following[WHOLE][of_byte[one]]
        for other in range(256):
            after = state if state < 0 else following[state][of_byte[other]]
            assert agree(after, python_says(bytes([one, other]))), (one, other)


def tokens_that_follow(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Tokens of some texts, with others among them: much is whole, and much is not."""
    size = tokenizer.get_vocab_size()
    special = set(tokenizer.get_added_tokens_decoder())
    ids = tokenizer.encode("水é नदी😀 the ăa", add_special_tokens=False).ids
    one = st.sampled_from(ids) | st.integers(0, size - 1).filter(lambda token: token not in special)
    return st.lists(st.just(ids) | st.lists(one, min_size=1, max_size=3), max_size=4).map(
        lambda parts: [token for part in parts for token in part]
    )


@given(data=st.data())
@pytest.mark.parametrize("kind", ["byte-level", "fallback"])
def test_whole_is_what_the_tokenizer_decodes_without_a_mark(
    kind: str, data: st.DataObject, byte_level: Vocabulary, fallback: Tokenizer
) -> None:
    tokenizer = byte_level.tokenizer if kind == "byte-level" else fallback
    characters = Characters.of(tokenizer)
    tokens = data.draw(tokens_that_follow(tokenizer))
    assert (state_after(characters, tokens) == WHOLE) == ("\ufffd" not in tokenizer.decode(tokens))


@given(text=st.text(max_size=12).filter(lambda text: "\ufffd" not in text), n_kept=st.integers(0, 60))
def test_a_text_that_is_cut_keeps_its_whole_characters(text: str, n_kept: int, byte_level: Vocabulary) -> None:
    tokenizer = byte_level.tokenizer
    characters, ids = Characters.of(tokenizer), tokenizer.encode(text, add_special_tokens=False).ids
    assert characters.whole(ids) == ids
    beginnings = [ids[:n] for n in range(min(n_kept, len(ids)) + 1)]
    assert characters.whole(ids[:n_kept]) == [each for each in beginnings if "\ufffd" not in tokenizer.decode(each)][-1]


def test_no_special_token_within_a_character(byte_level: Vocabulary) -> None:
    characters = Characters.of(byte_level.tokenizer)
    end, begun = byte_level.number_of("[END]"), byte_level.encode(["\u1234"])[0][-4]
    state = state_after(characters, [int(begun)])
    assert state > WHOLE
    assert state_after(characters, [end]) == WHOLE
    assert state_after(characters, [int(begun), end]) == -1


def test_words_need_no_bytes() -> None:
    words = Vocabulary.words(["măr roșu"], size=20, max_length=8)
    assert json.loads(words.tokenizer.to_str())["decoder"] is None
    assert (Characters.of(words.tokenizer).following[WHOLE] == WHOLE).all()
