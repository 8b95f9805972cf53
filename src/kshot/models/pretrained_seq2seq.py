"""Any Hugging Face `AutoModelForSeq2SeqLM` as an encoder-decoder."""

from functools import cached_property
from typing import Literal

from torch import Tensor, nn

from kshot.models.decoders import Memory
from kshot.models.language_model import (
    LanguageModel,
    LanguageModelSettings,
    arguments_of,
    cache_name,
    cache_of,
    past_of,
)
from kshot.models.pretrained import check_positions


class PretrainedSeq2SeqSettings(LanguageModelSettings):
    """A Hugging Face `AutoModelForSeq2SeqLM`, with one tokeniser for both sides.

    Attributes:
        model: A local folder, or a name on the Hub.
        max_length: Tokens after which a text is cut.
        lora_rank: The rank of LoRA matrices added to every attention and feed-forward layer; 0 for none.
        lora_alpha: Their scale, times 1 / rank.
    """

    kind: Literal["pretrained-seq2seq"] = "pretrained-seq2seq"


class PretrainedSeq2Seq(LanguageModel):
    """A pretrained encoder-decoder."""

    auto = "AutoModelForSeq2SeqLM"
    what = "encoder-decoder"
    others = "a T5, BART, mBART or M2M100"

    def _prepare(self) -> None:
        about, settings = self.model.config, self.settings
        begin = about.decoder_start_token_id
        self.begin_id = int(about.pad_token_id if begin is None else begin)
        self.end_id = int(about.eos_token_id)
        longest = check_positions(self.model, settings.max_length, settings.model)
        self.most_tokens = settings.max_length if longest is None else longest

    def _parts(self) -> tuple[nn.Module, ...]:
        return self.model.get_encoder(), self.model.get_decoder()

    def _own_scores(self, ids: Tensor, given: Tensor) -> Tensor:
        scores: Tensor = self.model(input_ids=given, decoder_input_ids=ids).logits
        return scores

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

    def read(self, given: Tensor, given_mask: Tensor) -> Memory:
        return Memory((), (given_mask, self._encoded(given, given_mask)))

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        from transformers.cache_utils import EncoderDecoderCache

        given_mask, states, *crossed = memory.source
        cache = EncoderDecoderCache(cache_of(memory.past), cache_of(tuple(crossed)))
        vectors: Tensor = self.model.get_decoder()(
            input_ids=tokens.unsqueeze(1),
            encoder_hidden_states=states,
            encoder_attention_mask=given_mask.long(),
            use_cache=True,
            **{self._cache_argument: cache},
        ).last_hidden_state
        past, cross = past_of(cache.self_attention_cache), past_of(cache.cross_attention_cache)
        return self.scale * vectors[:, -1], Memory(past, (given_mask, states, *cross), memory.length + 1)

    @cached_property
    def _cache_argument(self) -> str:
        name = cache_name(arguments_of(self.model.get_decoder()))
        assert name is not None
        return name

    def _encoded(self, given: Tensor, given_mask: Tensor) -> Tensor:
        states: Tensor = self.model.get_encoder()(input_ids=given, attention_mask=given_mask.long()).last_hidden_state
        return states
