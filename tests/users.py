"""What the tests of the user-facing half share: a tiny learner and a task for it."""

from functools import cache

from contract import learner
from kshot.classifier import AdaptedClassifier
from kshot.data.examples import TextExample
from kshot.meta_learner import MetaLearner
from toy import CLASSES, episode, scratch

DRAWN = episode(shots=(4, 4, 4, 4), query=4, classes=CLASSES[:4])
TEXTS = [example.text for example in DRAWN.support]
LABELS = [example.label for example in DRAWN.support]
QUERIES = [example.text for example in DRAWN.query]


@cache
def meta_learner(algorithm: str = "prototypical", kind: str = "cnn", class_names: bool = True) -> MetaLearner:
    """A tiny learner that was not trained."""
    return MetaLearner(learner(algorithm, scratch(kind), class_names=class_names), {"title": "toy"})


def task(algorithm: str = "prototypical", kind: str = "cnn") -> AdaptedClassifier:
    """A tiny learner's adapted task."""
    return meta_learner(algorithm, kind).adapt(TEXTS, LABELS)


def support() -> list[TextExample]:
    """The support set."""
    return list(DRAWN.support)
