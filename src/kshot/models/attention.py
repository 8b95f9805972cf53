"""The form of attention that can be differentiated twice."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel


class _PlainForm:
    """Whether attention takes its plain form. PyTorch has one form for all threads, so this counts who wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._before = ExitStack()

    def want(self) -> None:
        with self._lock:
            if not self._wanted:
                self._before.enter_context(sdpa_kernel([SDPBackend.MATH]))
            self._wanted += 1

    def leave(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                self._before.close()


_PLAIN = _PlainForm()


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """A context in which attention takes the form that can be differentiated twice.

    The fused kernels have no second derivative (`derivative for ..._backward is not implemented`). As long as one
    thread is in such a context, attention has that form in all of them.
    """
    _PLAIN.want()
    try:
        yield
    finally:
        _PLAIN.leave()
