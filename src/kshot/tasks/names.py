"""Class names as words."""

import re
from functools import lru_cache
from unicodedata import category


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
