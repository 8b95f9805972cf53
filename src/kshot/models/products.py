"""Matrix products by the library that is chosen for them, and their derivatives.

    x (n, k), w (m, k), b (m)      y = x w' + b
    of a gradient g of y           x: g w,   w: g' x,   b: the sum of g over its rows

The derivatives are products again, so they can be differentiated any number of times.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kshot.models import libraries, tiles
from kshot.models.kernels import CHOICE, Kernels, chosen_library, halves_by_onednn, tiles_of
from kshot.models.packed import ready
from kshot.models.rows import by_filled_rows, by_rows, filled, filled_up

Multiply = Callable[[Tensor, Tensor], Tensor]
"""(n, k), (m, k) -> (n, m) without a graph: a b'."""


@contextmanager
def kernels(choice: Kernels, *, foreign: bool = False) -> Iterator[None]:
    """Encoders work in a chosen way in this context, and so do the derivatives of what was computed in it.

    Args:
        choice: See `Kernels`.
        foreign: Whether linear layers that are not of the class `Linear` are to take part, too.
    """
    before = CHOICE.set(choice)
    try:
        with _LinearMode() if foreign and (chosen_library() != "default" or halves_by_onednn()) else nullcontext():
            yield
    finally:
        CHOICE.reset(before)


def product_type(tensor: Tensor) -> torch.dtype:
    """The precision of products with a tensor: its own, or that of autocast."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


# -- without a graph --


def multiplier(dtype: torch.dtype) -> Multiply:
    """What multiplies matrices of float32 in a precision; the second may have been brought to it before."""
    if dtype == torch.bfloat16 and tiles_of(dtype):
        return _multiply_halves
    if dtype == torch.float32 and chosen_library() != "default":
        return partial(_multiply, chosen_library())
    return partial(_multiply_by_default, dtype)


def _multiply(name: libraries.Name, a: Tensor, b: Tensor) -> Tensor:
    return libraries.product(name)(a, b, None) if libraries.suits(name, a, b) else a @ b.t()


def _multiply_halves(a: Tensor, b: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return _multiply_by_default(torch.bfloat16, a, b)
    return tiles.multiply(a, b.float(), dtype=torch.bfloat16)


def _multiply_by_default(dtype: torch.dtype, a: Tensor, b: Tensor) -> Tensor:
    b = b.to(dtype)
    if dtype != torch.bfloat16 or b.device.type != "cpu":
        return (a.to(dtype) @ b.t()).to(a.dtype)
    n, k = a.shape
    return (filled_up(a.to(dtype), filled(n), filled(k)) @ filled_up(b, len(b), filled(k)).t())[:n].float()


# -- with a graph --


class Linear(nn.Linear):
    """A linear layer whose products are done by the library that is chosen."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear_layers(module: nn.Module) -> Iterator[Linear]:
    """Those of a module, as `packed` takes them."""
    return (each for each in module.modules() if isinstance(each, Linear))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns x w' + b by the library that is chosen: (..., k), (m, k), (m,) -> (..., m)."""
    known = ready(weight)
    if known is not None and known.product is not None:
        return known.product(x)
    dtype = product_type(x)
    if x.device.type != "cpu" or (dtype != torch.bfloat16 and torch.is_autocast_enabled("cpu")):
        return F.linear(x, weight, bias)
    if dtype == torch.bfloat16 and halves_by_onednn():
        return by_filled_rows(lambda rows: F.linear(rows, weight, bias), x.to(dtype))
    return _linear(chosen_library(), x, weight, bias)


def _linear(name: libraries.Name, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by a library, if it suits the product; differentiable any number of times."""
    of_layer = bias is None or (bias.dtype == x.dtype and bias.device == x.device and bias.shape == weight.shape[:1])
    if not libraries.suits(name, x, weight) or weight.dim() != 2 or not of_layer:
        return F.linear(x, weight, bias)
    by = by_filled_rows if libraries.compiles(name) else by_rows
    return by(lambda rows: _Linear.apply(name, rows, weight, bias), x)  # type: ignore[no-untyped-call]


class _Linear(torch.autograd.Function):
    """See the derivatives above."""

    @staticmethod
    def forward(ctx: Any, name: libraries.Name, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.name = name
        return libraries.product(name)(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        [g] = gradients
        _, of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            None,
            _linear(ctx.name, g, weight.t(), None) if of_x else None,
            _linear(ctx.name, g.t(), x.t(), None) if of_weight else None,
            g.sum(dim=0) if of_bias else None,
        )


class _LinearMode(TorchFunctionMode):
    """Sends every call of `torch.nn.functional.linear`, whoever makes it, to `linear`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return (linear if func is F.linear else func)(*args, **(kwargs or {}))
