"""What a head is, and what most of them do with vectors. The letters are those of `kshot.meta.heads`."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kshot.meta.state import Items, State

Metric = Literal["cosine", "euclidean"]


class Head(nn.Module, ABC):
    """Makes a classifier of labelled vectors.

    Attributes:
        moving: The tensors of its State that an inner loop may move.
        looks: Whether `fit` looks at the vectors; if not, none need be made for it.
        late: Whether, where an inner loop takes steps, it is fitted after the last one alone, to what they end with;
            see `bare`.
        vectorises: Whether `torch.func.vmap` can fit and score many tasks at once.
    """

    moving: tuple[str, ...] = ()
    looks: bool = True
    late: bool = False
    vectorises: bool = True

    @abstractmethod
    def fit(self, items: Items) -> State:
        """Learns from the support; differentiable unless the class says otherwise."""

    @abstractmethod
    def logits(self, state: State, x: Tensor) -> Tensor:
        """Scores vectors: (n_items, dim) -> (n_items, n_labels)."""

    def bare(self) -> State:
        """Its State before it has seen a support, if it is `late`: what scores while steps are taken."""
        raise NotImplementedError

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
