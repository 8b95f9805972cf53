"""Adapted understanding: what a user says in, intents and slots with their places out."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from kshot.adapted import Adapted, Manifest, Vectors, fit
from kshot.calibration import calibrate_groups, prior_temperature
from kshot.data.dialogue import HistoryCut, Turn, cut_notice
from kshot.data.examples import INTENT, SLOT, Utterance, names_of
from kshot.data.tags import Span
from kshot.data.words import split_words
from kshot.inputs import check_histories, check_made, check_spoken, check_utterance_task, check_utterances
from kshot.meta.state import State
from kshot.tasks.understanding import Understanding, frame_scores

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 256  # utterances that are read together, so that memory does not grow with their number
_SLOT_TEMPERATURE = "slots.temperature"


@dataclass(frozen=True)
class Slot:
    """A detail that an utterance gives.

    Attributes:
        slot: Its name.
        text: Its words, as they stand in the utterance.
        start: Its first character.
        end: One past its last character.
        confidence: How likely all of its words are what they were taken for, calibrated on the support.
    """

    slot: str
    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Frame:
    """What an utterance means.

    Attributes:
        text: The utterance.
        intent: What it is for.
        confidence: How likely that is, calibrated on the support.
        slots: The details that it gives, in order.
        intents: The probability of every intent, the likeliest first.
    """

    text: str
    intent: str
    confidence: float
    slots: tuple[Slot, ...]
    intents: Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedUnderstanding(Adapted):
    """A learner that has learned to understand a domain.

    Attributes:
        slot_temperature: What the scores of slots are divided by; those of intents by `temperature`.
    """

    examples: tuple[Utterance, ...]
    slot_temperature: float
    task_type = Understanding
    example_type = Utterance
    reads_history = True

    @property
    def intents(self) -> tuple[str, ...]:
        """The names of its intents."""
        return names_of(INTENT, self.classes)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of its slots."""
        return names_of(SLOT, self.classes)

    @classmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[Utterance, ...]:
        if labels is not None:
            return check_utterances(examples, _as_objects(labels))
        needs = "adapt needs frames: give adapt(texts, frames), or adapt(examples) with Utterances."
        given = check_made(examples, Utterance, needs)
        rows = [_object_of(each) for each in given]
        return check_utterances([each.text for each in given], rows)

    @classmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[Utterance],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        check_utterance_task(examples, classes)
        core = learner.learner
        _say_what_is_cut(learner, examples, "turn")
        made = fit(core, examples, classes, known)
        prior = prior_temperature(learner.about, core.settings.name)
        groups = [INTENT], [name for name in core.task.groups if name != INTENT]
        of_intents, of_slots = calibrate_groups(core, examples, classes, groups, known=made.known, prior=prior)
        return cls(learner, tuple(classes), tuple(examples), of_intents, made.state, made.vectors, of_slots)

    def read_of(self, history: Sequence[Turn], text: str) -> tuple[Turn, ...]:
        """The turns of a history that count for a text: the newest, as many as the learner reads."""
        task = self.learner.learner.task
        assert isinstance(task, Understanding)
        words = tuple(word for word, _, _ in split_words(text))
        return task.read_of(tuple(history), words, self.learner.learner.encoder.vocabulary)

    def predict(self, texts: Iterable[str], histories: Iterable[object] | None = None) -> list[Frame]:
        """Understands what users say.

        Args:
            texts: What they say.
            histories: For each the turns before it, the oldest first: pairs of speaker (`user` or `system`) and text,
                or `Turn`s. None if there are none.

        Raises:
            KshotError: If a text is empty or none, or a history is no list of turns.

        Warns:
            HistoryCut: If a history is longer than what is read of it.
        """
        checked = check_spoken(texts)
        asked = [
            Utterance(text, "", (), history)
            for text, history in zip(checked, check_histories(histories, len(checked)), strict=True)
        ]
        _say_what_is_cut(self.learner, asked, "text")
        return [frame for start in range(0, len(asked), BLOCK) for frame in self._frames(asked[start : start + BLOCK])]

    def _frames(self, asked: Sequence[Utterance]) -> list[Frame]:
        core = self.learner.learner
        task = core.task
        assert isinstance(task, Understanding)
        batch = task.collate(asked, self.classes, core.encoder.vocabulary, support=False)
        words = [split_words(each.text) for each in asked]
        with torch.no_grad():
            understood = task.understand(
                core.scorer(self._state, batch),
                batch,
                [len(each) for each in words],
                self.classes,
                self.temperature,
                self.slot_temperature,
            )
        frames = []
        for each, own, row, found in zip(asked, words, understood.intents.tolist(), understood.slots, strict=True):
            intents = dict(sorted(zip(self.intents, row, strict=True), key=lambda pair: -pair[1]))
            intent, confidence = next(iter(intents.items()))
            slots = []
            for one in found:
                start, end = own[one.span.start][1], own[one.span.end - 1][2]
                slots.append(Slot(one.span.label, each.text[start:end], start, end, one.confidence))
            frames.append(Frame(each.text, intent, confidence, tuple(slots), intents))
        return frames

    def score(self, texts: Iterable[object], frames: Iterable[object]) -> dict[str, float]:
        """Compares what it makes of utterances with what they mean.

        Args:
            texts: Utterances, none of which it has learned from.
            frames: What each means, as for `MetaLearner.adapt`. Intents and slots that it has not learned count as
                missed.

        Returns:
            The share of frames that are right as a whole, that of right intents, and micro F1 of slots, by
            `Understanding.measures`.

        Raises:
            KshotError: If a text or a frame cannot be used.
        """
        asked = check_utterances(texts, _as_objects(frames))
        found = self.predict([each.text for each in asked], [each.history for each in asked])
        scores = frame_scores(
            [(each.intent, each.spans) for each in asked],
            [(each.intent, [Span(one.start, one.end, one.slot) for one in each.slots]) for each in found],
        )
        return dict(zip(Understanding.measures, scores, strict=True))

    def add_examples(self, texts: Iterable[object], frames: Iterable[object]) -> Self:
        """Returns a task with more utterances, adapted anew; intents and slots that are new in them become its own.

        Raises:
            KshotError: If a text or a frame cannot be used.
        """
        return self._with((*self.examples, *check_utterances(texts, _as_objects(frames))))

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
        of_slots = float(tensors[_SLOT_TEMPERATURE])
        return cls(
            learner, manifest.classes, examples, manifest.temperature, state, tensors.get("support.vectors"), of_slots
        )

    @classmethod
    def _row(cls, example: Utterance) -> dict[str, Any]:
        history = [{"speaker": turn.speaker, "text": turn.text} for turn in example.history]
        own = {"text": example.text, **_object_of(example), "history": history, "task": example.task}
        return {name: value for name, value in own.items() if value or name in ("intent", "slots")}

    @classmethod
    def _of_row(cls, row: dict[str, Any]) -> Utterance:
        return Utterance(
            row["text"],
            row["intent"],
            tuple(Span(each["start"], each["end"], each["slot"]) for each in row["slots"]),
            tuple(Turn(each["speaker"], each["text"]) for each in row.get("history", ())),
            row.get("task", ""),
        )

    def _asked(self, example: Utterance) -> object:
        return example.history, example.text.strip()

    def _tensors(self) -> dict[str, Tensor]:
        return {_SLOT_TEMPERATURE: torch.tensor(self.slot_temperature, dtype=torch.float64)}


def _object_of(example: Utterance) -> dict[str, Any]:
    """What an utterance means, as a file says it."""
    return {
        "intent": example.intent,
        "slots": [{"slot": each.label, "start": each.start, "end": each.end} for each in example.spans],
        "history": [[turn.speaker, turn.text] for turn in example.history],
    }


def _as_objects(frames: Iterable[object]) -> Iterable[object]:
    """Frames that were predicted, perhaps put right, as objects; what else there is, as it is."""
    if isinstance(frames, (str, bytes, Mapping)) or not isinstance(frames, Iterable):
        return frames
    return [
        {"intent": each.intent, "slots": [{"slot": s.slot, "start": s.start, "end": s.end} for s in each.slots]}
        if isinstance(each, Frame)
        else each
        for each in frames
    ]


def _say_what_is_cut(learner: "MetaLearner", utterances: Sequence[Utterance], what: str) -> None:
    """Warns of the first history that is read in part."""
    task = learner.learner.task
    assert isinstance(task, Understanding)
    for number, each in enumerate(utterances, 1):
        read = task.read_of(each.history, each.sentence.tokens, learner.learner.encoder.vocabulary)
        if len(read) < len(each.history):
            warnings.warn(cut_notice(f"{what} {number}", len(each.history), len(read)), HistoryCut, stacklevel=3)
            return
