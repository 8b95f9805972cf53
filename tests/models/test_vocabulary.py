"""Vocabularies: every text becomes token numbers, whatever it holds, and those of `cased` a text again."""

import unicodedata
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import KshotError
from kshot.models.vocabulary import BEGIN, END, PAD, UNKNOWN, Vocabulary
from toy import corpus, sentence_pairs

WORDS = Vocabulary.words(corpus(), size=300, max_length=16)
BPE = Vocabulary.bpe(corpus(), size=400, max_length=64)
CASED = Vocabulary.cased([text for each in sentence_pairs(40) for text in each.texts], size=340, max_length=2_000)
ANY_TEXT = st.text(max_size=80)


@pytest.mark.parametrize("vocabulary", [WORDS, BPE], ids=["words", "bpe"])
@given(texts=st.lists(ANY_TEXT, max_size=8))
def test_no_sequence_is_empty_or_too_long(vocabulary: Vocabulary, texts: list[str]) -> None:
    encoded = vocabulary.encode(texts)
    assert len(encoded) == len(texts)
    for ids in encoded:
        assert ids.dtype == np.int32
        assert 1 <= len(ids) <= vocabulary.max_length
        assert ids.min() >= 0
        assert ids.max() < vocabulary.size


@given(ANY_TEXT)
def test_bpe_knows_every_character(text: str) -> None:
    [ids] = BPE.encode([text])
    assert BPE.tokenizer.token_to_id(UNKNOWN) not in ids


@given(ANY_TEXT, ANY_TEXT)
def test_the_same_text_gives_the_same_array(one: str, other: str) -> None:
    first = WORDS.encode([one, other, one])
    assert first[0] is first[2]
    assert WORDS.encode([one])[0] is first[0]
    assert (first[0] is first[1]) == (one == other)


def test_a_text_does_not_depend_on_its_company() -> None:
    texts = [*corpus(), "", "👩‍👩‍👧 مرحبا", "x" * 500]
    alone = Vocabulary.bpe(corpus(), size=400, max_length=64)
    for text, ids in zip(texts, BPE.encode(texts), strict=True):
        assert alone.encode([text])[0].tolist() == ids.tolist()


@pytest.mark.parametrize("vocabulary", [WORDS, BPE], ids=["words", "bpe"])
@pytest.mark.parametrize("text", ["lamp " * 20_000, "x" * 100_000, "💡" * 100_000])
def test_a_very_long_text_is_cut(vocabulary: Vocabulary, text: str) -> None:
    [ids] = vocabulary.encode([text])
    assert len(ids) <= vocabulary.max_length
    assert vocabulary.encode([text[:2_000]])[0].tolist() == ids.tolist()


@pytest.mark.parametrize("vocabulary", [WORDS, BPE], ids=["words", "bpe"])
@pytest.mark.parametrize("text", ["", " ", "\x00", "\x00\x01\x02\xff", "\u200b", "\n\t\r", "\ufeff"])
def test_nothing_to_read_is_one_token(vocabulary: Vocabulary, text: str) -> None:
    assert len(vocabulary.encode([text])[0]) >= 1


def test_half_a_surrogate_pair_is_read_as_an_unknown_character() -> None:
    whole, half = BPE.encode(["lamp \ufffd on", "lamp \ud83d on"])
    assert half.tolist() == whole.tolist()
    pair, emoji = BPE.encode(["lamp \ud83d\udca1 on", "lamp 💡 on"])
    assert pair.tolist() == emoji.tolist()


def test_words_are_lower_cased_and_rare_ones_unknown() -> None:
    vocabulary = Vocabulary.words(["lamp lamp lamp on on off"], size=4, max_length=8)
    assert vocabulary.size == 4
    lamp, on = (vocabulary.tokenizer.token_to_id(word) for word in ("lamp", "on"))
    unknown = vocabulary.tokenizer.token_to_id(UNKNOWN)
    assert vocabulary.encode(["LAMP on, off"])[0].tolist() == [lamp, on, unknown, unknown]
    assert vocabulary.pad_id == vocabulary.tokenizer.token_to_id(PAD) == 0


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    texts = ["Lamp off, please!", "nothing known here", "", "مرحبا 👋"]
    for vocabulary in (WORDS, BPE):
        vocabulary.save(tmp_path)
        again = Vocabulary.load(tmp_path, max_length=vocabulary.max_length)
        assert [ids.tolist() for ids in again.encode(texts)] == [ids.tolist() for ids in vocabulary.encode(texts)]
        assert (again.size, again.pad_id) == (vocabulary.size, vocabulary.pad_id)


def test_forgetting_changes_no_numbers() -> None:
    vocabulary = Vocabulary.words(corpus(), size=300, max_length=16)
    before = vocabulary.encode(["the lamp"])[0]
    vocabulary.forget()
    after = vocabulary.encode(["the lamp"])[0]
    assert after is not before
    assert after.tolist() == before.tolist()


def test_memory_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kshot.models.vocabulary._MEMO_LIMIT", 10)
    vocabulary = Vocabulary.words(corpus(), size=300, max_length=16)
    for start in range(0, 60, 6):
        texts = [f"lamp {i}" for i in range(start, start + 6)] * 2
        encoded = vocabulary.encode(texts)
        assert encoded[0] is encoded[6]
        assert len(vocabulary._memo) <= 10


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(KshotError) as caught:
        Vocabulary.load(tmp_path, max_length=8)
    assert str(caught.value) == (
        f"{tmp_path}/tokenizer.json is damaged (EOF while parsing a value at line 1 column 12); "
        "restore it from a copy or make it again."
    )


def test_no_tokenizer_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KshotError) as caught:
        Vocabulary.load(tmp_path, max_length=8)
    assert str(caught.value) == (
        f"{tmp_path}/tokenizer.json does not exist: "
        "a vocabulary is one tokenizer.json, as Hugging Face tokenizers save it."
    )


# -- texts that are written, too ---------------------------------------------------------------------------------------


@given(ANY_TEXT | st.lists(st.sampled_from([PAD, BEGIN, END, UNKNOWN, "a", " ", "măr", "Ġ", "Ã"])).map("".join))
def test_what_is_written_is_what_was_read(text: str) -> None:
    [ids] = CASED.encode([text])
    assert CASED.decode(ids) == unicodedata.normalize("NFC", text).strip()
    assert CASED.length(text) == len(ids)
    assert ids[-1] == CASED.number_of(END)
    assert CASED.number_of(UNKNOWN) not in ids
    assert np.count_nonzero(ids < 4) == 1, "what stands in a text is no special token"


@pytest.mark.parametrize(
    "text",
    [
        "Țară, ÎNCĂ o dată.",
        "Ѓорѓи 水 नदी ქართული ትግርኛ 👩‍👩‍👧 ﷽",
        "e\u0301 и\u0306",
        "tab\tand  two spaces",
        "\U0001d160",
    ],
)
def test_scripts_of_all_kinds(text: str) -> None:
    assert CASED.decode(CASED.encode([text])[0]) == unicodedata.normalize("NFC", text)


def test_case_is_kept() -> None:
    lower, upper = CASED.encode(["Mare", "mare"])
    assert lower.tolist() != upper.tolist()


@given(st.text("ab măr水\U0001d160", max_size=40))
def test_the_length_is_that_of_the_whole_text(text: str) -> None:
    short = Vocabulary(CASED.tokenizer.from_str(CASED.tokenizer.to_str()), 24)
    assert short.length(text) == CASED.length(text)
    assert len(short.encode([text])[0]) == min(24, CASED.length(text))
    assert short.encode([text])[0][-1] == short.number_of(END), "what is cut ends, too"


def test_every_text_ends_with_a_token_once_that_is_said(tmp_path: Path) -> None:
    made = Vocabulary.bpe(["one two"], size=300, max_length=12)
    made.tokenizer.add_special_tokens(["<end>"])
    end = made.number_of("<end>")
    before = made.encode(["one <end>"])[0].tolist()
    assert before[-1] == end
    made.end_with(end)
    made.save(tmp_path)
    again = Vocabulary.load(tmp_path, max_length=12)
    again.end_with(end)
    for each in (made, deepcopy(made), again):
        ids = each.encode(["one <end>"])[0].tolist()
        assert ids[-1] == end
        assert end not in ids[:-1], "in a text it is five characters"
        assert each.decode(ids) == "one <end>"
        assert each.length("one <end>") == len(ids)
        assert each.length("") == 1
        cut = each.encode(["one two " * 9])[0].tolist()
        assert (len(cut), cut[-1]) == (12, end)
        assert each.special == {each.number_of("[PAD]"), each.number_of("[UNK]"), end}


def test_saved_or_copied_it_writes_the_same(tmp_path: Path) -> None:
    CASED.save(tmp_path)
    CASED.length("măr" * 1_000)
    for again in (Vocabulary.load(tmp_path, max_length=CASED.max_length), deepcopy(CASED)):
        numbers = [(each.begin_id, each.number_of(END), each.pad_id) for each in (again, CASED)]
        assert numbers[0] == numbers[1]
        for text in ("măr [END] roșu", "水"):
            assert again.encode([text])[0].tolist() == CASED.encode([text])[0].tolist()
            assert again.decode(again.encode([text])[0]) == text
        assert again.length("[END]" * 500) == CASED.length("[END]" * 500) > CASED.max_length
