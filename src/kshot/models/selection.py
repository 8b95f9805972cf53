"""Which tensors of an encoder move: one word, used by the inner and by the outer loop."""

import re

from torch import nn

from kshot.errors import KshotError

_EMBEDDING = re.compile(r"embed|\.(?:w[tp]e|shared)\.weight$")  # GPT-2 has wte and wpe, T5 shared
_LAYER = re.compile(r"\b(?:layers?|blocks?|h)\.(\d+)\.")  # BERT, Llama; BLOOM, GPT-2
_NORM = re.compile(r"(?:Layer|RMS)Norm$")
WORDS = "all, none, layers, norm, lora, source, decoder, or top:N for the last N layers"


def select(encoder: nn.Module, moves: str) -> tuple[str, ...]:
    """Returns the names of the encoder's parameters that a word selects.

    Args:
        encoder: The encoder.
        moves: `all`; `none`; `layers`, all but the embeddings; `norm`, its LayerNorm or RMSNorm tensors; `lora`, its
            LoRA matrices; `decoder`, that of an encoder-decoder; `source`, what reads the text that is given to one,
            token embeddings included (Gu et al. 2018, arXiv:1808.08437, section 5.1); `top:N`, the last N layers of
            each of its stacks.

    Raises:
        KshotError: If the word is unknown or selects nothing.
    """
    names = [name for name, _ in encoder.named_parameters()]
    match moves.split(":"):
        case ["all"]:
            chosen = names
        case ["none"]:
            return ()
        case ["layers"]:
            chosen = [name for name in names if not _EMBEDDING.search(name)]
        case ["norm"]:
            norms = [name for name, module in encoder.named_modules() if _NORM.search(type(module).__name__)]
            chosen = [name for name in names if name.rpartition(".")[0] in norms]
        case ["lora"]:
            chosen = [name for name in names if name.endswith((".lora_a", ".lora_b"))]
        case ["decoder"]:
            chosen = [name for name in names if "decoder." in name]
        case ["source"]:
            has_decoder = any("decoder." in name for name in names)
            chosen = [name for name in names if has_decoder and not re.search(r"decoder\.|lm_head", name)]
        case ["top", number] if number.isdigit():
            places = {name: (name[: found.start()], int(found[1])) for name in names if (found := _LAYER.search(name))}
            last = dict(sorted(places.values()))  # of each stack of layers
            chosen = [name for name, (stack, layer) in places.items() if layer > last[stack] - int(number)]
        case _:
            raise KshotError(f'"{moves}" selects no tensors; choose one of {WORDS}.')
    if not chosen:
        raise KshotError(f'"{moves}" selects none of the {len(names)} tensors of this encoder; choose one of {WORDS}.')
    return tuple(chosen)
