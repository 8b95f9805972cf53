"""Products of float32 matrices on a CPU, by the faster of the two libraries that PyTorch carries.

PyTorch gives float32 products to MKL, which on processors of other makers leaves half of their vector unit unused
(AVX2 where there is AVX-512): 215 GFLOP/s on two cores of an AMD EPYC, where oneDNN, which PyTorch keeps for other
precisions, does 440 in the same exact float32. PyTorch's compiler calls oneDNN by the operator that is used here; it
has no derivative, so training keeps to PyTorch's own product.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product for CPUs."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer, as `torch.nn.functional.linear`: (..., n_in), (n_out, n_in), (n_out,) -> (..., n_out)."""
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
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


class Linear(nn.Linear):
    """`torch.nn.Linear`, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return linear(input, self.weight, self.bias)
