"""Products of matrices against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from kshot.models.linear import Linear, has_onednn, linear, packed


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


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [1, 3, 1_024, 1_500])
def test_packed_weights_give_the_same_products(precision: torch.dtype, n_rows: int) -> None:
    layer, x = Linear(33, 17), torch.randn(n_rows, 33)
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        plain = layer(x)
        with packed(torch.nn.Sequential(layer), precision):
            ready = layer(x)
    assert ready.dtype == plain.dtype == precision
    torch.testing.assert_close(ready, plain)


def test_packed_weights_are_those_of_their_context() -> None:
    layer, x = Linear(33, 17), torch.randn(5, 33)
    with torch.no_grad():
        with packed(layer, torch.float32):
            before = layer(x)
            given = torch.func.functional_call(layer, {"weight": torch.zeros(17, 33)}, x)
        torch.testing.assert_close(given, layer.bias.expand(5, 17))  # other tensors are used where they are given
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)


def test_nothing_is_packed_where_gradients_are_wanted() -> None:
    layer, x = Linear(33, 17), torch.randn(5, 33)
    with packed(layer, torch.float32):
        layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_this_pytorch_has_onednn() -> None:
    """PyTorch does not promise the operator: where it has gone, products are slower and no other test says so."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        assert has_onednn()
