"""Matrix products by the fastest of the libraries for them: the place that decides.

    x (n, k), w (m, k), b (m)      y = x w' + b
    of a gradient g of y           x: g w,   w: g' x,   b: the sum of g over its rows

The derivatives are products again, so they can be differentiated any number of times. Where many texts are encoded and
nothing learns, the weights are laid out once as the library has them.

oneDNN compiles a kernel for each shape that it meets, in one or two milliseconds, which is as long as ten products of
some hundreds of rows take. The rows are the tokens of a call, and hardly two calls have as many; so they are filled up
with zeros to one of a few numbers (`filled`), and kernels are used again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kshot.models import libraries, tiles
from kshot.models.libraries import TITLES
from kshot.models.native import library

Kernels = Literal["auto", "fast", "plain"]
"""How encoders work: with derivatives written out (in C where there is a compiler) and the library that was measured to
be the fastest, with them and the library that is expected to be, or as anyone would write them, by autograd and the
default library."""

Multiply = Callable[[Tensor, Tensor], Tensor]
"""(n, k), (m, k) -> (n, m) without a graph: a b'."""

_Packed = dict[int, Callable[[Tensor], Tensor]]

_KERNELS: ContextVar[Kernels] = ContextVar("kernels", default="auto")
_PACKED: ContextVar[_Packed | None] = ContextVar("packed", default=None)
_KEPT: WeakKeyDictionary[nn.Module, tuple[object, Tensor, tiles.LaidOut]] = WeakKeyDictionary()
_COMPARED = 64  # weights of a layer
_PACKED_ROWS = 1_024  # what oneDNN lays weights out for; any number of rows may be multiplied
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
        with _LinearMode() if foreign and (_library() != "default" or _halves_by_onednn()) else nullcontext():
            yield
    finally:
        _KERNELS.reset(before)


class Linear(nn.Linear):
    """A linear layer whose products are done by the library that is chosen."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


@contextmanager
def packed(module: nn.Module, precision: torch.dtype, *, many: bool = True) -> Iterator[None]:
    """Lays the weights of a module's layers out once, as the library has them, for products without gradients.

    The weights must not change inside; layers that are given other tensors use those. Tiles are kept with the layer,
    three bytes for a weight, and laid out anew when it has changed.

    Args:
        module: Whose layers.
        precision: Of the products.
        many: Whether there are enough rows to lay out what is not kept.
    """
    ready: _Packed = {}
    if not torch.is_grad_enabled():
        for layer in (each for each in module.modules() if isinstance(each, Linear)):
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                laid_out = _laid_out(layer, precision, many=many)
                if laid_out is not None:
                    ready[id(layer.weight)] = laid_out
    before = _PACKED.set(ready)
    try:
        yield
    finally:
        _PACKED.reset(before)


def _laid_out(layer: Linear, precision: torch.dtype, *, many: bool) -> Callable[[Tensor], Tensor] | None:
    """A layer's product with weights that are laid out, (..., k) -> (..., m), if a library gains by it."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    if precision == torch.float32 and _library() == "tiles":
        own = _tiles_of(layer, weight)

        def by_tiles(x: Tensor) -> Tensor:
            if not libraries.is_large(x, weight):
                return F.linear(x, weight, bias)
            return _by_rows(lambda rows: tiles.multiply(rows, own, bias), x.float())

        return by_tiles
    by_onednn = _library() == "onednn" if precision == torch.float32 else precision == torch.bfloat16
    if many and by_onednn and _halves_by_onednn():
        ready = torch.ops.mkldnn._reorder_linear_weight(weight.to(precision), _PACKED_ROWS)
        own_bias, product = None if bias is None else bias.to(precision), libraries.product("onednn")
        return lambda x: _by_filled_rows(lambda rows: product(rows, ready, own_bias), x.to(precision))
    return None


def _tiles_of(layer: Linear, weight: Tensor) -> tiles.LaidOut:
    """A layer's weights in tiles, which are kept.

    Weights that were changed have another version, but for changes by way of `.data`; so that some are compared, too.
    """
    version = weight.data_ptr(), weight._version, weight.shape
    some = weight.flatten()[:: max(1, weight.numel() // _COMPARED)]
    kept = _KEPT.get(layer)
    if kept is None or kept[0] != version or not torch.equal(kept[1], some):
        kept = _KEPT[layer] = version, some.clone(), tiles.lay_out(weight, weight.dtype)
    return kept[2]


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
    if device.type != "cpu" or libraries.available() == ["default"]:
        return f"{written} (kernels: {choice})."
    with kernels(choice):
        chosen = _library()
    if choice == "fast":
        why = "as told"
    elif chosen == "default":
        others = (f"{TITLES[each]} {libraries.advantage(each):.1f} times" for each in libraries.available()[:-1])
        why = f"nothing is much faster here ({', '.join(others)} as fast)"
    else:
        why = f"{libraries.advantage(chosen):.1f} times as fast as the default here"
    return f"{written}; {TITLES[chosen]} multiplies float32 matrices: {why} (kernels: {choice})."


def written_out() -> bool:
    """Whether encoders take the derivatives that are written out."""
    return _KERNELS.get() != "plain"


def multiplier(dtype: torch.dtype) -> Multiply:
    """What multiplies matrices of float32 in a precision; the second may have been brought to it before."""
    if dtype == torch.bfloat16 and tiles_of(dtype):
        return _multiply_halves
    if dtype == torch.float32 and _library() != "default":
        return partial(_multiply, _library())
    return partial(_multiply_by_default, dtype)


def tiles_of(dtype: torch.dtype) -> int:
    """The kind of tiles that products in a precision are to take here, 0 for none; see `tiles.kind_of`."""
    wanted = written_out() if dtype == torch.bfloat16 else _library() == "tiles"
    return tiles.kind_of(dtype) if wanted else 0


def product_type(tensor: Tensor) -> torch.dtype:
    """The precision of products with a tensor: its own, or that of autocast."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns x w' + b by the library that is chosen: (..., k), (m, k), (m,) -> (..., m)."""
    ready = (_PACKED.get() or {}).get(id(weight))
    if ready is not None:
        return ready(x)
    dtype = product_type(x)
    if x.device.type != "cpu" or (dtype != torch.bfloat16 and torch.is_autocast_enabled("cpu")):
        return F.linear(x, weight, bias)
    if dtype == torch.bfloat16 and _halves_by_onednn():
        return _by_filled_rows(lambda rows: F.linear(rows, weight, bias), x.to(dtype))
    return _linear(_library(), x, weight, bias)


def _by_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Makes a product of matrices, (n, k) -> (n, m), one of (..., k) -> (..., m)."""
    made = product(x.reshape(-1, x.shape[-1]))
    return made.view(*x.shape[:-1], made.shape[-1])


def _by_filled_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The same, the rows filled up, so that kernels are used again."""
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


def _linear(name: libraries.Name, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by a library, if it suits the product; differentiable any number of times."""
    if not libraries.suits(name, x, weight):
        return F.linear(x, weight, bias)
    by_rows = _by_filled_rows if name == "onednn" else _by_rows
    return by_rows(lambda rows: _Linear.apply(name, rows, weight, bias), x)  # type: ignore[no-untyped-call]


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
    return (_filled(a.to(dtype), filled(n), filled(k)) @ _filled(b, len(b), filled(k)).t())[:n].float()


def _filled(x: Tensor, n: int, k: int) -> Tensor:
    """A matrix with zeros after its rows and columns, laid out in memory as it was: (n_0, k_0) -> (n, k)."""
    if not x.is_contiguous() and x.t().is_contiguous():
        return _filled(x.t(), k, n).t()
    missing = n - x.shape[0], k - x.shape[1]
    return F.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x


def _library() -> libraries.Name:
    """What multiplies matrices of float32 here."""
    match _KERNELS.get():
        case "plain":
            return "default"
        case "fast":
            return libraries.available()[0]
        case "auto":
            return libraries.fastest()


def _halves_by_onednn() -> bool:
    """Whether linear layers of bfloat16 take their own way to oneDNN, where PyTorch sends them, too."""
    return written_out() and libraries.has_onednn()
