"""An adapted task: what learning from a few examples leaves a user with, whatever the kind of task."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from kshot.artefact import (
    LEARNER_FILES,
    MANIFEST,
    new_folder,
    read_manifest,
    read_tensors,
    save_learner,
    write_manifest,
)
from kshot.data.examples import Example
from kshot.errors import KshotError
from kshot.meta.learner import Learner, gather
from kshot.meta.state import State, part_of, with_prefix
from kshot.models.encoder import n_vectors, vector_keys
from kshot.settings import Settings
from kshot.support import as_row, from_pair, from_row, read_rows, write_rows
from kshot.tasks.base import Batch, Task

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

_TENSORS = "state.safetensors"
_EXAMPLES = "examples.jsonl"
_BUNDLED = "learner"
_BUNDLE = {f"{_BUNDLED}/{name}" for name in LEARNER_FILES}
_NEARBY = 3  # steps up to a folder that a learner and a task share

Vectors = Mapping[bytes, Tensor]
"""The vectors of texts or of their words, (1 or n_words, dim) each, by `vector_keys`."""


class LearnerReference(Settings):
    """Where the learner of a saved task is.

    Attributes:
        path: Its folder, relative where that is near.
        fingerprint: `MetaLearner.fingerprint`.
    """

    path: str
    fingerprint: str


class Manifest(Settings):
    """What `kshot.json` of a task says.

    Attributes:
        classes: The names of the classes.
        n_examples: How many examples are in `examples.jsonl`; 0 if they were left out.
        examples: Of format 1, which had them here, as pairs: text and label, words and tags, source and target.
        temperature: What scores are divided by.
        threshold: See `kshot.scope.Scope`; of classifiers.
        learner: Where the learner is.
    """

    classes: tuple[str, ...]
    n_examples: int = 0
    examples: tuple[tuple[Any, Any], ...] | None = None
    temperature: float
    threshold: float | None = None
    learner: LearnerReference


@dataclass(frozen=True, eq=False, repr=False)
class Adapted(ABC):
    """A learner that has learned a task; made by `MetaLearner.adapt` and `kshot.load_task`.

    It never changes, and any number of threads may use it and other tasks of its learner at once.

    Attributes:
        learner: What it was adapted from.
        classes: The names of the classes.
        examples: The support set; empty if it was saved without its examples, and then it can learn nothing more.
        temperature: What scores are divided by, found from the support (`kshot.calibration`).
        task_type: The kind of its learner's task.
        reads_history: Whether `predict` takes the turns before each text as well.
    """

    learner: "MetaLearner"
    classes: tuple[str, ...]
    examples: tuple[Any, ...]
    temperature: float
    _state: State
    _vectors: Tensor | None  # of the support's distinct texts; None if the inner loop moves the encoder

    task_type: ClassVar[type[Task]]
    example_type: ClassVar[type[Example]]
    reads_history: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def checked(cls, examples: Iterable[Any], labels: Iterable[object] | None) -> tuple[Any, ...]:
        """Makes examples of what a user gave; without labels, of examples alone.

        Raises:
            KshotError: If they cannot be used.
        """

    @abstractmethod
    def predict(self, texts: Iterable[Any]) -> list[Any]:
        """Labels texts.

        Raises:
            KshotError: If one of them is not a text.
        """

    @classmethod
    @abstractmethod
    def learn(
        cls,
        learner: "MetaLearner",
        examples: Sequence[Any],
        classes: Sequence[str],
        *,
        known: Vectors | None = None,
    ) -> Self:
        """Adapts a learner to a task.

        Args:
            learner: The learner.
            examples: The support set.
            classes: The names of the classes.
            known: Vectors of texts that need not be encoded again.

        Raises:
            KshotError: If the examples do not make a task, or the inner loop diverges.
        """

    @classmethod
    @abstractmethod
    def _restored(
        cls,
        learner: "MetaLearner",
        manifest: Manifest,
        examples: tuple[Any, ...],
        state: State,
        tensors: Mapping[str, Tensor],
    ) -> Self:
        """What was saved; raises KeyError for a tensor that is missing."""

    # -- learning more -------------------------------------------------------------------------------------------------

    def teach(self, example: Any, label: object | None = None) -> Self:
        """Returns a task that has learned one example more, adapted anew from all of them; nothing is meta-trained.

        What it had learned of the same text before gives way. A class that is new joins the others, and one that has no
        example any more goes.

        Args:
            example: As one of those that `MetaLearner.adapt` takes.
            label: Its label, tags, translation, frame or reply, if it does not bring it.

        Raises:
            KshotError: If the example cannot be used, or the task was saved without its examples.
        """
        new = self._new(example, label)
        asked = self._asked(new)
        return self._with((*(each for each in self.examples if self._asked(each) != asked), new))

    def _new(self, example: Any, label: object | None) -> Any:
        """What is taught, as an example."""
        [new] = self.checked([example], None if label is None else [label])
        return new

    def _asked(self, example: Any) -> object:
        """What an example is about: of two about the same, the later one is right."""
        return example.text.strip()

    def _with(self, examples: tuple[Any, ...]) -> Self:
        """The task of other examples: its classes are those that they show, in the order that they had."""
        if not self.examples:
            raise KshotError(
                "The task was saved without its examples, so it can learn nothing more; adapt again, to all of them."
            )
        shown = dict.fromkeys(label for each in examples for label in each.labels)
        classes = (*(name for name in self.classes if name in shown), *(n for n in shown if n not in self.classes))
        return self.learn(self.learner, examples, classes, known=self._known())

    def _known(self) -> Vectors:
        """The vectors of the support's texts, so that they need not be encoded again."""
        if self._vectors is None:
            return {}
        batch = support_batch(self.learner.learner, self.examples, self.classes)
        parts = torch.split(self._vectors, n_vectors(batch.texts, batch.words))
        return dict(zip(vector_keys(batch.texts, batch.words, batch.given), parts, strict=True))

    # -- saving --------------------------------------------------------------------------------------------------------

    @classmethod
    def _row(cls, example: Any) -> dict[str, Any]:
        """An example as a line of the file of a saved task."""
        return as_row(example)

    @classmethod
    def _of_row(cls, row: dict[str, Any]) -> Any:
        """The example of a line; raises KeyError, TypeError or ValueError if there is none."""
        return from_row(cls.example_type, row)

    def save(self, path: str | Path, *, bundle: bool = False, examples: bool = True) -> None:
        """Saves the task as a folder; the same texts then have the same predictions, to the last bit.

        The folder holds the examples in clear text, in `examples.jsonl` (`kshot.support`).

        Args:
            path: The folder; a task that is there is replaced, at one stroke, and what else lies there stays.
            bundle: Whether the learner is copied into it, so that it can be moved to another machine. Otherwise the
                folder says where the learner is; one that was never saved, or is not there any more as it was, is
                always copied, and one that is inside stays there.
            examples: Whether the examples and their vectors are kept; without them the task predicts, but can learn
                nothing more. What it learned from them is numbers made of them all the same.

        Raises:
            KshotError: If the folder holds something else or cannot be written.
        """
        folder = Path(path).absolute()
        check_replaceable(folder, "task")
        home = None if bundle else self.learner.home
        inside = None if self.learner.home is None else _place_inside(self.learner.home, folder)
        where = _BUNDLED if home is None else _way_to(home, folder) if inside is None else str(inside)
        stays = inside == Path(_BUNDLED)  # the copy of before is this learner
        kept = self.examples if examples else ()
        manifest = Manifest(
            classes=self.classes,
            n_examples=len(kept),
            temperature=self.temperature,
            threshold=self._threshold(),
            learner=LearnerReference(path=where, fingerprint=self.learner.fingerprint),
        )
        tensors = with_prefix(self._state, "state") | self._tensors()
        if self._vectors is not None and kept:
            tensors["support.vectors"] = self._vectors
        replaces = {MANIFEST, _TENSORS, _EXAMPLES} | (set() if stays else _BUNDLE)
        with new_folder(folder, replaces=replaces) as draft:
            write_manifest(draft, "task", manifest.model_dump(mode="json", exclude_none=True))
            save_file({name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}, draft / _TENSORS)
            if kept:
                write_rows(draft / _EXAMPLES, map(self._row, kept))
            if home is None and not stays:
                save_learner(self.learner.learner, draft / _BUNDLED, about=self.learner.about)

    def _threshold(self) -> float | None:
        return None

    def _tensors(self) -> dict[str, Tensor]:
        """What is kept beside the State."""
        return {}

    def __repr__(self) -> str:
        name = self.learner.learner.settings.name
        classes = f"{len(self.classes)} classes, " if self.classes else ""
        return f"<{type(self).__name__}: {classes}{len(self.examples)} examples, {name}>"


# -- adapting ----------------------------------------------------------------------------------------------------------


def support_batch(core: Learner, examples: Sequence[Example], classes: Sequence[str]) -> Batch:
    """A support set as a learner takes it."""
    return core.task.collate(examples, classes, core.encoder.vocabulary, support=True)


@dataclass(frozen=True)
class Fitted:
    """What a learner has made of a support set.

    Attributes:
        support: The set, as it takes it.
        known: The vectors of its texts by `vector_keys`; None if the inner loop moves the encoder.
        vectors: The same row by row, (n_vectors, dim).
        state: What was learned.
    """

    support: Batch
    known: Vectors | None
    vectors: Tensor | None
    state: State


def fit(core: Learner, examples: Sequence[Example], classes: Sequence[str], known: Vectors | None) -> Fitted:
    """Adapts a learner.

    Args:
        core: The learner.
        examples: What to learn from.
        classes: The names of the classes.
        known: Vectors of texts that need not be encoded again.

    Raises:
        KshotError: If the inner loop diverges.
    """
    support = support_batch(core, examples, classes)
    found = None if core.moves else core.known_vectors(support, known or {})
    vectors = None if found is None else gather(support, found)
    state = core.adapt(support, vectors)
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise _diverged(core)
    return Fitted(support, found, vectors, state)


def _diverged(core: Learner) -> KshotError:
    """Why what was learned is not finite."""
    name, inner = core.settings.name, core.inner.settings
    if inner.steps if inner.test_steps is None else inner.test_steps:
        return KshotError(
            f"Adapting by {name} diverged: the steps of its inner loop are too large for this task; "
            f"meta-train with a smaller algorithm.inner.rate than {inner.rate}."
        )
    if core.settings.head:
        reason = f"the settings of its head ({core.settings.head}) are too large; take smaller ones"
    else:
        reason = "the weights of its encoder are too large, as after a training that diverged; take another learner"
    return KshotError(f"Adapting by {name} gave numbers that are not finite: {reason}.")


# -- loading -----------------------------------------------------------------------------------------------------------


def load_adapted(folder: Path, learner: "MetaLearner", kind: type[Adapted]) -> Adapted:
    """Reads a task of a learner that was loaded before.

    Args:
        folder: The task's folder.
        learner: Its learner.
        kind: What tasks of that learner are.

    Raises:
        KshotError: If the folder is missing, incomplete, damaged or of a newer format, or if it belongs to another
            learner.
    """
    manifest = _read(folder)
    if learner.fingerprint != manifest.learner.fingerprint:
        where = f" in {learner.home}" if learner.home else ""
        raise KshotError(
            f"The learner{where} is not the one that the task in {folder} was adapted with: its weights or settings "
            "have changed; adapt the task again, or give the learner as it was."
        )
    tensors = read_tensors(folder / _TENSORS)
    device = learner.learner.device
    state = {name: tensor.to(device) for name, tensor in part_of(tensors, "state").items()}
    if "support.vectors" in tensors:
        tensors["support.vectors"] = tensors["support.vectors"].to(device)
    try:
        return kind._restored(learner, manifest, _examples_of(folder, manifest, kind), state, tensors)
    except KeyError as error:
        raise KshotError(
            f"{folder / _TENSORS} is damaged: it has no {error}; restore it from a copy or make it again."
        ) from error


def _examples_of(folder: Path, manifest: Manifest, kind: type[Adapted]) -> tuple[Any, ...]:
    """The support of a saved task; empty if it was left out."""
    if manifest.examples is not None:
        return tuple(from_pair(kind.example_type, pair) for pair in manifest.examples)
    if not manifest.n_examples:
        return ()
    return read_rows(folder / _EXAMPLES, kind._of_row, manifest.n_examples)


def learner_of(folder: Path) -> Path:
    """The folder of the learner that a task was adapted with.

    Raises:
        KshotError: If there is none any more.
    """
    found = (folder / _read(folder).learner.path).resolve()
    if not (found / MANIFEST).is_file():
        raise KshotError(
            f"The learner of the task in {folder} is not in {found} any more; say where it is: "
            f'kshot.load_task("{folder}", learner=...), or --learner on the command line.'
        )
    return found


def check_replaceable(folder: Path, kind: str) -> None:
    """Refuses a folder that holds something other than an artefact of a kind, which saving replaces.

    Raises:
        KshotError: If it does.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise KshotError(f"{folder} is a file; give a new folder.")
    if not (folder / MANIFEST).is_file():
        raise KshotError(f"{folder} is not empty and holds no {kind}; give a new folder.")
    read_manifest(folder, kind)


def _read(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise KshotError(f"{folder} does not exist; give the folder of a task, as kshot adapt wrote it.")
    values = read_manifest(folder, "task")
    try:
        return Manifest.model_validate({key: value for key, value in values.items() if key not in ("format", "kind")})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise KshotError(
            f'{folder / MANIFEST} is damaged ("{key}": {first["msg"]}); restore it from a copy or make it again.'
        ) from error


def _place_inside(home: Path, folder: Path) -> Path | None:
    """Where in a folder a learner lies; None if it lies outside."""
    found, outer = home.resolve(), folder.resolve()
    return found.relative_to(outer) if found.is_relative_to(outer) else None


def _way_to(home: Path, folder: Path) -> str:
    """A relative path where the two lie near each other, so that both can be moved together."""
    way = relpath(home, folder)
    return way if Path(way).parts.count("..") <= _NEARBY else str(home)
