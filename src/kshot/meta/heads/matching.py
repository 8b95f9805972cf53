"""Attention over the support. The letters are those of `kshot.meta.heads`."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.heads.base import Head, Metric, label_maximum, similarity
from kshot.meta.state import Items, State
from kshot.settings import Settings


class MatchingSettings(Settings):
    """Settings of `Matching`.

    Attributes:
        metric: `cosine`, as in the paper, or `euclidean`.
        scale: What similarities are multiplied by; learned in meta-training.
        full_context: Whether each vector is embedded in the context of the whole support (section 2.1.2).
        context_steps: How often a query looks at the support, with `full_context`.
    """

    metric: Metric = "cosine"
    scale: float = Field(20.0, gt=0)
    full_context: bool = False
    context_steps: int = Field(3, ge=1)


class Matching(Head):
    """Matching Networks: attention over the support.

    Vinyals et al. 2016, arXiv:1606.04080, eq. 1:  p(k | q) = sum_i a(q, x_i) [y_i = k], a the softmax of s cos(q, x_i).
    With `full_context` also eq. 2 to 5 (a bidirectional LSTM over the support, an LSTM with attention for the query).
    """

    def __init__(self, settings: MatchingSettings, dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))
        if settings.full_context:
            self.forwards, self.backwards = nn.LSTMCell(dim, dim), nn.LSTMCell(dim, dim)
            self.reader = nn.LSTMCell(dim, dim)

    def fit(self, items: Items) -> State:
        x = self._in_context(items.x) if self.settings.full_context else items.x
        share = F.one_hot(items.y, items.n_labels).to(x.dtype) * items.weight.unsqueeze(-1)
        return {"support": x, "share": share}  # (n_support, dim), (n_support, C)

    def logits(self, state: State, x: Tensor) -> Tensor:
        support, share = state["support"], state["share"]
        if self.settings.full_context:
            x = self._read(x, support)
        scores = self.log_scale.exp() * similarity(x, support, self.settings.metric)  # (n, n_support)
        y = share.argmax(dim=-1)  # (n_support,)
        highest = label_maximum(scores.detach(), y, share.shape[-1])  # (n, C): each label's own, so that none vanishes
        sums = (scores - highest[:, y]).exp() @ share
        return sums.clamp_min(1e-20).log() + highest  # log sum_i w_i exp(score_i): its softmax is eq. 1

    def _in_context(self, x: Tensor) -> Tensor:
        """g(x_i, S) = forward_i + backward_i + x_i (appendix A.2), the support in its given order."""
        outputs = []
        for cell, steps in ((self.forwards, range(len(x))), (self.backwards, reversed(range(len(x))))):
            hidden = cell_state = x.new_zeros(1, x.shape[-1])
            seen: dict[int, Tensor] = {}
            for i in steps:
                hidden, cell_state = cell(x[i : i + 1], (hidden, cell_state))
                seen[i] = hidden
            outputs.append(torch.cat([seen[i] for i in range(len(x))]))
        return outputs[0] + outputs[1] + x

    def _read(self, x: Tensor, support: Tensor) -> Tensor:
        """f(q, S): `context_steps` steps of an LSTM that attends to the support (appendix A.1)."""
        hidden, cell_state = x, torch.zeros_like(x)
        for _ in range(self.settings.context_steps):
            read = (hidden @ support.T).softmax(dim=-1) @ support
            hidden, cell_state = self.reader(x, (hidden + read, cell_state))
            hidden = hidden + x
        return hidden
