"""Augmentations: seeded, never empty, and never another label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.augment import AUGMENTATIONS, build_augmentation
from kshot.data.examples import TextExample
from kshot.errors import KshotError

TEXT = "Where is my parcel, and why has nobody told me that it would be late?"


@given(st.text(min_size=1).filter(str.strip), st.integers(0, 99), st.sampled_from(sorted(AUGMENTATIONS)))
def test_a_text_is_never_emptied_and_the_rest_stays(text: str, seed: int, name: str) -> None:
    example = TextExample(text, "label", "task", "part")
    changed = AUGMENTATIONS[name].apply(example, np.random.default_rng(seed))
    assert changed.text.strip()
    assert (changed.label, changed.task, changed.part) == ("label", "task", "part")
    assert changed == AUGMENTATIONS[name].apply(example, np.random.default_rng(seed))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_each_changes_texts_and_has_a_title(name: str) -> None:
    changed = {AUGMENTATIONS[name].apply(TextExample(TEXT, "a"), np.random.default_rng(i)).text for i in range(20)}
    assert len(changed) > 1
    assert AUGMENTATIONS[name].title


def apply(name: str, text: str) -> set[str]:
    return {AUGMENTATIONS[name].apply(TextExample(text, "a"), np.random.default_rng(i)).text for i in range(200)}


def test_what_each_does() -> None:
    words = TEXT.split()
    for text in apply("drop_words", TEXT):
        rest = iter(words)
        assert all(word in rest for word in text.split()), "words keep their order"
    assert all(sorted(text.split()) == sorted(words) for text in apply("swap_words", TEXT))
    assert apply("lower_case", TEXT) == {TEXT, TEXT.lower()}
    assert apply("drop_punctuation", "Don't go, e-mail me! 50 €") == {
        "Don't go, e-mail me! 50 €",
        "Don't go e-mail me 50 €",
    }
    assert apply("drop_punctuation", "?!") == {"?!"}
    assert apply("mistype", "abc 12345 e4f5g") == {"abc 12345 e4f5g"}
    assert apply("mistype", "card") == {"card", "crad", "crd", "caard"}


def test_augmentations_are_chained_by_name() -> None:
    chain = build_augmentation(["lower_case", "swap_words"])
    assert chain is not None
    assert chain(TextExample("A B", "a"), np.random.default_rng(3)).text.split() in (["b", "a"], ["B", "A"])
    assert build_augmentation([]) is None
    with pytest.raises(KshotError) as caught:
        build_augmentation(["swap_word"])
    assert str(caught.value) == (
        'There is no augmentation "swap_word"; there are drop_words, swap_words, mistype, lower_case, '
        "drop_punctuation. "
        'Did you mean "swap_words"?'
    )
