"""A responder in a new person's manner from 1, 3, 5 or 10 of their dialogues: meta-learned beside what anyone tries.

    python benchmarks/responding.py                            every row
    python benchmarks/responding.py --rows "joint, fine-tuned" "first-order MAML" --dialogues 3

One joint responder of all training people is trained by the recipe `responding-joint`. From it, some go on for as many
updates on as many dialogues: joint training, first-order MAML of all tensors or of the output layer alone, Reptile, and
nearest-neighbour decoding that is meta-trained (`matching`). Each row then adapts to each of the 12 test people of
Persona-Chat, whose persona it never reads, from the same draws of their dialogues. Those that take steps take them by
Adam on 16 replies each; which tensors move, the rate and the number of steps are chosen on the 8 valid people, from the
same choices for every row. In some rows neighbours vote besides, their vectors being those after the steps. `--small`
takes a model that is trained in minutes, on the people of Persona-Chat alone.
Two other dialogues of the same draw judge, the same for every number of dialogues. People who have fewer give all but
those two. 0 dialogues are the start as it is.

Measures: those of `kshot.tasks.responding.Responding`, and two more.

- `hits@1, ratio`: as hits@1, but the candidates are ranked by the mean log-likelihood of a token under what was learned
  less that under the start of the row: how much likelier this person made it. Without dialogues there is no such thing.
- `nearest persona line`: the share of written replies whose nearest sentence, by the cosine of MiniLM, among the
  persona sentences of the person and of 19 other people is one of the person's. It is no test of entailment.

Each figure is the mean over the people, each being the mean over the draws, with its 95% interval over the people by
Student's t; differences to `joint, fine-tuned` are paired by person. One JSON file a row and number of dialogues is
written to --out; one that is there is not measured again.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rows import read, slug, write
from torch import Tensor

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import ReplyDataset
from kshot.data.draws import generator_of
from kshot.data.examples import Reply
from kshot.meta.algorithms import HEADS, build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta.state import Items, State
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, encode
from kshot.models.pretrained import PretrainedSettings
from kshot.run.config import load_recipe
from kshot.run.evaluate import estimate
from kshot.run.train import train
from kshot.tasks.base import Batch
from kshot.tasks.replies import distinct, token_f1
from kshot.tasks.responding import Responding, hits
from kshot.tasks.writing import log_likelihoods

DIALOGUES = (0, 1, 3, 5, 10)
CHOSEN_AT = {1: 1, 3: 3, 5: 3, 10: 10}  # the number of dialogues at which rate and steps are chosen for another
MOVES: dict[str, tuple[float, ...]] = {"all": (3e-4, 1e-3), "none": (1e-3, 3e-3)}  # the output layer moves besides
LOOKS = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # numbers of steps to choose from
NEIGHBOURS = {"neighbours": 64, "temperature": 0.2}  # that vote, where this is not learned
SHARES = (0.05, 0.1, 0.2, 0.3)  # of their vote
QUERIES = 2  # dialogues of a person that judge
UPDATES = 100  # of each way of going on from the joint responder
OTHERS = 19  # people whose persona sentences stand beside a person's
NEGATIVES = 500  # replies of training people, which the rankers by MiniLM tell a person's from

SMALL = {
    "responding-joint": [
        "data.split=persons",
        "encoder.n_layers=1",
        "encoder.source.n_layers=1",
        "encoder.source.model_dim=96",
        "encoder.source.embedding_dim=96",
        "encoder.source.vocabulary_size=2000",
        "training.steps=800",
        "training.episodes_per_step=4",
        "training.learning_rate=2e-3",
        "validation.every=400",
        "validation.episodes=4",
        "algorithm.inner={test_steps=0}",
    ],
    "responding-maml": ["data.split=persons", "validation.episodes=4"],
}

# How each way of going on uses the 16 dialogues of an update: 4 people's 2 + 2, or one of 16 people each.
GOES_ON: dict[str, list[str]] = {
    "joint": [
        "algorithm.name=fine-tuning",
        "algorithm.inner={steps=0, test_steps=0}",
        "training.episodes_per_step=16",
        "training.shot=1",
        "training.query=1",
    ],
    "maml": [],
    "head": ['algorithm.inner={steps=4, test_steps=4, rate=3e-3, batch=16, hold_out=0.0, moves="none"}'],
    "matching": [
        "algorithm.name=matching",
        "algorithm.inner={}",
        "algorithm.head={neighbours=64, temperature=0.2, share=0.1}",
        "training.head_learning_rate=0.03",
        "training.shot=[1, 2]",
    ],
    "reptile": [
        "algorithm.name=reptile",
        "algorithm.inner={steps=4, test_steps=4, rate=1e-3, batch=8, hold_out=0.0}",
    ],
}


@dataclass(frozen=True)
class Row:
    """One way to a responder.

    Attributes:
        start: What it starts from: a way of going on.
        algorithm: How it adapts.
        then: Whether neighbours vote besides, once it has taken its steps.
    """

    start: str
    algorithm: str = "fine-tuning"
    then: bool = False

    @property
    def takes_steps(self) -> bool:
        """Whether it moves tensors."""
        return self.then or self.algorithm not in ("nearest-neighbour", "matching")


ROWS: dict[str, Row] = {
    "joint, fine-tuned": Row("joint"),
    "joint, nearest neighbours": Row("joint", "nearest-neighbour"),
    "first-order MAML": Row("maml", "first-order-maml"),
    "first-order MAML, output layer": Row("head", "first-order-maml"),
    "Reptile": Row("reptile", "reptile"),
    "joint, fine-tuned, then nearest neighbours": Row("joint", then=True),
    "matching, meta-trained": Row("matching", "matching"),
    "matching, meta-trained, fine-tuned": Row("matching", "matching", then=True),
    "MiniLM, prototypes": Row("none", "prototypes"),
    "MiniLM, ridge": Row("none", "ridge"),
}
BASELINE = "joint, fine-tuned"
RANKERS = ("MiniLM, prototypes", "MiniLM, ridge")
MEASURES = ("perplexity", "hits@1", "hits@1, ratio", "F1", "distinct-1", "distinct-2", "nearest persona line")


@dataclass(frozen=True)
class Drawn:
    """One draw of the dialogues of one person.

    Attributes:
        person: Who.
        draw: The number of the draw.
        support: The replies of the dialogues to learn from, dialogue by dialogue.
        query: Those to be judged by.
    """

    person: str
    draw: int
    support: tuple[tuple[Reply, ...], ...]
    query: tuple[Reply, ...]

    def first(self, n_dialogues: int) -> tuple[Reply, ...]:
        """The replies of the first dialogues."""
        return tuple(reply for dialogue in self.support[:n_dialogues] for reply in dialogue)


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    dataset = load_dataset("personachat")
    assert isinstance(dataset, ReplyDataset)
    bench = Bench(dataset, arguments)
    for name in arguments.rows:
        for n_dialogues in arguments.dialogues:
            path = arguments.out / f"{slug(name)}-{n_dialogues}.json"
            if path.is_file() or (name in RANKERS and n_dialogues == 0):
                continue
            figures = {"row": name, "dialogues": n_dialogues, **bench.row(name, n_dialogues)}
            write(path, figures)
            print(f"{name:30s} {n_dialogues:2d} dialogues  {shown(figures)}", flush=True)
    show(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--dialogues", nargs="*", type=int, default=list(DIALOGUES), choices=DIALOGUES)
    parser.add_argument("--draws", type=int, default=3, help="of each person's dialogues, the same for all rows")
    parser.add_argument("--valid-draws", type=int, default=2, help="the same where rates and steps are chosen")
    parser.add_argument("--small", action="store_true", help="a model that is trained in minutes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/responding"))
    parser.add_argument("--runs", type=Path, default=Path("runs/responding"), help="where the trained ones go")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.out, arguments.runs = arguments.out / "small", arguments.runs / "small"
    return arguments


# -- the starts --------------------------------------------------------------------------------------------------------


def trained(recipe: str, changes: Sequence[str], folder: Path, *, small: bool) -> Learner:
    if not (folder / "learner").is_dir():
        own = SMALL[recipe] if small else []
        train(load_recipe(recipe, [*own, *changes]), folder, resume=folder.is_dir())
    return load_learner(folder)[0]


def goes_on(start: str, runs: Path, *, small: bool) -> Learner:
    """The learner of a start, trained if it is not yet."""
    trained("responding-joint", [], runs / "first", small=small)
    changes = [
        f'start="{runs / "first"}"',
        f"training.steps={UPDATES}",
        f"validation.every={UPDATES}",
        "training.learning_rate=3e-4",
        "validation.keep_start=false",  # what it came to is measured, better or worse
        *GOES_ON[start],
    ]
    return trained("responding-maml", changes, runs / start, small=small)


def learner_of(row: Row, start: Learner, chosen: Mapping[str, Any]) -> Learner:
    """A learner over a start, that adapts as was chosen; what heads have learned stays."""
    inner: dict[str, Any] = {"test_steps": 0}
    if chosen and row.takes_steps:
        inner = {name: chosen[name] for name in ("rate", "moves")}
        inner |= {"optimiser": "adam", "order": 1, "batch": 16, "hold_out": 0.0, "test_steps": chosen["steps"]}
    name = row.algorithm if row.algorithm == "matching" or not (row.then and chosen) else "nearest-neighbour"
    same = start.settings.name == name
    head = {**NEIGHBOURS, "share": chosen["share"]} if "share" in chosen else start.settings.head if same else {}
    settings = AlgorithmSettings(name=name, inner=inner, head=head)
    made = build_learner(settings, start.encoder, Responding(_TASK)).eval()
    if same:
        made.heads.load_state_dict(start.heads.state_dict())
    return made


_TASK = Responding().settings.model_copy(
    update={"turns": 2, "search": Responding().settings.search.model_copy(update={"beam": 1})}
)


def draws_of(replies: Sequence[Reply], n_draws: int) -> list[Drawn]:
    """Draws of the dialogues of each person; those that judge are the last of a draw, whatever is learned from."""
    people: dict[str, dict[str, list[Reply]]] = {}
    for each in replies:
        people.setdefault(each.task, {}).setdefault(each.dialogue, []).append(each)
    found = []
    for number, (person, dialogues) in enumerate(sorted(people.items())):
        listed = [tuple(own) for own in dialogues.values()]
        for draw in range(n_draws):
            order = generator_of(11, number, draw).permutation(len(listed)).tolist()
            own = [listed[place] for place in order]
            found.append(
                Drawn(person, draw, tuple(own[:-QUERIES]), tuple(each for one in own[-QUERIES:] for each in one))
            )
    return found


# -- the figures -------------------------------------------------------------------------------------------------------


class Bench:
    """What is measured, and what of it is known already."""

    def __init__(self, dataset: ReplyDataset, arguments: argparse.Namespace) -> None:
        self.dataset, self.arguments = dataset, arguments
        self.starts: dict[str, Learner] = {}
        self.of_start: dict[tuple[str, str, int], list[list[float]]] = {}

    def row(self, name: str, n_dialogues: int) -> dict[str, Any]:
        """The figures of a row: a value for each draw of each person."""
        drawn = draws_of(self.dataset.test, self.arguments.draws)
        if name in RANKERS:
            return self.ranked(ROWS[name].algorithm, drawn, n_dialogues)
        chosen = self.chosen(name, n_dialogues) if n_dialogues else {}
        return {"chosen": chosen, "each": [self.measured(name, one, n_dialogues, chosen) for one in drawn]}

    def measured(self, name: str, one: Drawn, n_dialogues: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
        row = ROWS[name]
        plain = learner_of(Row(row.start), self.started(row.start), {})
        learner = learner_of(row, self.started(row.start), chosen) if n_dialogues else plain
        support, query = self.batches(learner, one.first(n_dialogues), one.query)
        begin = perf_counter()
        scorer = learner.scorer(learner.adapt(support), query)
        seconds = perf_counter() - begin
        task = learner.task
        assert isinstance(task, Responding)
        tokens = log_likelihoods(scorer, query)
        scores = task.candidate_scores(scorer, one.query)
        key = (row.start, one.person, one.draw)
        if key not in self.of_start:
            nothing, _ = self.batches(plain, (), ())
            before = plain.scorer(plain.adapt(nothing), query)
            self.of_start[key] = scores if not n_dialogues else task.candidate_scores(before, one.query)
        ratios = [
            [a - b for a, b in zip(ours, theirs, strict=True)]
            for ours, theirs in zip(scores, self.of_start[key], strict=True)
        ]
        assert query.given is not None
        written = task.texts(scorer, query.given)
        f1 = [token_f1(reply, each.text) for reply, each in zip(written, one.query, strict=True)]
        return {
            "person": one.person,
            "perplexity": math.exp(-sum(float(each.sum()) for each in tokens) / sum(map(len, tokens))),
            "hits@1": hits(scores),
            **({"hits@1, ratio": hits(ratios)} if n_dialogues else {}),
            "F1": float(np.mean(f1)),
            "distinct-1": distinct(written, 1),
            "distinct-2": distinct(written, 2),
            "nearest persona line": self.consistency(written, one.person),
            "seconds": seconds,
            "written": written,
        }

    def chosen(self, name: str, n_dialogues: int) -> dict[str, Any]:
        """What moves, at which rate and in how many steps, or the share of neighbours: the best on `valid`."""
        at = CHOSEN_AT[n_dialogues]
        path = self.arguments.out / "valid" / f"{slug(name)}-{at}.json"
        if not path.is_file():
            drawn = draws_of(self.dataset.valid, self.arguments.valid_draws)
            tried = self.tried(ROWS[name], drawn, at)
            for each in tried:
                print(f"{name:30s} {at} dialogues on valid: {each}", flush=True)
            write(path, {"tried": tried})
        found = read(path)["tried"]
        best: dict[str, Any] = min(found, key=lambda each: each["loss"])
        return best

    def tried(self, row: Row, drawn: Sequence[Drawn], n_dialogues: int) -> list[dict[str, Any]]:
        """The mean loss of a token of the `valid` people's queries, for everything that there is to choose."""
        found: list[dict[str, Any]] = []
        if row.then or not row.takes_steps:
            steps = {}
            if row.then:
                of_steps = self.tried(Row(row.start), drawn, n_dialogues)
                steps = min(of_steps, key=lambda each: each["loss"])
            shares: list[dict[str, Any]] = [{**steps, "share": share} for share in SHARES]
            for choice in [{**steps, "learned": True}] if row.algorithm == "matching" else shares:
                learner = learner_of(row, self.started(row.start), choice)
                losses = []
                for one in drawn:
                    support, query = self.batches(learner, one.first(n_dialogues), one.query)
                    losses.append(loss_of(learner, learner.adapt(support), query))
                found.append({**choice, "loss": float(np.mean(losses))})
            return found
        for moves, rates in MOVES.items():
            for rate in rates:
                choice = {"moves": moves, "rate": rate}
                learner = learner_of(row, self.started(row.start), {**choice, "steps": LOOKS[-1]})
                looks = []
                for one in drawn:
                    support, query = self.batches(learner, one.first(n_dialogues), one.query)
                    path = enumerate(learner.path(support, LOOKS[-1]))
                    looks.append([loss_of(learner, state, query) for step, state in path if step in LOOKS])
                for steps, loss in zip(LOOKS, np.mean(looks, axis=0).tolist(), strict=True):
                    found.append({**choice, "steps": steps, "loss": loss})
        return found

    def started(self, start: str) -> Learner:
        if start not in self.starts:
            self.starts[start] = goes_on(start, self.arguments.runs, small=self.arguments.small)
        return self.starts[start]

    @staticmethod
    def batches(learner: Learner, support: Sequence[Reply], query: Sequence[Reply]) -> tuple[Batch, Batch]:
        vocabulary = learner.encoder.vocabulary
        return (
            learner.task.collate(support, (), vocabulary, support=True),
            learner.task.collate(query, (), vocabulary, support=False),
        )

    # -- with MiniLM ---------------------------------------------------------------------------------------------------

    def consistency(self, written: Sequence[str], person: str) -> float:
        """The share of replies whose nearest persona sentence is the person's; an empty reply is near to none."""
        everyone = sorted(self.dataset.personas)
        others = [name for name in everyone if name != person]
        chosen = generator_of(13, everyone.index(person)).permutation(len(others))[:OTHERS].tolist()
        lines = [(person, line) for line in self.dataset.personas[person]]
        lines += [(others[k], line) for k in chosen for line in self.dataset.personas[others[k]]]
        near = embedded(tuple(line for _, line in lines))
        own = 0
        for reply in written:
            if reply:
                own += lines[int((near @ embedded((reply,))[0]).argmax())][0] == person
        return own / len(written)

    def ranked(self, head: str, drawn: Sequence[Drawn], n_dialogues: int) -> dict[str, Any]:
        """Candidates ranked by how much their MiniLM vector is like the person's replies, and unlike others'."""
        texts = sorted({each.text for each in self.dataset.train})
        places = generator_of(17).permutation(len(texts))[:NEGATIVES].tolist()
        others = embedded(tuple(texts[place] for place in places))
        settings, made = HEADS[head]
        ranker = made(settings(), others.shape[1])
        each = []
        for one in drawn:
            begin = perf_counter()
            own = embedded(tuple(reply.text for reply in one.first(n_dialogues)))
            y = torch.cat([torch.zeros(len(own), dtype=torch.int64), torch.ones(len(others), dtype=torch.int64)])
            weight = torch.cat([torch.full((len(own),), len(others) / len(own)), torch.ones(len(others))])
            with torch.no_grad():
                state = ranker.fit(Items(torch.cat([own, others]), y, 2, weight))
                seconds = perf_counter() - begin
                scores = []
                for reply in one.query:
                    logits = ranker.logits(state, embedded((reply.text, *reply.candidates)))
                    scores.append((logits[:, 0] - logits[:, 1]).tolist())
            each.append({"person": one.person, "hits@1": hits(scores), "seconds": seconds})
        return {"each": each}


def loss_of(learner: Learner, state: State, query: Batch) -> float:
    tokens = log_likelihoods(learner.scorer(state, query), query)
    return -sum(float(each.sum()) for each in tokens) / sum(map(len, tokens))


@cache
def minilm() -> Encoder:
    return build_encoder(PretrainedSettings(), [], seed=0).eval()


_EMBEDDED: dict[str, Tensor] = {}


def embedded(texts: tuple[str, ...]) -> Tensor:
    """MiniLM's vectors of texts, of length 1, (n_texts, dim)."""
    new = [text for text in dict.fromkeys(texts) if text not in _EMBEDDED]
    if new:
        with torch.no_grad():
            vectors = torch.nn.functional.normalize(encode(minilm(), minilm().vocabulary.encode(new)), dim=-1)
        _EMBEDDED.update(zip(new, vectors, strict=True))
    return torch.stack([_EMBEDDED[text] for text in texts])


# -- the table ---------------------------------------------------------------------------------------------------------


def by_person(figures: Mapping[str, Any], measure: str) -> np.ndarray:
    """The mean over the draws of each person, (n_people,)."""
    values: dict[str, list[float]] = {}
    for each in figures["each"]:
        values.setdefault(each["person"], []).append(each[measure])
    return np.array([np.mean(values[person]) for person in sorted(values)])


def show(arguments: argparse.Namespace) -> None:
    """The tables of what has been measured."""
    files = [read(path) for path in sorted(arguments.out.glob("*.json"))]
    found = {(each["row"], each["dialogues"]): each for each in files}
    for measure in MEASURES:
        print(f"\n| {measure} | " + " | ".join(f"{n} dialogues" for n in DIALOGUES) + " |")
        print("|---|" + "---|" * len(DIALOGUES))
        for row in ROWS:
            cells = [cell(found.get((row, n)), measure) for n in DIALOGUES]
            if any(cells):
                print(f"| {row} | " + " | ".join(cells) + " |")
        for row in ROWS:
            cells = [less(found.get((row, n)), found.get((BASELINE, n)), measure) for n in DIALOGUES]
            if row != BASELINE and any(cells):
                print(f"| {row} less {BASELINE} | " + " | ".join(cells) + " |")
    print("\n| seconds to adapt | " + " | ".join(f"{n} dialogues" for n in DIALOGUES[1:]) + " |")
    print("|---|" + "---|" * len(DIALOGUES[1:]))
    for row in ROWS:
        own = [found.get((row, n)) for n in DIALOGUES[1:]]
        if any(own):
            print(f"| {row} | " + " | ".join(f"{by_person(e, 'seconds').mean():.2f}" if e else "" for e in own) + " |")


def cell(figures: Mapping[str, Any] | None, measure: str) -> str:
    if figures is None or measure not in figures["each"][0]:
        return ""
    found = estimate(by_person(figures, measure))
    return f"{found.mean:.2f} ± {found.half_width:.2f}" if measure == "perplexity" else str(found)


def less(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None, measure: str) -> str:
    if ours is None or theirs is None or not all(measure in each["each"][0] for each in (ours, theirs)):
        return ""
    scale = 1 if measure == "perplexity" else 100
    found = estimate(scale * (by_person(ours, measure) - by_person(theirs, measure)))
    return f"{found.mean:+.2f} ± {found.half_width:.2f}"


def shown(figures: Mapping[str, Any]) -> str:
    measures = [each for each in MEASURES if each in figures["each"][0]]
    return "  ".join(f"{each} {cell(figures, each)}" for each in measures) + f"  {figures.get('chosen', '')}"


if __name__ == "__main__":
    main()
