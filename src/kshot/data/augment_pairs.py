"""New languages made of those at hand, for meta-training: the same regular change in every source of an episode.

A model that knows all training languages by heart has nothing to learn from a support (Yin et al. 2020,
arXiv:1912.03820); a key that changes from episode to episode, and that the support alone tells, makes it look there
(Rajendran et al. 2020, arXiv:2007.05549).
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from kshot.data.examples import Episode, SentencePair
from kshot.errors import KshotError, did_you_mean

Letters: TypeAlias = Mapping[str, Sequence[str]]
"""Lower-case letters by kind: vowels and consonants of each script."""

MOST_RESPELLED = 0.4
"""The share of the letters that `respell` changes at most; each episode draws its own share up to it."""

RAREST = 1e-3
"""The share of the letters of all sources that a letter needs, to be put in the place of others."""

_VOWELS = frozenset("aeiouyæøœåıаеёиоуыэюяієїѐѝαεηιουω")  # noqa: RUF001

PairAugmentation: TypeAlias = Callable[[Sequence[str], Letters, np.random.Generator], Mapping[str, str]]
"""What becomes of each letter of some sources; the generator is the only source of chance."""


def respell(sources: Sequence[str], letters: Letters, rng: np.random.Generator) -> Mapping[str, str]:
    """Some letters become others: vowels vowels, consonants consonants, as sounds shift between related languages."""
    own = sorted({letter for source in sources for letter in source.lower() if _kind(letter)})
    chosen = rng.random(len(own)) < MOST_RESPELLED * rng.random()
    table = {}
    for letter, change in zip(own, chosen, strict=True):
        others = letters.get(_kind(letter), ())
        if change and others:
            table[letter] = others[int(rng.integers(len(others)))]
    return table


PAIR_AUGMENTATIONS: Mapping[str, PairAugmentation] = MappingProxyType({"respell": respell})
"""The augmentations of sentence pairs by name."""


@dataclass(frozen=True)
class PairAugmentations:
    """Changes to all sources of an episode, the same in support and query; targets stay.

    Attributes:
        names: Keys of `PAIR_AUGMENTATIONS`.
        letters: What may take the place of a letter.
    """

    names: tuple[str, ...]
    letters: Letters

    @classmethod
    def of(cls, names: Sequence[str], examples: Iterable[SentencePair]) -> "PairAugmentations | None":
        """With the letters of some pairs; None for no name.

        Raises:
            KshotError: If a name is not in `PAIR_AUGMENTATIONS`.
        """
        for name in names:
            if name not in PAIR_AUGMENTATIONS:
                raise KshotError(
                    f'There is no augmentation of sentence pairs "{name}"; there is {", ".join(PAIR_AUGMENTATIONS)}.'
                    f"{did_you_mean(name, PAIR_AUGMENTATIONS)}"
                )
        return cls(tuple(names), letters_of(each.source for each in examples)) if names else None

    def __call__(self, episode: Episode, rng: np.random.Generator) -> Episode:
        for name in self.names:
            sources = [each.texts[0] for each in (*episode.support, *episode.query)]
            table = PAIR_AUGMENTATIONS[name](sources, self.letters, rng)
            both_cases = str.maketrans({**table, **{a.upper(): b.upper() for a, b in table.items()}})
            episode = replace(
                episode,
                support=tuple(_translated(each, both_cases) for each in episode.support),
                query=tuple(_translated(each, both_cases) for each in episode.query),
            )
        return episode


def letters_of(texts: Iterable[str]) -> Letters:
    """The letters of some texts by kind, those that are all but never used aside."""
    counts = Counter(letter for text in texts for letter in text.lower() if _kind(letter))
    least = RAREST * counts.total()
    found: dict[str, list[str]] = {}
    for letter in sorted(counts):
        if counts[letter] >= least:
            found.setdefault(_kind(letter), []).append(letter)
    return found


def _kind(letter: str) -> str:
    """The script of a letter and whether it is a vowel; empty for a letter without a case, and for what is none."""
    if len(letter.upper()) != 1 or letter.upper() == letter:
        return ""
    base = unicodedata.normalize("NFD", letter)[0]
    return f"{unicodedata.name(letter).split()[0]} {'vowel' if base in _VOWELS else 'consonant'}"


def _translated(pair: object, table: Mapping[int, str]) -> SentencePair:
    assert isinstance(pair, SentencePair)
    return replace(pair, source=pair.source.translate(table))
