"""A responder in a new person's manner from 1, 3, 5 or 10 of their dialogues: meta-learned beside what anyone tries.

    python benchmarks/responding.py                            every row
    python benchmarks/responding.py --rows "joint, fine-tuned" "first-order MAML" --dialogues 3

One joint responder of all training people is trained by the recipe `responding-joint`. From it, some go on for as many
updates on as many dialogues: joint training, first-order MAML and Reptile. Each row then adapts to each of the 12 test
people of Persona-Chat, whose persona it never reads, from the same draws of their dialogues, by Adam on 16 replies a
step; the rate and the number of steps are chosen on the 8 valid people, for each row and number of dialogues alike.
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
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
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
RATES = (3e-4, 1e-3, 3e-3)
LOOKS = (1, 2, 4, 8, 12, 16, 24, 32, 48)  # numbers of steps to choose from
SHARES = (0.02, 0.05, 0.1, 0.2)  # of the vote of neighbours
QUERIES = 2  # dialogues of a person that judge
UPDATES = 400  # of each way of going on from the joint responder
OTHERS = 19  # people whose persona sentences stand beside a person's
NEGATIVES = 500  # replies of training people, which the rankers by MiniLM tell a person's from

# How each way of going on uses the 8 dialogues of an update: 2 people's 3 + 1 or 2 + 2, or one of 8 people each.
GOES_ON: dict[str, list[str]] = {
    "joint": [
        "algorithm.name=fine-tuning",
        "algorithm.inner={steps=0, test_steps=12, rate=1e-3, hold_out=0.0}",
        "training.episodes_per_step=8",
        "training.shot=1",
        "training.query=1",
    ],
    "maml": [],
    "reptile": [
        "algorithm.name=reptile",
        "algorithm.inner={steps=4, test_steps=12, rate=1e-3, batch=8, hold_out=0.0}",
        "training.shot=2",
        "training.query=2",
        "training.learning_rate=1e-3",
    ],
}


@dataclass(frozen=True)
class Row:
    """One way to a responder.

    Attributes:
        start: What it starts from: a way of going on.
        algorithm: How it adapts: its name, or `minilm` for none that writes.
        inner: Settings of its inner loop.
    """

    start: str
    algorithm: str = "fine-tuning"
    inner: Mapping[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "joint, fine-tuned": Row("joint"),
    "joint, nearest neighbours": Row("joint", "nearest-neighbour"),
    "first-order MAML": Row("maml", "first-order-maml"),
    "Reptile": Row("reptile", "reptile"),
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
            print(f"{name:28s} {n_dialogues:2d} dialogues  {shown(figures)}", flush=True)
    show(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--dialogues", nargs="*", type=int, default=list(DIALOGUES), choices=DIALOGUES)
    parser.add_argument("--draws", type=int, default=3, help="of each person's dialogues, the same for all rows")
    parser.add_argument("--valid-draws", type=int, default=2, help="the same where rates and steps are chosen")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/responding"))
    parser.add_argument("--runs", type=Path, default=Path("runs/responding"), help="where the trained ones go")
    return parser.parse_args()


# -- the starts --------------------------------------------------------------------------------------------------------


def trained(recipe: str, changes: Sequence[str], folder: Path) -> Encoder:
    if not (folder / "learner").is_dir():
        train(load_recipe(recipe, changes), folder, resume=folder.is_dir())
    return load_learner(folder)[0].encoder


def goes_on(start: str, runs: Path) -> Encoder:
    """The encoder-decoder of a start, trained if it is not yet."""
    trained("responding-joint", [], runs / "first")
    changes = [f'start="{runs / "first"}"', f"training.steps={UPDATES}", f"validation.every={UPDATES}"]
    changes.append("validation.keep_start=false")  # better on `valid` is enough: a few episodes are no proof
    return trained("responding-maml", [*changes, *GOES_ON[start]], runs / start)


def learner_of(row: Row, encoder: Encoder, rate: float = 0.0, share: float | None = None) -> Learner:
    """A learner over a start, that adapts as all of them do."""
    inner: dict[str, Any] = {"test_steps": 0}
    if share is None:
        inner = {"rate": rate, "optimiser": "adam", "order": 1, "batch": 16, "hold_out": 0.0, **row.inner}
    head = {} if share is None else {"share": share}
    settings = AlgorithmSettings(name=row.algorithm, inner=inner, head=head)
    return build_learner(settings, encoder, Responding(_TASK)).eval()


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
        self.encoders: dict[str, Encoder] = {}
        self.of_start: dict[tuple[str, str, int], list[list[float]]] = {}

    def row(self, name: str, n_dialogues: int) -> dict[str, Any]:
        """The figures of a row: a value for each draw of each person."""
        drawn = draws_of(self.dataset.test, self.arguments.draws)
        if name in RANKERS:
            return self.ranked(ROWS[name].algorithm, drawn, n_dialogues)
        chosen = self.chosen(name, n_dialogues) if n_dialogues else {}
        figures: dict[str, Any] = {"chosen": chosen, "each": []}
        for one in drawn:
            figures["each"].append(self.measured(name, one, n_dialogues, chosen))
        return figures

    def measured(self, name: str, one: Drawn, n_dialogues: int, chosen: Mapping[str, float]) -> dict[str, Any]:
        row = ROWS[name]
        encoder = self.started(row.start)
        start = learner_of(row, encoder, share=None, rate=0.0)
        learner = learner_of(row, encoder, chosen.get("rate", 0.0), chosen.get("share"))
        support, query = self.batches(learner, one.first(n_dialogues), one.query)
        begin = perf_counter()
        state = self.adapted(learner, support, chosen) if n_dialogues else start.adapt(empty(start))
        seconds = perf_counter() - begin
        task = learner.task
        assert isinstance(task, Responding)
        scorer = (learner if n_dialogues else start).scorer(state, query)
        tokens = log_likelihoods(scorer, query)
        scores = task.candidate_scores(scorer, one.query)
        key = (row.start, one.person, one.draw)
        if key not in self.of_start:
            plain = start.scorer(start.adapt(empty(start)), query)
            self.of_start[key] = scores if not n_dialogues else task.candidate_scores(plain, one.query)
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

    def adapted(self, learner: Learner, support: Batch, chosen: Mapping[str, float]) -> State:
        if "share" in chosen:
            return learner.adapt(support)
        last = deque(learner.path(support, int(chosen["steps"])), maxlen=1).pop()
        return {name: tensor.detach() for name, tensor in last.items()}

    def chosen(self, name: str, n_dialogues: int) -> dict[str, float]:
        """The rate and the number of steps, or the share of neighbours, that are best on the `valid` people."""
        at = CHOSEN_AT[n_dialogues]
        path = self.arguments.out / "valid" / f"{slug(name)}-{at}.json"
        row = ROWS[name]
        if not path.is_file():
            drawn = draws_of(self.dataset.valid, self.arguments.valid_draws)
            found: list[dict[str, float]] = []
            if row.algorithm == "nearest-neighbour":
                for share in SHARES:
                    learner = learner_of(row, self.started(row.start), share=share)
                    losses = [self.losses(learner, one, at, ()) for one in drawn]
                    found.append({"share": share, "loss": float(np.mean(losses))})
            else:
                for rate in RATES:
                    learner = learner_of(row, self.started(row.start), rate)
                    losses = [self.losses(learner, one, at, LOOKS) for one in drawn]
                    for steps, loss in zip(LOOKS, np.mean(losses, axis=0).tolist(), strict=True):
                        found.append({"rate": rate, "steps": steps, "loss": loss})
            for each in found:
                print(f"{name:28s} {at} dialogues on valid: {each}", flush=True)
            write(path, {"tried": found})
        tried = json.loads(path.read_text(encoding="utf-8"))["tried"]
        best: dict[str, float] = min(tried, key=lambda each: each["loss"])
        return best

    def losses(self, learner: Learner, one: Drawn, n_dialogues: int, looks: Sequence[int]) -> list[float]:
        """The loss of a token of the query after some numbers of steps, or after adapting in one go."""
        support, query = self.batches(learner, one.first(n_dialogues), one.query)
        if not looks:
            return [loss_of(learner, learner.adapt(support), query)]
        return [
            loss_of(learner, state, query)
            for step, state in enumerate(learner.path(support, looks[-1]))
            if step in looks
        ]

    def started(self, start: str) -> Encoder:
        if start not in self.encoders:
            self.encoders[start] = goes_on(start, self.arguments.runs)
        return self.encoders[start]

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


def empty(learner: Learner) -> Batch:
    """A support of nothing."""
    return learner.task.collate((), (), learner.encoder.vocabulary, support=True)


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
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arguments.out.glob("*.json"))]
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


def slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


def write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
