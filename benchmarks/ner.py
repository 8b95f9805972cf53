"""Entities in new domains, from 5, 10, 20 and 50 tagged sentences: meta-learned taggers beside what anyone would try.

    python benchmarks/ner.py                              every row
    python benchmarks/ner.py --rows decomposed structshot --targets bc5cdr

The sources are the training domains of `ner_domains` (news, Wikipedia, social media, mixed genres, politics); settings
are chosen on its `valid` domain (literature); the targets are finance (sec_filings), medicine (bc5cdr, anem), science
and music. The supports are drawn from a target's train part, the same for all rows; --queries sentences of its test
part, the same every time, judge by micro F1 of whole entities. Every row starts from MiniLM; those that learn from the
sources see as many of their sentences, in as many updates, but for those that go on from the jointly trained encoder,
which see a quarter more. Rows that take steps on the support choose how many or how large from a few candidates, on
`valid`; what each came to is written to --out/valid. One JSON file a row and target is
written to --out; draws that it holds already are not measured again.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rows import Table, file_of, mean, read, write
from sources import ENCODER, PER_DOMAIN, Fixed, evaluate_choice, freeze_embeddings, fresh_encoder, jointly_trained

from kshot.artefact import load_learner, save_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import TaggedDataset
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta_learner import MetaLearner
from kshot.models.encoder import Encoder
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import estimate, evaluate
from kshot.run.train import train
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.tagging import Tagging, TaggingSettings

TARGETS = {
    "sec_filings": ("sec_filings", None),
    "bc5cdr": ("bc5cdr", None),
    "anem": ("anem", None),
    "science": ("crossner", "science"),
    "music": ("crossner", "music"),
}
SHOTS = (5, 10, 20, 50)
TIMED = 20  # the number of sentences for which adapting is timed


@dataclass(frozen=True)
class Row:
    """One way to learn a target.

    Attributes:
        start: What its encoder was trained by: `none`, `joint`, or the name of a recipe in `RECIPES`.
        algorithm: How it adapts, if not as it was trained.
        task: How sentences become items, if not as it was trained.
        choice: Algorithms of which each draw takes the one that is best at support sentences that are left out.
        inner: Settings of its inner loop, of which it takes those that are best on `valid`.
    """

    start: str
    algorithm: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    choice: tuple[str, ...] = ()
    inner: tuple[dict[str, Any], ...] = ({},)


# What follows what in the sources counts in every row but NNShot's, which is without by definition.
LEARNED = {"transitions": "learned", "transition_strength": 0.3}
IO, BIO = {"scheme": "io", "class_names": False}, {"scheme": "bio", "class_names": False, **LEARNED}
FINE_TUNING = {"name": "fine-tuning", "inner": {"steps": 30, "rate": 1e-4, "moves": "layers", "batch": 10}}
# First order, and LayerNorm besides the head: what 5 sentences can move, and an update costs little more than without.
INNER = {"rate": 0.02, "head_rate": 0.5, "moves": "norm", "order": 1}
LINEAR = {"normalise": True}
RECIPES: dict[str, dict[str, Any]] = {
    "decomposed": {
        "algorithm": {
            "name": "decomposed",
            "inner": {"steps": 10, "rate": 0.05, "moves": "none", "order": 2},
        },
        "task": {"scheme": "spans", **LEARNED},
    },
}
# The others go on from the source-trained encoder, for a quarter of the updates.
for _name, _algorithm in {
    "prototypical": {},
    "ridge": {"head": {"scale": 20.0}},
    "anil": {"head": LINEAR, "inner": {"steps": 10, "rate": 0.5}},
    "first-order-maml": {"head": LINEAR, "inner": {"steps": 5, **INNER}},
    "protomaml": {"inner": {"steps": 3, **INNER, "head_rate": 20.0}},
    "reptile": {"head": LINEAR, "inner": {"steps": 5, **INNER}},
}.items():
    RECIPES[_name] = {
        "algorithm": {"name": _name, **_algorithm},
        "task": {"scheme": "bio", **LEARNED},
        "start": "joint",
    }
RATES: tuple[dict[str, Any], ...] = ({}, {"rate": 3e-4})
# Few steps are enough to learn how to learn from; a new domain may need more, each on some of its sentences.
MORE = {"test_steps": 20, "batch": 10}
STEPS: dict[str, tuple[dict[str, Any], ...]] = {
    "anil": ({}, {"test_steps": 50}, {"test_steps": 50, "rate": 2.0}, {"test_steps": 200, "rate": 2.0}),
    "first-order-maml": ({}, MORE, {**MORE, "head_rate": 2.0}, {**MORE, "rate": 0.1, "head_rate": 2.0}),
    "protomaml": ({}, MORE, {**MORE, "head_rate": 80.0}, {**MORE, "rate": 0.1, "head_rate": 80.0}),
    "reptile": ({}, MORE, {**MORE, "head_rate": 2.0}, {**MORE, "rate": 0.1, "head_rate": 2.0}),
}
HEADS = ("linear-probe", "anchored", "ridge", "matching")  # over the encoder of `decomposed`
ROWS: dict[str, Row] = {
    "from scratch, fine-tuned": Row("none", FINE_TUNING, BIO, inner=RATES),
    "source-trained, fine-tuned": Row("joint", FINE_TUNING, BIO, inner=RATES),
    "source-trained, linear probe": Row("joint", {"name": "linear-probe"}, BIO),
    "source-trained, linear probe, names": Row("joint", {"name": "linear-probe"}, {**BIO, "class_names": True}),
    "nnshot": Row("joint", {"name": "nearest-neighbour"}, IO),
    "structshot": Row("joint", {"name": "nearest-neighbour"}, {**IO, **LEARNED}),
    **{name: Row(name, inner=STEPS.get(name, ({},))) for name in RECIPES},
    **{f"decomposed, {name.replace('-', ' ')}": Row("decomposed", {"name": name}) for name in HEADS},
    "decomposed, ridge, no names": Row("decomposed", {"name": "ridge"}, {"class_names": False}),
    "decomposed, chosen": Row("decomposed", choice=("decomposed", *HEADS)),
    "decomposed, fine-tuned": Row("decomposed", FINE_TUNING, inner=RATES),
}
BASELINES = tuple(ROWS)[:6]
CHOSEN = "decomposed, chosen"  # the one row that needs no look at the target to be picked


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    sources = load_dataset("ner_domains")
    assert isinstance(sources, TaggedDataset)
    for start in dict.fromkeys(ROWS[name].start for name in arguments.rows):
        names = [name for name in arguments.rows if ROWS[name].start == start]
        learners: dict[str, MetaLearner] = {}
        for target in arguments.targets:
            missing = [
                (name, shot) for name in names for shot in arguments.shots if is_missing(name, target, shot, arguments)
            ]
            if missing and not learners:
                learners = prepared(start, names, sources, arguments)
            # Rows of one start share an encoder, and what of a target it has encoded.
            with learners[names[0]].learner.encoder.remembering() if missing else nullcontext():
                for name, shot in missing:
                    path = file_of(arguments.out, name, target)
                    figures = read(path) if path.is_file() else {"row": name, "target": target}
                    before = figures.get(str(shot), {})
                    figures[str(shot)] = measure(learners[name], ROWS[name], target, shot, arguments, before)
                    write(path, figures)
                    print(name, target, shot, mean(figures, shot, "f1"), flush=True)
    show(arguments.out)


def is_missing(name: str, target: str, shot: int, arguments: argparse.Namespace) -> bool:
    path = file_of(arguments.out, name, target)
    return not path.is_file() or len(read(path).get(str(shot), {}).get("f1", ())) < arguments.draws


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--shots", nargs="*", type=int, default=list(SHOTS), choices=SHOTS)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of adapting")
    parser.add_argument("--steps", type=int, default=400, help="updates in training on the sources")
    parser.add_argument("--draws", type=int, default=20, help="supports of each size")
    parser.add_argument("--queries", type=int, default=150, help="test sentences that judge, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ner"))
    parser.add_argument("--runs", type=Path, default=Path("runs/ner"))
    return parser.parse_args()


# -- learning from the sources -----------------------------------------------------------------------------------------


def prepared(
    start: str, names: Sequence[str], sources: TaggedDataset, arguments: argparse.Namespace
) -> dict[str, MetaLearner]:
    """The learners of rows that start from the same encoder."""
    source = started(start, sources, arguments)
    return {name: settled(name, source, sources, arguments) for name in names}


def started(start: str, sources: TaggedDataset, arguments: argparse.Namespace) -> Learner:
    """What rows start from: trained on the sources once and kept in --runs, or not at all."""
    folder = arguments.runs / start
    if start in RECIPES:
        if not (folder / "learner").is_dir():
            train(recipe_of(start, sources, arguments), folder, resume=folder.is_dir())
        return load_learner(folder)[0]
    encoder = joint_encoder(sources, arguments) if start == "joint" else fresh_encoder()
    freeze_embeddings(encoder)
    return build_learner(AlgorithmSettings(name="prototypical"), encoder, Tagging().learned_from(sources.train))


def settled(name: str, source: Learner, sources: TaggedDataset, arguments: argparse.Namespace) -> MetaLearner:
    """The learner of a row, with the settings of its inner loop that are best on `valid`."""
    candidates = ROWS[name].inner
    if len(candidates) == 1:
        return MetaLearner(learner_of(ROWS[name], source, candidates[0]), {})
    path = file_of(arguments.out / "valid", name, "valid")
    if not path.is_file():
        drawn = sources.sampler("valid", way="all", shot=(5, 20), query=60, seed=1, n_episodes=8)
        tried = []
        for inner in candidates:
            learner = learner_of(ROWS[name], source, inner)
            learner.precision = getattr(torch, arguments.precision)
            f1 = evaluate(learner, drawn, time=False).scores[:, 0]
            tried.append({"inner": inner, "f1": [round(float(value), 5) for value in f1]})
            print(name, inner, "on valid", estimate(f1), flush=True)
        write(path, {"row": name, "tried": tried})
    best = max(read(path)["tried"], key=lambda each: float(np.mean(each["f1"])))
    return MetaLearner(learner_of(ROWS[name], source, best["inner"]), {})


def learner_of(row: Row, source: Learner, inner: dict[str, Any]) -> Learner:
    """A row's learner over the encoder that it starts from."""
    settings = AlgorithmSettings(**row.algorithm) if row.algorithm else source.settings
    settings = settings.model_copy(update={"inner": {**settings.inner, **inner}})
    learner = build_learner(settings, source.encoder, build_task(describe_task(source.task) | row.task))
    if not row.algorithm:
        learner.load_state_dict(source.state_dict())
    return learner


def recipe_of(name: str, sources: TaggedDataset, arguments: argparse.Namespace) -> Recipe:
    """Meta-training of a row: as many sentences an update as `joint_encoder`."""
    recipe, steps, start = RECIPES[name], arguments.steps, None
    if recipe.get("start") == "joint":
        joint_encoder(sources, arguments)
        steps, start = steps // 4, str(arguments.runs / "joint")
    support, query = (4, 12), PER_DOMAIN - 8
    return parse_recipe(
        {
            "title": f"{name}, on the sources of ner_domains",
            "data": {"name": "ner_domains"},
            "encoder": ENCODER,
            "start": start,
            "algorithm": recipe["algorithm"],
            "task": {"kind": "tagging", **recipe["task"]},
            "training": {
                "steps": steps,
                "episodes_per_step": 2,
                "way": "all",
                "shot": support,
                "query": query,
                "learning_rate": 1e-4,
                "head_learning_rate": 1e-3,
                "trains": "layers",
                "precision": "bfloat16",
            },
            "validation": {"every": max(1, steps // 4), "way": "all", "shot": [5, 20], "query": 60, "episodes": 8}
            | {"keep_start": False},  # what it came to is measured, better or worse
        },
        name,
    )


def joint_encoder(sources: TaggedDataset, arguments: argparse.Namespace) -> Encoder:
    """MiniLM trained to tag all sources, each by a softmax layer of its own over its BIO labels."""
    folder = arguments.runs / "joint"
    if (folder / "learner").is_dir():
        return load_learner(folder)[0].encoder
    task = Tagging(TaggingSettings(scheme="bio", class_names=False))
    domains: dict[str, list[Any]] = {}
    for example in sources.train:
        domains.setdefault(example.task, []).append(example)
    encoder = jointly_trained(task, domains, steps=arguments.steps, rate=1e-4, seed=1)
    learner = build_learner(AlgorithmSettings(name="prototypical"), encoder, task)
    save_learner(learner, folder / "learner", about={"title": "MiniLM, trained jointly on the sources"})
    return learner.encoder


# -- learning a target -------------------------------------------------------------------------------------------------


def measure(
    own: MetaLearner, row: Row, target: str, shot: int, arguments: argparse.Namespace, before: dict[str, Any]
) -> dict[str, Any]:
    """F1 of each draw of some sentences that is not known from before, and the time of an adaptation."""
    name, split = TARGETS[target]
    dataset = load_dataset(name, split=split)
    learner = own.learner
    learner.precision = getattr(torch, arguments.precision)
    begin = perf_counter()
    episodes = Fixed(
        dataset,
        dataset.test,
        shot=shot,
        draws=arguments.draws,
        queries=arguments.queries,
        first=len(before.get("f1", ())),
    )
    chosen = Counter[str](before.get("chosen", {}))
    timed = shot == TIMED and not before
    if row.choice:
        result, names = evaluate_choice(own, row.choice, episodes, time=timed)
        chosen += names
    else:
        result = evaluate(learner, episodes, time=timed)
    scores = {
        of.lower(): before.get(of.lower(), []) + [round(float(value), 5) for value in result.scores[:, column]]
        for column, of in enumerate(result.measures)
    }
    return {
        **before,
        **scores,
        **({"seconds_to_adapt": result.seconds} if timed else {}),
        "queries": min(arguments.queries, len(dataset.test)),
        "arithmetic": arguments.precision,
        **({"inner": learner.settings.inner} if len(row.inner) > 1 else {}),
        "seconds": before.get("seconds", 0.0) + perf_counter() - begin,
        **({"chosen": dict(chosen)} if row.choice else {}),
    }


# -- showing -----------------------------------------------------------------------------------------------------------


def show(out: Path) -> None:
    """Prints F1 as a Markdown table, and meta-learned rows beside the best baseline, paired."""
    table = Table(tuple(ROWS), BASELINES, tuple(TARGETS), SHOTS, "sentences", TIMED)
    found = table.found(out)
    table.show_means(found, "f1", interval=False)
    table.show_ahead(found, "Best meta-learned row", [name for name in ROWS if name not in BASELINES], "f1")
    table.show_ahead(found, CHOSEN, [CHOSEN], "f1")


if __name__ == "__main__":
    main()
