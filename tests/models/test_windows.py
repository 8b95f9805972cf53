"""The maximum over windows by its winners, against the convolution."""

import pytest
import torch
from torch import Tensor

from kshot.models.encoder import pad
from kshot.models.products import kernels
from toy import scratch

TEXTS = [
    "the lamp is on",
    "song",
    "please book a table for my guests now",
    "rain rain rain rain",
    "the the lamp the the lamp",
]


def three_levels(choice: str, *, training: bool) -> list[Tensor]:
    """A CNN's vectors, their gradients, and the gradients of a function of these."""
    network = scratch("cnn", widths=(1, 2, 3, 4), dropout=0.3 if training else 0.0).double().train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.3 * torch.randn_like(tensor))
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


def test_where_no_window_is_above_zero_the_maximum_is_zero() -> None:
    network = scratch("cnn").double()
    with torch.no_grad():
        for layer in network.convolutions:
            layer.bias.fill_(-100.0)
    ids, mask = pad(network.vocabulary.encode(TEXTS), network.vocabulary.pad_id)
    assert torch.equal(network.pooled(ids, mask), torch.zeros(len(TEXTS), network.dim, dtype=torch.float64))
