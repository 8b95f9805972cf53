"""When two texts count as the same text, and when one is no text."""


def normalise(text: str) -> str:
    """Returns the text without what must not make two texts different: upper and lower case, and white space."""
    return " ".join(text.casefold().split())


def has_half_character(text: str) -> bool:
    """Whether there is half of a surrogate pair in it, which JSON can spell with an escape and UTF-8 cannot hold."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
