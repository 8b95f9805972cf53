"""Encoders that start from nothing: bag of tokens, CNN, LSTM and Transformer."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.dropout import Dropout
from kshot.models.encoder import Encoder, like_weights
from kshot.models.kernels import written_out
from kshot.models.products import Linear
from kshot.models.recurrence import lstm
from kshot.models.spelling import Spelling
from kshot.models.vocabulary import SpelledVocabulary, Vocabulary
from kshot.models.windows import window_maxima
from kshot.settings import Settings

Tokens = Literal["word", "bpe", "characters"]


class ScratchSettings(Settings):
    """What all encoders from scratch share.

    Attributes:
        tokens: `word`, whole words; `bpe`, pieces of them, by byte-level BPE; `characters`, whole words, each with what
            a CNN makes of its characters. Read from `embeddings` if that is set.
        n_character_filters: The number of filters of that CNN.
        vocabulary_size: How many tokens at most.
        max_length: Tokens after which a text is cut; with `characters`, each character is one more.
        embedding_dim: Size of a token's vector; read from `embeddings` if that is set.
        embeddings: A pretrained model whose tokeniser and token embeddings the encoder starts from, or none.
        train_embeddings: Whether the token embeddings learn.
        dropout: Share of the token vectors' elements that are dropped in training.
    """

    tokens: Tokens = "bpe"
    n_character_filters: int = Field(50, ge=1)
    vocabulary_size: int = Field(8000, ge=1)
    max_length: int = Field(128, ge=1)
    embedding_dim: int = Field(128, ge=1)
    embeddings: str | None = None
    train_embeddings: bool = True
    dropout: float = Field(0.1, ge=0, lt=1)

    @property
    def is_spelled(self) -> bool:
        """Whether words come with their characters."""
        return self.tokens == "characters" and self.embeddings is None


class BagSettings(ScratchSettings):
    """An average of token vectors, each with a learned weight (Arora et al. 2017; Iyyer et al. 2015).

    The fastest encoder, and the one that needs the least data: what it learns is above all which tokens tell nothing.
    """

    kind: Literal["bag"] = "bag"
    embedding_dim: int = Field(512, ge=1)


class CNNSettings(ScratchSettings):
    """A convolutional encoder (Kim 2014, arXiv:1408.5882).

    Attributes:
        widths: The widths of the windows, in tokens.
        n_filters: The number of filters of each width.
    """

    kind: Literal["cnn"] = "cnn"
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((3, 4, 5), min_length=1)
    n_filters: int = Field(100, ge=1)


class LSTMSettings(ScratchSettings):
    """A recurrent encoder (Hochreiter & Schmidhuber 1997).

    Attributes:
        hidden_dim: The size of the hidden state of one direction.
        bidirectional: Whether a second LSTM reads from the end.
        pooling: `last` state, or `max` or `mean` over the tokens.
    """

    kind: Literal["lstm"] = "lstm"
    hidden_dim: int = Field(256, ge=1)
    bidirectional: bool = False
    pooling: Literal["last", "max", "mean"] = "last"


class TransformerSettings(ScratchSettings):
    """A pre-norm Transformer encoder (Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745).

    Attributes:
        model_dim: The size of a token's vector inside.
        n_layers: The number of layers.
        n_heads: The number of attention heads.
    """

    kind: Literal["transformer"] = "transformer"
    model_dim: int = Field(192, ge=1)
    n_layers: int = Field(3, ge=1)
    n_heads: int = Field(6, ge=1)


class _Embedded(Encoder):
    """An encoder over token embeddings of its own."""

    settings: ScratchSettings
    token_table = "embedding.weight"
    foreign = False
    draws_apart = True

    def __init__(self, settings: ScratchSettings, vocabulary: Vocabulary, table: Tensor | None) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        if table is None:
            self.embedding = nn.Embedding(vocabulary.size, settings.embedding_dim, padding_idx=vocabulary.pad_id)
        else:
            n_tokens, dim = table.shape
            self.embedding = nn.Embedding(n_tokens, dim, padding_idx=vocabulary.pad_id, _weight=table.clone())
        self.embedding.weight.requires_grad_(settings.train_embeddings)
        self.dropout = Dropout(settings.dropout)
        self.spelling: Spelling | None = None
        if isinstance(vocabulary, SpelledVocabulary):
            self.spelling = Spelling(self.embedding.embedding_dim, settings.n_character_filters, vocabulary.pad_id)
        self.input_dim = self.embedding.embedding_dim if self.spelling is None else self.spelling.dim
        self.vectorises = self.spelling is None

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.spelling is None:
            return self.states(self.embed(self.embedding(ids), mask), mask)
        states, _, word_of = self._of_words(ids, mask, self.spelling)
        return states.gather(1, word_of.unsqueeze(-1).expand(-1, -1, states.shape[-1]))  # (n, L, dim)

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.spelling is None:
            return super().pooled(ids, mask)
        states, present, _ = self._of_words(ids, mask, self.spelling)
        return self.pool(like_weights(states, self), present)  # each word once, however long it is

    def _of_words(self, ids: Tensor, mask: Tensor, spelling: Spelling) -> tuple[Tensor, Tensor, Tensor]:
        """A state for each word, (n, n_words, dim), where there is one, and the word that each token belongs to."""
        words, present, word_of = spelling(ids, self.embedding(ids), mask)
        return self.states(self.embed(words, present), present), present, word_of

    @abstractmethod
    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """Makes states of vectors: (n, length, input_dim), True where there is one (n, length) -> (n, length, dim)."""

    def embed(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Vectors after dropout, zero where there is no token, (n, length, input_dim)."""
        kept: Tensor = self.dropout(vectors) * mask.unsqueeze(-1)
        return kept

    def distinct(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vector of each distinct token once, so that what a layer makes of a token is computed once.

        With dropout every place has a vector of its own.

        Returns:
            Vectors, (n_vectors, embedding_dim), and which of them stands at each place, (n_texts, length).
        """
        if self.training and self.dropout.p:
            everywhere = torch.arange(ids.numel(), device=ids.device).view_as(ids)
            return self.embed(self.embedding(ids), mask).flatten(0, 1), everywhere
        tokens, places = torch.unique(ids, return_inverse=True)
        return self.embedding(tokens), places

    def architecture(self) -> dict[str, object]:
        return {"n_tokens": self.embedding.num_embeddings, "embedding_dim": self.embedding.embedding_dim}


class Bag(_Embedded):
    """A token's vector times its weight; a text is their sum over the sum of the weights.

    The first column of the token table holds the logarithms of the weights, so that the rows of a task's tokens are all
    that an inner loop has to carry.
    """

    def __init__(self, settings: BagSettings, vocabulary: Vocabulary, table: Tensor | None = None) -> None:
        vectors = torch.randn(vocabulary.size, settings.embedding_dim) if table is None else table
        super().__init__(settings, vocabulary, torch.cat([torch.zeros(len(vectors), 1), vectors], dim=1))
        self.dim = self.input_dim - 1

    def embed(self, vectors: Tensor, mask: Tensor) -> Tensor:
        return vectors  # dropout takes whole tokens, below

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        rows = x  # (n, L, 1 + dim)
        weights = rows[..., :1].exp() * mask.unsqueeze(-1)
        n_tokens = mask.sum(dim=1).clamp_min(1)[:, None, None]  # undoes what the mean over tokens divides by
        share = n_tokens * weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
        weighted: Tensor = self.dropout(share) * rows[..., 1:]
        return weighted

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        return mean_pool(states, mask)

    def architecture(self) -> dict[str, object]:
        return {**super().architecture(), "embedding_dim": self.embedding.embedding_dim - 1}


class CNN(_Embedded):
    """Windows of several widths, rectified, and the maximum over time (Kim 2014, arXiv:1408.5882).

    Differs from the paper: windows may reach over the ends of a text, so that each token has a vector and a text may be
    shorter than a window.
    """

    tokens_per_call = 4_096  # the more tokens, the more of them are the same

    def __init__(self, settings: CNNSettings, vocabulary: Vocabulary, table: Tensor | None = None) -> None:
        super().__init__(settings, vocabulary, table)
        d = self.input_dim
        self.widths = settings.widths
        self.convolutions = nn.ModuleList(nn.Conv1d(d, settings.n_filters, width) for width in settings.widths)
        self.dim = settings.n_filters * len(settings.widths)

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (n, d, L)
        parts = [
            F.relu(convolution(F.pad(x, ((width - 1) // 2, width // 2))))  # (n, n_filters, L)
            for width, convolution in zip(self.widths, self.convolutions, strict=True)
        ]
        return torch.cat(parts, dim=1).transpose(1, 2)  # (n, L, dim)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        return (states * mask.unsqueeze(-1)).amax(dim=1)  # the states are never negative

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        if not written_out() or self.spelling is not None:
            return super().pooled(ids, mask)
        vectors, tokens = self.distinct(ids, mask)
        filters, biases = zip(*((each.weight, each.bias) for each in self.convolutions), strict=True)
        return window_maxima(vectors, tokens, mask, filters, biases)


class LSTM(_Embedded):
    """One layer of LSTM, in one or both directions, that can be differentiated twice on every device.

    cuDNN's recurrence has no second derivative (pytorch#5261). Here its derivatives are written out in
    `kshot.models.recurrence`; `_run` has the same recurrence in elementary operations, for autograd to differentiate.
    The input is projected for all time steps in one matrix product.
    """

    tokens_per_call = 4_096  # the more texts, the larger the products of a time step

    settings: LSTMSettings

    def __init__(self, settings: LSTMSettings, vocabulary: Vocabulary, table: Tensor | None = None) -> None:
        super().__init__(settings, vocabulary, table)
        d, h = self.input_dim, settings.hidden_dim
        n_directions = 2 if settings.bidirectional else 1
        projections = [Linear(d, 4 * h) for _ in range(n_directions)]
        recurrences = [Linear(h, 4 * h, bias=False) for _ in range(n_directions)]
        for module in (*projections, *recurrences):
            nn.init.uniform_(module.weight, -1 / math.sqrt(h), 1 / math.sqrt(h))
        for module in projections:
            nn.init.zeros_(module.bias)
            module.bias.data[h : 2 * h] = 1.0  # remember at first (Jozefowicz et al. 2015)
        self.input_projections = nn.ModuleList(projections)
        self.recurrences = nn.ModuleList(recurrences)
        self.dim = h * n_directions

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        if not written_out() or self.spelling is not None:
            return super().forward(ids, mask)
        packed = self._packed(ids, mask)
        whole = [h.new_zeros(mask.numel(), h.shape[1]).index_copy(0, places, h) for h, places in packed]
        return torch.cat([states.view(*mask.shape, -1) for states in whole], dim=-1)

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        directions = [self._run(x, mask, direction) for direction in range(len(self.recurrences))]
        return torch.cat(directions, dim=-1)  # (n, L, dim)

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        if not written_out() or self.spelling is not None or self.settings.pooling != "last":
            return super().pooled(ids, mask)
        first = torch.arange(len(ids), device=ids.device) * ids.shape[1]
        ends = first + mask.sum(dim=1) - 1, first  # where each direction ends, in the texts laid end to end
        last = []
        for (states, places), end in zip(self._packed(ids, mask), ends, strict=False):
            at = places.new_zeros(mask.numel()).index_copy(0, places, torch.arange(len(places), device=ids.device))
            last.append(states[at[end]])
        return torch.cat(last, dim=-1)

    def _packed(self, ids: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """As `_run`, with derivatives that are written out, and nothing computed where there is no token.

        Returns:
            For each direction the states of the tokens, (n_tokens, h), and where in the texts laid end to end they are,
            (n_tokens,).
        """
        vectors, tokens = self.distinct(ids, mask)
        lengths = mask.sum(dim=1)
        longest_first = torch.argsort(lengths, descending=True, stable=True)
        counts = [int(count) for count in mask.sum(dim=0).tolist() if count]  # texts at each time step
        rows = torch.cat([longest_first[:count] for count in counts])
        times = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(ids.device)
        packed = []
        for direction, (project, recur) in enumerate(zip(self.input_projections, self.recurrences, strict=True)):
            assert isinstance(recur.weight, Tensor)
            places = rows * ids.shape[1] + (lengths[rows] - 1 - times if direction == 1 else times)
            packed.append((lstm(project(vectors), recur.weight, counts, tokens.flatten()[places]), places))
        return packed

    def _run(self, x: Tensor, mask: Tensor, direction: int) -> Tensor:
        gates = self.input_projections[direction](x).unbind(1)  # L of (n, 4h): input, forget, cell, output
        keep = mask.unsqueeze(-1).unbind(1)  # L of (n, 1)
        hidden = cell = x.new_zeros(len(x), self.settings.hidden_dim)
        states = []
        times = range(len(gates))
        for t in reversed(times) if direction == 1 else times:
            i, f, g, o = (gates[t] + self.recurrences[direction](hidden)).chunk(4, dim=-1)
            new_cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            new_hidden = o.sigmoid() * new_cell.tanh()
            cell = torch.where(keep[t], new_cell, cell)
            hidden = torch.where(keep[t], new_hidden, hidden)
            states.append(hidden)
        return torch.stack(states[::-1] if direction == 1 else states, dim=1)  # (n, L, h)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        match self.settings.pooling:
            case "last":
                h = self.settings.hidden_dim
                last = (mask.sum(dim=1) - 1).clamp_min(0)
                forward = states[torch.arange(len(states), device=states.device), last, :h]
                return torch.cat([forward, states[:, 0, h:]], dim=-1)
            case "max":
                return states.masked_fill(~mask.unsqueeze(-1), -math.inf).amax(dim=1)
            case "mean":
                return mean_pool(states, mask)


class Transformer(_Embedded):
    """Layers of self-attention and a feed-forward network, normalised before each (arXiv:2002.04745)."""

    def __init__(self, settings: TransformerSettings, vocabulary: Vocabulary, table: Tensor | None = None) -> None:
        super().__init__(settings, vocabulary, table)
        d = settings.model_dim
        if d % settings.n_heads:
            raise KshotError(f"model_dim {d} is not a multiple of n_heads {settings.n_heads}; choose one that is.")
        given = self.input_dim
        self.project = nn.Identity() if given == d else Linear(given, d, bias=False)
        self.position = nn.Embedding(settings.max_length, d)
        nn.init.normal_(self.position.weight, std=0.02)
        if table is None:
            nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(
            TransformerLayer(d, settings.n_heads, settings.dropout) for _ in range(settings.n_layers)
        )
        self.norm = nn.LayerNorm(d)
        self.dim = d

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.project(x) + self.position.weight[: x.shape[1]]  # (n, L, d)
        attend = mask[:, None, None, :]  # (n, 1, 1, L): every token sees every real token
        for layer in self.layers:
            x = layer(x, attend)
        normed: Tensor = self.norm(x)
        return normed

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        return mean_pool(states, mask)


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = Linear(dim, 3 * dim)
        self.output = Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.widen = Linear(dim, 4 * dim)
        self.narrow = Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, attend: Tensor) -> Tensor:
        """x: (n, L, d); attend: True where a token may be looked at, (n, 1, 1, L)."""
        n, length, d = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(n, length, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # 3 x (n, n_heads, L, d / n_heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        x = x + self.dropout(self.output(mixed.transpose(1, 2).reshape(n, length, d)))
        x = x + self.dropout(self.narrow(F.gelu(self.widen(self.feed_forward_norm(x)))))
        return x


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real tokens: (n, L, dim) -> (n, dim)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)
