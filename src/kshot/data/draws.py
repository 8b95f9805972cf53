"""What all samplers share: a sequence of episodes, each drawn from its number, and how many of what is drawn."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, overload

import numpy as np

from kshot.data.examples import Episode
from kshot.errors import KshotError

Count = int | tuple[int, int] | Literal["all"]
"""How many: a number, a range `(low, high)` drawn uniformly for each episode (both ends included), or all there are."""

TRIES = 10
"""How often an episode is drawn whose support takes what its query needs, before that is an error."""


class Sampler(Sequence[Episode]):
    """A sequence of episodes, each drawn when it is asked for.

    Attributes:
        n_episodes: The length of the sequence.
        seed: The seed.
        skipped: What was left out because it has too few examples.
    """

    n_episodes: int
    seed: int
    skipped: tuple[str, ...]

    @abstractmethod
    def episode(self, i: int) -> Episode:
        """Draws one episode by its number, from 0."""

    def __len__(self) -> int:
        """The number of episodes."""
        return self.n_episodes

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Episode, ...]: ...

    def __getitem__(self, index: int | slice) -> Episode | tuple[Episode, ...]:
        """Draws one episode by its number, or several by a slice.

        Raises:
            IndexError: If the number is outside the sequence.
        """
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self.n_episodes)))
        i = index + self.n_episodes if index < 0 else index
        if not 0 <= i < self.n_episodes:
            raise IndexError(f"Episode {index} of a sampler of {self.n_episodes} episodes.")
        return self.episode(i)


def generator_of(*words: int) -> np.random.Generator:
    """A generator of its own for each key; PCG64 by name, because the default of NumPy may change."""
    return np.random.Generator(np.random.PCG64(words))


def whole_number(value: int, name: str, low: int) -> int:
    """Refuses what is not a whole number from `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise KshotError(f"{name} is {value!r} but has to be a whole number from {low}.")
    return int(value)


def count_ends(count: Count, name: str, low: int) -> tuple[int, int]:
    """The ends of a count; (-1, -1) is all."""
    if count == "all":
        return -1, -1
    if isinstance(count, (tuple, list)) and len(count) == 2:
        ends = (
            whole_number(count[0], f"The lower end of {name}", low),
            whole_number(count[1], f"The upper end of {name}", low),
        )
        if ends[0] > ends[1]:
            raise KshotError(
                f"{name} is {tuple(count)!r}, but the lower end of a range comes first; write ({ends[1]}, {ends[0]})."
            )
        return ends
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < low:
        raise KshotError(f'{name} is {count!r} but has to be a whole number from {low}, a range (low, high) or "all".')
    return int(count), int(count)


def show_ends(ends: tuple[int, int]) -> str:
    """A count in words."""
    if ends[0] < 0:
        return "all"
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def pick(ends: tuple[int, int], everything: int, rng: np.random.Generator) -> int:
    """Draws a count; `everything` is what "all" means, and where it is known no count is above it."""
    low, high = ends
    if low < 0:
        return everything
    high = min(high, everything) if everything >= 0 else high
    return high if low == high else low + int(rng.random() * (high - low + 1))


def distinct_numbers(uniforms: list[float], n: int) -> list[int]:
    """Draws ``len(uniforms)`` different numbers below `n`, in random order.

    The first steps of a Fisher-Yates shuffle of ``range(n)``, where only the places that moved are written down: the
    time depends on how many are drawn and not on how many there are.
    """
    moved: dict[int, int] = {}
    drawn = []
    for place, uniform in enumerate(uniforms):
        other = place + int(uniform * (n - place))
        drawn.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return drawn


def least_left(asked: Iterable[str], groups: Iterable[Iterable[str]], shot: int) -> int:
    """How many different texts a query can have that the support does not take, whichever it takes.

    Args:
        asked: The texts that the query may have.
        groups: The different texts that the support may have, group by group.
        shot: How many the support takes of each group; a negative number is all.
    """
    texts = set(asked)
    shared = [sum(text in texts for text in group) for group in groups]
    return len(texts) - sum(each if shot < 0 else min(shot, each) for each in shared)
