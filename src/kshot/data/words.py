"""Where the words of a text are."""

from tokenizers import pre_tokenizers

_SPLIT = pre_tokenizers.BertPreTokenizer()  # at white space, and around each sign of punctuation


def split_words(text: str) -> list[tuple[str, int, int]]:
    """Splits a text as tagged corpora are split: each word with its first character and one past its last."""
    return [(word, start, end) for word, (start, end) in _SPLIT.pre_tokenize_str(text)]
