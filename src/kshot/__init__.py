"""kshot learns to learn language tasks: trained on many small ones, it adapts to a new one from a handful of examples.

    learner = kshot.load("runs/intents")
    task = learner.adapt(["where is my parcel?", "I forgot my password"], ["delivery", "account"])
    task.predict(["my package has not arrived"])[0].label

Importing this module is cheap; what a name needs is imported when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kshot.adapted import Adapted as Adapted
    from kshot.classifier import AdaptedClassifier as AdaptedClassifier
    from kshot.classifier import Prediction as Prediction
    from kshot.data.dialogue import Turn as Turn
    from kshot.data.examples import Reply as Reply
    from kshot.data.examples import SentencePair as SentencePair
    from kshot.data.examples import TaggedExample as TaggedExample
    from kshot.data.examples import TextExample as TextExample
    from kshot.data.examples import Utterance as Utterance
    from kshot.errors import KshotError as KshotError
    from kshot.estimator import FewShotClassifier as FewShotClassifier
    from kshot.meta_learner import MetaLearner as MetaLearner
    from kshot.meta_learner import load as load
    from kshot.meta_learner import load_task as load_task
    from kshot.responder import AdaptedResponder as AdaptedResponder
    from kshot.responder import Answered as Answered
    from kshot.tagger import AdaptedTagger as AdaptedTagger
    from kshot.tagger import Entity as Entity
    from kshot.tagger import Tagged as Tagged
    from kshot.translator import AdaptedTranslator as AdaptedTranslator
    from kshot.translator import Translated as Translated
    from kshot.understanding import AdaptedUnderstanding as AdaptedUnderstanding
    from kshot.understanding import Frame as Frame
    from kshot.understanding import Slot as Slot

_PLACES = {
    "Adapted": "kshot.adapted",
    "AdaptedClassifier": "kshot.classifier",
    "AdaptedResponder": "kshot.responder",
    "AdaptedTagger": "kshot.tagger",
    "AdaptedTranslator": "kshot.translator",
    "AdaptedUnderstanding": "kshot.understanding",
    "Answered": "kshot.responder",
    "Entity": "kshot.tagger",
    "FewShotClassifier": "kshot.estimator",
    "Frame": "kshot.understanding",
    "KshotError": "kshot.errors",
    "MetaLearner": "kshot.meta_learner",
    "Prediction": "kshot.classifier",
    "Reply": "kshot.data.examples",
    "SentencePair": "kshot.data.examples",
    "Slot": "kshot.understanding",
    "Tagged": "kshot.tagger",
    "TaggedExample": "kshot.data.examples",
    "TextExample": "kshot.data.examples",
    "Translated": "kshot.translator",
    "Turn": "kshot.data.dialogue",
    "Utterance": "kshot.data.examples",
    "load": "kshot.meta_learner",
    "load_task": "kshot.meta_learner",
}

__version__ = "0.1.0"
__all__ = [*sorted(_PLACES), "__version__"]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
