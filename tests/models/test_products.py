"""Products by each library, against the default one and float64."""

import copy
from collections.abc import Iterator
from ctypes import CDLL
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kshot.models import kernels as choice_of_kernels
from kshot.models import libraries, products, tiles
from kshot.models.kernels import Kernels, chosen_library, explain, written_out
from kshot.models.libraries import Name
from kshot.models.native import Library
from kshot.models.packed import packed
from kshot.models.products import Linear, kernels, linear, linear_layers, multiplier
from kshot.models.rows import filled, filled_up

needs_onednn = pytest.mark.skipif(not libraries.has_onednn(), reason="this build of PyTorch has no oneDNN")
needs_tiles = pytest.mark.skipif(not libraries.has_tiles(), reason="this processor has no units for tiles")
each_library = pytest.mark.parametrize(
    "library", [pytest.param("onednn", marks=needs_onednn), pytest.param("tiles", marks=needs_tiles)]
)
CPU = torch.device("cpu")


def take(library: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are to be made by a library where kernels are "fast"."""
    monkeypatch.setattr(libraries, "available", lambda: [library, "default"])


@each_library
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(25, 256, 600), (600, 256, 25), (2, 3, 4), (130, 300, 140)])
def test_product_of_any_layout(
    shape: tuple[int, int, int], turned: tuple[bool, bool], library: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(library, monkeypatch)
    n, k, m = shape
    a, b = (
        torch.randn(k, rows).t() if flipped else torch.randn(rows, k)
        for rows, flipped in zip((n, m), turned, strict=True)
    )
    with kernels("fast"):
        product = multiplier(torch.float32)(a, b)
    exact = a.double() @ b.double().t()
    assert (product - exact).abs().max() < 1e-5 * exact.abs().max()


def twice(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """A layer's output, its gradients, and the gradients of a function of these."""
    tensors = [x, *layer.parameters()]
    y = layer(x)
    first = torch.autograd.grad(y.sin().sum(), tensors, create_graph=True)
    torch.stack([each.cos().sum() for each in first]).sum().backward()
    return [y, *first, *(tensor.grad for tensor in tensors if tensor.grad is not None)]


def nodes(last: Any) -> list[Any]:
    """The nodes of the graph from the last one on."""
    return [] if last is None else [last, *(node for before, _ in last.next_functions for node in nodes(before))]


@each_library
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("foreign", [True, False])
def test_linear_layer_and_both_its_derivatives(
    bias: bool, foreign: bool, library: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(library, monkeypatch)
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
        assert any("_Linear" in str(node) for node in nodes(layer(x).grad_fn))
    for fast, plain in zip(results["fast"], results["plain"], strict=True):
        assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()


@pytest.fixture
def measured_anew() -> Iterator[None]:
    """Nothing that is remembered of measurements from before, or after."""
    measurements = libraries.fastest, libraries.advantage
    for each in measurements:
        each.cache_clear()
    yield
    for each in measurements:
        each.cache_clear()


@pytest.mark.usefixtures("measured_anew")
@pytest.mark.parametrize(
    ("tiles_are_there", "advantage", "chosen", "said"),
    [
        (True, 2.2, "tiles", "the processor's matrix unit multiplies float32 matrices: there is one"),
        (
            False,
            2.2,
            "onednn",
            "oneDNN multiplies float32 matrices: oneDNN is 2.2 times as fast as the default here",
        ),
        (
            False,
            1.1,
            "default",
            "PyTorch's default library multiplies float32 matrices: oneDNN is 1.1 times as fast as the default here",
        ),
    ],
)
def test_the_processor_and_a_measurement_decide_and_say_so(
    tiles_are_there: bool, advantage: float, chosen: Name, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(libraries, "advantage", lambda: advantage)
        patched.setattr(libraries, "has_tiles", lambda: tiles_are_there)
        patched.setattr(libraries, "has_onednn", lambda: True)
        patched.setattr(choice_of_kernels, "library", lambda: Library(None, "there is none"))
        assert explain("auto", CPU) == (
            "Encoders work with derivatives that are written out (LSTMs, CNNs and frozen BERTs not in C: there is "
            f"none); {said} (kernels: auto)."
        )
        with kernels("auto"):
            assert chosen_library() == chosen


def test_a_user_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "available", lambda: ["onednn", "default"])
    monkeypatch.setattr(choice_of_kernels, "library", lambda: Library(CDLL(None), "gcc"))
    monkeypatch.setattr(choice_of_kernels, "has_wide_vectors", lambda: True)
    assert explain("plain", CPU) == "Encoders work by autograd and PyTorch's default library (kernels: plain)."
    assert explain("fast", CPU) == (
        "Encoders work with derivatives that are written out, LSTMs, CNNs and frozen BERTs in C (by gcc); "
        "oneDNN multiplies float32 matrices: as told (kernels: fast)."
    )
    with kernels("plain"):
        assert not written_out()
        assert chosen_library() == "default"
        with kernels("fast"):
            assert chosen_library() == "onednn"
        assert not written_out()
    monkeypatch.setattr(libraries, "available", lambda: ["default"])
    assert explain("auto", CPU) == (
        "Encoders work with derivatives that are written out, LSTMs, CNNs and frozen BERTs in C (by gcc) "
        "(kernels: auto)."
    )
    monkeypatch.setattr(choice_of_kernels, "has_wide_vectors", lambda: False)
    assert explain("auto", CPU) == (
        "Encoders work with derivatives that are written out, LSTMs and CNNs in C (by gcc) (kernels: auto)."
    )
    assert explain("auto", torch.device("cuda")) == (
        "Encoders work with derivatives that are written out (kernels: auto)."
    )
    with kernels("fast"):
        assert chosen_library() == "default"


@needs_onednn
def test_the_measurement_is_of_both_libraries() -> None:
    assert libraries.advantage() > 0
    assert libraries.fastest() in libraries.available()


@needs_onednn
@pytest.mark.usefixtures("measured_anew")
def test_the_measurement_is_of_the_same_precision_whatever_surrounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    product = F.linear

    def watched(*factors: Any) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return product(*factors)

    monkeypatch.setattr(F, "linear", watched)
    with torch.autocast("cpu", torch.bfloat16):
        libraries.advantage()
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_pytorchs_own(shape: tuple[int, ...], bias: bool) -> None:
    x, weight = torch.randn(*shape, 33), torch.randn(17, 33)
    b = torch.randn(17) if bias else None
    with torch.no_grad(), kernels("fast"):
        torch.testing.assert_close(linear(x, weight, b), F.linear(x, weight, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_pytorchs(dtype: torch.dtype) -> None:
    x, weight = torch.randn(5, 33, dtype=dtype), torch.randn(17, 33, dtype=dtype)
    with kernels("fast"):
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))


def test_autocast_decides_the_precision() -> None:
    layer = Linear(33, 17)
    with torch.no_grad(), kernels("fast"), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 33)).dtype == torch.bfloat16


@each_library
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [0, 1, 3, 1_024, 1_500])
def test_packed_weights_give_the_same_products(
    precision: torch.dtype, n_rows: int, library: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(library, monkeypatch)
    layer, x = Linear(33, 17), torch.randn(n_rows, 33)
    autocast = torch.autocast("cpu", precision, enabled=precision != torch.float32)
    with torch.no_grad(), kernels("fast"), autocast:
        plain = layer(x)
        with packed(linear_layers(layer), precision):
            ready = layer(x)
    assert ready.dtype == plain.dtype == precision
    torch.testing.assert_close(ready, plain)


@each_library
def test_packed_weights_are_those_of_their_context(library: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    take(library, monkeypatch)
    layer, x = Linear(330, 170), torch.randn(50, 330)
    with torch.no_grad(), kernels("fast"):
        with packed(linear_layers(layer), torch.float32):
            before = layer(x)
            given = torch.func.functional_call(layer, {"weight": torch.zeros(170, 330)}, x)
            layer.weight.mul_(2)
            torch.testing.assert_close(layer(x), before)  # they were laid out before they changed
        torch.testing.assert_close(given, layer.bias.expand(50, 170))  # other tensors are used where they are given
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)


@each_library
def test_a_bias_of_another_kind_is_pytorchs(library: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    take(library, monkeypatch)
    x, weight, one = torch.randn(120, 330), torch.randn(170, 330), torch.randn(1)
    with kernels("fast"):
        torch.testing.assert_close(linear(x, weight, one), F.linear(x, weight, one))
        for refused in (torch.randn(3), torch.randn(170, dtype=torch.float64), torch.randn(170).bfloat16()):
            with pytest.raises(RuntimeError):
                F.linear(x, weight, refused)
            with pytest.raises(RuntimeError):
                linear(x, weight, refused)


@needs_tiles
def test_weights_made_in_inference_mode_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    take("tiles", monkeypatch)
    with torch.inference_mode(), kernels("fast"):
        layer, x = Linear(330, 170), torch.randn(50, 330)
        with packed(linear_layers(layer), torch.float32):
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-4)


@needs_tiles
def test_tiles_are_kept_until_weights_change(monkeypatch: pytest.MonkeyPatch) -> None:
    take("tiles", monkeypatch)
    seen: list[tuple[int, ...]] = []
    lay_out = tiles.lay_out_as

    def watched(weight: Tensor, layout: int) -> tiles.LaidOut:
        seen.append(tuple(weight.shape))
        return lay_out(weight, layout)

    monkeypatch.setattr(tiles, "lay_out_as", watched)
    layer, x = Linear(330, 170), torch.randn(50, 330)

    def check(n_laid_out: int) -> None:
        with torch.no_grad(), kernels("fast"), packed(linear_layers(layer), torch.float32, many=False):
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-4)
        assert len(seen) == n_laid_out

    check(1)
    check(1)
    with torch.no_grad():
        layer.bias.add_(1)
        check(1)
        layer.weight.mul_(2)
    check(2)
    layer.weight.data.mul_(2)  # which PyTorch does not count
    check(3)
    layer.load_state_dict(Linear(330, 170).state_dict())
    check(4)
    layer.weight = nn.Parameter(torch.randn(170, 330))
    check(5)
    layer = copy.deepcopy(layer)
    check(6)
    check(6)


def test_nothing_is_packed_where_gradients_are_wanted() -> None:
    layer, x = Linear(33, 17), torch.randn(5, 33)
    with kernels("fast"), packed(linear_layers(layer), torch.float32):
        layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_this_pytorch_has_onednn() -> None:
    """PyTorch does not promise the operator: where it has gone, products are slower and no other test says so."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        assert libraries.has_onednn()


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 100, 129, 1_000, 4_097])
def test_rows_are_filled_up_by_an_eighth_at_most(n_rows: int) -> None:
    assert n_rows <= filled(n_rows) <= max(n_rows + 15, 1.125 * n_rows)
    assert filled(n_rows) % 16 == 0
    assert filled(filled(n_rows)) == filled(n_rows)


def test_few_numbers_of_rows_are_left() -> None:
    assert len({filled(n_rows) for n_rows in range(1, 4_097)}) <= 48


@needs_onednn
@pytest.mark.parametrize("foreign", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 7), (2, 3, 50), (16,), (0,)])
def test_filled_up_products_of_bfloat16_are_pytorchs(shape: tuple[int, ...], bias: bool, foreign: bool) -> None:
    """As are their first and second derivatives."""
    torch.manual_seed(0)
    layer = (nn.Linear if foreign else Linear)(40, 24, bias=bias)
    x = torch.randn(*shape, 40)
    results: dict[Kernels, list[Tensor]] = {}
    for choice in ("plain", "auto"):
        layer.zero_grad()
        with kernels(choice, foreign=foreign), torch.autocast("cpu", torch.bfloat16):
            results[choice] = [each.detach().clone() for each in twice(layer, x.clone().requires_grad_())]
    for ours, plain in zip(results["auto"], results["plain"], strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=0.02, atol=0.02)


@needs_onednn
def test_kernels_are_compiled_for_filled_up_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    product = F.linear

    def watched(rows: Tensor, *others: Any) -> Tensor:
        seen.append(len(rows))
        return product(rows, *others)

    monkeypatch.setattr(F, "linear", watched)
    layer = Linear(40, 24)
    with torch.no_grad(), kernels("auto"), torch.autocast("cpu", torch.bfloat16):
        for n_rows in range(130, 140):
            assert len(layer(torch.randn(n_rows, 40))) == n_rows
    assert set(seen) == {144}


@needs_onednn
@pytest.mark.parametrize("shape", [(25, 60, 30), (3, 40, 160), (128, 33, 40)])
def test_a_product_without_a_graph_in_bfloat16(shape: tuple[int, int, int]) -> None:
    n, k, m = shape
    a, b = torch.randn(n, k), torch.randn(m, k).bfloat16()
    with kernels("auto"):
        product = multiplier(torch.bfloat16)(a, b)
    assert product.dtype == torch.float32
    torch.testing.assert_close(product, (a.bfloat16() @ b.t()).float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("turned", [False, True])
def test_rows_and_columns_of_bfloat16_are_filled_up_as_they_lie(turned: bool) -> None:
    a, b = torch.randn(21, 37), torch.randn(13, 37)
    one, other = (each.t().contiguous().t() if turned else each for each in (a, b.bfloat16()))
    made = products._multiply_by_default(torch.bfloat16, one, other)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, a.bfloat16().float() @ b.bfloat16().float().t(), rtol=2e-2, atol=2e-2)
    x = filled_up(one.bfloat16(), 32, 48)
    assert x.shape == (32, 48)
    assert x.t().is_contiguous() == turned
    assert x[21:].abs().sum() == x[:, 37:].abs().sum() == 0
