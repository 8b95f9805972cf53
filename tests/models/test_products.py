"""Products by oneDNN, against the default library and float64."""

import pytest
import torch
from torch import Tensor, nn

from kshot.models import products
from kshot.models.products import Kernels, Linear, explain, kernels, multiplier

needs_onednn = pytest.mark.skipif(not products._has_onednn(), reason="this build of PyTorch has no oneDNN")
CPU = torch.device("cpu")


@needs_onednn
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(25, 256, 600), (600, 256, 25), (2, 3, 4)])
def test_product_of_any_layout(shape: tuple[int, int, int], turned: tuple[bool, bool]) -> None:
    n, k, m = shape
    a, b = (
        torch.randn(k, rows).t() if flipped else torch.randn(rows, k)
        for rows, flipped in zip((n, m), turned, strict=True)
    )
    with kernels("fast"):
        product = multiplier()(a, b)
    exact = a.double() @ b.double().t()
    assert (product - exact).abs().max() < 1e-5 * exact.abs().max()


def twice(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """A layer's output, its gradients, and the gradients of a function of these."""
    tensors = [x, *layer.parameters()]
    y = layer(x)
    first = torch.autograd.grad(y.sin().sum(), tensors, create_graph=True)
    torch.stack([each.cos().sum() for each in first]).sum().backward()
    return [y, *first, *(tensor.grad for tensor in tensors if tensor.grad is not None)]


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("foreign", [True, False])
def test_linear_layer_and_both_its_derivatives(bias: bool, foreign: bool) -> None:
    torch.manual_seed(0)
    layer = (nn.Linear if foreign else Linear)(96, 128, bias=bias)
    x = torch.randn(5, 20, 96)
    results: dict[Kernels, list[Tensor]] = {}
    for choice in ("plain", "fast"):
        layer.zero_grad()
        with kernels(choice, foreign=foreign):
            results[choice] = twice(layer, x.clone().requires_grad_())
        results[choice] = [each.detach().clone() for each in results[choice]]
    with kernels("fast", foreign=foreign):
        assert "_Linear" in str(layer(x).grad_fn.next_functions)
    for fast, plain in zip(results["fast"], results["plain"], strict=True):
        assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()


@pytest.mark.parametrize(("advantage", "chosen"), [(2.2, "oneDNN"), (1.1, "PyTorch's default library")])
def test_the_measurement_decides_and_says_so(advantage: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_advantage", lambda: advantage)
    monkeypatch.setattr(products, "_has_onednn", lambda: True)
    assert explain("auto", CPU) == (
        f"Encoders work with derivatives that are written out; {chosen} multiplies float32 matrices: "
        f"oneDNN is {advantage} times as fast as the default here (kernels: auto)."
    )
    with kernels("auto"):
        assert (multiplier() is products._multiply) == (chosen == "oneDNN")


def test_a_user_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_onednn", lambda: True)
    assert explain("plain", CPU) == "Encoders work by autograd and PyTorch's default library (kernels: plain)."
    assert explain("fast", CPU) == (
        "Encoders work with derivatives that are written out; "
        "oneDNN multiplies float32 matrices: as told (kernels: fast)."
    )
    with kernels("plain"):
        assert not products.written_out()
        assert multiplier() is products._default_multiply
        with kernels("fast"):
            assert multiplier() is products._multiply
        assert not products.written_out()
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    assert explain("auto", CPU) == "Encoders work with derivatives that are written out (kernels: auto)."
    with kernels("fast"):
        assert multiplier() is products._default_multiply


def test_the_measurement_is_of_both_libraries() -> None:
    if products._has_onednn():
        assert products._advantage() > 0
