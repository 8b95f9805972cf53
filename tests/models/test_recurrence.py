"""The recurrence of an LSTM, its derivatives against finite differences and against autograd's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kshot.errors import KshotError
from kshot.models.recurrence import lstm

COUNTS = [[3, 3, 3], [4, 3, 1, 1], [1, 1], [5]]
Recurrence = Callable[[Tensor, Tensor], Tensor]


def inputs(counts: list[int], size: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(sum(counts))
    p = torch.randn(sum(counts), 4 * size, dtype=torch.float64, requires_grad=True)
    return p, torch.randn(4 * size, size, dtype=torch.float64, requires_grad=True)


def by_autograd(counts: list[int]) -> Recurrence:
    """The same recurrence in elementary operations."""

    def run(p: Tensor, recurrent: Tensor) -> Tensor:
        states = []
        hidden = cell = p.new_zeros(counts[0], recurrent.shape[1])
        for part in p.split(counts):
            hidden, cell = hidden[: len(part)], cell[: len(part)]
            i, f, g, o = (part + hidden @ recurrent.t()).chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.cat(states)

    return run


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_both_derivatives_are_those_of_finite_differences(counts: list[int]) -> None:
    run: Recurrence = lambda p, recurrent: lstm(p, recurrent, counts)  # noqa: E731
    assert torch.autograd.gradcheck(run, inputs(counts))
    assert torch.autograd.gradgradcheck(run, inputs(counts))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_both_derivatives_are_autograds(counts: list[int]) -> None:
    results = []
    for run in (lambda p, recurrent: lstm(p, recurrent, counts), by_autograd(counts)):
        tensors = inputs(counts)
        hidden = run(*tensors)
        first = torch.autograd.grad(hidden.sin().sum(), tensors, create_graph=True)
        second = torch.autograd.grad(sum(each.cos().sum() for each in first), tensors)
        results.append((hidden, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_linear_loss_has_a_second_derivative_too() -> None:
    """Then nothing but the second derivative itself reaches the hidden states in the second backward pass."""
    counts, way = [2, 2, 1], torch.randn(5, 3, dtype=torch.float64)
    results = []
    for run in (lambda p, recurrent: lstm(p, recurrent, counts), by_autograd(counts)):
        tensors = inputs(counts)
        first = torch.autograd.grad((run(*tensors) * way).sum(), tensors, create_graph=True)
        results.append(torch.autograd.grad(sum(each.sin().sum() for each in first), tensors))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_third_derivative_is_refused() -> None:
    p, recurrent = inputs([2, 2])
    [first] = torch.autograd.grad(lstm(p, recurrent, [2, 2]).sin().sum(), p, create_graph=True)
    [second] = torch.autograd.grad(first.sin().sum(), p, create_graph=True)
    with pytest.raises(KshotError) as caught:
        torch.autograd.grad(second.sum(), p)
    assert str(caught.value) == 'An LSTM can be differentiated twice, not three times, unless kernels is "plain".'


def test_reduced_precision_is_near() -> None:
    p, recurrent = (tensor.detach().float() for tensor in inputs([6, 6, 5], size=16))
    exact = lstm(p, recurrent, [6, 6, 5])
    with torch.autocast("cpu", torch.bfloat16):
        rough = lstm(p, recurrent, [6, 6, 5])
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05
