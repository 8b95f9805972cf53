"""The outer gradient, against finite differences, derivations by hand, and the other libraries."""

import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from contract import DIFFERENTIABLE, ENCODERS, encoder, learner, translator, whole_tensors
from kshot.meta.learner import Learner, Pair
from kshot.models.encoder import encode
from kshot.tasks.base import Batch
from toy import episode, pair, scratch, seq2seq, translation_episode

Array = NDArray[np.float64]
STEP = 1e-6


def doubled(algorithm: str, kind: str, tiny_bert: Path, **changes: Any) -> tuple[Learner, list[Pair]]:
    """A learner in float64 in training, with two episodes of unequal shots."""
    made = learner(algorithm, encoder(kind, tiny_bert).double(), **changes).double().train()
    return made, [pair(made, episode(shots=shots, seed=seed)) for seed, shots in enumerate([(2, 1, 2), (1, 2)])]


def check_direction(made: Learner, episodes: Sequence[Pair], names: Sequence[str]) -> None:
    """Compares the derivative of the outer loss along a random way through some tensors with its central difference."""
    tensors = [made.get_parameter(name) for name in names]
    ways = [torch.randn_like(tensor) for tensor in tensors]
    length = math.sqrt(sum(float(way.square().sum()) for way in ways))
    ways = [way / length for way in ways]
    made.zero_grad()
    made(episodes, progress=0.2).backward()
    exact = sum(float((tensor.grad * way).sum()) for tensor, way in zip(tensors, ways, strict=True))
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            for tensor, way in zip(tensors, ways, strict=True):
                tensor.add_(way, alpha=sign * STEP)
        losses.append(float(made(episodes, progress=0.2).detach()))
        with torch.no_grad():
            for tensor, way in zip(tensors, ways, strict=True):
                tensor.add_(way, alpha=-sign * STEP)
    numeric = (losses[0] - losses[1]) / (2 * STEP)
    assert exact == pytest.approx(numeric, rel=2e-5, abs=1e-8), names


@pytest.mark.parametrize("kind", ["cnn", "lstm", "transformer"])
@pytest.mark.parametrize("algorithm", ["maml", "protomaml", "meta-sgd", "maml++"])
def test_second_order_gradient_of_each_tensor(algorithm: str, kind: str, tiny_bert: Path) -> None:
    made, episodes = doubled(algorithm, kind, tiny_bert, inner={"order": 2, "rate": 0.3})
    for name, _ in made.named_parameters():
        check_direction(made, episodes[:1], [name])


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("algorithm", DIFFERENTIABLE)
def test_gradient_of_encoder_and_rest(algorithm: str, kind: str, tiny_bert: Path) -> None:
    made, episodes = doubled(algorithm, kind, tiny_bert, inner={"order": 2})
    names = [name for name, _ in made.named_parameters()]
    check_direction(made, episodes, [name for name in names if name.startswith("encoder.")])
    rest = [name for name in names if not name.startswith("encoder.")]
    if rest:
        check_direction(made, episodes, rest)


@pytest.mark.parametrize(
    ("algorithm", "source", "inner"),
    [
        ("maml", "transformer", {"order": 2, "rate": 0.2}),
        ("maml", "lstm", {"order": 2, "rate": 0.2}),
        ("maml++", "transformer", {"rate": 0.2}),
        ("meta-sgd", "transformer", {"rate": 0.2}),
        ("anil", "transformer", {"optimiser": "sgd", "order": 2, "rate": 0.2, "batch": 2}),
        ("matching", "transformer", {}),
    ],
)
def test_gradient_where_one_table_reads_and_writes(algorithm: str, source: str, inner: dict[str, Any]) -> None:
    """The table is the embedding of both sides, which moves by rows, and the output layer, which moves as a whole."""
    made = translator(algorithm, seq2seq(source).double(), inner=inner).double().train()
    episodes = [pair(made, translation_episode(seed=seed)) for seed in range(2)]
    names = [name for name, _ in made.named_parameters()]
    table = f"encoder.{made.encoder.token_table}"
    check_direction(made, episodes, [table])
    check_direction(made, episodes, [name for name in names if name.startswith("encoder.") and name != table])
    if rest := [name for name in names if not name.startswith("encoder.")]:
        check_direction(made, episodes, rest)


@pytest.mark.parametrize("moves", ["norm", "lora", "top:1", "layers"])
def test_gradient_when_some_tensors_move(moves: str, tiny_bert: Path) -> None:
    from toy import bert

    made = learner("maml", bert(tiny_bert, lora_rank=2), inner={"moves": moves, "rate": 0.3}).double().train()
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if name.endswith("lora_b"):
                tensor.normal_()
    episodes = [pair(made, episode())]
    check_direction(made, episodes, [name for name, _ in made.named_parameters()])
    check_direction(made, episodes, [f"encoder.{name}" for name in made.moves])


# -- one softmax layer: every derivative by hand ---------------------------------------------------------------------


def features_of(made: Learner, drawn: Pair) -> tuple[Array, Array, Array, Array]:
    """Support and query of an episode as NumPy has them: vectors and indicators."""
    arrays = []
    for batch in drawn:
        group = batch.groups["label"]
        arrays.append(group.features(made.vectors(batch)).detach().numpy())
        arrays.append(np.eye(group.n_labels)[group.labels.numpy()])
    return tuple(arrays)


def loss_gradient(w: Array, b: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Of the mean cross-entropy of softmax(W x + b)."""
    error = (softmax(x @ w.T + b, axis=-1) - y) / len(x)
    return error.T @ x, error.sum(axis=0)


def hessian_product(w: Array, b: Array, x: Array, v: Array, c: Array) -> tuple[Array, Array]:
    """The second derivative of the same, times (V, c)."""
    p = softmax(x @ w.T + b, axis=-1)
    a = x @ v.T + c
    change = p * (a - (p * a).sum(axis=-1, keepdims=True)) / len(x)
    return change.T @ x, change.sum(axis=0)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_maml_of_a_linear_layer_by_hand(order: int, n_steps: int) -> None:
    rate = 0.7
    made = learner(
        "anil",
        scratch("lstm").double(),
        head={"rows": 3},
        inner={"order": order, "steps": n_steps, "rate": rate},
        class_names=False,
    ).double()
    drawn = pair(made, episode(shots=(2, 1, 3)))
    made([drawn]).backward()
    head = made.heads["label"]
    xs, ys, xq, yq = features_of(made, drawn)
    path = [(head.weight.detach().numpy(), head.bias.detach().numpy())]
    for _ in range(n_steps):
        w, b = path[-1]
        gw, gb = loss_gradient(w, b, xs, ys)
        path.append((w - rate * gw, b - rate * gb))
    gw, gb = loss_gradient(*path[-1], xq, yq)
    if order == 2:  # back through the steps: (1 - rate H) of each
        for w, b in reversed(path[:-1]):
            hw, hb = hessian_product(w, b, xs, gw, gb)
            gw, gb = gw - rate * hw, gb - rate * hb
    np.testing.assert_allclose(head.weight.grad.numpy(), gw, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(head.bias.grad.numpy(), gb, rtol=1e-9, atol=1e-12)


def test_a_shared_row_gathers_the_gradients_of_all_rows() -> None:
    fixed = learner("anil", scratch("lstm").double(), head={"rows": 3}, inner={"order": 2}).double()
    shared = learner("anil", scratch("lstm").double(), inner={"order": 2}).double()
    with torch.no_grad():
        fixed.heads["label"].weight.copy_(shared.heads["label"].weight.expand(3, -1))
    losses = [each([pair(each, episode())]) for each in (fixed, shared)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(
        fixed.heads["label"].weight.grad.sum(dim=0, keepdim=True),
        shared.heads["label"].weight.grad,
        rtol=1e-9,
        atol=1e-12,
    )


# -- first order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_first_order_is_the_query_gradient_where_the_steps_end(kind: str, tiny_bert: Path) -> None:
    made, [drawn, _] = doubled("first-order-maml", kind, tiny_bert, head={"rows": 3}, inner={"rate": 0.3})
    made([drawn]).backward()
    there = deepcopy(made)
    ends = whole_tensors(made, made.adapt(drawn[0]))
    there.zero_grad()
    with torch.no_grad():
        for name, tensor in there.named_parameters():
            tensor.copy_(ends[name])
    F.cross_entropy(plain_logits(there, drawn[1]), drawn[1].groups["label"].labels).backward()
    for (name, ours), theirs in zip(made.named_parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def plain_logits(made: Learner, batch: Batch) -> Tensor:
    """The learner's encoder and linear layer as an ordinary network, without a State."""
    head = made.heads["label"]
    return F.linear(encode(made.encoder, batch.texts)[batch.groups["label"].rows], head.weight, head.bias)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("differentiable", [False, True])
def test_the_prototypes_that_a_head_starts_from_are_constants_to_the_steps(
    kind: str, differentiable: bool, tiny_bert: Path
) -> None:
    made, [(support, _), _] = doubled("protomaml", kind, tiny_bert, inner={"order": 2, "steps": 1, "rate": 0.3})
    ours = made._states(support, None, differentiable=differentiable)[-1]
    ends = whole_tensors(made, ours)

    # The same by hand: prototypes first, taken as constants, then one step of plain gradient descent.
    twin = deepcopy(made)
    vectors = F.normalize(encode(twin.encoder, support.texts)[support.groups["label"].rows], dim=-1)
    labels = support.groups["label"].labels
    c = F.normalize(torch.stack([vectors[labels == label].mean(dim=0) for label in range(3)]), dim=-1)
    scale = made.heads["label"].log_scale.exp()  # 20 in float32
    weight = (scale * c).detach().requires_grad_()
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(F.linear(vectors, weight, bias), labels)
    own = dict(twin.encoder.named_parameters())
    gradients = torch.autograd.grad(loss, [*own.values(), weight, bias])
    for (name, tensor), gradient in zip(own.items(), gradients, strict=False):
        expected = tensor - 0.3 * gradient
        torch.testing.assert_close(
            ends[f"encoder.{name}"], expected, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.testing.assert_close(ours["head.label.weight"], weight - 0.3 * gradients[-2], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours["head.label.bias"], bias - 0.3 * gradients[-1], rtol=1e-6, atol=1e-6)


# -- Reptile ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODERS)
def test_reptiles_gradient_is_start_minus_end(kind: str, tiny_bert: Path) -> None:
    made, [drawn, _] = doubled("reptile", kind, tiny_bert, head={"rows": 3}, inner={"steps": 3, "test_steps": 1})
    made([drawn]).backward()
    walker = deepcopy(made)
    walker.zero_grad()
    optimiser = torch.optim.SGD(walker.parameters(), lr=0.05)
    support, query = drawn
    for _ in range(3):
        optimiser.zero_grad()
        loss = 0.0
        for batch in (support, query):
            loss = loss + F.cross_entropy(plain_logits(walker, batch), batch.groups["label"].labels)
        loss.backward()
        optimiser.step()
    for (name, start), end in zip(made.named_parameters(), walker.parameters(), strict=True):
        torch.testing.assert_close(
            start.grad,
            start.detach() - end.detach(),
            rtol=1e-9,
            atol=1e-12,
            msg=lambda text, name=name: f"{name}: {text}",
        )


# -- the other libraries ---------------------------------------------------------------------------------------------


class _Plain(torch.nn.Module):
    """Encoder and linear layer as a module that other libraries can take: nothing of `Encoder`, which is abstract."""

    def __init__(self, made: Learner) -> None:
        super().__init__()
        kind = type(made.encoder)
        names = ("forward", "states", "pool", "embed", "distinct", "_packed")
        methods = {name: getattr(kind, name) for name in names if hasattr(kind, name)}
        self.encoder = type("PlainEncoder", (torch.nn.Module,), methods)()
        for name, value in vars(deepcopy(made.encoder)).items():
            if name in ("_modules", "settings", "widths", "spelling"):
                vars(self.encoder)[name] = value
        head = made.heads["label"]
        self.linear = torch.nn.Linear(made.encoder.dim, 3).double()
        with torch.no_grad():
            self.linear.weight.copy_(head.weight)
            self.linear.bias.copy_(head.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.encoder.pool(self.encoder(ids, mask), mask))
        return logits


def _tensors(made: Learner, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    from kshot.models.encoder import pad

    ids, mask = pad([batch.texts[row] for row in batch.groups["label"].rows], made.encoder.vocabulary.pad_id)
    return ids, mask, batch.groups["label"].labels


def _compare_with_peer(made: Learner, plain: _Plain) -> None:
    theirs = {**dict(plain.encoder.named_parameters(prefix="encoder"))}
    theirs |= {"heads.label.weight": plain.linear.weight, "heads.label.bias": plain.linear.bias}
    for name, tensor in made.named_parameters():
        expected = theirs[name].grad
        torch.testing.assert_close(
            tensor.grad, torch.zeros_like(tensor) if expected is None else expected, rtol=1e-6, atol=1e-9, msg=name
        )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["cnn", "lstm", "bilstm"])
def test_maml_is_highers(kind: str, order: int, tiny_bert: Path) -> None:
    higher = pytest.importorskip("higher")
    made, [drawn, _] = doubled("maml", kind, tiny_bert, head={"rows": 3}, inner={"order": order}, class_names=False)
    plain = _Plain(made)
    made([drawn]).backward()
    (ids, mask, y), (query_ids, query_mask, query_y) = (_tensors(made, batch) for batch in drawn)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
    with higher.innerloop_ctx(plain, optimiser, copy_initial_weights=False, track_higher_grads=order == 2) as (
        net,
        steps,
    ):
        for _ in range(2):
            steps.step(F.cross_entropy(net(ids, mask), y))
        loss = F.cross_entropy(net(query_ids, query_mask), query_y)
        if order == 2:
            loss.backward()
        else:
            gradients = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
            for tensor, gradient in zip(plain.parameters(), gradients, strict=True):
                tensor.grad = gradient
    _compare_with_peer(made, plain)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["cnn", "lstm", "bilstm"])
def test_maml_is_learn2learns(kind: str, order: int, tiny_bert: Path) -> None:
    learn2learn = pytest.importorskip("learn2learn", exc_type=ImportError)
    made, [drawn, _] = doubled("maml", kind, tiny_bert, head={"rows": 3}, inner={"order": order}, class_names=False)
    plain = _Plain(made)
    made([drawn]).backward()
    (ids, mask, y), (query_ids, query_mask, query_y) = (_tensors(made, batch) for batch in drawn)
    net = learn2learn.algorithms.MAML(plain, lr=0.1, first_order=order == 1, allow_unused=True)
    task = net.clone()
    for _ in range(2):
        task.adapt(F.cross_entropy(task(ids, mask), y))
    F.cross_entropy(task(query_ids, query_mask), query_y).backward()
    _compare_with_peer(made, plain)
