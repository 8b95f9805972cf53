"""The example that this project began with: MAML over an LSTM, from Amazon reviews to the sentiment of films.

    python benchmarks/founding.py                               random token embeddings, then those of MiniLM
    python benchmarks/founding.py --embeddings minilm           one of the two

An LSTM (embedding 128, hidden 256, maximum over time, linear layer) is meta-trained by second-order MAML on the
training tasks of amazon_sentiment, each a domain and a threshold on the stars, and adapts to SST-2 from 5, 10 and 50
examples a class. Beside it, on the same draws: the same LSTM trained jointly on as many of these reviews, in as many
updates, and fine-tuned, and one that starts from random weights. How long and how fast each adapts is chosen on the
`valid` tasks of amazon_sentiment, as were the settings below. Test: --draws supports out of the training sentences of
SST-2, each judged on 50 test sentences a class. Writes a JSON file for each and, with matplotlib, a picture of both.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.data.sampler import EpisodeSampler
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import evaluate
from kshot.run.train import start_learner, train

SHOTS = (5, 10, 50)
LSTM = {
    "kind": "lstm",
    "embedding_dim": 128,
    "hidden_dim": 256,
    "pooling": "max",
    "max_length": 40,
    "vocabulary_size": 6000,
    "dropout": 0.1,
}
HEAD = {"rows": 2}  # the two classes are the same in every task, so each has its row
# Chosen on `valid`: more dropout (0.3, 0.4), encoder rates of 0.05 and the mean over tokens were no better there.
RATES = {"rate": 0.5, "optimiser": "sgd"}
MAML = {"name": "maml", "head": HEAD, "inner": {"steps": 3, "order": 2, **RATES}}
JOINT = {"name": "maml", "head": HEAD, "inner": {"steps": 0}}
PLANS: list[dict[str, Any]] = [
    {"steps": 3, **RATES},
    {"steps": 10, "rate": 0.1, "optimiser": "sgd"},
    {"steps": 10, "rate": 1e-3, "optimiser": "adam"},
]
EMBEDDINGS = {"random": None, "minilm": "minilm"}


def main() -> None:
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for embeddings in arguments.embeddings:
        figures = run(embeddings, arguments)
        path = arguments.out / f"founding-{embeddings}.json"
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    draw(arguments.out)


def run(embeddings: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains both ways, and adapts all three to SST-2."""
    amazon, films = load_dataset("amazon_sentiment"), load_dataset("sst2")
    learners: dict[str, Learner] = {}
    seconds = {}
    for name, algorithm in (("MAML", MAML), ("joint, fine-tuned", JOINT)):
        recipe = recipe_of(algorithm, arguments.steps, EMBEDDINGS[embeddings])
        folder = arguments.runs / f"{embeddings}-{name.split(',')[0].lower()}"
        begin = perf_counter()
        if not (folder / "learner").is_dir():
            train(recipe, folder, resume=folder.is_dir())
        learners[name], seconds[name] = load_learner(folder)[0], perf_counter() - begin
    learners["from scratch"] = start_learner(recipe, amazon).eval()

    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in learners}
    for shot in SHOTS:
        valid = amazon.sampler("valid", way="all", shot=min(shot, 10), query=15, seed=7, n_episodes=12, skip_small=True)
        test = films.sampler("test", way="all", shot=shot, query=50, seed=0, n_episodes=arguments.draws)
        results = {}
        for name, learner in learners.items():
            plan = best_plan(learner, valid)
            results[name] = evaluate(with_plan(learner, plan), test, time=False)
            lift = results["MAML"].lift(results[name])
            summary = {key: value for key, value in results[name].summary().items() if "seconds" not in key}
            ahead = {"maml_ahead_by": lift.mean, "maml_ahead_interval": lift.half_width}
            curves[name].append({"shot": shot, "plan": plan, **summary, **ahead})
            print(
                f"{embeddings:8s} {shot:3d} shots  {name:20s} {results[name].accuracy}   MAML ahead by {lift}   {plan}"
            )
    return {
        "embeddings": embeddings,
        "draws": arguments.draws,
        "training_seconds": seconds,
        "recipe": recipe_of(MAML, arguments.steps, EMBEDDINGS[embeddings]).model_dump(mode="json"),
        "curves": curves,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="updates of the shared weights, of 2 tasks each")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--embeddings", nargs="*", default=list(EMBEDDINGS), choices=list(EMBEDDINGS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/founding"))
    return parser.parse_args()


def recipe_of(algorithm: dict[str, Any], steps: int, embeddings: str | None) -> Recipe:
    """The settings that both ways of meta-training share, but for the algorithm."""
    return parse_recipe(
        {
            "data": {"name": "amazon_sentiment", "skip_small": True},
            "encoder": {**LSTM, "embeddings": embeddings, "train_embeddings": embeddings is None},
            "task": {"class_names": False},
            "algorithm": algorithm,
            "training": {
                "steps": steps,
                "episodes_per_step": 2,
                "way": "all",
                "shot": 5,
                "query": 10 if algorithm["inner"]["steps"] else 15,  # without steps only the query is learned from
                "learning_rate": 2e-3,
            },
            "validation": {"every": max(1, steps // 5), "way": "all", "shot": 5, "query": 15, "episodes": 24},
        },
        "founding example",
    )


def with_plan(learner: Learner, plan: dict[str, Any]) -> Learner:
    """The same weights, adapted by another inner loop."""
    inner = {"order": 1, "moves": "all", **plan}
    settings = AlgorithmSettings(name="maml", head=HEAD, inner=inner)
    other = build_learner(settings, learner.encoder, learner.task)
    other.load_state_dict(learner.state_dict())
    return other.eval()


def best_plan(learner: Learner, valid: EpisodeSampler) -> dict[str, Any]:
    """The plan with the highest accuracy on the `valid` tasks."""
    return max(PLANS, key=lambda plan: evaluate(with_plan(learner, plan), valid, time=False).accuracy.mean)


def draw(out: Path) -> None:
    """Accuracy by shots with 95% intervals, of each file that is there."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    paths = {each: path for each in EMBEDDINGS if (path := out / f"founding-{each}.json").is_file()}
    figure, panels = plt.subplots(1, len(paths), figsize=(4.5 * len(paths), 4), sharey=True, squeeze=False)
    for axes, (embeddings, path) in zip(panels[0], paths.items(), strict=True):
        curves = json.loads(path.read_text(encoding="utf-8"))["curves"]
        for number, (name, points) in enumerate(curves.items()):
            axes.errorbar(
                [point["shot"] * 1.03 ** (number - 1) for point in points],  # beside each other
                [100 * point["accuracy"] for point in points],
                yerr=[100 * point["accuracy_interval"] for point in points],
                marker="o",
                capsize=3,
                label=name,
            )
        axes.set_title(f"token embeddings: {'MiniLM' if embeddings == 'minilm' else embeddings}")
        axes.set_xscale("log")
        axes.set_xticks(SHOTS, [str(shot) for shot in SHOTS])
        axes.minorticks_off()
        axes.set_xlabel("examples a class of SST-2")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("accuracy on SST-2, %")
    panels[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out / "founding.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
