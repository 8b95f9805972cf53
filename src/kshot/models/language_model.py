"""What the language models of transformers have in common, whether they read the given text apart or not."""

from abc import abstractmethod
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.decoders import Seq2Seq
from kshot.models.encoder import pad
from kshot.models.lora import add_lora
from kshot.models.pretrained import AutoClass, empty_auto, read_auto, read_vocabulary, resolve
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings

if TYPE_CHECKING:
    from transformers import DynamicCache

_CLOSE = 1e-3  # of the largest score, how far scores computed in two ways may differ


class LanguageModelSettings(Settings):
    """A language model of transformers.

    Attributes:
        model: A local folder, or a name on the Hub.
        max_length: Tokens after which a text is cut.
        lora_rank: The rank of LoRA matrices added to every attention and feed-forward layer; 0 for none.
        lora_alpha: Their scale, times 1 / rank.
    """

    kind: str
    model: str
    max_length: int = Field(128, ge=1)
    lora_rank: int = Field(0, ge=0)
    lora_alpha: float = 16.0


class LanguageModel(Seq2Seq):
    """A pretrained model that writes; its output layer is what a task starts with.

    Args:
        settings: What to load, and how.
        config: The configuration of a model whose weights come later (from an artefact); None loads the pretrained
            weights.
        vocabulary: As `config`.

    Attributes:
        auto: The class of transformers that loads it.
        what: What such a model is called.
        others: Models that are known to work.

    Raises:
        KshotError: If the model cannot be loaded, if its scores are not a linear layer over its states, or if it reads
            otherwise token by token than all at once.
    """

    auto: ClassVar[AutoClass]
    what: ClassVar[str]
    others: ClassVar[str]
    settings: LanguageModelSettings

    def __init__(
        self,
        settings: LanguageModelSettings,
        *,
        config: dict[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        if config is None or vocabulary is None:
            folder = resolve(settings.model)
            self.model = read_auto(folder, self.auto, self.what)
            self.vocabulary = read_vocabulary(folder, settings.max_length)
        else:
            self.model = empty_auto(config, self.auto)
            self.vocabulary = vocabulary
        table = self.model.get_input_embeddings().weight
        if len(table) < self.vocabulary.size:
            raise KshotError(
                f'"{settings.model}" has vectors of {len(table)} tokens, and its tokeniser has '
                f"{self.vocabulary.size}; give a model whose token embeddings were resized to its tokeniser."
            )
        self.dim = int(table.shape[1])
        self.token_table = next(name for name, tensor in self.named_parameters() if tensor is table)
        for module in self.modules():
            if isinstance(module, nn.Embedding) and module.weight is table:
                module.padding_idx = None  # a number of the whole table, and here are tables of some of its rows
        self._prepare()
        self.vocabulary.begin_id = self.begin_id
        self.scale = 1.0
        self._check()
        if settings.lora_rank:
            for part in self._parts():
                add_lora(part, settings.lora_rank, settings.lora_alpha)

    @abstractmethod
    def _prepare(self) -> None:
        """Sets `begin_id`, `end_id` and `most_tokens`."""

    @abstractmethod
    def _parts(self) -> tuple[nn.Module, ...]:
        """The networks below the output layer."""

    @abstractmethod
    def _own_scores(self, ids: Tensor, given: Tensor) -> Tensor:
        """The model's own scores of what follows each position of a text: as `forward` without padding."""

    @property
    def output(self) -> tuple[Tensor, Tensor | None]:
        layer, size = self.model.get_output_embeddings(), self.vocabulary.size  # a table may have rows to spare
        bias = getattr(self.model, "final_logits_bias", None)
        bias = layer.bias if bias is None else bias[0]
        return layer.weight[:size], None if bias is None else bias[:size]

    def architecture(self) -> dict[str, object]:
        config: dict[str, object] = self.model.config.to_dict()
        return {"config": config}

    @torch.no_grad()
    def _check(self) -> None:
        """Finds the scale of the states, and proves that texts are read the same in every way."""
        was_training = self.training
        self.eval()
        given, given_mask = _padded([self.end_id], [1, 2, self.end_id])
        ids, mask = _padded([self.begin_id, 3, 4], [self.begin_id, 3, 4])
        self._find_scale(ids[:1], given[:1, :1])
        weight, bias = self.output
        wanted = nn.functional.linear(self(ids, mask, given, given_mask), weight, bias)
        memory = self.read(given, given_mask)
        for place in range(ids.shape[1]):
            vectors, memory = self.step(ids[:, place], memory)
            if not _is_close(nn.functional.linear(vectors, weight, bias), wanted[:, place]):
                raise KshotError(
                    f'"{self.settings.model}" reads otherwise token by token than all at once, so it cannot write; '
                    f"take another {self.auto}, such as {self.others}."
                )
        self.train(was_training)

    def _find_scale(self, ids: Tensor, given: Tensor) -> None:
        """Compares the model's own scores with those of its output layer, the states scaled as some models do."""
        weight, bias = self.output
        wanted = self._own_scores(ids, given)[..., : self.vocabulary.size]
        vectors = self(ids, torch.ones_like(ids, dtype=torch.bool), given, torch.ones_like(given, dtype=torch.bool))
        for scale in self._scales:
            if _is_close(nn.functional.linear(scale * vectors, weight, bias), wanted):
                self.scale = scale
                return
        raise KshotError(
            f'The scores of "{self.settings.model}" are not a linear layer over its last states, so no head can stand '
            f"in for it; take another {self.auto}, such as {self.others}."
        )

    @property
    def _scales(self) -> tuple[float, ...]:
        """T5 divides the states that its tied output layer sees by the root of their size; Cohere and Granite, too."""
        about = self.model.config
        return (1.0, self.dim**-0.5, getattr(about, "logit_scale", 1.0), 1.0 / getattr(about, "logits_scaling", 1.0))


def cache_of(past: tuple[Tensor, ...]) -> "DynamicCache":
    """A cache of transformers with keys and values of each layer, (n, n_heads, length, dim), in turn."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for number in range(len(past) // 2):
        cache.update(past[2 * number], past[2 * number + 1], number)
    return cache


def past_of(cache: Any) -> tuple[Tensor, ...]:
    """The keys and values of each layer of a cache of transformers."""
    return tuple(each for layer in cache.layers for each in (layer.keys, layer.values))


def arguments_of(network: nn.Module) -> frozenset[str]:
    """What the `forward` of a network takes."""
    return frozenset(signature(type(network).forward).parameters)


def cache_name(arguments: frozenset[str]) -> str | None:
    """What a network calls its cache: older versions of transformers have another word. None if it takes none."""
    return next((name for name in ("cache", "past_key_values") if name in arguments), None)


def _padded(*texts: list[int]) -> tuple[Tensor, Tensor]:
    return pad([np.array(text, dtype=np.int32) for text in texts], 0)


def _is_close(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= _CLOSE * float(wanted.abs().max())
