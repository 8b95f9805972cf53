"""What replies are worth, beside the true ones and among themselves.

F1 is that of ConvAI2 (Dinan et al. 2019, arXiv:1902.00098), distinct-1 and -2 are of Li et al. 2016, arXiv:1510.03055.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words_of(text: str) -> list[str]:
    """The words that F1 counts: in lower case, signs of ASCII being spaces, `a`, `an` and `the` left out."""
    return _ARTICLES.sub(" ", _PUNCTUATION.sub(" ", text.lower())).split()


def token_f1(reply: str, true: str) -> float:
    """The harmonic mean of precision and recall of the words of a reply, each counted as often as it stands; 0 to 1."""
    found, wanted = Counter(words_of(reply)), Counter(words_of(true))
    common = sum((found & wanted).values())
    return 2 * common / (sum(found.values()) + sum(wanted.values())) if common else 0.0


def distinct(replies: Sequence[str], n: int) -> float:
    """How many different n-grams some replies have for each of their words; 0 where they have no word.

    Words are what white space parts, in lower case. As in the paper, the number of words divides for every n.
    """
    words = [reply.lower().split() for reply in replies]
    grams = {tuple(each[i : i + n]) for each in words for i in range(len(each) - n + 1)}
    total = sum(map(len, words))
    return len(grams) / total if total else 0.0
