"""Tasks of one shape abreast: `torch.func.vmap` over the loss of a task, and one inner loop for all of them.

    phi_t (n_tasks, ...)   a row for each task of every tensor of the State       L(phi) = sum_i L_i(phi[i])

The weights of a task stand in its own loss alone, so the gradient of L has in its row i that of L_i: one inner loop
descends all losses, and one backward pass differentiates all of them. That is a fraction of the calls of a loop, which
is what a GPU waits for; on a CPU the products of a loop are faster, but for the smallest networks.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kshot.meta.inner import step_weights
from kshot.meta.learner import Learner, Pair, Rows, weighted_cross_entropy
from kshot.meta.state import Items, State, part_of, with_prefix
from kshot.meta.ways.base import Way, add, learned
from kshot.models.attention import twice_differentiable
from kshot.models.encoder import Applied, Encoder, pad, pooled, rows_name, used_tokens
from kshot.models.products import kernels
from kshot.tasks.base import Batch, Group


class Texts(NamedTuple):
    """The texts of tasks, and their items.

    Attributes:
        inputs: Token numbers, (n_tasks, n_texts, length), and True where there is a token; or the texts' vectors alone,
            (n_tasks, n_texts, dim), where tasks share the encoder's weights.
        rows: The text of each item, (n_tasks, n_items).
        labels: Their label numbers, (n_tasks, n_items).
        weights: How many examples each counts for, (n_tasks, n_items).
    """

    inputs: tuple[Tensor, ...]
    rows: Tensor
    labels: Tensor
    weights: Tensor


class Table(NamedTuple):
    """The rows of the token table that tasks use.

    Attributes:
        values: The rows of all tasks, (n_values, dim).
        places: Which of them each task has, (n_tasks, n_rows).
        ids: Their token numbers, (n_tasks, n_rows).
    """

    values: Tensor
    places: Tensor
    ids: Tensor


class Tasks(NamedTuple):
    """Tasks of one shape, as tensors."""

    support: Texts
    query: Texts
    table: Table | None
    of_steps: Tensor
    """The weights of the losses after each step, (n_steps,); see `step_weights`."""


class OuterLoss(nn.Module):
    """The mean outer loss of tasks of one shape.

    Args:
        learner: What learns.
        n_labels: The number of labels of each task.
    """

    def __init__(self, learner: Learner, n_labels: int) -> None:
        super().__init__()
        self.learner = learner
        self.n_labels = n_labels
        [self.group] = learner.task.groups

    def forward(self, tasks: Tasks) -> Tensor:
        settings = self.learner.inner.settings
        with kernels("plain"), twice_differentiable():
            start = self._start(tasks.support, tasks.table)
            states: list[State] = self.learner.inner(
                lambda state, _: self._losses(state, tasks.support).sum(),
                start,
                n_steps=settings.steps,
                differentiable=True,
            )
            if not settings.multi_step or len(states) == 1:
                return self._losses(states[-1], tasks.query).mean()
            losses = torch.stack([self._losses(state, tasks.query).mean() for state in states[1:]])
            return (losses * tasks.of_steps.to(losses)).sum()

    def _start(self, support: Texts, table: Table | None) -> State:
        """phi_0: as `Learner._start`."""
        learner, n_tasks = self.learner, len(support.rows)
        own = dict(learner.encoder.named_parameters())  # or whatever stands in their place
        state = {name: own[name].expand(n_tasks, *own[name].shape) for name in learner.moves}
        if table is not None:
            name = learner.encoder.token_table
            state |= {name: table.values[table.places], rows_name(name): table.ids}
        state = with_prefix(state, "encoder")
        fitted: State = vmap(self._fitted, randomness="different")(state, support)
        return state | with_prefix(fitted, f"head.{self.group}")

    def _losses(self, state: State, texts: Texts) -> Tensor:
        """The loss of each task, (n_tasks,)."""
        losses: Tensor = vmap(self._loss, randomness="different")(state, texts)
        return losses

    # -- of one task -------------------------------------------------------------------------------------------------

    def _fitted(self, state: State, support: Texts) -> State:
        head = self.learner.head(self.group)
        x = self._features(state, support) if head.looks else support.weights.new_empty(len(support.rows), 0)
        return head.fit(Items(x, support.labels, self.n_labels, support.weights.to(x)))

    def _loss(self, state: State, texts: Texts) -> Tensor:
        scores = self.learner.head(self.group).logits(
            part_of(state, f"head.{self.group}"), self._features(state, texts)
        )
        return weighted_cross_entropy(scores, texts.labels, texts.weights.to(scores))

    def _features(self, state: State, texts: Texts) -> Tensor:
        """(n_items, dim)."""
        if len(texts.inputs) == 1:
            return texts.inputs[0][texts.rows]
        encoder, precision = self.learner.encoder, self.learner.precision
        numbers = rows_name(encoder.token_table)
        weights = {name: tensor for name, tensor in part_of(state, "encoder").items() if name != numbers}
        with torch.autocast(self.learner.device.type, precision, enabled=precision != torch.float32):
            vectors: Tensor = functional_call(Applied(encoder, pooled), with_prefix(weights, "encoder"), texts.inputs)
        return vectors[texts.rows]


class Vmap(Way):
    """Tasks abreast; memory is that of all of them."""

    title = "in one call of torch.func.vmap"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self._sizes = Sizes()

    def why_not(self, episodes: Sequence[Pair]) -> str | None:
        learner, settings = self.learner, self.learner.inner.settings
        if learner.moves and not learner.encoder.vectorises:
            return "torch.func.vmap cannot run this encoder"
        if len(learner.task.groups) != 1 or not all(_is_plain(batch) for pair in episodes for batch in pair):
            return "their items are not one text each"
        if any(bool((_group(support).labels < 0).any()) for support, _ in episodes):
            return "some items of a support have no label"
        if not all(learner.head(name).vectorises for name in learner.task.groups):
            return "torch.func.vmap cannot fit this head"
        if settings.outer != "gradient" or learner.refits or (learner.moves and settings.batch):
            return "their inner loop looks at more than the loss of all texts"
        return None

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        tensors = learned(self.learner, rows)
        total, found = 0.0, []
        for n_labels, alike in of_one_shape(episodes):
            tasks, share = collated(self.learner, alike, progress, rows, self._sizes), len(alike) / len(episodes)
            loss, gradients = self._differentiated(n_labels, tasks, tensors)
            found.append([None if each is None else each * share for each in gradients])
            total += float(loss) * share
        for gradients in found:  # all or none, should memory not suffice
            add(tensors, gradients)
        return total

    def _differentiated(
        self, n_labels: int, tasks: Tasks, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """The mean outer loss of tasks of one shape, and its gradients."""
        loss = OuterLoss(self.learner, n_labels)(tasks)
        return loss.detach(), torch.autograd.grad(loss, tensors, allow_unused=True)


# -- texts as tensors --------------------------------------------------------------------------------------------------


def of_one_shape(episodes: Sequence[Pair]) -> Iterable[tuple[int, list[Pair]]]:
    """The episodes with as many items and labels, and how many labels they have."""
    found: dict[tuple[int, ...], list[Pair]] = defaultdict(list)
    for pair in episodes:
        support, query = (_group(batch) for batch in pair)
        found[support.n_labels, len(support.rows), len(query.rows)].append(pair)
    return [(shape[0], alike) for shape, alike in found.items()]


class Sizes:
    """The sizes that tensors are filled up to: here as few as will do."""

    def of(self, what: str, n: int, multiple: int) -> int:
        """The size of something that has to have room for n."""
        return n


def collated(learner: Learner, episodes: Sequence[Pair], progress: float, rows: Rows | None, sizes: Sizes) -> Tasks:
    """Makes tensors of episodes of one shape."""
    inner, encoder = learner.inner.settings, learner.encoder
    sides = list(zip(*episodes, strict=True))  # the supports, the queries
    table = None
    if learner.shares_weights:
        vectors = iter(learner.shared_vectors([batch for pair in episodes for batch in pair]))
        x = [[_group(batch).features(next(vectors)) for batch in pair] for pair in episodes]
        texts = [_of_vectors(side, torch.stack(each)) for side, each in zip(sides, zip(*x, strict=True), strict=True)]
    else:
        used: list[NDArray[np.int64] | None] = [None] * len(episodes)
        if encoder.token_table in learner.moves:
            used = [used_tokens(encoder, [*support.texts, *query.texts]) for support, query in episodes]
            table = _table(learner, [each for each in used if each is not None], rows, sizes)
        texts = [_of_tokens(encoder, side, used, sizes, name) for name, side in zip(Tasks._fields, sides, strict=False)]
    of_steps = torch.tensor(step_weights(max(1, inner.steps), progress), dtype=torch.float64)
    made: Tasks = _to(learner.device, Tasks(texts[0], texts[1], table, of_steps))
    return made


def _of_tokens(
    encoder: Encoder, batches: Sequence[Batch], used: Sequence[NDArray[np.int64] | None], sizes: Sizes, name: str
) -> Texts:
    """Batches as token numbers, or as the places of tokens among those that their task uses."""
    n_texts = sizes.of(f"texts of {name}", max(len(batch.texts) for batch in batches), 1)
    longest = max(len(text) for batch in batches for text in batch.texts)
    length = min(sizes.of("length", longest, 8), max(longest, encoder.vocabulary.max_length))
    padded = []
    for batch, own in zip(batches, used, strict=True):
        texts = [text if own is None else np.searchsorted(own, text).astype(np.int32) for text in batch.texts]
        texts += [texts[0]] * (n_texts - len(texts))  # of no item
        padded.append(pad(texts, encoder.vocabulary.pad_id, length))
    ids, mask = zip(*padded, strict=True)
    return _texts(batches, (torch.stack(ids), torch.stack(mask)), [_group(batch).rows for batch in batches])


def _of_vectors(batches: Sequence[Batch], x: Tensor) -> Texts:
    """Batches whose items have vectors, (n_tasks, n_items, dim)."""
    return _texts(batches, (x,), [torch.arange(x.shape[1])] * len(batches))


def _texts(batches: Sequence[Batch], inputs: tuple[Tensor, ...], rows: Sequence[Tensor]) -> Texts:
    groups = [_group(batch) for batch in batches]
    labels, weights = (torch.stack([getattr(each, name) for each in groups]) for name in ("labels", "weights"))
    return Texts(inputs, torch.stack(list(rows)), labels, weights)


def _table(learner: Learner, used: Sequence[NDArray[np.int64]], rows: Rows | None, sizes: Sizes) -> Table:
    """The rows of the token table, and the places of the rows of each task."""
    if rows is None:  # it moves, but does not learn
        ids = np.unique(np.concatenate(used))
        values = learner.encoder.get_parameter(learner.encoder.token_table).detach()[torch.from_numpy(ids)]
    else:
        ids, values = rows.ids.cpu().numpy(), rows.values
    n_rows = sizes.of("rows", max(map(len, used)), 256)
    filled = np.stack([np.append(each, np.repeat(each[:1], n_rows - len(each))) for each in used])
    missing = sizes.of("values", len(values), 1_024) - len(values)
    places = torch.from_numpy(np.searchsorted(ids, filled))
    return Table(F.pad(values, (0, 0, 0, missing)), places, torch.from_numpy(filled))


def _to(device: torch.device, tensors: Any) -> Any:
    """Tensors in tuples, moved."""
    if tensors is None:
        return None
    if isinstance(tensors, Tensor):
        return tensors.to(device)
    moved = [_to(device, each) for each in tensors]
    return type(tensors)(*moved) if hasattr(tensors, "_fields") else tuple(moved)


def _group(batch: Batch) -> Group:
    [group] = batch.groups.values()
    return group


def _is_plain(batch: Batch) -> bool:
    return batch.words is None and batch.given is None and _group(batch).widths is None
