"""A meta-step: the gradient of the outer loss of some episodes. Here is decided how its tasks are run.

Whatever the way, of the token table, the largest tensor of a small encoder, only the rows that the episodes use are
differentiated. How encoders multiply and differentiate is decided in `kshot.models.kernels`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch

from kshot.errors import KshotError
from kshot.meta.learner import Learner, Pair
from kshot.meta.ways import Compiled, Fastest, Loop, Threads, Vmap, Way

Tasks = Literal["auto", "loop", "threads", "vmap", "compiled"]
"""How the tasks of an update are run: one after the other; side by side in threads; as one call of `torch.func.vmap`;
so, and compiled; or as suits the device: on a CPU in threads, where they suit, else in a loop, and on a GPU by the
fastest of a loop and the last two. What a CPU does depends on no measurement, so that a run that is resumed goes on as
it would have."""

WAYS: Mapping[str, type[Way]] = {"loop": Loop, "threads": Threads, "vmap": Vmap, "compiled": Compiled}


class MetaStep:
    """Takes meta-steps with a learner.

    Args:
        learner: What learns, on its device.
        tasks: How the tasks of an update are run.
        ahead: How many updates are to come, by which is decided whether compiling can pay.
        say: Is told in one line how tasks are run, and why.
    """

    def __init__(
        self, learner: Learner, tasks: Tasks = "auto", *, ahead: int = 0, say: Callable[[str], None] | None = None
    ) -> None:
        self._learner, self._tasks, self._say = learner, tasks, say or (lambda line: None)
        self._loop, self._is_said = Loop(learner), False
        if tasks != "auto":
            self._way = WAYS[tasks](learner)
        elif learner.device.type == "cpu":
            self._way = Threads(learner)
        else:
            self._way = Fastest(learner, ahead, self._say)

    def __call__(self, episodes: Sequence[Pair], progress: float = 1.0) -> float:
        """Adds the gradient of the mean outer loss to the `grad` of the learner's parameters.

        Args:
            episodes: Support and query of each.
            progress: How much of the training is done, 0 to 1.

        Returns:
            The mean outer loss.

        Raises:
            KshotError: If the way that was asked for does not suit the learner or the episodes.
        """
        learner, why_not = self._learner, self._way.why_not(episodes)
        if why_not is not None and self._tasks != "auto":
            raise KshotError(f'Tasks cannot be run {self._way.title}: {why_not}; set training.tasks to "auto".')
        if not self._is_said:
            self._explain(episodes, why_not)
        rows = learner.rows_of(episodes)
        loss = (self._way if why_not is None else self._loop).step(episodes, progress, rows)
        if rows is not None and rows.values.grad is not None:
            table = learner.encoder.get_parameter(learner.encoder.token_table)
            if table.grad is None:
                table.grad = torch.zeros_like(table)
            table.grad.index_add_(0, rows.ids, rows.values.grad)
        return loss

    def _explain(self, episodes: Sequence[Pair], why_not: str | None) -> None:
        """Says how the tasks of the first episodes are run, if there is a choice."""
        self._is_said = True
        if self._tasks == "auto" and (len(episodes) == 1 or self._learner.shares_weights):
            return
        how = self._way.title if why_not is None else f"{self._loop.title}: {why_not}"
        self._say(f"The tasks of an update are run {how} (tasks: {self._tasks}).")
