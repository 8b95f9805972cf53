"""How predictions are written: a table or coloured text for people, JSON Lines and other forms for programs."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rich.markup import escape
from rich.text import Text

from kshot.artefact import new_file
from kshot.errors import KshotError
from kshot.output import console, table

if TYPE_CHECKING:
    from kshot.adapted import Adapted
    from kshot.classifier import Prediction
    from kshot.responder import Answered
    from kshot.tagger import Tagged
    from kshot.translator import Translated
    from kshot.understanding import Frame

Form = Literal["table", "jsonl", "text", "conll", "displacy"]
Write = Callable[[Sequence[Any], Sequence[Any]], None]
"""Takes texts, or histories of dialogues, and their predictions."""

_COLOURS = ("green", "magenta", "cyan", "yellow", "blue", "red")


@contextmanager
def prediction_writer(task: "Adapted", out: Path | None, form: Form | None, *, top: int) -> Iterator[Write]:
    """Gives a function that writes predictions, block by block.

    Args:
        task: What they come from.
        out: A file, which appears when all is written; None for the standard output.
        form: None is a table on a terminal, and JSONL elsewhere. `conll` (a word and its tag a line) and `displacy` (a
            line of JSON a text, for spaCy's viewer) are for taggers, `text` (a translation or a reply a line)
            for tasks that write.
        top: How many probabilities a line of JSONL has; 0 for all.

    Raises:
        KshotError: If the file cannot be written, or the form does not fit the task.
    """
    kinds = _writers(task, top)
    if form is not None and form not in kinds:
        raise KshotError(f'--format cannot be "{form}" for this task; it takes {", ".join(kinds)}.')
    if out is None:
        form = form or ("table" if sys.stdout.isatty() else "jsonl")
        _speak_utf8(form)
        try:
            yield kinds[form](sys.stdout)
        except BrokenPipeError:
            raise  # whoever was reading has had enough
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
            raise KshotError(f"The output could not be written ({error.strerror}).") from error
        return
    with new_file(out) as file:
        yield kinds[form or "jsonl"](file)


def _speak_utf8(form: Form) -> None:
    """Lets the standard output take every text: programs read UTF-8, and a screen shows `?` for what it has not."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    if form == "table":
        sys.stdout.reconfigure(errors="replace")
    else:
        sys.stdout.reconfigure(encoding="utf-8")


def presenter(task: "Adapted") -> Callable[[Any], Text]:
    """How one of a task's predictions is shown to a person."""
    from kshot.responder import AdaptedResponder
    from kshot.tagger import AdaptedTagger
    from kshot.translator import AdaptedTranslator
    from kshot.understanding import AdaptedUnderstanding

    if isinstance(task, AdaptedUnderstanding):
        of_slots = _colours(task.slots)
        return lambda frame: coloured_frame(frame, of_slots)
    if isinstance(task, AdaptedTranslator):
        return lambda found: _written_line(found.translation, found)
    if isinstance(task, AdaptedResponder):
        return lambda found: _written_line(found.reply, found)
    if isinstance(task, AdaptedTagger):
        of_types = _colours(task.classes)
        return lambda tagged: coloured_entities(tagged, of_types)
    return _label_line


def _writers(task: "Adapted", top: int) -> Mapping[str, Callable[[TextIO], Write]]:
    """The forms that a task's predictions can have."""
    from kshot.responder import AdaptedResponder
    from kshot.tagger import AdaptedTagger
    from kshot.translator import AdaptedTranslator
    from kshot.understanding import AdaptedUnderstanding

    if isinstance(task, AdaptedUnderstanding):
        return {
            "table": lambda file: _lines_writer(file, presenter(task)),
            "jsonl": lambda file: _line_writer(file, lambda frame: _frame_row(frame, top)),
        }
    if isinstance(task, AdaptedTranslator):
        return {
            "table": lambda file: _written_writer(file, lambda each: (each.text, each.translation)),
            "jsonl": lambda file: _line_writer(file, _translated_row),
            "text": lambda file: _plain_writer(file, lambda each: each.translation),
        }
    if isinstance(task, AdaptedResponder):
        return {
            "table": lambda file: _written_writer(file, lambda each: (_answered(each), each.reply)),
            "jsonl": lambda file: _line_writer(file, _answered_row),
            "text": lambda file: _plain_writer(file, lambda each: each.reply),
        }
    if isinstance(task, AdaptedTagger):
        return {
            "table": lambda file: _lines_writer(file, presenter(task)),
            "jsonl": lambda file: _line_writer(file, _entities_row),
            "conll": _conll_writer,
            "displacy": lambda file: _line_writer(file, lambda tagged: tagged.displacy()),
        }
    return {"table": _table_writer, "jsonl": lambda file: _jsonl_writer(file, top)}


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
            colour = _certainty(prediction)
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


def _line_writer(file: TextIO, row_of: Callable[[Any], dict[str, Any]]) -> Write:
    """A line of JSON a text."""

    def write(texts: Sequence[str], predictions: Sequence[Any]) -> None:
        for each in predictions:
            file.write(json.dumps(row_of(each), ensure_ascii=False) + "\n")
        file.flush()

    return write


def _entities_row(tagged: "Tagged") -> dict[str, Any]:
    entities = [
        {
            "text": each.text,
            "label": each.label,
            "start": each.start,
            "end": each.end,
            "confidence": round(each.confidence, 6),
        }
        for each in tagged.entities
    ]
    return {"text": tagged.text, "entities": entities}


def _translated_row(translated: "Translated") -> dict[str, Any]:
    row = {"text": translated.text, "translation": translated.translation, "score": round(translated.score, 6)}
    return row if translated.ended else {**row, "ended": False}


def _answered_row(answered: "Answered") -> dict[str, Any]:
    row = {
        "history": [{"speaker": turn.speaker, "text": turn.text} for turn in answered.history],
        "reply": answered.reply,
        "score": round(answered.score, 6),
        "turns_read": answered.n_read,
    }
    return row if answered.ended else {**row, "ended": False}


def _answered(answered: "Answered") -> str:
    """What a reply answers, and how much of the dialogue was not read."""
    newest = answered.history[-1].text if answered.history else ""
    n_turns, n_read = len(answered.history), answered.n_read
    return newest if n_read == n_turns else f"{newest} (the newest {n_read} of {n_turns} turns are read)"


def _plain_writer(file: TextIO, made: Callable[[Any], str]) -> Write:
    """What was made of a text a line, on the line of the text."""

    def write(texts: Sequence[Any], predictions: Sequence[Any]) -> None:
        file.write("".join(" ".join(made(each).split()) + "\n" for each in predictions))
        file.flush()

    return write


def _written_writer(file: TextIO, sides: Callable[[Any], tuple[str, str]]) -> Write:
    """What was made of a text below it, and how sure it is."""
    screen = console(file)

    def write(texts: Sequence[Any], predictions: Sequence[Any]) -> None:
        for each in predictions:
            given, made = sides(each)
            line = Text(" ".join(given.split()), "dim")
            screen.print(line.append("\n  ").append_text(_written_line(made, each)))
        file.flush()

    return write


def _written_line(made: str, found: Any) -> Text:
    """What was made, and how sure the task is of it."""
    line = Text().append(made, "not dim bold")
    return line.append(f"  {found.score:.2f}{'' if found.ended else ', cut'}", "not bold dim")


def _conll_writer(file: TextIO) -> Write:
    """A word and its tag a line, and an empty line after each text."""

    def write(texts: Sequence[str], predictions: Sequence["Tagged"]) -> None:
        for tagged in predictions:
            rows = [f"{word}\t{tag}\n" for word, tag in zip(tagged.tokens, tagged.tags, strict=True)]
            file.write("".join(rows) + "\n")
        file.flush()

    return write


def _lines_writer(file: TextIO, present: Callable[[Any], Text]) -> Write:
    """A line a text."""
    screen = console(file)

    def write(texts: Sequence[str], predictions: Sequence[Any]) -> None:
        for each in predictions:
            screen.print(present(each))
        file.flush()

    return write


def _label_line(prediction: "Prediction") -> Text:
    """The likeliest class, how likely it is, and whether it is perhaps none of them."""
    line = (
        Text()
        .append(prediction.label, f"bold {_certainty(prediction)}")
        .append(f"  {prediction.confidence:.0%}", "dim")
    )
    doubt = "" if prediction.in_scope else f"  perhaps none of these ({prediction.out_of_scope:.2f})"
    return line.append(doubt, "yellow")


def _certainty(prediction: "Prediction") -> str:
    """The colour of a label."""
    return "yellow" if not prediction.in_scope else "green" if prediction.confidence >= 0.5 else "white"


def coloured_entities(tagged: "Tagged", colours: Mapping[str, str]) -> Text:
    """A text with its entities in colour."""
    return marked(
        tagged.text, [(each.start, each.end, each.label, each.confidence) for each in tagged.entities], colours
    )


def coloured_frame(frame: "Frame", colours: Mapping[str, str]) -> Text:
    """An utterance with its slots in colour, and what it is for."""
    marks = [(each.start, each.end, each.slot, each.confidence) for each in frame.slots]
    line = marked(frame.text, marks, colours)
    style = "green" if frame.confidence >= 0.5 else "yellow"
    line.append(f"  {frame.intent} {frame.confidence:.0%}", style=f"bold {style}")
    return line


def marked(text: str, marks: Sequence[tuple[int, int, str, float]], colours: Mapping[str, str]) -> Text:
    """A text with spans in colour, their label and confidence behind them.

    Args:
        text: The text.
        marks: The first character of each span, one past its last, its label and its confidence, in order.
        colours: The colour of each label.
    """
    line, done = Text(), 0
    for start, end, label, confidence in marks:
        line.append(text[done:start])
        line.append(text[start:end], style=f"bold {colours[label]}")
        line.append(f" [{label} {confidence:.0%}]", style=f"dim {colours[label]}")
        done = end
    line.append(text[done:])
    return line


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}


def _frame_row(frame: "Frame", top: int) -> dict[str, Any]:
    """What can be learned from again, once it is put right."""
    return {
        "text": frame.text,
        "intent": frame.intent,
        "confidence": round(frame.confidence, 6),
        "slots": [{**vars(each), "confidence": round(each.confidence, 6)} for each in frame.slots],
        "intents": {name: round(share, 6) for name, share in list(frame.intents.items())[: top or None]},
    }
