"""From settings to an encoder, and between an encoder and a folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from kshot.models.decoders import EncoderDecoder, EncoderDecoderSettings
from kshot.models.encoder import Encoder
from kshot.models.language_model import LanguageModelSettings
from kshot.models.pretrained import PretrainedEncoder, PretrainedSettings, token_embeddings
from kshot.models.pretrained_causal import PretrainedCausal, PretrainedCausalSettings
from kshot.models.pretrained_seq2seq import PretrainedSeq2Seq, PretrainedSeq2SeqSettings
from kshot.models.scratch import (
    CNN,
    LSTM,
    Bag,
    BagSettings,
    CNNSettings,
    LSTMSettings,
    ScratchSettings,
    Transformer,
    TransformerSettings,
)
from kshot.models.vocabulary import SpelledVocabulary, Vocabulary

EncoderSettings = Annotated[
    BagSettings
    | CNNSettings
    | LSTMSettings
    | TransformerSettings
    | PretrainedSettings
    | EncoderDecoderSettings
    | PretrainedSeq2SeqSettings
    | PretrainedCausalSettings,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(EncoderSettings)
_SCRATCH: dict[str, Any] = {"bag": Bag, "cnn": CNN, "lstm": LSTM, "transformer": Transformer}
_PRETRAINED: dict[str, Any] = {
    "pretrained": PretrainedEncoder,
    "pretrained-seq2seq": PretrainedSeq2Seq,
    "pretrained-causal": PretrainedCausal,
}
ENCODER_KINDS = (*_SCRATCH, "pretrained")
_CONFIG, _WEIGHTS = "encoder.json", "encoder.safetensors"


def build_encoder(settings: EncoderSettings, texts: Sequence[str], *, seed: int) -> Encoder:
    """Builds an encoder with its first weights.

    Args:
        settings: Which encoder.
        texts: What a vocabulary is learned from, if the encoder has one of its own.
        seed: Decides the random weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(settings, PretrainedSettings | LanguageModelSettings):
            pretrained: Encoder = _PRETRAINED[settings.kind](settings)
            return pretrained
        if isinstance(settings, EncoderDecoderSettings):
            size, longest = settings.source.vocabulary_size, settings.max_length
            return EncoderDecoder(settings, Vocabulary.cased(texts, size=size, max_length=longest))
        table = None
        if settings.embeddings is not None:
            vocabulary, table = token_embeddings(settings.embeddings, max_length=settings.max_length)
        else:
            learn = {"word": Vocabulary.words, "bpe": Vocabulary.bpe, "characters": SpelledVocabulary.learn}
            vocabulary = learn[settings.tokens](texts, size=settings.vocabulary_size, max_length=settings.max_length)
        encoder: Encoder = _SCRATCH[settings.kind](settings, vocabulary, table)
        return encoder


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes an encoder's settings, weights and vocabulary into a folder."""
    description = {"settings": encoder.settings.model_dump(mode="json"), "architecture": encoder.architecture()}
    (folder / _CONFIG).write_text(json.dumps(description, indent=2, default=str) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in _distinct(encoder).items()}, folder / _WEIGHTS)
    encoder.vocabulary.save(folder)


def load_encoder(folder: Path) -> Encoder:
    """Reads an encoder that `save_encoder` wrote; nothing is downloaded."""
    description = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    settings = _ADAPTER.validate_python(description["settings"])
    spelled = isinstance(settings, ScratchSettings) and settings.is_spelled
    vocabulary = (SpelledVocabulary if spelled else Vocabulary).load(folder, max_length=settings.max_length)
    with torch.random.fork_rng(devices=[]):
        if isinstance(settings, PretrainedSettings | LanguageModelSettings):
            config = description["architecture"]["config"]
            encoder: Encoder = _PRETRAINED[settings.kind](settings, config=config, vocabulary=vocabulary)
        elif isinstance(settings, EncoderDecoderSettings):
            encoder = EncoderDecoder(settings, vocabulary)
        else:
            shape = description["architecture"]
            table = torch.empty(shape["n_tokens"], shape["embedding_dim"]) if settings.embeddings is not None else None
            encoder = _SCRATCH[settings.kind](settings, vocabulary, table)
    saved = load_file(folder / _WEIGHTS)
    if lacking := set(_distinct(encoder)) - set(saved):
        raise KeyError(min(lacking))
    encoder.load_state_dict(saved, strict=set(saved) == set(encoder.state_dict()))
    return encoder


def _distinct(encoder: Encoder) -> dict[str, Tensor]:
    """An encoder's tensors, one that has two names under the first of them."""
    seen: dict[int, str] = {}
    tensors = encoder.state_dict()
    return {name: tensor for name, tensor in tensors.items() if seen.setdefault(tensor.data_ptr(), name) == name}
