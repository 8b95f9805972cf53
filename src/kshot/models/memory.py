"""What an encoder need not make again as long as its weights stay: vectors of texts, and what its lower layers make.

Where a task moves the upper layers of an encoder alone, the states that the others make of a text are the same in every
step, and in every task. They are remembered by text, and only the layers that move run again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

_MOST_TOKENS = 1 << 18  # whose states are remembered; 400 MB of MiniLM's


@dataclass
class Memory:
    """What is known of texts.

    Attributes:
        differentiable: Whether it is of one task in training: states have a graph, and vectors are not remembered.
        vectors: Of each text, or of each of its words, (n_vectors, dim), by `vector_keys`.
        states: What the lower layers make of each text's tokens, (length, dim), by their number and the tokens.
    """

    differentiable: bool = False
    vectors: dict[bytes, Tensor] = field(default_factory=dict)
    states: dict[tuple[int, bytes], Tensor] = field(default_factory=dict)
    _n_tokens: int = 0

    @property
    def takes_states(self) -> bool:
        """Whether states that are made now serve later: with a graph, if they are to have one."""
        return torch.is_grad_enabled() or not self.differentiable

    def add_states(self, new: Mapping[tuple[int, bytes], Tensor]) -> None:
        """Remembers states; the older ones are forgotten where all would be too many."""
        n_new = sum(map(len, new.values()))
        if self._n_tokens + n_new > _MOST_TOKENS:
            self.states, self._n_tokens = {}, 0
        self.states.update(new)
        self._n_tokens += n_new


_MEMORIES: ContextVar[Mapping[int, Memory | None]] = ContextVar("memories")
"""The memory of each encoder, by `id`. In a context, since one encoder may serve several threads."""


def memory_of(encoder: nn.Module) -> Memory | None:
    """What an encoder remembers in this context."""
    return _MEMORIES.get({}).get(id(encoder))


@contextmanager
def with_memory(encoder: nn.Module, memory: Memory | None) -> Iterator[None]:
    """A context in which an encoder has a memory, or none."""
    before = _MEMORIES.set({**_MEMORIES.get({}), id(encoder): memory})
    try:
        yield
    finally:
        _MEMORIES.reset(before)
