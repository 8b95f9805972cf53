"""Several adaptations of one learner."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kshot.meta.learner import Learner
from kshot.models.kernels import chosen_library
from kshot.models.products import kernels
from kshot.models.workers import Workers

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def side_by_side(
    learner: Learner,
    function: Callable[[Piece], Made],
    pieces: Sequence[Piece],
    workers: Workers | None = None,
) -> Iterator[Made]:
    """Gives what a function that adapts a learner makes of each piece, in their order.

    Where adapting moves the encoder on a CPU, several pieces are worked on at once (`kshot.models.workers`).

    Args:
        learner: The learner.
        function: What is to be done, apart from all other pieces.
        pieces: What it is done with.
        workers: Those that do it; new ones if left out.
    """
    if not learner.moves or learner.device.type != "cpu":
        return map(function, pieces)
    with kernels(learner.kernels):
        chosen_library()  # which may be measured, and is so while nothing else runs
    return (workers or Workers()).map(function, pieces)
