"""The table of accuracies: each recipe on the test classes of each published split, beside the frozen encoder.

    python benchmarks/accuracy.py                          every data set and split
    python benchmarks/accuracy.py hwu64 --splits fewshot_01 --episodes 100

Each split is meta-trained by its recipe, chosen on its `valid` classes, and reported once on its `test` classes: the
same episodes for every row. One JSON file a split is written to --out, and a split that is there already is not run
again.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import torch

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import Dataset
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.build import build_encoder
from kshot.models.pretrained import PretrainedSettings
from kshot.run.config import Recipe, load_recipe
from kshot.run.evaluate import evaluate
from kshot.run.train import train
from kshot.tasks.classification import Classification, ClassificationSettings

SPLITS = {
    "clinc150": [f"fewshot_{n:02d}" for n in range(1, 6)],
    "hwu64": [f"fewshot_{n:02d}" for n in range(1, 6)],
    "huffpost": ["bao2020"],
}
TASKS = {"5-way 1-shot": (5, 1), "5-way 5-shot": (5, 5), "all 1-shot": ("all", 1), "all 5-shot": ("all", 5)}
QUERY = 10


def main() -> None:
    arguments = parse()
    for data in arguments.data:
        for split in arguments.splits or SPLITS[data]:
            path = arguments.out / f"{data}-{split}.json"
            if not path.is_file():
                figures = run(data, split, arguments.episodes, arguments.seed, arguments.runs)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        show(data, [json.loads(path.read_text()) for path in sorted(arguments.out.glob(f"{data}-*.json"))])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(SPLITS), help=f"of {', '.join(SPLITS)}; all by default")
    parser.add_argument("--splits", nargs="*", help="the splits of the data set; all by default")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the test episodes; the recipe has its own")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accuracy"))
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="where the trained learners go")
    return parser.parse_args()


def run(data: str, split: str, n_episodes: int, seed: int, runs: Path) -> dict[str, object]:
    """Trains on one split and evaluates every row on its test classes."""
    recipe = load_recipe(f"minilm-{data}", [f"data.split={split}"])
    dataset = load_dataset(data, split=split)
    folder = runs / f"{data}-{split}"
    begin = perf_counter()
    if not (folder / "learner").is_dir():
        train(recipe, folder, resume=folder.is_dir())
    seconds = perf_counter() - begin
    learner, about = load_learner(folder)
    rows = {}
    for encoder_rows in (frozen_rows(recipe, dataset), trained_rows(learner)):
        with first_of(encoder_rows).encoder.remembering():  # the rows of one encoder share its vectors
            for name, row in encoder_rows.items():
                rows[name] = score(row, dataset, n_episodes, seed)
                print(
                    f"{data} {split}  {name:40s}",
                    "  ".join(f"{cell['mean']:.1f}" for cell in rows[name].values()),
                    flush=True,
                )
    return {
        "data": data,
        "split": split,
        "episodes": n_episodes,
        "seed": seed,
        "training_seconds": seconds,
        "threads": torch.get_num_threads(),
        "share": about["share"],
        "kept_start": about["kept_start"],
        "rows": rows,
    }


def frozen_rows(recipe: Recipe, dataset: Dataset) -> dict[str, Learner]:
    """The pretrained encoder as it is, under three heads."""
    assert isinstance(recipe.encoder, PretrainedSettings)
    encoder = build_encoder(recipe.encoder, [], seed=recipe.seed)

    def learner(algorithm: str, names: bool) -> Learner:
        task = Classification(ClassificationSettings(class_names=names))
        return build_learner(AlgorithmSettings(name=algorithm), encoder, task).eval()

    return {
        "frozen, cosine prototypes": learner("prototypical", False),
        "frozen, cosine prototypes, class names": learner("prototypical", True),
        "frozen, anchored, class names": learner("anchored", True),
    }


def trained_rows(learner: Learner) -> dict[str, Learner]:
    """The meta-trained learner as it would be used, and with class names that say nothing."""
    opaque = build_learner(learner.settings, learner.encoder, Classification(ClassificationSettings(class_names=False)))
    opaque.load_state_dict(learner.state_dict())
    return {"meta-trained, opaque class names": opaque.eval(), "meta-trained, as chosen on valid": learner}


def first_of(rows: dict[str, Learner]) -> Learner:
    return next(iter(rows.values()))


def score(learner: Learner, dataset: Dataset, n_episodes: int, seed: int) -> dict[str, dict[str, float]]:
    """The accuracy of one row for every task."""
    cells = {}
    for task, (way, shot) in TASKS.items():
        episodes = dataset.sampler("test", way=way, shot=shot, query=QUERY, seed=seed, n_episodes=n_episodes)
        result = evaluate(learner, episodes, time=False)
        cells[task] = {
            "mean": 100 * result.accuracy.mean,
            "interval": 100 * result.accuracy.half_width,
            "macro_f1": 100 * result.of("macro F1").mean,
        }
    return cells


def show(data: str, splits: list[dict[str, dict[str, dict[str, dict[str, float]]]]]) -> None:
    """Prints the mean over the splits as a Markdown table; the interval is over episodes, the splits being fixed."""
    print(f"\n{data}: mean over {len(splits)} split(s), 95% interval\n")
    print(f"| | {' | '.join(TASKS)} |\n|---{'|---' * len(TASKS)}|")
    for row in splits[0]["rows"]:
        print(f"| {row} | {' | '.join(cells(row, splits))} |")


def cells(row: str, splits: list[dict[str, dict[str, dict[str, dict[str, float]]]]]) -> Iterator[str]:
    for task in TASKS:
        found = [split["rows"][row][task] for split in splits]
        mean = sum(cell["mean"] for cell in found) / len(found)
        interval = math.sqrt(sum(cell["interval"] ** 2 for cell in found)) / len(found)
        yield f"{mean:.1f} ± {interval:.1f}"


if __name__ == "__main__":
    main()
