"""What every encoder offers, and how a list of texts goes through one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence

from kshot.models.attention import twice_differentiable
from kshot.models.memory import Memory, memory_of, with_memory
from kshot.models.packed import packed
from kshot.models.products import linear_layers
from kshot.models.vocabulary import TokenIds, Vocabulary, WordRanges
from kshot.models.workers import Workers
from kshot.settings import Settings

CALL_OVERHEAD = 48  # what one more call costs, in tokens, if an encoder says nothing else
_CALLS_AT_ONCE = 8  # from here on it pays that threads take whole calls, since they will be done at about one time
_TOKENS_TO_PACK = 8_192  # from here on it pays to lay out the weights first


class Encoder(nn.Module, ABC):
    """A network from token numbers to vectors.

    Attributes:
        dim: The size of its vectors.
        vocabulary: What its token numbers mean.
        settings: What rebuilds it, weights aside.
        token_table: The name of the parameter that holds a row for each token.
        foreign: Whether its layers are another library's.
        draws_apart: Whether whatever it drops out can be drawn for each task apart (`kshot.models.dropout`).
        vectorises: Whether `torch.func.vmap` can run it, each task with weights of its own.
        tokens_per_call: How many tokens go through it at once on a CPU; what stays in the caches is fastest.
    """

    dim: int
    vocabulary: Vocabulary
    settings: Settings
    token_table: str
    foreign: bool = True
    draws_apart: bool = False
    vectorises: bool = False
    tokens_per_call: int = 1_024

    @property
    def call_overhead(self) -> int:
        """What one more call costs, in tokens."""
        return CALL_OVERHEAD

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encodes padded token numbers.

        Args:
            ids: Token numbers, (n_texts, length).
            mask: True where there is a token, (n_texts, length).

        Returns:
            A vector for each token, (n_texts, length, dim).
        """

    @abstractmethod
    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Makes one vector of a text's token vectors: (n_texts, length, dim) -> (n_texts, dim)."""

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector for each text: (n_texts, length) -> (n_texts, dim); overridden where there is a shorter way."""
        return self.pool(like_weights(self(ids, mask), self), mask)

    def depth_below(self, names: Iterable[str]) -> int:
        """How many of the layers come before all of some tensors, so that their states can be used again.

        0 if there are none, they drop something out, or it is not known.
        """
        return 0

    def lower(self, ids: Tensor, mask: Tensor, depth: int) -> Tensor:
        """What the first layers make of token numbers, as `forward` takes them: (n_texts, length, dim)."""
        raise NotImplementedError

    def upper(self, states: Tensor, mask: Tensor, depth: int) -> Tensor:
        """What the layers after them make of that: the rest of `forward`."""
        raise NotImplementedError

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keeps the vectors of the texts that are encoded inside, so that each is encoded once; see `Memory`.

        Only for as long as the weights do not change: while a trained encoder is evaluated, or a frozen one is used.
        Inside another such context its vectors are used, too.
        """
        with with_memory(self, memory_of(self) or Memory()):
            yield

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """What lower layers make of a text inside is made once, with its graph: for one task in training."""
        with with_memory(self, memory_of(self) or Memory(differentiable=True)):
            yield

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Encodes every text anew, also inside `remembering`: for timing."""
        with with_memory(self, None):
            yield

    def architecture(self) -> dict[str, object]:
        """Whatever `settings` do not say about the shape of the network; written beside the weights."""
        return {}


def encode(
    encoder: Encoder,
    texts: Sequence[TokenIds],
    weights: Mapping[str, Tensor] | None = None,
    precision: torch.dtype = torch.float32,
    *,
    words: Sequence[WordRanges] | None = None,
    given: Sequence[TokenIds] | None = None,
) -> Tensor:
    """Runs texts through an encoder, the short ones together and the long ones together.

    Args:
        encoder: The encoder.
        texts: Token numbers of each text.
        weights: Tensors to use in the place of the encoder's own, by name.
        precision: Of the matrix products; pooling is in float32 always.
        words: Where the words of each text are, if each word is to have a vector of its own: the mean of its tokens'.
        given: The text that each text continues, for encoders that read two.

    Returns:
        One float32 vector for each text, or for each word of each text, in the given order: (n_vectors, dim).
    """
    memory = memory_of(encoder)
    depth = encoder.depth_below(weights) if weights and given is None else 0
    if depth and memory is not None and memory.takes_states:
        return _encode_from(encoder, texts, weights or {}, precision, words, memory, depth)
    if memory is None or memory.differentiable or weights:
        return _encode(encoder, texts, weights, precision, words, given)
    table, keys = memory.vectors, vector_keys(texts, words, given)
    missing = {key: row for row, key in enumerate(keys) if key not in table}
    if missing:
        new = [texts[row] for row in missing.values()]
        own = None if words is None else [words[row] for row in missing.values()]
        continued = None if given is None else [given[row] for row in missing.values()]
        with torch.no_grad():
            vectors = _encode(encoder, new, None, precision, own, continued)
        table.update(zip(missing, torch.split(vectors, n_vectors(new, own)), strict=True))
    return torch.cat([table[key] for key in keys]) if keys else _nothing(encoder)


def vector_keys(
    texts: Sequence[TokenIds], words: Sequence[WordRanges] | None, given: Sequence[TokenIds] | None = None
) -> list[bytes]:
    """What tells apart the texts whose vectors differ."""
    keys = [text.tobytes() for text in texts]
    if words is not None:
        keys = [key + b"words" + each.tobytes() for key, each in zip(keys, words, strict=True)]
    if given is not None:
        keys = [key + b"given" + each.tobytes() for key, each in zip(keys, given, strict=True)]
    return keys


def n_vectors(texts: Sized, words: Sequence[WordRanges] | None) -> list[int]:
    """How many vectors each text has."""
    return [1] * len(texts) if words is None else [len(each) for each in words]


def _nothing(encoder: Encoder) -> Tensor:
    return torch.empty(0, encoder.dim, device=next(encoder.parameters()).device)


def rows_name(table: str) -> str:
    """The name of the token numbers that belong to the rows of a table of which there are only some."""
    return f"{table}.ids"


def used_tokens(encoder: Encoder, texts: Iterable[TokenIds]) -> NDArray[np.int64]:
    """The token numbers of some texts in order, and those up to padding, whose place must not change: (n_used,)."""
    return np.unique(np.concatenate([np.arange(encoder.vocabulary.pad_id + 1), *texts])).astype(np.int64)


def _over_own_rows(
    encoder: Encoder, texts: Sequence[TokenIds], weights: Mapping[str, Tensor]
) -> tuple[list[TokenIds], dict[str, Tensor]]:
    """Renumbers texts over a table of just their tokens' rows.

    A token without a row of its own in `weights` keeps the encoder's: a row that no support text uses has no gradient
    there and never moves, so this is exact, and far cheaper than to carry the whole table.
    """
    table, ids = encoder.token_table, weights[rows_name(encoder.token_table)].cpu().numpy()
    used, moved = used_tokens(encoder, texts), weights[table]
    place = np.minimum(np.searchsorted(ids, used), len(ids) - 1)
    is_moved = ids[place] == used
    if is_moved.all():
        used = ids
    else:
        base = encoder.get_parameter(table)[torch.from_numpy(used).to(moved.device)]
        own_row = torch.from_numpy(is_moved).to(moved.device).unsqueeze(-1)
        moved = torch.where(own_row, moved[torch.from_numpy(place).to(moved.device)], base)
    own = {name: tensor for name, tensor in weights.items() if name != rows_name(table)}
    return [np.searchsorted(used, text).astype(np.int32) for text in texts], {**own, table: moved}


def _encode(
    encoder: Encoder,
    texts: Sequence[TokenIds],
    weights: Mapping[str, Tensor] | None,
    precision: torch.dtype,
    words: Sequence[WordRanges] | None,
    given: Sequence[TokenIds] | None,
    function: Callable[..., Tensor] | None = None,
) -> Tensor:
    """By a function of the encoder, see `_run`; if it is left out, to what `encode` returns."""
    if not texts:
        return _nothing(encoder)
    read = [texts] if given is None else [texts, given]  # what a call reads, side by side
    if weights and rows_name(encoder.token_table) in weights:
        flat, weights = _over_own_rows(encoder, [text for each in read for text in each], weights)
        read = [flat[start : start + len(texts)] for start in range(0, len(flat), len(texts))]

    def inputs_of(call: NDArray[np.int64]) -> list[Tensor]:
        return [x for each in read for x in pad([each[i] for i in call], encoder.vocabulary.pad_id)]

    lengths = np.array([sum(map(len, each)) for each in zip(*read, strict=True)], dtype=np.int64)
    if function is None:
        function = pooled if words is None else Encoder.__call__
    return _run(encoder, function, lengths, inputs_of, weights, precision, words)


def _encode_from(
    encoder: Encoder,
    texts: Sequence[TokenIds],
    weights: Mapping[str, Tensor],
    precision: torch.dtype,
    words: Sequence[WordRanges] | None,
    memory: Memory,
    depth: int,
) -> Tensor:
    """As `encode`, where `weights` are all of layers behind the first `depth`, whose states are remembered."""

    def lower(part: Encoder, ids: Tensor, mask: Tensor) -> Tensor:
        return part.lower(ids, mask, depth)

    def upper(part: Encoder, states: Tensor, mask: Tensor) -> Tensor:
        made = part.upper(states, mask, depth)
        return made if words is not None else part.pool(like_weights(made, part), mask)

    keys = [(depth, text.tobytes()) for text in texts]
    known = {key: memory.states[key] for key in keys if key in memory.states}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        new = list(missing.values())
        tokens = [np.arange(len(text))[:, None] + np.array([0, 1]) for text in new]  # each as a word of its own
        with nullcontext() if memory.differentiable else torch.no_grad():
            states = _encode(encoder, new, None, precision, tokens, None, lower)
        made = dict(zip(missing, torch.split(states, [len(text) for text in new]), strict=True))
        memory.add_states(made)
        known |= made
    of_texts = [known[key] for key in keys]

    def inputs_of(call: NDArray[np.int64]) -> list[Tensor]:
        padded = pad_sequence([of_texts[i] for i in call], batch_first=True)
        places = torch.arange(padded.shape[1], device=padded.device)
        return [padded, places < torch.tensor([[len(texts[i])] for i in call], device=padded.device)]

    return _run(encoder, upper, np.array([len(text) for text in texts]), inputs_of, weights, precision, words)


def pooled(encoder: Encoder, *inputs: Tensor) -> Tensor:
    """`Encoder.pooled`, as each kind of encoder has it."""
    return encoder.pooled(*inputs)


def _run(
    encoder: Encoder,
    function: Callable[..., Tensor],
    lengths: NDArray[np.int64],
    inputs_of: Callable[[NDArray[np.int64]], Sequence[Tensor]],
    weights: Mapping[str, Tensor] | None,
    precision: torch.dtype,
    words: Sequence[WordRanges] | None,
) -> Tensor:
    """Applies a function to an encoder and texts, some in each call.

    Args:
        encoder: The encoder.
        function: Of the encoder and the inputs of a call: to a vector for each of its texts, (n_texts, dim), or, if
            there are `words`, for each of their tokens, (n_texts, length, dim).
        lengths: The tokens of each text.
        inputs_of: The inputs of a call, by the numbers of its texts.
        weights: As in `encode`.
        precision: As in `encode`.
        words: As in `encode`.

    Returns:
        (n_vectors, dim), in the order of the texts.
    """
    device = next(encoder.parameters()).device
    network = Applied(twin(encoder) if weights else encoder, function)
    own = {f"encoder.{name}": tensor for name, tensor in (weights or {}).items()}
    many = int(lengths.sum()) >= _TOKENS_TO_PACK
    # In bfloat16 on a CPU the fused attention takes five times as long as the plain form to be differentiated.
    plain = precision != torch.float32 and device.type == "cpu" and torch.is_grad_enabled()
    # One context around all calls, so that the weights are cast and laid out once.
    with (
        torch.autocast(device.type, precision, enabled=precision != torch.float32),
        twice_differentiable() if plain else nullcontext(),
        nullcontext() if weights else packed(linear_layers(encoder), precision, many=many),
    ):
        calls = plan_calls(lengths, encoder.tokens_per_call if device.type == "cpu" else 32_768, encoder.call_overhead)

        def outputs_of(call: NDArray[np.int64]) -> Tensor:
            tensors = tuple(tensor.to(device) for tensor in inputs_of(call))
            outputs = functional_call(network, own, tensors) if weights else network(*tensors)
            outputs = like_weights(outputs, encoder)
            return outputs if words is None else word_means(outputs, [words[i] for i in call])

        # In a thread of its own a call must not change the module, nor need what PyTorch sets for one thread alone.
        at_once = not (torch.is_grad_enabled() or weights or encoder.foreign or encoder.training)
        at_once &= device.type == "cpu" and precision == torch.float32 and len(calls) >= _CALLS_AT_ONCE
        vectors = list((Workers().map if at_once else map)(outputs_of, calls))
    counts = np.array(n_vectors(lengths, words), dtype=np.int64)
    called = np.concatenate(calls)  # the texts in the order in which they were encoded
    begins = np.empty(len(lengths), dtype=np.int64)
    begins[called] = np.cumsum(counts[called]) - counts[called]
    back = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return torch.cat(vectors)[torch.from_numpy(back).to(device)]


class Applied(nn.Module):
    """A function of an encoder and tensors as a network of these tensors."""

    def __init__(self, encoder: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.encoder, self.function = encoder, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.encoder, *inputs)


def word_means(states: Tensor, words: Sequence[WordRanges]) -> Tensor:
    """The mean of the token vectors of each word: (n_texts, length, dim) -> (n_words, dim), text after text."""
    n_texts, length, dim = states.shape
    ranges = np.concatenate([each + row * length for row, each in enumerate(words)])  # in the texts laid end to end
    starts, ends = torch.from_numpy(ranges.astype(np.int64)).unbind(dim=1)
    return run_means(states.reshape(n_texts * length, dim), starts, ends - starts)


def run_means(vectors: Tensor, starts: Tensor, widths: Tensor) -> Tensor:
    """The mean of each run of vectors.

    Args:
        vectors: (n_vectors, dim).
        starts: The first vector of each run, (n_runs,).
        widths: The length of each, at least 1, (n_runs,).

    Returns:
        (n_runs, dim).
    """
    starts, widths = starts.to(vectors.device), widths.to(vectors.device)
    run = torch.repeat_interleave(torch.arange(len(starts), device=vectors.device), widths)
    within = torch.arange(len(run), device=vectors.device) - (widths.cumsum(0) - widths)[run]
    sums = vectors.new_zeros(len(starts), vectors.shape[-1]).index_add(0, run, vectors[starts[run] + within])
    return sums / widths.unsqueeze(-1)


def with_weights(encoder: Encoder, weights: Mapping[str, Tensor]) -> Encoder:
    """An encoder that has some tensors in the place of its own; the encoder itself stays as it is.

    Args:
        encoder: The encoder.
        weights: The tensors, by name; of the token table perhaps only the rows whose numbers stand beside them.
    """
    made = twin(encoder)
    table = encoder.token_table
    for name, tensor in weights.items():
        if name == rows_name(table):
            continue
        if name == table and rows_name(table) in weights:
            ids = weights[rows_name(table)]
            tensor = encoder.get_parameter(table).detach().index_copy(0, ids, tensor.detach())
        parent, _, own = name.rpartition(".")
        made.get_submodule(parent)._parameters[own] = tensor  # type: ignore[assignment]
    assert isinstance(made, Encoder)
    return made


def twin(module: nn.Module) -> nn.Module:
    """A module over the same tensors, with places of its own to put others in.

    `functional_call` puts tensors into the module while it runs, so two threads must not do that to the same one.
    """
    return _twin(module, {})


def _twin(module: nn.Module, twins: dict[int, nn.Module]) -> nn.Module:
    """The twin of a module; `twins` has those of the modules that were met before, by id."""
    if id(module) not in twins:
        twins[id(module)] = made = copy(module)
        made._parameters, made._buffers = dict(module._parameters), dict(module._buffers)
        made._modules = {
            name: None if child is None else _twin(child, twins) for name, child in module._modules.items()
        }
    return twins[id(module)]


def like_weights(states: Tensor, encoder: Encoder) -> Tensor:
    """The states in the precision of the weights: float32 unless someone made the encoder double."""
    return states.to(next(encoder.parameters()).dtype)


def plan_calls(lengths: np.ndarray, most_tokens: int = 1_024, overhead: int = CALL_OVERHEAD) -> list[np.ndarray]:
    """Splits texts into calls so that padding and the cost of a call are least together.

    Texts sorted by length are cut between lengths; a call of n texts costs `n * longest + overhead`. The cheapest
    cuts are found exactly by dynamic programming over the distinct lengths, and calls of too many tokens are then cut
    into equal parts.

    Args:
        lengths: The number of tokens of each text, (n_texts,).
        most_tokens: The tokens of one call at most, padding included, unless a single text has more.
        overhead: What one more call costs, in tokens.

    Returns:
        The numbers of the texts of each call.
    """
    if not len(lengths):
        return []
    order = np.argsort(lengths, kind="stable")
    values, first = np.unique(lengths[order], return_index=True)
    ends = np.append(first[1:], len(order))
    best = np.zeros(len(values) + 1)
    cut = np.zeros(len(values) + 1, dtype=np.int64)
    for end in range(1, len(values) + 1):
        costs = best[:end] + (ends[end - 1] - first[:end]) * values[end - 1] + overhead
        cut[end] = int(np.argmin(costs))
        best[end] = costs[cut[end]]
    calls, end = [], len(values)
    while end:
        start = int(cut[end])
        rows = order[first[start] : ends[end - 1]]
        most_rows = max(1, most_tokens // int(values[end - 1]))
        calls.extend(np.array_split(rows, -(-len(rows) // most_rows)))
        end = start
    return calls


def pad(texts: Sequence[TokenIds], pad_id: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns token numbers, (n_texts, length), that of the longest if not given; and True where there is a token."""
    longest = max(len(text) for text in texts) if length is None else length
    ids = np.full((len(texts), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(texts), longest), dtype=np.bool_)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)
