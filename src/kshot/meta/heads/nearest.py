"""The nearest example of each label."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kshot.meta.heads.base import Head, Metric, label_maximum, similarity
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
