"""An adapted translator: texts in one language in, texts in another out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from kshot.adapted import Adapted, Manifest, Vectors, learn_state, support_batch
from kshot.data.draws import whole_number
from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.inputs import check_length, check_pairs, check_written
from kshot.meta.learner import gather
from kshot.meta.state import State
from kshot.tasks.translation import Translation

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 256  # texts that are translated together, so that memory does not grow with their number


@dataclass(frozen=True)
class Translated:
    """A text and its translation.

    Attributes:
        text: The text.
        translation: What was made of it.
        score: The log-likelihood of a token of it, the end included: 0 is certain. With a length penalty other than 1,
            the log-likelihood over the length to that power.
        ended: Whether it ended by itself; if not, it was cut where no translation of such a text should be longer.
    """

    text: str
    translation: str
    score: float
    ended: bool


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedTranslator(Adapted):
    """A learner that has learned to translate."""

    examples: tuple[SentencePair, ...]
    task_type = Translation

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[SentencePair, ...]:
        if labels is None:
            given = list(examples)
            if not all(isinstance(each, SentencePair) for each in given):
                raise KshotError(
                    "adapt needs translations: give adapt(sources, targets), or adapt(examples) with SentencePairs."
                )
            examples, labels = [each.source for each in given], [each.target for each in given]
        return check_pairs(examples, labels)

    @classmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[SentencePair],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        core = learner.learner
        for number, pair in enumerate(examples, 1):
            for side, text in (("source", pair.source), ("target", pair.target)):
                check_length(text, core.encoder.vocabulary, f"The {side} of pair {number}")
        support = support_batch(core, examples, classes)
        found = None if core.moves else core.known_vectors(support, known or {})
        vectors = None if found is None else gather(support, found)
        return cls(learner, (), tuple(examples), 1.0, learn_state(core, support, vectors), vectors)

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
        if beam is not None:
            whole_number(beam, "beam", 1)
        if length_penalty is not None and not 0 <= length_penalty < math.inf:
            raise KshotError(f"length_penalty is {length_penalty!r} but has to be a number from 0.")
        core = self.learner.learner
        task = core.task
        assert isinstance(task, Translation)
        checked = check_written(texts)
        for number, text in enumerate(checked, 1):
            check_length(text, core.encoder.vocabulary, f"Text {number}")
        changes = {"beam": beam, "length_penalty": length_penalty}
        settings = type(task.settings.search).model_validate(
            task.settings.search.model_dump() | {key: value for key, value in changes.items() if value is not None}
        )
        scorer = core.scorer(self._state, support_batch(core, (), ()))
        translated = []
        for start in range(0, len(checked), BLOCK):
            block = checked[start : start + BLOCK]
            found = task.write(scorer, core.encoder.vocabulary.encode(block), settings)
            translated += [
                Translated(text, core.encoder.vocabulary.decode(each.tokens), each.score, each.ended)
                for text, each in zip(block, found, strict=True)
            ]
        return translated

    def translate(self, texts: Iterable[str], *, beam: int | None = None) -> list[str]:
        """The translations of texts alone; see `predict`."""
        return [each.translation for each in self.predict(texts, beam=beam)]

    def add_examples(self, sources: Iterable[object], targets: Iterable[object]) -> Self:
        """Returns a task with more sentence pairs, adapted anew.

        Raises:
            KshotError: If they cannot be used.
        """
        return self._with((*self.examples, *check_pairs(sources, targets)), ())

    # -- saving --------------------------------------------------------------------------------------------------------

    @classmethod
    def _restored(cls, learner: "MetaLearner", manifest: Manifest, state: State, tensors: Mapping[str, Tensor]) -> Self:
        examples = tuple(SentencePair(source, target) for source, target in manifest.examples)
        return cls(learner, (), examples, manifest.temperature, state, tensors.get("support.vectors"))

    def _pairs(self) -> tuple[tuple[Any, Any], ...]:
        return tuple((each.source, each.target) for each in self.examples)
