"""The layers of a BERT in one call, against the same layers one after the other in float64."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kshot.models import bert_in_c, native
from kshot.models.bert import Bert, BertConfig, Layer, Layers
from kshot.models.bert_in_c import InOneCall
from kshot.models.encoder import Encoder, encode
from kshot.models.kernels import layout_in_c
from kshot.models.packed import packed
from kshot.models.products import kernels, linear_layers
from kshot.models.tiles import PANELS, kind_of
from toy import bert, corpus

HALVES, DIGITS = 1, 3  # kinds of tiles
LAYOUTS = [
    pytest.param(PANELS, 5e-6, marks=pytest.mark.skipif(not native.library().functions, reason="no C compiler")),
    pytest.param(HALVES, 5e-2, marks=pytest.mark.skipif(not kind_of(torch.bfloat16), reason="no tiles of bfloat16")),
    pytest.param(DIGITS, 5e-6, marks=pytest.mark.skipif(not kind_of(torch.float32), reason="no unit for tiles")),
]
layouts = pytest.mark.parametrize(("layout", "error"), LAYOUTS)
in_c = pytest.mark.skipif(layout_in_c(torch.float32) is None, reason="BERTs do not run in C here")


def layers_of(heads: int, size: int, inner: int, seed: int) -> Layers:
    """Two, with random weights, those of the norms as well."""
    shape = BertConfig(
        model_type="bert",
        vocab_size=50,
        hidden_size=heads * size,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=512,
    )
    layers, generator = Layers(shape).eval(), torch.Generator().manual_seed(seed)
    for tensor in layers.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** (0.5 * (tensor.dim() - 1))
    return layers


@contextmanager
def laid_out(layers: nn.Module, layout: int | None) -> Iterator[None]:
    with (
        patch("kshot.models.packed.layout_in_c", lambda dtype: layout),
        torch.no_grad(),
        packed(linear_layers(layers), torch.float32),
    ):
        yield


def check(layers: Layers, lengths: list[int], layout: int, error: float, threads: int = 1) -> None:
    """The error is one of all vectors together, part of their norm."""
    x = torch.randn(sum(lengths), layers.layer[0].output.LayerNorm.weight.numel(), generator=torch.manual_seed(1))
    before = x.clone()
    with laid_out(layers, layout), patch.object(torch, "get_num_threads", lambda: threads):
        one_call = InOneCall.of([*layers.layer])  # type: ignore[arg-type]
        assert one_call is not None
        assert one_call.layout == layout
        made = one_call(x, torch.tensor(lengths))
    assert torch.equal(x, before)
    exact = deepcopy(layers).double()
    with torch.no_grad():
        wanted = torch.cat([exact(text.double().unsqueeze(0), None)[0] for text in x.split(lengths)])
    assert (made - wanted).norm() < error * wanted.norm()


@layouts
@given(
    st.tuples(st.integers(1, 5), st.integers(8, 40), st.integers(1, 90)),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(0, 2**31),
)
def test_any_shape(layout: int, error: float, shape: tuple[int, int, int], lengths: list[int], seed: int) -> None:
    check(layers_of(*shape, seed), lengths, layout, error)


@layouts
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("lengths", [[300, 2, 161, 1], [12] * 60, [1], [3, 500]])
def test_long_texts_and_threads(layout: int, error: float, lengths: list[int], threads: int) -> None:
    check(layers_of(3, 32, 384, seed=1), lengths, layout, error, threads)


@pytest.mark.skipif(not native.library().functions, reason="no C compiler")
def test_attention_that_is_sure() -> None:
    """Scores that float32 has no exponentials for."""
    layers = layers_of(2, 8, 16, seed=1)
    for layer in layers.layer:
        layer.attention["self"].query.weight.data *= 300
    check(layers, [7, 3], PANELS, 1e-4)


@layouts
@pytest.mark.parametrize("what", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_with_its_text(layout: int, error: float, what: float) -> None:
    layers = layers_of(2, 16, 40, seed=1)
    x = torch.randn(9, 32)
    with laid_out(layers, layout):
        one_call = InOneCall.of([*layers.layer])  # type: ignore[arg-type]
        assert one_call is not None
        alone = one_call(x[5:], torch.tensor([4]))
        x[2, 7] = what
        together = one_call(x, torch.tensor([5, 4]))
    assert not together[:5].isfinite().any()
    torch.testing.assert_close(together[5:], alone)


@in_c
@pytest.mark.parametrize("padded", [True, False])
def test_a_bert_that_is_ready_runs_in_one_call(tiny_bert: Path, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert(tiny_bert).model
    assert isinstance(model, Bert)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4:] = mask[2, 1:] = not padded
    ids = torch.randint(5, 50, (3, 9), generator=torch.manual_seed(1))
    with torch.no_grad():
        wanted = model(ids, mask)[mask]
        with packed(linear_layers(model), torch.float32):
            monkeypatch.setattr(Layer, "forward", None)  # not called
            found = model(ids, mask if padded else None)
    torch.testing.assert_close(found[mask], wanted, rtol=1e-4, atol=1e-5)
    assert found.shape == (3, 9, 12)
    assert not found[~mask].any()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions in C that were called for a BERT."""
    found: list[str] = []

    def call(name: str, *arguments: Any, threads: int) -> int:
        found.append(name)
        return native.call(name, *arguments, threads=threads)

    monkeypatch.setattr(bert_in_c, "native", type("Native", (), {"call": staticmethod(call)}))
    return found


def encoded(encoder: Encoder, **options: Any) -> Tensor:
    return encode(encoder, encoder.vocabulary.encode(corpus()[:6]), **options)


@in_c
def test_vectors_that_are_not_differentiated_are_made_in_one_call(tiny_bert: Path, calls: list[str]) -> None:
    encoder = bert(tiny_bert)
    with torch.no_grad():
        fast = encoded(encoder)
        assert calls == ["kshot_bert_layers"]
        with kernels("plain"):
            plain = encoded(encoder)
    assert calls == ["kshot_bert_layers"]
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


@in_c
def test_weights_that_change_are_seen(tiny_bert: Path, calls: list[str]) -> None:
    encoder = bert(tiny_bert)
    with torch.no_grad():
        before = encoded(encoder)
        encoder.model.encoder.layer[1].output.dense.weight *= 2
        encoder.model.encoder.layer[1].output.LayerNorm.bias += 1
        after = encoded(encoder)
        with kernels("plain"):
            plain = encoded(encoder)
    assert len(calls) == 2
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, plain, rtol=1e-4, atol=1e-5)


@in_c
@pytest.mark.parametrize("why", ["gradients", "dropout", "LoRA", "weights", "double", "precision"])
def test_what_needs_the_layers_one_by_one(why: str, tiny_bert: Path, calls: list[str]) -> None:
    encoder = bert(tiny_bert, lora_rank=2 if why == "LoRA" else 0)
    options: dict[str, Any] = {}
    if why == "dropout":
        encoder.train()
    if why == "double":
        encoder.double()
    if why == "weights":
        name = "model.encoder.layer.0.output.dense.weight"
        options["weights"] = {name: encoder.get_parameter(name).detach().clone()}
    if why == "precision":
        options["precision"] = torch.float16
    with torch.set_grad_enabled(why == "gradients"):
        assert encoded(encoder, **options).isfinite().all()
    assert calls == []


def test_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert_in_c, "native", type("Native", (), {"call": staticmethod(lambda *_, threads: 1)}))
    with pytest.raises(MemoryError, match="There is no memory for the layers of 3 tokens"):
        InOneCall(PANELS, (1, 1, 1), [], torch.zeros(1))(torch.zeros(3, 4), torch.tensor([3]))


@pytest.mark.parametrize("kind", [0, HALVES])
def test_without_a_unit_for_tiles(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels, if vectors are long enough; bfloat16 is left to PyTorch."""
    monkeypatch.setattr("kshot.models.tiles.native.kind_of_tiles", lambda: kind)
    for wide, layout in ((True, PANELS), (False, None)):
        monkeypatch.setattr("kshot.models.kernels.has_wide_vectors", lambda wide=wide: wide)
        assert layout_in_c(torch.float32) == layout
        assert layout_in_c(torch.bfloat16) is None
        with kernels("plain"):
            assert layout_in_c(torch.float32) is None


def test_the_tensors_of_a_layer_are_all_that_it_has() -> None:
    layer = layers_of(1, 8, 9, seed=1).layer[0]
    linear, norms = layer.parts()
    assert {id(each) for module in (*linear, *norms) for each in module.parameters()} == {
        id(each) for each in layer.parameters()
    }
