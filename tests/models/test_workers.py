"""Pieces of work side by side, and what of PyTorch's state is each thread's or all threads'."""

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import torch

from kshot.models.attention import twice_differentiable
from kshot.models.workers import MOST, Workers


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(("n_threads", "n_pieces", "at_once", "own"), [(4, 9, 4, 1), (4, 2, 2, 2), (1, 5, 1, 1)])
def test_pieces_share_the_threads_out(n_threads: int, n_pieces: int, at_once: int, own: int) -> None:
    torch.set_num_threads(n_threads)
    together = threading.Barrier(at_once, timeout=60)

    def piece(number: int) -> tuple[int, int]:
        if number < at_once:
            together.wait()  # which so many have to reach
        return number, torch.get_num_threads()

    assert list(Workers().map(piece, range(n_pieces))) == [(number, own) for number in range(n_pieces)]
    assert torch.get_num_threads() == n_threads


def test_memory_is_that_of_a_few_pieces() -> None:
    torch.set_num_threads(4 * MOST)
    seen, most, lock = [0], [0], threading.Lock()

    def piece(number: int) -> None:
        with lock:
            seen[0] += 1
            most[0] = max(most[0], seen[0])
        time.sleep(0.01)
        with lock:
            seen[0] -= 1

    list(Workers().map(piece, range(5 * MOST)))
    assert most[0] <= MOST


def test_pieces_see_what_the_caller_sees() -> None:
    name = ContextVar("name", default="another")
    name.set("this")
    with torch.no_grad():
        assert set(Workers().map(lambda _: (name.get(), torch.is_grad_enabled()), range(8))) == {("this", False)}
    assert set(Workers().map(lambda _: torch.is_grad_enabled(), range(8))) == {True}


def test_an_error_in_a_piece_is_the_callers() -> None:
    def piece(number: int) -> int:
        return 1 // (number - 3)

    with pytest.raises(ZeroDivisionError):
        list(Workers().map(piece, range(8)))
    assert torch.get_num_threads() == 4


def test_attention_has_its_plain_form_until_the_last_thread_has_left() -> None:
    usual = torch.backends.cuda.flash_sdp_enabled()
    entered, left = threading.Event(), threading.Event()
    found = []

    def other() -> None:
        with twice_differentiable():
            entered.set()
            left.wait(60)
            found.append(torch.backends.cuda.flash_sdp_enabled())

    with twice_differentiable():
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(60)
    left.set()
    thread.join()
    assert found == [False]
    assert torch.backends.cuda.flash_sdp_enabled() == usual
