"""How many short texts a second go through MiniLM, beside sentence-transformers in its default settings.

    python benchmarks/encoding.py                      about two minutes; needs sentence-transformers for its row

Different requests of clinc150 (11 tokens on average), from text to vector. All rows take turns within one run, so that
what else the machine does falls on all of them; the figures are the median and the fastest of the turns. The vectors
are compared first. The floor is the arithmetic that the tokens need, at the rate of the fastest product of matrices
measured in the same turns, in float32 or in bfloat16. What bfloat16 does to accuracy is measured on the same test
episodes as float32, in pairs.
"""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kshot.data.catalogue import load_dataset
from kshot.meta_learner import MetaLearner
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, encode
from kshot.models.packed import packed
from kshot.models.pretrained import PretrainedSettings, resolve
from kshot.models.products import Linear, kernels
from kshot.run.evaluate import evaluate

PEER = "sentence-transformers"
ROWS = {"kshot": "float32", "kshot, PyTorch's own products": "float32", "kshot, bfloat16": "bfloat16"}
ALIKE = 0.9999  # the cosine that float32 vectors have to those of sentence-transformers at least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4_096)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/encoding.json"))
    arguments = parser.parse_args()
    texts = some_texts(arguments.texts)
    encoder = build_encoder(PretrainedSettings(max_length=256), [], seed=0).eval()
    lengths = np.array([len(ids) for ids in encoder.vocabulary.encode(texts)])
    systems = systems_of(encoder)
    vectors = {name: run(texts) for name, run in systems.items()}  # a first run of each, not timed
    times: dict[str, list[float]] = {name: [] for name in systems}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(arguments.turns):
        for name, run in systems.items():
            begin = perf_counter()
            run(texts)
            times[name].append(perf_counter() - begin)
        for precision, found in rates.items():
            found.append(product_rate(getattr(torch, precision)))
    work = gigaflop(encoder, lengths)
    reference = PEER if PEER in systems else "kshot"
    rows = {}
    for name, seconds in times.items():
        precision = ROWS.get(name, "float32")
        rows[name] = {
            "precision": precision,
            "texts_per_second": len(texts) / median(seconds),
            "texts_per_second_fastest": len(texts) / min(seconds),
            "ratio": median(a / b for a, b in zip(times[reference], seconds, strict=True)),
            "share_of_floor": work / max(rates[precision]) / median(seconds),
            "lowest_cosine": lowest_cosine(vectors[name], vectors[reference]),
        }
        if precision == "float32":
            assert rows[name]["lowest_cosine"] > ALIKE, (name, rows[name])
    figures = {
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "peers": {PEER: version(PEER)} if PEER in systems else {},
        "texts": len(texts),
        "tokens": int(lengths.sum()),
        "gigaflop": work,
        "fastest_product_gflop_per_second": {precision: max(found) for precision, found in rates.items()},
        "rows": rows,
        "accuracy_bfloat16": accuracy_of(arguments.episodes),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


def some_texts(n: int) -> list[str]:
    """Different texts of clinc150 in random order."""
    dataset = load_dataset("clinc150")
    texts = list(dict.fromkeys(example.text for example in (*dataset.train, *dataset.valid, *dataset.test)))
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:n]]


def systems_of(encoder: Encoder) -> dict[str, Callable[[Sequence[str]], Tensor]]:
    """What takes turns: each from texts to vectors, nothing being remembered."""

    def kshot(texts: Sequence[str], precision: torch.dtype = torch.float32) -> Tensor:
        encoder.vocabulary.forget()
        with torch.no_grad():
            return encode(encoder, encoder.vocabulary.encode(texts), precision=precision)

    def by_pytorch(texts: Sequence[str]) -> Tensor:
        with kernels("plain"):
            return kshot(texts)

    systems: dict[str, Callable[[Sequence[str]], Tensor]] = {}
    if find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer

        peer = SentenceTransformer(str(resolve("minilm")), device="cpu")
        systems[PEER] = lambda texts: torch.from_numpy(peer.encode(list(texts)))
    return {
        **systems,
        "kshot": kshot,
        "kshot, PyTorch's own products": by_pytorch,
        "kshot, bfloat16": lambda texts: kshot(texts, torch.bfloat16),
    }


def lowest_cosine(ours: Tensor, theirs: Tensor) -> float:
    return float(F.cosine_similarity(ours.double(), theirs.double()).min())


def gigaflop(encoder: Encoder, lengths: NDArray[np.int64]) -> float:
    """What a BERT has to compute for texts of some lengths, no padding included: products of matrices alone.

    2 (4 d^2 + 2 d w) a token and layer for the linear layers, 4 L d for attention; d the size of vectors, w that of the
    layer between, L the length.
    """
    config = encoder.architecture()["config"]
    assert isinstance(config, dict)
    d, w, n_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    each = 2 * (4 * d * d + 2 * d * w) + 4 * lengths * d
    return float(n_layers * (lengths * each).sum() / 1e9)


def product_rate(precision: torch.dtype, seconds: float = 0.3) -> float:
    """GFLOP/s of the faster product of (1024, 384) and (384, 1536) that there is: PyTorch's own and kshot's."""
    x, layer = torch.randn(1_024, 384).to(precision), Linear(384, 1_536)
    weight = layer.weight.detach().to(precision)
    found = []
    with torch.no_grad(), packed([layer], precision):
        for product in (lambda: F.linear(x, weight), lambda: layer(x)):
            product()
            begin, n = perf_counter(), 0
            while perf_counter() - begin < seconds:
                product()
                n += 1
            found.append(2 * 1_024 * 384 * 1_536 * n / (perf_counter() - begin) / 1e9)
    return max(found)


def accuracy_of(n_episodes: int) -> dict[str, dict[str, float]]:
    """What bfloat16 costs: frozen prototypes on test episodes, paired with float32 on the same ones."""
    dataset, figures = load_dataset("clinc150"), {}
    for way, shot, n in ((5, 5, n_episodes), ("all", 5, n_episodes // 10)):
        sampler = dataset.sampler("test", way=way, shot=shot, query=10, seed=0, n_episodes=n)  # type: ignore[arg-type]
        learner = MetaLearner.untrained().learner
        exact = evaluate(learner, sampler, time=False)
        learner.precision = torch.bfloat16
        rough = evaluate(learner, sampler, time=False)
        lift = rough.lift(exact)
        figures[f"{way}-way {shot}-shot"] = {
            "float32": exact.accuracy.mean,
            "bfloat16": rough.accuracy.mean,
            "difference": lift.mean,
            "interval": lift.half_width,
            "episodes": n,
        }
    return figures


def processor() -> str:
    """Its name, where the system says it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


if __name__ == "__main__":
    main()
