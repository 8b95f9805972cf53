"""The inner loop: a few gradient steps on the support, themselves differentiable.

    theta        the start that all tasks share          phi_t    the tensors after t steps
    a            the rate, fixed or learned              L_S      the loss on the support

    phi_0 = theta,   phi_{t+1} = phi_t - a * grad L_S(phi_t)      (Finn et al. 2017, arXiv:1703.03400, eq. 1)

The outer gradient goes through every step (order 2), or takes grad L_S as a constant (order 1, section 5.2).
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kshot.meta.state import State
from kshot.settings import Settings


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
        moves: Which tensors of the encoder move besides the head's: `none`, `all`, `layers`, `norm`, `lora`, `top:N`.
        optimiser: `sgd`, or `adam` (order 1 only).
        multi_step: Whether the loss after every step counts in the outer loss, less and less so (MAML++, section 4).
        outer: `gradient` of the query loss, or the `displacement` of the weights (Reptile).
    """

    steps: int = Field(0, ge=0)
    test_steps: int | None = Field(None, ge=0)
    rate: float = 0.1
    head_rate: float | None = Field(None, ge=0)
    rates: Literal["fixed", "step", "element"] = "fixed"
    order: Literal[1, 2] = 2
    batch: int | None = Field(None, ge=1)
    moves: str = "none"
    optimiser: Literal["sgd", "adam"] = "sgd"
    multi_step: bool = False
    outer: Literal["gradient", "displacement"] = "gradient"


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
                    self.rates[_key(name)] = nn.Parameter(torch.full((settings.steps,), self._first_rate(name)))
                case "element":
                    self.rates[_key(name)] = nn.Parameter(torch.full(shape, self._first_rate(name)))
                case "fixed":
                    pass

    def forward(
        self, loss_of: Callable[[State], Tensor], start: State, *, n_steps: int, differentiable: bool
    ) -> list[State]:
        """Takes the steps.

        Args:
            loss_of: The support loss of a State.
            start: phi_0; tensors that do not move are passed through.
            n_steps: How many steps; those beyond `steps` take the rates of the last.
            differentiable: Whether the outer gradient will be asked for.

        Returns:
            phi_0, phi_1, ...: one State more than there are steps; the last alone if not `differentiable`.
        """
        settings = self.settings
        states = [start]
        moments = _Moments() if settings.optimiser == "adam" else None
        for step in range(n_steps):
            state = {name: self._leaf(name, tensor, differentiable) for name, tensor in states[-1].items()}
            names = [name for name in state if name in self.moving]
            with torch.enable_grad():
                gradients = torch.autograd.grad(
                    loss_of(state),
                    [state[name] for name in names],
                    create_graph=differentiable and settings.order == 2,
                    allow_unused=True,
                )
                moved = {
                    name: state[name]
                    - self._rate(name, step, state) * (gradient if moments is None else moments.step(name, gradient))
                    for name, gradient in zip(names, gradients, strict=True)
                    if gradient is not None  # a tensor that the loss does not touch stays
                }
            following = {**state, **moved}
            if not differentiable:  # only the newest State is of use, and none needs a graph
                states = [{name: tensor.detach() for name, tensor in following.items()}]
            else:
                states.append(following)
        return states

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

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
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
