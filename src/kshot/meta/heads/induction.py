"""Prototypes by dynamic routing. The letters are those of `kshot.meta.heads`."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.base import Head
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
