"""Products of matrices for the last dimension of tensors, and rows that are filled up.

oneDNN compiles a kernel for each shape that it meets, in one or two milliseconds, which is as long as ten products of
some hundreds of rows take. The rows are the tokens of a call, and hardly two calls have as many; so they are filled up
with zeros to one of a few numbers, and kernels are used again.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

_TILE = 16  # rows that the matrix units of processors take at once


def by_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Makes a product of matrices, (n, k) -> (n, m), one of (..., k) -> (..., m)."""
    made = product(x.reshape(-1, x.shape[-1]))
    return made.view(*x.shape[:-1], made.shape[-1])


def by_filled_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The same, the rows filled up."""
    rows = x.reshape(-1, x.shape[-1])
    made = product(_with_zeros(rows, filled(len(rows)), rows.shape[1]))
    return made[: len(rows)].view(*x.shape[:-1], made.shape[-1])


def filled(n_rows: int) -> int:
    """The number of rows that so many are filled up to: one of eight between two powers of two, and a multiple of 16.

    At most an eighth more, from 128 rows on.
    """
    step = max(_TILE, 1 << max(0, (n_rows - 1).bit_length() - 4))
    return -(-n_rows // step) * step


def filled_up(x: Tensor, n: int, k: int) -> Tensor:
    """A matrix with zeros after its rows and columns, laid out in memory as it was: (n_0, k_0) -> (n, k)."""
    if not x.is_contiguous() and x.t().is_contiguous():
        return _with_zeros(x.t(), k, n).t()
    return _with_zeros(x, n, k)


def _with_zeros(x: Tensor, n: int, k: int) -> Tensor:
    missing = n - x.shape[0], k - x.shape[1]
    return F.pad(x, (0, missing[1], 0, missing[0])) if any(missing) else x
