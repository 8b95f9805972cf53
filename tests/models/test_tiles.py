"""Products by tiles, against float64 and against what digits can say."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kshot.models import tiles
from kshot.models.tiles import kind_of, lay_out, multiply

PRECISIONS = [
    pytest.param(dtype, marks=pytest.mark.skipif(not kind_of(dtype), reason="this processor has no such tiles"))
    for dtype in (torch.bfloat16, torch.float32)
]
precisions = pytest.mark.parametrize("dtype", PRECISIONS)
needs_digits = pytest.mark.skipif(not kind_of(torch.float32), reason="this processor has no units for tiles")


def matrix(n: int, k: int, lies: str, generator: torch.Generator) -> Tensor:
    """Rows, columns, rows with gaps, columns with gaps, or neither."""
    match lies:
        case "rows":
            return torch.randn(n, k, generator=generator)
        case "columns":
            return torch.randn(k, n, generator=generator).t()
        case "part of rows":
            return torch.randn(n + 2, k + 5, generator=generator)[1:-1, 3:-2]
        case "part of columns":
            return torch.randn(k + 5, n + 2, generator=generator).t()[1:-1, 3:-2]
        case _:
            return torch.randn(n, 2 * k, generator=generator)[:, ::2]


def exact(a: Tensor, b: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    product = a.to(dtype).double() @ b.to(dtype).double().t()
    return product if bias is None else product + bias


LIES = st.sampled_from(["rows", "columns", "part of rows", "part of columns", "neither"])


@precisions
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 600), st.integers(1, 150)),
    LIES,
    LIES,
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_any_shape_and_layout(
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    a_lies: str,
    b_lies: str,
    with_bias: bool,
    is_laid_out: bool,
    seed: int,
) -> None:
    (n, k, m), generator = shape, torch.Generator().manual_seed(seed)
    a, b = matrix(n, k, a_lies, generator), matrix(m, k, b_lies, generator)
    bias = torch.randn(m, generator=generator) if with_bias else None
    made = multiply(a, lay_out(b, dtype), bias) if is_laid_out else multiply(a, b, bias, dtype)
    assert made.shape == (n, m)
    assert made.dtype == torch.float32
    scale = a.double().norm(dim=1, keepdim=True) * b.double().norm(dim=1)
    assert ((made - exact(a, b, bias, dtype)).abs() <= 4e-6 * scale + 1e-6).all()


@precisions
@pytest.mark.parametrize("shape", [(1_100, 40, 40), (2_100, 300, 33), (40, 40, 1_100), (33, 700, 200)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_rows_columns_and_threads(
    shape: tuple[int, int, int], threads: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, k, m = shape
    a, b = torch.randn(n, k), torch.randn(m, k)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for other in (b, lay_out(b, dtype)):
        torch.testing.assert_close(
            multiply(a, other, dtype=dtype), exact(a, b, None, dtype).float(), rtol=1e-5, atol=1e-4
        )


@needs_digits
def test_digits_are_as_exact_as_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    for k in (64, 256, 384, 1_000):
        a, b = torch.randn(200, k, generator=generator), torch.randn(150, k, generator=generator)
        wanted = a.double() @ b.double().t()
        ours, default = ((made - wanted).norm() for made in (multiply(a, b), a @ b.t()))
        assert ours < 2 * default
        assert ours < 1e-6 * wanted.norm()


@needs_digits
@pytest.mark.parametrize(("size", "other"), [(3e21, 3e21), (1e-18, 1e-18), (1e30, 1e-3), (1e-25, 1e25)])
def test_what_can_be_said_neither_overflows_nor_vanishes(size: float, other: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = size * torch.randn(40, 100, generator=generator), other * torch.randn(50, 100, generator=generator)
    if size == other > 1:  # large numbers that never meet
        a[:, ::2], b[:, 1::2] = 0, 0
    scale = a.double().norm(dim=1, keepdim=True) * b.double().norm(dim=1)
    assert ((multiply(a, b) - a.double() @ b.double().t()).abs() <= 1e-6 * scale).all()


def one_large(x: Tensor, size: float) -> Tensor:
    """A matrix with one large element in each row, at different places."""
    return x.scatter(1, (torch.arange(len(x)) * 7 % x.shape[1]).unsqueeze(1), size)


def kinds_of_matrices(k: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(k)
    gauss = torch.randn(90, k, generator=generator)
    columns = torch.where(torch.arange(k) % 50 == 0, 300.0, 1.0)
    return {
        "normal": gauss,
        "uniform": torch.rand(90, k, generator=generator),
        "heavy tails": gauss / torch.randn(90, k, generator=generator),
        "large columns": gauss * columns,
        "one large": one_large(gauss, 300.0),
        "one, and a constant": one_large(torch.full_like(gauss, 1 / 100), 1.0),
        "one, and what has large last digits": one_large(torch.full_like(gauss, -32_896 / 8_355_708), 1.0),
        "one-hot less probabilities": one_large(torch.zeros_like(gauss), 1.0) - (3 * gauss).softmax(dim=1),
        "normed one-hot": F.layer_norm(one_large(torch.zeros_like(gauss), 1.0), (k,)),
        "smoothed labels": one_large(torch.full_like(gauss, 0.1 / k), 0.9),
    }


@needs_digits
@pytest.mark.parametrize("k", [16, 64, 256, 768, 1_024])
def test_the_error_of_any_kind_of_matrices(k: int) -> None:
    """In 2^-24 of the norms: that of a BLAS in float32 reaches 130 in some of these."""
    matrices = kinds_of_matrices(k)
    for a in matrices.values():
        for b in (a, a.flip(0), matrices["normal"]):
            scale = a.double().norm(dim=1, keepdim=True) * b.double().norm(dim=1)
            error = (multiply(a, b) - a.double() @ b.double().t()).abs() / scale
            assert error.max() <= 8 * 2**-24


@needs_digits
@pytest.mark.parametrize("power", [-30, -20, -10, 0, 10, 20, 30])
def test_rows_of_any_size_keep_their_digits(power: int) -> None:
    """Each vector has a step of its own."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 100, generator=generator), torch.randn(50, 100, generator=generator)
    scales = 10.0 ** (power * torch.arange(40) / 40)
    wanted = a.double() @ b.double().t()
    made = multiply(a * scales.unsqueeze(1), b).double() / scales.double().unsqueeze(1)
    assert (made - wanted).abs().max() < 3e-6 * wanted.abs().max()


@needs_digits
def test_the_largest_numbers_of_both_signs() -> None:
    """No digit is beyond its byte."""
    for k in (1, 63, 64, 65, 256, 257):
        for size in (1.0, 3.3333333, 7.7e30, 1e-30):
            signs = torch.ones(40, k)
            signs[::2, ::2] = -1
            a = signs * size
            wanted = a.double() @ signs.double().t()
            assert (multiply(a, signs) - wanted).abs().max() <= 2e-6 * k * size


@needs_digits
def test_whole_numbers_of_few_digits_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (40, 200), generator=generator).float() for _ in range(2))
    a[:, 0] = b[:, 0] = 8_355_708 / 65_536  # whose step is 2^-16
    wanted = a.double() @ b.double().t()
    torch.testing.assert_close(multiply(a, b).double(), wanted, rtol=1e-6, atol=0.05)


@precisions
def test_zeros(dtype: torch.dtype) -> None:
    a, b, bias = torch.randn(20, 70), torch.randn(40, 70), torch.randn(40)
    a[3], b[7], a[:, 60:] = 0, 0, 0
    made = multiply(a, b, bias, dtype)
    assert torch.equal(made[3], bias)
    assert torch.equal(made[:, 7], bias[7].expand(20))
    assert torch.equal(multiply(torch.zeros(5, 70), b, dtype=dtype), torch.zeros(5, 40))


@precisions
@pytest.mark.parametrize("shape", [(0, 5, 3), (3, 5, 0), (3, 0, 4)])
def test_nothing(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, k, m = shape
    bias = torch.randn(m)
    assert torch.equal(multiply(torch.randn(n, k), torch.randn(m, k), bias, dtype), bias.expand(n, m))
    assert multiply(torch.randn(n, k), torch.randn(m, k), dtype=dtype).shape == (n, m)


@precisions
@pytest.mark.parametrize("what", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_lost(what: float, dtype: torch.dtype) -> None:
    a, b = torch.randn(40, 300), torch.randn(50, 300)
    a[5, 270] = what
    b[9, 3] = what
    lost = ~multiply(a, b, dtype=dtype).isfinite()
    assert lost[5].all()
    assert lost[:, 9].all()
    assert lost.sum() == 40 + 50 - 1


@precisions
def test_a_row_may_be_expanded(dtype: torch.dtype) -> None:
    row, b = torch.randn(70), torch.randn(40, 70)
    made = multiply(row.expand(20, 70), b, dtype=dtype)
    torch.testing.assert_close(made, exact(row.expand(20, 70), b, None, dtype).float(), rtol=1e-5, atol=1e-4)
    made = multiply(b, row.unsqueeze(1).expand(70, 20).t(), dtype=dtype)
    torch.testing.assert_close(made, exact(b, row.expand(20, 70), None, dtype).float(), rtol=1e-5, atol=1e-4)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"There are no tiles here for products in torch\.float64"):
        lay_out(torch.randn(3, 4), torch.float64)
    with pytest.raises(ValueError, match="Matrices of 4 and of 5 columns cannot be multiplied"):
        multiply(torch.randn(3, 4), torch.randn(3, 5))


def test_without_functions_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles.native, "kind_of_tiles", lambda: 0)
    assert kind_of(torch.float32) == kind_of(torch.bfloat16) == 0
    monkeypatch.setattr(
        tiles.native, "kind_of_tiles", lambda: 1
    )  # a processor that has bfloat16, and no units for tiles
    assert (kind_of(torch.float32), kind_of(torch.bfloat16)) == (0, 1)
