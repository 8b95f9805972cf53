"""What may be wrong with a data set although it can be read: leaks, contradictions, classes that are too small."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from kshot.data.dataset import PARTS, Dataset, TaggedDataset, Unit
from kshot.data.examples import Example, Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.files import shorten
from kshot.data.normal import normalise
from kshot.data.tags import OUTSIDE
from kshot.errors import several

Severity = Literal["error", "warning", "note"]

_SEVERITIES = ("error", "warning", "note")

MIN_EXAMPLES = 10
"""Five to learn from and five to judge by; fewer limits what episodes can be drawn."""

LONG_TEXT = 4000
"""Characters; about what 1,000 word pieces hold, twice what the usual encoders read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know of a data set.

    Attributes:
        severity: ``error`` (a result would be wrong), ``warning`` (it may be) or ``note``.
        message: One sentence with a number and an instance.
    """

    severity: Severity
    message: str


def check(examples: Iterable[Example], *, min_examples: int = MIN_EXAMPLES, tasks: bool = False) -> list[Finding]:
    """Finds what may be wrong with examples, worst first.

    Args:
        examples: Labelled texts, tagged sentences, or utterances, which are both: after what was said before they have
            an intent, and their words are tagged by slots; or sentence pairs, or replies.
        min_examples: How many different texts a class should have, or how many mentions a type.
        tasks: Whether each named task is a world of its own, so that the same text may have another label in another
            task.

    Returns:
        Findings on texts under two labels, repeated texts, small classes, a single class and very long texts; of tagged
        sentences on those tagged in two ways, repeated ones, types with few mentions, types that differ in case alone
        and tasks where every word is part of an entity; of pairs and replies on repeated ones, and on sources with
        several targets. Empty if all is well.
    """
    examples = tuple(examples)
    if not examples:
        return [Finding("error", "There are no examples.")]
    tagged = [example for example in examples if isinstance(example, TaggedExample)]
    texts = [example for example in examples if isinstance(example, TextExample)]
    for each in examples:
        if isinstance(each, Utterance):
            texts.append(TextExample("\n".join(each.texts), each.intent, each.task))
            tagged.append(each.sentence)
    findings = [
        *(_check_texts(texts, min_examples, tasks) if texts else []),
        *(_check_tagged(tagged, min_examples, tasks) if tagged else []),
        *_check_pairs([example for example in examples if isinstance(example, SentencePair)]),
        *_check_replies([example for example in examples if isinstance(example, Reply)]),
    ]
    return worst_first(findings)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order in which they should be read."""
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def _check_texts(examples: Sequence[TextExample], min_examples: int, tasks: bool) -> list[Finding]:
    labels_of: dict[Hashable, Counter[str]] = defaultdict(Counter)
    text_of: dict[Hashable, str] = {}
    texts_of_class: dict[tuple[str, str], set[str]] = defaultdict(set)
    for example in examples:
        task, text = example.task if tasks else "", normalise(example.text)
        labels_of[task, text][example.label] += 1
        text_of.setdefault((task, text), example.text)
        texts_of_class[task, example.label].add(text)
    findings = []
    conflicts = [(text_of[key], labels) for key, labels in labels_of.items() if len(labels) > 1]
    if conflicts:
        text, labels = conflicts[0]
        under = " and ".join(f'"{label}"' for label in sorted(labels))
        findings.append(
            Finding(
                "warning",
                f'{_count(conflicts, "text stands", "texts stand")} under more than one label: "{shorten(text)}" '
                f"under {under}.",
            )
        )
    for task in sorted({task for task, _ in texts_of_class}):
        names = [label for each, label in texts_of_class if each == task]
        if len(names) == 1:
            where = f'Task "{task}" has' if tasks and task else "There is"
            findings.append(
                Finding("error", f'{where} one class only, "{names[0]}": there is nothing to tell it from.')
            )
    small = sorted(
        (len(texts), label, task) for (task, label), texts in texts_of_class.items() if len(texts) < min_examples
    )
    if small:
        size, label, task = small[0]
        where = f' of task "{task}"' if tasks and task else ""
        findings.append(
            Finding(
                "warning",
                f"{_count(small, 'class has', 'classes have')} fewer than {min_examples} different texts: "
                f'"{label}"{where} has {size}.',
            )
        )
    repeated = [(sum(labels.values()), text_of[key]) for key, labels in labels_of.items() if max(labels.values()) > 1]
    return [
        *findings,
        *_repeats(repeated, "text occurs", "texts occur"),
        *_long_texts([example.text for example in examples]),
    ]


def _check_tagged(examples: Sequence[TaggedExample], min_mentions: int, tasks: bool) -> list[Finding]:
    tags_of: dict[Hashable, Counter[tuple[str, ...]]] = defaultdict(Counter)
    text_of: dict[Hashable, str] = {}
    mentions: Counter[tuple[str, str]] = Counter()
    outside: dict[str, bool] = defaultdict(bool)
    for example in examples:
        task = example.task if tasks else ""
        key = task, normalise(example.text)
        tags_of[key][example.tags] += 1
        text_of.setdefault(key, example.text)
        mentions.update((task, span.label) for span in example.spans)
        outside[task] |= OUTSIDE in example.tags
    findings = []
    for task in sorted(task for task, has in outside.items() if not has):
        where = f' of task "{task}"' if tasks and task else ""
        findings.append(
            Finding("error", f"Every word{where} is part of an entity: there is nothing to tell an entity from.")
        )
    if conflicts := [text_of[key] for key, tags in tags_of.items() if len(tags) > 1]:
        findings.append(
            Finding(
                "warning",
                f"{_count(conflicts, 'sentence is', 'sentences are')} tagged in more than one way: "
                f'"{shorten(conflicts[0])}".',
            )
        )
    if small := sorted((n, label, task) for (task, label), n in mentions.items() if n < min_mentions):
        size, label, task = small[0]
        where = f' of task "{task}"' if tasks and task else ""
        findings.append(
            Finding(
                "warning",
                f"{_count(small, 'type has', 'types have')} fewer than {min_mentions} mentions: "
                f'"{label}"{where} has {size}.',
            )
        )
    spellings: dict[Hashable, set[str]] = defaultdict(set)
    for task, label in mentions:
        spellings[task, normalise(label)].add(label)
    if alike := sorted(sorted(each) for each in spellings.values() if len(each) > 1):
        names = " and ".join(f'"{name}"' for name in alike[0])
        findings.append(Finding("warning", f"Types differ in case or space alone: {names}."))
    repeated = [(max(tags.values()), text_of[key]) for key, tags in tags_of.items() if max(tags.values()) > 1]
    return [*findings, *_repeats(repeated, "sentence occurs", "sentences occur")]


def _check_pairs(examples: Sequence[SentencePair]) -> list[Finding]:
    sides = [(each.task, normalise(each.source), normalise(each.target)) for each in examples]
    targets_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for task, source, target in sides:
        targets_of[task, source].add(target)
    findings = []
    if several_targets := [source for (_, source), targets in targets_of.items() if len(targets) > 1]:
        findings.append(
            Finding(
                "note",
                f"{_count(several_targets, 'source has', 'sources have')} more than one target: "
                f'"{shorten(several_targets[0])}".',
            )
        )
    repeated = [(times, source) for (_, source, _), times in Counter(sides).items() if times > 1]
    texts = [text for each in examples for text in each.texts]
    return [*findings, *_repeats(repeated, "pair occurs", "pairs occur"), *_long_texts(texts)]


def _check_replies(examples: Sequence[Reply]) -> list[Finding]:
    times_of = Counter((each.task, _known_by(each)) for each in examples)
    text_of = {(each.task, _known_by(each)): each.text for each in examples}
    repeated = [(times, text_of[key]) for key, times in times_of.items() if times > 1]
    return [*_repeats(repeated, "reply to the same turns occurs", "replies to the same turns occur")]


def _repeats(repeated: Sequence[tuple[int, str]], singular: str, plural: str) -> list[Finding]:
    if not repeated:
        return []
    times, text = max(repeated)
    how = f'more than once but for case and space: "{shorten(text)}" {times} times.'
    return [Finding("note", f"{_count(repeated, singular, plural)} {how}")]


def _long_texts(texts: Sequence[str]) -> list[Finding]:
    long = [len(text) for text in texts if len(text) > LONG_TEXT]
    if not long:
        return []
    return [
        Finding(
            "note",
            f"{_count(long, 'text is', 'texts are')} longer than {LONG_TEXT:,} characters (the longest "
            f"{max(long):,}): an encoder reads the beginning only.",
        )
    ]


def check_splits(dataset: Dataset) -> list[Finding]:
    """Finds what the parts of a data set have in common and must not have.

    Returns:
        Findings on texts in two parts, on classes in two parts for unit ``classes``, on tasks in two parts for unit
        ``tasks``, on classes of other parts that train does not have for unit ``examples``, and on empty parts; empty
        if all is well.
    """
    kind, kinds = ("type", "types") if isinstance(dataset, TaggedDataset) else ("class", "classes")
    parts: dict[str, Sequence[Example]] = {name: getattr(dataset, name) for name in PARTS}
    findings = [Finding("warning", f'The part "{name}" is empty.') for name in PARTS if not parts[name]]
    for (first, left), (second, right) in combinations(parts.items(), 2):
        if dataset.unit != "examples":
            what, plural = (kind, kinds) if dataset.unit == "classes" else ("task", "tasks")
            shared = sorted(_units(left, dataset.unit) & _units(right, dataset.unit))
            if shared:
                findings.append(
                    Finding(
                        "error",
                        f'{_count(shared, f"{what} is", f"{plural} are")} in both {first} and {second}: "{shared[0]}".',
                    )
                )
        elif (
            left and (unknown := sorted(_units(right, dataset.unit) - _units(left, dataset.unit))) and first == "train"
        ):
            findings.append(
                Finding(
                    "error",
                    f"{_count(unknown, f'{kind} of {second} is', f'{kinds} of {second} are')} not in train: "
                    f'"{unknown[0]}".',
                )
            )
        common = set(map(_known_by, left)) & set(map(_known_by, right))
        if common:
            findings.append(
                Finding(
                    "warning",
                    f"{_count(sorted(common), 'text is', 'texts are')} in both {first} and {second}, but for case "
                    f'and space: "{shorten(min(common))}".',
                )
            )
    return worst_first(findings)


def size_of(examples: Sequence[Example]) -> str:
    """How many examples there are, and of how many classes: ``8 sentences, 3 types``."""
    labels = {label for example in examples for label in example.labels}
    match examples[0] if examples else None:
        case TaggedExample():
            return f"{several(len(examples), 'sentence')}, {several(len(labels), 'type')}"
        case Utterance():
            return f"{several(len(examples), 'turn')}, {_count(list(labels), 'intent or slot', 'intents and slots')}"
        case SentencePair():
            return several(len(examples), "pair")
        case Reply():
            dialogues = {(each.task, each.dialogue) for each in examples if isinstance(each, Reply)}
            return f"{several(len(dialogues), 'dialogue')}, {_count(examples, 'reply', 'replies')}"
        case _:
            return f"{several(len(examples), 'text')}, {_count(list(labels), 'class', 'classes')}"


def _known_by(example: Example) -> str:
    """What is the same for the same example: what was said before a turn or a reply is part of it."""
    if isinstance(example, Reply):
        return normalise("\n".join([*(turn.text for turn in example.history), example.text]))
    return normalise("\n".join(example.texts) if isinstance(example, Utterance) else example.text)


def _units(examples: Sequence[Example], unit: Unit) -> set[str]:
    return {name for example in examples for name in ((example.task,) if unit == "tasks" else example.labels)}


def _count(things: Sequence[object], singular: str, plural: str) -> str:
    return f"{len(things)} {singular if len(things) == 1 else plural}"
