"""The maximum over windows by its winners, against the convolution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kshot.models.encoder import pad
from kshot.models.products import kernels
from kshot.models.winners import Values, Winners
from toy import needs_native, scratch

TEXTS = [
    "the lamp is on",
    "song",
    "please book a table for my guests now",
    "rain rain rain rain",
    "the the lamp the the lamp",
]


def three_levels(choice: str, *, training: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """A CNN's vectors, their gradients, and the gradients of a function of these."""
    network = scratch("cnn", widths=(1, 2, 3, 4), dropout=0.3 if training else 0.0).to(dtype).train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, dtype=torch.float64))
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    tensors = list(network.parameters())
    torch.manual_seed(2)  # dropout
    with kernels(choice):  # type: ignore[arg-type]
        vectors = network.pooled(ids, mask)
        first = torch.autograd.grad(vectors.sin().sum(), tensors, create_graph=True)
        second = torch.autograd.grad(sum(each.sin().sum() for each in first), tensors)
    return [vectors, *first, *second]


@pytest.mark.parametrize("training", [False, True])
def test_vectors_and_both_derivatives_are_the_convolutions(training: bool) -> None:
    fast, plain = (three_levels(choice, training=training) for choice in ("fast", "plain"))
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
def test_in_c_they_are_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_native()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours = three_levels("fast", training=False, dtype=torch.float32)
    for one, other in zip(ours, three_levels("plain", training=False), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_in_c_neither_the_default_precision_nor_the_default_device_matters() -> None:
    needs_native()
    network = scratch("cnn", dropout=0.0)
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    tensors = list(network.parameters())
    expected = network.pooled(ids, mask)
    gradients = torch.autograd.grad(expected.sin().sum(), tensors)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            vectors = network.pooled(ids, mask)
            found = torch.autograd.grad(vectors.sin().sum(), tensors)
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip((vectors, *found), (expected, *gradients), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_c_nothing_is_read_outside() -> None:
    needs_native()
    for number in (6, 2**31 + 1):
        with pytest.raises(IndexError, match=f"A token has the number {number}, and there are 6 vectors"):
            Winners.found(torch.randn(6, 15), torch.tensor([[0, number]]), (2, 3))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_without_texts_or_tokens_sums_are_zero(shape: tuple[int, int]) -> None:
    needs_native()
    winners, sums = Winners.found(torch.randn(6, 15), torch.zeros(shape, dtype=torch.int64), (2, 3))
    columns, vectors, g = torch.randn(15, 5), torch.randn(6, 5), torch.randn(shape[0], 6)
    assert torch.equal(sums, torch.zeros(shape[0], 6))
    assert torch.equal(winners.values(columns, vectors), torch.zeros(shape[0], 6))
    assert torch.equal(winners.columns(g, vectors), torch.zeros(15, 5))
    assert torch.equal(winners.rows(g, columns), torch.zeros(6, 5))


def test_a_text_without_tokens_has_nothing_but_the_bias() -> None:
    network = scratch("cnn")
    with torch.no_grad():
        for layer in network.convolutions:
            layer.bias.uniform_(-1, 1)
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    mask[1] = False
    biases = torch.cat([layer.bias for layer in network.convolutions])
    torch.testing.assert_close(network.pooled(ids, mask)[1], biases.relu())


def test_what_is_not_a_number_is_not_lost() -> None:
    network = scratch("cnn")
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    with torch.no_grad():
        network.embedding.weight[ids[0, 1]] = torch.nan
    lost = network.pooled(ids, mask).isnan().any(dim=1)
    assert lost.tolist() == [bool((each == ids[0, 1]).any()) for each in ids]


def random_winners(d: int = 5) -> tuple[Winners, Tensor, Tensor, Tensor]:
    """Winners, and what can be multiplied at them: of windows of 2 and 3 tokens, three filters each."""
    tokens = torch.randint(-1, 6, (4, 7))
    winners, _ = Winners.found(torch.randn(6, 15), tokens, (2, 3))
    return winners, torch.randn(4, 6), torch.randn(15, d), torch.randn(6, d)


@given(st.integers(1, 40))
def test_each_of_the_three_sums_is_the_derivative_of_the_others(d: int) -> None:
    needs_native()
    winners, g, columns, vectors = random_winners(d)
    with_g = (g.double() * winners.values(columns, vectors).double()).sum()
    assert (columns.double() * winners.columns(g, vectors).double()).sum() == pytest.approx(
        with_g.item(), rel=1e-4, abs=1e-3
    )
    assert (vectors.double() * winners.rows(g, columns).double()).sum() == pytest.approx(
        with_g.item(), rel=1e-4, abs=1e-3
    )


def test_third_derivatives_exist_too() -> None:
    needs_native()
    winners, _, columns, vectors = random_winners()
    wanted = []
    for values in (lambda w, e: Values.apply(winners, w, e, None), lambda w, e: by_hand(winners, w, e)):
        w, e = columns.clone().requires_grad_(), vectors.clone().requires_grad_()
        made = [values(w, e).sin().sum()]
        for _ in range(3):
            made.append(sum(each.cos().sum() for each in torch.autograd.grad(made[-1], (w, e), create_graph=True)))
        wanted.append(torch.stack(made).detach())
    torch.testing.assert_close(wanted[0], wanted[1], rtol=1e-4, atol=1e-4)


def by_hand(winners: Winners, columns: Tensor, vectors: Tensor) -> Tensor:
    """values(w, e), one product after the other."""
    m, rows = winners.n_filters, []
    for text, tokens in enumerate(winners.tokens.tolist()):
        first, row = 0, []
        for number, width in enumerate(winners.widths.tolist()):
            for f in range(m):
                start = int(winners.places[text, number * m + f]) - (width - 1) // 2
                there = [(k, start + k) for k in range(width) if 0 <= start + k < len(tokens)]
                parts = [columns[(first + k) * m + f] @ vectors[tokens[p]] for k, p in there if tokens[p] >= 0]
                row.append(torch.stack(parts).sum() if parts else columns.sum() * 0)
            first += width
        rows.append(torch.stack(row))
    return torch.stack(rows)


def test_where_no_window_is_above_zero_the_maximum_is_zero() -> None:
    network = scratch("cnn").double()
    with torch.no_grad():
        for layer in network.convolutions:
            layer.bias.fill_(-100.0)
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    assert torch.equal(network.pooled(ids, mask), torch.zeros(len(TEXTS), network.dim, dtype=torch.float64))
