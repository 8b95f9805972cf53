"""Several adaptations of one learner."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kshot.meta.learner import Learner
from kshot.models.workers import Workers

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def side_by_side(learner: Learner, function: Callable[[Piece], Made], pieces: Sequence[Piece]) -> Iterator[Made]:
    """Gives what a function that adapts a learner makes of each piece, in their order.

    Where adapting moves the encoder on a CPU, several pieces are worked on at once (`kshot.models.workers`).
    """
    at_once = learner.moves and learner.device.type == "cpu"
    return Workers().map(function, pieces) if at_once else map(function, pieces)
