"""BERT (Devlin et al. 2019, arXiv:1810.04805), from its file of weights to the vectors of tokens.

A Transformer with the norm after each addition (Vaswani et al. 2017, arXiv:1706.03762, figure 1):

    a = norm(x + attention(x))        x    token vectors, (n_texts, length, dim)
    y = norm(a + W2 gelu(W1 a))

The modules have the names that published weights have. It is here because nearly all small sentence encoders are BERTs,
and because to import transformers takes longer than to read the weights and to label a text.
"""

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from kshot.models.bert_in_c import InOneCall
from kshot.models.products import Linear

_WEIGHTS = "model.safetensors"
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class BertConfig(BaseModel):
    """What a model's `config.json` says of its shape, in its words; other keys have no bearing on its vectors."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    model_type: Literal["bert"]
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: Literal["gelu"] = "gelu"
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False


def bert_config(config: dict[str, Any]) -> BertConfig | None:
    """The shape of a BERT; None for the configuration of anything else, also of a variant that is not here."""
    try:
        found = BertConfig.model_validate(config)
    except ValidationError:
        return None
    return found if found.hidden_size % found.num_attention_heads == 0 else None


class Bert(nn.Module):
    """An encoder of token numbers.

    Its weights are whatever is in memory until `load_weights` or `load_state_dict` is called.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Encodes padded token numbers.

        Args:
            ids: (n_texts, length).
            mask: True where there is a token, (n_texts, length); None if there is one everywhere.

        Returns:
            (n_texts, length, dim).
        """
        return self.upper(self.embeddings(ids), mask, 0)

    def lower(self, ids: Tensor, mask: Tensor | None, depth: int) -> Tensor:
        """What comes of the first layers: (n_texts, length) -> (n_texts, length, dim)."""
        states: Tensor = self.encoder(self.embeddings(ids), mask, slice(depth))
        return states

    def upper(self, states: Tensor, mask: Tensor | None, depth: int) -> Tensor:
        """What the layers after them make of that: (n_texts, length, dim) -> (n_texts, length, dim)."""
        ended: Tensor = self.encoder(states, mask, slice(depth, None))
        return ended

    def load_weights(self, folder: Path) -> None:
        """Reads `model.safetensors` of a folder; weights of other layers on top are left aside.

        Raises:
            RuntimeError: If a tensor is missing or of another shape.
            SafetensorError: If the file is damaged.
        """
        own = self.state_dict().keys()
        found = {published_name(name): tensor for name, tensor in load_file(folder / _WEIGHTS).items()}
        self.load_state_dict({name: tensor for name, tensor in found.items() if name in own})


def has_weights(folder: Path) -> bool:
    """Whether a folder has its weights in the one file that `Bert.load_weights` reads."""
    return (folder / _WEIGHTS).is_file()


def published_name(name: str) -> str:
    """The name of a tensor as newer files have it, of a model without layers on top."""
    name = name.removeprefix("bert.")
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name


class Embeddings(nn.Module):
    """The sum of the vectors of a token, its place and the first kind of segment, normed."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = _table(config.vocab_size, config.hidden_size)
        self.position_embeddings = _table(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = _table(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor) -> Tensor:
        """(n_texts, length) -> (n_texts, length, dim)."""
        x = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        x = x + self.position_embeddings.weight[: ids.shape[1]]
        normed: Tensor = self.dropout(self.LayerNorm(x))
        return normed


def _table(n_rows: int, dim: int) -> nn.Embedding:
    """A table without values: to draw them would take longer than to read the file."""
    return nn.Embedding(n_rows, dim, _weight=torch.empty(n_rows, dim))


class Layers(nn.Module):
    """One after the other."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor | None, some: slice = slice(None)) -> Tensor:
        """Takes vectors of tokens through some of the layers.

        Args:
            x: (n_texts, length, dim).
            mask: True where there is a token, (n_texts, length); None if there is one everywhere.
            some: Which layers.

        Returns:
            (n_texts, length, dim); vectors of padding are no one's.
        """
        layers = [*self.layer][some]
        in_one_call = InOneCall.of(layers)
        if in_one_call is None:
            seen = None if mask is None else mask[:, None, None, :]  # for every head and every token that looks
            for layer in layers:
                x = layer(x, seen)
            return x
        if mask is None:
            return in_one_call(x.flatten(0, 1), torch.full((len(x),), x.shape[1])).view_as(x)
        return torch.zeros_like(x).masked_scatter_(mask.unsqueeze(-1), in_one_call(x[mask], mask.sum(dim=1)))


class Layer(nn.Module):
    """Attention and a network for each token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.n_heads, self.inner = config.num_attention_heads, config.intermediate_size
        self.attention = nn.ModuleDict({"self": Attention(config), "output": Added(dim, config)})
        self.intermediate = nn.ModuleDict({"dense": Linear(dim, config.intermediate_size)})
        self.output = Added(config.intermediate_size, config)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(n_texts, length, dim), (n_texts, 1, 1, length) or None -> (n_texts, length, dim)."""
        a = self.attention["output"](self.attention["self"](x, seen), x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](a)), a)
        return y

    def parts(self) -> tuple[list[Any], list[nn.LayerNorm]]:
        """Its linear layers: query, key, value, what attention finds, into the network and out of it; and its norms."""
        attention: Any = self.attention["self"]
        attended: Any = self.attention["output"]
        linear = [attention.query, attention.key, attention.value, attended.dense]
        linear += [self.intermediate["dense"], self.output.dense]
        return linear, [attended.LayerNorm, self.output.LayerNorm]


class Attention(nn.Module):
    """Each token looks at all tokens of its text, in several heads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.query, self.key, self.value = Linear(dim, dim), Linear(dim, dim), Linear(dim, dim)
        self.n_heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(n_texts, length, dim), (n_texts, 1, 1, length) or None -> (n_texts, length, dim)."""
        q, k, v = (
            part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (n_texts, n_heads, length, head_dim)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.dropout if self.training else 0)
        return found.transpose(1, 2).flatten(-2)


class Added(nn.Module):
    """A linear layer whose output is added to what it was made from, and normed."""

    def __init__(self, n_in: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(n_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """(..., n_in), (..., dim) -> (..., dim)."""
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + before)
        return normed
