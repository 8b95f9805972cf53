"""What adapted tasks that write have in common: texts in, texts that are made of them out."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from kshot.adapted import Adapted, Manifest, Vectors, fit, support_batch
from kshot.data.draws import whole_number
from kshot.errors import KshotError
from kshot.meta.learner import Learner
from kshot.meta.state import State
from kshot.tasks.writing import Writing

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 256  # texts of which something is made together, so that memory does not grow with their number


@dataclass(frozen=True)
class Written:
    """What was made of a text.

    Attributes:
        text: What is written.
        score: The log-likelihood of a token of it, the end included: 0 is certain. With a length penalty other than 1,
            the log-likelihood over the length to that power.
        ended: Whether it ended by itself; if not, it was cut where no such text should be longer.
    """

    text: str
    score: float
    ended: bool


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedWriter(Adapted):
    """A learner that has learned to make a text of a given one."""

    @classmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[Any],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        kept = cls._readable(learner.learner, examples)
        made = fit(learner.learner, kept, classes, known)
        return cls(learner, (), kept, 1.0, made.state, made.vectors)

    @classmethod
    @abstractmethod
    def _readable(cls, core: Learner, examples: Sequence[Any]) -> tuple[Any, ...]:
        """The examples as the learner reads them.

        Raises:
            KshotError: If a part of one would be lost.
        """

    def _write(self, sources: Sequence[str], *, beam: int | None, length_penalty: float | None) -> Iterator[Written]:
        """Makes a text of each.

        Raises:
            KshotError: If `beam` or `length_penalty` cannot be used.
        """
        if beam is not None:
            whole_number(beam, "beam", 1)
        if length_penalty is not None and not (isinstance(length_penalty, Real) and 0 <= length_penalty < math.inf):
            raise KshotError(f"length_penalty is {length_penalty!r} but has to be a number from 0.")
        core, task = self.learner.learner, self._task
        changes = {"beam": beam, "length_penalty": length_penalty}
        settings = type(task.settings.search).model_validate(
            task.settings.search.model_dump() | {key: value for key, value in changes.items() if value is not None}
        )
        scorer = core.scorer(self._state, support_batch(core, (), ()))
        vocabulary = core.encoder.vocabulary
        for start in range(0, len(sources), BLOCK):
            for each in task.write(scorer, vocabulary.encode(sources[start : start + BLOCK]), settings):
                yield Written(vocabulary.decode(each.tokens), each.score, each.ended)

    @property
    def _task(self) -> Writing:
        task = self.learner.learner.task
        assert isinstance(task, Writing)
        return task

    @classmethod
    def _restored(
        cls,
        learner: "MetaLearner",
        manifest: Manifest,
        examples: tuple[Any, ...],
        state: State,
        tensors: Mapping[str, Tensor],
    ) -> Self:
        return cls(learner, (), examples, manifest.temperature, state, tensors.get("support.vectors"))
