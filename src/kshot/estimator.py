"""A scikit-learn estimator: the one file that imports scikit-learn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from kshot.classifier import AdaptedClassifier
from kshot.errors import KshotError
from kshot.inputs import check_labels, check_texts
from kshot.meta_learner import MetaLearner, default_learner, load


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Few-shot text classification as a scikit-learn classifier.

    X is a list, an array or a pandas column of texts. Labels may be texts or numbers; they are given back as they came.

    Args:
        learner: A `MetaLearner`, the folder of one, or None for prototypes over the pretrained MiniLM, frozen.
        algorithm: Another algorithm over the learner's encoder; None for its own.
        head: Settings of its head to change, such as `{"scale": 10.0}`.
        class_names: Whether class names count as examples; None for as the learner does. Numbers never do.
        name_weight: How many examples a class name counts for; None for as the learner has it.

    Attributes:
        classes_: The classes, sorted, (n_classes,).
        task_: The adapted task.
    """

    def __init__(
        self,
        learner: MetaLearner | str | Path | None = None,
        *,
        algorithm: str | None = None,
        head: Mapping[str, Any] | None = None,
        class_names: bool | None = None,
        name_weight: float | None = None,
    ) -> None:
        self.learner = learner
        self.algorithm = algorithm
        self.head = head
        self.class_names = class_names
        self.name_weight = name_weight

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Adapts the learner to texts and labels; nothing is meta-trained.

        Args:
            X: The texts, (n_texts,).
            y: The label of each, (n_texts,).

        Raises:
            KshotError: As `MetaLearner.adapt`, or if labels are of two kinds, or differ in white space alone.
        """
        texts, labels = _texts(X), column_or_1d(y, warn=True)
        names = check_labels(labels.tolist())
        if len(names) != len(texts):
            raise KshotError(f"There are {len(texts)} texts and {len(names)} labels; give one label for each text.")
        check_classification_targets(np.array(labels.tolist()))
        if len({isinstance(label, str) for label in labels.tolist()}) > 1:
            raise KshotError("The labels are partly texts and partly numbers; make them all of one kind.")
        classes, numbers = np.unique(labels, return_inverse=True)
        name_of = dict(zip(numbers.tolist(), names, strict=True))
        ordered = [name_of[number] for number in range(len(classes))]
        for place, name in enumerate(ordered):
            if (first := ordered.index(name)) < place:
                raise KshotError(
                    f'The labels "{classes[first]}" and "{classes[place]}" are one class, since white space around a '
                    "label does not count; write them alike."
                )
        self.classes_ = classes
        self.task_: AdaptedClassifier = self._learner().adapt(texts, names, classes=ordered)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Returns the likeliest label of each text, (n_texts,)."""
        best = self.predict_proba(X).argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[best]
        return predicted

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Returns the probability of each class, calibrated on the support, (n_texts, n_classes)."""
        check_is_fitted(self)
        return self.task_.predict_proba(_texts(X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Returns log-probabilities, (n_texts, n_classes), or of two classes the log-odds of the second, (n_texts,)."""
        scores: NDArray[np.float64] = np.log(self.predict_proba(X).clip(np.finfo(np.float64).tiny))
        odds: NDArray[np.float64] = scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores
        return odds

    def out_of_scope(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Returns how likely each text belongs to none of the classes, (n_texts,): `AdaptedClassifier.out_of_scope`."""
        check_is_fitted(self)
        return self.task_.out_of_scope(_texts(X))

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True  # texts are not checked as numbers are
        return tags

    def _learner(self) -> MetaLearner:
        given = self.learner
        learner = default_learner() if given is None else given if isinstance(given, MetaLearner) else load(given)
        if learner.kind != "classification":
            raise KshotError(f"This learner learns {learner.kind}; give FewShotClassifier one of classification.")
        changes = (self.algorithm, self.head, self.class_names, self.name_weight)
        if all(change is None for change in changes):
            return learner
        return learner.variant(
            algorithm=self.algorithm, head=self.head, class_names=self.class_names, name_weight=self.name_weight
        )


def _texts(given: ArrayLike) -> Sequence[str]:
    """The texts of a list, an array or a column; a table of one column is a column."""
    if getattr(given, "ndim", 1) == 2 and (table := np.asarray(given)).shape[1] == 1:
        given = table[:, 0]
    return check_texts(given)  # type: ignore[arg-type]
