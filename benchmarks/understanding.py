"""Dialogues in new domains, from a few turns: meta-learned understanding beside what anyone would try.

    python benchmarks/understanding.py                              every row
    python benchmarks/understanding.py --rows ridge "jointly trained, fine-tuned" --targets Banks
    python benchmarks/understanding.py --part valid                 what tasks and heads are chosen by
    python benchmarks/understanding.py --data snips                 requests, one of seven domains being new

The sources are the training domains of `sgd`; the targets are alarms, banks and calendars, with 1, 5 and 10 turns an
intent. In `snips` a target is one domain, the sources are five others. The supports are drawn from a target's train
turns, the same for all rows; --queries turns of its test part, the same every time, judge. Every row starts from MiniLM
and reads as many turns of history; those that learn from the sources see as many of their turns, in as many updates,
but for those "after joint", which go on for a quarter more, and means, which cost as much as their members together.
The steps and rates of every row that takes steps are chosen on the `valid` domains (travel and weather; in `snips` the
seventh), from the same multiples of its own (--out/settings). One JSON file a row and target is written to --out; what
it holds already is not measured again.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rows import Table, file_of, mean, read, write
from sources import Fixed, evaluate_choice, freeze_embeddings, fresh_encoder, jointly_trained

from kshot.artefact import load_learner, save_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import UtteranceDataset
from kshot.data.examples import Episode, TextExample, Utterance
from kshot.meta.algorithms import build_learner
from kshot.meta.average import average
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta.state import State
from kshot.meta_learner import MetaLearner
from kshot.models.encoder import Encoder
from kshot.run.config import Recipe, load_recipe, parse_recipe
from kshot.run.evaluate import collate, evaluate
from kshot.run.train import train
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.tagging import Tagging
from kshot.tasks.understanding import frame_scores

MEASURES = ("joint", "intent", "slot")
HISTORY = 2
RECIPE = "understanding-domains"
STEPS, SCALES = (10, 20), (1.0, 3.0)  # what every row that takes steps tries; rates in multiples of its own


@dataclass(frozen=True)
class Data:
    """Domains to learn from, and new ones.

    Attributes:
        splits: For each target of a part the split that has it.
        shots: Turns of an intent to learn from.
        timed: The number of turns for which adapting is timed, and by which steps and rates are chosen.
        recipe: Where meta-training differs from the recipe that kshot has.
        unit: What is learned from.
    """

    splits: dict[str, dict[str, str]]
    shots: tuple[int, ...]
    timed: int
    recipe: tuple[str, ...] = ()
    unit: str = "turns an intent"


DATA = {
    "sgd": Data(
        {
            "test": dict.fromkeys(("Alarm", "Banks", "Calendar"), "domains"),
            "valid": dict.fromkeys(("Travel", "Weather"), "domains"),
        },
        shots=(1, 5, 10),
        timed=5,
    ),
    # A request comes alone, and a domain has one intent: the support has to show up to 14 slots.
    "snips": Data(
        {
            "test": {"AddToPlaylist": "01", "BookRestaurant": "02", "GetWeather": "03"},
            "valid": {"BookRestaurant": "01", "GetWeather": "02", "PlayMusic": "03"},
        },
        shots=(5, 10, 20),
        timed=10,
        recipe=("training.steps=150", "training.shot=[4, 20]", "validation.every=75", "validation.shot=[5, 20]"),
        unit="requests",
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to learn a target.

    Attributes:
        start: What its encoder was trained by: `none`, `joint`, `separate` (two of them), `three of joint` (their
            mean), or a name in `RECIPES` or `MEANS`.
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
TAGS = {"scheme": "io", **LEARNED}  # of an encoder that has learned to find spans
NNSHOT = {"name": "nearest-neighbour", "heads": {"intent": {"kind": "prototypes"}}}
ADAM = {"steps": 20, "rate": 1e-4, "moves": "layers", "batch": 10, "optimiser": "adam"}
FINE_TUNING = {"name": "fine-tuning", "inner": ADAM}
# First order, and LayerNorm besides the head: what a few turns can move, and an update costs little more than without.
INNER = {"rate": 0.02, "head_rate": 0.5, "moves": "norm", "order": 1}
LINEAR = {"normalise": True}
RECIPES: dict[str, dict[str, Any]] = {
    "ridge": {},  # the recipe that kshot has
    "ridge-2": {"seed": 2},
    "ridge-3": {"seed": 3},
    "anil": {"algorithm": {"name": "anil", "head": LINEAR, "inner": {"steps": 10, "rate": 0.5}}},
    "decomposed": {
        "algorithm": {"name": "decomposed", "inner": {"steps": 10, "rate": 0.05, "moves": "none", "order": 2}},
        "task": {"scheme": "spans"},
    },
}
RECIPES |= {f"decomposed-{seed}": RECIPES["decomposed"] | {"seed": seed} for seed in (2, 3)}
# These go on from the jointly trained encoder, for a quarter of the updates. The inner loop of `protomaml-of-layers` is
# fine-tuning as the other rows do it.
for _name, _algorithm in {
    "ridge": {"head": {"scale": 20.0}},
    "first-order-maml": {"head": LINEAR, "inner": {"steps": 5, **INNER}},
    "anil": {"head": LINEAR, "inner": {"steps": 10, "rate": 0.5}},
    "protomaml": {"inner": {"steps": 3, **INNER, "head_rate": 20.0}},
    "protomaml-of-layers": {"name": "protomaml", "inner": {**ADAM, "steps": 10}},
    "reptile": {"head": LINEAR, "inner": {"steps": 5, **INNER}},
}.items():
    RECIPES[f"{_name}-after-joint"] = {"algorithm": {"name": _name, **_algorithm}, "start": "joint"}
for _name in ("ridge-after-joint", "anil-after-joint"):
    RECIPES |= {f"{_name}-{seed}": RECIPES[_name] | {"seed": seed} for seed in (2, 3)}
# The mean of encoders that were trained in several ways, or from several seeds; they adapt as the first does.
MEANS = {
    "ridge and joint": ("ridge", "joint"),
    "ridge and ridge-after-joint": ("ridge", "ridge-after-joint"),
    "three of ridge": ("ridge", "ridge-2", "ridge-3"),
    "three of ridge and ridge-after-joint": ("ridge", "ridge-2", "ridge-3", "ridge-after-joint"),
    "three of anil-after-joint": ("anil-after-joint", "anil-after-joint-2", "anil-after-joint-3"),
    "three of anil-after-joint and of ridge": (
        "anil-after-joint",
        "anil-after-joint-2",
        "anil-after-joint-3",
        "ridge",
        "ridge-2",
        "ridge-3",
    ),
    "three of decomposed": ("decomposed", "decomposed-2", "decomposed-3"),
    "three of ridge, ridge-after-joint and decomposed": (
        "ridge",
        "ridge-2",
        "ridge-3",
        "ridge-after-joint",
        "decomposed",
    ),
    "three of ridge and of decomposed": tuple(
        f"{name}{seed}" for name in ("ridge", "decomposed") for seed in ("", "-2", "-3")
    ),
    "three of each": tuple(f"{name}{seed}" for name in ("ridge", "ridge-after-joint") for seed in ("", "-2", "-3")),
}
THREE_OF_JOINT = "three of joint"
RIDGE = {"name": "ridge", "head": {"scale": 20.0}}  # as the recipe has it
ANCHORED = {**RIDGE, "heads": {"tag": {"kind": "anchored"}}}  # better slots on `valid`
MATCHED = {**RIDGE, "heads": {"tag": {"kind": "matching"}}}  # worse there
HEADS = ("anchored", "linear-probe", "matching")  # over the encoder of `ridge`
ROWS: dict[str, Row] = {
    "frozen prototypes and nnshot": Row("none", NNSHOT, IO),
    "jointly trained, prototypes and nnshot": Row("joint", NNSHOT, WORDS),
    "jointly trained, ridge": Row("joint", {"name": "ridge"}, WORDS),
    "jointly trained, fine-tuned": Row("joint", FINE_TUNING, WORDS),
    "classifier and tagger, fine-tuned": Row("separate", FINE_TUNING, WORDS),
    "mean of three of joint, fine-tuned": Row(THREE_OF_JOINT, FINE_TUNING, WORDS),
    **{name: Row(name) for name in RECIPES},
    **{f"ridge, {name.replace('-', ' ')}": Row("ridge", {"name": name}) for name in HEADS},
    "ridge, chosen": Row("ridge", choice=("ridge", *HEADS)),
    **{f"decomposed, {name}": Row("decomposed", {"name": name}, TAGS) for name in ("ridge", "anchored")},
    "ridge, fine-tuned": Row("ridge", FINE_TUNING),
    "ridge-after-joint, fine-tuned": Row("ridge-after-joint", FINE_TUNING),
    **{f"mean of {name}": Row(name) for name in MEANS},
    "mean of three of decomposed, ridge": Row("three of decomposed", {"name": "ridge"}, TAGS),
    "mean of three of decomposed, anchored": Row("three of decomposed", {"name": "anchored"}, TAGS),
    **{f"mean of {name}, slots anchored": Row(name, ANCHORED) for name in MEANS},
    "mean of three of ridge and ridge-after-joint, slots matched": Row("three of ridge and ridge-after-joint", MATCHED),
    "mean of ridge and joint, fine-tuned": Row("ridge and joint", FINE_TUNING),
    "mean of three of ridge and ridge-after-joint, fine-tuned": Row(
        "three of ridge and ridge-after-joint", FINE_TUNING
    ),
}
BASELINES = tuple(ROWS)[:6]
MAIN = ("ridge", "ridge, fine-tuned", "mean of three of ridge and ridge-after-joint")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    targets = DATA[arguments.data].splits[arguments.part]
    out = arguments.out if arguments.part == "test" else arguments.out / arguments.part
    for name in arguments.rows:
        ready: dict[str, tuple[MetaLearner, ...]] = {}
        for target in arguments.targets or targets:
            path, split = file_of(out, name, target), targets[target]
            figures = read(path) if path.is_file() else {"row": name, "target": target}
            for shot in arguments.shots or DATA[arguments.data].shots:
                if str(shot) in figures:
                    continue
                dataset = load_dataset(arguments.data, split=split)
                assert isinstance(dataset, UtteranceDataset)
                if split not in ready:
                    made = prepared(ROWS[name], dataset, arguments)
                    for each in made:
                        each.learner.precision = getattr(torch, arguments.precision)
                    ready[split] = settled(made, name, dataset, arguments)
                of_target = one_domain(dataset, arguments.part, target)
                figures[str(shot)] = measure(ready[split], ROWS[name], of_target, shot, arguments)
                write(path, figures)
                print(name, target, shot, *(f"{m} {mean(figures, shot, m)}" for m in MEASURES), flush=True)
    show(out, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sgd", choices=list(DATA))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--part", default="test", choices=["test", "valid"])
    parser.add_argument("--targets", nargs="*", help="domains; all of the part if left out")
    parser.add_argument("--shots", nargs="*", type=int, help="sizes of the support; all if left out")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of adapting")
    parser.add_argument("--draws", type=int, default=20, help="supports of each size")
    parser.add_argument("--valid-draws", type=int, default=3, help="supports of a domain that settings are chosen by")
    parser.add_argument("--queries", type=int, default=100, help="test turns that judge, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="benchmarks/results/understanding, or snips in it, if left out")
    parser.add_argument("--runs", type=Path, default=Path("runs/understanding"))
    arguments = parser.parse_args()
    if arguments.out is None:
        arguments.out = Path("benchmarks/results/understanding") / ("" if arguments.data == "sgd" else arguments.data)
    return arguments


def one_domain(dataset: UtteranceDataset, part: str, target: str) -> UtteranceDataset:
    """The data set with one new domain alone."""
    return replace(dataset, test=tuple(each for each in dataset.part(part) if each.task == target))


def runs_of(dataset: UtteranceDataset, arguments: argparse.Namespace) -> Path:
    """Where what was trained on the sources of a split is kept."""
    folder: Path = arguments.runs
    return folder if dataset.name.startswith("sgd") else folder / dataset.name.replace("/", "-")


# -- learning from the sources -----------------------------------------------------------------------------------------


def prepared(row: Row, dataset: UtteranceDataset, arguments: argparse.Namespace) -> tuple[MetaLearner, ...]:
    """The learner of a row, or a classifier and a tagger, trained on the sources once and kept in --runs."""
    settings = AlgorithmSettings(**row.algorithm)
    if row.start in RECIPES or row.start in MEANS:
        trained = [learner_from(start, dataset, arguments) for start in MEANS.get(row.start, (row.start,))]
        learner = average(trained) if len(trained) > 1 else trained[0]
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
        if row.start == THREE_OF_JOINT:
            encoder = average([joint(dataset, arguments, seed) for seed in (1, 2, 3)]).encoder
        else:
            encoder = fresh_encoder() if row.start == "none" else joint_encoder(kind, dataset, arguments)
        freeze_embeddings(encoder)
        made.append(MetaLearner(build_learner(settings, encoder, task), {}))
    return tuple(made)


def learner_from(start: str, dataset: UtteranceDataset, arguments: argparse.Namespace) -> Learner:
    """What was trained on the sources, `joint` or a name in `RECIPES`; once, and kept in --runs."""
    if start == "joint":
        return joint(dataset, arguments, 1)
    folder = runs_of(dataset, arguments) / start
    if not (folder / "learner").is_dir():
        train(recipe_of(start, dataset, arguments), folder, resume=folder.is_dir())
    return load_learner(folder)[0]


def joint(dataset: UtteranceDataset, arguments: argparse.Namespace, seed: int) -> Learner:
    """A learner over the jointly trained encoder."""
    encoder = joint_encoder("understanding", dataset, arguments, seed=seed)
    return build_learner(AlgorithmSettings(name="prototypical"), encoder, build_task({"kind": "understanding"}))


def recipe_of(name: str, dataset: UtteranceDataset, arguments: argparse.Namespace) -> Recipe:
    """Meta-training of a row: the recipe that kshot has, on these sources, with another algorithm."""
    values = base_recipe(arguments).model_dump()
    changes = RECIPES[name]
    values["title"] = f"{name}, on the sources of {dataset.name}"
    values["data"] = dict(zip(("name", "split"), dataset.name.split("/"), strict=True))
    values["algorithm"] = changes.get("algorithm", values["algorithm"])
    values["task"] |= changes.get("task", {})
    values["seed"] = changes.get("seed", values["seed"])
    if "start" in changes:
        joint_encoder("understanding", dataset, arguments, seed=values["seed"])
        values["start"] = str(joint_folder("understanding", dataset, arguments, values["seed"]))
        values["training"]["steps"] //= 4
        values["validation"]["every"] = values["training"]["steps"]
        values["validation"]["keep_start"] = False  # what it came to is measured, better or worse
    return parse_recipe(values, name)


def base_recipe(arguments: argparse.Namespace) -> Recipe:
    return load_recipe(RECIPE, DATA[arguments.data].recipe)


def joint_folder(kind: str, dataset: UtteranceDataset, arguments: argparse.Namespace, seed: int) -> Path:
    return runs_of(dataset, arguments) / (f"joint-{kind}" if seed == 1 else f"joint-{kind}-{seed}")


def joint_encoder(kind: str, dataset: UtteranceDataset, arguments: argparse.Namespace, *, seed: int = 1) -> Encoder:
    """MiniLM trained on all sources for one kind of task, each by softmax layers of its own over its labels."""
    folder = joint_folder(kind, dataset, arguments, seed)
    if (folder / "learner").is_dir():
        return load_learner(folder)[0].encoder
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
    encoder = jointly_trained(task, domains, steps=base_recipe(arguments).training.steps, rate=2e-4, seed=seed)
    learner = build_learner(AlgorithmSettings(name="prototypical"), encoder, task)
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


# -- choosing steps and rates -----------------------------------------------------------------------------------------


def settled(
    learners: tuple[MetaLearner, ...], name: str, dataset: UtteranceDataset, arguments: argparse.Namespace
) -> tuple[MetaLearner, ...]:
    """The learners of a row with the steps and the multiple of their rates that are best on the `valid` domains."""
    if not any(each.learner.inner.settings.steps for each in learners):
        return learners
    path = file_of(arguments.out / "settings", name, dataset.name.replace("/", "-"))
    if not path.is_file():
        found: dict[str, float] = {}
        for scale in SCALES:
            scaled = [with_inner(each.learner, scale, max(STEPS)) for each in learners]
            scores = np.concatenate([along_the_way(scaled, each) for each in of_valid(dataset, arguments)])
            means = scores.mean(axis=0).tolist()
            found |= {f"{steps} {scale}": value for steps, value in zip(STEPS, means, strict=True)}
        steps, scale = max(found, key=lambda key: found[key]).split()
        write(path, {"row": name, "steps": int(steps), "scale": float(scale), "joint": found})
        print(f"{name}: {steps} steps at {scale} times its rates", flush=True)
    chosen = read(path)
    return tuple(MetaLearner(with_inner(each.learner, chosen["scale"], chosen["steps"]), {}) for each in learners)


def with_inner(learner: Learner, scale: float, steps: int) -> Learner:
    """The same learner with a multiple of the rates of its inner loop, and other steps for new tasks."""
    inner = learner.inner.settings
    changes: dict[str, Any] = {"test_steps": steps, "rate": scale * inner.rate}
    if inner.head_rate is not None:
        changes["head_rate"] = scale * inner.head_rate
    settings = learner.settings.model_copy(update={"inner": {**learner.settings.inner, **changes}})
    other = build_learner(settings, learner.encoder, learner.task)
    other.load_state_dict(learner.state_dict())
    other.precision = learner.precision
    return other.eval()


def of_valid(dataset: UtteranceDataset, arguments: argparse.Namespace) -> list[Fixed]:
    """Episodes of each `valid` domain."""
    return [
        judged(one_domain(dataset, "valid", name), DATA[arguments.data].timed, arguments.valid_draws, arguments.queries)
        for name in sorted({each.task for each in dataset.valid})
    ]


def along_the_way(learners: Sequence[Learner], episodes: Fixed) -> np.ndarray:
    """Joint accuracy after each of `STEPS` of one path: (n_episodes, len(STEPS))."""
    rows = []
    for episode in episodes.episodes:
        parts = parts_of(learners, episode)
        supports = [collate(each, part)[0] for each, part in zip(learners, parts, strict=True)]
        paths = [
            each.path(support, max(STEPS), None if each.moves else each.vectors(support).detach())
            for each, support in zip(learners, supports, strict=True)
        ]
        states = enumerate(zip(*paths, strict=True))
        rows.append([score(learners, each, parts, episode)[0] for step, each in states if step in STEPS])
    return np.array(rows)


# -- learning a target -------------------------------------------------------------------------------------------------


def judged(dataset: UtteranceDataset, shot: int, draws: int, queries: int) -> Fixed:
    """Draws of a new domain, judged by turns of its test part."""
    asked = [each for each in dataset.test if each.part == "test"]
    return Fixed(dataset, asked, shot=shot, draws=draws, queries=queries)


def measure(
    learners: Sequence[MetaLearner], row: Row, dataset: UtteranceDataset, shot: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The measures of each draw of some turns, and the time of an adaptation."""
    begin = perf_counter()
    episodes = judged(dataset, shot, arguments.draws, arguments.queries)
    timed = shot == DATA[arguments.data].timed
    more: dict[str, Any] = {}
    encoder = learners[0].learner.encoder
    with nullcontext() if learners[0].learner.moves else encoder.remembering():  # the queries are encoded once
        if len(learners) > 1:
            scores, seconds = separately([each.learner for each in learners], episodes)
            more = {"seconds_to_adapt": seconds} if timed else {}
        elif row.choice:
            result, chosen = evaluate_choice(learners[0], row.choice, episodes, time=False)
            scores, more["chosen"] = result.scores, dict(chosen)
        else:
            result = evaluate(learners[0].learner, episodes, time=timed)
            scores = result.scores
            more = {"seconds_to_adapt": result.seconds} if timed else {}
    return {
        **{name: [round(float(value), 5) for value in column] for name, column in zip(MEASURES, scores.T, strict=True)},
        "queries": max(len(each.query) for each in episodes.episodes),
        "arithmetic": arguments.precision,
        "seconds": perf_counter() - begin,
        **more,
    }


def separately(learners: Sequence[Learner], episodes: Fixed) -> tuple[np.ndarray, float]:
    """A classifier and a tagger adapt to the same supports, each for itself; and the median time of both."""
    scores, seconds = [], []
    for episode in episodes.episodes:
        begin = perf_counter()
        parts = parts_of(learners, episode)
        states = [each.adapt(collate(each, part)[0]) for each, part in zip(learners, parts, strict=True)]
        seconds.append(perf_counter() - begin)
        scores.append(score(learners, states, parts, episode))
    return np.array(scores), float(np.median(seconds))


def parts_of(learners: Sequence[Learner], episode: Episode) -> list[Episode]:
    """What each learner of a row sees of an episode: all of it, or intents and slots apart."""
    if len(learners) == 1:
        return [episode]
    parts = []
    for kind in (each.task.kind for each in learners):
        support, query = (
            tuple(one_of(kind, each) for each in side if isinstance(each, Utterance))
            for side in (episode.support, episode.query)
        )
        classes = dict.fromkeys(name for each in support for name in each.labels)
        parts.append(Episode(support, query, tuple(classes), episode.index))
    return parts


def score(
    learners: Sequence[Learner], states: Sequence[State], parts: Sequence[Episode], episode: Episode
) -> tuple[float, ...]:
    """The measures of an episode; a classifier and a tagger say a frame together."""
    queries = [collate(each, part)[1] for each, part in zip(learners, parts, strict=True)]
    with torch.no_grad():
        if len(learners) == 1:
            [learner], [state], [query] = learners, states, queries
            return learner.task.score(learner.scorer(state, query), query, episode.query, episode.classes)
        classifier, tagger = learners
        assert isinstance(tagger.task, Tagging)
        texts, sentences = parts
        chosen = classifier.logits(states[0], queries[0])["label"].argmax(dim=-1).tolist()
        lengths = [len(each.tokens) for each in sentences.query]  # type: ignore[attr-defined]
        found = tagger.task.find(tagger.scorer(states[1], queries[1]), queries[1], lengths, sentences.classes)
    return frame_scores(
        [(each.intent, each.sentence.spans) for each in episode.query],  # type: ignore[attr-defined]
        [(texts.classes[k], [one.span for one in each]) for k, each in zip(chosen, found, strict=True)],
    )


# -- showing -----------------------------------------------------------------------------------------------------------


def show(out: Path, arguments: argparse.Namespace) -> None:
    """Prints the measures as Markdown tables, and meta-learned rows beside the best baseline, paired."""
    data = DATA[arguments.data]
    table = Table(tuple(ROWS), BASELINES, tuple(data.splits[arguments.part]), data.shots, data.unit, data.timed)
    found = table.found(out)
    for measure in MEASURES:
        table.show_means(found, measure, interval=True)
    for measure in ("joint",) if arguments.data == "sgd" else ("joint", "slot"):
        table.show_ahead(found, "Best meta-learned row", [name for name in ROWS if name not in BASELINES], measure)
        for name in MAIN:
            table.show_ahead(found, name, [name], measure)


if __name__ == "__main__":
    main()
