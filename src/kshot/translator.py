"""An adapted translator: texts in one language in, texts in another out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from kshot.data.examples import SentencePair
from kshot.inputs import check_length, check_made, check_pairs, check_written
from kshot.meta.learner import Learner
from kshot.tasks.translation import Translation
from kshot.writer import AdaptedWriter


@dataclass(frozen=True)
class Translated:
    """A text and its translation.

    Attributes:
        text: The text.
        translation: What was made of it.
        score: See `kshot.writer.Written`.
        ended: Whether it ended by itself; if not, it was cut where no translation of such a text should be longer.
    """

    text: str
    translation: str
    score: float
    ended: bool


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedTranslator(AdaptedWriter):
    """A learner that has learned to translate."""

    examples: tuple[SentencePair, ...]
    task_type = Translation
    example_type = SentencePair

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[SentencePair, ...]:
        if labels is None:
            needs = "adapt needs translations: give adapt(sources, targets), or adapt(examples) with SentencePairs."
            given = check_made(examples, SentencePair, needs)
            examples, labels = [each.source for each in given], [each.target for each in given]
        return check_pairs(examples, labels)

    @classmethod
    def _readable(cls, core: Learner, examples: Sequence[SentencePair]) -> tuple[SentencePair, ...]:
        for number, pair in enumerate(examples, 1):
            for side, text in (("source", pair.source), ("target", pair.target)):
                check_length(text, core.encoder.vocabulary, f"The {side} of pair {number}")
        return tuple(examples)

    def predict(
        self, texts: Iterable[str], *, beam: int | None = None, length_penalty: float | None = None
    ) -> list[Translated]:
        """Translates texts.

        Args:
            texts: The texts; each should be a sentence or two.
            beam: Translations that are followed at once; 1 is the fastest. None as the learner says.
            length_penalty: Above 1 favours longer translations, below 1 shorter ones. None as the learner says.

        Raises:
            KshotError: If one of them is not a text, is empty or is longer than the learner reads at once; or if `beam`
                or `length_penalty` cannot be used.
        """
        checked = check_written(texts)
        for number, text in enumerate(checked, 1):
            check_length(text, self.learner.learner.encoder.vocabulary, f"Text {number}")
        found = self._write(checked, beam=beam, length_penalty=length_penalty)
        return [Translated(text, each.text, each.score, each.ended) for text, each in zip(checked, found, strict=True)]

    def translate(self, texts: Iterable[str], *, beam: int | None = None) -> list[str]:
        """The translations of texts alone; see `predict`."""
        return [each.translation for each in self.predict(texts, beam=beam)]

    def add_examples(self, sources: Iterable[object], targets: Iterable[object]) -> Self:
        """Returns a task with more sentence pairs, adapted anew.

        Raises:
            KshotError: If they cannot be used.
        """
        return self._with((*self.examples, *check_pairs(sources, targets)))
