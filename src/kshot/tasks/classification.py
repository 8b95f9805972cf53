"""Text classification: one item a text."""

import re
from collections.abc import Sequence
from typing import Literal
from unicodedata import category

import numpy as np
import torch
from torch import Tensor

from kshot.data.examples import TextExample
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings
from kshot.tasks.base import Batch, Encode, Task


class ClassificationSettings(Settings):
    """How texts and class names become items.

    Attributes:
        class_names: Whether the name of each class joins the support as one more example of it; a name without a
            letter, such as a number, never does.
        name_weight: How many examples a class name counts for.
    """

    kind: Literal["classification"] = "classification"
    class_names: bool = True
    name_weight: float = 1.0


class Classification(Task):
    """Assigns one of several classes to a text."""

    groups = ("label",)
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
        if support and self.settings.class_names:
            telling = [number for number, name in enumerate(classes) if any(map(str.isalpha, name))]
            texts += [in_words(classes[number]) for number in telling]
            numbers += telling
            weights += [self.settings.name_weight] * len(telling)
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        return Batch(
            texts=tuple(vocabulary.encode(list(distinct))),
            rows=torch.from_numpy(np.fromiter((distinct[text] for text in texts), np.int64, len(texts))),
            labels={"label": torch.tensor(numbers, dtype=torch.int64)},
            n_labels={"label": len(classes)},
            weights=torch.tensor(weights, dtype=torch.float32),
        )

    def features(self, encode: Encode, batch: Batch) -> dict[str, Tensor]:
        return {"label": encode(batch.texts)[batch.rows]}


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
