"""Dropout whose chance can be that of one task, so that tasks in threads do not take each other's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_OWN: ContextVar[torch.Generator | None] = ContextVar("chance", default=None)


class Dropout(nn.Dropout):
    """As `torch.nn.Dropout`, but inside `own_chance` its masks are drawn from there."""

    def forward(self, input: Tensor) -> Tensor:
        generator = _OWN.get()
        if generator is None or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=generator)
        return input * kept.div_(1 - self.p)


@contextmanager
def own_chance(seed: int) -> Iterator[None]:
    """What `Dropout` draws on a CPU inside depends on a seed alone, whatever other threads draw."""
    before = _OWN.set(torch.Generator().manual_seed(seed))
    try:
        yield
    finally:
        _OWN.reset(before)
