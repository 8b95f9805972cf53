"""The same meta-step by the other libraries and by a plain loop, over plain PyTorch modules.

Each takes a model, the tasks as tensors, and an inner rate; adds the outer gradient, the mean over the tasks, to the
parameters' `grad`. `order` 0 stands for ANIL: the encoder's features are computed once, the head moves alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class TaskTensors:
    """A task: token numbers (n, L) and labels (n,) of the support and of the query."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor


class Model(nn.Module):
    """An encoder from texts to vectors, and a linear layer."""

    def __init__(self, encoder: nn.Module, dim: int, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(dim, n_classes)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(ids))
        return scores


class PlainCNN(nn.Module):
    """Kim 2014 with `nn.Conv1d`."""

    def __init__(self, n_tokens: int, d: int, widths: Sequence[int], n_filters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d)
        self.convolutions = nn.ModuleList(nn.Conv1d(d, n_filters, width) for width in widths)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids).transpose(1, 2)
        parts = []
        for layer in self.convolutions:
            width = layer.kernel_size[0]
            parts.append(F.relu(layer(F.pad(x, ((width - 1) // 2, width // 2)))).amax(dim=2))
        return torch.cat(parts, dim=1)


class PlainLSTM(nn.Module):
    """`nn.LSTM`, its last hidden state; without oneDNN or cuDNN, whose recurrences cannot be differentiated twice.

    `nn.LSTM` has two biases where one is enough; here it has none, and a last input that is always 1.
    """

    def __init__(self, n_tokens: int, d: int, h: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d)
        self.lstm = nn.LSTM(d + 1, h, batch_first=True, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            _, (hidden, _) = self.lstm(F.pad(self.embedding(ids), (0, 1), value=1.0))
        last: Tensor = hidden[0]
        return last


class PlainTransformer(nn.Module):
    """`nn.TransformerEncoderLayer`, normalised before, and the mean over the tokens."""

    def __init__(self, n_tokens: int, d: int, n_layers: int, n_heads: int, max_length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d)
        self.position = nn.Embedding(max_length, d)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, n_heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        pooled: Tensor = self.norm(x).mean(dim=1)
        return pooled


@contextmanager
def attention(order: int) -> Iterator[None]:
    """Attention that can be differentiated twice, where it has to be."""
    with sdpa_kernel([SDPBackend.MATH]) if order == 2 else nullcontext():
        yield


def features_of(model: Model, task: TaskTensors) -> tuple[Tensor, Tensor]:
    """The features of the support and of the query, in one call."""
    both = model.encoder(torch.cat([task.support, task.query]))
    return both[: len(task.support)], both[len(task.support) :]


def plain_loop(model: Model, tasks: Sequence[TaskTensors], *, rate: float, steps: int, order: int) -> None:
    """`torch.func.functional_call` and `torch.autograd.grad`."""
    moving: nn.Module = model.head if order == 0 else model
    for task in tasks:
        x, query = features_of(model, task) if order == 0 else (task.support, task.query)
        weights = dict(moving.named_parameters())
        for _ in range(steps):
            loss = F.cross_entropy(functional_call(moving, weights, (x,)), task.support_labels)
            gradients = torch.autograd.grad(
                loss, list(weights.values()), create_graph=order != 1, allow_unused=True, materialize_grads=True
            )
            weights = {name: w - rate * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        outer = F.cross_entropy(functional_call(moving, weights, (query,)), task.query_labels)
        (outer / len(tasks)).backward()


def higher_loop(model: Model, tasks: Sequence[TaskTensors], *, rate: float, steps: int, order: int) -> None:
    higher = import_module("higher")
    moving: nn.Module = model.head if order == 0 else model
    optimiser = torch.optim.SGD(moving.parameters(), lr=rate)
    for task in tasks:
        x, query = features_of(model, task) if order == 0 else (task.support, task.query)
        with higher.innerloop_ctx(moving, optimiser, copy_initial_weights=False, track_higher_grads=order != 1) as (
            net,
            inner,
        ):
            for _ in range(steps):
                inner.step(F.cross_entropy(net(x), task.support_labels))
            outer = F.cross_entropy(net(query), task.query_labels) / len(tasks)
            if order != 1:
                outer.backward()
                continue
            gradients = torch.autograd.grad(outer, list(net.parameters()))
            for tensor, gradient in zip(moving.parameters(), gradients, strict=True):
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def torchopt_loop(model: Model, tasks: Sequence[TaskTensors], *, rate: float, steps: int, order: int) -> None:
    torchopt = import_module("torchopt")
    moving: nn.Module = model.head if order == 0 else model
    inner = torchopt.MetaSGD(moving, lr=rate)
    start = torchopt.extract_state_dict(moving, by="reference")
    optimiser = torchopt.extract_state_dict(inner, by="reference")
    for task in tasks:
        x, query = features_of(model, task) if order == 0 else (task.support, task.query)
        for _ in range(steps):
            inner.step(F.cross_entropy(moving(x), task.support_labels))
        (F.cross_entropy(moving(query), task.query_labels) / len(tasks)).backward()
        torchopt.recover_state_dict(moving, start)
        torchopt.recover_state_dict(inner, optimiser)


def learn2learn_loop(model: Model, tasks: Sequence[TaskTensors], *, rate: float, steps: int, order: int) -> None:
    learn2learn = import_module("learn2learn")
    moving: nn.Module = model.head if order == 0 else model
    maml = learn2learn.algorithms.MAML(moving, lr=rate, first_order=order == 1)
    for task in tasks:
        x, query = features_of(model, task) if order == 0 else (task.support, task.query)
        net = maml.clone()
        for _ in range(steps):
            net.adapt(F.cross_entropy(net(x), task.support_labels))
        (F.cross_entropy(net(query), task.query_labels) / len(tasks)).backward()


LOOPS: Mapping[str, Callable[..., None]] = {
    "plain loop": plain_loop,
    "higher": higher_loop,
    "torchopt": torchopt_loop,
    "learn2learn": learn2learn_loop,
}


def why_not(name: str, order: int) -> str | None:
    """One sentence on why a library cannot take part, if it cannot."""
    if name == "torchopt" and order == 1:
        return "torchopt has no first order: its MetaSGD always builds the graph of a step."
    try:
        import_module({"plain loop": "torch"}.get(name, name))
    except ImportError as error:
        return f"{name} is not here ({error}): pip install {name}."
    return None
