"""The inner loop, against PyTorch's optimisers and by hand."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contract import ENCODERS, encoder, learner, translator, whole_tensors
from kshot.errors import KshotError
from kshot.meta.inner import InnerLoop, InnerSettings, step_weights
from kshot.meta.learner import Learner
from kshot.meta.portions import portions
from kshot.meta.state import State, part_of, with_prefix
from kshot.models.encoder import encode
from kshot.tasks.base import Batch
from toy import episode, pair, scratch, seq2seq, translation_episode


def train_plainly(made: Learner, support: Batch, kind: str, rate: float, n_steps: int) -> Learner:
    """What anyone would write: a copy of the network, and an optimiser of PyTorch over all of it."""
    network = deepcopy(made)
    head = network.heads["label"]
    optimiser: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]
    optimiser = optimiser([*network.encoder.parameters(), *head.parameters()], lr=rate)
    for _ in range(n_steps):
        optimiser.zero_grad()
        logits = F.linear(encode(network.encoder, support.texts)[support.groups["label"].rows], head.weight, head.bias)
        F.cross_entropy(logits, support.groups["label"].labels).backward()
        optimiser.step()
    return network


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(("optimiser", "rate"), [("sgd", 0.3), ("adam", 0.01)])
def test_adapting_is_plain_training(kind: str, optimiser: str, rate: float, tiny_bert: Path) -> None:
    made = learner(
        "first-order-maml",
        encoder(kind, tiny_bert).double(),
        head={"rows": 3},
        inner={"optimiser": optimiser, "rate": rate, "steps": 4},
    ).double()
    support, _ = pair(made, episode(shots=(1, 3, 2)))
    tensors = whole_tensors(made, made.adapt(support))
    for name, expected in train_plainly(made, support, optimiser, rate, 4).named_parameters():
        torch.testing.assert_close(tensors[name], expected.detach(), rtol=1e-7, atol=1e-9, msg=name)


def test_rows_that_no_text_uses_stay_and_are_not_carried() -> None:
    made = learner("maml", scratch("lstm"))
    support, query = pair(made, episode())
    state = made.adapt(support)
    table = made.encoder.get_parameter("embedding.weight")
    assert len(state["encoder.embedding.weight"]) < len(table)
    unseen = made.task.collate(
        [row for seed in range(5) for row in episode(seed=seed).query], (), made.encoder.vocabulary, support=False
    )
    twin = deepcopy(made)
    twin.load_state_dict(
        {name: tensor for name, tensor in whole_tensors(made, state).items() if "heads" not in name}, strict=False
    )
    with torch.no_grad():
        for batch in (query, unseen):
            ours, theirs = made.vectors(batch, state), twin.vectors(batch)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("moves", ["none", "norm", "layers", "top:1"])
def test_what_does_not_move_is_not_in_the_state(moves: str) -> None:
    made = learner("maml", scratch("transformer"), inner={"moves": moves})
    state = made.adapt(pair(made, episode())[0])
    carried = {name.removeprefix("encoder.") for name in state if name.startswith("encoder.")}
    assert carried == set(made.moves)
    assert {name for name in state if name.startswith("head.")} == {"head.label.weight", "head.label.bias"}


def test_a_step_may_look_at_some_of_the_texts() -> None:
    drawn = episode(shots=(2, 2, 2), query=2)
    whole, half = (
        learner("first-order-maml", scratch("cnn"), inner={"steps": 2, "batch": batch}, class_names=False)
        for batch in (None, 3)
    )
    support, _ = pair(whole, drawn)
    state = half.adapt(support)
    expected = half._start(support, None)
    for part in ([0, 2, 4], [1, 3, 5]):  # every second text, so one of each class
        seen = support.of_texts(part)
        assert [support.texts[number] for number in part] == list(seen.texts)
        assert sorted(seen.groups["label"].labels.tolist()) == [0, 1, 2]
        expected = whole.inner(lambda each, step: half._loss(each, seen), expected, n_steps=1, differentiable=False)[-1]  # noqa: B023
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert not torch.equal(state["head.label.weight"], whole.adapt(support)["head.label.weight"])


@pytest.mark.parametrize("algorithm", ["maml", "protomaml", "reptile"])
def test_meta_training_takes_the_same_part_steps(algorithm: str) -> None:
    made = learner(algorithm, scratch("cnn"), inner={"batch": 2}).train()
    made([pair(made, episode())]).backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in made.parameters())


def test_a_head_that_is_fitted_to_all_texts_takes_no_part_steps() -> None:
    with pytest.raises(KshotError) as caught:
        learner("decomposed", scratch("cnn"), inner={"batch": 2})
    assert str(caught.value) == (
        "decomposed's inner loop fits its head to all texts at every step; leave batch (2) out, or choose an algorithm "
        "whose head moves, such as protomaml."
    )


def test_more_steps_at_the_test_than_in_training() -> None:
    short, long = (learner("maml", scratch("cnn"), inner={"steps": 1, "test_steps": n}) for n in (None, 3))
    three = learner("maml", scratch("cnn"), inner={"steps": 3})
    drawn = pair(short, episode())
    assert torch.equal(long([drawn]), short([drawn]))
    state, expected = long.adapt(drawn[0]), three.adapt(drawn[0])
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert not torch.equal(state["head.label.weight"], short.adapt(drawn[0])["head.label.weight"])


def test_no_steps_at_the_test_give_a_copy_of_the_start() -> None:
    made = learner("maml", scratch("cnn"), inner={"test_steps": 0})
    state = made.adapt(pair(made, episode())[0])
    name = made.moves[1]
    assert torch.equal(state[f"encoder.{name}"], made.encoder.get_parameter(name))
    assert state[f"encoder.{name}"].data_ptr() != made.encoder.get_parameter(name).data_ptr()


def test_steps_beyond_the_last_learned_rate_use_it() -> None:
    made = learner("maml++", scratch("cnn"), inner={"steps": 2, "test_steps": 3})
    with torch.no_grad():
        for rates in made.inner.rates.values():
            rates.copy_(torch.tensor([0.3, 0.2]))
    fixed = learner("maml", scratch("cnn"), inner={"steps": 3})
    support, _ = pair(made, episode())
    state = made.adapt(support)
    path = [dict(fixed.named_parameters())]
    for rate in (0.3, 0.2, 0.2):
        one = learner("maml", scratch("cnn"), inner={"steps": 1, "rate": rate}, head={"rows": 3})
        one.load_state_dict(
            {name: tensor.expand(one.get_parameter(name).shape) for name, tensor in path[-1].items()}, strict=True
        )
        path.append(whole_tensors(one, one.adapt(support)))
    ours = whole_tensors(made, state)
    for name, expected in path[-1].items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-6)


def test_learned_rates_where_only_the_finished_learner_takes_steps() -> None:
    learned = learner("maml++", scratch("cnn"), inner={"steps": 0, "test_steps": 2})
    fixed = learner("maml", scratch("cnn"), inner={"steps": 2})
    drawn = pair(learned, episode())
    assert learned([drawn]).isfinite()
    state, expected = learned.adapt(drawn[0]), fixed.adapt(drawn[0])
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, msg=name)


def test_a_rate_for_each_element() -> None:
    made = learner("meta-sgd", scratch("cnn"), inner={"steps": 1})
    still = learner("meta-sgd", scratch("cnn"), inner={"steps": 1})
    with torch.no_grad():
        for key, rates in still.inner.rates.items():
            if "convolutions" in key:
                rates[..., 0] = 0.0
    support, _ = pair(made, episode())
    name = "encoder.convolutions.0.weight"
    with torch.no_grad():
        for each in (made, still):  # rows that differ, or the first step would not reach the encoder
            each.heads["label"].weight.normal_(generator=torch.Generator().manual_seed(0))
    moved, held = (whole_tensors(each, each.adapt(support))[name] for each in (made, still))
    start = made.get_parameter(name).detach()
    assert torch.equal(held[..., 0], start[..., 0])
    assert torch.equal(held[..., 1:], moved[..., 1:])


def test_a_tensor_that_the_loss_does_not_touch_stays() -> None:
    loop = InnerLoop(InnerSettings(steps=2), {"used": (2,), "unused": (2,)})
    start = {"used": torch.ones(2), "unused": torch.ones(2), "other": torch.zeros(1)}
    for differentiable in (False, True):
        states = loop(lambda state, _: state["used"].square().sum(), start, n_steps=2, differentiable=differentiable)
        assert torch.allclose(states[-1]["used"], torch.tensor(0.8**2))
        assert torch.equal(states[-1]["unused"], start["unused"])
        assert states[-1]["other"] is start["other"] or torch.equal(states[-1]["other"], start["other"])
    assert len(loop(lambda state, _: state["used"].sum(), start, n_steps=2, differentiable=True)) == 3


def test_steps_on_a_quadratic_by_hand() -> None:
    loop = InnerLoop(InnerSettings(steps=3, rate=0.1), {"x": ()})
    theta = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    states = loop(lambda state, _: state["x"] ** 3 / 3, {"x": theta}, n_steps=3, differentiable=True)
    x, slope = 2.0, 1.0
    for state in states:
        assert state["x"].item() == pytest.approx(x, rel=1e-12)
        x, slope = x - 0.1 * x**2, slope * (1 - 0.2 * x)
        if state is states[-2]:
            total = slope
    [gradient] = torch.autograd.grad(states[-1]["x"], theta)
    assert float(gradient) == pytest.approx(total, rel=1e-12)


@given(st.integers(1, 10), st.floats(0, 1))
def test_the_weights_of_the_steps(n_steps: int, progress: float) -> None:
    weights = step_weights(n_steps, progress)
    assert len(weights) == n_steps
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert weights[-1] == pytest.approx(max(weights))
    assert step_weights(n_steps, 0.0) == pytest.approx([1 / n_steps] * n_steps)
    assert step_weights(n_steps, 0.5 + progress / 2) == pytest.approx([0.0] * (n_steps - 1) + [1.0])


def test_the_loss_after_every_step_counts() -> None:
    made = learner("maml++", scratch("cnn"))
    drawn = pair(made, episode())
    losses = []
    for n_steps in (1, 2):
        single = learner("maml++", scratch("cnn"), inner={"steps": 2, "test_steps": n_steps})
        with torch.no_grad():
            losses.append(single._loss(single.adapt(drawn[0]), drawn[1]))
    for progress, first, second in ((0.0, 0.5, 0.5), (0.25, 0.25, 0.75), (0.5, 0.0, 1.0), (1.0, 0.0, 1.0)):
        torch.testing.assert_close(made([drawn], progress=progress), first * losses[0] + second * losses[1])


def test_names_with_a_prefix() -> None:
    tensors: dict[str, Tensor] = {"a": torch.zeros(1), "b.c": torch.ones(1)}
    prefixed = with_prefix(tensors, "head")
    assert set(prefixed) == {"head.a", "head.b.c"}
    assert part_of({**prefixed, "header": torch.ones(2), "heads.x": torch.ones(3)}, "head") == tensors


# -- Adam, in place and step by step -----------------------------------------------------------------------------------


def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes Adam's steps by the formulas of the paper, one State after another, in the place of PyTorch's optimiser."""
    monkeypatch.setattr(InnerLoop, "_in_place", property(lambda _: False))


ADAM: dict[str, Any] = {"optimiser": "adam", "order": 1, "rate": 0.02, "head_rate": 0.05}


def test_adam_in_place_is_adam_step_by_step_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = InnerLoop(InnerSettings(steps=5, **ADAM), {"x": (3,), "head.y": (2,), "unused": (1,)})
    start: State = {
        "x": torch.randn(3, dtype=torch.float64),
        "head.y": torch.randn(2, dtype=torch.float64),
        "unused": torch.ones(1, dtype=torch.float64),
        "still": torch.full((3,), 2.0, dtype=torch.float64),
    }
    before = {name: tensor.clone() for name, tensor in start.items()}

    def loss(state: State, step: int) -> Tensor:
        of_x = (state["x"] * state["still"] - step).square().sum()
        return of_x + (of_x * state["head.y"].sum()).sin()

    def path() -> list[State]:
        return [{k: v.detach().clone() for k, v in each.items()} for each in loop.descend(loss, start, 5)]

    in_place = path()
    assert len(in_place) == 6
    x, y = (start[name].clone().requires_grad_() for name in ("x", "head.y"))
    optimiser = torch.optim.Adam([{"params": [x], "lr": 0.02}, {"params": [y], "lr": 0.05}])
    for step in range(5):
        optimiser.zero_grad()
        loss({**start, "x": x, "head.y": y}, step).backward()
        optimiser.step()
    step_by_step(monkeypatch)
    for one, other in zip(in_place, path(), strict=True):
        assert one.keys() == other.keys() == start.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(in_place[-1]["x"], x.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(in_place[-1]["head.y"], y.detach(), rtol=1e-9, atol=1e-12)
    assert torch.equal(in_place[-1]["unused"], start["unused"])
    assert all(torch.equal(before[name], tensor) for name, tensor in start.items())


@pytest.mark.parametrize("algorithm", ["first-order-maml", "anil", "reptile"])
def test_adam_in_place_gives_the_same_outer_gradient(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = translator(algorithm, seq2seq().double(), inner=ADAM).double().train()
    drawn = pair(made, translation_episode())
    found = []
    for _ in range(2):
        made.zero_grad()
        loss = made([drawn])
        loss.backward()
        found.append(
            (loss.detach(), {name: t.grad.clone() for name, t in made.named_parameters() if t.grad is not None})
        )
        step_by_step(monkeypatch)
    (in_place, of_in_place), (plain, of_plain) = found
    torch.testing.assert_close(in_place, plain, rtol=1e-9, atol=1e-12)
    assert of_in_place.keys() == of_plain.keys() == {name for name, _ in made.named_parameters()}
    for name, gradient in of_plain.items():
        torch.testing.assert_close(of_in_place[name], gradient, rtol=1e-7, atol=1e-10, msg=name)
    assert max(float(gradient.abs().max()) for gradient in of_plain.values()) > 1e-3


def test_a_step_sees_a_portion_of_the_support() -> None:
    """As plain training on one portion after another does."""
    inner = {"batch": 2, "steps": 3, "rate": 0.1, "order": 1, "hold_out": 0.0, "test_steps": None}
    made = translator("maml", seq2seq().double(), inner=inner).double()
    support, _ = pair(made, translation_episode(shot=6))
    tensors = whole_tensors(made, made.adapt(support))
    network = deepcopy(made.encoder)
    written = network.get_parameter(network.token_table).detach().clone().requires_grad_()  # parts from the embedding
    bias = torch.zeros(len(written), dtype=torch.float64, requires_grad=True)
    moving = [*network.parameters(), written, bias]
    for step in range(3):
        part = portions(support, 2)(step)
        group, vectors = part.groups["token"], encode(network, part.texts, words=part.words, given=part.given)
        loss = F.cross_entropy(F.linear(group.features(vectors), written, bias), group.labels)
        for tensor, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
            tensor.data -= 0.1 * gradient
    for name, expected in network.named_parameters():
        torch.testing.assert_close(tensors[f"encoder.{name}"], expected.detach(), rtol=1e-7, atol=1e-9, msg=name)
    torch.testing.assert_close(tensors["heads.token.weight"], written.detach(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(tensors["heads.token.bias"], bias.detach(), rtol=1e-7, atol=1e-9)
