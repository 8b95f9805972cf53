"""What a user may hand over as texts and labels, and the sentences for what cannot be used."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeVar

from kshot.data.dialogue import SYSTEM, History, check_history
from kshot.data.examples import INTENT, SLOT, Reply, SentencePair, TaggedExample, TextExample, Utterance, class_of
from kshot.data.files import shorten
from kshot.data.normal import normalise, refuse_half_character
from kshot.data.replies import replies_of
from kshot.data.tags import OUTSIDE, first_problem
from kshot.data.utterances import slots_of
from kshot.errors import KshotError, did_you_mean, several
from kshot.models.vocabulary import Vocabulary

E = TypeVar("E")


def check_texts(texts: Iterable[object], *, what: str = "text") -> list[str]:
    """Returns texts as a list of strings.

    Raises:
        KshotError: If it is one text and not several, or if one of them is not a text, or not one of Unicode.
    """
    if isinstance(texts, (str, bytes)):
        raise KshotError(f'One {what} was given where a list of them is expected; write ["..."].')
    if getattr(texts, "ndim", 1) != 1:
        raise KshotError(
            f"The {what}s have {getattr(texts, 'ndim', 0)} dimensions; give a list, or one column of a table."
        )
    if not isinstance(texts, Iterable):
        raise KshotError(f"A {type(texts).__name__} was given where a list of {what}s is expected.")
    found = []
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise KshotError(
                f"{what.capitalize()} {number} is {_describe(text)}, not a text; turn it into a text or leave it out."
            )
        refuse_half_character(text, f"{what.capitalize()} {number}")
        found.append(str(text))
    return found


def check_made(examples: object, kind: type[E], needs: str) -> list[E]:
    """Returns examples that bring their labels.

    Args:
        examples: What was given without labels.
        kind: What they have to be.
        needs: The sentence for all else.

    Raises:
        KshotError: If they are something else.
    """
    given: list[Any] = list(examples) if isinstance(examples, Iterable) else [None]
    if not all(isinstance(each, kind) for each in given):
        raise KshotError(needs)
    return given


def check_labels(labels: Iterable[object]) -> list[str]:
    """Returns labels as strings without white space around them: 3 and 3.0 give "3", True gives "true".

    Raises:
        KshotError: If it is one label and not several, or if one is missing (None, NaN), empty, neither text nor
            number, or not a text of Unicode.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise KshotError('One label was given where a list of them is expected; write ["..."].')
    return [_label(label, number) for number, label in enumerate(labels, 1)]


def check_examples(texts: Iterable[object], labels: Iterable[object]) -> tuple[TextExample, ...]:
    """Pairs texts with labels.

    Raises:
        KshotError: As `check_texts` and `check_labels`, or if there are not as many labels as texts, if a text is
            empty, or if one text stands under two labels.
    """
    checked, names = check_texts(texts), check_labels(labels)
    if len(checked) != len(names):
        raise KshotError(f"There are {len(checked)} texts and {len(names)} labels; give one label for each text.")
    if not checked:
        raise KshotError("There are no texts to learn from; give at least one for each of two classes.")
    for number, text in enumerate(checked, 1):
        if not text.strip():
            raise KshotError(f"Text {number} is empty; fill it in or leave it out.")
    return tuple(TextExample(text, name) for text, name in zip(checked, names, strict=True))


def check_task(examples: Sequence[TextExample], classes: Sequence[str]) -> None:
    """Checks what only shows in the whole of a task.

    Raises:
        KshotError: If there is one class only, if a class has no example, or if one text stands under two labels.
    """
    if len(classes) < 2:
        raise KshotError(f'There is one class only, "{classes[0]}"; give examples of at least two.')
    have = {example.label for example in examples}
    for name in classes:
        if name not in have:
            raise KshotError(f'The class "{name}" has no example; give at least one, or leave the class out.')
    label_of: dict[str, str] = {}
    for example in examples:
        other = label_of.setdefault(example.text.strip(), example.label)
        if other != example.label:
            raise KshotError(
                f'The text "{_begins(example.text)}" stands under two labels, "{other}" and "{example.label}"; '
                "leave it under one."
            )


def check_tagged(sentences: Iterable[object], tags: Iterable[object]) -> tuple[TaggedExample, ...]:
    """Pairs sentences with their tags.

    Args:
        sentences: Lists of words.
        tags: For each a list of tags in BIO: `O`, `B-TYPE`, `I-TYPE`.

    Raises:
        KshotError: If there are not as many of the ones as of the others, in all or in a sentence, if a sentence or a
            word is empty, or if tags are not BIO, or not texts of Unicode.
    """
    given, marks = _lists(sentences, "sentence", "words"), _lists(tags, "list of tags", "tags")
    if len(given) != len(marks):
        raise KshotError(
            f"There are {len(given)} sentences and {len(marks)} lists of tags; give one list for each sentence."
        )
    if not given:
        raise KshotError("There are no sentences to learn from; give at least one with an entity.")
    found = []
    for number, (words, own) in enumerate(zip(given, marks, strict=True), 1):
        checked, names = check_texts(words, what=f"sentence {number}, word"), [str(tag).strip() for tag in own]
        if len(checked) != len(names):
            raise KshotError(
                f"Sentence {number} has {len(checked)} words and {len(names)} tags; give one tag for each word."
            )
        if not checked:
            raise KshotError(f"Sentence {number} has no words; fill it in or leave it out.")
        if blank := [place for place, word in enumerate(checked, 1) if not word.strip()]:
            raise KshotError(f"Sentence {number}, word {blank[0]} is empty; leave it out, with its tag.")
        for place, name in enumerate(names, 1):
            refuse_half_character(name, f"Sentence {number}, the tag of word {place}")
        if problem := first_problem(names):
            place, why = problem
            raise KshotError(
                f'Sentence {number}, word {place + 1} ("{_begins(checked[place])}"): the tag "{names[place]}" {why}; '
                "begin each entity with B- and its type."
            )
        found.append(TaggedExample(tuple(checked), tuple(names)))
    return tuple(found)


def check_tagged_task(examples: Sequence[TaggedExample], classes: Sequence[str]) -> None:
    """Checks what only shows in the whole of a task.

    Raises:
        KshotError: If there is no type, if a type has no mention, or if every word is part of an entity.
    """
    seen = {label for each in examples for label in each.labels}
    if not classes:
        raise KshotError("No sentence has an entity; tag at least one.")
    for name in classes:
        if name not in seen:
            raise KshotError(f'The type "{name}" has no mention in the sentences; tag one, or leave the type out.')
    if all(tag != OUTSIDE for each in examples for tag in each.tags):
        raise KshotError(
            'Every word is part of an entity, so nothing shows what is none; add a sentence with words tagged "O".'
        )


def check_written(texts: Iterable[object], *, what: str = "text") -> list[str]:
    """Returns texts that something is to be made of.

    Raises:
        KshotError: As `check_texts`, or if one is empty or has a control character.
    """
    checked = check_texts(texts, what=what)
    for number, text in enumerate(checked, 1):
        if not text.strip():
            raise KshotError(f"{what.capitalize()} {number} is empty; fill it in or leave it out.")
        _refuse_control(text, f"{what.capitalize()} {number}")
    return checked


def _refuse_control(text: str, what: str) -> None:
    for character in text:
        if unicodedata.category(character) == "Cc" and not character.isspace():
            raise KshotError(f"{what} has a control character (U+{ord(character):04X}); take it out.")


def check_pairs(sources: Iterable[object], targets: Iterable[object]) -> tuple[SentencePair, ...]:
    """Pairs texts with their translations.

    Raises:
        KshotError: As `check_written`, or if there are not as many of the ones as of the others.
    """
    given, made = check_written(sources, what="source"), check_written(targets, what="target")
    if len(given) != len(made):
        raise KshotError(
            f"There are {several(len(given), 'source')} and {several(len(made), 'target')}; give one translation of "
            "each text."
        )
    if not given:
        raise KshotError("There are no sentence pairs to learn from; give at least one.")
    return tuple(SentencePair(source, target) for source, target in zip(given, made, strict=True))


_FRAME = ("intent", "slots", "history")
_ALSO_WRITTEN = ("text", "confidence", "intents")  # as `kshot predict` writes frames


def check_utterances(texts: Iterable[object], frames: Iterable[object]) -> tuple[Utterance, ...]:
    """Pairs what users say with what it means.

    Args:
        texts: What they say.
        frames: For each an object with `intent`, and if need be `slots` (a list of objects with `slot`, `start` and
            `end`, in characters) and `history` (the turns before it).

    Raises:
        KshotError: If there are not as many of the ones as of the others, if a text is empty, if a frame is no such
            object, or if a slot does not fit its text.
    """
    checked = check_spoken(texts)
    if isinstance(frames, (str, bytes, Mapping)) or not isinstance(frames, Iterable):
        raise KshotError('One frame was given where a list of them is expected; write [{"intent": ...}].')
    given = list(frames)
    if len(checked) != len(given):
        raise KshotError(
            f"There are {several(len(checked), 'text')} and {several(len(given), 'frame')}; give one for each text."
        )
    if not checked:
        raise KshotError("There are no turns to learn from; give at least one.")
    return tuple(
        _utterance(text, frame, number) for number, (text, frame) in enumerate(zip(checked, given, strict=True), 1)
    )


def _utterance(text: str, frame: object, number: int) -> Utterance:
    if not isinstance(frame, Mapping):
        raise KshotError(
            f'Frame {number} is {_describe(frame)}, not an object; write {{"intent": ..., "slots": [...]}}.'
        )
    for key in frame:
        if key not in (*_FRAME, *_ALSO_WRITTEN):
            raise KshotError(
                f'Frame {number} has a field "{key}" that kshot does not know; the fields of a frame are '
                f"{', '.join(_FRAME)}.{did_you_mean(str(key), _FRAME)}"
            )
    intent = frame.get("intent")
    if not isinstance(intent, str) or not intent.strip():
        raise KshotError(f"Frame {number} has no intent; name what the text is for.")
    refuse_half_character(intent, f"The intent of frame {number}")
    slots = frame.get("slots", ())
    if not isinstance(slots, (list, tuple)):
        raise KshotError(
            f"The slots of frame {number} are {_describe(slots)}, not a list; write "
            '[{"slot": ..., "start": ..., "end": ...}].'
        )
    history = check_history(frame.get("history") or (), f"The history of frame {number}")
    return Utterance(text, intent.strip(), slots_of(f"Frame {number}", text, slots), history)


def check_spoken(texts: Iterable[object]) -> list[str]:
    """Returns what users say.

    Raises:
        KshotError: As `check_texts`, or if one is empty.
    """
    checked = check_texts(texts)
    for number, text in enumerate(checked, 1):
        if not text.strip():
            raise KshotError(f"Text {number} is empty; fill it in or leave it out.")
    return checked


def check_histories(histories: Iterable[object] | None, n_texts: int) -> list[History]:
    """Returns a history for each text.

    Raises:
        KshotError: If there are not as many histories as texts, or one is not a list of turns.
    """
    if histories is None:
        return [()] * n_texts
    if isinstance(histories, (str, bytes)) or not isinstance(histories, Iterable):
        raise KshotError('One history was given where a list of them is expected; write [[("user", "..."), ...]].')
    given = list(histories)
    if len(given) != n_texts:
        raise KshotError(
            f"There are {several(n_texts, 'text')} and {len(given)} histories; give one history for each text."
        )
    return [check_history(each, f"History {number}") for number, each in enumerate(given, 1)]


def check_utterance_task(examples: Sequence[Utterance], classes: Sequence[str]) -> None:
    """Checks what only shows in the whole of a task.

    Raises:
        KshotError: If there is nothing to tell apart, if a class has no example, or if one utterance means two things
            after the same turns.
    """
    seen = {label for each in examples for label in each.labels}
    for name in classes:
        if name not in seen:
            kind, _, own = name.partition(":")
            raise KshotError(
                f'The {kind} "{own}" has no example; give at least one, or leave it out.'
                if kind in (INTENT, SLOT)
                else f'The class "{name}" is neither an intent nor a slot; write "{class_of(INTENT, name)}".'
            )
    if len(seen) == 1:
        raise KshotError(
            f'There is one intent only, "{examples[0].intent}", and no slot, so there is nothing to tell apart; give '
            "examples of another, or mark a slot."
        )
    meaning: dict[tuple[str, ...], Utterance] = {}
    for each in examples:
        other = meaning.setdefault(tuple(normalise(text) for text in each.texts), each)
        if other.intent != each.intent:
            raise KshotError(
                f'The turn "{_begins(each.text)}" has two intents after the same turns, "{other.intent}" and '
                f'"{each.intent}"; leave it under one.'
            )


def check_dialogues(dialogues: Iterable[object], *, first: int = 0) -> tuple[Reply, ...]:
    """Returns what the system says in dialogues.

    Args:
        dialogues: Each as turns, see `check_history`, or as an object with `turns`; or `Reply`s.
        first: The number by which the first dialogue is known.

    Raises:
        KshotError: If they are no dialogues, or if one has nothing to learn from.
    """
    if isinstance(dialogues, (str, bytes)) or not isinstance(dialogues, Iterable):
        raise KshotError('One dialogue was given where a list of them is expected; write [[("user", "..."), ...]].')
    given = list(dialogues)
    if not given:
        raise KshotError("There are no dialogues to learn from; give at least one.")
    if replies := [each for each in given if isinstance(each, Reply)]:
        if len(replies) < len(given):
            raise KshotError(
                "Some of the dialogues are Replys and some are not; give dialogues alone, or Replys alone."
            )
        for number, reply in enumerate(replies, 1):
            for text in reply.texts:
                refuse_half_character(text, f"Reply {number}")
        return _numbered(replies, first)
    found: list[Reply] = []
    for number, each in enumerate(given, 1):
        what = f"Dialogue {number}"
        inside: Any = each["turns"] if isinstance(each, Mapping) and "turns" in each else each
        turns = check_history(inside, what)
        for place, turn in enumerate(turns, 1):
            _refuse_control(turn.text, f"{what}, turn {place}")
        own = replies_of(turns, dialogue=str(first + number - 1))
        if not own:
            raise KshotError(
                f'{what} has no turn by "{SYSTEM}", so there is nothing to learn from; add one or take it out.'
            )
        found += own
    return tuple(found)


def _numbered(replies: Sequence[Reply], first: int) -> tuple[Reply, ...]:
    """Replies whose dialogues are known by numbers from `first`."""
    numbers: dict[tuple[str, str], str] = {}
    return tuple(
        replace(each, dialogue=numbers.setdefault((each.task, each.dialogue), str(first + len(numbers))))
        for each in replies
    )


def check_length(text: str, vocabulary: Vocabulary, what: str) -> None:
    """Refuses a text of which a part would be lost.

    Raises:
        KshotError: If it has more tokens than are read at once.
    """
    n_tokens = vocabulary.length(text)
    if n_tokens > vocabulary.max_length:
        raise KshotError(
            f'{what}, "{_begins(text, 40)}", has {n_tokens} tokens, more than the {vocabulary.max_length} that the '
            "learner reads at once; split it into sentences."
        )


def check_known_types(examples: Sequence[TaggedExample], classes: Sequence[str]) -> None:
    """Checks that a tagger can find what it is asked for.

    Raises:
        KshotError: If an entity is of a type that is not one of the task's.
    """
    for number, each in enumerate(examples, 1):
        for name in each.labels:
            if name not in classes:
                raise KshotError(
                    f'Sentence {number} has an entity of the type "{name}", which is not one of the task '
                    f"({', '.join(classes)}); adapt to sentences that show it, or tag it otherwise."
                )


def _lists(given: Iterable[object], what: str, of: str) -> list[Iterable[object]]:
    """Lists of something, each a list or a tuple."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise KshotError(f"One {what} was given where a list of them is expected.")
    found: list[Iterable[object]] = []
    for number, each in enumerate(given, 1):
        if isinstance(each, (str, bytes)) or not isinstance(each, Iterable):
            raise KshotError(
                f"{what.capitalize()} {number} is {_describe(each)}, not a list of {of}; give one for each word."
            )
        found.append(each)
    return found


def _begins(text: str, limit: int = 60) -> str:
    """The beginning of a text, on one line."""
    return shorten(" ".join(text.split()), limit)


def _label(label: object, place: int) -> str:
    if isinstance(label, str):
        if not label.strip():
            raise KshotError(f"Label {place} is empty; name the class.")
        refuse_half_character(label, f"Label {place}")
        return str(label).strip()
    if isinstance(label, bool) or type(label).__name__ == "bool":  # NumPy's, too
        return str(bool(label)).lower()
    if isinstance(label, Integral):
        return str(int(label))
    if isinstance(label, Real) and math.isfinite(number := float(label)):
        return str(int(number)) if number.is_integer() else str(number)
    raise KshotError(
        f"Label {place} is {_describe(label)}, not a name or a number; name the class or leave the text out."
    )


def _describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, str):
        return f'the text "{_begins(value)}"'
    if isinstance(value, Real):
        return f"the number {value}"
    return f"a {type(value).__name__}"
