"""Linear layers that inner loops move. The letters are those of `kshot.meta.heads`."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.meta.heads.base import Head, class_means
from kshot.meta.heads.prototypes import PrototypeSettings
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
