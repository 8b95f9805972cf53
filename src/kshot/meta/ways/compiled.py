"""Tasks abreast, the whole of it compiled: forward, the gradients of the inner loop, and those of the outer loss.

`torch.compile` cannot differentiate what it has compiled twice. So the derivatives are written down first, as the graph
of all operations that autograd comes to (`make_fx`), and that graph is compiled: a function of weights and texts that
returns a loss and its gradients. There is one for each shape; texts, and the rows of tokens that they use, are filled
up to sizes that only grow, so that few shapes are met.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from kshot.errors import KshotError, first_line
from kshot.meta.learner import Learner, Pair
from kshot.meta.ways.vmap import OuterLoss, Sizes, Tasks, Vmap

_Work = Callable[[dict[str, Tensor], Tasks], tuple[Tensor, ...]]
"""Parameters and tasks -> the loss and the gradient of each tensor that learns."""


class Compiled(Vmap):
    """Tasks abreast, compiled: a minute or two for each shape, so it pays where many steps follow."""

    title = "in one compiled call of torch.func.vmap"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self._sizes: Sizes = _Growing()
        self._made: dict[object, _Work] = {}

    def why_not(self, episodes: Sequence[Pair]) -> str | None:
        if self.learner.shares_weights:
            return "they share the encoder's weights, and are encoded at once"
        return super().why_not(episodes)

    def _differentiated(
        self, n_labels: int, tasks: Tasks, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """As of `Vmap`, by the function for their shape.

        Raises:
            KshotError: If it cannot be compiled.
        """
        from torch._dynamo.exc import TorchDynamoException  # here, since it takes a second to import

        own = {f"learner.{name}": tensor.detach() for name, tensor in self.learner.named_parameters()}
        shape = n_labels, self.learner.precision, _shapes(tasks)
        if shape not in self._made:
            self._made[shape] = self._traced(n_labels, own, tasks)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # what it gave may be overwritten
        try:
            with torch.no_grad():
                loss, *gradients = self._made[shape](own, _detached(tasks))
        except TorchDynamoException as error:
            reason = first_line(error).rstrip(".:")
            raise KshotError(f'torch.compile does not work here ({reason}); set training.tasks to "vmap".') from error
        if _learns_rows(tasks):  # the last tensor, whose rows were filled up
            gradients[-1] = gradients[-1][: len(tensors[-1])]
        return loss, gradients

    def _traced(self, n_labels: int, own: dict[str, Tensor], tasks: Tasks) -> _Work:
        """The function for a shape; it is compiled when it is called first."""
        from torch.fx.experimental.proxy_tensor import make_fx

        learns = [f"learner.{name}" for name, tensor in self.learner.named_parameters() if tensor.requires_grad]
        network = OuterLoss(self.learner, n_labels)
        of_rows = _learns_rows(tasks)

        def work(own: dict[str, Tensor], tasks: Tasks) -> tuple[Tensor, ...]:
            wanted = [own[name] for name in learns]
            if of_rows:
                assert tasks.table is not None
                wanted.append(tasks.table.values)
            loss = functional_call(network, own, (tasks,))
            return loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)

        leaves = {name: tensor.clone().requires_grad_(name in learns) for name, tensor in own.items()}
        graph = make_fx(work)(leaves, _detached(tasks, requires_grad=of_rows))
        on_gpu = self.learner.device.type == "cuda"  # where a whole step is one graph of kernels, launched at once
        compiled: _Work = torch.compile(graph, dynamic=False, mode="reduce-overhead" if on_gpu else "default")
        return compiled


class _Growing(Sizes):
    """Multiples that are never less than before."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def of(self, what: str, n: int, multiple: int) -> int:
        self._sizes[what] = max(self._sizes.get(what, 0), -(-n // multiple) * multiple)
        return self._sizes[what]


def _learns_rows(tasks: Tasks) -> bool:
    return tasks.table is not None and tasks.table.values.requires_grad


def _detached(tasks: Tasks, *, requires_grad: bool = False) -> Tasks:
    """The same tasks, the rows of the token table without the graph that they came from."""
    if tasks.table is None:
        return tasks
    values = tasks.table.values.detach().requires_grad_(requires_grad)
    return tasks._replace(table=tasks.table._replace(values=values))


def _shapes(tensors: Any) -> Any:
    """The shapes of tensors in tuples."""
    return tuple(tensors.shape) if isinstance(tensors, Tensor) else tensors and tuple(map(_shapes, tensors))
