"""The inner loop: a few gradient steps on the support, themselves differentiable.

    theta        the start that all tasks share          phi_t    the tensors after t steps
    a            the rate, fixed or learned              L_S      the loss on the support

    phi_0 = theta,   phi_{t+1} = phi_t - a * grad L_S(phi_t)      (Finn et al. 2017, arXiv:1703.03400, eq. 1)

The outer gradient goes through every step (order 2), or takes grad L_S as a constant (order 1, section 5.2).
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.state import State
from kshot.settings import Settings

Loss = Callable[[State, int], Tensor]
"""The loss of a State at a step, by its number."""


class InnerSettings(Settings):
    """Settings of an inner loop.

    Attributes:
        steps: Gradient steps on the support; 0 for none.
        test_steps: Steps when a finished learner adapts; None for `steps`.
        rate: The step size, or its start where rates are learned.
        head_rate: The step size of the head's tensors; None for the same.
        rates: `fixed`; `step`, one learned rate for each tensor and step (MAML++); `element`, one for each element of
            each tensor (Meta-SGD).
        order: 2 to differentiate through the steps, 1 to take their gradients as constants.
        batch: How many texts of the support a step looks at, in turn; None for all. Of use where the encoder moves,
            since each step encodes its texts anew.
        moves: Which tensors of the encoder move besides the head's: `none`, `all`, `layers`, `norm`, `lora`, `decoder`,
            `top:N`.
        optimiser: `sgd`, or `adam` (order 1 only).
        multi_step: Whether the loss after every step counts in the outer loss, less and less so (MAML++, section 4).
        outer: `gradient` of the query loss, or the `displacement` of the weights (Reptile).
        hold_out: The share of the support's texts that a finished learner keeps aside while it adapts, to take the
            State of the step that suits them best; 0 for none, and then the State of the last step.
        look_every: Steps between two looks at them.
        patience: Looks without a better one after which adapting ends.
        dropout: Whether the encoder drops out while a finished learner adapts, as it did in training: of use where it
            moves for many steps. What is dropped depends on the number of the step alone.
    """

    steps: int = Field(0, ge=0)
    test_steps: int | None = Field(None, ge=0)
    rate: float = Field(0.1, ge=0)
    head_rate: float | None = Field(None, ge=0)
    rates: Literal["fixed", "step", "element"] = "fixed"
    order: Literal[1, 2] = 2
    batch: int | None = Field(None, ge=1)
    moves: str = "none"
    optimiser: Literal["sgd", "adam"] = "sgd"
    multi_step: bool = False
    outer: Literal["gradient", "displacement"] = "gradient"
    hold_out: float = Field(0.0, ge=0, lt=1)
    look_every: int = Field(10, ge=1)
    patience: int = Field(3, ge=1)
    dropout: bool = False


class InnerLoop(nn.Module):
    """Moves tensors down the support loss.

    Args:
        settings: How.
        shapes: For each tensor that may move the shape of its learned rate.
    """

    def __init__(self, settings: InnerSettings, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.settings = settings
        self.rates = nn.ParameterDict()
        self.moving = frozenset(shapes)
        for name, shape in shapes.items():
            match settings.rates:
                case "step":
                    n_rates = max(1, settings.steps)  # one for the finished learner, if it alone takes steps
                    self.rates[_key(name)] = nn.Parameter(torch.full((n_rates,), self._first_rate(name)))
                case "element":
                    self.rates[_key(name)] = nn.Parameter(torch.full(shape, self._first_rate(name)))
                case "fixed":
                    pass

    def forward(self, loss_of: Loss, start: State, *, n_steps: int, differentiable: bool) -> list[State]:
        """Takes the steps.

        Args:
            loss_of: The support loss of a State, and of the number of the step.
            start: phi_0; tensors that do not move are passed through.
            n_steps: How many steps; those beyond `steps` take the rates of the last.
            differentiable: Whether the outer gradient will be asked for.

        Returns:
            phi_0, phi_1, ...: one State more than there are steps; the last alone if not `differentiable`.
        """
        if not differentiable:  # only the newest State is of use
            return [_last(self.descend(loss_of, start, n_steps))]
        if self._in_place and not self.settings.multi_step and n_steps:
            end = _last(self.descend(loss_of, start, n_steps))
            # The steps are constants to the outer gradient (order 1), which goes from phi_k straight to phi_0.
            ways = {name: start[name] + (end[name].detach() - start[name].detach()) for name in self.moving & set(end)}
            return [start, {**start, **ways}]
        states = [start]
        moments = _Moments() if self.settings.optimiser == "adam" else None
        for step in range(n_steps):
            states.append(self._step(loss_of, states[-1], step, moments, differentiable=True))
        return states

    def descend(self, loss_of: Loss, start: State, n_steps: int) -> Iterator[State]:
        """Gives phi_0, phi_1, ... one after the other, without a graph; a State may be overwritten by the next.

        Args:
            loss_of: As in `forward`.
            start: phi_0; it is left as it is.
            n_steps: How many steps.
        """
        if self._in_place:
            yield from self._descend_in_place(loss_of, start, n_steps)
            return
        moments = _Moments() if self.settings.optimiser == "adam" else None
        state = {name: tensor.detach() for name, tensor in start.items()}
        yield state
        for step in range(n_steps):
            following = self._step(loss_of, state, step, moments, differentiable=False)
            state = {name: tensor.detach() for name, tensor in following.items()}
            yield state

    @property
    def _in_place(self) -> bool:
        """Whether the steps need no graph of their own, and PyTorch's optimiser can take them."""
        return self.settings.optimiser == "adam" and self.settings.rates == "fixed"

    def _descend_in_place(self, loss_of: Loss, start: State, n_steps: int) -> Iterator[State]:
        """The same by PyTorch's fused Adam, whose steps cost a tenth where millions of weights move."""
        state = {
            name: (
                tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
                if name in self.moving
                else tensor.detach()
            )
            for name, tensor in start.items()
        }
        names = [name for name in state if name in self.moving]
        leaves = [state[name] for name in names]
        rates = {name: self._first_rate(name) for name in names}  # tensors of one rate take one call
        groups = [
            {"params": [state[name] for name in names if rates[name] == rate], "lr": rate}
            for rate in dict.fromkeys(rates.values())
        ]
        optimiser = torch.optim.Adam(groups, betas=_Moments.BETAS, eps=_Moments.EPSILON, fused=True)
        yield state
        for step in range(n_steps):
            with torch.enable_grad():
                gradients = torch.autograd.grad(loss_of(state, step), leaves, allow_unused=True)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                # The fused step reads memory as if it lay like the leaf's, and past the end of an expanded gradient.
                leaf.grad = None if gradient is None else gradient.contiguous()
            optimiser.step()
            yield state

    def _step(
        self, loss_of: Loss, before: State, step: int, moments: "_Moments | None", *, differentiable: bool
    ) -> State:
        """phi_t+1 of phi_t."""
        state = {name: self._leaf(name, tensor, differentiable) for name, tensor in before.items()}
        names = [name for name in state if name in self.moving]
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                loss_of(state, step),
                [state[name] for name in names],
                create_graph=differentiable and self.settings.order == 2,
                allow_unused=True,
            )
            moved = {
                name: state[name]
                - self._rate(name, step, state) * (gradient if moments is None else moments.step(name, gradient))
                for name, gradient in zip(names, gradients, strict=True)
                if gradient is not None  # a tensor that the loss does not touch stays
            }
        return {**state, **moved}

    def _leaf(self, name: str, tensor: Tensor, differentiable: bool) -> Tensor:
        """The tensor as the support loss is to see it: one that moves is a variable of its own.

        Even where it is a constant, or depends on another that moves, as prototypes depend on the encoder.
        """
        if name not in self.moving:
            return tensor
        return tensor.view_as(tensor) if differentiable and tensor.requires_grad else tensor.detach().requires_grad_()

    def _first_rate(self, name: str) -> float:
        """The set rate of a tensor, which is where a learned one starts."""
        of_head = self.settings.head_rate
        return of_head if of_head is not None and name.startswith("head.") else self.settings.rate

    def _rate(self, name: str, step: int, state: State) -> Tensor | float:
        if self.settings.rates == "fixed":
            return self._first_rate(name)
        rates: Tensor = self.rates[_key(name)]
        if self.settings.rates == "step":
            return rates[min(step, len(rates) - 1)]
        rows = state.get(f"{name}.ids")  # of a tensor of which only some rows are here
        return rates if rows is None else rates[rows]


def _last(states: Iterator[State]) -> State:
    return deque(states, maxlen=1).pop()


def step_weights(n_steps: int, progress: float) -> list[float]:
    """The weights of the losses after each step in the outer loss (Antoniou et al. 2019, arXiv:1810.09502, section 4).

    All the same at first, the last step alone from the middle of the training on.

    Args:
        n_steps: The number of inner steps, at least 1.
        progress: How much of the training is done, 0 to 1.
    """
    early = (1 - min(1.0, 2 * progress)) / n_steps
    return [early] * (n_steps - 1) + [1 - early * (n_steps - 1)]


class _Moments:
    """Adam's moments (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), the step size aside."""

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def __init__(self) -> None:
        (self.beta1, self.beta2), self.epsilon = self.BETAS, self.EPSILON
        self.moments: dict[str, tuple[Tensor, Tensor, int]] = {}

    def step(self, name: str, gradient: Tensor) -> Tensor:
        g = gradient.detach()
        first, second, t = self.moments.get(name, (torch.zeros_like(g), torch.zeros_like(g), 0))
        first = self.beta1 * first + (1 - self.beta1) * g
        second = self.beta2 * second + (1 - self.beta2) * g * g
        self.moments[name] = (first, second, t + 1)
        unbiased = second / (1 - self.beta2 ** (t + 1))
        return first / (1 - self.beta1 ** (t + 1)) / (unbiased.sqrt() + self.epsilon)


def _key(name: str) -> str:
    """A tensor's name as a ParameterDict takes it."""
    return name.replace(".", "/")
