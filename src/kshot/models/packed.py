"""Weights that are laid out once, as the library has them, for products of layers that learn nothing meanwhile."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kshot.models import libraries, tiles
from kshot.models.kernels import chosen_library, halves_by_onednn, layout_in_c
from kshot.models.rows import by_filled_rows, by_rows
from kshot.models.tiles import PANELS, LaidOut

_Product = Callable[[Tensor], Tensor]
"""(..., k) -> (..., m)."""


@dataclass(frozen=True)
class Ready:
    """The weights of a layer that stay as they are.

    Attributes:
        product: With them, and the bias of their layer; None if the usual one is as fast.
        for_c: Gives them as functions in C need them, laid out now or before; None if there are none.
    """

    product: _Product | None
    for_c: Callable[[], LaidOut] | None


_READY: ContextVar[dict[int, Ready] | None] = ContextVar("packed", default=None)
_KEPT: WeakKeyDictionary[nn.Module, tuple[object, Tensor, LaidOut]] = WeakKeyDictionary()
_COMPARED = 64  # weights of a layer
_PACKED_ROWS = 1_024  # what oneDNN lays weights out for; any number of rows may be multiplied


@contextmanager
def packed(layers: Iterable[nn.Linear], precision: torch.dtype, *, many: bool = True) -> Iterator[None]:
    """Lays the weights of layers out, for products without gradients.

    The weights must not change inside; layers that are given other tensors use those. What is laid out for functions in
    C is kept with the layer, three or four bytes for a weight, and laid out anew when it has changed. PyTorch counts
    changes, but for those of parts of `weight.data` or of its NumPy array, which are not seen.

    Args:
        layers: Those of the class `products.Linear`, whose products ask for `ready`.
        precision: Of the products.
        many: Whether there are enough rows to lay out weights as oneDNN has them, which are not kept.
    """
    found: dict[int, Ready] = {}
    if not torch.is_grad_enabled():
        for layer in layers:
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                found[id(layer.weight)] = _ready(layer, precision, many=many)
    before = _READY.set(found)
    try:
        yield
    finally:
        _READY.reset(before)


def ready(weight: Tensor) -> Ready | None:
    """What is ready for weights, if anything is."""
    return (_READY.get() or {}).get(id(weight))


def _ready(layer: nn.Linear, precision: torch.dtype, *, many: bool) -> Ready:
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    layout = layout_in_c(precision)
    for_c = None if layout is None else partial(_kept, layer, weight, layout)
    if for_c is not None and layout != PANELS and precision == torch.float32:
        return Ready(_by_tiles(weight, bias, for_c()), for_c)
    by_onednn = chosen_library() == "onednn" if precision == torch.float32 else precision == torch.bfloat16
    return Ready(_by_onednn(weight, bias, precision) if many and by_onednn and halves_by_onednn() else None, for_c)


def _by_tiles(weight: Tensor, bias: Tensor | None, laid_out: LaidOut) -> _Product:
    def product(x: Tensor) -> Tensor:
        if not libraries.is_large(x, weight):
            return F.linear(x, weight, bias)
        return by_rows(lambda rows: tiles.multiply(rows, laid_out, bias), x.float())

    return product


def _by_onednn(weight: Tensor, bias: Tensor | None, precision: torch.dtype) -> _Product:
    @cache
    def laid_out() -> Tensor:  # once there is a product that needs it
        made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.to(precision), _PACKED_ROWS)
        return made

    own_bias, multiply = None if bias is None else bias.to(precision), libraries.product("onednn")
    return lambda x: by_filled_rows(lambda rows: multiply(rows, laid_out(), own_bias), x.to(precision))


def _kept(layer: nn.Linear, weight: Tensor, layout: int) -> LaidOut:
    """A layer's weights, laid out.

    Weights that were changed have another version, but for changes by way of `.data`; so some are compared, too.
    """
    if weight.is_inference():  # which have no version
        return tiles.lay_out_as(weight, layout)
    version = layout, weight.data_ptr(), weight._version, weight.shape
    some = weight.flatten()[:: weight.numel() // _COMPARED | 1]  # odd, so that they are not of one column
    kept = _KEPT.get(layer)
    if kept is None or kept[0] != version or not torch.equal(kept[1], some):
        kept = _KEPT[layer] = version, some.clone(), tiles.lay_out_as(weight, layout)
    return kept[2]
