"""Text classification: one item a text."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from kshot.data.examples import TextExample
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings
from kshot.tasks.base import Batch, Scorer, Task, group_of
from kshot.tasks.names import joining
from kshot.tasks.scores import accuracy, macro_f1

GROUP = "label"


class ClassificationSettings(Settings):
    """How texts and class names become items.

    Attributes:
        class_names: Whether the name of each class joins the support as one more example of it; a name without a
            letter, such as a number, never does.
        name_weight: How many examples a class name counts for; at 0 none joins.
    """

    kind: Literal["classification"] = "classification"
    class_names: bool = True
    name_weight: float = Field(1.0, ge=0)


class Classification(Task):
    """Assigns one of several classes to a text."""

    groups = (GROUP,)
    measures = ("accuracy", "macro F1")
    settings: ClassificationSettings

    def __init__(self, settings: ClassificationSettings | None = None) -> None:
        self.settings = settings or ClassificationSettings()

    def collate(
        self, examples: Sequence[TextExample], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        number_of = {name: number for number, name in enumerate(classes)}
        texts = [example.text for example in examples]
        numbers = [number_of.get(example.label, -1) for example in examples]
        weights = [1.0] * len(texts)
        if support:
            names, telling = self.named(classes)
            texts += names
            numbers += telling
            weights += [self.settings.name_weight] * len(names)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        group = group_of(numbers, [distinct[text] for text in texts], len(classes), weights)
        return Batch(tuple(vocabulary.encode(list(distinct))), {GROUP: group})

    def named(self, classes: Sequence[str]) -> tuple[list[str], list[int]]:
        """The class names that join a support set, as words, and the label number of each."""
        words = joining(classes, self.settings)
        return list(words.values()), [number for number, name in enumerate(classes) if name in words]

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[TextExample], classes: Sequence[str]
    ) -> tuple[float, ...]:
        true, predicted = batch.groups[GROUP].labels.numpy(), scorer(batch)[GROUP].argmax(dim=-1).cpu().numpy()
        return accuracy(true, predicted), macro_f1(true, predicted, len(classes))
