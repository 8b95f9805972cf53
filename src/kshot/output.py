"""What the commands print: tables for people, which keep whole texts when they go into a pipe."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kshot.errors import several

if TYPE_CHECKING:
    from kshot.adapted import Adapted
    from kshot.data.dataset import Dataset, PairDataset, ReplyDataset
    from kshot.data.entries import Entry
    from kshot.data.examples import Example, Reply, SentencePair, TaggedExample, TextExample, Utterance
    from kshot.data.readers import Finding
    from kshot.meta.algorithms import Algorithm
    from kshot.run.train import Outcome

E = TypeVar("E")

WIDE = 100_000  # columns of a pipe: nothing is wrapped or cut
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def console(file: TextIO | None = None) -> Console:
    """A console on the standard output, or on a file; what is not a terminal is as wide as need be."""
    target = sys.stdout if file is None else file
    return Console(file=target, width=None if target.isatty() else WIDE, highlight=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table; columns named in `right` are numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


# -- runs and tasks ----------------------------------------------------------------------------------------------------


def show_outcome(outcome: "Outcome", out: Path) -> None:
    """Says what meta-training came to."""
    screen = console()
    screen.print(f"The start on new classes    {outcome.start.main} % {outcome.start.measures[0]}")
    if outcome.best_step or outcome.kept_start:
        screen.print(f"Meta-trained                {outcome.trained.main} %")
        screen.print(f"Paired difference           {outcome.lift} points (95% interval)")
    if outcome.kept_start:
        screen.print("[yellow]Meta-training did not pay here: the interval includes 0, so the start was kept.[/]")
    screen.print(f"The learner is in {escape(str(out))}. Next:\n  kshot adapt {escape(str(out))} EXAMPLES --out TASK")


def show_figures(figures: Mapping[str, Any]) -> None:
    """Shows the figures of an evaluation."""
    screen = console()
    way = "all classes" if figures["way"] == "all" else f"{_count(figures['way'])}-way"
    shot = f"{_count(figures['shot'])}-shot"
    if figures.get("shot_counts") == "pairs":
        way, shot = "one pair of languages", f"{_count(figures['shot'])} sentence pairs"
    elif figures.get("shot_counts") == "dialogues":
        way, shot = "one person", f"{_count(figures['shot'])} dialogues"
    elif figures.get("shot_counts") == "sentences":
        way, shot = "the types of the support", f"{_count(figures['shot'])} sentences"
    elif figures.get("shot_counts") == "turns":
        way, shot = "one domain", f"{_count(figures['shot'])} turns an intent"
    where = f"{figures['data']} ({figures['part']}), {way}, {shot}"
    screen.print(f"[bold]{escape(figures['algorithm'])}[/] on {escape(where)}")
    numbers = figures.get("numbers", ())  # measures that are no shares of 1
    rows = table("measure", "mean", "95% interval", right=["mean", "95% interval"])
    for name in figures["measures"]:
        key = name.lower().replace(" ", "_")
        scale, unit = (1, "") if name in numbers else (100, " %")
        rows.add_row(name, f"{scale * figures[key]:.2f}{unit}", f"± {scale * figures[f'{key}_interval']:.2f}")
    if "against" in figures:
        for name in figures["measures"]:
            key = f"{name.lower().replace(' ', '_')}_difference"
            scale, unit = (1, "") if name in numbers else (100, " points")
            interval = f"± {scale * figures[f'{key}_interval']:.2f}"
            less = f"{name} less {escape(figures['against'])}"
            rows.add_row(less, f"{scale * figures[key]:+.2f}{unit}", interval)
    rows.add_row("time of an adaptation", f"{1000 * figures['seconds_per_adaptation']:.1f} ms", "")
    rows.add_row("episodes", str(figures["episodes"]), "")
    screen.print(rows)
    if "bootstrap" in figures:
        found = figures["bootstrap"]
        screen.print(
            f"Paired bootstrap over the sentences: {found['points']:+.1f} BLEU, 95% of the draws from "
            f"{found['low']:+.1f} to {found['high']:+.1f}."
        )
    for signature in figures.get("signatures", ()):
        screen.print(f"[dim]{escape(signature)}[/]")


def show_choice(scores: Mapping[str, float], measure: str) -> None:
    """Says which algorithm was chosen, the best of some scores."""
    best = max(scores, key=lambda name: scores[name])
    each = ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items())
    console().print(f"Chose {best}: {measure} on examples left out in turn: {each}")


def show_average(n_learners: int, out: Path) -> None:
    """Says what became of some learners."""
    place = escape(str(out))
    console().print(
        f"The mean of {n_learners} learners is in {place}. Next:\n"
        f"  kshot evaluate {place} --data NAME_OR_PATH\n  kshot adapt {place} EXAMPLES --out TASK"
    )


def show_adapted(task: "Adapted", folder: Path, seconds: float) -> None:
    """Says what adapting came to."""
    screen = console()
    place = escape(str(folder))
    screen.print(f"Learned {_what_of(task)} in {1000 * seconds:.0f} ms: {place}")
    if (folder / "learner").is_dir():
        screen.print("The learner is inside, so the folder can be moved to another machine.")
    screen.print(f"Next:\n  kshot predict {place} TEXTS\n  kshot chat {place}")


def _what_of(task: "Adapted") -> str:
    """What a task was learned from, in words."""
    from kshot.responder import AdaptedResponder
    from kshot.tagger import AdaptedTagger
    from kshot.translator import AdaptedTranslator
    from kshot.understanding import AdaptedUnderstanding

    if isinstance(task, AdaptedUnderstanding):
        known = f"{several(len(task.intents), 'intent')} and {several(len(task.slots), 'slot')}"
        return f"{known} from {several(len(task.examples), 'turn')}"
    if isinstance(task, AdaptedResponder):
        replies = f"{len(task.examples)} {'reply' if len(task.examples) == 1 else 'replies'}"
        return f"to answer from {replies} in {several(task.n_dialogues, 'dialogue')}"
    if isinstance(task, AdaptedTranslator):
        return f"to translate from {several(len(task.examples), 'sentence pair')}"
    if isinstance(task, AdaptedTagger):
        return f"{several(len(task.classes), 'type')} of entity from {several(len(task.examples), 'sentence')}"
    counts = sorted(_shown(task).values())
    shots = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return f"{len(task.classes)} classes from {shots} examples each"


def _shown(task: "Adapted") -> Counter[str]:
    """How many examples show each class."""
    return Counter(label for example in task.examples for label in example.labels)


def show_task(task: "Adapted", folder: Path) -> None:
    """Shows what a task knows."""
    from kshot.classifier import AdaptedClassifier
    from kshot.responder import AdaptedResponder
    from kshot.translator import AdaptedTranslator
    from kshot.writer import AdaptedWriter

    screen = console()
    about = task.learner.about
    facts = table("", "")
    facts.show_header = False
    facts.add_row("task", escape(str(folder)))
    facts.add_row("learner", escape(f"{task.learner.learner.settings.name}, {about.get('title') or 'no title'}"))
    facts.add_row("kept in", escape(str(task.learner.home)))
    if not isinstance(task, AdaptedWriter):
        facts.add_row("temperature", f"{task.temperature:.3f}")
    if isinstance(task, AdaptedClassifier):
        facts.add_row("none of these above", f"{task.scope.threshold:.3f}")
    screen.print(facts)
    if not task.examples:
        names = f" Its classes: {escape(', '.join(task.classes))}." if task.classes else ""
        screen.print(f"The task was saved without its examples, so it can learn nothing more.{names}")
        return
    if isinstance(task, AdaptedTranslator):
        screen.print(f"{several(len(task.examples), 'sentence pair')}, the first:")
        _show_pairs(screen, task.examples)
        return
    if isinstance(task, AdaptedResponder):
        screen.print(f"{several(task.n_dialogues, 'dialogue')}, the first replies:")
        _show_replies(screen, task.examples)
        return
    counts = _shown(task)
    first = {label: example.text for example in reversed(task.examples) for label in example.labels}
    rows = table("class", "examples", "first example", right=["examples"])
    for name in task.classes:
        rows.add_row(escape(name), str(counts[name]), escape(" ".join(first[name].split())))
    screen.print(rows)


# -- data and algorithms -----------------------------------------------------------------------------------------------


def show_datasets(entries: Sequence["Entry"]) -> None:
    """Lists data sets."""
    rows = table("name", "what", "for", "classes", "licence", "splits", "here?", right=["classes"])
    for entry in entries:
        splits = entry.splits[0] if len(entry.splits) == 1 else f"{entry.splits[0]} and {len(entry.splits) - 1} more"
        here = "[green]yes[/]" if entry.found else "download" if entry.can_be_downloaded else "[yellow]no[/]"
        name, title = f"[bold]{entry.name}[/]", escape(entry.title)
        rows.add_row(name, title, entry.task_kind, str(entry.n_classes), entry.licence, splits, here)
    console().print(rows)


def show_dataset(dataset: "Dataset") -> None:
    """Shows a data set."""
    from kshot.data.dataset import PairDataset, ReplyDataset, TaggedDataset, TextDataset, UtteranceDataset

    screen = console()
    screen.print(f"[bold]{escape(dataset.name)}[/]  {escape(dataset.source)}  {escape(dataset.licence)}")
    if isinstance(dataset, PairDataset):
        _show_pair_dataset(screen, dataset)
        return
    if isinstance(dataset, ReplyDataset):
        _show_reply_dataset(screen, dataset)
        return
    is_tagged = isinstance(dataset, TaggedDataset)
    is_spoken = isinstance(dataset, UtteranceDataset)
    unit, what, plural = (
        ("sentences", "type", "types") if is_tagged else ("turns" if is_spoken else "texts", "class", "classes")
    )
    counted = f"mentions a {what}" if is_tagged else f"{unit} a {what}"
    rows = table("part", unit, plural, counted, f"{plural}, the first", right=[unit, plural])
    for name in ("train", "valid", "test"):
        examples = getattr(dataset, name)
        counts = _mentions(examples)
        low, high = (min(counts.values()), max(counts.values())) if counts else (0, 0)
        each = str(low) if low == high else f"{low} to {high}"
        names = ", ".join(sorted(counts)[:4]) + (", …" if len(counts) > 4 else "")
        rows.add_row(name, str(len(examples)), str(len(counts)), each, escape(names))
    screen.print(rows)
    if isinstance(dataset, TextDataset) and dataset.out_of_scope:
        screen.print(f"{len(dataset.out_of_scope)} out-of-scope texts")
    shown = dataset.train or dataset.test
    if is_tagged:
        counts = _mentions(shown)
        screen.print(", ".join(f"{escape(name)} {n}" for name, n in counts.most_common()))
        _show_sentences(screen, shown)
    elif isinstance(dataset, UtteranceDataset):
        _show_utterances(screen, dataset.train or dataset.test)
    else:
        _show_examples(screen, shown)


def _show_pair_dataset(screen: Console, dataset: "PairDataset") -> None:
    rows = table("part", "pairs", "tasks", "names", right=["pairs", "tasks"])
    for name in ("train", "valid", "test"):
        examples = getattr(dataset, name)
        tasks = dict.fromkeys(example.task for example in examples if example.task)
        rows.add_row(name, str(len(examples)), str(len(tasks)), escape(", ".join(tasks)))
    screen.print(rows)
    _show_pairs(screen, _spread(dataset.train or dataset.test, 5))


def _show_pairs(screen: Console, examples: Sequence["SentencePair"], n_shown: int = 5) -> None:
    rows = table("source", "target")
    for example in examples[:n_shown]:
        rows.add_row(escape(" ".join(example.source.split())), escape(" ".join(example.target.split())))
    screen.print(rows)


def _show_reply_dataset(screen: Console, dataset: "ReplyDataset") -> None:
    from kshot.data.replies import persons

    rows = table("part", "replies", "dialogues", "persons", right=["replies", "dialogues", "persons"])
    for name in ("train", "valid", "test"):
        examples = getattr(dataset, name)
        found = persons(examples)
        rows.add_row(name, str(len(examples)), str(sum(found.values())), str(len(found)))
    screen.print(rows)
    _show_replies(screen, _spread(dataset.train or dataset.test, 5))


def _show_replies(screen: Console, examples: Sequence["Reply"], n_shown: int = 5) -> None:
    rows = table("turn before", "reply")
    for example in examples[:n_shown]:
        before = example.history[-1].text if example.history else ""
        rows.add_row(escape(" ".join(before.split())), escape(" ".join(example.text.split())))
    screen.print(rows)


def _mentions(examples: Sequence["Example"]) -> Counter[str]:
    """How many texts a class has, or how many mentions a type."""
    from kshot.data.examples import TaggedExample

    return Counter(
        label
        for example in examples
        for label in ([span.label for span in example.spans] if isinstance(example, TaggedExample) else example.labels)
    )


def _show_examples(screen: Console, examples: Sequence["TextExample"], n_shown: int = 5) -> None:
    rows = table("label", "text")
    for example in _spread(examples, n_shown):
        rows.add_row(escape(example.label), escape(" ".join(example.text.split())))
    screen.print(rows)


def _show_utterances(screen: Console, examples: Sequence["Utterance"], n_shown: int = 5) -> None:
    """A few turns, each with its intent and slots."""
    rows = table("task", "intent", "turn", "slots")
    for each in _spread([example for example in examples if example.spans], n_shown):
        slots = ", ".join(f"{span.label}: {each.text[span.start : span.end]}" for span in each.spans)
        rows.add_row(escape(each.task), escape(each.intent), escape(" ".join(each.text.split())), escape(slots))
    screen.print(rows)


def _show_sentences(screen: Console, examples: Sequence["TaggedExample"], n_shown: int = 5) -> None:
    """A few sentences that have entities, marked as a file of plain text marks them."""
    for example in _spread([each for each in examples if each.labels], n_shown):
        line, words = Text(), example.tokens
        before = 0
        for span in example.spans:
            line.append(" ".join(["", *words[before : span.start], ""]))
            line.append(f"[{' '.join(words[span.start : span.end])}]", "bold").append(f"({span.label})", "dim")
            before = span.end
        line.append(" ".join(["", *words[before:]]))
        screen.print(line)


def _spread(examples: Sequence[E], n_shown: int) -> Sequence[E]:
    """A few of many, from all over them."""
    return examples[:: max(1, len(examples) // n_shown)][:n_shown]


def show_findings(path: Path, examples: Sequence["Example"], findings: Sequence["Finding"]) -> None:
    """Says what may be wrong with data."""
    from kshot.data.checks import size_of

    screen = console()
    screen.print(f"{escape(str(path))}: {size_of(examples)}")
    for finding in findings:
        screen.print(f"[{_STYLES[finding.severity]}]{finding.severity:<8}[/] {escape(finding.message)}")
    if not findings:
        screen.print("[green]Nothing wrong found.[/]")


def show_algorithms(algorithms: Mapping[str, "Algorithm"]) -> None:
    """Lists algorithms."""
    rows = table("name", "algorithm", "head", "inner steps", "source", right=["inner steps"])
    for name, each in algorithms.items():
        rows.add_row(
            f"[bold]{name}[/]", escape(each.title), each.head, str(each.inner.get("steps", 0)), escape(each.source)
        )
    console().print(rows)


def _count(value: object) -> str:
    return "-".join(str(each) for each in value) if isinstance(value, (tuple, list)) else str(value)
