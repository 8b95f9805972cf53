"""Nearest neighbours that vote for tokens. The letters are those of `kshot.meta.heads`."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.output import Output
from kshot.meta.state import Items, State
from kshot.settings import Settings


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
    While an inner loop takes steps the output layer scores alone; what is kept are the vectors that they end with.
    """

    looks = True
    late = True
    settings: DatastoreSettings

    def __init__(self, settings: DatastoreSettings, dim: int) -> None:
        super().__init__(settings, dim)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))
        self.share_logit = nn.Parameter(torch.tensor(math.log(settings.share / (1 - settings.share))))

    def fit(self, items: Items) -> State:
        return {**self.bare(), "keys": items.x, "tokens": items.y}

    def logits(self, state: State, x: Tensor) -> Tensor:
        if "keys" not in state:
            return super().logits(state, x)
        own = super().logits(state, x).log_softmax(dim=-1)  # (n, n_tokens)
        distances = torch.cdist(x, state["keys"]).square() / x.shape[-1]  # (n, n_support)
        nearest, rows = distances.topk(min(self.settings.neighbours, len(state["keys"])), largest=False)
        votes = (-nearest / self.log_temperature.exp()).softmax(dim=-1)
        vote = torch.zeros_like(own).scatter_add(1, state["tokens"][rows], votes.to(own.dtype))
        share = self.share_logit.sigmoid()
        return torch.logaddexp(own + (1 - share).log(), vote.clamp_min(1e-30).log() + share.log())
