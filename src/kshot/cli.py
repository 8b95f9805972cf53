"""The command line. Every command imports what it needs when it runs, so that `kshot --help` is quick."""

import atexit
import errno
import gc
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kshot.errors import KshotError, KshotNotice

if TYPE_CHECKING:
    from kshot.adapted import Adapted
    from kshot.data.examples import Example
    from kshot.meta_learner import MetaLearner

ERROR, INTERRUPTED = 2, 130

app = typer.Typer(
    name="kshot",
    help="Learns to learn language tasks: meta-train once, then learn a new task from a handful of examples.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
task_app = typer.Typer(help="Look at adapted tasks.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel="Look")
app.add_typer(task_app, name="task", rich_help_panel="Look")

Learner = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder of a run or learner, or [b]minilm[/b], not meta-trained.")
]
Task = Annotated[Path, typer.Argument(metavar="TASK", help="The folder of an adapted task.")]
LearnerOption = Annotated[
    Path | None, typer.Option("--learner", help="Where the task's learner is, if it has been moved.", metavar="RUN")
]


def _algorithm_names() -> list[str]:
    from kshot.meta.algorithms import ALGORITHMS

    return list(ALGORITHMS)


AlgorithmOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Adapt by another algorithm over the trained encoder, such as [b]anchored[/b].",
        autocompletion=_algorithm_names,
    ),
]

# Threads that spin while they wait make products many times slower where another program wants the same core; those
# that never do are a tenth slower where none does.
_PATIENT_THREADS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000"}
_OBJECTS = 10_000  # that are new when Python looks for some to free


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 2 for input that cannot be used, 130 if interrupted.

    Args:
        arguments: The words of the command line; None for those of the process.
    """
    for name, value in _PATIENT_THREADS.items():
        os.environ.setdefault(name, value)
    try:
        with _rarely_collected(), warnings.catch_warnings():
            warnings.simplefilter("default", KshotNotice)
            warnings.showwarning = _note
            app(arguments)
    except KshotError as error:
        print(f"Error: {error}", file=sys.stderr)
        return ERROR
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        from kshot.data.files import unreadable

        print(f"Error: {unreadable(Path(error.filename), error)}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Python seldom looks for objects to free meanwhile, and at the end of the process not any more.

    Nearly all that it would look through is modules, over and over while they are imported: a quarter of the time of a
    short command. What is not part of a cycle is freed at once, as ever.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Shows a warning as the sentence that it is."""
    print(f"Note: {message}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        from kshot import __version__

        print(f"kshot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


# -- learning to learn -------------------------------------------------------------------------------------------------


def _recipe_names() -> list[str]:
    from kshot.run.config import recipes

    return recipes()


@app.command(rich_help_panel="Learn to learn")
def quickstart(
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; a new one in [b]runs[/b] if left out.", show_default=False)
    ] = None,
) -> None:
    """Meta-train on the data that comes with kshot and learn new intents: two minutes."""
    from kshot.run.quickstart import quickstart

    quickstart(_new_run("quickstart") if out is None else out)


@app.command(rich_help_panel="Learn to learn")
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a recipe.", autocompletion=_recipe_names),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.", show_default=False)],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, such as [b]training.steps=100[/b]."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder stopped.")] = False,
) -> None:
    """Meta-train a learner by a recipe."""
    from kshot.output import show_outcome
    from kshot.run.config import load_recipe
    from kshot.run.train import train

    show_outcome(train(load_recipe(recipe, changes or ()), out, resume=resume), out)


@app.command(rich_help_panel="Learn to learn")
def average(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Folders of runs or learners; the first says how to adapt.")
    ],
    out: Annotated[Path, typer.Option(help="The new learner's folder.", show_default=False)],
) -> None:
    """Make one learner of several that began with the same weights: their mean, tensor by tensor."""
    from kshot.meta_learner import load
    from kshot.output import show_average

    first, *others = [load(run) for run in runs]
    first.average(*others).save(out)
    show_average(len(runs), out)


@app.command(rich_help_panel="Learn to learn")
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or of a learner.")],
    data: Annotated[
        str, typer.Option(metavar="NAME_OR_PATH", help="A data set by name, or a file or folder.", show_default=False)
    ],
    split: Annotated[
        str, typer.Option(help="train, valid or test; or a published split, of which test is used.")
    ] = "test",
    way: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Classes of an episode: a number, low-high, or all. 5 if left out, or all of what has no classes to "
            "draw, such as translations.",
            show_default=False,
        ),
    ] = None,
    shot: Annotated[str, typer.Option(metavar="K", help="Examples of each class to learn from.")] = "5",
    query: Annotated[str, typer.Option(metavar="Q", help="Examples of each class to be judged by.")] = "5",
    episodes: Annotated[int, typer.Option(metavar="E", min=2, help="Episodes to draw.")] = 600,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Which episodes; the same seed draws the same ones.")
    ] = 0,
    all_classes: Annotated[
        bool, typer.Option("--all-classes", help="Every class at once; the same as --way all.")
    ] = False,
    algorithm: AlgorithmOption = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Another learner, compared on the same episodes.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures of every episode here, too.")
    ] = None,
) -> None:
    """Measure how well, and how fast, a learner adapts to classes that it has never seen."""
    from kshot.output import show_figures
    from kshot.run.evaluate import evaluate_run

    part, published = (split, None) if split in ("train", "valid", "test") else ("test", split)
    evaluate_run(
        run,
        data=data,
        split=published,
        part=part,
        way="all" if all_classes else None if way is None else _count(way, "way"),
        shot=_count(shot, "shot"),
        query=_count(query, "query"),
        episodes=episodes,
        seed=seed,
        algorithm=algorithm,
        against=against,
        json_file=json,
        show=show_figures,
    )


# -- using what was learned --------------------------------------------------------------------------------------------


@app.command(rich_help_panel="Use it")
def adapt(
    run: Learner,
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="EXAMPLES",
            help="Texts and labels: JSONL, JSON, CSV or TSV. Or sentences and entities: JSONL, CoNLL columns, or text "
            "with \\[marks](TYPE). Or sources and targets: JSONL, JSON, CSV or TSV. Or turns with intents and slots, "
            "or dialogues of them, or dialogues: JSONL, JSON.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="TASK", help="The task's folder.", show_default=False)],
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Copy the learner into it, so that it can be moved to another machine.")
    ] = False,
    forget_examples: Annotated[
        bool,
        typer.Option(
            "--forget-examples",
            help="Do not keep the examples, which the task's folder otherwise holds in clear text; the task can then "
            "learn nothing more.",
        ),
    ] = False,
    targets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Translations, line by line, of the texts in EXAMPLES, a plain text too."),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="FIELD", help="The field with the text, or the source.")] = None,
    label: Annotated[str | None, typer.Option(metavar="FIELD", help="The field with the label, or the target.")] = None,
    scheme: Annotated[
        Literal["bio", "io"], typer.Option(help="How sentences are tagged: BIO, or IO, of which BIO is made.")
    ] = "bio",
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Adapt by another algorithm over the trained encoder, such as [b]anchored[/b]; of several, such as "
            "[b]ridge,anchored[/b], by the one that is best at examples that it is not given.",
            autocompletion=_algorithm_names,
        ),
    ] = None,
) -> None:
    """Learn a task from a file of labelled texts, tagged sentences, sentence pairs, annotated turns or dialogues."""
    from time import perf_counter

    from kshot.adapted import check_replaceable
    from kshot.data.pairs import is_pairs, read_pairs
    from kshot.data.readers import is_tagged, is_utterances, read_examples, read_tagged, read_utterances
    from kshot.data.replies import is_replies, read_replies
    from kshot.output import show_adapted, show_choice

    check_replaceable(out, "task")
    plain = examples.suffix.lower() == ".txt"  # has no labels, so it must mark entities
    support: Sequence[Example]
    if targets is not None or is_pairs(examples):
        kind, support = "translation", read_pairs(examples, targets, source=text, target=label)
    elif is_utterances(examples):
        kind, support = "understanding", read_utterances(examples)
    elif is_replies(examples):
        kind, support = "responding", read_replies(examples)
    elif plain or is_tagged(examples):
        kind, support = "tagging", read_tagged(examples, scheme=scheme)
    else:
        kind, support = "classification", read_examples(examples, text=text, label=label)
    learner = _learner(run, kind)
    if learner.kind != kind:
        holds = {
            "tagging": "tagged sentences",
            "classification": "labelled texts",
            "translation": "sentence pairs",
            "understanding": "turns with intents and slots",
            "responding": "dialogues",
        }
        raise KshotError(f"{examples} holds {holds[kind]}, but {run} learns {learner.kind}; give a learner of {kind}.")
    begin = perf_counter()
    names = () if algorithm is None else algorithm.replace(",", " ").split()
    if len(names) > 1:
        learner, scores = learner.choose(names, support)
        show_choice(scores, learner.learner.task.measures[0])
    elif names:
        learner = learner.variant(algorithm=names[0])
    task = learner.adapt(support)
    seconds = perf_counter() - begin
    task.save(out, bundle=bundle, examples=not forget_examples)
    show_adapted(task, out, seconds)


@app.command(rich_help_panel="Use it")
def predict(
    task: Task,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Text (one a line), JSONL, JSON, CSV or TSV; - for the standard input, text or JSONL."
        ),
    ] = "-",
    format: Annotated[
        Literal["table", "jsonl", "text", "conll", "displacy"] | None,
        typer.Option(
            help="A table or coloured text for people, JSONL for programs; for entities also CoNLL columns, or JSONL "
            "for spaCy's displacy; for translations and replies also plain lines of text. On a terminal a table if "
            "left out.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of the screen.")] = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=0, help="Probabilities of the N likeliest classes in JSONL; 0 for all.")
    ] = 5,
    field: Annotated[str | None, typer.Option("--text", metavar="FIELD", help="The field with the text.")] = None,
    learner: LearnerOption = None,
) -> None:
    """Label texts, find entities in them, translate, understand or answer them by an adapted task, as they come."""
    from kshot.data.dialogue import HistoryCut
    from kshot.meta_learner import load_task
    from kshot.predictions import prediction_writer
    from kshot.responder import AdaptedResponder

    if file == "-" and sys.stdin.isatty():
        print("Type texts, one a line; Ctrl-D ends.", file=sys.stderr)
    adapted = load_task(task, learner=learner)
    asked = _asked(adapted, file, field)
    with prediction_writer(adapted, out, format, top=top) as write, warnings.catch_warnings():
        if isinstance(adapted, AdaptedResponder):
            warnings.simplefilter("ignore", HistoryCut)  # what is written says of each history how much of it was read
        for given in asked:
            write(given[0], adapted.predict(*given))


def _asked(task: "Adapted", file: str, field: str | None) -> Iterator[tuple[Sequence[Any], ...]]:
    """What a task is asked, block by block, as its `predict` takes it."""
    from kshot.responder import AdaptedResponder
    from kshot.streams import history_blocks, text_blocks, turn_blocks

    if isinstance(task, AdaptedResponder):
        return ((histories,) for histories in history_blocks(file))
    if task.reads_history:
        blocks = turn_blocks(file, field=field)
        return (([each.text for each in block], [each.history for each in block]) for block in blocks)
    return ((texts,) for texts in text_blocks(file, field=field))


@app.command(rich_help_panel="Use it")
def chat(
    task: Task,
    out: Annotated[
        Path | None,
        typer.Option(metavar="TASK", help="Keep what is taught here, and leave the task as it is.", show_default=False),
    ] = None,
    learner: LearnerOption = None,
) -> None:
    """Talk to an adapted task in the terminal, and correct it: [b]/teach[/b] makes it learn at once."""
    from kshot.chat.terminal import chat
    from kshot.meta_learner import load_task

    if not chat(load_task(task, learner=learner), task if out is None else out):
        raise typer.Exit(ERROR)


# -- looking -----------------------------------------------------------------------------------------------------------


@data_app.command("list")
def data_list() -> None:
    """List the data sets that kshot knows."""
    from kshot.data.catalogue import list_datasets
    from kshot.output import show_datasets

    show_datasets(list_datasets())


def _dataset_names() -> list[str]:
    from kshot.data.entries import CATALOGUE

    return list(CATALOGUE)


@data_app.command("show")
def data_show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A data set by name, or a file or folder.", autocompletion=_dataset_names),
    ],
    split: Annotated[str | None, typer.Option(help="Which of its published splits; the first if left out.")] = None,
) -> None:
    """Show the parts of a data set, its classes and some examples."""
    from kshot.data.catalogue import load_dataset
    from kshot.output import show_dataset

    show_dataset(load_dataset(name, split=split))


@data_app.command("check")
def data_check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A file of what [b]kshot adapt[/b] takes, or a folder of train, valid and test."
        ),
    ],
) -> None:
    """Look for conflicting labels, repeated texts, small classes and leaks between parts; status 1 for an error."""
    from kshot.data.local import check_path
    from kshot.output import show_findings

    examples, findings = check_path(path)
    show_findings(path, examples, findings)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@task_app.command("show")
def task_show(task: Task, learner: LearnerOption = None) -> None:
    """Show the classes of an adapted task, its temperature and its learner."""
    from kshot.meta_learner import load_task
    from kshot.output import show_task

    show_task(load_task(task, learner=learner), task)


@app.command(rich_help_panel="Look")
def algorithms() -> None:
    """List the algorithms, each with its paper."""
    from kshot.meta.algorithms import ALGORITHMS
    from kshot.output import show_algorithms

    show_algorithms(ALGORITHMS)


def _learner(run: str, kind: str) -> "MetaLearner":
    from kshot.meta_learner import default_learner, load

    return default_learner(kind) if run == "minilm" and not Path(run).exists() else load(run)


def _count(text: str, name: str) -> "int | tuple[int, int] | Literal['all']":
    """A number, `low-high`, or `all`."""
    low, dash, high = text.partition("-")
    if text == "all":
        return "all"
    if dash and low.isdecimal() and high.isdecimal():
        return int(low), int(high)
    if text.isdecimal():
        return int(text)
    raise KshotError(f'--{name} cannot be "{text}"; give a number, low-high, or all.')


def _new_run(name: str) -> Path:
    """`runs/name`, or with a number after it where that is taken."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


if __name__ == "__main__":
    sys.exit(main())
