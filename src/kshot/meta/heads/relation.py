"""A learned comparator of queries and prototypes. The letters are those of `kshot.meta.heads`."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.base import Head, class_means
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
