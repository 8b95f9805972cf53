"""Linear layers in exact float32 on a CPU, by the faster of the two libraries that PyTorch carries.

PyTorch gives float32 products to MKL, which on processors of other makers leaves half of their vector unit unused
(AVX2 where there is AVX-512): 215 GFLOP/s on two cores of an AMD EPYC, where oneDNN, which PyTorch keeps for other
precisions, does 440 in the same exact float32. PyTorch's compiler calls oneDNN by the operator that is used here; it
has no derivative, so training keeps to PyTorch's own product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS = 1_024  # what packed weights are laid out for; any number of rows may be multiplied
_Packed = dict[int, tuple[Tensor, Tensor | None]]
_PACKED: ContextVar[_Packed | None] = ContextVar("packed", default=None)


@cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product for CPUs."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`torch.nn.Linear`, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer, as `torch.nn.functional.linear`: (..., n_in), (n_out, n_in), (n_out,) -> (..., n_out)."""
    ready = (_PACKED.get() or {}).get(id(weight))
    if ready is not None:
        return _product(x.to(ready[0].dtype), *ready)
    return _product(x, weight, bias) if _by_onednn(x, weight) else F.linear(x, weight, bias)


@contextmanager
def packed(module: nn.Module, precision: torch.dtype) -> Iterator[None]:
    """Lays the weights of a module's layers out once, as oneDNN has them, for many products without gradients.

    Worth a tenth in float32 and a quarter in bfloat16, from some thousands of rows on. The weights must not change
    inside; layers that are given other tensors use those.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, Linear)]
    ready: _Packed = {}
    if has_onednn() and not torch.is_grad_enabled():
        for layer in layers:
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(precision), _ROWS)
                ready[id(layer.weight)] = weight, None if layer.bias is None else layer.bias.detach().to(precision)
    token = _PACKED.set(ready)
    try:
        yield
    finally:
        _PACKED.reset(token)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
        and has_onednn()
    )
