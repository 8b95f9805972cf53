"""Class names as words."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol
from unicodedata import category


class Naming(Protocol):
    """Settings of a task that say whether class names join a support set, and how many examples each counts for."""

    @property
    def class_names(self) -> bool: ...

    @property
    def name_weight(self) -> float: ...


def joining(classes: Sequence[str], settings: Naming) -> dict[str, str]:
    """The class names that join a support set, as words: those with a letter, if they count at all."""
    if not settings.class_names or not settings.name_weight:
        return {}
    return {name: in_words(name) for name in classes if any(map(str.isalpha, name))}


@lru_cache(maxsize=10_000)  # an evaluation draws the same classes over and over
def in_words(name: str) -> str:
    """Spells a class name as words: `alarm/set_time` and `alarm.setTime` give `alarm set time`.

    A name without a letter or digit stays as it is.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    roles = "".join(map(_role, spaced))
    words = [spaced[found.start() : found.end()] for found in re.finditer(r"w+(?:jw+)*(?:s+(?!w))?", roles)]
    return " ".join(words).lower() or name


def _role(character: str) -> str:
    """What a character does in a name: w is of a word, j joins two parts of one (`e-mail`), s may end one (`C++`)."""
    if character.isalnum() or category(character) in (
        "Mn",
        "Mc",
        "Cf",
    ):  # a vowel sign of Hindi is no letter, but of the word
        return "w"
    return "j" if character in "'\N{RIGHT SINGLE QUOTATION MARK}&-" else "s" if character in "+#" else " "
