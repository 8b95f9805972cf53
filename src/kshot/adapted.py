"""An adapted task: what learning from a few examples leaves a user with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from kshot.artefact import MANIFEST, new_folder, read_manifest, read_tensors, save_learner, write_manifest
from kshot.calibration import GROUP, calibrate, prior_temperature
from kshot.data.examples import TextExample
from kshot.errors import KshotError, did_you_mean
from kshot.inputs import check_examples, check_task, check_texts
from kshot.meta.learner import Learner
from kshot.meta.state import State, part_of, with_prefix
from kshot.models.encoder import encode
from kshot.scope import Scope, fit_scope
from kshot.settings import Settings
from kshot.tasks.base import Batch

if TYPE_CHECKING:
    from kshot.meta_learner import MetaLearner

BLOCK = 1024  # texts that are scored together, so that memory does not grow with their number
_TENSORS = "state.safetensors"
_BUNDLED = "learner"
_NEARBY = 3  # steps up to a folder that a learner and a task share

Vectors = Mapping[bytes, Tensor]
"""The vectors of texts, (dim,) each, by their token numbers."""


@dataclass(frozen=True)
class Prediction:
    """What a task makes of a text.

    Attributes:
        label: The likeliest class.
        confidence: Its probability, calibrated on the support.
        out_of_scope: How likely the text belongs to none of the classes: 0 for one as similar to a class as that
            class's own texts are, 1 for one that has nothing in common with any; may be a little outside of both.
        in_scope: Whether that is no more than the task's threshold.
        probabilities: The probability of every class, the likeliest first.
    """

    label: str
    confidence: float
    out_of_scope: float
    in_scope: bool
    probabilities: dict[str, float] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Adapted:
    """A learner that has learned a task; made by `MetaLearner.adapt` and `kshot.load_task`.

    It never changes, and any number of threads may use it and other tasks of its learner at once.

    Attributes:
        learner: What it was adapted from.
        classes: The names of the classes; columns of probabilities are in this order.
        examples: The support set.
        temperature: What logits are divided by, found from the support (`kshot.calibration`).
        scope: What out-of-scope scores come from (`kshot.scope`).
    """

    learner: "MetaLearner"
    classes: tuple[str, ...]
    examples: tuple[TextExample, ...]
    temperature: float
    scope: Scope
    _state: State
    _vectors: Tensor | None  # of the support's distinct texts; None if the inner loop moves the encoder

    # -- predicting ----------------------------------------------------------------------------------------------------

    def predict(self, texts: Iterable[str]) -> list[Prediction]:
        """Labels texts.

        Raises:
            KshotError: If one of them is not a text.
        """
        return [prediction for block in self._blocks(texts) for prediction in self._predictions(*block)]

    def predict_proba(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Returns the probability of each class, (n_texts, n_classes), calibrated on the support.

        Raises:
            KshotError: If one of them is not a text.
        """
        blocks = [probabilities for probabilities, _ in self._blocks(texts)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes)))

    def out_of_scope(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Returns how likely each text belongs to none of the classes, (n_texts,); `scope.threshold` is where to cut.

        Raises:
            KshotError: If one of them is not a text.
        """
        blocks = [scores for _, scores in self._blocks(texts)]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def _blocks(self, texts: Iterable[str]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        checked = check_texts(texts)
        for start in range(0, len(checked), BLOCK):
            yield self._score(checked[start : start + BLOCK])

    def _score(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n_texts, n_classes) and out-of-scope scores (n_texts,)."""
        core = self.learner.learner
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        examples = [TextExample(text, "") for text in distinct]
        batch = core.task.collate(examples, self.classes, core.encoder.vocabulary, support=False)
        with torch.no_grad():
            features = core.features(batch, self._state)
            logits = core.logits(self._state, batch, features)[GROUP]
            probabilities = (logits.cpu().double() / self.temperature).softmax(dim=-1).numpy()
            scores = self.scope.score(features[GROUP].cpu()).double().numpy()
        rows = [distinct[text] for text in texts]
        return probabilities[rows], scores[rows]

    def _predictions(self, probabilities: NDArray[np.float64], scores: NDArray[np.float64]) -> Iterator[Prediction]:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        for row, score, ranks in zip(probabilities.tolist(), scores.tolist(), order.tolist(), strict=True):
            ranked = {self.classes[rank]: row[rank] for rank in ranks}
            best = self.classes[ranks[0]]
            yield Prediction(best, ranked[best], score, score <= self.scope.threshold, ranked)

    # -- other classes and examples ------------------------------------------------------------------------------------

    def add_class(self, label: str, texts: Iterable[str]) -> "Adapted":
        """Returns a task with one class more, adapted anew; nothing is meta-trained.

        Raises:
            KshotError: If there is such a class, or a text cannot be used.
        """
        if label in self.classes:
            raise KshotError(f'There is a class "{label}" already; add_examples adds texts to it.')
        checked = check_texts(texts)
        if not checked:
            raise KshotError(f'The class "{label}" has no example; give at least one.')
        new = check_examples(checked, [label] * len(checked))
        return self._with((*self.examples, *new), (*self.classes, new[0].label))

    def add_examples(self, texts: Iterable[str], labels: Iterable[object]) -> "Adapted":
        """Returns a task with more examples of its classes, adapted anew.

        Raises:
            KshotError: If a class is unknown, or a text or label cannot be used.
        """
        new = check_examples(texts, labels)
        for example in new:
            if example.label not in self.classes:
                hint = did_you_mean(example.label, self.classes)
                raise KshotError(f'There is no class "{example.label}"; add_class adds one.{hint}')
        return self._with((*self.examples, *new), self.classes)

    def remove_class(self, label: str) -> "Adapted":
        """Returns a task without one of its classes, adapted anew.

        Raises:
            KshotError: If there is no such class, or only two are left.
        """
        if label not in self.classes:
            raise KshotError(
                f'There is no class "{label}".{did_you_mean(label, self.classes)} Known: {", ".join(self.classes)}.'
            )
        if len(self.classes) == 2:
            raise KshotError(f'Without "{label}" there is one class only; add another before you remove it.')
        kept = tuple(example for example in self.examples if example.label != label)
        return self._with(kept, tuple(name for name in self.classes if name != label))

    def _with(self, examples: tuple[TextExample, ...], classes: tuple[str, ...]) -> "Adapted":
        return learn(self.learner, examples, classes, known=self._known())

    def _known(self) -> Vectors:
        """The vectors of the support's texts, so that they need not be encoded again."""
        if self._vectors is None:
            return {}
        texts = _support(self.learner.learner, self.examples, self.classes).texts
        return {text.tobytes(): vector for text, vector in zip(texts, self._vectors, strict=True)}

    # -- saving --------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, bundle: bool = False) -> None:
        """Saves the task as a folder; the same texts then have the same predictions, to the last bit.

        The folder holds the support examples in clear text.

        Args:
            path: The folder; a task that is there is replaced.
            bundle: Whether the learner is copied into it, so that it can be moved to another machine. Otherwise the
                folder says where the learner is; one that was never saved is always copied.

        Raises:
            KshotError: If the folder holds something else or cannot be written.
        """
        folder = Path(path).absolute()
        check_replaceable(folder, "task")
        home = None if bundle else self.learner.home
        reference = _Reference(
            path=_BUNDLED if home is None else _way_to(home, folder), fingerprint=self.learner.fingerprint
        )
        manifest = _Manifest(
            classes=self.classes,
            examples=tuple((example.text, example.label) for example in self.examples),
            temperature=self.temperature,
            threshold=self.scope.threshold,
            learner=reference,
        )
        tensors = with_prefix(self._state, "state") | {
            "scope.centres": self.scope.centres,
            "scope.tightness": self.scope.tightness,
        }
        if self._vectors is not None:
            tensors["support.vectors"] = self._vectors
        with new_folder(folder) as draft:
            write_manifest(draft, "task", manifest.model_dump(mode="json"))
            save_file({name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}, draft / _TENSORS)
            if home is None:
                save_learner(self.learner.learner, draft / _BUNDLED, about=self.learner.about)

    def __repr__(self) -> str:
        name = self.learner.learner.settings.name
        return f"<Adapted: {len(self.classes)} classes, {len(self.examples)} examples, {name}>"


def learn(
    learner: "MetaLearner", examples: Sequence[TextExample], classes: Sequence[str], *, known: Vectors | None = None
) -> Adapted:
    """Adapts a learner to a task.

    Args:
        learner: The learner.
        examples: The support set.
        classes: The names of the classes.
        known: Vectors of texts that need not be encoded again.

    Raises:
        KshotError: If the examples do not make a task, or the inner loop diverges.
    """
    check_task(examples, classes)
    core = learner.learner
    support = _support(core, examples, classes)
    vectors = None if core.moves else _encode(core, support, known or {})
    features = None if vectors is None else core.task.features(lambda _: vectors, support)
    state = core.adapt(support, features)
    _check_finite(state, core)
    prior = prior_temperature(learner.about, core.settings.name)
    temperature = calibrate(core, support, features, n_texts=len(examples), prior=prior)
    with torch.no_grad():
        x = (core.features(support, state) if features is None else features)[GROUP].cpu()
        scope = fit_scope(x, support.labels[GROUP], support.weights, n_texts=len(examples), n_classes=len(classes))
    return Adapted(learner, tuple(classes), tuple(examples), temperature, scope, state, vectors)


def load_adapted(folder: Path, learner: "MetaLearner") -> Adapted:
    """Reads a task of a learner that was loaded before.

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
    state, support = part_of(tensors, "state"), tensors.get("support.vectors")
    try:
        scope = Scope(tensors["scope.centres"], tensors["scope.tightness"], manifest.threshold)
    except KeyError as error:
        raise KshotError(
            f"{folder / _TENSORS} is damaged: it has no {error}; restore it from a copy or make it again."
        ) from error
    device = next(learner.learner.parameters()).device
    examples = tuple(TextExample(text, label) for text, label in manifest.examples)
    placed = {name: tensor.to(device) for name, tensor in state.items()}
    return Adapted(
        learner,
        manifest.classes,
        examples,
        manifest.temperature,
        scope,
        placed,
        None if support is None else support.to(device),
    )


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
    """Refuses a folder that holds something other than an artefact of a kind, since saving replaces it as a whole.

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


class _Reference(Settings):
    path: str
    fingerprint: str


class _Manifest(Settings):
    classes: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    temperature: float
    threshold: float
    learner: _Reference


def _read(folder: Path) -> _Manifest:
    if not folder.is_dir():
        raise KshotError(f"{folder} does not exist; give the folder of a task, as kshot adapt wrote it.")
    values = read_manifest(folder, "task")
    try:
        return _Manifest.model_validate({key: value for key, value in values.items() if key not in ("format", "kind")})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise KshotError(
            f'{folder / MANIFEST} is damaged ("{key}": {first["msg"]}); restore it from a copy or make it again.'
        ) from error


def _way_to(home: Path, folder: Path) -> str:
    """A relative path where the two lie near each other, so that both can be moved together."""
    way = relpath(home, folder)
    return way if Path(way).parts.count("..") <= _NEARBY else str(home)


def _support(core: Learner, examples: Sequence[TextExample], classes: Sequence[str]) -> Batch:
    return core.task.collate(examples, classes, core.encoder.vocabulary, support=True)


def _encode(core: Learner, batch: Batch, known: Vectors) -> Tensor:
    """The vectors of a batch's distinct texts, (n_texts, dim)."""
    keys = [text.tobytes() for text in batch.texts]
    missing = {key: text for key, text in zip(keys, batch.texts, strict=True) if key not in known}
    with torch.no_grad():
        vectors = dict(zip(missing, encode(core.encoder, list(missing.values()), None, core.precision), strict=True))
    return torch.stack([known[key] if key in known else vectors[key] for key in keys])


def _check_finite(state: State, core: Learner) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise KshotError(
            f"Adapting by {core.settings.name} diverged: the steps of its inner loop are too large for this task; "
            f"meta-train with a smaller algorithm.inner.rate than {core.inner.settings.rate}."
        )
