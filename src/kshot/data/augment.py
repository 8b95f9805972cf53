"""Changes to a text that leave its class as it is, for tasks with few examples: `Example -> Example`.

Word dropout and word swap are the random deletion and random swap of EDA (Wei and Zou 2019, arXiv:1901.11196).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from kshot.data.examples import TextExample
from kshot.errors import KshotError, did_you_mean

Augmentation: TypeAlias = Callable[[TextExample, np.random.Generator], TextExample]
"""A change to an example; the generator is the only source of chance."""

WORD_RATE = 0.15
"""The share of words, or of characters of a word, that an edit touches on average."""


@dataclass(frozen=True)
class NamedAugmentation:
    """An augmentation with what a person has to know of it.

    Attributes:
        name: The name in recipes.
        title: One line on what it does.
        apply: The function.
    """

    name: str
    title: str
    apply: Augmentation


def drop_words(example: TextExample, rng: np.random.Generator) -> TextExample:
    """Leaves each word out with probability 0.15; one word always stays."""
    words = example.text.split()
    if len(words) < 2:
        return example
    kept = rng.random(len(words)) >= WORD_RATE
    if not kept.any():
        kept[int(rng.integers(len(words)))] = True
    if kept.all():
        return example
    return replace(example, text=" ".join(word for word, keep in zip(words, kept, strict=True) if keep))


def swap_words(example: TextExample, rng: np.random.Generator) -> TextExample:
    """Exchanges two neighbouring words, once for every seven words and at least once."""
    words = example.text.split()
    if len(words) < 2:
        return example
    for _ in range(max(1, round(WORD_RATE * len(words)))):
        place = int(rng.integers(len(words) - 1))
        words[place], words[place + 1] = words[place + 1], words[place]
    return replace(example, text=" ".join(words))


def mistype(example: TextExample, rng: np.random.Generator) -> TextExample:
    """Makes one slip of the finger in about every seventh word of four letters or more.

    The slip exchanges two neighbouring characters, leaves one out or doubles one. First and last characters stay, as
    they mostly do in the slips that people make.
    """
    words = example.text.split()
    slips = rng.random(len(words)) < WORD_RATE
    if not slips.any():
        return example
    return replace(
        example, text=" ".join(_slip(word, rng) if slip else word for word, slip in zip(words, slips, strict=True))
    )


def _slip(word: str, rng: np.random.Generator) -> str:
    if len(word) < 4 or not word.isalpha():
        return word  # numbers and names with signs in them carry meaning in each character
    place = int(rng.integers(1, len(word) - 2))
    match int(rng.integers(3)):
        case 0:
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        case 1:
            return word[:place] + word[place + 1 :]
        case _:
            return word[: place + 1] + word[place:]


def lower_case(example: TextExample, rng: np.random.Generator) -> TextExample:
    """Writes the text in lower case, in every second draw."""
    return replace(example, text=example.text.lower()) if rng.random() < 0.5 else example


def drop_punctuation(example: TextExample, rng: np.random.Generator) -> TextExample:
    """Leaves the punctuation out, in every second draw; a text that is nothing but punctuation stays."""
    if rng.random() < 0.5:
        return example
    text = " ".join(
        "".join(c for c in example.text if c.isalnum() or c.isspace() or c in "'-" or not c.isascii()).split()
    )
    return replace(example, text=text) if text else example


AUGMENTATIONS: Mapping[str, NamedAugmentation] = MappingProxyType(
    {
        each.name: each
        for each in (
            NamedAugmentation("drop_words", "leaves about every seventh word out", drop_words),
            NamedAugmentation("swap_words", "exchanges neighbouring words", swap_words),
            NamedAugmentation("mistype", "makes slips of the finger in longer words", mistype),
            NamedAugmentation("lower_case", "writes every second text in lower case", lower_case),
            NamedAugmentation("drop_punctuation", "leaves the punctuation of every second text out", drop_punctuation),
        )
    }
)
"""The augmentations by name."""


def build_augmentation(names: Sequence[str]) -> Augmentation | None:
    """Builds one augmentation that applies the named ones in turn; None for no name.

    Raises:
        KshotError: If a name is not in `AUGMENTATIONS`.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise KshotError(
                f'There is no augmentation "{name}"; there are '
                f"{', '.join(AUGMENTATIONS)}.{did_you_mean(name, AUGMENTATIONS)}"
            )
    return _Chain(tuple(names)) if names else None


@dataclass(frozen=True)
class _Chain:
    """A class and not a closure, so that a sampler can be sent to another process."""

    names: tuple[str, ...]

    def __call__(self, example: TextExample, rng: np.random.Generator) -> TextExample:
        for name in self.names:
            example = AUGMENTATIONS[name].apply(example, rng)
        return example
