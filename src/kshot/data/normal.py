"""When two texts count as the same text, and when one is no text."""

from kshot.errors import KshotError


def normalise(text: str) -> str:
    """Returns the text without what must not make two texts different: upper and lower case, and white space."""
    return " ".join(text.casefold().split())


def refuse_half_character(text: str, what: str) -> None:
    """Refuses a text that `has_half_character`.

    Raises:
        KshotError: If it has one; says of `what`.
    """
    if has_half_character(text):
        raise KshotError(f"{what} has half a character (a lone surrogate); read it again as UTF-8.")


def has_half_character(text: str) -> bool:
    """Whether there is half of a surrogate pair in it, which JSON can spell with an escape and UTF-8 cannot hold."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
