"""The learner: an encoder, a head for each group of items, and an inner loop, bound to one kind of task."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads import Head
from kshot.meta.inner import InnerLoop, step_weights
from kshot.meta.portions import hold_out, portions
from kshot.meta.state import Items, State, part_of, with_prefix
from kshot.models.attention import twice_differentiable
from kshot.models.encoder import (
    Encoder,
    encode,
    n_vectors,
    rows_name,
    twin,
    used_tokens,
    vector_keys,
    with_weights,
)
from kshot.models.kernels import Kernels
from kshot.models.products import kernels
from kshot.settings import Settings
from kshot.tasks.base import Batch, Task, join

Pair = tuple[Batch, Batch]
"""An episode as tensors: its support and its query."""


class AlgorithmSettings(Settings):
    """Which algorithm, and where it differs from its preset.

    Attributes:
        name: A key of `ALGORITHMS`.
        head: Settings of the head that replace the preset's.
        heads: Settings that replace those of the head of one group of the task, such as `boundary`; `kind` among them
            takes another head for it, which has its own defaults.
        inner: Settings of the inner loop that replace the preset's.
    """

    name: str = "prototypical"
    head: dict[str, Any] = Field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    inner: dict[str, Any] = Field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The settings for a file; what only tasks of several groups have is left out where it is not used."""
        return self.model_dump(mode="json", exclude=None if self.heads else {"heads"})


_DRAWING = threading.Lock()


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Chance that a seed decides, whatever other threads draw; the global generator is left as it was."""
    with _DRAWING, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def gather(batch: Batch, known: Mapping[bytes, Tensor]) -> Tensor:
    """The vectors of a batch from among known ones, (n_vectors, dim)."""
    return torch.cat([known[key] for key in vector_keys(batch.texts, batch.words, batch.given)])


def weighted_cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The mean cross-entropy of items, each as often as its weight says: (n, n_labels), (n,), (n,) -> a scalar.

    The label -1 stands for none, and does not count.
    """
    each = F.cross_entropy(
        scores.float() if scores.dtype == torch.bfloat16 else scores, labels, reduction="none", ignore_index=-1
    )
    counted = weights * (labels >= 0)
    return (each * counted).sum() / counted.sum().clamp_min(1e-12)


@dataclass(frozen=True)
class Learned:
    """A learner under a State, over some texts, each of which is encoded once: see `kshot.tasks.base.Scorer`."""

    learner: "Learner"
    state: State
    batch: Batch
    known: Tensor | None = None

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return self.learner.logits(self.state, batch, self._vectors)

    @cached_property
    def _vectors(self) -> Tensor:
        return self.learner.vectors(self.batch, self.state) if self.known is None else self.known

    def scores(self, group: str, vectors: Tensor) -> Tensor:
        return self.learner.head(group).logits(part_of(self.state, f"head.{group}"), vectors)

    def network(self) -> Encoder:
        return with_weights(self.learner.encoder, part_of(self.state, "encoder"))


@dataclass(frozen=True)
class Rows:
    """Some rows of a table.

    Attributes:
        ids: Their numbers in order, (n_rows,).
        values: The rows, (n_rows, dim).
    """

    ids: Tensor
    values: Tensor

    def of(self, ids: Tensor) -> Tensor:
        """The rows of some numbers, which have to be among `ids`: (n,) -> (n, dim)."""
        return self.values[torch.searchsorted(self.ids, ids)]


class Learner(nn.Module):
    """Learns a task from a support set and labels its queries.

    Args:
        encoder: Makes vectors of texts.
        task: The kind of problem.
        heads: A head for each of the task's groups.
        inner: The inner loop over the tensors that move.
        moves: The names of the encoder's parameters that the inner loop moves; empty if it moves none.
        settings: What rebuilds it over the same encoder and task.
    """

    def __init__(
        self,
        encoder: Encoder,
        task: Task,
        heads: Mapping[str, Head],
        inner: InnerLoop,
        moves: Sequence[str],
        settings: AlgorithmSettings,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.task = task
        self.heads = nn.ModuleDict(heads)
        self.inner = inner
        self.moves = tuple(moves)
        self.settings = settings
        self.precision = torch.float32  # of the encoder's matrix products
        self.kernels: Kernels = "auto"

    # -- adapting and predicting ---------------------------------------------------------------------------------------

    def adapt(self, support: Batch, vectors: Tensor | None = None) -> State:
        """Learns a task; the State is detached, contiguous, a copy, and the learner itself is left as it was.

        Args:
            support: What to learn from.
            vectors: Its vectors if they are known; of no use where the inner loop moves the encoder.
        """
        if self.moves:
            with self.encoder.remembering():
                return self._adapted(support, None)
        if vectors is None:
            with torch.no_grad():
                vectors = self.vectors(support)
        return self._adapted(support, vectors)

    def _adapted(self, support: Batch, vectors: Tensor | None) -> State:
        settings = self.inner.settings
        stops = settings.hold_out and settings.test_steps != 0
        parts = hold_out(support, settings.hold_out, open=self.task.open) if stops else None
        if parts and parts[1].texts:
            state = self._stopped_in_time(*parts, *(self._vectors_of(part, support, vectors) for part in parts))
        else:
            state = self._states(support, vectors, differentiable=False)[-1]
        return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}

    def path(self, support: Batch, n_steps: int, vectors: Tensor | None = None) -> Iterator[State]:
        """Gives the start of a task, and what each step makes of it; a State may be overwritten by the next.

        Args:
            support: What to learn from.
            n_steps: How many steps.
            vectors: Its vectors, where the inner loop does not move the encoder.
        """
        for state in self._path(support, n_steps, vectors):
            yield self._ended(state, support, vectors) if self.refits else state

    def _path(self, support: Batch, n_steps: int, vectors: Tensor | None) -> Iterator[State]:
        """The same, but heads that are fitted to the vectors at the end are not yet."""
        with torch.no_grad():
            start = self._start(support, vectors)
        yield from self.inner.descend(self._descended(support, vectors), start, n_steps)

    def logits(self, state: State, batch: Batch, vectors: Tensor | None = None) -> dict[str, Tensor]:
        """Scores a batch's items under a State: for each of its groups (n_items, n_labels)."""
        vectors = self.vectors(batch, state) if vectors is None else vectors
        with self._products_of_a_vocabulary(vectors.device):
            return {
                name: self.head(name).logits(part_of(state, f"head.{name}"), group.features(vectors))
                for name, group in batch.groups.items()
            }

    @contextmanager
    def _products_of_a_vocabulary(self, device: torch.device) -> Iterator[None]:
        """Where labels are tokens, the head's matrix product is as large as the encoder's, and is made as they are."""
        if not self.task.open:
            yield
            return
        lower = self.precision != torch.float32
        with kernels(self.kernels, foreign=True), torch.autocast(device.type, self.precision, enabled=lower):
            yield

    def scorer(self, state: State, batch: Batch, vectors: Tensor | None = None) -> Learned:
        """What scores the items of a batch, and others over the same texts, each text being encoded once."""
        return Learned(self, state, batch, vectors)

    def vectors(self, batch: Batch, state: State | None = None) -> Tensor:
        """Returns the vectors of a batch's texts or words, with the encoder's weights that a State holds."""
        weights = part_of(state, "encoder") if state else {}
        with kernels(self.kernels, foreign=self.encoder.foreign):
            return encode(self.encoder, batch.texts, weights, self.precision, words=batch.words, given=batch.given)

    def known_vectors(self, batch: Batch, known: Mapping[bytes, Tensor]) -> dict[bytes, Tensor]:
        """Encodes the texts of a batch that are not known, without a graph.

        Returns:
            The vectors of each text, (1 or n_words, dim), by `vector_keys`.
        """
        keys = vector_keys(batch.texts, batch.words, batch.given)
        missing = {key: row for row, key in enumerate(keys) if key not in known}
        new = replace(batch, groups={}).of_texts(list(missing.values()))
        with torch.no_grad():
            vectors = self.vectors(new)
        parts = torch.split(vectors, n_vectors(new.texts, new.words))
        return {**known, **dict(zip(missing, parts, strict=True))}

    # -- learning to learn ---------------------------------------------------------------------------------------------

    def forward(self, episodes: Sequence[Pair], progress: float = 1.0, rows: Rows | None = None) -> Tensor:
        """The outer loss of some episodes: what is differentiated to train the learner.

        Args:
            episodes: Support and query of each.
            progress: How much of the training is done, 0 to 1.
            rows: The rows of the token table that the episodes use, to take instead of the encoder's.

        Returns:
            The mean loss over the episodes, a scalar.
        """
        # On a CPU the plain form of attention is the faster one, too, where it is differentiated.
        with twice_differentiable() if self.second_order or self.device.type == "cpu" else nullcontext():
            if not self.shares_weights:
                losses = [self._loss_of_task(support, query, progress, rows) for support, query in episodes]
            else:
                vectors = iter(self.shared_vectors([batch for pair in episodes for batch in pair]))
                losses = [self._outer_loss(s, q, next(vectors), next(vectors), progress, rows) for s, q in episodes]
            return torch.stack(losses).mean()

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def rows_of(self, episodes: Sequence[Pair]) -> Rows | None:
        """A copy of the rows of the token table that episodes use, to be differentiated with respect to.

        Returns:
            None where the table does not move, or does not learn.
        """
        name = self.encoder.token_table
        if name not in self.moves or not self.encoder.get_parameter(name).requires_grad:
            return None
        ids = self._used(*(batch for pair in episodes for batch in pair))
        return Rows(ids, self.encoder.get_parameter(name).detach()[ids].requires_grad_())

    def _used(self, *batches: Batch) -> Tensor:
        """The numbers of the tokens of some batches in order, (n_used,)."""
        used = used_tokens(self.encoder, [text for batch in batches for text in batch.tokens])
        return torch.from_numpy(used).to(self.encoder.get_parameter(self.encoder.token_table).device)

    @property
    def second_order(self) -> bool:
        """Whether training differentiates the encoder twice."""
        return bool(self.moves) and self.inner.settings.steps > 0 and self.inner.settings.order == 2

    @property
    def shares_weights(self) -> bool:
        """Whether in training the encoder's weights are the same for all tasks, which are then encoded together."""
        return not self.moves or self.inner.settings.steps == 0

    def shared_vectors(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Encodes the distinct texts of all batches in one go and deals the vectors out."""
        together, places = join(batches)
        vectors = self.vectors(together)
        return [vectors[rows.to(vectors.device)] for rows in places]

    def _loss_of_task(self, support: Batch, query: Batch, progress: float, rows: Rows | None) -> Tensor:
        with self.encoder.sharing():
            return self._outer_loss(support, query, None, None, progress, rows)

    def _outer_loss(
        self,
        support: Batch,
        query: Batch,
        of_support: Tensor | None,
        of_query: Tensor | None,
        progress: float,
        rows: Rows | None,
    ) -> Tensor:
        settings = self.inner.settings
        if settings.outer == "displacement":
            return self._displacement(support, query, rows)
        start = self._start(support, of_support, [query], rows)
        states = self._states(support, of_support, differentiable=True, start=start)
        if not settings.multi_step or len(states) == 1:
            return self._loss(states[-1], query, of_query)
        weights = step_weights(len(states) - 1, progress)
        losses = [w * self._loss(s, query, of_query) for w, s in zip(weights, states[1:], strict=True) if w > 0]
        return torch.stack(losses).sum()

    def _displacement(self, support: Batch, query: Batch, rows: Rows | None) -> Tensor:
        """A scalar whose gradient is the way that the weights went, start - end.

        Nichol et al. 2018, arXiv:1803.02999, algorithm 1. Reptile does not split a task: the inner loop learns from all
        of the episode.
        """
        start = self._start(support, None, [query], rows)
        of_support, of_query = self._portions(support), self._portions(query)
        end = self.inner(
            lambda state, step: self._loss(state, of_support(step)) + self._loss(state, of_query(step)),
            start,
            n_steps=self.inner.settings.steps,
            differentiable=False,
        )[-1]
        way = [(start[name] * (start[name] - end[name]).detach()).sum() for name in start if name in self.inner.moving]
        return torch.stack(way).sum()

    # -- the parts -----------------------------------------------------------------------------------------------------

    def _states(
        self, support: Batch, vectors: Tensor | None, *, differentiable: bool, start: State | None = None
    ) -> list[State]:
        settings = self.inner.settings
        n_steps = settings.steps if differentiable or settings.test_steps is None else settings.test_steps
        if start is None:
            with torch.set_grad_enabled(differentiable):
                start = self._start(support, vectors)
        states: list[State] = self.inner(
            self._descended(support, vectors), start, n_steps=n_steps, differentiable=differentiable
        )
        if not self.refits:
            return states
        if len(states) == 1 and differentiable:  # no step was taken, so the vectors are those of the start
            return [states[0] | self._fitted(support, vectors, self.late)]
        with torch.set_grad_enabled(differentiable):
            wanted = states if self.inner.settings.multi_step else states[-1:]
            ended = [self._refitted(state, support, vectors, self.refits)[0] for state in wanted]
            return states[: -len(wanted)] + ended

    def _ended(self, state: State, support: Batch, vectors: Tensor | None) -> State:
        """The State of a step as it would be if it were the last."""
        with torch.no_grad():
            return self._refitted(state, support, vectors, self.refits)[0]

    def _descended(self, support: Batch, vectors: Tensor | None) -> Callable[[State, int], Tensor]:
        """The loss of each step: of the whole support, or of a portion of its texts."""
        portion = self._portions(support)
        if not self.moves or self.training or not self.inner.settings.dropout:
            return lambda state, step: self._support_loss(state, portion(step), vectors)
        dropping = twin(self)
        assert isinstance(dropping, Learner)
        dropping.encoder.train()

        def loss_of(state: State, step: int) -> Tensor:
            with drawing(step):
                return dropping._support_loss(state, portion(step), vectors)

        return loss_of

    def _portions(self, batch: Batch) -> Callable[[int], Batch]:
        return portions(batch, self.inner.settings.batch if self.moves else None)

    def _stopped_in_time(
        self, learned_from: Batch, held_out: Batch, of_learned: Tensor | None, of_held: Tensor | None
    ) -> State:
        """The State of the step that suits texts of the support that were held out of it.

        A task needs no validation set, and nobody has to know how many steps are right for it.
        """
        settings = self.inner.settings
        n_steps = settings.steps if settings.test_steps is None else settings.test_steps
        best, lowest, waited = State(), math.inf, 0
        for step, state in enumerate(self._path(learned_from, n_steps, of_learned)):
            if step % settings.look_every and step != n_steps:
                continue
            found = self._ended(state, learned_from, of_learned) if self.refits else state
            with torch.no_grad():
                loss = float(self._loss(found, held_out, of_held))
            if loss < lowest or not best:
                best, lowest, waited = {name: tensor.detach().clone() for name, tensor in found.items()}, loss, 0
            else:
                waited += 1
                if waited == settings.patience:
                    break
        return best

    @staticmethod
    def _vectors_of(part: Batch, whole: Batch, vectors: Tensor | None) -> Tensor | None:
        """The vectors of a part of a batch whose vectors are known."""
        if vectors is None:
            return None
        keys, counts = vector_keys(whole.texts, whole.words, whole.given), n_vectors(whole.texts, whole.words)
        return gather(part, dict(zip(keys, torch.split(vectors, counts), strict=True)))

    def _support_loss(self, state: State, support: Batch, vectors: Tensor | None) -> Tensor:
        """What the inner loop descends; heads that are fitted in one go follow the encoder, but for late ones."""
        if follow := [name for name in self.refits if name not in self.late]:
            state, vectors = self._refitted(state, support, vectors, follow)
        return self._loss(state, support, vectors)

    @property
    def refits(self) -> list[str]:
        """The groups whose heads are fitted to vectors anew when the encoder has moved, and the late ones."""
        return [
            name
            for name in self.task.groups
            if name in self.late or (self.moves and self.head(name).looks and not self.head(name).moving)
        ]

    @property
    def late(self) -> list[str]:
        """The groups whose heads are fitted after the last step alone."""
        settings = self.inner.settings
        takes_steps = settings.steps > 0 or bool(settings.test_steps)
        return [name for name in self.task.groups if takes_steps and self.head(name).late]

    def _refitted(
        self, state: State, support: Batch, vectors: Tensor | None, names: Sequence[str]
    ) -> tuple[State, Tensor]:
        """The State with some heads fitted to the vectors of its encoder, what has moved kept; and these vectors."""
        if self.moves or vectors is None:
            vectors = self.vectors(support, state)
        fitted = self._fitted(support, vectors, names)
        return {**state, **{name: each for name, each in fitted.items() if name not in self.inner.moving}}, vectors

    def _start(
        self,
        support: Batch,
        vectors: Tensor | None,
        seen: Sequence[Batch] = (),
        rows: Rows | None = None,
    ) -> State:
        """phi_0: the tensors of the encoder that move, and the heads fitted to the support.

        Of the token table only the rows of the tokens of `support` and `seen` are taken along.
        """
        own: State = {name: self.encoder.get_parameter(name) for name in self.moves}
        table = self.encoder.token_table
        if table in own:
            ids = self._used(support, *seen)
            own |= {table: own[table][ids] if rows is None else rows.of(ids), rows_name(table): ids}
        state = with_prefix(own, "encoder")
        for name in self.late:
            state |= with_prefix(self.head(name).bare(), f"head.{name}")
        names = [name for name in support.groups if name not in self.late]
        if vectors is None and any(self.head(name).looks for name in names):
            vectors = self.vectors(support, state)
        return state | self._fitted(support, vectors, names)

    def _fitted(self, support: Batch, vectors: Tensor | None, names: Sequence[str]) -> State:
        """The State of some heads, each fitted to the items of its group that have a label."""
        state: State = {}
        for name in names:
            group = support.groups[name]
            labelled = group.part(torch.nonzero(group.labels >= 0).flatten())
            x = torch.empty(len(labelled.labels), 0) if vectors is None else labelled.features(vectors)
            items = Items(x, labelled.labels.to(x.device), group.n_labels, labelled.weights.to(x))
            state |= with_prefix(self.head(name).fit(items), f"head.{name}")
        return state

    def _loss(self, state: State, batch: Batch, vectors: Tensor | None = None) -> Tensor:
        """Cross-entropy over the labelled items, each as often as its weight says, summed over the groups."""
        losses = []
        for name, scores in self.logits(state, batch, vectors).items():
            group = batch.groups[name]
            losses.append(weighted_cross_entropy(scores, group.labels.to(scores.device), group.weights.to(scores)))
        return torch.stack(losses).sum()

    def head(self, group: str) -> Head:
        """What makes a classifier of the vectors of a group's items."""
        head = self.heads[group]
        assert isinstance(head, Head)
        return head
