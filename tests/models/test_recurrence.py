"""The recurrence of an LSTM, its derivatives against finite differences and against autograd's."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kshot.errors import KshotError
from kshot.models import native, recurrence
from kshot.models.products import multiplier
from kshot.models.recurrence import _Recurrence, compiled, lstm
from kshot.models.recurrence.compiled import Compiled
from kshot.models.recurrence.written import Written
from toy import needs_native

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


def test_reduced_precision_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "can_take", lambda *tensors: False)
    p, recurrent = (tensor.detach().float() for tensor in inputs([6, 6, 5], size=16))
    exact = lstm(p, recurrent, [6, 6, 5])
    with torch.autocast("cpu", torch.bfloat16):
        rough = lstm(p, recurrent, [6, 6, 5])
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05


def levels(run: Recurrence, tensors: list[Tensor]) -> list[Tensor]:
    """What a recurrence gives, its derivatives, and those of a function of these."""
    hidden = run(*tensors)
    first = torch.autograd.grad(hidden.sin().sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum(each.cos().sum() for each in first), tensors)
    return [hidden.detach(), *(each.detach() for each in first), *second]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [1, 8, 19, 40, 100])  # one panel of a matrix, parts of it, and several
@pytest.mark.parametrize("counts", [*COUNTS, [26] * 4, [41, 40, 23, 9, 8, 1]], ids=str)
def test_in_c_it_is_the_same(counts: list[int], size: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd in float64; texts share the rows of p."""
    needs_native()
    _, recurrent = inputs(counts, size)
    p = torch.randn(7, 4 * size, dtype=torch.float64, requires_grad=True)
    recurrent = (recurrent.detach() / size**0.5).requires_grad_()
    places = torch.randint(0, 7, (sum(counts),))
    theirs = levels(lambda p, u: by_autograd(counts)(p[places], u), [p, recurrent])
    single = [tensor.detach().float().requires_grad_() for tensor in (p, recurrent)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours = levels(lambda p, u: lstm(p, u, counts, places), single)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    monkeypatch.setattr(compiled, "tiles_of", lambda dtype: 0)  # by panels, too, where there are tiles
    for one, other in zip(levels(lambda p, u: lstm(p, u, counts, places), single), theirs, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [1, 19, 40, 100])
@pytest.mark.parametrize("counts", [*COUNTS, [41, 40, 23, 9, 8, 1]], ids=str)
def test_in_c_in_bfloat16_it_is_near(
    counts: list[int], size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_native()
    if not native.kind_of_tiles():
        pytest.skip("This processor does not multiply matrices of bfloat16.")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    p, recurrent = (each.detach().float() for each in inputs(counts, size))
    recurrent = recurrent / size**0.5
    places = torch.arange(sum(counts))
    exact, rough = (
        levels(
            lambda p, u, s=steps: _Recurrence.apply(p, u, s)[0],
            [p.clone().requires_grad_(), recurrent.clone().requires_grad_()],
        )
        for steps in (Compiled(counts, places), Compiled(counts, places, torch.bfloat16))
    )
    for one, other in zip(rough, exact, strict=True):
        assert (one - other).norm() <= 0.03 * other.norm()
    assert len(counts) == 1 or not torch.equal(rough[0], exact[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n_texts", "size"), [(600, 448), (1_300, 192)])
def test_in_c_there_may_be_many_texts(
    n_texts: int, size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than tiles take at a time."""
    needs_native()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    counts = [n_texts, n_texts]
    p, recurrent = torch.randn(sum(counts), 4 * size), torch.randn(4 * size, size) / size**0.5
    places = torch.arange(sum(counts))
    ours, theirs = Compiled(counts, places, dtype), Written(counts, places, multiplier(torch.float32), torch.float32)
    run = theirs.forward(p, recurrent)
    near = 1e-5 if dtype == torch.float32 else 0.03
    assert (ours.forward(p, recurrent).hidden - run.hidden).norm() <= near * run.hidden.norm()
    of_hidden = torch.randn_like(run.hidden)
    wanted = theirs.adjoint(run, recurrent, of_hidden, None, None)
    assert (ours.adjoint(run, recurrent, of_hidden, None, None).hidden - wanted.hidden).norm() <= (
        near * wanted.hidden.norm()
    )


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5).map(lambda lengths: sorted(lengths, reverse=True)),
    st.integers(1, 40),
)
def test_in_c_it_is_that_of_pytorch(counts: list[int], size: int) -> None:
    needs_native()
    tensors = [tensor.detach().float() for tensor in inputs(counts, size)]
    places = torch.randint(0, sum(counts), (sum(counts),))
    ours, theirs = (
        levels(lambda p, u, s=steps: _Recurrence.apply(p, u, s)[0], [each.clone().requires_grad_() for each in tensors])
        for steps in (Compiled(counts, places), Written(counts, places, multiplier(torch.float32), torch.float32))
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-6


@pytest.mark.parametrize(("wanted", "used"), [("p", "p"), ("u", "u"), ("pu", "p"), ("pu", "u"), ("pu", "pu")])
def test_in_c_any_of_the_derivatives_may_be_left_out(wanted: str, used: str) -> None:
    """One of the two tensors needs no gradient, or nothing is made of its gradient; gradients are not contiguous."""
    needs_native()
    results = []
    for run, dtype in ((by_autograd([4, 3, 1]), torch.float64), (lambda p, u: lstm(p, u, [4, 3, 1]), torch.float32)):
        given = {
            name: tensor.detach().to(dtype).requires_grad_(name in wanted)
            for name, tensor in zip("pu", inputs([4, 3, 1]), strict=True)
        }
        tensors = [given[name] for name in wanted]
        hidden = run(given["p"], given["u"])
        outer = hidden.t() @ hidden[:, 0]  # its gradient is turned and expanded
        first = dict(zip(wanted, torch.autograd.grad(outer.sum(), tensors, create_graph=True), strict=True))
        made = torch.stack([first[name].t().sin().sum() for name in used]).sum()
        results.append([*first.values(), *torch.autograd.grad(made, tensors)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("counts", "places", "error"),
    [
        ([3, 2], [0, 1, 2, 3, 5], "A text takes a row of p that is not there"),
        ([3, 2], [0, 1, -1, 3, 4], "A text takes a row of p that is not there"),
        ([2, 3], [0, 1, 2, 3, 4], "never grow"),
        ([3, 3], [0, 1, 2, 3, 4], "must add up to 5"),
    ],
)
def test_in_c_nothing_is_read_outside(counts: list[int], places: list[int], error: str) -> None:
    needs_native()
    with pytest.raises((ValueError, IndexError), match=error):
        lstm(torch.randn(5, 12), torch.randn(12, 3), counts, torch.tensor(places))
    with pytest.raises(ValueError, match=r"are not \(n, 4 h\) and \(4 h, h\)"):
        lstm(torch.randn(5, 8), torch.randn(12, 3), [3, 2])


def test_in_c_places_are_of_any_type_and_device_contexts_do_not_matter() -> None:
    needs_native()
    p, recurrent, places = torch.randn(5, 12), torch.randn(12, 3), torch.tensor([4, 0, 1, 1, 2])
    expected = lstm(p, recurrent, [3, 2], places)
    assert torch.equal(lstm(p, recurrent, [3, 2], places.to(torch.int32)), expected)
    with torch.device("meta"):
        assert torch.equal(lstm(p, recurrent, [3, 2], places), expected)


def test_derivatives_in_c_are_by_the_library_of_their_context(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_native()
    seen: list[str] = []
    multiply = multiplier(torch.float32)

    def watched(a: Tensor, b: Tensor) -> Tensor:
        seen.append("inside")
        return multiply(a, b)

    with monkeypatch.context() as inside:
        inside.setattr(compiled, "multiplier", lambda dtype: watched)
        hidden = lstm(torch.randn(5, 12), torch.randn(12, 3, requires_grad=True), [3, 2])
    hidden.sum().backward()
    assert seen == ["inside"]


def test_what_is_not_a_number_is_not_lost() -> None:
    p, recurrent = (tensor.detach().float() for tensor in inputs([3, 3, 2]))
    p[1, 0] = torch.nan
    lost = lstm(p, recurrent, [3, 3, 2]).isnan().any(dim=1)
    assert lost.tolist() == [False, True, False, False, True, False, False, True]
