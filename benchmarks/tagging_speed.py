"""Seconds to learn entities from 20 and 50 sentences, and sentences tagged a second: kshot beside spaCy and flair.

    python benchmarks/tagging_speed.py
    python benchmarks/tagging_speed.py --methods kshot spacy --target science

All learn from the same sentences of a target of `benchmarks/ner.py` and tag the same test sentences, in one run, on
--threads threads. spaCy (`pip install spacy`) and flair (`pip install flair`) start from nothing, as they do where no
model of the domain can be downloaded: spaCy's blank English pipeline, and flair's BiLSTM-CRF over word and character
embeddings. kshot starts from MiniLM: as it comes, and meta-trained by `python benchmarks/ner.py --rows decomposed`.
"""

import argparse
import json
import logging
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import torch
from ner import TARGETS, Fixed

from kshot import MetaLearner, load
from kshot.data.catalogue import load_dataset
from kshot.data.examples import Episode, TaggedExample
from kshot.data.tags import Span, spans_of
from kshot.models.encoder import encode
from kshot.tasks.scores import span_scores

SHOTS = (20, 50)
Sentences = Sequence[TaggedExample]
Tagger = Callable[[Sentences], list[list[Span]]]
Method = Callable[[Sentences], Tagger]
"""Learns from sentences, and gives what finds the entities of others."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    name, split = TARGETS[arguments.target]
    dataset = load_dataset(name, split=split)
    figures = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
    methods = {name: learn for family in arguments.methods for name, learn in FAMILIES[family](arguments).items()}
    settings = {"target": arguments.target, "draws": arguments.draws, "threads": arguments.threads}
    figures |= {name: figures.get(name, {}) | settings for name in methods}
    for shot in arguments.shots:
        episodes = Fixed(dataset, shot, arguments.draws, arguments.queries)
        for name, each in measure(methods, [episodes[k] for k in range(len(episodes))]).items():
            figures[name][str(shot)] = each
            print(name, shot, each, flush=True)
    figures = {name: figures[name] for name in (*methods, *figures)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    show(figures)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--target", default="bc5cdr", choices=list(TARGETS))
    parser.add_argument("--shots", nargs="*", type=int, default=list(SHOTS), choices=SHOTS)
    parser.add_argument("--draws", type=int, default=3, help="supports of each size")
    parser.add_argument("--queries", type=int, default=300, help="test sentences")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, default=Path("runs/ner/decomposed"), help="the meta-trained learner")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tagging_speed.json"))
    return parser.parse_args()


def measure(methods: Mapping[str, Method], episodes: Sequence[Episode]) -> dict[str, dict[str, float]]:
    """Medians over the draws of the seconds to learn and to tag, the methods taking turns; the mean of F1."""
    seconds, rates, f1 = ({name: [] for name in methods} for _ in range(3))
    for learn in methods.values():  # what the first call of a library costs is not of learning
        learn(episodes[0].support[:5])(episodes[0].query[:50])
    for episode in episodes:
        for name, learn in methods.items():
            begin = perf_counter()
            tagger = learn(episode.support)
            seconds[name].append(perf_counter() - begin)
            begin = perf_counter()
            found = tagger(episode.query)
            rates[name].append(len(episode.query) / (perf_counter() - begin))
            f1[name].append(span_scores([each.spans for each in episode.query], found)[0])
    return {
        name: {
            "seconds": median(seconds[name]),
            "sentences_a_second": median(rates[name]),
            "f1": 100 * fmean(f1[name]),
        }
        for name in methods
    }


# -- kshot -------------------------------------------------------------------------------------------------------------


def kshot_methods(arguments: argparse.Namespace) -> dict[str, Method]:
    frozen = MetaLearner.untrained(algorithm="ridge", task="tagging")
    trained = load(arguments.run).variant(algorithm="ridge")
    return {
        "MiniLM's forward pass alone": lambda support: forward_pass(frozen),
        "kshot, ridge over MiniLM": lambda support: kshot_tagger(frozen, support),
        "kshot, ridge over meta-trained MiniLM": lambda support: kshot_tagger(trained, support),
    }


def forward_pass(own: MetaLearner) -> Tagger:
    """The encoder alone, on ready token numbers; finds nothing."""
    vocabulary = own.learner.encoder.vocabulary

    def tag(sentences: Sentences) -> list[list[Span]]:
        windows = [window for each in vocabulary.encode_words([s.tokens for s in sentences]) for window in each]
        with torch.no_grad():
            encode(own.learner.encoder, [each.ids for each in windows], words=[each.words for each in windows])
        return [[] for _ in sentences]

    return tag


def kshot_tagger(own: MetaLearner, support: Sentences) -> Tagger:
    own.learner.encoder.vocabulary.forget()
    task = own.adapt(support)

    def tag(sentences: Sentences) -> list[list[Span]]:
        own.learner.encoder.vocabulary.forget()
        return [list(spans_of(each.tags)) for each in task.predict([list(s.tokens) for s in sentences])]

    return tag


# -- spaCy -------------------------------------------------------------------------------------------------------------


def spacy_methods(arguments: argparse.Namespace) -> dict[str, Method]:
    installed("spacy")
    return {"spaCy, from scratch": spacy_tagger}


def spacy_tagger(support: Sentences) -> Tagger:
    """The `ner` component of a blank pipeline, 30 passes in shuffled batches of growing size, as in spaCy's guides."""
    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example
    from spacy.util import compounding, fix_random_seed, minibatch

    fix_random_seed(0)
    nlp = spacy.blank("en")
    ner = nlp.add_pipe("ner")
    examples = []
    for each in support:
        doc = Doc(nlp.vocab, words=list(each.tokens))
        own = [(doc[s.start].idx, doc[s.end - 1].idx + len(doc[s.end - 1]), s.label) for s in each.spans]
        examples.append(Example.from_dict(doc, {"entities": own}))
    for label in sorted({label for each in support for label in each.labels}):
        ner.add_label(label)
    optimiser = nlp.initialize(lambda: examples)
    rng = random.Random(0)
    for _ in range(30):
        rng.shuffle(examples)
        for batch in minibatch(examples, size=compounding(4.0, 32.0, 1.001)):
            nlp.update(batch, sgd=optimiser, drop=0.2)

    def tag(sentences: Sentences) -> list[list[Span]]:
        docs = nlp.pipe(Doc(nlp.vocab, words=list(each.tokens)) for each in sentences)
        return [[Span(entity.start, entity.end, entity.label_) for entity in doc.ents] for doc in docs]

    return tag


# -- flair -------------------------------------------------------------------------------------------------------------


def flair_methods(arguments: argparse.Namespace) -> dict[str, Method]:
    installed("flair")
    return {"flair, from scratch": flair_tagger}


def flair_tagger(support: Sentences) -> Tagger:
    """A BiLSTM-CRF of flair's usual size over one-hot words and a BiLSTM over characters, its trainer's defaults."""
    import flair
    from flair.data import Corpus, Dictionary, Sentence
    from flair.datasets import FlairDatapointDataset
    from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings
    from flair.models import SequenceTagger
    from flair.trainers import ModelTrainer

    flair.set_seed(0)
    logging.getLogger("flair").setLevel(logging.ERROR)

    def spoken(each: TaggedExample, tagged: bool) -> Sentence:
        sentence = Sentence(list(each.tokens))
        for span in each.spans if tagged else ():
            sentence[span.start : span.end].add_label("ner", span.label)
        return sentence

    train = FlairDatapointDataset([spoken(each, True) for each in support])
    corpus = Corpus(train=train, dev=train, test=None, sample_missing_splits=False)
    characters = Dictionary()
    for each in support:
        for character in each.text:
            characters.add_item(character)
    with tempfile.TemporaryDirectory() as folder:
        characters.save(Path(folder) / "characters")  # flair's own list is downloaded
        embeddings = [
            OneHotEmbeddings.from_corpus(corpus, min_freq=1),
            CharacterEmbeddings(path_to_char_dict=str(Path(folder) / "characters")),
        ]
        tagger = SequenceTagger(
            hidden_size=256,
            embeddings=StackedEmbeddings(embeddings),
            tag_dictionary=corpus.make_label_dictionary("ner", add_unk=False),
            tag_type="ner",
        )
        ModelTrainer(tagger, corpus).train(
            folder, max_epochs=30, mini_batch_size=4, train_with_dev=True, save_final_model=False, monitor_test=False
        )

    def tag(sentences: Sentences) -> list[list[Span]]:
        made = [spoken(each, False) for each in sentences]
        tagger.predict(made, mini_batch_size=32)
        return [
            [Span(s.tokens[0].idx - 1, s.tokens[-1].idx, s.get_label("ner").value) for s in each.get_spans("ner")]
            for each in made
        ]

    return tag


FAMILIES: dict[str, Callable[[argparse.Namespace], dict[str, Method]]] = {
    "kshot": kshot_methods,
    "spacy": spacy_methods,
    "flair": flair_methods,
}


def installed(package: str) -> None:
    if find_spec(package) is None:
        raise SystemExit(f"{package} is not installed; pip install {package}, or choose others by --methods.")


def show(figures: dict[str, Any]) -> None:
    """Prints a Markdown table."""
    print("\n| | s to learn 20 | s to learn 50 | sentences/s | F1 from 20 | F1 from 50 |\n|---|---|---|---|---|---|")
    for method, each in figures.items():
        measured = [each.get(str(shot)) for shot in SHOTS]
        seconds = [f"{found['seconds']:.2f}" if found else "" for found in measured]
        f1 = [f"{found['f1']:.1f}" if found else "" for found in measured]
        # What was learned from does not change the time to tag, so the faster is the one that was less disturbed.
        rate = f"{max(found['sentences_a_second'] for found in measured if found):.0f}"
        if "forward" in method:
            seconds, f1 = ["", ""], ["", ""]
        print(f"| {' | '.join([method, *seconds, rate, *f1])} |")


if __name__ == "__main__":
    main()
