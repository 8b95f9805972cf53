"""Pieces of work side by side on a CPU, each in a thread of its own.

The products of a small task do not occupy several cores, and what is done between them occupies one. Where pieces do
not wait for each other, a thread takes a whole one, and its products take the threads of PyTorch that are left for it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import torch

MOST = 4  # pieces at once: each has memory of its own, and all share Python's lock

Piece = TypeVar("Piece")
Made = TypeVar("Made")


class Workers:
    """Threads that are kept, so that their memory is warm."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._shares = 0, 0  # how many there are, and how many of PyTorch's threads each has

    def map(self, function: Callable[[Piece], Made], pieces: Sequence[Piece]) -> Iterator[Made]:
        """Gives what a function makes of each piece, in their order.

        It runs in the context of the caller; with gradients, if that has them.
        """
        n_threads = torch.get_num_threads()
        n_workers = n_at_once(len(pieces))
        if n_workers < 2:
            yield from map(function, pieces)
            return
        pool, with_gradients = self._ready(n_workers, n_threads // n_workers), torch.is_grad_enabled()

        def made(piece: Piece) -> Made:
            with torch.set_grad_enabled(with_gradients):
                return function(piece)

        contexts = [copy_context() for _ in pieces]
        torch.set_num_threads(1)  # this thread only waits, and takes what is ready
        try:
            yield from pool.map(lambda context, piece: context.run(made, piece), contexts, pieces)
        finally:
            torch.set_num_threads(n_threads)

    def _ready(self, n: int, n_threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._shares != (n, n_threads):
            self._pool = ThreadPoolExecutor(n, "worker", initializer=torch.set_num_threads, initargs=(n_threads,))
            self._shares = n, n_threads
        return self._pool


def n_at_once(n_pieces: int) -> int:
    """How many of some pieces of work run at once."""
    return min(torch.get_num_threads(), n_pieces, MOST)
