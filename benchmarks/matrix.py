"""Every algorithm over every kind of encoder: clinc150, split fewshot_01, 5-way 1-shot and 5-shot on the test classes.

    python benchmarks/matrix.py                                 the whole matrix
    python benchmarks/matrix.py --encoders lstm --algorithms maml anil

Class names are not used, as in the papers. Each cell is trained by the settings below, chosen on the `valid` classes,
and reported beside its own untrained start on the same test episodes. One JSON file a cell is written to --out; a cell
that is there is not run again. TF-IDF with the nearest centroid is the row that every encoder from scratch has to beat.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import Dataset
from kshot.meta.algorithms import ALGORITHMS, build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import Evaluation, estimate, evaluate
from kshot.run.train import start_learner, train

# The token embeddings of MiniLM and nothing above them; kept as they are, so that words of unseen classes fit.
EMBEDDINGS = {"embeddings": "minilm", "max_length": 64, "train_embeddings": False}
ENCODERS: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", "dropout": 0.2, **EMBEDDINGS},
    "lstm": {"kind": "lstm", "hidden_dim": 256, "pooling": "max", "dropout": 0.2, **EMBEDDINGS},
    "transformer": {"kind": "transformer", "model_dim": 192, "n_layers": 2, "n_heads": 6, "dropout": 0.1, **EMBEDDINGS},
    "minilm": {"kind": "pretrained", "model": "minilm", "max_length": 64},
}
TITLES = {"cnn": "CNN", "lstm": "LSTM", "transformer": "Transformer", "minilm": "MiniLM"}
METRIC = {"steps": 180, "episodes_per_step": 1, "way": 20, "shot": [1, 5], "query": 3, "token_cutoff": 0.1}
GRADIENT = {"episodes_per_step": 1, "way": 15, "shot": [1, 5], "query": 3, "token_cutoff": 0.1}
VALIDATION = {"way": 5, "shot": [1, 5], "query": 5, "episodes": 60, "choose_names": False}
WIDE_VALIDATION = {"way": 15, "shot": [1, 5], "query": 3, "episodes": 30, "choose_names": False}
TEST_WAY = 5
TESTS = {"5-way 1-shot": 1, "5-way 5-shot": 5}

# Where an algorithm's settings differ from its preset, chosen on `valid`: vectors of length 1, and larger steps.
GRADIENT_HEADS = ("maml", "first-order-maml", "maml++", "anil", "meta-sgd", "reptile")
HEADS: dict[str, dict[str, Any]] = {
    **{name: {"scale": 10.0} for name in ("prototypical", "matching", "ridge", "protomaml", "decomposed")},
    **{name: {"normalise": True} for name in GRADIENT_HEADS},
}
# The loss is a mean, so each row of a C-way head sees 1/C of it: the head's rate is one for each class.
# MiniLM's vectors lie further apart, so that its head has an edge further out.
HEAD_RATES = {"cnn": 0.02, "lstm": 0.02, "transformer": 0.02, "minilm": 0.05}
# Where steps on the encoder begin to diverge differs by encoder: over 100 times between the CNN and the Transformer.
RATES = {"cnn": 0.5, "lstm": 0.02, "transformer": 0.003, "minilm": 0.02}
FIRST_ORDER_RATES = {"cnn": 0.1}  # for a shared row: at 0.5 the gradient at the end says little of the start's
RATE_STEPS = {"maml++": 0.01, "meta-sgd": 0.002}  # the share of it by which AdamW moves a learned rate in an update
OUTER_RATES = {"cnn": 2e-4, "lstm": 2e-4, "transformer": 2e-4, "minilm": 2e-5}
OUTER_STEPS = {"cnn": 160, "lstm": 60, "transformer": 60, "minilm": 60}
INNER_STEPS = {"cnn": 5, "lstm": 5, "transformer": 5, "minilm": 2}


def main() -> None:
    arguments = parse()
    dataset = load_dataset("clinc150", split="fewshot_01")
    starts: dict[tuple[str, str], Evaluation] = {}
    for encoder in arguments.encoders:
        for algorithm in arguments.algorithms:
            path = arguments.out / f"{encoder}-{algorithm}.json"
            if path.is_file():
                continue
            figures = run(encoder, algorithm, dataset, arguments, starts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            print(
                encoder,
                algorithm,
                *(f"{k} {v['start']} -> {v['trained']}" for k, v in figures["tests"].items()),
                flush=True,
            )
    show(arguments.out, dataset, arguments.episodes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--algorithms", nargs="*", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the training steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/matrix"))
    parser.add_argument("--runs", type=Path, default=Path("runs/matrix"))
    return parser.parse_args()


def recipe_of(encoder: str, algorithm: str, effort: float) -> Recipe:
    """The settings of one cell."""
    preset = ALGORITHMS[algorithm]
    gradient = algorithm in (*GRADIENT_HEADS, "protomaml", "decomposed")
    training = dict(GRADIENT if gradient else METRIC)
    inner: dict[str, Any] = {}
    training["learning_rate"] = OUTER_RATES[encoder] if gradient else 5e-5 if encoder == "minilm" else 2e-3
    if gradient:
        head_rate = round(HEAD_RATES[encoder] * training["way"], 6)
        first_order = algorithm in ("first-order-maml", "reptile")
        rate = FIRST_ORDER_RATES.get(encoder, RATES[encoder]) if first_order else RATES[encoder]
        inner = {"steps": INNER_STEPS[encoder], "rate": rate, "head_rate": head_rate}
        training["steps"] = OUTER_STEPS[encoder]
        if algorithm in RATE_STEPS:
            training["head_learning_rate"] = RATE_STEPS[algorithm] * rate
    if encoder == "minilm":
        training |= {"trains": "layers", "precision": "bfloat16"}
        training |= {"shot": 1, "query": 2} if gradient else {"steps": 90, "head_learning_rate": 1e-3}
        if preset.inner.get("moves") == "all":
            inner |= {"moves": "top:1"} if gradient else {"moves": "norm", "order": 1}
    training["steps"] = round(training["steps"] * effort) if preset.meta_trained else 0
    return parse_recipe(
        {
            "data": {"name": "clinc150", "split": "fewshot_01"},
            "encoder": ENCODERS[encoder],
            "task": {"class_names": False},
            "algorithm": {"name": algorithm, "head": HEADS.get(algorithm, {}), "inner": inner},
            "training": training,
            "validation": {
                **(WIDE_VALIDATION if gradient else VALIDATION),
                **({"shot": 1} if encoder == "minilm" else {}),  # with 5 it has nothing left to gain
                **({"episodes": 20} if gradient and encoder in ("lstm", "transformer") else {}),
                "every": (20 if encoder == "minilm" else 40) if gradient else max(1, training["steps"] // 3),
            },
        },
        f"{encoder} x {algorithm}",
    )


def at_way(learner: Learner, trained_way: int, way: int) -> Learner:
    """The same learner for tasks of another number of classes: the rate of its head follows it."""
    inner = dict(learner.settings.inner)
    if "head_rate" not in inner:
        return learner
    inner["head_rate"] *= way / trained_way
    settings = AlgorithmSettings(name=learner.settings.name, head=learner.settings.head, inner=inner)
    other = build_learner(settings, learner.encoder, learner.task)
    other.load_state_dict(learner.state_dict())
    with torch.no_grad():
        for name, rate in other.inner.rates.items():
            if name.startswith("head/"):
                rate *= way / trained_way
    return other.eval()


def run(
    encoder: str,
    algorithm: str,
    dataset: Dataset,
    arguments: argparse.Namespace,
    starts: dict[tuple[str, str], Evaluation],
) -> dict[str, Any]:
    """Trains one cell, and evaluates it and its start; what algorithms have in common is in `starts`."""
    recipe = recipe_of(encoder, algorithm, arguments.effort)
    folder = arguments.runs / f"{encoder}-{algorithm}"
    begin = perf_counter()
    if not (folder / "learner").is_dir():
        train(recipe, folder, resume=folder.is_dir())
    seconds = perf_counter() - begin
    trained, about = load_learner(folder)
    way = recipe.training.way
    assert isinstance(way, int)
    trained, start = (at_way(each, way, TEST_WAY) for each in (trained, start_learner(recipe, dataset)))
    if trained.moves and ALGORITHMS[algorithm].meta_trained:  # the others adapt in a moment
        trained.precision = start.precision = getattr(torch, recipe.training.precision)
    tests = {}
    for name, shot in TESTS.items():
        episodes = dataset.sampler("test", way=TEST_WAY, shot=shot, query=10, seed=0, n_episodes=arguments.episodes)
        inner = {k: v for k, v in start.inner.settings if k not in ("order", "rates", "multi_step", "outer")}
        key = (name, f"{encoder} {ALGORITHMS[algorithm].head} {start.settings.head} {inner}")
        if key not in starts:
            starts[key] = evaluate(start, episodes)
        before = starts[key]
        after = before if about["kept_start"] else evaluate(trained, episodes)
        tests[name] = {
            "start": percent(before),
            "trained": percent(after),
            "interval": 100 * after.accuracy.half_width,
            "lift": 100 * after.lift(before).mean,
            "lift_interval": 100 * after.lift(before).half_width,
            "milliseconds": 1000 * after.seconds,
        }
    return {
        "encoder": encoder,
        "algorithm": algorithm,
        "training_seconds": seconds,
        "threads": torch.get_num_threads(),
        "kept_start": about["kept_start"],
        "recipe": recipe.model_dump(mode="json"),
        "tests": tests,
    }


def percent(result: Evaluation) -> float:
    return round(100 * result.accuracy.mean, 2)


def tfidf(dataset: Dataset, shot: int, n_episodes: int) -> str:
    """The nearest centroid of TF-IDF vectors, fitted on the training texts."""
    vectoriser = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit([example.text for example in dataset.train])
    accuracies = []
    for episode in dataset.sampler("test", way=TEST_WAY, shot=shot, query=10, seed=0, n_episodes=n_episodes):
        support = vectoriser.transform([example.text for example in episode.support]).toarray()
        query = vectoriser.transform([example.text for example in episode.query]).toarray()
        labels = np.array([episode.classes.index(example.label) for example in episode.support])
        centroids = np.stack([support[labels == number].mean(axis=0) for number in range(episode.way)])
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        truth = np.array([episode.classes.index(example.label) for example in episode.query])
        accuracies.append(float(((query @ centroids.T).argmax(axis=1) == truth).mean()))
    return str(estimate(np.array(accuracies)))


def show(out: Path, dataset: Dataset, n_episodes: int) -> None:
    """Prints the matrix as Markdown: `start → meta-trained` with 1 and with 5 shots, for each encoder."""
    found = {
        (cell["encoder"], cell["algorithm"]): cell
        for path in out.glob("*.json")
        for cell in [json.loads(path.read_text(encoding="utf-8"))]
    }
    baselines = " / ".join(tfidf(dataset, shot, n_episodes) for shot in TESTS.values())
    print(f"\n{' / '.join(TESTS)}, start → meta-trained. TF-IDF, nearest centroid: {baselines}\n")
    print(f"| | {' | '.join(TITLES[encoder] for encoder in ENCODERS)} |\n|---{'|---' * len(ENCODERS)}|")
    for algorithm, preset in ALGORITHMS.items():
        cells = [found.get((encoder, algorithm)) for encoder in ENCODERS]
        row = [
            "" if cell is None else " / ".join(text(cell["tests"][name], preset.meta_trained) for name in TESTS)
            for cell in cells
        ]
        print(f"| `{algorithm}` | {' | '.join(row)} |")


def text(cell: dict[str, float], meta_trained: bool) -> str:
    figure = f"{cell['trained']:.1f}"
    return f"{cell['start']:.1f} → {figure}" if meta_trained else figure


if __name__ == "__main__":
    main()
