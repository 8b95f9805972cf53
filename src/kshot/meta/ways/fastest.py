"""Ways that take turns, and then the fastest: for a GPU, where no size tells beforehand which that is."""

from collections.abc import Callable, Sequence
from time import perf_counter

import torch

from kshot.errors import KshotError
from kshot.meta.learner import Learner, Pair, Rows
from kshot.meta.ways.base import Way
from kshot.meta.ways.compiled import Compiled
from kshot.meta.ways.loop import Loop
from kshot.meta.ways.vmap import Vmap

_TURNS = 4  # steps of each way; its fastest counts, which is none that prepares anything
_WORTH_COMPILING = 300.0  # seconds that the training takes without it


class Fastest(Way):
    """The first steps are taken by each way in turn, the others by the one that was fastest.

    Args:
        learner: What learns.
        ahead: How many steps are to come; if they take some minutes, compiling has its turn, too.
        say: Is told in one line which way was chosen, and why.
    """

    title = "as is measured to be fastest"

    def __init__(self, learner: Learner, ahead: int, say: Callable[[str], None]) -> None:
        super().__init__(learner)
        self._ahead, self._say = ahead, say
        self._loop = Loop(learner)
        self._seconds: dict[Way, list[float]] = {way: [] for way in (self._loop, Vmap(learner), Compiled(learner))}
        self._chosen: Way | None = None

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        way = self._chosen or self._next(episodes)
        if way.why_not(episodes) is not None:  # they are unlike those by which it was chosen
            way = self._loop
        try:
            if self._chosen is not None:
                return way.step(episodes, progress, rows)
            begin = self._now()
            loss = way.step(episodes, progress, rows)
            self._seconds[way].append(self._now() - begin)
            return loss
        except (RuntimeError, KshotError) as error:  # no memory, no compiler, or an operation that cannot be mapped
            if way is self._loop:
                raise
            self._say(f"Tasks cannot be run {way.title}: {str(error).partition('. ')[0].rstrip('.')}.")
            del self._seconds[way]
            self._chosen = None
            return self._loop.step(episodes, progress, rows)

    def _next(self, episodes: Sequence[Pair]) -> Way:
        """The way whose turn it is, or the fastest when all had theirs."""
        for way, seconds in self._seconds.items():
            if len(seconds) < _TURNS and way.why_not(episodes) is None and self._can_pay(way):
                return way
        measured = {way: min(seconds) for way, seconds in self._seconds.items() if seconds}
        self._chosen = min(measured, key=lambda way: measured[way])
        figures = "; ".join(f"{way.title} {1e3 * seconds:.1f} ms" for way, seconds in measured.items())
        self._say(f"The tasks of an update are run {self._chosen.title}, measured to be the fastest ({figures}).")
        return self._chosen

    def _can_pay(self, way: Way) -> bool:
        """Whether the training is long enough for a way that has to prepare something."""
        so_far = (min(seconds) for seconds in self._seconds.values() if seconds)
        return not isinstance(way, Compiled) or min(so_far, default=0.0) * self._ahead >= _WORTH_COMPILING

    def _now(self) -> float:
        """The time when all that was asked for so far is done, in seconds."""
        if self.learner.device.type == "cuda":
            torch.cuda.synchronize(self.learner.device)
        return perf_counter()
