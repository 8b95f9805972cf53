"""How fast translations are written: with the cache, without it, and by Hugging Face's `generate`.

    python benchmarks/decoding.py
    python benchmarks/decoding.py --threads 2 --beam 4

The encoder-decoder of the recipe `translation-joint` with random weights (speed does not depend on them), and a
MarianMTModel of the same sizes. Every translation has exactly --tokens tokens, so that all do the same work. Each row
is timed in turn, several times; the median counts.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from kshot.models.decoders import EncoderDecoder, EncoderDecoderSettings
from kshot.models.encoder import encode
from kshot.models.search import SearchSettings, search
from kshot.models.vocabulary import END, PAD, UNKNOWN, TokenIds, Vocabulary
from kshot.run.config import load_recipe


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    network = random_network()
    rng = np.random.default_rng(0)
    given = [
        rng.integers(300, network.vocabulary.size, size=arguments.source).astype(np.int32)
        for _ in range(arguments.sentences)
    ]
    rows: dict[str, Callable[[], None]] = {
        "kshot": lambda: cached(network, given, arguments.tokens, arguments.beam),
        "kshot, without a cache (greedy)": lambda: uncached(network, given, arguments.tokens),
    }
    marian = same_marian(network)
    if marian is not None:
        rows["Hugging Face generate"] = lambda: generated(marian, given, arguments.tokens, arguments.beam)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(arguments.repeats + 1):
        for name, run in rows.items():
            begin = perf_counter()
            run()
            if turn:  # the first time warms up
                times[name].append(perf_counter() - begin)
    print(
        f"{len(given)} sentences of {arguments.source} tokens, {arguments.tokens} written each, beam {arguments.beam}, "
        f"{arguments.threads} threads"
    )
    figures = {name: len(given) / median(each) for name, each in times.items()}
    print("\n| | sentences/s | spread |\n|---|---|---|")
    for name, each in times.items():
        low, high = len(given) / max(each), len(given) / min(each)
        print(f"| {name} | {figures[name]:.0f} | {low:.0f} to {high:.0f} |")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    arguments.out.write_text(json.dumps({"settings": settings, "sentences_per_second": figures}, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--source", type=int, default=30, help="tokens of a sentence")
    parser.add_argument("--tokens", type=int, default=30, help="tokens of a translation")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decoding.json"))
    return parser.parse_args()


def random_network() -> EncoderDecoder:
    settings = load_recipe("translation-joint").encoder
    assert isinstance(settings, EncoderDecoderSettings)
    size = settings.source.vocabulary_size
    from tokenizers import Tokenizer, models

    names = [PAD, UNKNOWN, "[BEGIN]", END, *(f"w{number}" for number in range(size - 4))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=UNKNOWN))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EncoderDecoder(settings, Vocabulary(tokenizer, settings.max_length)).eval()


def without_end(network: EncoderDecoder) -> Callable[[Tensor], Tensor]:
    """The scores of a network that never ends by itself."""
    weight = network.output[0]
    bias = torch.zeros(len(weight)).index_fill(0, torch.tensor([network.end_id]), -1e9)
    return lambda vectors: torch.nn.functional.linear(vectors, weight, bias)


def cached(network: EncoderDecoder, given: list[TokenIds], n_tokens: int, beam: int) -> None:
    found = search(network, without_end(network), given, SearchSettings(beam=beam, longest=n_tokens))
    assert all(len(each.tokens) == n_tokens for each in found)


def uncached(network: EncoderDecoder, given: list[TokenIds], n_tokens: int) -> None:
    """Reads all that was written anew for each token."""
    scores = without_end(network)
    said = [np.array([network.begin_id], dtype=np.int32) for _ in given]
    with torch.no_grad():
        for _ in range(n_tokens):
            last = [np.array([[len(each) - 1, len(each)]], dtype=np.int32) for each in said]
            vectors = encode(network, said, words=last, given=given)
            chosen = scores(vectors).argmax(dim=-1).numpy().astype(np.int32)
            said = [np.append(each, token) for each, token in zip(said, chosen, strict=True)]


def same_marian(network: EncoderDecoder) -> torch.nn.Module | None:
    from transformers import MarianConfig, MarianMTModel

    settings = network.settings
    return MarianMTModel(
        MarianConfig(
            vocab_size=network.vocabulary.size,
            d_model=network.dim,
            encoder_layers=settings.n_layers,
            decoder_layers=settings.n_layers,
            encoder_attention_heads=settings.n_heads,
            decoder_attention_heads=settings.n_heads,
            encoder_ffn_dim=4 * network.dim,
            decoder_ffn_dim=4 * network.dim,
            max_position_embeddings=settings.max_length,
            pad_token_id=network.vocabulary.pad_id,
            eos_token_id=network.end_id,
            decoder_start_token_id=network.begin_id,
        )
    ).eval()


def generated(marian: torch.nn.Module, given: list[TokenIds], n_tokens: int, beam: int) -> None:
    ids = torch.from_numpy(np.stack(given)).long()
    with torch.no_grad():
        found = marian.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), num_beams=beam, min_new_tokens=n_tokens, max_new_tokens=n_tokens
        )
    assert found.shape[1] == n_tokens + 1


if __name__ == "__main__":
    main()
