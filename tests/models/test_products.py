"""Products of matrices against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from kshot.models.products import Linear, has_onednn, linear


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_pytorchs_own(shape: tuple[int, ...], bias: bool) -> None:
    x, weight = torch.randn(*shape, 33), torch.randn(17, 33)
    b = torch.randn(17) if bias else None
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, b), F.linear(x, weight, b), rtol=1e-5, atol=1e-5)


def test_what_is_not_contiguous_is_read_rightly() -> None:
    x, weight = torch.randn(4, 9, 33).transpose(0, 1), torch.randn(33, 17).T
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, None), F.linear(x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_pytorchs(dtype: torch.dtype) -> None:
    x, weight = torch.randn(5, 33, dtype=dtype), torch.randn(17, 33, dtype=dtype)
    assert torch.equal(linear(x, weight, None), F.linear(x, weight))


def test_autocast_decides_the_precision() -> None:
    layer = Linear(33, 17)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 33)).dtype == torch.bfloat16


def test_what_learns_has_both_derivatives() -> None:
    layer, x = Linear(4, 3).double(), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)
    single = Linear(4, 3)
    single(torch.randn(5, 4)).sum().backward()
    assert single.weight.grad is not None


def test_this_pytorch_has_onednn() -> None:
    """PyTorch does not promise the operator: where it has gone, products are slower and no other test says so."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        assert has_onednn()
