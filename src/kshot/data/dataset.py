"""A data set in three parts, and how episodes are drawn from it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kshot.data.augment import build_augmentation
from kshot.data.augment_pairs import PairAugmentations
from kshot.data.augment_sentences import SentenceAugmentations
from kshot.data.draws import Count, Sampler
from kshot.data.examples import Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.pairs import PairSampler
from kshot.data.pieces import EpisodeAugmentation, PieceSampler
from kshot.data.replies import ReplySampler
from kshot.data.sampler import EpisodeSampler
from kshot.data.sentences import SentenceSampler
from kshot.data.utterance_sampler import UtteranceSampler
from kshot.errors import KshotError, did_you_mean

Unit = Literal["classes", "tasks", "examples"]
"""What the parts of a data set differ in."""

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Dataset(ABC):
    """Examples to meta-train on, to choose by and to test on.

    Attributes:
        name: Its name, with the split where there are several.
        train: Examples to meta-train on.
        valid: Examples to choose settings by.
        test: Examples to report on.
        unit: What is new in another part. ``classes``: the parts have different classes, and any of them make a task.
            ``tasks``: each `task` of an example is one task with its own classes, and the parts have different tasks.
            ``examples``: the classes are the same, and the examples are split.
        licence: The licence of the data.
        source: Where it comes from, and how it was split if not by its authors.
    """

    name: str
    train: tuple[Any, ...]
    valid: tuple[Any, ...]
    test: tuple[Any, ...]
    unit: Unit
    licence: str = ""
    source: str = ""

    def part(self, name: str) -> tuple[Any, ...]:
        """Returns the examples of ``train``, ``valid`` or ``test``.

        Raises:
            KshotError: If there is no such part, or if it is empty.
        """
        if name not in PARTS:
            raise KshotError(
                f'There is no part "{name}"; the parts are train, valid and test.{did_you_mean(name, PARTS)}'
            )
        examples = {"train": self.train, "valid": self.valid, "test": self.test}[name]
        if not examples:
            raise KshotError(
                f'The part "{name}" of data set "{self.name}" is empty; add examples to it or use another part.'
            )
        return examples

    def classes(self, part: str) -> tuple[str, ...]:
        """Returns the class names of a part, sorted.

        Raises:
            KshotError: If there is no such part, or if it is empty.
        """
        return tuple(sorted({label for example in self.part(part) for label in example.labels}))

    def pools(self, part: str) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
        """What supports and queries of a part are drawn from; no second pool if both come from one.

        For unit ``tasks``, a task whose rows have a `part` of their own has its support drawn from its train rows and
        its query from its test rows. For unit ``examples``, the support comes from the train part and the query from
        the named one.
        """
        examples = self.part(part)
        if self.unit == "examples" and part != "train":
            return self.part("train"), examples
        if self.unit == "tasks" and {"train", "test"} <= {example.part for example in examples}:
            return (
                tuple(example for example in examples if example.part == "train"),
                tuple(example for example in examples if example.part == "test"),
            )
        return examples, None

    @property
    def shot_counts(self) -> str:
        """What the shots of an episode are.

        ``examples`` or ``mentions`` of a class, ``turns`` of an intent; or, of the whole task, ``sentences``,
        ``pairs`` or ``dialogues``.
        """
        return "examples"

    @property
    def usual_way(self) -> Count:
        """The classes of an episode where nobody says how many: 5, or all of what has no classes to draw."""
        return 5

    def sampler(
        self,
        part: str,
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        skip_small: bool = False,
        augment: Sequence[str] = (),
    ) -> Sampler:
        """Builds a sampler of the episodes of a part, in the way that its unit asks for; see `pools`.

        Args:
            part: ``train``, ``valid`` or ``test``.
            way: Classes of an episode, see `EpisodeSampler` and `SentenceSampler`.
            shot: Support examples of each class; of tagged data mentions of each type, or, where episodes are domains,
                sentences.
            query: The same of the query.
            seed: Any whole number from 0.
            n_episodes: The length of the sampler.
            skip_small: Whether classes with too few examples are left out instead of refused.
            augment: Names of changes made to each support example, see `kshot.data.augment` and
                `kshot.data.augment_sentences`; of those made to whole episodes, see `kshot.data.augment_pairs`.

        Raises:
            KshotError: If there is no such part, or if it does not have what the counts ask for.
        """
        examples, query_examples = self.pools(part)
        return self._drawn_from(
            examples,
            augment,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            n_episodes=n_episodes,
            query_examples=query_examples,
            skip_small=skip_small,
        )

    @abstractmethod
    def _drawn_from(self, examples: Sequence[Any], augment: Sequence[str], **counts: Any) -> Sampler:
        """The sampler over some examples, with the counts that all kinds of samplers take."""


@dataclass(frozen=True)
class TextDataset(Dataset):
    """Labelled texts.

    Attributes:
        out_of_scope: Texts that belong to none of the classes.
    """

    train: tuple[TextExample, ...]
    valid: tuple[TextExample, ...]
    test: tuple[TextExample, ...]
    out_of_scope: tuple[TextExample, ...] = ()

    def _drawn_from(self, examples: Sequence[Any], augment: Sequence[str], **counts: Any) -> EpisodeSampler:
        return EpisodeSampler(examples, tasks=self.unit == "tasks", augment=build_augmentation(augment), **counts)


@dataclass(frozen=True)
class TaggedDataset(Dataset):
    """Sentences with entities. For unit ``classes`` the parts have different types, and any of them make a task."""

    train: tuple[TaggedExample, ...]
    valid: tuple[TaggedExample, ...]
    test: tuple[TaggedExample, ...]

    @property
    def shot_counts(self) -> str:
        return "mentions" if self.unit == "classes" else "sentences"

    @property
    def usual_way(self) -> Count:
        return 5 if self.unit == "classes" else "all"

    def _drawn_from(self, examples: Sequence[Any], augment: Sequence[str], **counts: Any) -> SentenceSampler:
        changes = SentenceAugmentations(tuple(augment))
        return SentenceSampler(examples, domains=self.unit != "classes", augment=changes, **counts)


class PieceDataset(Dataset):
    """What is drawn piece by piece: each task is one episode's own world, and the parts have different tasks."""

    drawn_by: ClassVar[type[PieceSampler]]

    @abstractmethod
    def _augmentation(self, names: Sequence[str]) -> EpisodeAugmentation | None:
        """What is done to each episode; None for no name."""

    @property
    def usual_way(self) -> Count:
        return "all"

    def _drawn_from(self, examples: Sequence[Any], augment: Sequence[str], **counts: Any) -> PieceSampler:
        return self.drawn_by(examples, augment=self._augmentation(augment), **counts)


@dataclass(frozen=True)
class PairDataset(PieceDataset):
    """Sentence pairs. Each task is a pair of languages, or a domain."""

    train: tuple[SentencePair, ...]
    valid: tuple[SentencePair, ...]
    test: tuple[SentencePair, ...]
    drawn_by = PairSampler

    def _augmentation(self, names: Sequence[str]) -> PairAugmentations | None:
        return PairAugmentations.of(names, self.train)

    @property
    def shot_counts(self) -> str:
        return "pairs"

    def pools(self, part: str) -> tuple[tuple[SentencePair, ...], tuple[SentencePair, ...] | None]:
        """As `Dataset.pools`; the query of a task of `valid` comes from its valid rows, where it has some."""
        examples = self.part(part)
        if self.unit == "tasks" and {"train", part} <= {example.part for example in examples} and part != "train":
            return (
                tuple(example for example in examples if example.part == "train"),
                tuple(example for example in examples if example.part == part),
            )
        return super().pools(part)


@dataclass(frozen=True)
class ReplyDataset(PieceDataset):
    """What people answer in dialogues. Each task is a person.

    Attributes:
        personas: What is known of each person, in sentences: for measures alone, no learner reads it.
    """

    train: tuple[Reply, ...]
    valid: tuple[Reply, ...]
    test: tuple[Reply, ...]
    personas: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drawn_by = ReplySampler

    def _augmentation(self, names: Sequence[str]) -> None:
        if names:
            raise KshotError(
                "training.augment changes one text, and would part it from the turn that it answers; leave it out."
            )

    @property
    def shot_counts(self) -> str:
        return "dialogues"


@dataclass(frozen=True)
class UtteranceDataset(Dataset):
    """Turns of users with intents and slots. Each task is a domain; the parts have different ones."""

    train: tuple[Utterance, ...]
    valid: tuple[Utterance, ...]
    test: tuple[Utterance, ...]

    @property
    def shot_counts(self) -> str:
        return "turns"

    @property
    def usual_way(self) -> Count:
        return "all"

    def _drawn_from(self, examples: Sequence[Any], augment: Sequence[str], **counts: Any) -> UtteranceSampler:
        if augment:
            raise KshotError("training.augment changes texts, and would part slots from their places; leave it out.")
        return UtteranceSampler(examples, **counts)
