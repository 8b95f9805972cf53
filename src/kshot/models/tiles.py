"""Products of float32 matrices by the units of a processor for tiles of bytes: `kshot/models/native/tiles.h`.

Such units (AMX of Intel's Xeon since 2023) multiply some thirty times as many bytes in a cycle as a vector unit does
numbers of float32. A product in float32 is eight of theirs, between the digits of the numbers, and still faster by
far; its error is that of numbers with 24 bits below the largest of their vector. The mathematics and its sources are in
`kshot/models/native/digits.h`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kshot.models import native

PANELS = 0
"""How matrices are laid out for products without tiles; see `kshot/models/native/panels.h`."""

_KINDS = {torch.bfloat16: 1, torch.float32: 3}  # HALVES and DIGITS of `tiles.h`


def kind_of(dtype: torch.dtype) -> int:
    """What tiles hold for products in a precision; 0 if this processor has no such tiles."""
    wanted = _KINDS.get(dtype, 0)
    return wanted if wanted <= native.kind_of_tiles() else 0


@dataclass(frozen=True)
class LaidOut:
    """A second factor, as products need it.

    Attributes:
        kind: Of the tiles, see `kind_of`; or `PANELS`.
        shape: (m, k).
        content: Its bytes.
    """

    kind: int
    shape: tuple[int, int]
    content: Tensor


def lay_out(b: Tensor, dtype: torch.dtype) -> LaidOut:
    """Lays out (m, k), float32, in a CPU's memory, in tiles for many products in a precision."""
    return lay_out_as(b, _checked(dtype))


def lay_out_as(b: Tensor, kind: int) -> LaidOut:
    """The same in tiles of a kind, or in `PANELS`."""
    m, k = b.shape
    b, *strides = _strided(b)
    content = torch.empty(native.call("kshot_tiles_size", kind, m, k, threads=1), dtype=torch.int8, device="cpu")
    native.call("kshot_tiles_lay_out", kind, m, k, *strides, b, content, threads=torch.get_num_threads())
    return LaidOut(kind, (m, k), content)


def multiply(a: Tensor, b: Tensor | LaidOut, bias: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns a b' + bias without a graph.

    Args:
        a: (n, k), float32, in a CPU's memory, as all are.
        b: (m, k); if laid out, then in tiles.
        bias: (m,).
        dtype: The precision of the product, unless b is laid out for one.

    Returns:
        (n, m), float32.
    """
    (n, k), (m, own) = a.shape, b.shape
    if k != own:
        raise ValueError(f"Matrices of {k} and of {own} columns cannot be multiplied.")
    if not a.numel() or not m:
        return a.new_zeros(n, m) if bias is None else bias.expand(n, m).clone()
    a, *strides = _strided(a)
    c = a.new_empty(n, m)
    if isinstance(b, LaidOut):
        given: tuple[int | Tensor | None, ...] = b.kind, n, k, m, *strides, 0, 0, a, None, b.content
    else:
        b, *others = _strided(b)
        given = _checked(dtype), n, k, m, *strides, *others, a, b, None
    bias = None if bias is None else bias.contiguous()
    if native.call("kshot_tiles_multiply", *given, bias, c, threads=torch.get_num_threads()):
        raise MemoryError(f"There is no memory for the product of matrices of {n} x {k} and {m} x {k}.")
    return c


def _checked(dtype: torch.dtype) -> int:
    kind = kind_of(dtype)
    if not kind:
        raise ValueError(f"There are no tiles here for products in {dtype}.")
    return kind


def _strided(x: Tensor) -> tuple[Tensor, int, int]:
    """A matrix whose rows or columns lie without gaps, how far apart they are, and whether they are columns."""
    n, k = x.shape
    if x.stride(1) == 1 or k == 1:
        return x, x.stride(0), 0
    if x.stride(0) == 1 or n == 1:
        return x, x.stride(1), 1
    return x.contiguous(), k, 0
