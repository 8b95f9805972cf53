"""Matrix products by the faster of the two libraries that PyTorch has for them on a CPU: the place that decides.

PyTorch sends products of float32 matrices to its BLAS, MKL in most builds, and those of bfloat16 to oneDNN. On
processors for which MKL has no kernels of its own, oneDNN is more than twice as fast in float32, too, and as exact.

    x (n, k), w (m, k), b (m)      y = x w' + b
    of a gradient g of y           x: g w,   w: g' x,   b: the sum of g over its rows

The derivatives are products again, so they can be differentiated any number of times. Where many texts are encoded and
nothing learns, the weights are laid out once as oneDNN has them.

oneDNN compiles a kernel for each shape that it meets, in one or two milliseconds, which is as long as ten products of
some hundreds of rows take. The rows are the tokens of a call, and hardly two calls have as many; so they are filled up
with zeros to one of a few numbers (`filled`), and kernels are used again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from time import perf_counter
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kshot.models.native import library

Kernels = Literal["auto", "fast", "plain"]
"""How encoders work: with derivatives written out (in C where there is a compiler) and the library that was measured to
be faster, with them and oneDNN without a measurement, or as anyone would write them, by autograd and the default
library."""

Multiply = Callable[[Tensor, Tensor], Tensor]
"""(n, k), (m, k) -> (n, m) without a graph: a b'."""

_Packed = dict[int, tuple[Tensor, Tensor | None]]

_KERNELS: ContextVar[Kernels] = ContextVar("kernels", default="auto")
_PACKED: ContextVar[_Packed | None] = ContextVar("packed", default=None)
_PACKED_ROWS = 1_024  # what packed weights are laid out for; any number of rows may be multiplied
_WORTH_IT = 1.3  # how much faster oneDNN has to be, so that chance does not decide
_LEAST_WORK = 500_000  # multiplications below which the call costs more than the product
_TILE = 16  # rows that the matrix units of processors take at once


@contextmanager
def kernels(choice: Kernels, *, foreign: bool = False) -> Iterator[None]:
    """Encoders work in a chosen way in this context, and so do the derivatives of what was computed in it.

    Args:
        choice: See `Kernels`.
        foreign: Whether linear layers that are not of the class `Linear` are to take part, too.
    """
    before = _KERNELS.set(choice)
    try:
        with _LinearMode() if foreign and (_uses_onednn() or _uses_onednn(torch.bfloat16)) else nullcontext():
            yield
    finally:
        _KERNELS.reset(before)


@contextmanager
def packed(module: nn.Module, precision: torch.dtype) -> Iterator[None]:
    """Lays the weights of a module's layers out once, as oneDNN has them, for many products without gradients.

    Worth a tenth in float32 and a quarter in bfloat16, from some thousands of rows on. The weights must not change
    inside; layers that are given other tensors use those.
    """
    ready: _Packed = {}
    if _uses_onednn(precision) and not torch.is_grad_enabled():
        for layer in (each for each in module.modules() if isinstance(each, Linear)):
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(precision), _PACKED_ROWS)
                ready[id(layer.weight)] = weight, None if layer.bias is None else layer.bias.detach().to(precision)
    before = _PACKED.set(ready)
    try:
        yield
    finally:
        _PACKED.reset(before)


def explain(choice: Kernels, device: torch.device) -> str:
    """One line for people on how encoders will work, and why."""
    if choice == "plain":
        return "Encoders work by autograd and PyTorch's default library (kernels: plain)."
    written = "Encoders work with derivatives that are written out"
    if device.type == "cpu":
        native = library()
        in_c = (
            f", LSTMs and CNNs in C (by {native.how})"
            if native.functions
            else f" (LSTMs and CNNs not in C: {native.how})"
        )
        written = f"{written}{in_c}"
    if device.type != "cpu" or not has_onednn():
        return f"{written} (kernels: {choice})."
    with kernels(choice):
        chosen = "oneDNN" if _uses_onednn() else "PyTorch's default library"
    why = f"oneDNN is {_advantage():.1f} times as fast as the default here" if choice == "auto" else "as told"
    return f"{written}; {chosen} multiplies float32 matrices: {why} (kernels: {choice})."


def written_out() -> bool:
    """Whether encoders take the derivatives that are written out."""
    return _KERNELS.get() != "plain"


def multiplier() -> Multiply:
    """What multiplies matrices here; the second is brought to the precision of `product_type` before."""
    return _multiply if _uses_onednn() else _default_multiply


def product_type(tensor: Tensor) -> torch.dtype:
    """The precision of products with a tensor: its own, or that of autocast."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns x w' + b by the library that is chosen: (..., k), (m, k), (m,) -> (..., m)."""
    ready = (_PACKED.get() or {}).get(id(weight))
    if ready is not None:
        return _by_rows(lambda rows: _onednn(rows, *ready), x.to(ready[0].dtype))
    dtype = product_type(x)
    if x.device.type != "cpu" or not _uses_onednn(dtype):
        return F.linear(x, weight, bias)
    if dtype == torch.bfloat16:
        return _by_rows(lambda rows: F.linear(rows, weight, bias), x.to(dtype))
    return F.linear(x, weight, bias) if torch.is_autocast_enabled("cpu") else _linear(x, weight, bias)


def _by_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Makes a product of matrices, (n, k) -> (n, m), one of (..., k) -> (..., m), its rows filled up."""
    rows = x.reshape(-1, x.shape[-1])
    made = product(_fill(rows))
    return made[: len(rows)].view(*x.shape[:-1], made.shape[-1])


def filled(n_rows: int) -> int:
    """The number of rows that so many are filled up to: one of eight between two powers of two, and a multiple of 16.

    At most an eighth more, from 128 rows on.
    """
    step = max(_TILE, 1 << max(0, (n_rows - 1).bit_length() - 4))
    return -(-n_rows // step) * step


def _fill(rows: Tensor) -> Tensor:
    """Rows with zeros below them: (n, k) -> (filled(n), k)."""
    missing = filled(len(rows)) - len(rows)
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows


class Linear(nn.Linear):
    """A linear layer whose products are done by the library that is chosen."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by oneDNN, where the product is of the kind that it does faster; differentiable any number of times."""
    if not _suits_onednn(x, weight):
        return F.linear(x, weight, bias)
    return _by_rows(lambda rows: _Linear.apply(rows, weight, bias), x)  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    """See the derivatives above."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        [g] = gradients
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _linear(g, weight.t(), None) if of_x else None,
            _linear(g.t(), x.t(), None) if of_weight else None,
            g.sum(dim=0) if of_bias else None,
        )


class _LinearMode(TorchFunctionMode):
    """Sends every call of `torch.nn.functional.linear`, whoever makes it, to `linear`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return (linear if func is F.linear else func)(*args, **(kwargs or {}))


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    return _onednn(a, b, None) if _suits_onednn(a, b) else _default_multiply(a, b)


def _default_multiply(a: Tensor, b: Tensor) -> Tensor:
    if b.dtype != torch.bfloat16 or b.device.type != "cpu":
        return (a.to(b.dtype) @ b.t()).to(a.dtype)
    n, k = a.shape
    return (_filled(a.to(b.dtype), filled(n), filled(k)) @ _filled(b, len(b), filled(k)).t())[:n].float()


def _filled(x: Tensor, n: int, k: int) -> Tensor:
    """A matrix with zeros after its rows and columns, laid out in memory as it was: (n_0, k_0) -> (n, k)."""
    if not x.is_contiguous() and x.t().is_contiguous():
        return _filled(x.t(), k, n).t()
    missing = n - x.shape[0], k - x.shape[1]
    return F.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x


def _suits_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether a product is of the kind that oneDNN may do faster, and large enough."""
    return a.dtype == b.dtype == torch.float32 and a.device.type == "cpu" and a.numel() * b.shape[0] >= _LEAST_WORK


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product that `torch.compile` takes for linear layers on a CPU.

    It copies a first factor that is not contiguous, so that is to be the smaller one.
    """
    if bias is None and not x.is_contiguous() and x.numel() > weight.numel():
        return _onednn(weight.contiguous(), x, None).t()
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return product


def _uses_onednn(dtype: torch.dtype = torch.float32) -> bool:
    """Whether products of a precision are made by oneDNN here; PyTorch itself sends those of bfloat16 there."""
    if dtype != torch.float32:
        return dtype == torch.bfloat16 and written_out() and has_onednn()
    match _KERNELS.get():
        case "plain":
            return False
        case "fast":
            return has_onednn()
        case "auto":
            return has_onednn() and _advantage() > _WORTH_IT


@cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product for CPUs."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def _advantage() -> float:
    """How many times as fast as the default library oneDNN is: the best of each, timed in turn, once in a process."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # whatever is going on around the first product
        a, b = torch.ones(256, 256), torch.ones(512, 256)
        ways: list[Callable[[], Tensor]] = [lambda: a @ b.t(), lambda: _onednn(a, b, None)]
        seconds = [float("inf")] * len(ways)
        for _ in range(20):
            for number, way in enumerate(ways):
                begin = perf_counter()
                way()
                seconds[number] = min(seconds[number], perf_counter() - begin)
    return seconds[0] / seconds[1]
