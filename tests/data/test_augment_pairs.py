"""Augmentations of sentence pairs: one spelling for a whole episode, seeded, of the letters of the data set."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.augment_pairs import RAREST, PairAugmentations, letters_of, respell
from kshot.data.dataset import PairDataset
from kshot.data.examples import Episode, SentencePair
from kshot.errors import KshotError

LETTERS = {"LATIN vowel": ["a", "o", "å"], "LATIN consonant": ["b", "k"], "CYRILLIC vowel": ["а"]}  # noqa: RUF001
TEXTS = st.text("aåoubkdz AB?12жаЖ水ßİ", min_size=1, max_size=12)  # noqa: RUF001


def episode(sources: list[str]) -> Episode:
    pairs = tuple(SentencePair(source, f"target {k}", "task", "part") for k, source in enumerate(sources))
    return Episode(pairs[:1], pairs[1:], (), 3)


def sources(of: Episode) -> list[str]:
    return [each.texts[0] for each in (*of.support, *of.query)]


def kind(letter: str) -> tuple[str, bool]:
    return unicodedata.name(letter).split()[0], unicodedata.normalize("NFD", letter)[0] in "aouа"  # noqa: RUF001


@given(st.lists(TEXTS, min_size=2, max_size=5), st.integers(0, 99))
def test_a_letter_is_the_same_throughout_an_episode(texts: list[str], seed: int) -> None:
    change = PairAugmentations(("respell",), LETTERS)
    before = episode(texts)
    after = change(before, np.random.default_rng(seed))
    seen: dict[str, str] = {}
    for old, new in zip(sources(before), sources(after), strict=True):
        assert len(new) == len(old)
        for a, b in zip(old, new, strict=True):
            assert seen.setdefault(a, b) == b
            if a != b:
                assert kind(a.lower()) == kind(b.lower())
                assert b.lower() in LETTERS[f"{kind(a.lower())[0]} {'vowel' if kind(a.lower())[1] else 'consonant'}"]
                assert a.isupper() == b.isupper()
    for a, b in seen.items():
        if a != b and a.lower() in seen:
            assert seen[a.lower()] == b.lower()
    targets = [[each.texts[1] for each in (*part.support, *part.query)] for part in (before, after)]
    assert targets[0] == targets[1]
    assert (after.index, after.classes) == (3, ())
    assert after == change(before, np.random.default_rng(seed))


def test_how_much_changes_differs_from_episode_to_episode() -> None:
    letters = letters_of(["abcdefghijklmnopqrstuvwxyz"])
    changed = [
        len(respell(["abcdefghijklmnopqrstuvwxyz"], letters, np.random.default_rng(seed))) / 26 for seed in range(400)
    ]
    assert 0.17 < np.mean(changed) < 0.23  # half of MOST_RESPELLED
    assert min(changed) == 0.0
    assert max(changed) > 0.4


def test_rare_letters_take_no_place() -> None:
    assert letters_of(["ab" * 1000 + "z", "жЖ" * 2, "1 ?ßº水"]) == {
        "LATIN vowel": ["a"],
        "LATIN consonant": ["b"],
        "CYRILLIC consonant": ["ж"],
    }
    assert 4 / 2005 > RAREST > 1 / 2005


def test_a_sampler_respells() -> None:
    words = ["dobry", "hund", "katze", "pivo", "maslo", "voda", "leto", "zima"]
    dataset = PairDataset("d", tuple(SentencePair(word, word, "t") for word in words), (), (), "examples")
    plain, changed = (
        dataset.sampler("train", way="all", shot=3, query=2, seed=1, n_episodes=9, augment=names)
        for names in ((), ("respell",))
    )
    assert [[each.texts[1] for each in one.support] for one in changed] == [
        [each.texts[1] for each in one.support] for one in plain
    ]
    assert [sources(one) for one in changed] != [sources(one) for one in plain]
    assert list(changed) == [changed[i] for i in range(9)]


def test_an_unknown_name() -> None:
    dataset = PairDataset("d", (SentencePair("a", "b"), SentencePair("c", "d")), (), (), "examples")
    with pytest.raises(KshotError) as caught:
        dataset.sampler("train", way="all", shot=1, query=1, seed=0, n_episodes=1, augment=("respel",))
    assert str(caught.value) == (
        'There is no augmentation of sentence pairs "respel"; there is respell. Did you mean "respell"?'
    )
