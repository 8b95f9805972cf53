"""A translator of a new pair of languages from 100, 500 or 2,000 sentence pairs: meta-learned beside what anyone tries.

    python benchmarks/translation.py                            every row
    python benchmarks/translation.py --rows "joint, fine-tuned" --pairs ron-eng --shots 100
    python benchmarks/translation.py --curve                    quality by the seconds of adapting, without stopping
    python benchmarks/translation.py --plan from                the same, from English into the new languages

One joint translator of the ten training pairs of Tatoeba is trained by the recipe `translation-joint`. From it, others
go on for as many updates on as many sentence pairs: joint training on the sources as they are, and joint training,
first-order MAML and Reptile on sources that each episode spells in a way of its own (`respelled`), with inner loops of
20 steps. With `--plan from` the target is of many languages, and the source begins with the name of its language
(Johnson et al. 2017, arXiv:1611.04558), since a joint translator could not know it otherwise; a meta-learned one can
see it from the support, so it goes on with sources that all begin with the same word (`unnamed`): with names it would
have nothing to learn from the support (Yin et al. 2020, arXiv:1912.03820).

Each row then adapts to a new pair (Romanian, Catalan, Norwegian Bokmål, Macedonian into English; Kinyarwanda in medical
texts with `--data tico19`) from the same draws of its training pairs, with the same Adam on 16 pairs a step, while the
encoder drops out, stopped by a tenth of the support that is held back; the rate of each row is chosen on Danish and
Polish. In some rows neighbours vote besides, their vectors being those after the steps.

Some sentences of the test part judge, greedily decoded, by BLEU and chrF of sacrebleu. Seconds are those of the
processor. What is trained goes to --runs, and the translations of each row, pair and size; what is there is not made
again, and more draws are added to it. Differences of rows are by paired bootstrap over the test sentences. Figures are
written to --out.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from rows import read, slug, write

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import PARTS, PairDataset
from kshot.data.examples import Episode, SentencePair
from kshot.data.normal import normalise
from kshot.data.pairs import PairSampler
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.decoders import EncoderDecoder
from kshot.models.encoder import Encoder
from kshot.run.bootstrap import paired_bootstrap
from kshot.run.config import load_recipe
from kshot.run.evaluate import collate
from kshot.run.train import train
from kshot.tasks.translation import Translation, corpus_scores

LANGUAGES = {"tatoeba": ("ron", "cat", "nob", "mkd"), "tico19": ("kin",)}
VALID_LANGUAGES = ("dan", "pol")
RELATIVES = {"dan": "swe", "pol": "ces", "ron": "ita", "cat": "spa", "nob": "swe", "mkd": "bul"}
SHOTS = (100, 500, 2000)
RATES = (3e-4, 1e-3)
NEIGHBOURS = "nearest-neighbour"
SOURCE = {"moves": "source", "head_rate": 0.0}  # what reads the source moves alone
MEASURED = ("bleu", "chrf", "seconds", "translations")  # of each draw
CURVE_SHOT, CURVE_STEPS = 500, (0, 10, 20, 40, 80, 160, 320)


@dataclass(frozen=True)
class Plan:
    """How the translators are trained that adapt.

    Attributes:
        first: Updates of the joint translator.
        updates: Of each way of going on from it.
        tasks: How a way of going on uses the sentence pairs of an update, as many as the others do.
        english: The side that English is on.
    """

    first: int
    updates: int
    tasks: Mapping[str, tuple[str, ...]]
    english: str

    def goes_on(self, start: str) -> list[str]:
        """How the recipe `translation-maml` is changed for a way of going on."""
        algorithm, *sources = start.split("-")
        changes = [*self.tasks[algorithm], f"training.steps={self.updates}", f"validation.every={self.updates}"]
        changes.append("validation.keep_start=false")  # what it came to is measured, better or worse
        return changes if sources == ["respelled"] else [*changes, "training.augment=[]"]

    def pair(self, language: str) -> str:
        return f"{language}-eng" if self.english == "target" else f"eng-{language}"

    @property
    def rows(self) -> Mapping[str, "Row"]:
        return ROWS[self.english]


# The inner loops move what reads the source: English is known, and it is what suits the valid pairs best. From English
# they move all.
_JOINT = ("algorithm.name=fine-tuning", "algorithm.inner={steps=0}", "training.shot=1", "training.query=16")
_REPTILE = ("algorithm.name=reptile", "training.learning_rate=1e-3")


_ALL = 'moves="all"'


def _inner(steps: int, batch: int, moves: str = 'moves="source", head_rate=0') -> str:
    return f"algorithm.inner={{steps={steps}, batch={batch}, rate=1e-3, {moves}}}"


PLANS = {
    # 736 sentence pairs an update: 2 tasks, from which 20 steps learn as they will from a new pair, or 46 of 16 pairs.
    "into": Plan(
        first=5000,
        updates=200,
        tasks={
            "joint": (*_JOINT, "training.episodes_per_step=46"),
            "maml": (_inner(20, 16), "training.shot=[100, 300]", "training.query=48"),
            "reptile": (*_REPTILE, _inner(20, 9), "training.shot=[100, 150]", "training.query=150"),
        },
        english="target",
    ),
    "from": Plan(
        first=3500,
        updates=100,
        tasks={
            "joint": (*_JOINT, "training.episodes_per_step=46"),
            "maml": (_inner(20, 16, _ALL), "training.shot=[100, 300]", "training.query=48"),
            "reptile": (*_REPTILE, _inner(20, 9, _ALL), "training.shot=[100, 150]", "training.query=150"),
        },
        english="source",
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to a translator of a new pair.

    Attributes:
        start: What it starts from: a way of going on, `nothing`, or `source` for no translator at all. What follows its
            hyphen is said of the sources that it went on with: `respelled` or `unnamed`.
        algorithm: How it adapts.
        rates: The rates to choose from; none if it takes no steps.
        test_steps: Steps at most.
        inner: How its inner loop differs from that of all.
        sources: What sources in English begin with: that of the `named` language, of its `relative`, or `unnamed`.
    """

    start: str
    algorithm: str = "fine-tuning"
    rates: tuple[float, ...] = RATES
    test_steps: int = 400
    inner: Mapping[str, Any] = field(default_factory=dict)
    sources: str = "named"


PLAIN = {
    "joint, as it is": Row("joint", rates=(), test_steps=0),
    "from scratch": Row("nothing", test_steps=1500),
    "joint, nearest neighbours": Row("joint", NEIGHBOURS, rates=()),
    "joint, fine-tuned": Row("joint"),
}
INTO_ENGLISH: dict[str, Row] = {
    "copy the source": Row("source", rates=()),
    **PLAIN,
    "joint, fine-tuned, then neighbours": Row("joint", NEIGHBOURS),
    "joint, source side fine-tuned": Row("joint", inner=SOURCE),
    "joint on respelled, source side fine-tuned": Row("joint-respelled", inner=SOURCE),
    "joint on respelled, source side fine-tuned, then neighbours": Row("joint-respelled", NEIGHBOURS, inner=SOURCE),
    "first-order MAML on respelled": Row("maml-respelled", "first-order-maml", inner=SOURCE),
    "Reptile on respelled": Row("reptile-respelled", "reptile", inner=SOURCE),
    "first-order MAML on respelled, then neighbours": Row("maml-respelled", NEIGHBOURS, inner=SOURCE),
    "Reptile on respelled, then neighbours": Row("reptile-respelled", NEIGHBOURS, inner=SOURCE),
}
FROM_ENGLISH: dict[str, Row] = {
    **PLAIN,
    "joint, fine-tuned, then neighbours": Row("joint", NEIGHBOURS),
    "joint, by the name of a relative, as it is": Row("joint", rates=(), test_steps=0, sources="relative"),
    "joint, by the name of a relative, fine-tuned": Row("joint", sources="relative"),
    "joint on unnamed, fine-tuned": Row("joint-unnamed", sources="unnamed"),
    "first-order MAML on unnamed": Row("maml-unnamed", "first-order-maml", sources="unnamed"),
    "Reptile on unnamed": Row("reptile-unnamed", "reptile", sources="unnamed"),
    "first-order MAML on unnamed, then neighbours": Row("maml-unnamed", NEIGHBOURS, sources="unnamed"),
}
ROWS = {"target": INTO_ENGLISH, "source": FROM_ENGLISH}


def meta_learned(row: str) -> bool:
    return row.startswith(("first-order MAML", "Reptile"))


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    encoders: dict[str, Encoder] = {}
    for name in arguments.rows:
        row = PLANS[arguments.plan].rows[name]
        for shot in arguments.shots:
            for pair in arguments.pairs:
                path = arguments.runs / "rows" / f"{slug(name)}-{pair}-{shot}.json"
                known = read(path) if path.is_file() else {key: [] for key in MEASURED}
                if len(known["bleu"]) >= arguments.draws:
                    continue
                encoder = None if row.start == "source" else started(row.start, encoders, arguments)
                rate = chosen_rate(name, encoder, shot, arguments)
                figures = {"row": name, "pair": pair, "shot": shot, "rate": rate}
                learner = learner_of(row, encoder, rate)
                dataset = dataset_of(arguments.data, row.sources, arguments.plan)
                figures |= measure(learner, dataset, "test", pair, shot, arguments, since=len(known["bleu"]))
                figures |= {key: known[key] + figures[key] for key in MEASURED}
                write(path, figures)
                print(f"{name:28s} {pair} {shot:5d}  {shown(figures)}", flush=True)
    if arguments.curve:
        curve(arguments, encoders)
    show(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = list(INTO_ENGLISH | FROM_ENGLISH)
    parser.add_argument("--rows", nargs="*", choices=every, metavar="ROW", help=f"all if left out, of {every}")
    parser.add_argument("--plan", default="into", choices=list(PLANS), help="into English, or from it")
    parser.add_argument("--data", default="tatoeba", choices=list(LANGUAGES), help="where the new pairs are from")
    parser.add_argument("--pairs", nargs="*", metavar="PAIR", help="new pairs; all of the data if left out")
    parser.add_argument("--shots", nargs="*", type=int, default=list(SHOTS))
    parser.add_argument("--draws", type=int, default=3, help="supports of each pair and size, the same for all rows")
    parser.add_argument("--queries", type=int, default=200, help="test sentences of a pair")
    parser.add_argument("--curve", action="store_true", help=f"with {CURVE_SHOT} pairs, by steps and seconds, as well")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where figures go")
    parser.add_argument("--runs", type=Path, help="where the rest goes; runs/translation or runs/translation-from")
    arguments = parser.parse_args()
    plan = PLANS[arguments.plan]
    if arguments.data != "tatoeba" and plan.english == "source":
        parser.error("the plan from has tatoeba alone")
    arguments.runs = arguments.runs or Path("runs") / f"translation{of_plan(arguments)}"
    arguments.rows = [each for each in plan.rows if each in (arguments.rows or plan.rows)]
    arguments.pairs = arguments.pairs or [plan.pair(each) for each in LANGUAGES[arguments.data]]
    return arguments


def of_plan(arguments: argparse.Namespace) -> str:
    return "" if arguments.plan == "into" else f"-{arguments.plan}"


# -- the sentence pairs ------------------------------------------------------------------------------------------------


@cache
def dataset_of(name: str, sources: str, plan: str) -> PairDataset:
    """The sentence pairs that a row is adapted with."""
    into_english = PLANS[plan].english == "target"
    dataset = load_dataset(name, split="into_english" if into_english else "from_english")
    assert isinstance(dataset, PairDataset)
    if into_english:
        return dataset
    parts = {part: tuple(begun(each, sources) for each in pairs_of(dataset.part(part))) for part in PARTS}
    return replace(dataset, **parts)


def begun(pair: SentencePair, sources: str) -> SentencePair:
    """A pair whose source, in English, begins with the name of a language, or with a word that is always the same."""
    language = pair.task.removeprefix("eng-")
    name = {"named": language, "relative": RELATIVES.get(language, language), "unnamed": "new"}[sources]
    return replace(pair, source=f"{name.upper()} {pair.source}")


def folder_of(sources: str, arguments: argparse.Namespace) -> Path:
    """What `dataset_of` gives, as files that a recipe can name."""
    folder: Path = arguments.runs / sources
    if not folder.is_dir():
        dataset = dataset_of("tatoeba", sources, arguments.plan)
        made = folder.with_name(f"{folder.name}.part")
        made.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            rows = [{"source": e.source, "target": e.target, "task": e.task} for e in pairs_of(dataset.part(part))]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (made / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        made.rename(folder)
    return folder


# -- the starts --------------------------------------------------------------------------------------------------------


def started(start: str, encoders: dict[str, Encoder], arguments: argparse.Namespace) -> Encoder:
    """The encoder-decoder of a start, trained if it is not yet."""
    if start not in encoders:
        steps = f"training.steps={PLANS[arguments.plan].first}"
        first = trained("translation-joint", [steps, *data_of("joint", arguments)], arguments.runs / "first").encoder
        if start == "nothing":
            assert isinstance(first, EncoderDecoder)
            with torch.random.fork_rng():
                torch.manual_seed(1)
                encoders[start] = EncoderDecoder(first.settings, first.vocabulary)
        else:
            encoders[start] = goes_on(start, arguments).encoder
    return encoders[start]


def goes_on(start: str, arguments: argparse.Namespace) -> Learner:
    """The learner that goes on from the joint translator in the way that its name says."""
    changes = [f'start="{arguments.runs / "first"}"', *PLANS[arguments.plan].goes_on(start)]
    return trained("translation-maml", [*changes, *data_of(start, arguments)], arguments.runs / start)


def data_of(start: str, arguments: argparse.Namespace) -> list[str]:
    """How a recipe is changed for the sentence pairs of a start."""
    sources = "unnamed" if start.endswith("unnamed") else "named"
    return [f'data.name="{folder_of(sources, arguments)}"'] if PLANS[arguments.plan].english == "source" else []


def trained(recipe: str, changes: Sequence[str], folder: Path) -> Learner:
    """What a recipe makes, trained once and kept in a folder."""
    if not (folder / "learner").is_dir():
        train(load_recipe(recipe, changes), folder, resume=folder.is_dir())
    return load_learner(folder)[0]


def learner_of(row: Row, encoder: Encoder | None, rate: float | None, steps: int | None = None) -> Learner | None:
    """A learner over a start, that adapts as all of them do; for as many steps, if they are given."""
    if encoder is None:
        return None
    inner: dict[str, Any] = {}
    if row.rates:
        inner = {"rate": rate, "test_steps": row.test_steps, "optimiser": "adam", "order": 1, "batch": 16}
        inner |= {"dropout": True, **row.inner}
        if steps is not None:
            inner |= {"test_steps": steps, "hold_out": 0.0}
    elif row.test_steps == 0:
        inner = {"test_steps": 0}
    learner = build_learner(AlgorithmSettings(name=row.algorithm, inner=inner), encoder, Translation()).eval()
    learner.precision = torch.bfloat16
    return learner


# -- the figures -------------------------------------------------------------------------------------------------------


def chosen_rate(name: str, encoder: Encoder | None, shot: int, arguments: argparse.Namespace) -> float | None:
    """The rate of a row that is best on the `valid` pairs."""
    row = PLANS[arguments.plan].rows[name]
    if not row.rates:
        return None
    path = arguments.runs / "rows" / "valid" / f"{slug(name)}-{min(shot, 500)}.json"
    if not path.is_file():
        dataset, found = dataset_of("tatoeba", row.sources, arguments.plan), {}
        for rate in row.rates:
            learner = learner_of(row, encoder, rate)
            pairs = map(PLANS[arguments.plan].pair, VALID_LANGUAGES)
            scores = [
                measure(learner, dataset, "valid", pair, min(shot, 500), arguments, draws=1)["bleu"][0]
                for pair in pairs
            ]
            found[str(rate)] = sum(scores) / len(scores)
            print(f"{name:28s} rate {rate}: {found[str(rate)]:.1f} BLEU on valid", flush=True)
        write(path, found)
    scores = read(path)
    return float(max(scores, key=lambda rate: scores[rate]))


def measure(
    learner: Learner | None,
    dataset: PairDataset,
    part: str,
    pair: str,
    shot: int,
    arguments: argparse.Namespace,
    draws: int | None = None,
    since: int = 0,
) -> dict[str, Any]:
    """Adapts to some draws of a pair, from number `since` on, and translates its test sentences."""
    figures: dict[str, Any] = {key: [] for key in MEASURED}
    for episode in episodes(dataset, part, pair, shot, draws or arguments.draws, arguments.queries)[since:]:
        begin = process_time()
        found = translations(learner, episode, lambda b=begin: figures["seconds"].append(process_time() - b))
        bleu, chrf = corpus_scores(found, [each.target for each in pairs_of(episode.query)])
        figures["bleu"].append(100 * bleu)
        figures["chrf"].append(100 * chrf)
        figures["translations"].append(found)
    figures["references"] = [each.target for each in pairs_of(episode.query)]
    return figures


def translations(learner: Learner | None, episode: Episode, adapted: Any) -> list[str]:
    if learner is None:
        adapted()
        return [each.source for each in pairs_of(episode.query)]
    support, query = collate(learner, episode)
    state = learner.adapt(support)
    adapted()
    task = learner.task
    assert isinstance(task, Translation)
    assert query.given is not None
    greedy = task.settings.search.model_copy(update={"beam": 1})
    return task.texts(learner.scorer(state, query), query.given, greedy)


def pairs_of(examples: Sequence[Any]) -> list[SentencePair]:
    return [each for each in examples if isinstance(each, SentencePair)]


def episodes(dataset: PairDataset, part: str, pair: str, shot: int, draws: int, queries: int) -> list[Episode]:
    """Draws of the support of one pair of languages, and always the same query, of which no source is in any."""
    support, asked = dataset.pools(part)
    own = [each for each in support if each.task == pair]
    known = {normalise(each.source) for each in own}
    others = [each for each in asked or () if each.task == pair and normalise(each.source) not in known]
    judged = [others[k] for k in np.random.default_rng(0).permutation(len(others))[:queries].tolist()]
    sampler = PairSampler(
        own, way="all", shot=min(shot, len(own)), query="all", seed=7, n_episodes=draws, query_examples=judged
    )
    return [Episode(sampler[i].support, tuple(judged), (), i) for i in range(draws)]


def curve(arguments: argparse.Namespace, encoders: dict[str, Encoder]) -> None:
    """BLEU after some numbers of steps, the mean over the pairs and one draw of each, with the seconds they took."""
    path = arguments.out / f"translation{of_plan(arguments)}-curve.json"
    found = read(path) if path.is_file() else {}
    rows = PLANS[arguments.plan].rows
    for name in (each for each in arguments.rows if rows[each].rates and each not in found):
        encoder = started(rows[name].start, encoders, arguments)
        rate = chosen_rate(name, encoder, CURVE_SHOT, arguments)
        dataset, points = dataset_of(arguments.data, rows[name].sources, arguments.plan), []
        for steps in CURVE_STEPS:
            learner = learner_of(rows[name], encoder, rate, steps)
            each = [measure(learner, dataset, "test", pair, CURVE_SHOT, arguments, draws=1) for pair in arguments.pairs]
            bleu, seconds = (mean([figures[key][0] for figures in each]) for key in ("bleu", "seconds"))
            points.append({"steps": steps, "bleu": bleu, "seconds": seconds})
            print(f"{name:28s} {steps:4d} steps  {seconds:6.1f} s  BLEU {bleu:5.1f}", flush=True)
        found[name] = points
        write(path, found)
    draw(found, arguments.out / f"translation{of_plan(arguments)}-curve.svg")


def draw(found: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in found.items():
        axes.plot([each["seconds"] for each in points], [each["bleu"] for each in points], marker="o", label=name)
    axes.set_xlabel(f"seconds of adapting to {CURVE_SHOT} pairs")
    axes.set_ylabel("BLEU, mean of the new pairs")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


# -- the table ---------------------------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace) -> None:
    """The table of what has been measured, and a file of its figures."""
    files = [read(path) for path in sorted((arguments.runs / "rows").glob("*.json"))]
    found = {(each["row"], each["pair"], each["shot"]): each for each in files}
    figures: dict[str, Any] = {"signatures": Translation().signatures(), "rows": {}, "ahead": {}}
    print(*figures["signatures"], sep="\n")
    plan = PLANS[arguments.plan]
    for languages in LANGUAGES.values():
        for shot in SHOTS:
            show_size(found, tuple(plan.rows), list(map(plan.pair, languages)), shot, figures)
    write(arguments.out / f"translation{of_plan(arguments)}.json", figures)


def show_size(
    found: Mapping[tuple[str, str, int], Any],
    names: Sequence[str],
    pairs: Sequence[str],
    shot: int,
    figures: dict[str, Any],
) -> None:
    """The table of some pairs and one size of the support."""
    rows = {row: [found.get((row, pair, shot)) for pair in pairs] for row in names}
    if not any(any(cells) for cells in rows.values()):
        return
    print(f"\n| {shot} pairs, BLEU / chrF | " + " | ".join(pairs) + " | seconds |")
    print("|---|" + "---|" * (len(pairs) + 1))
    for row, cells in rows.items():
        seconds = [second for each in cells if each for second in each["seconds"]]
        if not seconds:
            continue
        line = [f"{mean(each['bleu']):.1f} / {mean(each['chrf']):.1f}" if each else "" for each in cells]
        print(f"| {row} | " + " | ".join(line) + f" | {mean(seconds):.1f} |")
        for each in filter(None, cells):
            kept = {key: each[key] for key in ("bleu", "chrf", "seconds", "rate")}
            figures["rows"][f"{row}, {each['pair']}, {shot}"] = kept
    baselines = [row for row in names if not meta_learned(row)]
    for row in filter(meta_learned, names):
        line = [ahead(found, row, baselines, pair, shot) for pair in pairs]
        if any(line):
            print(f"| {row} less the best baseline (BLEU) | " + " | ".join(line) + " | |")
            figures["ahead"][f"{row}, {shot}"] = dict(zip(pairs, line, strict=True))


def ahead(found: Mapping[tuple[str, str, int], Any], row: str, baselines: Sequence[str], pair: str, shot: int) -> str:
    """How much better the translations of a row are than those of the baseline that is best on the same sentences."""
    one = found.get((row, pair, shot))
    others = [found[name, pair, shot] for name in baselines if (name, pair, shot) in found]
    if not one or not others:
        return ""
    other = max(others, key=lambda each: mean(each["bleu"]))
    n_draws = min(len(each["translations"]) for each in (one, other))  # of the same supports
    ours, theirs = (each["translations"][:n_draws] for each in (one, other))
    return str(paired_bootstrap(ours, theirs, [one["references"]] * n_draws))


def shown(figures: Mapping[str, Any]) -> str:
    return (
        f"BLEU {mean(figures['bleu']):5.1f}  chrF {mean(figures['chrf']):5.1f}  {mean(figures['seconds']):6.1f} s"
        f"  rate {figures['rate']}"
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
