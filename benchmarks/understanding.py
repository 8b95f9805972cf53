"""Dialogues in new domains, from 1, 5 and 10 turns an intent: meta-learned understanding beside what anyone would try.

    python benchmarks/understanding.py                              every row
    python benchmarks/understanding.py --rows ridge "jointly trained, fine-tuned" --targets Banks
    python benchmarks/understanding.py --part valid                 what settings are chosen by

The sources are the training domains of `sgd`; settings are chosen on its `valid` domains (travel, weather); the targets
are alarms, banks and calendars. The supports are drawn from a target's train dialogues, the same for all rows;
--queries turns of its test dialogues, the same every time, judge. Every row starts from MiniLM and reads as many turns
of history; those that learn from the sources see as many of their turns, in as many updates. One JSON file a row and
target is written to --out; what it holds already is not measured again.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rows import Table, file_of, mean, read, write
from torch import nn

from kshot.artefact import load_learner, save_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import UtteranceDataset
from kshot.data.examples import Episode, TextExample, Utterance
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta_learner import MetaLearner
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, encode
from kshot.models.pretrained import PretrainedSettings
from kshot.models.selection import select
from kshot.run.config import Recipe, load_recipe, parse_recipe
from kshot.run.evaluate import collate, evaluate
from kshot.run.train import train
from kshot.tasks.classification import Classification
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.tagging import Tagging
from kshot.tasks.understanding import frame_scores

TARGETS = {"test": ("Alarm", "Banks", "Calendar"), "valid": ("Travel", "Weather")}
SHOTS = (1, 5, 10)
TIMED = 5  # the number of turns for which adapting is timed
MEASURES = ("joint", "intent", "slot")
ENCODER = {"kind": "pretrained", "model": "minilm", "max_length": 128}
HISTORY = 2
RECIPE = "understanding-domains"
TURNS = 24  # of one domain in an update, two domains an update: what both ways of training see on average


@dataclass(frozen=True)
class Row:
    """One way to learn a target.

    Attributes:
        start: What its encoder was trained by: `none`, `joint`, `separate` (two of them), or a name in `RECIPES`.
        algorithm: How it adapts, if not as it was trained.
        task: How turns become items, if not as it was trained.
        choice: Algorithms of which each draw takes the one that is best at support turns that are left out.
    """

    start: str
    algorithm: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    choice: tuple[str, ...] = ()


# Slots seldom stand side by side in an utterance, so IO says as much as BIO with fewer labels: the best on `valid`.
LEARNED = {"transitions": "learned", "transition_strength": 0.3}
IO, WORDS = {"scheme": "io", "class_names": False}, {"scheme": "io", "class_names": False, **LEARNED}
NNSHOT = {"name": "nearest-neighbour", "heads": {"intent": {"kind": "prototypes"}}}
FINE_TUNING = {"name": "fine-tuning", "inner": {"steps": 30, "rate": 1e-4, "moves": "layers", "batch": 10}}
# First order, and LayerNorm besides the head: what a few turns can move, and an update costs little more than without.
INNER = {"rate": 0.02, "head_rate": 0.5, "moves": "norm", "order": 1}
LINEAR = {"normalise": True}
RECIPES: dict[str, dict[str, Any]] = {
    "ridge": {},  # the recipe that kshot has
    "decomposed": {
        "algorithm": {"name": "decomposed", "inner": {"steps": 10, "rate": 0.05, "moves": "none", "order": 2}},
        "task": {"scheme": "spans"},
    },
    "anil": {"algorithm": {"name": "anil", "head": LINEAR, "inner": {"steps": 10, "rate": 0.5}}},
    "first-order-maml": {"algorithm": {"name": "first-order-maml", "head": LINEAR, "inner": {"steps": 5, **INNER}}},
    "protomaml": {"algorithm": {"name": "protomaml", "inner": {"steps": 3, **INNER, "head_rate": 20.0}}},
}
HEADS = ("anchored", "linear-probe", "matching")  # over the encoder of `ridge`
ROWS: dict[str, Row] = {
    "frozen prototypes and nnshot": Row("none", NNSHOT, IO),
    "jointly trained, prototypes and nnshot": Row("joint", NNSHOT, WORDS),
    "jointly trained, ridge": Row("joint", {"name": "ridge"}, WORDS),
    "jointly trained, fine-tuned": Row("joint", FINE_TUNING, WORDS),
    "classifier and tagger, fine-tuned": Row("separate", FINE_TUNING, WORDS),
    **{name: Row(name) for name in RECIPES},
    **{f"ridge, {name.replace('-', ' ')}": Row("ridge", {"name": name}) for name in HEADS},
    "ridge, chosen": Row("ridge", choice=("ridge", *HEADS)),
    "ridge, fine-tuned": Row("ridge", FINE_TUNING),
}
BASELINES = tuple(ROWS)[:5]
MAIN = ("ridge", "ridge, chosen")  # the rows that need no look at the target to be picked


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    dataset = load_dataset("sgd")
    assert isinstance(dataset, UtteranceDataset)
    out = arguments.out if arguments.part == "test" else arguments.out / arguments.part
    for name in arguments.rows:
        row = ROWS[name]
        learners: tuple[MetaLearner, ...] = ()
        for target in arguments.targets or TARGETS[arguments.part]:
            path = file_of(out, name, target)
            figures = read(path) if path.is_file() else {"row": name, "target": target}
            for shot in (each for each in arguments.shots if str(each) not in figures):
                learners = learners or prepared(row, dataset, arguments)
                figures[str(shot)] = measure(learners, row, of_target(dataset, arguments.part, target), shot, arguments)
                write(path, figures)
                print(name, target, shot, *(f"{m} {mean(figures, shot, m)}" for m in MEASURES), flush=True)
    show(out, TARGETS[arguments.part])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--part", default="test", choices=list(TARGETS))
    parser.add_argument("--targets", nargs="*", help="domains; all of the part if left out")
    parser.add_argument("--shots", nargs="*", type=int, default=list(SHOTS), choices=SHOTS)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of adapting")
    parser.add_argument("--draws", type=int, default=20, help="supports of each size")
    parser.add_argument("--queries", type=int, default=100, help="test turns that judge, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/understanding"))
    parser.add_argument("--runs", type=Path, default=Path("runs/understanding"))
    return parser.parse_args()


def of_target(dataset: UtteranceDataset, part: str, target: str) -> UtteranceDataset:
    """The data set with one new domain alone."""
    return replace(dataset, test=tuple(each for each in dataset.part(part) if each.task == target))


# -- learning from the sources -----------------------------------------------------------------------------------------


def prepared(row: Row, dataset: UtteranceDataset, arguments: argparse.Namespace) -> tuple[MetaLearner, ...]:
    """The learner of a row, or a classifier and a tagger, trained on the sources once and kept in --runs."""
    settings = AlgorithmSettings(**row.algorithm)
    if row.start in RECIPES:
        folder = arguments.runs / row.start
        if not (folder / "learner").is_dir():
            train(recipe_of(row.start), folder, resume=folder.is_dir())
        learner = load_learner(folder)[0]
        if row.algorithm or row.task:
            task = build_task(describe_task(learner.task) | row.task)
            learner = build_learner(settings if row.algorithm else learner.settings, learner.encoder, task)
        return (MetaLearner(learner, {}),)
    if row.start == "separate":
        kinds: tuple[tuple[str, dict[str, Any]], ...] = (("classification", {}), ("tagging", row.task))
    else:
        kinds = (("understanding", {"history": HISTORY, **row.task}),)
    made = []
    for kind, values in kinds:
        learned_from = (
            list(dataset.train) if kind == "understanding" else [one_of(kind, each) for each in dataset.train]
        )
        task = build_task({"kind": kind, **values}).learned_from(learned_from)
        encoder = fresh_encoder() if row.start == "none" else joint_encoder(kind, dataset, arguments)
        freeze(encoder)
        made.append(MetaLearner(build_learner(settings, encoder, task), {}))
    return tuple(made)


def fresh_encoder() -> Encoder:
    return build_encoder(PretrainedSettings(**ENCODER), [], seed=1)


def freeze(encoder: Encoder) -> None:
    """The token embeddings stay in every row."""
    layers = set(select(encoder, "layers"))
    for name, tensor in encoder.named_parameters():
        tensor.requires_grad_(name in layers)


def recipe_of(name: str) -> Recipe:
    """Meta-training of a row: the recipe that kshot has, with another algorithm."""
    values = load_recipe(RECIPE).model_dump()
    changes = RECIPES[name]
    if changes:
        values["title"] = f"{name}, on the sources of sgd"
        values["algorithm"] = changes["algorithm"]
        values["task"] |= changes.get("task", {})
    return parse_recipe(values, name)


def joint_encoder(kind: str, dataset: UtteranceDataset, arguments: argparse.Namespace) -> Encoder:
    """MiniLM trained on all sources for one kind of task, each by softmax layers of its own over its labels."""
    folder = arguments.runs / f"joint-{kind}"
    if (folder / "learner").is_dir():
        return load_learner(folder)[0].encoder
    encoder = fresh_encoder().train()
    freeze(encoder)
    own = (
        {"scheme": "bio"}
        if kind == "tagging"
        else {"scheme": "bio", "history": HISTORY}
        if kind != "classification"
        else {}
    )
    task = build_task({"kind": kind, "class_names": False, **own})
    domains: dict[str, list[Any]] = {}
    for example in dataset.train:
        domains.setdefault(example.task, []).append(example if kind == "understanding" else one_of(kind, example))
    names = sorted(domains)
    classes = {name: sorted({label for each in domains[name] for label in each.labels}) for name in names}
    steps = load_recipe(RECIPE).training.steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        heads = {}
        for name in names:
            groups = task.collate(domains[name][:1], classes[name], encoder.vocabulary, support=False).groups
            heads[name] = {group: nn.Linear(encoder.dim, items.n_labels) for group, items in groups.items()}
        of_encoder = [tensor for tensor in encoder.parameters() if tensor.requires_grad]
        of_heads = [tensor for each in heads.values() for head in each.values() for tensor in head.parameters()]
        optimiser = torch.optim.AdamW(
            [{"params": of_encoder, "peak": 2e-4}, {"params": of_heads, "peak": 1e-3}],
            betas=(0.9, 0.98),
            weight_decay=0.01,
        )
        rng = np.random.default_rng(1)
        for step in range(steps):
            rise, fall = (step + 1) / (0.1 * steps), 1 - step / steps
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * min(1.0, rise) * fall
            optimiser.zero_grad()
            for _ in range(2):
                name = names[int(rng.integers(len(names)))]
                chosen = [domains[name][k] for k in rng.choice(len(domains[name]), TURNS, replace=False)]
                batch = task.collate(chosen, classes[name], encoder.vocabulary, support=False)
                vectors = encode(encoder, batch.texts, None, torch.bfloat16, words=batch.words)
                losses = [
                    F.cross_entropy(heads[name][group](items.features(vectors)), items.labels)
                    for group, items in batch.groups.items()
                ]
                (torch.stack(losses).sum() / 2).backward()
            nn.utils.clip_grad_norm_([*of_encoder, *of_heads], 1.0)
            optimiser.step()
    learner = build_learner(AlgorithmSettings(name="prototypical"), encoder.eval(), task)
    save_learner(learner, folder / "learner", about={"title": f"MiniLM, trained jointly on the sources for {kind}"})
    return learner.encoder


def one_of(kind: str, example: Utterance) -> Any:
    """What a classifier or a tagger reads of an utterance: it with what was said before, or its words alone."""
    if kind == "tagging":
        return example.sentence
    turns = example.history[max(0, len(example.history) - HISTORY) :]
    said = " ".join(f"{turn.speaker}: {turn.text}" for turn in turns)
    text = f"{said} user: {example.text}" if said else example.text
    return TextExample(text, example.intent, example.task)


# -- learning a target -------------------------------------------------------------------------------------------------


class Fixed:
    """The episodes of a sampler, each judged by the same turns."""

    def __init__(self, dataset: UtteranceDataset, shot: int, draws: int, queries: int) -> None:
        drawn = dataset.sampler("test", way="all", shot=shot, query="all", seed=0, n_episodes=draws)
        asked = [each for each in dataset.test if each.part == "test"]
        chosen = np.random.default_rng(0).permutation(len(asked))[:queries]
        kept = {id(asked[k]) for k in chosen.tolist()}
        self.episodes = [
            Episode(each.support, tuple(row for row in each.query if id(row) in kept), each.classes, each.index)
            for each in drawn
        ]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, i: int) -> Episode:
        return self.episodes[i]


def measure(
    learners: Sequence[MetaLearner], row: Row, dataset: UtteranceDataset, shot: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The measures of each draw of some turns, and the time of an adaptation."""
    begin = perf_counter()
    episodes = Fixed(dataset, shot, arguments.draws, arguments.queries)
    more: dict[str, Any] = {}
    for each in learners:
        each.learner.precision = getattr(torch, arguments.precision)
    encoder = learners[0].learner.encoder
    with nullcontext() if learners[0].learner.moves else encoder.remembering():  # the queries are encoded once
        if len(learners) > 1:
            classifier, tagger = (each.learner for each in learners)
            scores = np.array([separate(classifier, tagger, episode) for episode in episodes.episodes])
        elif row.choice:
            scores, more["chosen"] = by_choice(learners[0], row.choice, episodes)
        else:
            result = evaluate(learners[0].learner, episodes, time=shot == TIMED)
            scores = result.scores
            more = {"seconds_to_adapt": result.seconds} if shot == TIMED else {}
    return {
        **{name: [round(float(value), 5) for value in column] for name, column in zip(MEASURES, scores.T, strict=True)},
        "queries": max(len(each.query) for each in episodes.episodes),
        "arithmetic": arguments.precision,
        "seconds": perf_counter() - begin,
        **more,
    }


def separate(classifier: Learner, tagger: Learner, episode: Episode) -> tuple[float, float, float]:
    """A classifier and a tagger adapt to the same support, each for itself; together they say a frame."""
    assert isinstance(classifier.task, Classification)
    assert isinstance(tagger.task, Tagging)
    queries = [each for each in episode.query if isinstance(each, Utterance)]
    parts = {}
    for kind in ("classification", "tagging"):
        support, query = ([one_of(kind, each) for each in side] for side in (episode.support, queries))  # type: ignore
        parts[kind] = Episode(
            tuple(support), tuple(query), tuple(dict.fromkeys(name for each in support for name in each.labels)), 0
        )
    with torch.no_grad():
        texts = parts["classification"]
        support, query = collate(classifier, texts)
        chosen = classifier.logits(classifier.adapt(support), query)["label"].argmax(dim=-1).tolist()
        sentences = parts["tagging"]
        support, query = collate(tagger, sentences)
        lengths = [len(each.tokens) for each in sentences.query]  # type: ignore[attr-defined]
        found = tagger.task.find(tagger.scorer(tagger.adapt(support), query), query, lengths, sentences.classes)
    return frame_scores(
        [(each.intent, each.sentence.spans) for each in queries],
        [(texts.classes[k], [one.span for one in each]) for k, each in zip(chosen, found, strict=True)],
    )


def by_choice(own: MetaLearner, names: Sequence[str], episodes: Fixed) -> tuple[np.ndarray, dict[str, int]]:
    """As `evaluate`, each draw by the algorithm that suits its support; and how often each was chosen."""
    scores, chosen = [], Counter[str]()
    for episode in episodes.episodes:
        best, _ = own.choose(names, episode.support)
        chosen[best.learner.settings.name] += 1
        scores.append(evaluate(best.learner, [episode], time=False).scores[0])
    return np.array(scores), dict(chosen)


# -- showing -----------------------------------------------------------------------------------------------------------


def show(out: Path, targets: Sequence[str]) -> None:
    """Prints the measures as Markdown tables, and meta-learned rows beside the best baseline, paired."""
    table = Table(tuple(ROWS), BASELINES, targets, SHOTS, "turns an intent", TIMED)
    found = table.found(out)
    for measure in MEASURES:
        table.show_means(found, measure, interval=True)
    table.show_ahead(found, "Best meta-learned row", [name for name in ROWS if name not in BASELINES], "joint")
    for name in MAIN:
        table.show_ahead(found, name, [name], "joint")


if __name__ == "__main__":
    main()
