"""What the commands print: tables for people that keep whole texts when they go into a pipe, and JSONL for programs."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kshot.errors import KshotError

if TYPE_CHECKING:
    from kshot.classifier import AdaptedClassifier, Prediction
    from kshot.data.dataset import Dataset
    from kshot.data.entries import Entry
    from kshot.data.examples import TextExample
    from kshot.data.readers import Finding
    from kshot.meta.algorithms import Algorithm
    from kshot.run.train import Outcome

WIDE = 100_000  # columns of a pipe: nothing is wrapped or cut
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}

Write = Callable[[Sequence[str], Sequence["Prediction"]], None]
"""Takes texts and their predictions."""


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


# -- predictions -------------------------------------------------------------------------------------------------------


@contextmanager
def prediction_writer(out: Path | None, form: Literal["table", "jsonl"] | None, *, top: int) -> Iterator[Write]:
    """Gives a function that writes predictions, block by block.

    Args:
        out: A file, which appears when all is written; None for the standard output.
        form: `table` or `jsonl`; None is a table on a terminal, and JSONL elsewhere.
        top: How many probabilities a line of JSONL has; 0 for all.

    Raises:
        KshotError: If the file cannot be written.
    """
    if out is None:
        form = form or ("table" if sys.stdout.isatty() else "jsonl")
        try:
            yield _writer(sys.stdout, form, top)
        except BrokenPipeError:
            raise  # whoever was reading has had enough
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
            raise KshotError(f"The output could not be written ({error.strerror}).") from error
        return
    draft = out.with_name(f".{out.name}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield _writer(file, form or "jsonl", top)
        draft.replace(out)
    except OSError as error:
        raise KshotError(f"{out} could not be written ({error.strerror}); choose another place.") from error
    finally:
        draft.unlink(missing_ok=True)


def _writer(file: TextIO, form: Literal["table", "jsonl"], top: int) -> Write:
    return _table_writer(file) if form == "table" else _jsonl_writer(file, top)


def _jsonl_writer(file: TextIO, top: int) -> Write:
    def write(texts: Sequence[str], predictions: Sequence["Prediction"]) -> None:
        for text, prediction in zip(texts, predictions, strict=True):
            ranked = list(prediction.probabilities.items())[: top or None]
            row = {
                "text": text,
                "label": prediction.label,
                "confidence": round(prediction.confidence, 6),
                "out_of_scope": round(prediction.out_of_scope, 6),
                "in_scope": prediction.in_scope,
                "probabilities": {name: round(probability, 6) for name, probability in ranked},
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()

    return write


def _table_writer(file: TextIO) -> Write:
    """A row a text, the columns in the same places in every block."""
    screen = console(file)
    label_width = 0

    def write(texts: Sequence[str], predictions: Sequence["Prediction"]) -> None:
        nonlocal label_width
        first = label_width == 0
        label_width = max(label_width, 12, *(len(prediction.label) for prediction in predictions))
        rows = table("confidence", "label", "none of these?", "text", right=["confidence"])
        rows.show_header = first
        rows.columns[0].width = 10
        rows.columns[1].width = min(label_width, 32)
        rows.columns[2].width = 14
        for text, prediction in zip(texts, predictions, strict=True):
            colour = "yellow" if not prediction.in_scope else "green" if prediction.confidence >= 0.5 else "white"
            doubt = "" if prediction.in_scope else f"perhaps ({prediction.out_of_scope:.2f})"
            rows.add_row(
                f"{prediction.confidence:.0%}",
                f"[{colour}]{escape(prediction.label)}[/]",
                f"[yellow]{doubt}[/]" if doubt else "",
                escape(" ".join(text.split())),
            )
        screen.print(rows)
        file.flush()

    return write


# -- runs and tasks ----------------------------------------------------------------------------------------------------


def show_outcome(outcome: "Outcome", out: Path) -> None:
    """Says what meta-training came to."""
    screen = console()
    screen.print(f"The start on new classes    {outcome.start.accuracy} %")
    if outcome.best_step or outcome.kept_start:
        screen.print(f"Meta-trained                {outcome.trained.accuracy} %")
        screen.print(f"Paired difference           {outcome.lift} points (95% interval)")
    if outcome.kept_start:
        screen.print("[yellow]Meta-training did not pay here: the interval includes 0, so the start was kept.[/]")
    screen.print(f"The learner is in {escape(str(out))}. Next:\n  kshot adapt {escape(str(out))} EXAMPLES --out TASK")


def show_figures(figures: Mapping[str, Any]) -> None:
    """Shows the figures of an evaluation."""
    screen = console()
    way = "all classes" if figures["way"] == "all" else f"{_count(figures['way'])}-way"
    where = f"{figures['data']} ({figures['part']}), {way}, {_count(figures['shot'])}-shot"
    screen.print(f"[bold]{escape(figures['algorithm'])}[/] on {escape(where)}")
    rows = table("measure", "mean", "95% interval", right=["mean", "95% interval"])
    for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        rows.add_row(name, f"{100 * figures[key]:.2f} %", f"± {100 * figures[f'{key}_interval']:.2f}")
    rows.add_row("time of an adaptation", f"{1000 * figures['seconds_per_adaptation']:.1f} ms", "")
    rows.add_row("episodes", str(figures["episodes"]), "")
    screen.print(rows)


def show_adapted(task: "AdaptedClassifier", folder: Path, seconds: float) -> None:
    """Says what adapting came to."""
    counts = sorted(Counter(example.label for example in task.examples).values())
    shots = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    screen = console()
    place = escape(str(folder))
    screen.print(f"Learned {len(task.classes)} classes from {shots} examples each in {1000 * seconds:.0f} ms: {place}")
    if (folder / "learner").is_dir():
        screen.print("The learner is inside, so the folder can be moved to another machine.")
    screen.print(f"Next:\n  kshot predict {place} TEXTS")


def show_task(task: "AdaptedClassifier", folder: Path) -> None:
    """Shows what a task knows."""
    screen = console()
    about = task.learner.about
    facts = table("", "")
    facts.show_header = False
    facts.add_row("task", escape(str(folder)))
    facts.add_row("learner", escape(f"{task.learner.learner.settings.name}, {about.get('title') or 'no title'}"))
    facts.add_row("kept in", escape(str(task.learner.home)))
    facts.add_row("temperature", f"{task.temperature:.3f}")
    facts.add_row("none of these above", f"{task.scope.threshold:.3f}")
    screen.print(facts)
    counts = Counter(example.label for example in task.examples)
    first = {example.label: example.text for example in reversed(task.examples)}
    rows = table("class", "examples", "first example", right=["examples"])
    for name in task.classes:
        rows.add_row(escape(name), str(counts[name]), escape(" ".join(first[name].split())))
    screen.print(rows)


# -- data and algorithms -----------------------------------------------------------------------------------------------


def show_datasets(entries: Sequence["Entry"]) -> None:
    """Lists data sets."""
    rows = table("name", "what", "classes", "licence", "splits", "here?", right=["classes"])
    for entry in entries:
        splits = entry.splits[0] if len(entry.splits) == 1 else f"{entry.splits[0]} and {len(entry.splits) - 1} more"
        here = "[green]yes[/]" if entry.found else "download" if entry.can_be_downloaded else "[yellow]no[/]"
        rows.add_row(f"[bold]{entry.name}[/]", escape(entry.title), str(entry.n_classes), entry.licence, splits, here)
    console().print(rows)


def show_dataset(dataset: "Dataset") -> None:
    """Shows a data set."""
    screen = console()
    screen.print(f"[bold]{escape(dataset.name)}[/]  {escape(dataset.source)}  {escape(dataset.licence)}")
    rows = table("part", "texts", "classes", "texts a class", "classes, the first", right=["texts", "classes"])
    for name in ("train", "valid", "test"):
        counts = Counter(example.label for example in getattr(dataset, name))
        low, high = (min(counts.values()), max(counts.values())) if counts else (0, 0)
        each = str(low) if low == high else f"{low} to {high}"
        names = ", ".join(sorted(counts)[:4]) + (", …" if len(counts) > 4 else "")
        rows.add_row(name, str(sum(counts.values())), str(len(counts)), each, escape(names))
    screen.print(rows)
    if dataset.out_of_scope:
        screen.print(f"{len(dataset.out_of_scope)} out-of-scope texts")
    _show_examples(screen, dataset.train or dataset.test)


def _show_examples(screen: Console, examples: Sequence["TextExample"], n_shown: int = 5) -> None:
    rows = table("label", "text")
    step = max(1, len(examples) // n_shown)
    for example in examples[::step][:n_shown]:
        rows.add_row(escape(example.label), escape(" ".join(example.text.split())))
    screen.print(rows)


def show_findings(path: Path, examples: Sequence["TextExample"], findings: Sequence["Finding"]) -> None:
    """Says what may be wrong with data."""
    screen = console()
    n_classes = len({example.label for example in examples})
    screen.print(f"{escape(str(path))}: {len(examples)} texts, {n_classes} classes")
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
