"""Understanding: what a user's turn is for and which slots it fills, from one reading of the dialogue.

    system : What time ?   user : Six thirty , please      the words that an encoder reads: what was said before, then
                                  |______ intent ______|   the utterance, whose words are read in that light
                                  |_ slot _|

| group | item | labels |
|---|---|---|
| intent | an utterance: the mean of its words | the intents |
| as `kshot.tasks.spans` has them | a word, or a slot | as there, the slots being the types |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from kshot.data.dialogue import USER, History, Speaker, newest
from kshot.data.examples import INTENT, SLOT, Example, Utterance, class_of, names_of
from kshot.data.words import split_words
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, Scorer, Task, group_of
from kshot.tasks.names import joining
from kshot.tasks.scores import span_scores
from kshot.tasks.spans import Found, Spans, SpanSettings, read_words
from kshot.tasks.viterbi import count_transitions


class UnderstandingSettings(SpanSettings):
    """How utterances become items, and scores become frames; see also `SpanSettings`.

    Attributes:
        history: How many turns before an utterance are read at most; of these, the newest that an encoder can read at
            once with it.
    """

    kind: Literal["understanding"] = "understanding"
    history: int = Field(2, ge=0)


@dataclass(frozen=True, slots=True)
class Understood:
    """What was made of some utterances.

    Attributes:
        intents: The probability of each intent, (n_utterances, n_intents).
        slots: The slots of each utterance.
    """

    intents: Tensor
    slots: list[list[Found]]


class Understanding(Task):
    """Says what utterances are for, and finds the slots in them."""

    measures = ("joint accuracy", "intent accuracy", "slot F1")
    settings: UnderstandingSettings

    def __init__(self, settings: UnderstandingSettings | None = None) -> None:
        self.settings = settings or UnderstandingSettings()
        self.spans = Spans(self.settings)
        self.groups = (INTENT, *self.spans.groups)

    def learned_from(self, examples: Iterable[Example]) -> Self:
        table = count_transitions(each.sentence.tags for each in examples if isinstance(each, Utterance))
        return type(self)(self.settings.model_copy(update={"table": table}))

    def judged_by(self, example: Utterance) -> tuple[str, ...]:
        """Its intent: a frame is wrong as a whole whose intent is not known."""
        return (class_of(INTENT, example.intent),)

    # -- utterances to items -------------------------------------------------------------------------------------------

    def read_of(self, history: History, words: tuple[str, ...], vocabulary: Vocabulary) -> History:
        """The turns of a history that are read before an utterance of some words."""

        def length(spoken: tuple[str, ...]) -> int:
            return sum(len(window.ids) for window in vocabulary.encode_words([spoken])[0])

        recent = history[max(0, len(history) - self.settings.history) :]
        room = vocabulary.max_length - length(_spoken(USER, words))
        return newest(recent, room, lambda turn: length(_spoken(turn.speaker, _words(turn.text))))

    def collate(
        self, examples: Sequence[Utterance], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        intents, slots = names_of(INTENT, classes), names_of(SLOT, classes)
        sentences = [each.sentence for each in examples]
        before = [
            self._before(each.history, sentence.tokens, vocabulary)
            for each, sentence in zip(examples, sentences, strict=True)
        ]
        slot_names = self.spans.names(slots) if support else []
        intent_names = self._names(intents) if support else {}
        read = [(*words, *sentence.tokens) for words, sentence in zip(before, sentences, strict=True)]
        read += [each.tokens for each in slot_names] + list(intent_names.values())
        batch, begins = read_words(read, vocabulary)
        rows = [begin + len(words) for begin, words in zip(begins, before, strict=False)]  # past what was said before
        of_names = begins[len(rows) :]
        number_of = {name: number for number, name in enumerate(intents)}
        spoken = [sentence.tokens for sentence in sentences] + list(intent_names.values())
        labels = [number_of.get(each.intent, -1) for each in examples] + [number_of[name] for name in intent_names]
        weights = [1.0] * len(examples) + [self.settings.name_weight] * len(intent_names)
        group = group_of(labels, rows + of_names[len(slot_names) :], len(intents), weights)
        return replace(
            batch,
            groups={
                INTENT: replace(group, widths=torch.tensor([len(each) for each in spoken], dtype=torch.int64)),
                **self.spans.items(sentences, slot_names, rows + of_names[: len(slot_names)], slots, support=support),
            },
        )

    def _before(self, history: History, words: tuple[str, ...], vocabulary: Vocabulary) -> tuple[str, ...]:
        """The words that are read before an utterance."""
        turns = self.read_of(history, words, vocabulary) if history else ()
        said = [word for turn in turns for word in _spoken(turn.speaker, _words(turn.text))]
        return (*said, *_spoken(USER, ())) if said else ()

    def _names(self, intents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The words of the names of intents that join a support."""
        return {name: tuple(words.split()) for name, words in joining(intents, self.settings).items()}

    # -- scores to frames ----------------------------------------------------------------------------------------------

    def understand(
        self,
        scorer: Scorer,
        batch: Batch,
        lengths: Sequence[int],
        classes: Sequence[str],
        temperature: float = 1.0,
        slot_temperature: float = 1.0,
    ) -> Understood:
        """Finds the intent and the slots of each utterance.

        Args:
            scorer: Scores the items of a batch.
            batch: The utterances, as `collate` makes them for a query.
            lengths: The number of words of each.
            classes: The names of the intents and slots.
            temperature: What the scores of intents are divided by before they are taken for log probabilities.
            slot_temperature: The same of slots.
        """
        groups = dict(batch.groups)
        whole = replace(batch, groups={INTENT: groups.pop(INTENT)})
        scores = scorer(whole)[INTENT].detach().cpu().double()
        words, slots = replace(batch, groups=groups), names_of(SLOT, classes)
        found = self.spans.find(scorer, words, lengths, slots, slot_temperature)
        return Understood((scores / temperature).softmax(dim=-1), found)

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[Utterance], classes: Sequence[str]
    ) -> tuple[float, ...]:
        sentences = [each.sentence for each in examples]
        understood = self.understand(scorer, batch, [len(each.tokens) for each in sentences], classes)
        intents = names_of(INTENT, classes)
        chosen = [intents[number] for number in understood.intents.argmax(dim=-1).tolist()]
        found = [[one.span for one in each] for each in understood.slots]
        return frame_scores(
            [(each.intent, sentence.spans) for each, sentence in zip(examples, sentences, strict=True)],
            list(zip(chosen, found, strict=True)),
        )


def frame_scores(
    true: Sequence[tuple[str, Iterable[object]]], found: Sequence[tuple[str, Iterable[object]]]
) -> tuple[float, float, float]:
    """The share of frames that are right as a whole, that of right intents, and micro F1 of slots.

    Args:
        true: The intent and the slots of each utterance.
        found: What they were taken for.
    """
    rights = [one == other for (one, _), (other, _) in zip(true, found, strict=True)]
    slots = [(set(one), set(other)) for (_, one), (_, other) in zip(true, found, strict=True)]
    joint = sum(right and one == other for right, (one, other) in zip(rights, slots, strict=True))
    f1, _, _ = span_scores([one for one, _ in slots], [other for _, other in slots])
    return joint / len(rights), sum(rights) / len(rights), f1


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word, _, _ in split_words(text))


def _spoken(speaker: Speaker, words: tuple[str, ...]) -> tuple[str, ...]:
    """A turn as it is read: who speaks, and what is said."""
    return (speaker, ":", *words)
