"""Logistic regression held near the prototypes. The letters are those of `kshot.meta.heads`."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.base import Head, class_means
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
    fit_scale: float = Field(10.0, gt=0)
    anchor: float = Field(0.1, ge=0)
    steps: int = Field(50, ge=0)
    rate: float = Field(0.03, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)


class Anchored(Head):
    """Logistic regression that starts at the prototypes and is held near them.

    W minimises  1/n sum_i w_i cross_entropy(s' W x_i, y_i) + a/2 |W - C|^2,  C the prototypes of length 1:
    regularisation biased towards a meta-learned point (Denevi et al. 2019, arXiv:1903.10399), with the start of
    ProtoMAML (arXiv:1903.03096). With one example it stays near the prototype; with more, it separates classes that
    prototypes confuse. The gradient is written out, so that no graph is needed. W - C is a sum of support vectors,
    B X; where there are fewer vectors than they have elements, B moves instead of W.

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
        few = len(x) < x.shape[-1]
        seen = scaled @ scaled.T if few else scaled  # (n, r): what B, or W - C, is multiplied by
        start = scaled @ prototypes.T
        moved = velocity = seen.new_zeros(items.n_labels, seen.shape[1])  # (C, r)
        for _ in range(settings.steps):
            error = torch.addcmul(-target, share, torch.addmm(start, seen, moved.T).softmax(dim=-1))  # (n, C)
            gradient = torch.add(error.T if few else error.T @ scaled, moved, alpha=settings.anchor)
            velocity = torch.add(settings.momentum * velocity, gradient, alpha=-settings.rate)
            moved = moved + velocity
        return {"weight": prototypes + moved @ scaled if few else prototypes + moved}

    def logits(self, state: State, x: Tensor) -> Tensor:
        return self.log_scale.exp() * F.normalize(x, dim=-1) @ state["weight"].T
