"""Adapting in the right number of steps, found by pairs that are held out."""

import math
from typing import Any

import pytest
import torch

from contract import learner, snapshot, translator
from kshot.meta.learner import Learner
from kshot.meta.portions import hold_out
from kshot.meta.state import State
from kshot.tasks.base import Batch
from toy import episode, pair, scratch, seq2seq, translation_episode

N_STEPS = 8


def make(algorithm: str, **inner: Any) -> Learner:
    settings = {"test_steps": N_STEPS, "batch": 3, "look_every": 1, "patience": 100, "hold_out": 0.3, **inner}
    return translator(algorithm, seq2seq().double(), inner=settings).double()


def support_of(made: Learner, shot: int = 8) -> Batch:
    return pair(made, translation_episode(shot=shot))[0]


def classifier(algorithm: str, *, class_names: bool = True, **inner: Any) -> Learner:
    settings = {"steps": 1, "test_steps": N_STEPS, "look_every": 1, "patience": 100, "hold_out": 0.3, **inner}
    return learner(algorithm, scratch("cnn").double(), class_names=class_names, inner=settings).double()


def states(algorithm: str, support: Batch, **inner: Any) -> list[State]:
    """What as many steps make of the pairs that are learned from, each number of steps by itself."""
    learned_from, _ = hold_out(support, 0.3, open=True)
    return [
        make(algorithm, **inner, hold_out=0.0, test_steps=n_steps).adapt(learned_from) for n_steps in range(N_STEPS + 1)
    ]


def losses(made: Learner, found: list[State], support: Batch) -> list[float]:
    _, held_out = hold_out(support, 0.3, open=made.task.open)
    with torch.no_grad():
        return [float(made._loss(state, held_out)) for state in found]


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(state: State, expected: State) -> None:
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ("algorithm", "rate", "best"),
    [
        ("first-order-maml", 0.003, "last"),  # by PyTorch's Adam, in place
        ("first-order-maml", 0.1, "between"),
        ("first-order-maml", 5.0, "first"),
        ("maml", 0.1, "last"),  # step by step
        ("meta-sgd", 3.0, "between"),
        ("anil", 0.1, "between"),
    ],
)
def test_the_state_whose_loss_is_lowest(algorithm: str, rate: float, best: str) -> None:
    made = make(algorithm, rate=rate)
    support = support_of(made)
    found = states(algorithm, support, rate=rate)
    of_each = losses(made, found, support)
    lowest = of_each.index(min(of_each))
    assert {0: "first", N_STEPS: "last"}.get(lowest, "between") == best, of_each
    assert same(made.adapt(support), found[lowest])


def test_a_network_that_does_not_move() -> None:
    made = make("anil", moves="none", rate=0.1)
    support = support_of(made)
    found = states("anil", support, moves="none", rate=0.1)
    of_each = losses(made, found, support)
    lowest = of_each.index(min(of_each))
    assert lowest > 0
    close(made.adapt(support), found[lowest])


@pytest.mark.parametrize(
    ("algorithm", "rate", "seed", "best"),
    [
        ("anil", 0.5, 0, 8),
        ("maml", 0.5, 0, 4),
        ("protomaml", 0.02, 3, 7),
        ("decomposed", 0.05, 2, 3),
        ("fine-tuning", 0.01, 3, 2),
    ],
)
def test_classes_are_stopped_in_time_too(algorithm: str, rate: float, seed: int, best: int) -> None:
    """Also where a head looks at vectors that others keep, and where it is fitted anew after each step."""
    made = classifier(algorithm, rate=rate)
    support = pair(made, episode(shots=(5, 4, 5), seed=seed))[0]
    learned_from, _ = hold_out(support, 0.3)
    found = [
        classifier(algorithm, rate=rate, hold_out=0.0, test_steps=n_steps).adapt(learned_from)
        for n_steps in range(N_STEPS + 1)
    ]
    of_each = losses(made, found, support)
    assert of_each.index(min(of_each)) == best
    close(made.adapt(support), found[best])


@pytest.mark.parametrize(("look_every", "looked"), [(2, [0, 2, 4, 6, 8]), (3, [0, 3, 6, 8]), (20, [0, 8])])
def test_looks_are_as_far_apart_as_is_said_and_the_last_is_at_the_end(look_every: int, looked: list[int]) -> None:
    made = make("first-order-maml", rate=0.1, look_every=look_every)
    support = support_of(made)
    found = states("first-order-maml", support, rate=0.1)
    of_each = losses(made, found, support)
    best = min(looked, key=lambda step: of_each[step])
    assert same(made.adapt(support), found[best])


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_patience(patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("first-order-maml", rate=0.2, patience=patience)
    support = support_of(made)
    of_each = losses(made, states("first-order-maml", support, rate=0.2), support)
    expected, lowest, waited = 0, math.inf, 0
    for loss in of_each:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(loss, lowest)
        if waited == patience:
            break
        expected += 1
    n_steps = 0
    of_support = made._support_loss

    def counting(*arguments: Any) -> torch.Tensor:
        nonlocal n_steps
        n_steps += 1
        return of_support(*arguments)

    monkeypatch.setattr(made, "_support_loss", counting)
    made.adapt(support)
    assert n_steps == min(expected, N_STEPS)
    assert patience == 4 or n_steps < N_STEPS


@pytest.mark.parametrize("algorithm", ["first-order-maml", "maml", "reptile", "fine-tuning", "anil"])
def test_the_learner_and_its_gradients_stay(algorithm: str) -> None:
    made = make(algorithm)
    before = snapshot(made)
    gradients = {name: torch.randn_like(tensor) for name, tensor in made.named_parameters()}
    for name, tensor in made.named_parameters():
        tensor.grad = gradients[name].clone()
    state = made.adapt(support_of(made))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None
        assert torch.equal(tensor.grad, gradients[name])
        assert tensor.requires_grad
    assert not any(tensor.requires_grad for tensor in state.values())
    own = {tensor.data_ptr() for tensor in made.parameters()}
    assert not own & {tensor.data_ptr() for tensor in state.values()}


def test_nothing_is_held_out_of_one_pair_or_for_no_steps() -> None:
    made = make("first-order-maml")
    one = support_of(made, shot=1)
    assert same(made.adapt(one), make("first-order-maml", hold_out=0.0).adapt(one))
    start = make("first-order-maml", test_steps=0).adapt(support_of(made))
    for name, tensor in made.encoder.named_parameters():
        if name != made.encoder.token_table:
            assert torch.equal(start[f"encoder.{name}"], tensor)


def test_no_class_loses_its_only_text() -> None:
    made, whole = (classifier("protomaml", class_names=False, rate=0.01, hold_out=share) for share in (0.2, 0.0))
    support = pair(made, episode(shots=(1, 1, 1)))[0]
    assert same(made.adapt(support), whole.adapt(support))
    assert bool((made.adapt(support)["head.label.weight"].norm(dim=-1) > 0.1).all())


def test_training_learns_from_all_of_the_support() -> None:
    held, whole = make("first-order-maml"), make("first-order-maml", hold_out=0.0)
    drawn = pair(held, translation_episode())
    assert torch.equal(held([drawn]), whole([drawn]))


def test_dropout_while_adapting() -> None:
    """What is dropped depends on the step alone; the learner and the global generator are left as they were."""
    makings = {"rate": 0.1, "hold_out": 0.0, "test_steps": 3}
    settings = {"batch": 3, **makings}

    def dropping(on: bool) -> Learner:
        network = seq2seq(dropout=0.3).double()
        return translator("first-order-maml", network, inner={**settings, "dropout": on}).double()

    made = dropping(True)
    support = support_of(made)
    before = torch.random.get_rng_state()
    state = made.adapt(support)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in made.modules())
    torch.manual_seed(5)
    assert same(made.adapt(support), state)
    plain = dropping(False).adapt(support)
    assert state.keys() == plain.keys()
    assert not same(state, plain)


@pytest.mark.parametrize("hold_out", [0.0, 0.3])
def test_neighbours_of_the_vectors_that_steps_end_with(hold_out: float) -> None:
    """A datastore lets the output layer score while the encoder moves, and keeps the vectors of the last step."""
    settings = {"rate": 0.01, "optimiser": "adam", "order": 1, "batch": 3, "moves": "all", "hold_out": 0.0}
    settings |= {"test_steps": 4}
    by_steps = translator("fine-tuning", seq2seq().double(), inner=settings).double()
    settings["hold_out"] = hold_out
    made = translator("nearest-neighbour", seq2seq().double(), inner=settings).double()
    support = support_of(made)
    state = made.adapt(support)
    if not hold_out:
        moved = by_steps.adapt(support)
        for name in (name for name in moved if name.startswith("encoder.")):
            torch.testing.assert_close(state[name], moved[name], rtol=0, atol=0)
    kept = hold_out_of(support, hold_out)
    assert len(state["head.token.keys"]) == len(kept.groups["token"].labels)
    torch.testing.assert_close(state["head.token.keys"], made.vectors(kept, state).detach())
    assert state["head.token.tokens"].tolist() == kept.groups["token"].labels.tolist()


def hold_out_of(support: Batch, share: float) -> Batch:
    return hold_out(support, share, open=True)[0] if share else support
