"""LoRA: a low-rank change beside a frozen matrix (Hu et al. 2022, arXiv:2106.09685).

W x  becomes  W x + (alpha / r) B A x

W   the pretrained matrix                 (n_out, n_in)
A   random at first                       (r, n_in)
B   zero at first, so nothing changes     (n_out, r)
"""

import math

import torch
from torch import Tensor, nn

from kshot.errors import KshotError


class LoRALinear(nn.Module):
    """A linear layer with a low-rank change beside it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The pretrained matrix; some models look at it."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., n_in) -> (..., n_out)."""
        changed: Tensor = self.base(x) + self.scale * (x @ self.lora_a.T) @ self.lora_b.T
        return changed


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Puts LoRA matrices beside every linear layer of a model, in place.

    Raises:
        KshotError: If the model has no linear layer.
    """
    layers = [
        (parent, name, layer)
        for parent in list(model.modules())
        for name, layer in list(parent.named_children())
        if isinstance(layer, nn.Linear)
    ]
    if not layers:
        raise KshotError("LoRA needs linear layers, and this encoder has none; set lora_rank to 0.")
    for parent, name, layer in layers:
        setattr(parent, name, LoRALinear(layer, rank, alpha))
