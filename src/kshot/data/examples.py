"""What a data set is made of: examples, and the episodes drawn from them."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextExample:
    """One labelled text.

    Attributes:
        text: The text, as the user wrote it.
        label: The name of its class.
        task: The named task that it belongs to (a domain, a user); empty if the data set has none.
        part: ``train``, ``valid`` or ``test`` where the source splits by example; empty otherwise.
    """

    text: str
    label: str
    task: str = ""
    part: str = ""


@dataclass(frozen=True)
class Episode:
    """One small task: a support set to learn from and a query set to be judged by.

    Attributes:
        support: The labelled examples that a learner adapts to.
        query: The examples that it is scored on; no text is in both.
        classes: The class names; an example's label number is its place in them.
        index: The number of the episode in its sampler.
    """

    support: tuple[TextExample, ...]
    query: tuple[TextExample, ...]
    classes: tuple[str, ...]
    index: int

    @property
    def way(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def shots(self) -> dict[str, int]:
        """The number of support examples of each class."""
        counts = Counter(example.label for example in self.support)
        return {name: counts[name] for name in self.classes}
