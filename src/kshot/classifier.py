"""An adapted classifier: texts in, classes with probabilities out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kshot.adapted import Adapted, Manifest, Vectors, fit
from kshot.calibration import calibrate, prior_temperature
from kshot.data.examples import TextExample
from kshot.errors import KshotError, did_you_mean
from kshot.inputs import check_examples, check_labels, check_made, check_task, check_texts
from kshot.meta.state import State
from kshot.scope import Scope, fit_scope
from kshot.tasks.classification import GROUP, Classification

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 1024  # texts that are scored together, so that memory does not grow with their number


@dataclass(frozen=True)
class Prediction:
    """What a task makes of a text.

    Attributes:
        label: The likeliest class.
        confidence: Its probability, calibrated on the support.
        out_of_scope: How likely the text belongs to none of the classes: 0 for one as similar to a class as that
            class's own texts are, 1 for one that has nothing in common with any; may be a little outside of both.
        in_scope: Whether that is no more than the task's threshold.
        probabilities: The probability of every class, the likeliest first.
    """

    label: str
    confidence: float
    out_of_scope: float
    in_scope: bool
    probabilities: dict[str, float] = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedClassifier(Adapted):
    """A learner that has learned to classify texts.

    Attributes:
        scope: What out-of-scope scores come from (`kshot.scope`).
    """

    examples: tuple[TextExample, ...]
    scope: Scope
    task_type = Classification
    example_type = TextExample

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[TextExample, ...]:
        if labels is None:
            needs = "adapt needs labels: give adapt(texts, labels), or adapt(examples) with TextExamples."
            given = check_made(examples, TextExample, needs)
            examples, labels = [each.text for each in given], [each.label for each in given]
        return check_examples(examples, labels)

    @classmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[TextExample],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        check_task(examples, classes)
        core = learner.learner
        made = fit(core, examples, classes, known)
        prior = prior_temperature(learner.about, core.settings.name)
        temperature = calibrate(core, made.support, made.vectors, n_texts=len(examples), prior=prior)
        group = made.support.groups[GROUP]
        with torch.no_grad():
            vectors = core.vectors(made.support, made.state) if made.vectors is None else made.vectors
            x = group.features(vectors).cpu()
            scope = fit_scope(x, group.labels, group.weights, n_texts=len(examples), n_classes=len(classes))
        return cls(learner, tuple(classes), tuple(examples), temperature, made.state, made.vectors, scope)

    # -- predicting ----------------------------------------------------------------------------------------------------

    def predict(self, texts: Iterable[str]) -> list[Prediction]:
        """Labels texts.

        Raises:
            KshotError: If one of them is not a text.
        """
        return [prediction for block in self._blocks(texts) for prediction in self._predictions(*block)]

    def predict_proba(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Returns the probability of each class, (n_texts, n_classes), calibrated on the support.

        Raises:
            KshotError: If one of them is not a text.
        """
        blocks = [probabilities for probabilities, _ in self._blocks(texts)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes)))

    def out_of_scope(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Returns how likely each text belongs to none of the classes, (n_texts,); `scope.threshold` is where to cut.

        Raises:
            KshotError: If one of them is not a text.
        """
        blocks = [scores for _, scores in self._blocks(texts)]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _blocks(self, texts: Iterable[str]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        checked = check_texts(texts)
        for start in range(0, len(checked), BLOCK):
            yield self._score(checked[start : start + BLOCK])

    def _score(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n_texts, n_classes) and out-of-scope scores (n_texts,)."""
        core = self.learner.learner
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        examples = [TextExample(text, "") for text in distinct]
        batch = core.task.collate(examples, self.classes, core.encoder.vocabulary, support=False)
        with torch.no_grad():
            vectors = core.vectors(batch, self._state)
            logits = core.logits(self._state, batch, vectors)[GROUP]
            probabilities = (logits.cpu().double() / self.temperature).softmax(dim=-1).numpy()
            scores = self.scope.score(batch.groups[GROUP].features(vectors).cpu()).double().numpy()
        rows = [distinct[text] for text in texts]
        return probabilities[rows], scores[rows]

    def _predictions(self, probabilities: NDArray[np.float64], scores: NDArray[np.float64]) -> Iterator[Prediction]:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        for row, score, ranks in zip(probabilities.tolist(), scores.tolist(), order.tolist(), strict=True):
            ranked = {self.classes[rank]: row[rank] for rank in ranks}
            best = self.classes[ranks[0]]
            yield Prediction(best, ranked[best], score, score <= self.scope.threshold, ranked)

    # -- other classes and examples ------------------------------------------------------------------------------------

    def add_class(self, label: object, texts: Iterable[str]) -> "AdaptedClassifier":
        """Returns a task with one class more, adapted anew; nothing is meta-trained.

        Raises:
            KshotError: If there is such a class, or the label or a text cannot be used.
        """
        [name] = check_labels([label])
        if name in self.classes:
            raise KshotError(f'There is a class "{name}" already; add_examples adds texts to it.')
        checked = check_texts(texts)
        if not checked:
            raise KshotError(f'The class "{name}" has no example; give at least one.')
        new = check_examples(checked, [name] * len(checked))
        return self._with((*self.examples, *new))

    def add_examples(self, texts: Iterable[str], labels: Iterable[object]) -> "AdaptedClassifier":
        """Returns a task with more examples of its classes, adapted anew.

        Raises:
            KshotError: If a class is unknown, or a text or label cannot be used.
        """
        new = check_examples(texts, labels)
        for example in new:
            if example.label not in self.classes:
                hint = did_you_mean(example.label, self.classes)
                raise KshotError(f'There is no class "{example.label}"; add_class adds one.{hint}')
        return self._with((*self.examples, *new))

    def remove_class(self, label: object) -> "AdaptedClassifier":
        """Returns a task without one of its classes, adapted anew.

        Raises:
            KshotError: If there is no such class, or only two are left.
        """
        [name] = check_labels([label])
        if name not in self.classes:
            raise KshotError(
                f'There is no class "{name}".{did_you_mean(name, self.classes)} Known: {", ".join(self.classes)}.'
            )
        if len(self.classes) == 2:
            raise KshotError(f'Without "{name}" there is one class only; add another before you remove it.')
        return self._with(tuple(example for example in self.examples if example.label != name))

    # -- saving --------------------------------------------------------------------------------------------------------

    @classmethod
    def _restored(
        cls,
        learner: "MetaLearner",
        manifest: Manifest,
        examples: tuple[Any, ...],
        state: State,
        tensors: Mapping[str, Tensor],
    ) -> Self:
        threshold = float("inf") if manifest.threshold is None else manifest.threshold
        return cls(
            learner,
            manifest.classes,
            examples,
            manifest.temperature,
            state,
            tensors.get("support.vectors"),
            Scope(tensors["scope.centres"], tensors["scope.tightness"], threshold),
        )

    def _threshold(self) -> float:
        return self.scope.threshold

    def _tensors(self) -> dict[str, Tensor]:
        return {"scope.centres": self.scope.centres, "scope.tightness": self.scope.tightness}
