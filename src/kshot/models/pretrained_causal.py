"""Any Hugging Face `AutoModelForCausalLM` as a network that continues a text given another.

Both are one sequence: a beginning, the given text x with its end, and the continuation y with its own.

    <begin> x_1 ... x_m <end> y_1 ... y_n <end>

What follows is told at each place: y_1 at the end of x, and so on. `<begin>` is the model's own beginning, or its end
if it has none. DialoGPT parts turns by their ends, too (Zhang et al. 2020, arXiv:1911.00536, section 2).
"""

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.decoders import Memory
from kshot.models.language_model import (
    LanguageModel,
    LanguageModelSettings,
    arguments_of,
    cache_name,
    cache_of,
    past_of,
)
from kshot.models.pretrained import positions_of


class PretrainedCausalSettings(LanguageModelSettings):
    """A Hugging Face `AutoModelForCausalLM`.

    Attributes:
        model: A local folder, or a name on the Hub.
        max_length: Tokens after which a text is cut; the given text and its continuation have as many each.
        lora_rank: The rank of LoRA matrices added to every attention and feed-forward layer; 0 for none.
        lora_alpha: Their scale, times 1 / rank.
    """

    kind: Literal["pretrained-causal"] = "pretrained-causal"


class PretrainedCausal(LanguageModel):
    """A pretrained causal model.

    Raises:
        KshotError: As any `LanguageModel`; if it names no end of a text, or one that its tokeniser has not; if it has
            fewer positions than two texts; or if it keeps something else than keys and values.
    """

    auto = "AutoModelForCausalLM"
    what = "causal model"
    others = "a GPT-2, Llama or Qwen"

    def _prepare(self) -> None:
        about, name, longest = self.model.config, self.settings.model, self.settings.max_length
        end = _first(about.eos_token_id)
        begin = _first(getattr(about, "bos_token_id", None))
        for key, number in (("eos_token_id", end), ("bos_token_id", begin)):
            if number is not None and number >= self.vocabulary.size:
                raise KshotError(
                    f'{key} of "{name}" is {number}, and its tokeniser has {self.vocabulary.size} tokens; '
                    "give the number of one of them in its config.json."
                )
        if end is None:
            raise KshotError(
                f'"{name}" names no token that ends a text, and what it writes must end; give eos_token_id in its '
                "config.json."
            )
        self.begin_id, self.end_id = end if begin is None else begin, end
        self.vocabulary.end_with(self.end_id)
        positions = positions_of(self.model)
        if positions is not None and 2 * longest > positions:
            raise KshotError(
                f'max_length {longest} is more than half of the {positions} positions of "{name}", which a given text '
                "and its continuation share."
            )
        self.most_tokens = longest if positions is None else positions - longest
        if cache_name(self._arguments) is None or getattr(self.model, "_is_stateful", False):
            raise KshotError(
                f'"{name}" does not keep keys and values of what it has read, so its continuations cannot be searched; '
                f"take another {self.auto}, such as {self.others}."
            )

    def _parts(self) -> tuple[nn.Module, ...]:
        return (self._body,)

    def _own_scores(self, ids: Tensor, given: Tensor) -> Tensor:
        whole: Tensor = self.model(input_ids=torch.cat([ids[:, :1], given, ids[:, 1:]], dim=1)).logits
        return whole[:, given.shape[1] :]

    def forward(
        self, ids: Tensor, mask: Tensor, given: Tensor | None = None, given_mask: Tensor | None = None
    ) -> Tensor:
        assert given is not None
        assert given_mask is not None
        begin, rest = ids[:, :1], ids[:, 1:]
        everything = torch.cat([mask[:, :1], given_mask, mask[:, 1:]], dim=1)  # (n, L_given + L)
        longest = int(everything.sum(dim=1).max())
        # All padding goes to the end, where no token sees it, so that a mask is not needed.
        order = everything.long().argsort(dim=1, descending=True, stable=True)[:, :longest]
        joined = torch.cat([begin, given, rest], dim=1).gather(1, order)  # (n, longest)
        states = self._body(input_ids=joined, use_cache=False).last_hidden_state  # (n, longest, dim)
        places = given_mask.sum(dim=1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)  # (n, L)
        places = places.clamp(max=longest - 1)  # of padding
        vectors: Tensor = states.gather(1, places.unsqueeze(-1).expand(-1, -1, self.dim))
        return self.scale * vectors

    @property
    def unsaid(self) -> frozenset[int]:
        return self.vocabulary.special - {self.end_id}

    def read(self, given: Tensor, given_mask: Tensor) -> Memory:
        begin = given.new_full((len(given), 1), self.begin_id)
        mask = torch.cat([torch.ones_like(begin, dtype=torch.bool), given_mask], dim=1)
        order = mask.long().argsort(dim=1, stable=True)  # padding comes first, so that all end at one place
        tokens, mask = torch.cat([begin, given], dim=1).gather(1, order), mask.gather(1, order)
        _, past = self._read_on(tokens[:, :-1], mask[:, :-1], ())
        return Memory(past, (mask, tokens[:, -1]))

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        mask, last = memory.source  # of the given text
        if not memory.length:
            tokens = last  # the beginning has been read; what follows is told at the end of the given text
        seen = torch.cat([mask, mask.new_ones(len(mask), memory.length)], dim=1)
        vectors, past = self._read_on(tokens.unsqueeze(1), seen, memory.past)
        return vectors[:, -1], Memory(past, memory.source, memory.length + 1)

    def _read_on(self, tokens: Tensor, mask: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Reads tokens that follow others.

        Args:
            tokens: (n, n_new).
            mask: True where there is a token, of the earlier ones, too, (n, n_past + n_new).
            past: Keys and values of the earlier ones.

        Returns:
            The vectors of the tokens, (n, n_new, dim), and keys and values of all.
        """
        cache = cache_of(past)
        name = cache_name(self._arguments)
        assert name is not None
        arguments: dict[str, Any] = {name: cache}
        if not bool(mask.all()):  # without a mask attention is faster
            arguments["attention_mask"] = mask.long()
        if "position_ids" in self._arguments:  # others have distances alone, or count the mask
            places = mask.cumsum(dim=1) - 1
            arguments["position_ids"] = places[:, -tokens.shape[1] :].clamp(min=0)
        states = self._body(input_ids=tokens, use_cache=True, **arguments).last_hidden_state
        return self.scale * states, past_of(cache)

    @property
    def _body(self) -> Any:
        """The network below the output layer."""
        return self.model.base_model

    @cached_property
    def _arguments(self) -> frozenset[str]:
        """What the network takes."""
        return arguments_of(self._body)


def _first(number: int | list[int] | None) -> int | None:
    """A token's number, or the first of several; some models have more than one end."""
    return number[0] if isinstance(number, list) else number
