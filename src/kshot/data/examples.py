"""What a data set is made of: examples, and the episodes drawn from them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kshot.data.dialogue import History, Turn
from kshot.data.tags import Span, spans_of, tags_of
from kshot.data.words import split_words


class Example(Protocol):
    """Something labelled, of any kind of task."""

    @property
    def text(self) -> str:
        """Its words, by which the same example is known again."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All of its texts, of which a vocabulary is learned."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes that it shows, each once."""

    @property
    def task(self) -> str:
        """The named task that it belongs to (a domain, a user); empty if the data set has none."""

    @property
    def part(self) -> str:
        """``train``, ``valid`` or ``test`` where the source splits by example; empty otherwise."""


@dataclass(frozen=True, slots=True)
class TextExample:
    """One labelled text.

    Attributes:
        text: The text, as the user wrote it.
        label: The name of its class.
        task: The named task that it belongs to (a domain, a user); empty if the data set has none.
        part: ``train``, ``valid`` or ``test`` where the source splits by example; empty otherwise.
    """

    text: str
    label: str
    task: str = ""
    part: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The text alone."""
        return (self.text,)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its class."""
        return (self.label,)


@dataclass(frozen=True, slots=True)
class TaggedExample:
    """One sentence with its entities.

    Attributes:
        tokens: Its words.
        tags: One for each word, in BIO (IOB2): `B-TYPE` where an entity begins, `I-TYPE` where it goes on, `O` outside.
        task: As in `TextExample`.
        part: As in `TextExample`.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    task: str = ""
    part: str = ""

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.tokens)

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentence alone."""
        return (self.text,)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its entities, in order."""
        return spans_of(self.tags)

    @property
    def labels(self) -> tuple[str, ...]:
        """The types of its entities, each once, in the order in which they come."""
        return tuple(dict.fromkeys(tag[2:] for tag in self.tags if tag.startswith("B-")))


@dataclass(frozen=True, slots=True)
class SentencePair:
    """A text and the same in another language, or a text and what follows it.

    Attributes:
        source: The text that is given.
        target: What is to be made of it.
        task: The named task that it belongs to, such as a pair of languages, `ron-eng`.
        part: As in `TextExample`.
    """

    source: str
    target: str
    task: str = ""
    part: str = ""

    @property
    def text(self) -> str:
        """The text that is given."""
        return self.source

    @property
    def texts(self) -> tuple[str, ...]:
        """Both sides."""
        return (self.source, self.target)

    @property
    def labels(self) -> tuple[str, ...]:
        """None: a translation is not of a class."""
        return ()


INTENT, SLOT = "intent", "slot"
"""What an utterance has classes of."""


def class_of(kind: str, name: str) -> str:
    """The name of a class among classes of several kinds: `slot:city`."""
    return f"{kind}:{name}"


def names_of(kind: str, classes: Iterable[str]) -> tuple[str, ...]:
    """The names of the classes of one kind, in their order."""
    return tuple(name.partition(":")[2] for name in classes if name.startswith(f"{kind}:"))


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a user says in a dialogue: what for, and with which details.

    Attributes:
        text: What is said.
        intent: What for.
        spans: Where in it the slots stand, in characters, each from the first of a word to the last of one.
        history: What was said before, the oldest first.
        task: As in `TextExample`: the domain.
        part: As in `TextExample`.
    """

    text: str
    intent: str
    spans: tuple[Span, ...] = ()
    history: History = ()
    task: str = ""
    part: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """What was said before, and the utterance."""
        return (*(turn.text for turn in self.history), self.text)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its intent and the slots that it fills, each once, such as `intent:AddAlarm` and `slot:time`."""
        slots = dict.fromkeys(span.label for span in self.spans)
        return (class_of(INTENT, self.intent), *(class_of(SLOT, name) for name in slots))

    @property
    def sentence(self) -> TaggedExample:
        """The words of the utterance alone, its slots as entities."""
        words = split_words(self.text)
        first = {start: number for number, (_, start, _) in enumerate(words)}
        last = {end: number for number, (_, _, end) in enumerate(words)}
        spans = [Span(first[each.start], last[each.end] + 1, each.label) for each in self.spans]
        return TaggedExample(tuple(word for word, _, _ in words), tags_of(spans, len(words)), self.task, self.part)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person answers in a dialogue.

    Attributes:
        history: The turns before it, the oldest first; none where the person opens the dialogue.
        text: The reply.
        task: Who answers.
        dialogue: In which of the dialogues of that person, such as `3`.
        part: As in `TextExample`.
        candidates: Replies of others, among which it is to be told; none where it is not judged by that.
    """

    history: History
    text: str
    task: str = ""
    dialogue: str = ""
    part: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What it answers, and the reply."""
        return (script_of(self.history[-1:]), self.text)

    @property
    def labels(self) -> tuple[str, ...]:
        """None: a reply is not of a class."""
        return ()


def script_of(history: Iterable[Turn]) -> str:
    """Turns as one text, in which each begins with who speaks: `user: Wake me. system: At what time?`."""
    return " ".join(f"{each.speaker}: {' '.join(each.text.split())}" for each in history)


@dataclass(frozen=True)
class Episode:
    """One small task: a support set to learn from and a query set to be judged by.

    Attributes:
        support: The labelled examples that a learner adapts to.
        query: The examples that it is scored on; no text is in both.
        classes: The class names; an example's label number is its place in them.
        index: The number of the episode in its sampler.
    """

    support: tuple[Example, ...]
    query: tuple[Example, ...]
    classes: tuple[str, ...]
    index: int

    @property
    def way(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def shots(self) -> dict[str, int]:
        """The number of support examples that show each class."""
        counts = Counter(label for example in self.support for label in example.labels)
        return {name: counts[name] for name in self.classes}
