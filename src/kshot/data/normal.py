"""When two texts count as the same text."""


def normalise(text: str) -> str:
    """Returns the text without what must not make two texts different: upper and lower case, and white space."""
    return " ".join(text.casefold().split())
