"""Heads: how the support's vectors become a classifier. They know vectors and label numbers only.

x_i, y_i   a support vector and its label        w_i   how many examples it counts for
q          a query vector                        C     the number of labels
c_k        the prototype of label k              s     a scale, learned as log s
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.meta.state import Items, State
from kshot.settings import Settings

Metric = Literal["cosine", "euclidean"]


class Head(nn.Module, ABC):
    """Makes a classifier of labelled vectors.

    Attributes:
        moving: The tensors of its State that an inner loop may move.
        looks: Whether `fit` looks at the vectors; if not, none need be made for it.
        vectorises: Whether `torch.func.vmap` can fit and score many tasks at once.
    """

    moving: tuple[str, ...] = ()
    looks: bool = True
    vectorises: bool = True

    @abstractmethod
    def fit(self, items: Items) -> State:
        """Learns from the support; differentiable unless the class says otherwise."""

    @abstractmethod
    def logits(self, state: State, x: Tensor) -> Tensor:
        """Scores vectors: (n_items, dim) -> (n_items, n_labels)."""

    def rate_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        """The shapes that learned rates need to fit (by broadcasting) the tensors that move."""
        return {}


def class_means(items: Items) -> Tensor:
    """The weighted mean of each label's vectors, (n_labels, dim): c_k = sum_i w_i x_i / sum_i w_i over y_i = k."""
    share = F.one_hot(items.y, items.n_labels).to(items.x.dtype) * items.weight.unsqueeze(-1)  # (n_items, C)
    return (share / share.sum(dim=0).clamp_min(1e-12)).T @ items.x


def similarity(x: Tensor, y: Tensor, metric: Metric) -> Tensor:
    """Cosine, or minus the squared Euclidean distance: (n, dim), (m, dim) -> (n, m)."""
    if metric == "cosine":
        return F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T
    return 2 * x @ y.T - x.square().sum(-1, keepdim=True) - y.square().sum(-1)


def label_maximum(scores: Tensor, y: Tensor, n_labels: int) -> Tensor:
    """The highest score among each label's items: (n, n_items), (n_items,) -> (n, n_labels)."""
    lowest = scores.new_full((len(scores), n_labels), -math.inf)
    return lowest.scatter_reduce(1, y.expand_as(scores), scores, "amax")


class PrototypeSettings(Settings):
    """Settings of `Prototypes`.

    Attributes:
        metric: `cosine`, or `euclidean` (squared), as in the paper.
        scale: What similarities are multiplied by; learned in meta-training.
        normalise: Whether vectors are brought to length 1 before they are averaged.
    """

    metric: Metric = "cosine"
    scale: float = Field(20.0, gt=0)
    normalise: bool = True


class Prototypes(Head):
    """Prototypical Networks: a label is the mean of its examples.

    Snell et al. 2017, arXiv:1703.05175, eq. 1 and 2:  logit_k(q) = -s |q - c_k|^2.
    Differs from the paper: cosine by default, better by 8 to 17 points on pretrained sentence encoders.
    """

    def __init__(self, settings: PrototypeSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def fit(self, items: Items) -> State:
        x = F.normalize(items.x, dim=-1) if self.settings.normalise else items.x
        return {"prototypes": class_means(Items(x, items.y, items.n_labels, items.weight))}

    def logits(self, state: State, x: Tensor) -> Tensor:
        x = F.normalize(x, dim=-1) if self.settings.normalise else x
        return self.log_scale.exp() * similarity(x, state["prototypes"], self.settings.metric)


class MatchingSettings(Settings):
    """Settings of `Matching`.

    Attributes:
        metric: `cosine`, as in the paper, or `euclidean`.
        scale: What similarities are multiplied by; learned in meta-training.
        full_context: Whether each vector is embedded in the context of the whole support (section 2.1.2).
        context_steps: How often a query looks at the support, with `full_context`.
    """

    metric: Metric = "cosine"
    scale: float = Field(20.0, gt=0)
    full_context: bool = False
    context_steps: int = Field(3, ge=1)


class Matching(Head):
    """Matching Networks: attention over the support.

    Vinyals et al. 2016, arXiv:1606.04080, eq. 1:  p(k | q) = sum_i a(q, x_i) [y_i = k], a the softmax of s cos(q, x_i).
    With `full_context` also eq. 2 to 5 (a bidirectional LSTM over the support, an LSTM with attention for the query).
    """

    def __init__(self, settings: MatchingSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
        if settings.full_context:
            self.forwards, self.backwards = nn.LSTMCell(dim, dim), nn.LSTMCell(dim, dim)
            self.reader = nn.LSTMCell(dim, dim)

    def fit(self, items: Items) -> State:
        x = self._in_context(items.x) if self.settings.full_context else items.x
        share = F.one_hot(items.y, items.n_labels).to(x.dtype) * items.weight.unsqueeze(-1)
        return {"support": x, "share": share}  # (n_support, dim), (n_support, C)

    def logits(self, state: State, x: Tensor) -> Tensor:
        support, share = state["support"], state["share"]
        if self.settings.full_context:
            x = self._read(x, support)
        scores = self.log_scale.exp() * similarity(x, support, self.settings.metric)  # (n, n_support)
        y = share.argmax(dim=-1)  # (n_support,)
        highest = label_maximum(scores.detach(), y, share.shape[-1])  # (n, C): each label's own, so that none vanishes
        sums = (scores - highest[:, y]).exp() @ share
        return sums.clamp_min(1e-20).log() + highest  # log sum_i w_i exp(score_i): its softmax is eq. 1

    def _in_context(self, x: Tensor) -> Tensor:
        """g(x_i, S) = forward_i + backward_i + x_i (appendix A.2), the support in its given order."""
        outputs = []
        for cell, steps in ((self.forwards, range(len(x))), (self.backwards, reversed(range(len(x))))):
            hidden = cell_state = x.new_zeros(1, x.shape[-1])
            seen: dict[int, Tensor] = {}
            for i in steps:
                hidden, cell_state = cell(x[i : i + 1], (hidden, cell_state))
                seen[i] = hidden
            outputs.append(torch.cat([seen[i] for i in range(len(x))]))
        return outputs[0] + outputs[1] + x

    def _read(self, x: Tensor, support: Tensor) -> Tensor:
        """f(q, S): `context_steps` steps of an LSTM that attends to the support (appendix A.1)."""
        hidden, cell_state = x, torch.zeros_like(x)
        for _ in range(self.settings.context_steps):
            read = (hidden @ support.T).softmax(dim=-1) @ support
            hidden, cell_state = self.reader(x, (hidden + read, cell_state))
            hidden = hidden + x
        return hidden


class RelationSettings(Settings):
    """Settings of `Relation`.

    Attributes:
        hidden_dim: The size of the comparator's hidden layer.
    """

    hidden_dim: int = Field(128, ge=1)


class Relation(Head):
    """Relation Networks: a learned comparator of a query and a class.

    Sung et al. 2018, arXiv:1711.06025, eq. 1 and 2:  r_k(q) = g([c_k, q]).
    Differs from the paper: vectors in place of feature maps, so g is a two-layer network over [c, q, |c - q|, c * q];
    the mean of a class in place of the sum, so shots may differ; cross-entropy in place of the squared error.
    """

    def __init__(self, settings: RelationSettings, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dim, settings.hidden_dim)
        self.second = nn.Linear(settings.hidden_dim, 1)

    def fit(self, items: Items) -> State:
        return {"prototypes": class_means(items)}

    def logits(self, state: State, x: Tensor) -> Tensor:
        c = state["prototypes"].unsqueeze(0).expand(len(x), -1, -1)  # (n, C, dim)
        q = x.unsqueeze(1).expand_as(c)
        pairs = torch.cat([c, q, (c - q).abs(), c * q], dim=-1)
        relation: Tensor = self.second(F.relu(self.first(pairs))).squeeze(-1)
        return relation


class InductionSettings(Settings):
    """Settings of `Induction`.

    Attributes:
        routing_steps: How often the routing weights are refined.
        n_slices: The number of bilinear forms of the relation.
    """

    routing_steps: int = Field(3, ge=1)
    n_slices: int = Field(32, ge=1)


class Induction(Head):
    """Induction Networks: a class vector by dynamic routing, then a neural tensor layer.

    Geng et al. 2019, arXiv:1902.10482, eq. 4 to 11:  e_i = squash(W x_i + b);  d = softmax of the routing logits b_i
    within a class;  c_k = squash(sum_i d_i e_i);  b_i += e_i . c_k;  r_k(q) = w . relu(c_k M_h q) + b.
    Differs from the paper: cross-entropy in place of the squared error; `n_slices` 32 in place of 100; the matrices
    start near the identity, so that the untrained relation is an inner product, from which a few tasks can learn.
    """

    def __init__(self, settings: InductionSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.transform = nn.Linear(dim, dim)
        self.slices = nn.Parameter(torch.empty(settings.n_slices, dim, dim))
        self.score = nn.Linear(settings.n_slices, 1)
        for matrix in (self.transform.weight.data, *self.slices.data):
            nn.init.xavier_normal_(matrix, gain=0.1).add_(torch.eye(dim))
        nn.init.zeros_(self.transform.bias)
        nn.init.constant_(self.score.weight, 10 / settings.n_slices)

    def fit(self, items: Items) -> State:
        e = squash(self.transform(items.x))  # (n_support, dim)
        member = F.one_hot(items.y, items.n_labels).to(e.dtype)  # (n_support, C)
        routing = items.weight.clamp_min(1e-12).log()  # an item that counts twice is routed as two
        for _ in range(self.settings.routing_steps):
            share = routing.unsqueeze(-1).masked_fill(member == 0, -math.inf).softmax(dim=0)  # (n_support, C)
            c = squash(share.T @ e)  # (C, dim)
            routing = routing + (e * c[items.y]).sum(-1)
        return {"prototypes": c}

    def logits(self, state: State, x: Tensor) -> Tensor:
        forms = torch.einsum("kd,hde->khe", state["prototypes"], self.slices)  # (C, n_slices, dim)
        pairs = F.relu(torch.einsum("khe,ne->nkh", forms, x))
        relation: Tensor = self.score(pairs).squeeze(-1)
        return relation


def squash(x: Tensor) -> Tensor:
    """Keeps the direction and brings the length below 1 (Sabour et al. 2017, arXiv:1710.09829, eq. 1)."""
    square = x.square().sum(dim=-1, keepdim=True)
    return x * (square / (1 + square)) * torch.rsqrt(square + 1e-12)


class RidgeSettings(Settings):
    """Settings of `Ridge`.

    Attributes:
        penalty: The ridge penalty; learned in meta-training.
        scale: What the regression's outputs are multiplied by to give logits; learned in meta-training.
        normalise: Whether vectors are brought to length 1 first.
    """

    penalty: float = Field(1.0, gt=0)
    scale: float = Field(10.0, gt=0)
    normalise: bool = True


class Ridge(Head):
    """Ridge regression on the label indicators, in closed form (R2D2).

    Bertinetto et al. 2019, arXiv:1805.08136, eq. 6 to 8:  W = X' (X X' + l I)^-1 Y, which costs n_support^3 at most,
    and dim^3 where that is less.
    Differs from the paper: vectors and indicators are centred, with each label counting the same, so that an intercept
    belongs to it and unequal shots do no harm.
    """

    def __init__(self, settings: RidgeSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_penalty = nn.Parameter(torch.tensor(math.log(settings.penalty)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def fit(self, items: Items) -> State:
        x = F.normalize(items.x, dim=-1) if self.settings.normalise else items.x
        y = F.one_hot(items.y, items.n_labels).to(x.dtype)  # (n, C)
        mean = class_means(Items(x, items.y, items.n_labels, items.weight)).mean(dim=0)
        root = items.weight.sqrt().unsqueeze(-1)
        x, y = root * (x - mean), root * (y - 1 / items.n_labels)
        n, dim = x.shape
        penalty = self.log_penalty.exp()
        if n <= dim:
            weight = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(n, dtype=x.dtype, device=x.device), y)
        else:
            weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(dim, dtype=x.dtype, device=x.device), x.T @ y)
        return {"weight": weight.T, "bias": 1 / items.n_labels - mean @ weight}  # (C, dim), (C,)

    def logits(self, state: State, x: Tensor) -> Tensor:
        x = F.normalize(x, dim=-1) if self.settings.normalise else x
        return self.log_scale.exp() * F.linear(x, state["weight"], state["bias"])


class LinearSettings(Settings):
    """Settings of `Linear`.

    Attributes:
        rows: `shared`: every label starts from one learned row, so any number and order of labels will do (Ye & Chao
            2022, arXiv:2106.16245); or the fixed number of rows of a paper's run.
        normalise: Whether vectors are brought to length 1 first, and multiplied by `scale`.
        scale: See `normalise`.
    """

    rows: Literal["shared"] | Annotated[int, Field(ge=1)] = "shared"
    normalise: bool = False
    scale: float = Field(10.0, gt=0)


class Linear(Head):
    """A linear layer with a learned start, for inner loops to move: logits = W q + b."""

    moving = ("weight", "bias")
    looks = False

    def __init__(self, settings: LinearSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        n_rows = 1 if settings.rows == "shared" else settings.rows
        self.weight = nn.Parameter(torch.empty(n_rows, dim))
        self.bias = nn.Parameter(torch.zeros(n_rows))
        nn.init.normal_(self.weight, std=0.02)

    def fit(self, items: Items) -> State:
        if self.settings.rows not in ("shared", items.n_labels):
            raise KshotError(
                f"This head has {self.settings.rows} fixed rows and the task has {items.n_labels} classes; "
                'give it as many, or meta-train with rows="shared".'
            )
        return {"weight": self.weight.expand(items.n_labels, -1), "bias": self.bias.expand(items.n_labels)}

    def logits(self, state: State, x: Tensor) -> Tensor:
        x = self.settings.scale * F.normalize(x, dim=-1) if self.settings.normalise else x
        return F.linear(x, state["weight"], state["bias"])

    def rate_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"weight": tuple(self.weight.shape), "bias": tuple(self.bias.shape)}


class PrototypeLinear(Head):
    """A linear layer that starts as the prototypes' classifier, for inner loops to move.

    Triantafillou et al. 2020, arXiv:1903.03096, section 3:  W_k = 2 s c_k,  b_k = -s |c_k|^2,  which is -s |q - c_k|^2
    up to a term that all labels share. With vectors of length 1, cosine and Euclidean prototypes agree.
    """

    moving = ("weight", "bias")

    def __init__(self, settings: PrototypeSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def fit(self, items: Items) -> State:
        x = self._scaled(items.x)
        c = class_means(Items(x, items.y, items.n_labels, items.weight))
        if self.settings.metric == "cosine":
            return {"weight": F.normalize(c, dim=-1) * self.log_scale.exp(), "bias": c.new_zeros(items.n_labels)}
        return {"weight": 2 * self.log_scale.exp() * c, "bias": -self.log_scale.exp() * c.square().sum(-1)}

    def logits(self, state: State, x: Tensor) -> Tensor:
        return F.linear(self._scaled(x), state["weight"], state["bias"])

    def _scaled(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.settings.normalise else x

    def rate_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (1, dim), "bias": (1,)}


class LogisticSettings(Settings):
    """Settings of `Logistic`.

    Attributes:
        c: The inverse strength of the penalty, as in scikit-learn.
        normalise: Whether vectors are brought to length 1 first.
        max_iter: Iterations of L-BFGS at most.
    """

    c: float = Field(10.0, gt=0)
    normalise: bool = True
    max_iter: int = 100


class Logistic(Head):
    """Multinomial logistic regression on fixed features: the linear probe. Not differentiable.

    Minimises  1/2 |W|^2 + C sum_i w_i cross_entropy(W x_i + b, y_i), as scikit-learn does, by L-BFGS.
    """

    vectorises = False  # each task takes as many steps as it needs

    def __init__(self, settings: LogisticSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings

    def fit(self, items: Items) -> State:
        x = items.x.detach()
        x = F.normalize(x, dim=-1) if self.settings.normalise else x
        weight = x.new_zeros(items.n_labels, x.shape[-1]).requires_grad_()
        bias = x.new_zeros(items.n_labels).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=self.settings.max_iter, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            optimiser.zero_grad()
            losses = F.cross_entropy(F.linear(x, weight, bias), items.y, reduction="none")
            total = 0.5 * weight.square().sum() + self.settings.c * (items.weight * losses).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        with torch.enable_grad():
            optimiser.step(objective)  # type: ignore[no-untyped-call]
        return {"weight": weight.detach(), "bias": bias.detach()}

    def logits(self, state: State, x: Tensor) -> Tensor:
        x = F.normalize(x, dim=-1) if self.settings.normalise else x
        return F.linear(x, state["weight"], state["bias"])


class AnchoredSettings(Settings):
    """Settings of `Anchored`.

    Attributes:
        scale: What cosines are multiplied by; learned in meta-training.
        fit_scale: The same while the rows are fitted; smaller, so that a row of few examples is not overfitted.
        anchor: How strongly the rows are held near the prototypes.
        steps: Steps of gradient descent.
        rate: Their size.
        momentum: The share of the step before that is kept (Polyak 1964).
    """

    scale: float = Field(20.0, gt=0)
    fit_scale: float = 10.0
    anchor: float = 0.1
    steps: int = 50
    rate: float = 0.03
    momentum: float = 0.9


class Anchored(Head):
    """Logistic regression that starts at the prototypes and is held near them.

    W minimises  1/n sum_i w_i cross_entropy(s' W x_i, y_i) + a/2 |W - C|^2,  C the prototypes of length 1:
    regularisation biased towards a meta-learned point (Denevi et al. 2019, arXiv:1903.10399), with the start of
    ProtoMAML (arXiv:1903.03096). With one example it stays near the prototype; with more, it separates classes that
    prototypes confuse. The gradient is written out, so that no graph is needed.

    Differs in meta-training: the encoder learns through the prototypes alone (no steps), which costs less.
    """

    def __init__(self, settings: AnchoredSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def fit(self, items: Items) -> State:
        x = F.normalize(items.x, dim=-1)
        prototypes = F.normalize(class_means(Items(x, items.y, items.n_labels, items.weight)), dim=-1)
        if self.training:
            return {"weight": prototypes}
        settings = self.settings
        share = (items.weight / items.weight.sum()).unsqueeze(-1)  # (n, 1)
        target = share * F.one_hot(items.y, items.n_labels)  # (n, C)
        scaled = settings.fit_scale * x
        weight, velocity = prototypes, torch.zeros_like(prototypes)
        for _ in range(settings.steps):
            error = share * F.linear(scaled, weight).softmax(dim=-1) - target  # (n, C)
            gradient = torch.addmm(settings.anchor * (weight - prototypes), error.T, scaled)  # (C, dim)
            velocity = torch.add(settings.momentum * velocity, gradient, alpha=-settings.rate)
            weight = weight + velocity
        return {"weight": weight}

    def logits(self, state: State, x: Tensor) -> Tensor:
        return self.log_scale.exp() * F.normalize(x, dim=-1) @ state["weight"].T


class NearestSettings(Settings):
    """Settings of `Nearest`.

    Attributes:
        metric: `cosine` or `euclidean`.
        scale: What similarities are multiplied by.
    """

    metric: Metric = "cosine"
    scale: float = Field(20.0, gt=0)


class Nearest(Head):
    """Nearest neighbour: a label is as near as its nearest example (Cover & Hart 1967)."""

    def __init__(self, settings: NearestSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings

    def fit(self, items: Items) -> State:
        return {"support": items.x, "member": F.one_hot(items.y, items.n_labels).to(items.x.dtype)}

    def logits(self, state: State, x: Tensor) -> Tensor:
        scores = self.settings.scale * similarity(x, state["support"], self.settings.metric)  # (n, n_support)
        return label_maximum(scores, state["member"].argmax(dim=-1), state["member"].shape[-1])


class OutputSettings(Settings):
    """Settings of `Output`."""


class Output(Head):
    """The encoder's own output layer, where the labels are the tokens of a vocabulary.

    A task starts with the layer as it is, whatever its support, and its inner loop may move it. Where the layer shares
    its table with the token embeddings, the two are one for all tasks, and part within a task.
    """

    moving: tuple[str, ...] = ("weight", "bias")
    looks = False

    def __init__(self, settings: Settings, dim: int) -> None:
        super().__init__()
        self.settings = settings

    def tie(self, encoder: Callable[[], tuple[Tensor, Tensor | None]]) -> None:
        """Says where the layer is: the parameters stay the encoder's, so they are kept and trained once."""
        self._layer = encoder

    def fit(self, items: Items) -> State:
        weight, bias = self._layer()
        return {"weight": weight, "bias": weight.new_zeros(len(weight)) if bias is None else bias}

    def logits(self, state: State, x: Tensor) -> Tensor:
        return F.linear(x, state["weight"], state["bias"])

    def rate_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (1, dim), "bias": (1,)}


class DatastoreSettings(Settings):
    """Settings of `Datastore`.

    Attributes:
        neighbours: How many of the nearest support positions vote.
        temperature: What their squared distances are divided by, in units of the vectors' size; learned.
        share: How much their vote counts beside the output layer's; learned.
    """

    neighbours: int = Field(16, ge=1)
    temperature: float = Field(0.1, gt=0)
    share: float = Field(0.3, gt=0, lt=1)


class Datastore(Output):
    """Nearest-neighbour translation: positions of the support vote for the token that followed there.

        p(token | q) = share * sum_i a_i(q) [y_i = token] + (1 - share) * softmax(W q)
        a(q) = softmax over the nearest of  -|q - x_i|^2 / (dim * temperature)

    Khandelwal et al. 2021, arXiv:2010.00710, eq. 2 and 3: Matching Networks (arXiv:1606.04080) with an open set of
    labels. Differs from the paper: share and temperature are learned in meta-training, and the distance is per element.
    """

    moving = ()
    looks = True
    settings: DatastoreSettings

    def __init__(self, settings: DatastoreSettings, dim: int) -> None:
        super().__init__(settings, dim)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))
        self.share_logit = nn.Parameter(torch.tensor(math.log(settings.share / (1 - settings.share))))

    def fit(self, items: Items) -> State:
        return {**super().fit(items), "keys": items.x, "tokens": items.y}

    def logits(self, state: State, x: Tensor) -> Tensor:
        own = super().logits(state, x).log_softmax(dim=-1)  # (n, n_tokens)
        distances = torch.cdist(x, state["keys"]).square() / x.shape[-1]  # (n, n_support)
        nearest, rows = distances.topk(min(self.settings.neighbours, len(state["keys"])), largest=False)
        votes = (-nearest / self.log_temperature.exp()).softmax(dim=-1)
        vote = torch.zeros_like(own).scatter_add(1, state["tokens"][rows], votes.to(own.dtype))
        share = self.share_logit.sigmoid()
        return torch.logaddexp(own + (1 - share).log(), vote.clamp_min(1e-30).log() + share.log())
