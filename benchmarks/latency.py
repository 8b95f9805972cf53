"""What a user waits for: the command line, a new task, episodes.

    python benchmarks/latency.py                       about three minutes
    python benchmarks/latency.py --train               meta-trains minilm-clinc150 as well, some minutes more
    python benchmarks/latency.py cold adapt            some parts only: cold, adapt, move, teach, episodes, pool, train

cold       processes that start: `kshot --help`, and the first result of `kshot predict` with MiniLM; beside them what
           Python needs to import torch alone.
adapt      from raw texts to a classifier, tokenising, encoding and calibration included, nothing being remembered.
move       from token numbers to what five steps of MAML make of 5-way 5-shot: they move MiniLM's last layer, its last
           two, all layers, or all of it.
teach      `/teach` of a chat: one more example joins a task, which adapts again from all of them, and is saved; the new
           text is encoded, its class is one of the task's, and the learner is inside the task's folder.
episodes   episodes of clinc150 drawn as row numbers; adapted to and scored with vectors that are known, many episodes
           at once and, beside it, one after the other.
pool       the same draw from a million texts, and the memory that it takes.
train      `kshot train minilm-clinc150`: seconds from its first update to its best validation, and of the process.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

from kshot.data.catalogue import load_dataset
from kshot.data.examples import TextExample
from kshot.data.sampler import EpisodeSampler
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings
from kshot.meta_learner import MetaLearner, load_task
from kshot.run.evaluate import collate, score_each
from kshot.run.together import score_together

TURNS = 5
HEADS = ("prototypical", "ridge", "anchored")
POOL = 1_000_000


def main() -> None:
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "cold": cold,
        "adapt": adapt,
        "move": move,
        "teach": teach,
        "episodes": episodes,
        "pool": pool,
        "train": train,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="which parts; all but train if left out")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.json"))
    arguments = parser.parse_args()
    chosen = arguments.parts or [name for name in parts if name != "train" or arguments.train]
    if unknown := [name for name in chosen if name not in parts]:
        parser.error(f'there is no part "{unknown[0]}"; choose from {", ".join(parts)}')
    figures = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        figures |= {name: parts[name](), "threads": torch.get_num_threads()}
        print(name, json.dumps(figures[name], indent=2), flush=True)
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def cold() -> dict[str, Any]:
    """Milliseconds of whole processes."""
    with TemporaryDirectory() as folder:
        task, text = Path(folder) / "task", Path(folder) / "text.txt"
        support = load_dataset("starter").sampler("test", way=5, shot=5, query=1, seed=0, n_episodes=1)[0].support
        MetaLearner.untrained().adapt(support).save(task)
        text.write_text("has my package been shipped yet\n", encoding="utf-8")
        kshot = [sys.executable, "-m", "kshot.cli"]
        commands = {
            "help": [*kshot, "--help"],
            "predict": [*kshot, "predict", str(task), str(text), "--format", "jsonl"],
            "import_torch": [sys.executable, "-c", "import torch"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(TURNS + 1):
            for name, command in commands.items():
                begin = perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if turn:  # the first reads the files of the disk
                    times[name].append(1_000 * (perf_counter() - begin))
    return {name: spread(found) for name, found in times.items()}


def adapt() -> dict[str, Any]:
    """Milliseconds from texts to a task."""
    dataset = load_dataset("clinc150")
    every = [*dataset.train, *dataset.valid, *dataset.test]
    samplers = {
        "5-way 5-shot": dataset.sampler("test", way=5, shot=5, query=1, seed=0, n_episodes=21),
        "150-way 5-shot": EpisodeSampler(every, way="all", shot=5, query=1, seed=0, n_episodes=TURNS),
    }
    figures: dict[str, Any] = {}
    for algorithm in HEADS:
        learner = MetaLearner.untrained(algorithm=algorithm)
        for name, sampler in samplers.items():
            times = []
            for i in range(len(sampler)):
                episode = sampler[i]
                learner.learner.encoder.vocabulary.forget()
                begin = perf_counter()
                learner.adapt(episode.support, classes=episode.classes)
                times.append(1_000 * (perf_counter() - begin))
            figures.setdefault(name, {})[algorithm] = spread(times[1:])
    return figures


def move() -> dict[str, Any]:
    """Milliseconds from tokens to a State."""
    untrained = MetaLearner.untrained().learner
    sampler = load_dataset("clinc150").sampler("test", way=5, shot=5, query=1, seed=0, n_episodes=11)
    supports = [collate(untrained, sampler[i])[0] for i in range(len(sampler))]
    figures = {}
    for moves in ("top:1", "top:2", "layers", "all"):
        settings = AlgorithmSettings(name="maml", inner={"moves": moves, "steps": 5})
        learner = build_learner(settings, untrained.encoder, untrained.task).eval()
        times = []
        for support in supports:
            begin = perf_counter()
            learner.adapt(support)
            times.append(1_000 * (perf_counter() - begin))
        figures[moves] = spread(times[1:])
    return figures


def teach() -> dict[str, Any]:
    """Milliseconds from a correction to the task that has learned it, and to the folder that holds it."""
    dataset = load_dataset("clinc150")
    every = [*dataset.train, *dataset.valid, *dataset.test]
    figures: dict[str, Any] = {}
    for name, sampler in {
        "5-way 5-shot": dataset.sampler("test", way=5, shot=5, query=5, seed=0, n_episodes=1),
        "150-way 5-shot": EpisodeSampler(every, way="all", shot=5, query=1, seed=0, n_episodes=1),
    }.items():
        episode = sampler[0]
        for algorithm in HEADS:
            with TemporaryDirectory() as folder:
                MetaLearner.untrained(algorithm=algorithm).adapt(episode.support).save(folder)
                task = load_task(folder)
                times: dict[str, list[float]] = {"learned": [], "saved": []}
                for example in episode.query[:21]:
                    begin = perf_counter()
                    task = task.teach(example)
                    learned = perf_counter()
                    task.save(folder)
                    times["learned"].append(1_000 * (learned - begin))
                    times["saved"].append(1_000 * (perf_counter() - learned))
            figures.setdefault(name, {})[algorithm] = {what: spread(each[1:]) for what, each in times.items()}
    return figures


def episodes() -> dict[str, Any]:
    """Episodes a second: drawn, and scored."""
    dataset = load_dataset("clinc150")

    def sampler(n: int) -> EpisodeSampler:
        return dataset.sampler("test", way=5, shot=5, query=5, seed=0, n_episodes=n)

    figures: dict[str, Any] = {"drawn": rate(lambda: draw_all(sampler(20_000)), 20_000), "scored": {}}
    for algorithm in HEADS:
        learner = MetaLearner.untrained(algorithm=algorithm).learner
        with torch.no_grad(), learner.encoder.remembering():
            score_together(sampler(4_000), learner)  # now every vector is known
            figures["scored"][algorithm] = {
                "together": rate(lambda learner=learner: score_together(sampler(4_000), learner), 4_000),
                "one_by_one": rate(lambda learner=learner: score_each(learner, sampler(400)), 400),
            }
    return figures


def draw_all(sampler: EpisodeSampler) -> None:
    for i in range(len(sampler)):
        sampler.draw(i)


def pool() -> dict[str, Any]:
    """A sampler over a million texts, in a process of its own."""
    program = f"from latency import million; print(million({POOL}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def million(n_texts: int) -> str:
    examples = [TextExample(f"text number {i} of a large collection", f"class {i % 1_000}") for i in range(n_texts)]
    before = peak_megabytes()
    begin = perf_counter()
    sampler = EpisodeSampler(examples, way=5, shot=5, query=5, seed=0, n_episodes=20_000)
    built = perf_counter() - begin
    held = peak_megabytes()
    drawn = rate(lambda: draw_all(sampler), len(sampler))
    after = peak_megabytes()
    figures = {
        "texts": n_texts,
        "seconds_to_build": built,
        "megabytes_of_texts": before,
        "megabytes_of_sampler": held - before,
        "megabytes_of_drawing": after - held,
        "drawn": drawn,
    }
    return json.dumps(figures)


def peak_megabytes() -> float:
    """The most memory that this process has had; `resource` counts that of the process that started it, too."""
    [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM")]
    return float(line.split()[1]) / 1_024


def train() -> dict[str, Any]:
    """Seconds of the recipe minilm-clinc150, from a cold start."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        begin = perf_counter()
        subprocess.run([sys.executable, "-m", "kshot.cli", "train", "minilm-clinc150", "--out", str(run)], check=True)
        seconds = perf_counter() - begin
        about = json.loads((run / "learner" / "kshot.json").read_text(encoding="utf-8"))["about"]
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    best = next(row for row in logged if row.get("step") == about["best_step"] and "seconds" in row)
    return {
        "seconds_to_best": best["seconds"],
        "best_step": about["best_step"],
        "valid": {key: each for key, each in about["valid"].items()},
        "seconds": seconds,
    }


def rate(work: Callable[[], object], n: int) -> dict[str, float]:
    """How many a second: the median and the fastest of the turns."""
    times = []
    for _ in range(TURNS):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return {"per_second": n / median(times), "fastest": n / min(times)}


def spread(times: list[float]) -> dict[str, float]:
    """Milliseconds: the median, the fastest and the slowest."""
    return {"median_ms": median(times), "fastest_ms": min(times), "slowest_ms": max(times)}


if __name__ == "__main__":
    main()
