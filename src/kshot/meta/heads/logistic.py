"""Logistic regression on fixed features. The letters are those of `kshot.meta.heads`."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kshot.meta.heads.base import Head
from kshot.meta.state import Items, State
from kshot.settings import Settings


class LogisticSettings(Settings):
    """Settings of `Logistic`.

    Attributes:
        c: The inverse strength of the penalty, as in scikit-learn.
        normalise: Whether vectors are brought to length 1 first.
        max_iter: Iterations of L-BFGS at most.
    """

    c: float = Field(10.0, gt=0)
    normalise: bool = True
    max_iter: int = Field(100, ge=1)


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
