"""Any Hugging Face `AutoModelForSeq2SeqLM` as an encoder-decoder."""

from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.decoders import Memory, Seq2Seq
from kshot.models.lora import add_lora
from kshot.models.pretrained import _first_line, _quietly, _vocabulary, positions_of, resolve
from kshot.models.vocabulary import Vocabulary
from kshot.settings import Settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_CLOSE = 1e-3  # of the largest score, how far scores computed in two ways may differ


class PretrainedSeq2SeqSettings(Settings):
    """A Hugging Face `AutoModelForSeq2SeqLM`, with one tokeniser for both sides.

    Attributes:
        model: A local folder, or a name on the Hub.
        max_length: Tokens after which a text is cut.
        lora_rank: The rank of LoRA matrices added to every attention and feed-forward layer; 0 for none.
        lora_alpha: Their scale, times 1 / rank.
    """

    kind: Literal["pretrained-seq2seq"] = "pretrained-seq2seq"
    model: str
    max_length: int = 128
    lora_rank: int = 0
    lora_alpha: float = 16.0


class PretrainedSeq2Seq(Seq2Seq):
    """A pretrained encoder-decoder; its output layer is what a task starts with.

    Args:
        settings: What to load, and how.
        config: The configuration of a model whose weights come later (from an artefact); None loads the pretrained
            weights.
        vocabulary: As `config`.

    Raises:
        KshotError: If the model cannot be loaded, or its scores are not a linear layer over the decoder's states.
    """

    settings: PretrainedSeq2SeqSettings

    def __init__(
        self,
        settings: PretrainedSeq2SeqSettings,
        *,
        config: dict[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        if config is None or vocabulary is None:
            folder = resolve(settings.model)
            self.model = _pretrained(str(folder))
            self.vocabulary = _vocabulary(folder, settings.max_length)
        else:
            self.model = _empty(config)
            self.vocabulary = vocabulary
        about = self.model.config
        begin = about.decoder_start_token_id
        self.begin_id = int(about.pad_token_id if begin is None else begin)
        self.end_id = int(about.eos_token_id)
        self.vocabulary.begin_id = self.begin_id
        longest = positions_of(about, settings.max_length, settings.model)
        self.most_tokens = settings.max_length if longest is None else longest
        table = self.model.get_input_embeddings().weight
        self.dim = int(table.shape[1])
        self.token_table = next(name for name, tensor in self.named_parameters() if tensor is table)
        # T5 divides the states that its tied output layer sees by the root of their size; others leave them.
        self.scale = 1.0
        self._find_scale()
        if settings.lora_rank:
            for part in (self.model.get_encoder(), self.model.get_decoder()):
                add_lora(part, settings.lora_rank, settings.lora_alpha)

    def forward(
        self, ids: Tensor, mask: Tensor, given: Tensor | None = None, given_mask: Tensor | None = None
    ) -> Tensor:
        assert given is not None
        assert given_mask is not None
        states = self._encoded(given, given_mask)
        vectors: Tensor = self.model.get_decoder()(
            input_ids=ids,
            attention_mask=mask.long(),
            encoder_hidden_states=states,
            encoder_attention_mask=given_mask.long(),
            use_cache=False,
        ).last_hidden_state
        return self.scale * vectors

    @property
    def output(self) -> tuple[Tensor, Tensor | None]:
        layer = self.model.get_output_embeddings()
        bias = getattr(self.model, "final_logits_bias", None)
        return layer.weight, layer.bias if bias is None else bias[0]

    def read(self, given: Tensor, given_mask: Tensor) -> Memory:
        return Memory((), (given_mask, self._encoded(given, given_mask)))

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        given_mask, states, *crossed = memory.source
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for number in range(len(memory.past) // 2):
            keys, values = 2 * number, 2 * number + 1
            cache.self_attention_cache.update(memory.past[keys], memory.past[values], number)
            cache.cross_attention_cache.update(crossed[keys], crossed[values], number)
            cache.is_updated[number] = True
        vectors: Tensor = self.model.get_decoder()(
            input_ids=tokens.unsqueeze(1),
            encoder_hidden_states=states,
            encoder_attention_mask=given_mask.long(),
            use_cache=True,
            **{self._cache_argument: cache},
        ).last_hidden_state
        past, cross = _tensors(cache.self_attention_cache), _tensors(cache.cross_attention_cache)
        return self.scale * vectors[:, -1], Memory(past, (given_mask, states, *cross), memory.length + 1)

    @cached_property
    def _cache_argument(self) -> str:
        """What the decoder calls its cache: older versions of transformers have another word."""
        taken = signature(type(self.model.get_decoder()).forward).parameters
        return "cache" if "cache" in taken else "past_key_values"

    def architecture(self) -> dict[str, object]:
        config: dict[str, object] = self.model.config.to_dict()
        return {"config": config}

    def _encoded(self, given: Tensor, given_mask: Tensor) -> Tensor:
        states: Tensor = self.model.get_encoder()(input_ids=given, attention_mask=given_mask.long()).last_hidden_state
        return states

    def _find_scale(self) -> None:
        """Compares the model's own scores with those of its output layer, as they are and scaled as T5's."""
        was_training = self.training
        self.eval()
        given = torch.tensor([[self.end_id]])
        begin, mask = torch.tensor([[self.begin_id]]), torch.ones(1, 1, dtype=torch.bool)
        weight, bias = self.output
        with torch.no_grad():
            wanted = self.model(input_ids=given, decoder_input_ids=begin).logits
            vectors = self(begin, mask, given, mask)
            for scale in (1.0, self.dim**-0.5):
                found = nn.functional.linear(scale * vectors, weight, bias)
                if float((found - wanted).abs().max()) <= _CLOSE * float(wanted.abs().max()):
                    self.scale = scale
                    self.train(was_training)
                    return
        raise KshotError(
            f'The scores of "{self.settings.model}" are not a linear layer over the states of its decoder, so no head '
            "can stand in for it; take another AutoModelForSeq2SeqLM, such as a T5, BART, mBART or M2M100."
        )


def _tensors(cache: Any) -> tuple[Tensor, ...]:
    """Keys and values of each layer of a cache."""
    return tuple(each for layer in cache.layers for each in (layer.keys, layer.values))


def _pretrained(folder: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    try:
        with _quietly():
            return AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise KshotError(
            f"{folder} holds no encoder-decoder that transformers can load ({_first_line(error)}); give the folder of "
            "an AutoModelForSeq2SeqLM."
        ) from error


def _empty(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    rebuilt: PretrainedConfig = AutoConfig.for_model(**config)
    from_config: Any = AutoModelForSeq2SeqLM.from_config  # untyped in some versions
    return from_config(rebuilt, attn_implementation="sdpa", dtype=torch.float32)
