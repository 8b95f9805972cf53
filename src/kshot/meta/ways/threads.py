"""Tasks side by side in threads: see `kshot.models.workers`.

Their gradients are added up in the order of the tasks, whichever is ready first, so the sum does not depend on chance.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kshot.meta.adaptations import side_by_side
from kshot.meta.learner import Learner, Pair, Rows
from kshot.meta.ways.base import Way, add, learned
from kshot.models.dropout import own_chance
from kshot.models.workers import Workers, n_at_once


class Threads(Way):
    """Tasks side by side; memory is that of as many as run at once."""

    title = "side by side in threads"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self._workers = Workers()

    def why_not(self, episodes: Sequence[Pair]) -> str | None:
        encoder = self.learner.encoder
        if self.learner.device.type != "cpu":
            return "threads are for a CPU"
        if self.learner.shares_weights:
            return "they share the encoder's weights, and are encoded at once"
        if len(episodes) == 1:
            return "there is one"
        if n_at_once(len(episodes)) == 1:
            return "there is one thread"
        if encoder.training and not encoder.draws_apart:
            return "the dropout of this encoder cannot be drawn for each task apart"
        return None

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        learner, tensors = self.learner, learned(self.learner, rows)
        seeds: list[int] = torch.randint(2**62, (len(episodes),)).tolist()

        def task(number: int) -> tuple[float, tuple[Tensor | None, ...]]:
            with own_chance(seeds[number]):
                loss = learner([episodes[number]], progress, rows) * (1 / len(episodes))
            return float(loss.detach()), torch.autograd.grad(loss, tensors, allow_unused=True)

        total = 0.0
        for loss, gradients in side_by_side(learner, task, range(len(episodes)), self._workers):
            total += loss
            add(tensors, gradients)
        return total
