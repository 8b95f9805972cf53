"""Tasks side by side in threads.

The products of a task are too small to occupy several cores, and what is done between them occupies one. Tasks do not
wait for each other, so a thread takes whole tasks. Their gradients are added up in the order of the tasks, whichever is
ready first, so the sum does not depend on chance.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from kshot.meta.learner import Learner, Pair, Rows
from kshot.meta.ways.base import Way, add, learned
from kshot.models.dropout import own_chance
from kshot.models.kernels import chosen_library
from kshot.models.products import kernels


class Threads(Way):
    """Tasks side by side, as many as PyTorch has threads; memory is that of so many."""

    title = "side by side in threads"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self._workers: tuple[int, ThreadPoolExecutor] | None = None

    def why_not(self, episodes: Sequence[Pair]) -> str | None:
        encoder = self.learner.encoder
        if self.learner.device.type != "cpu":
            return "threads are for a CPU"
        if self.learner.shares_weights:
            return "they share the encoder's weights, and are encoded at once"
        if len(episodes) == 1:
            return "there is one"
        if torch.get_num_threads() == 1:
            return "there is one thread"
        if encoder.training and not encoder.draws_apart:
            return "the dropout of this encoder cannot be drawn for each task apart"
        return None

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        learner, tensors = self.learner, learned(self.learner, rows)
        seeds: list[int] = torch.randint(2**62, (len(episodes),)).tolist()
        n_threads = torch.get_num_threads()
        with kernels(learner.kernels):
            chosen_library()  # which may be measured, and is so while nothing else runs

        def task(episode: Pair, seed: int) -> tuple[float, tuple[Tensor | None, ...]]:
            with own_chance(seed):
                loss = learner([episode], progress, rows) * (1 / len(episodes))
            return float(loss.detach()), torch.autograd.grad(loss, tensors, allow_unused=True)

        total = 0.0
        # The form of attention is that of all threads, so it is set before one of them begins, and not changed by any.
        with learner.attending():
            try:
                torch.set_num_threads(1)  # this thread only adds up
                for loss, gradients in self._ready(n_threads, len(episodes)).map(task, episodes, seeds):
                    total += loss
                    add(tensors, gradients)
            finally:
                torch.set_num_threads(n_threads)
        return total

    def _ready(self, n_threads: int, n_tasks: int) -> ThreadPoolExecutor:
        """Workers for so many tasks, who share the threads out; the same ones in each step, whose memory is warm."""
        n_workers = min(n_threads, n_tasks)
        if self._workers is None or self._workers[0] != n_workers:
            own = n_threads // n_workers
            self._workers = (
                n_workers,
                ThreadPoolExecutor(n_workers, "task", initializer=torch.set_num_threads, initargs=(own,)),
            )
        return self._workers[1]
