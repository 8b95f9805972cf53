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

    def __init__(self, base: nn.Module, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        n_in, n_out = _sizes(base)
        self.lora_a = nn.Parameter(torch.empty(rank, n_in))
        self.lora_b = nn.Parameter(torch.zeros(n_out, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The pretrained matrix; some models look at it."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., n_in) -> (..., n_out)."""
        changed: Tensor = self.base(x) + self.scale * (x @ self.lora_a.T) @ self.lora_b.T
        return changed


def _is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear: GPT-2 has a class of its own, whose matrix is turned."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """How many elements go into a linear layer, and how many come out."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    n_out, n_in = weight.shape if isinstance(layer, nn.Linear) else weight.T.shape
    return n_in, n_out


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Puts LoRA matrices beside every linear layer of a model, in place.

    Raises:
        KshotError: If the model has no linear layer.
    """
    layers = [
        (parent, name, layer)
        for parent in list(model.modules())
        for name, layer in list(parent.named_children())
        if _is_linear(layer)
    ]
    if not layers:
        raise KshotError("LoRA needs linear layers, and this encoder has none; set lora_rank to 0.")
    for parent, name, layer in layers:
        setattr(parent, name, LoRALinear(layer, rank, alpha))
