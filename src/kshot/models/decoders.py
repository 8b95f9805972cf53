"""Encoder-decoders: networks that continue one text given another, and remember what they have computed.

An encoder-decoder is an `Encoder` whose vectors are those of the positions of a text given another: the vector at
position t is what the next token is told by, so a translation is items like any others (a position, its token).
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.dropout import Dropout
from kshot.models.encoder import Encoder
from kshot.models.products import Linear
from kshot.models.scratch import LSTM, LSTMSettings, Transformer, TransformerSettings
from kshot.models.vocabulary import END, Vocabulary
from kshot.settings import Settings

SourceSettings = Annotated[TransformerSettings | LSTMSettings, Field(discriminator="kind")]


@dataclass(frozen=True)
class Memory:
    """What a decoder keeps between two tokens, of some hypotheses.

    Attributes:
        past: Tensors that each step makes longer.
        source: Tensors of the text that is given, the same in every step.
        length: The tokens so far.
    """

    past: tuple[Tensor, ...]
    source: tuple[Tensor, ...]
    length: int = 0

    def select(self, rows: Tensor) -> Self:
        """The memory of some hypotheses, in a new order, (n_chosen,)."""
        return replace(
            self, past=tuple(each[rows] for each in self.past), source=tuple(each[rows] for each in self.source)
        )


class Seq2Seq(Encoder):
    """A network that continues a text given another.

    Attributes:
        begin_id: The token that every continuation begins with; nothing is told before it.
        end_id: The token that ends it.
        most_tokens: The longest continuation that it can make.
    """

    begin_id: int
    end_id: int
    most_tokens: int

    @abstractmethod
    def forward(
        self, ids: Tensor, mask: Tensor, given: Tensor | None = None, given_mask: Tensor | None = None
    ) -> Tensor:
        """Reads a text given another.

        Args:
            ids: Its tokens, the first being `begin_id`, (n_texts, length).
            mask: True where there is a token, (n_texts, length).
            given: The tokens of the given texts, (n_texts, given_length).
            given_mask: True where there is one.

        Returns:
            A vector for each position, from which the next token is told, (n_texts, length, dim).
        """

    @property
    @abstractmethod
    def output(self) -> tuple[Tensor, Tensor | None]:
        """The weight, (n_tokens, dim), and the bias, (n_tokens,), that make a score of each token of a vector."""

    @property
    def unsaid(self) -> frozenset[int]:
        """The tokens that no continuation has."""
        return frozenset({self.vocabulary.pad_id, self.begin_id} - {self.end_id})

    @abstractmethod
    def read(self, given: Tensor, given_mask: Tensor) -> Memory:
        """Reads the given texts, (n_texts, given_length), before anything is said."""

    @abstractmethod
    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Goes on by one token.

        Args:
            tokens: The last token of each hypothesis, (n,).
            memory: What was kept before it.

        Returns:
            The vectors from which the next tokens are told, (n, dim), and the memory with this token.
        """

    def pooled(self, *inputs: Tensor) -> Tensor:
        return self.pool(*inputs[:2])

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        raise KshotError("An encoder-decoder has a vector for each position, and none for a whole text.")


@dataclass(frozen=True)
class OutputOf:
    """The output layer of an encoder-decoder, for whoever shares it; copies of the network share their own."""

    network: Seq2Seq

    def __call__(self) -> tuple[Tensor, Tensor | None]:
        return self.network.output


class EncoderDecoderSettings(Settings):
    """A pre-norm Transformer decoder over an encoder from scratch (Vaswani et al. 2017, arXiv:1706.03762).

    Tokens are cased byte-level BPE, learned from both sides of the meta-training pairs, so that no script is unknown;
    encoder, decoder and output share one table (Press & Wolf 2017, arXiv:1608.05859).

    Attributes:
        source: The encoder; its vocabulary, its dropout and its longest text are the decoder's as well.
        n_layers: The number of decoder layers.
        n_heads: The number of attention heads of the decoder.
    """

    kind: Literal["encoder-decoder"] = "encoder-decoder"
    source: SourceSettings = TransformerSettings(model_dim=256, embedding_dim=256, n_heads=4)
    n_layers: int = Field(3, ge=1)
    n_heads: int = Field(4, ge=1)

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        return self.source.max_length


class EncoderDecoder(Seq2Seq):
    """Layers of attention to what was said, attention to what is given, and a feed-forward network."""

    settings: EncoderDecoderSettings
    foreign = False
    draws_apart = True
    token_table = "source.embedding.weight"
    call_overhead = 600  # narrow layers, and many
    tokens_per_call = 4_096

    def __init__(self, settings: EncoderDecoderSettings, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        made = LSTM if isinstance(settings.source, LSTMSettings) else Transformer
        self.source = made(settings.source, vocabulary)  # type: ignore[arg-type]
        d = self.source.dim
        if self.source.embedding.embedding_dim != d:
            raise KshotError(
                f"The source encoder's vectors have {d} elements and its token embeddings "
                f"{self.source.embedding.embedding_dim}; the decoder shares both, so make embedding_dim {d}."
            )
        if d % settings.n_heads:
            raise KshotError(f"The decoder's size {d} is not a multiple of n_heads {settings.n_heads}; choose one.")
        nn.init.normal_(self.source.embedding.weight, std=d**-0.5)  # it is the output layer, too
        self.decoder = Decoder(d, settings)
        self.dim = d
        self.begin_id, self.end_id = vocabulary.begin_id, vocabulary.number_of(END)
        self.most_tokens = settings.max_length

    def forward(
        self, ids: Tensor, mask: Tensor, given: Tensor | None = None, given_mask: Tensor | None = None
    ) -> Tensor:
        assert given is not None
        assert given_mask is not None
        states = self.source(given, given_mask)
        vectors: Tensor = self.decoder(self.source.embedding(ids), states, given_mask)
        return vectors

    @property
    def output(self) -> tuple[Tensor, Tensor | None]:
        return self.source.embedding.weight, None

    def read(self, given: Tensor, given_mask: Tensor) -> Memory:
        return self.decoder.begin(self.source(given, given_mask), given_mask)

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self.decoder.step(self.source.embedding(tokens), memory)

    def architecture(self) -> dict[str, object]:
        return self.source.architecture()


class Decoder(nn.Module):
    """Layers over the embeddings of what was said so far."""

    def __init__(self, dim: int, settings: EncoderDecoderSettings) -> None:
        super().__init__()
        self.position = nn.Embedding(settings.max_length, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.dropout = Dropout(settings.source.dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(dim, settings.n_heads, settings.source.dropout) for _ in range(settings.n_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.n_heads = settings.n_heads

    def forward(self, embedded: Tensor, states: Tensor, given_mask: Tensor) -> Tensor:
        """All positions at once.

        Args:
            embedded: The embeddings of what is said, (n, L, d).
            states: The vectors of the given texts, (n, L_given, d).
            given_mask: True where there is a given token, (n, L_given).
        """
        x = self.dropout(embedded) + self.position.weight[: embedded.shape[1]]  # (n, L, d)
        seen = given_mask[:, None, None, :]  # (n, 1, 1, L_given)
        for layer in self._layers:
            x = layer(x, layer.given(states), seen)
        normed: Tensor = self.norm(x)
        return normed

    @property
    def _layers(self) -> Iterator["DecoderLayer"]:
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def begin(self, states: Tensor, given_mask: Tensor) -> Memory:
        """The memory before anything is said."""
        n, _, d = states.shape
        of_source = [each for layer in self._layers for each in layer.given(states)]
        nothing = states.new_empty(n, self.n_heads, 0, d // self.n_heads)
        return Memory((nothing,) * len(of_source), (given_mask, *of_source))

    def step(self, embedded: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One more position: (n, d) -> (n, d), and the memory with it."""
        x = (embedded + self.position.weight[memory.length]).unsqueeze(1)  # (n, 1, d)
        given_mask, *of_source = memory.source
        seen = None if bool(given_mask.all()) else given_mask[:, None, None, :]  # without a mask attention is faster
        past: list[Tensor] = []
        for number, layer in enumerate(self._layers):
            of = slice(2 * number, 2 * number + 2)
            x, grown = layer.step(x, memory.past[of], of_source[of], seen)
            past += grown
        vectors: Tensor = self.norm(x).squeeze(1)
        return vectors, replace(memory, past=tuple(past), length=memory.length + 1)


class DecoderLayer(nn.Module):
    """x + self_attention(norm(x)), then x + cross_attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = Linear(dim, 3 * dim)
        self.attention_output = Linear(dim, dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_query = Linear(dim, dim)
        self.cross_key_value = Linear(dim, 2 * dim)
        self.cross_output = Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.widen = Linear(dim, 4 * dim)
        self.narrow = Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)

    def given(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the given texts' states: (n, L_given, d) -> two of (n, n_heads, L_given, d / n_heads)."""
        key, value = self._heads(self.cross_key_value(states), 2)
        return key, value

    def forward(self, x: Tensor, given: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """x: (n, L, d); given: see there; seen: True where a given token may be looked at, (n, 1, 1, L_given)."""
        query, key, value = self._heads(self.query_key_value(self.attention_norm(x)), 3)
        x = x + self.dropout(self.attention_output(_joined(_attend(query, key, value, causal=True))))
        return self._rest(x, given, seen)

    def step(
        self, x: Tensor, past: tuple[Tensor, ...], given: list[Tensor], seen: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `forward` for one position, (n, 1, d), after those of which `past` has keys and values."""
        query, key, value = self._heads(self.query_key_value(self.attention_norm(x)), 3)
        keys, values = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        x = x + self.attention_output(_joined(_attend(query, keys, values)))
        return self._rest(x, (given[0], given[1]), seen), (keys, values)

    def _rest(self, x: Tensor, given: tuple[Tensor, Tensor], seen: Tensor | None) -> Tensor:
        (query,) = self._heads(self.cross_query(self.cross_norm(x)), 1)
        x = x + self.dropout(self.cross_output(_joined(_attend(query, *given, mask=seen))))
        x = x + self.dropout(self.narrow(F.gelu(self.widen(self.feed_forward_norm(x)))))
        return x

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(n, L, parts * d) -> parts of (n, n_heads, L, d / n_heads)."""
        n, length, _ = x.shape
        return x.view(n, length, parts, self.n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    return mixed


def _joined(heads: Tensor) -> Tensor:
    """(n, n_heads, L, d / n_heads) -> (n, L, d)."""
    n, _, length, _ = heads.shape
    return heads.transpose(1, 2).reshape(n, length, -1)
