"""Heads, against NumPy, SciPy and scikit-learn."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from kshot.errors import KshotError
from kshot.meta import heads
from kshot.meta.algorithms import HEADS
from kshot.meta.heads import Head
from kshot.meta.state import Items

Array = NDArray[np.float64]
DIM, WAY = 5, 3


@pytest.fixture
def items() -> Items:
    """Nine vectors of three labels, with shots 2, 4 and 3."""
    y = torch.tensor([0, 1, 2, 1, 1, 0, 2, 2, 1])
    x = torch.randn(9, DIM, dtype=torch.float64) + 2 * torch.randn(WAY, DIM, dtype=torch.float64)[y]
    return Items(x, y, WAY, torch.ones(9, dtype=torch.float64))


@pytest.fixture
def queries() -> Tensor:
    """Seven vectors without a label."""
    return torch.randn(7, DIM, dtype=torch.float64)


def score(head: Head, items: Items, queries: Tensor) -> Array:
    """The logits of the queries as NumPy has them, (n_queries, n_labels)."""
    head = head.double().eval()
    with torch.no_grad():
        logits: Array = head.logits(head.fit(items), queries).numpy()
    return logits


def unit(x: Array) -> Array:
    """The rows at length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def means(x: Array, y: Array) -> Array:
    """The mean of each label's rows."""
    return np.stack([x[y == label].mean(axis=0) for label in range(WAY)])


def squared_distances(q: Array, x: Array) -> Array:
    """|q_i - x_j|^2, element by element."""
    return np.array([[sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) for other in x] for row in q])


def close(ours: Array, theirs: Array, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


# -- prototypes, matching, nearest: by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_prototypes(items: Items, queries: Tensor, metric: heads.Metric, normalise: bool) -> None:
    x, y, q = items.x.numpy(), items.y.numpy(), queries.numpy()
    if normalise:
        x, q = unit(x), unit(q)
    c = means(x, y)
    expected = unit(q) @ unit(c).T if metric == "cosine" else -squared_distances(q, c)
    settings = heads.PrototypeSettings(metric=metric, scale=3.0, normalise=normalise)
    close(score(heads.Prototypes(settings, DIM), items, queries), 3.0 * expected)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_linear_layer_that_starts_as_the_prototypes(
    items: Items, queries: Tensor, metric: heads.Metric, normalise: bool
) -> None:
    settings = heads.PrototypeSettings(metric=metric, scale=3.0, normalise=normalise)
    linear = score(heads.PrototypeLinear(settings, DIM), items, queries)
    prototypes = score(heads.Prototypes(settings, DIM), items, queries)
    if metric == "cosine" and not normalise:  # a linear layer cannot divide by the length of the query
        prototypes = prototypes * np.linalg.norm(queries.numpy(), axis=-1, keepdims=True)
    close(log_softmax(linear, axis=-1), log_softmax(prototypes, axis=-1))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_matching(items: Items, queries: Tensor, metric: heads.Metric) -> None:
    x, y, q = items.x.numpy(), items.y.numpy(), queries.numpy()
    similar = unit(q) @ unit(x).T if metric == "cosine" else -squared_distances(q, x)
    attention = softmax(2.0 * similar, axis=-1)
    expected = np.stack([attention[:, y == label].sum(axis=-1) for label in range(WAY)], axis=-1)
    logits = score(heads.Matching(heads.MatchingSettings(metric=metric, scale=2.0), DIM), items, queries)
    close(log_softmax(logits, axis=-1), np.log(expected), 1e-8)


def test_matching_tells_far_labels_apart(items: Items) -> None:
    far = Items(items.x * 1e3, items.y, items.n_labels, items.weight)
    queries = torch.randn(4, DIM, dtype=torch.float64)
    similar = -squared_distances(queries.numpy(), far.x.numpy())
    y = items.y.numpy()
    expected = np.stack([logsumexp(similar[:, y == label], axis=-1) for label in range(WAY)], axis=-1)
    logits = score(heads.Matching(heads.MatchingSettings(metric="euclidean", scale=1.0), DIM), far, queries)
    close(log_softmax(logits, axis=-1), log_softmax(expected, axis=-1), 1e-6)


def test_full_context(items: Items, queries: Tensor) -> None:
    head = heads.Matching(heads.MatchingSettings(full_context=True, context_steps=2), DIM).double()
    x, y, q = items.x.numpy(), items.y.numpy(), queries.numpy()
    read, forwards, backwards = (_lstm_cell(cell) for cell in (head.reader, head.forwards, head.backwards))
    g = x.copy()
    for cell, order in ((forwards, range(9)), (backwards, range(8, -1, -1))):
        hidden = state = np.zeros(DIM)
        for i in order:
            hidden, state = cell(x[i], hidden, state)
            g[i] += hidden
    f = []
    for row in q:
        hidden, state = row, np.zeros(DIM)
        for _ in range(2):
            looked = softmax(g @ hidden) @ g
            hidden, state = read(row, hidden + looked, state)
            hidden = hidden + row
        f.append(hidden)
    attention = softmax(20.0 * unit(np.array(f)) @ unit(g).T, axis=-1)
    expected = np.stack([attention[:, y == label].sum(axis=-1) for label in range(WAY)], axis=-1)
    close(softmax(score(head, items, queries), axis=-1), expected)


def _lstm_cell(cell: torch.nn.LSTMCell) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    w, u, b, c = (tensor.detach().numpy() for tensor in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))

    def step(x: Array, hidden: Array, state: Array) -> tuple[Array, Array]:
        i, f, g, o = np.split(w @ x + b + u @ hidden + c, 4)
        state = expit(f) * state + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(state), state

    return step


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest(items: Items, queries: Tensor, metric: heads.Metric) -> None:
    x, y, q = items.x.numpy(), items.y.numpy(), queries.numpy()
    similar = unit(q) @ unit(x).T if metric == "cosine" else -squared_distances(q, x)
    expected = np.stack([similar[:, y == label].max(axis=-1) for label in range(WAY)], axis=-1)
    logits = score(heads.Nearest(heads.NearestSettings(metric=metric, scale=2.0), DIM), items, queries)
    close(logits, 2.0 * expected)
    peer = KNeighborsClassifier(n_neighbors=1, metric=metric, algorithm="brute").fit(x, y)
    assert logits.argmax(axis=-1).tolist() == peer.predict(q).tolist()


# -- learned comparators ---------------------------------------------------------------------------------------------


def test_relation(items: Items, queries: Tensor) -> None:
    head = heads.Relation(heads.RelationSettings(hidden_dim=4), DIM).double()
    w1, b1, w2, b2 = (tensor.detach().numpy() for tensor in (*head.first.parameters(), *head.second.parameters()))
    c = means(items.x.numpy(), items.y.numpy())
    expected = np.empty((7, WAY))
    for i, q in enumerate(queries.numpy()):
        for k in range(WAY):
            together = np.concatenate([c[k], q, np.abs(c[k] - q), c[k] * q])
            expected[i, k] = (w2 @ np.maximum(0, w1 @ together + b1) + b2)[0]
    close(score(head, items, queries), expected)


def test_induction(items: Items, queries: Tensor) -> None:
    head = heads.Induction(heads.InductionSettings(routing_steps=3, n_slices=4), DIM).double()
    x, y = items.x.numpy(), items.y.numpy()
    w, b = (tensor.detach().numpy() for tensor in head.transform.parameters())
    m, v, u = (tensor.detach().numpy() for tensor in (head.slices, head.score.weight[0], head.score.bias))

    def squash(z: Array) -> Array:
        length = np.sqrt((z**2).sum())
        return z / length * length**2 / (1 + length**2)

    classes = []
    for label in range(WAY):
        e = [squash(w @ row + b) for row in x[y == label]]
        routing = [0.0] * len(e)
        for _ in range(3):
            share = softmax(routing)
            c = squash(sum(d * row for d, row in zip(share, e, strict=True)))
            routing = [before + row @ c for before, row in zip(routing, e, strict=True)]
        classes.append(c)
    expected = [[sum(v[h] * max(0.0, c @ m[h] @ q) for h in range(4)) + u[0] for c in classes] for q in queries.numpy()]
    close(score(head, items, queries), np.array(expected), 1e-8)


# -- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [3, 40])  # the one is solved in the primal, the other in the dual
def test_ridge_is_numpys_solution(dim: int) -> None:
    rng = np.random.default_rng(0)
    x, y, q = rng.normal(size=(9, dim)), np.array([0, 1, 2, 1, 1, 0, 2, 2, 1]), rng.normal(size=(5, dim))
    mean = means(x, y).mean(axis=0)
    indicator = np.eye(WAY)[y]
    centred = x - mean
    weight = np.linalg.solve(centred.T @ centred + 0.7 * np.eye(dim), centred.T @ (indicator - 1 / WAY))
    expected = 10.0 * ((q - mean) @ weight + 1 / WAY)
    head = heads.Ridge(heads.RidgeSettings(penalty=0.7, scale=10.0, normalise=False), dim)
    items = Items(torch.from_numpy(x), torch.from_numpy(y), WAY, torch.ones(9))
    close(score(head, items, torch.from_numpy(q)), expected, 1e-6)


@pytest.mark.parametrize("dim", [3, 40])
def test_ridge_is_scikit_learns_when_shots_are_equal(dim: int) -> None:
    rng = np.random.default_rng(0)
    x, y, q = rng.normal(size=(12, dim)), np.arange(12) % WAY, rng.normal(size=(5, dim))
    peer = SklearnRidge(alpha=0.7).fit(unit(x), np.eye(WAY)[y])
    head = heads.Ridge(heads.RidgeSettings(penalty=0.7, scale=1.0), dim)
    items = Items(torch.from_numpy(x), torch.from_numpy(y), WAY, torch.ones(12))
    close(score(head, items, torch.from_numpy(q)), peer.predict(unit(q)), 1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_logistic_is_scikit_learns(items: Items, queries: Tensor, normalise: bool) -> None:
    x, q = items.x.numpy(), queries.numpy()
    if normalise:
        x, q = unit(x), unit(q)
    peer = LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000).fit(x, items.y.numpy())
    head = heads.Logistic(heads.LogisticSettings(c=2.0, normalise=normalise), DIM)
    close(softmax(score(head, items, queries), axis=-1), peer.predict_proba(q), 1e-4)


def test_logistic_with_weights_is_scikit_learns(items: Items, queries: Tensor) -> None:
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.25, 1.0], dtype=torch.float64)
    peer = LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000)
    peer.fit(unit(items.x.numpy()), items.y.numpy(), sample_weight=weight.numpy())
    head = heads.Logistic(heads.LogisticSettings(c=2.0), DIM)
    ours = score(head, Items(items.x, items.y, WAY, weight), queries)
    close(softmax(ours, axis=-1), peer.predict_proba(unit(queries.numpy())), 1e-4)


@pytest.mark.parametrize("dim", [3, DIM, 4 * DIM])  # fewer elements than vectors, and more
def test_anchored_ends_where_its_objective_is_least(dim: int, items: Items) -> None:
    items = replace(items, x=torch.randn(len(items.x), dim, dtype=torch.float64))
    head = heads.Anchored(heads.AnchoredSettings(steps=5_000, anchor=0.1, fit_scale=4.0), dim).double().eval()
    weight = head.fit(items)["weight"].requires_grad_()
    x = torch.nn.functional.normalize(items.x, dim=-1)
    start = torch.nn.functional.normalize(heads.class_means(Items(x, items.y, WAY, items.weight)), dim=-1)
    loss = torch.nn.functional.cross_entropy(4.0 * x @ weight.T, items.y) + 0.05 * (weight - start).square().sum()
    [gradient] = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-9
    torch.testing.assert_close(head.train().fit(items)["weight"], start)


# -- what holds for several ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["prototypes", "matching", "relation", "induction", "ridge", "logistic", "anchored", "prototype-linear", "nearest"],
)
def test_weight_two_is_the_item_twice(name: str, items: Items, queries: Tensor) -> None:
    settings, make = HEADS[name]
    head = make(settings(), DIM)
    weighted = Items(items.x, items.y, WAY, torch.tensor([2.0, 1, 1, 3, 1, 1, 2, 1, 1]).double())
    copies = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 7, 8])
    repeated = Items(items.x[copies], items.y[copies], WAY, torch.ones(len(copies)).double())
    ours, theirs = score(head, weighted, queries), score(head, repeated, queries)
    close(ours, theirs, 1e-3 if name == "logistic" else 1e-6)


@pytest.mark.parametrize(
    "name", ["prototypes", "matching", "relation", "induction", "ridge", "prototype-linear", "anchored"]
)
def test_the_gradient_goes_through_the_fit(name: str, items: Items, queries: Tensor) -> None:
    settings, make = HEADS[name]
    head = make(settings(), DIM).double().eval()
    x = items.x.clone().requires_grad_()
    way = torch.randn_like(x)

    def loss(at: Tensor) -> Tensor:
        scores = head.logits(head.fit(Items(at, items.y, WAY, items.weight)), queries)
        return torch.nn.functional.cross_entropy(scores, torch.arange(7) % WAY)

    [gradient] = torch.autograd.grad(loss(x), x)
    step = 1e-6
    numeric = (loss(x + step * way) - loss(x - step * way)) / (2 * step)
    assert (gradient * way).sum().item() == pytest.approx(numeric.item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", [name for name, (_, head) in HEADS.items() if not issubclass(head, heads.Output)])
def test_one_row_each_gives_finite_logits(name: str) -> None:
    settings, make = HEADS[name]
    head = make(settings(), DIM).eval()
    same = Items(torch.zeros(2, DIM), torch.tensor([0, 1]), 2, torch.ones(2))
    logits = head.logits(head.fit(same), torch.zeros(3, DIM))
    assert logits.shape == (3, 2)
    assert logits.isfinite().all()


def test_a_fixed_number_of_rows() -> None:
    head = heads.Linear(heads.LinearSettings(rows=5), DIM)
    five = Items(torch.zeros(5, DIM), torch.arange(5), 5, torch.ones(5))
    assert head.fit(five)["weight"].shape == (5, DIM)
    with pytest.raises(KshotError) as caught:
        head.fit(Items(torch.zeros(3, DIM), torch.arange(3), 3, torch.ones(3)))
    assert str(caught.value) == (
        'This head has 5 fixed rows and the task has 3 classes; give it as many, or meta-train with rows="shared".'
    )


def test_linear_on_vectors_of_one_length(queries: Tensor) -> None:
    head = heads.Linear(heads.LinearSettings(normalise=True, scale=4.0), DIM).double()
    state = {"weight": torch.randn(2, DIM, dtype=torch.float64), "bias": torch.ones(2, dtype=torch.float64)}
    expected = 4.0 * unit(queries.numpy()) @ state["weight"].numpy().T + 1
    close(head.logits(state, queries).numpy(), expected)


def test_squash_keeps_the_direction_below_length_one() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e-4, 4e-4]], dtype=torch.float64)
    squashed = heads.squash(x)
    assert squashed[0].tolist() == pytest.approx([0.6 * 25 / 26, 0.8 * 25 / 26])
    assert squashed[1].tolist() == [0, 0]
    assert squashed[2].norm().item() == pytest.approx(2.5e-7, rel=1e-3)
    assert math.isclose(float(heads.squash(1e6 * x[:1]).norm()), 1.0, rel_tol=1e-9)


# -- open labels: the tokens of a vocabulary ---------------------------------------------------------------------------

TABLE = torch.randn(6, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def tied(head: heads.Output, bias: Tensor | None = None) -> heads.Output:
    """A head that shares a table of six tokens."""
    head.tie(lambda: (TABLE, bias))
    return head


@pytest.mark.parametrize("with_bias", [False, True])
def test_output_is_the_layer_of_another(items: Items, queries: Tensor, with_bias: bool) -> None:
    bias = torch.arange(6, dtype=torch.float64) if with_bias else None
    head = tied(heads.Output(heads.OutputSettings(), DIM), bias)
    assert list(head.parameters()) == [], "what it shares is another's"
    expected = queries.numpy() @ TABLE.numpy().T + (0 if bias is None else bias.numpy())
    close(score(head, items, queries), expected)


@pytest.mark.parametrize("neighbours", [1, 4, 50])
def test_datastore(items: Items, queries: Tensor, neighbours: int) -> None:
    """Khandelwal et al. 2021, eq. 2 and 3."""
    settings = heads.DatastoreSettings(neighbours=neighbours, temperature=0.7, share=0.4)
    head = tied(heads.Datastore(settings, DIM))
    items = Items(items.x, torch.tensor([5, 1, 2, 1, 1, 0, 2, 5, 1]), 6, items.weight)
    keys, tokens = items.x.numpy(), items.y.numpy()
    expected = np.empty((7, 6))
    for i, q in enumerate(queries.numpy()):
        distances = np.array([sum((a - b) ** 2 for a, b in zip(key, q, strict=True)) for key in keys]) / DIM
        nearest = np.argsort(distances)[:neighbours]
        votes = np.exp(-distances[nearest] / 0.7)
        p = np.zeros(6)
        for token, vote in zip(tokens[nearest], votes / votes.sum(), strict=True):
            p[token] += vote
        expected[i] = 0.4 * p + 0.6 * softmax(TABLE.numpy() @ q)
    logits = score(head, items, queries)
    close(np.exp(logits), expected)
    close(np.exp(logits).sum(axis=-1), np.ones(7))
    assert np.isfinite(logits).all()


def test_a_datastore_learns_how_much_to_look(items: Items, queries: Tensor) -> None:
    head = tied(heads.Datastore(heads.DatastoreSettings(), DIM)).double()
    assert {name for name, _ in head.named_parameters()} == {"log_temperature", "share_logit"}
    x = items.x.clone().requires_grad_()
    head.logits(head.fit(Items(x, items.y, 6, items.weight)), queries)[:, 2].sum().backward()
    for tensor in (x, *head.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 0
