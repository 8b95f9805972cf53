"""The libraries that multiply matrices on a CPU, and how fast they are here.

PyTorch sends products of float32 matrices to its BLAS, MKL in most builds, and those of bfloat16 to oneDNN. On
processors for which MKL has no kernels of its own, oneDNN is more than twice as fast in float32, too, and as exact: a
measurement decides. Where a processor has a unit for tiles, `kshot.models.tiles` is faster than either, and is taken
without one, which chance and whatever else the machine does could decide.
"""

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.models import tiles

Name = Literal["tiles", "onednn", "default"]

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""x (n, k), w (m, k), b (m) -> x w' + b, (n, m), without a graph."""

TITLES: dict[Name, str] = {
    "tiles": "the processor's matrix unit",
    "onednn": "oneDNN",
    "default": "PyTorch's default library",
}

_WORTH_IT = 1.3  # how much faster than the default oneDNN has to be, so that chance does not decide
_LEAST_WORK = 500_000  # multiplications below which a call costs more than the product
_LEAST_SIDE = 30  # half the harmonic mean of n and m, below which tiles take longer to lay out than to multiply
_MEASURED = (256, 256, 512)  # n, k, m


def available() -> list[Name]:
    """The libraries for float32 on this machine, what is expected to be the fastest first."""
    there: list[tuple[Name, bool]] = [("tiles", has_tiles()), ("onednn", has_onednn()), ("default", True)]
    return [name for name, is_there in there if is_there]


@cache
def fastest() -> Name:
    """The unit for tiles, where there is one; else oneDNN, if it is measured to be much faster than the default."""
    if has_tiles():
        return "tiles"
    return "onednn" if has_onednn() and advantage() > _WORTH_IT else "default"


def product(name: Name) -> Product:
    """What multiplies matrices of float32."""
    match name:
        case "tiles":
            return tiles.multiply
        case "onednn":
            return _by_onednn
        case "default":
            return F.linear


def suits(name: Name, x: Tensor, weight: Tensor) -> bool:
    """Whether a product, (..., k) by (m, k), is of a kind that a library may do faster, and large enough."""
    of_float32 = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    n, m = x.numel() // max(x.shape[-1], 1), len(weight)
    takes_tiles = name != "tiles" or n * m >= _LEAST_SIDE * (n + m)
    return of_float32 and name != "default" and is_large(x, weight) and takes_tiles


def is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether a product, (..., k) by (m, k), takes longer than a call of another library."""
    return x.numel() * len(weight) >= _LEAST_WORK


def compiles(name: Name) -> bool:
    """Whether a library compiles a kernel for each number of rows that it meets; see `kshot.models.rows`."""
    return name == "onednn"


@cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product for CPUs."""
    is_built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(is_built) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_tiles() -> bool:
    """Whether the processor has units for tiles of digits, and there is a compiler."""
    return tiles.kind_of(torch.float32) > 0


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product that `torch.compile` takes for linear layers on a CPU.

    It copies a first factor that is not contiguous, so that is to be the smaller one.
    """
    if bias is None and not x.is_contiguous() and x.numel() > weight.numel():
        return _by_onednn(weight.contiguous(), x, None).t()
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return product


@cache
def advantage() -> float:
    """How many times as fast as the default library oneDNN is: the best of each, timed in turn, once in a process."""
    n, k, m = _MEASURED
    names: tuple[Name, Name] = ("default", "onednn")
    seconds = dict.fromkeys(names, float("inf"))
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # whatever is going on around the first product
        x, weight = torch.ones(n, k), torch.ones(m, k)
        for _ in range(20):
            for name in names:
                begin = perf_counter()
                product(name)(x, weight, None)
                seconds[name] = min(seconds[name], perf_counter() - begin)
    return seconds["default"] / seconds["onednn"]
