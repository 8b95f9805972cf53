"""What it costs that no two updates have as many tokens, and what filling rows up saves of it.

    python benchmarks/lengths.py                       five minutes

MiniLM, and a Transformer from scratch that is half as wide, are trained by AdamW to tell ten classes, with 48 texts an
update, each text being one to six requests of clinc150 in a row, so that hardly two updates have as many tokens. All
ways start from the same weights and take turns, update by update, in one process: float32 and bfloat16, each as kshot
works by default (`training.kernels = "auto"`) and by PyTorch's own products (`"plain"`). Processor time; medians and
quartiles after the first updates.
"""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kshot.data.catalogue import load_dataset
from kshot.models.build import build_encoder
from kshot.models.encoder import encode
from kshot.models.kernels import Kernels
from kshot.models.pretrained import PretrainedSettings
from kshot.models.products import kernels
from kshot.models.scratch import TransformerSettings

TEXTS, CLASSES, MOST_REQUESTS = 48, 10, 6
NETWORKS: dict[str, Any] = {
    "MiniLM": PretrainedSettings(max_length=128),
    "Transformer": TransformerSettings(model_dim=192, embedding_dim=192, n_layers=6, n_heads=4, max_length=128),
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CHOICES: tuple[Kernels, ...] = ("auto", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--first", type=int, default=10, help="updates that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lengths.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    requests = sorted({text for each in load_dataset("clinc150").train for text in each.texts})
    ways = {way: updater(*way, requests) for way in product(NETWORKS, PRECISIONS, CHOICES)}
    rng = np.random.default_rng(1)
    seconds: dict[tuple[str, str, Kernels], list[float]] = {way: [] for way in ways}
    for update in range(arguments.first + arguments.updates):
        most = rng.integers(1, MOST_REQUESTS + 1)
        parts = [rng.choice(len(requests), rng.integers(1, most + 1)).tolist() for _ in range(TEXTS)]
        texts = [" ".join(requests[k] for k in own) for own in parts]
        labels = torch.from_numpy(rng.integers(CLASSES, size=TEXTS))
        for place in rng.permutation(len(ways)):  # whoever comes first finds the caches of another
            way = list(ways)[place]
            begin = process_time()
            ways[way](texts, labels)
            if update >= arguments.first:
                seconds[way].append(process_time() - begin)
    rows = {
        ", ".join(way): dict(zip(("q1", "median", "q3"), np.quantile(found, [0.25, 0.5, 0.75]).tolist(), strict=True))
        for way, found in seconds.items()
    }
    machine = {"processor": platform.processor() or platform.machine(), "threads": arguments.threads}
    figures = {"machine": machine | {"torch": torch.__version__}, "seconds": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, row in rows.items():
        print(f"{name:30s} {1000 * row['median']:6.0f} ms an update ({1000 * row['q1']:.0f} to {1000 * row['q3']:.0f})")


def updater(
    network: str, precision: str, choice: Kernels, texts: Sequence[str]
) -> Callable[[list[str], torch.Tensor], None]:
    """What makes one update of a network of its own, whose vocabulary is that of some texts."""
    encoder = build_encoder(NETWORKS[network], texts, seed=0).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(encoder.dim, CLASSES)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-5, fused=True)

    def run(texts: list[str], labels: torch.Tensor) -> None:
        tokens = encoder.vocabulary.encode(texts)
        optimiser.zero_grad()
        with kernels(choice, foreign=encoder.foreign):
            vectors = encode(encoder, tokens, precision=PRECISIONS[precision])
        F.cross_entropy(head(vectors.float()), labels).backward()
        optimiser.step()

    return run


if __name__ == "__main__":
    main()
