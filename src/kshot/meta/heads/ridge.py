"""Ridge regression in closed form. The letters are those of `kshot.meta.heads`."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.base import Head, class_means
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
