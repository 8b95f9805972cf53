"""The learner: what counts in its loss, and how episodes share work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contract import ALGORITHMS, META_TRAINED, encoder, learner, predict
from kshot.data.examples import TextExample
from toy import episode, pair, scratch


@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_loss_of_a_batch_is_the_mean_of_its_episodes(algorithm: str) -> None:
    made = learner(algorithm, scratch("cnn").double()).double().train()
    episodes = [
        pair(made, episode(shots=shots, seed=seed)) for seed, shots in enumerate([(2, 2), (1, 3, 2), (1, 1, 1)])
    ]
    together = made(episodes)
    apart = torch.stack([made([each]) for each in episodes]).mean()
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)
    names = [name for name, _ in made.named_parameters()]
    gradients = [torch.autograd.grad(loss, list(made.parameters()), allow_unused=True) for loss in (together, apart)]
    for name, one, other in zip(names, *gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10, msg=name)


def test_episodes_that_share_weights_encode_each_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner("prototypical", scratch("cnn"))
    n_texts = 0
    forward = made.encoder.forward

    def counting(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        nonlocal n_texts
        n_texts += len(ids)
        return forward(ids, mask)

    monkeypatch.setattr(made.encoder, "forward", counting)
    drawn = [episode(seed=seed) for seed in (0, 0, 1)]
    made([pair(made, each) for each in drawn])
    texts = {row.text for each in drawn for row in (*each.support, *each.query)}
    names = {name for each in drawn for name in each.classes}
    assert n_texts <= len(texts) + len(names)


@pytest.mark.parametrize("algorithm", ["maml", "protomaml"])
def test_a_head_that_does_not_look_costs_no_vectors(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner(algorithm, scratch("cnn"), inner={"steps": 1, "order": 2})
    n_calls = 0
    vectors = made.vectors

    def counting(*arguments: Any) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        return vectors(*arguments)

    monkeypatch.setattr(made, "vectors", counting)
    made([pair(made, episode())])
    assert n_calls == {"maml": 2, "protomaml": 3}[algorithm]  # a step, the query, and the start if the head looks


def test_reptile_of_a_head_alone() -> None:
    made = learner("reptile", scratch("cnn"), inner={"moves": "none"})
    drawn = pair(made, episode())
    made([drawn]).backward()
    assert made.heads["label"].weight.grad is not None
    assert predict(made, drawn).isfinite().all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_items_without_a_label_do_not_count(algorithm: str) -> None:
    made = learner(algorithm, scratch("cnn"))
    drawn = episode()
    strangers = (TextExample("my cat sleeps", "pets"), TextExample("lamp", "cats"))
    more = replace(drawn, support=(*drawn.support, *strangers), query=(*drawn.query, *strangers))
    plain, mixed = pair(made, drawn), pair(made, more)
    torch.testing.assert_close(predict(made, mixed)[: len(drawn.query)], predict(made, plain), rtol=1e-4, atol=1e-4)
    if ALGORITHMS[algorithm].meta_trained and algorithm != "reptile":
        torch.testing.assert_close(made([mixed]), made([plain]), rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_weighted_cross_entropy() -> None:
    made = learner("prototypical", scratch("cnn"))
    support, query = pair(made, episode())
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 3.0])
    logits = predict(made, (support, query))
    each = F.cross_entropy(logits, query.groups["label"].labels, reduction="none")
    with torch.no_grad():
        loss = made([(support, replace(query, groups={"label": replace(query.groups["label"], weights=weights)}))])
    torch.testing.assert_close(loss, (weights * each).sum() / weights.sum())


def test_class_names_join_the_support() -> None:
    with_names = learner("prototypical", scratch("cnn"))
    without = learner("prototypical", scratch("cnn"), class_names=False)
    drawn = episode()
    assert not torch.equal(predict(with_names, pair(with_names, drawn)), predict(without, pair(without, drawn)))


@pytest.mark.parametrize("algorithm", ["prototypical", "maml", "anil"])
def test_vectors_that_are_known_are_used(algorithm: str) -> None:
    made = learner(algorithm, scratch("cnn"))
    support, query = pair(made, episode())
    with torch.no_grad():
        state = made.adapt(support, made.vectors(support))
        expected = made.adapt(support)
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        given = made.logits(state, query, made.vectors(query, state))["label"]
        assert torch.equal(given, made.logits(state, query)["label"])


@pytest.mark.parametrize("algorithm", ["prototypical", "maml", "meta-sgd", "protomaml"])
def test_half_precision_trains(algorithm: str, tiny_bert: Path) -> None:
    for kind in ("cnn", "lstm", "transformer", "bert"):
        made = learner(algorithm, encoder(kind, tiny_bert)).train()
        exact = made([pair(made, episode())])
        made.precision = torch.bfloat16
        rough = made([pair(made, episode())])
        rough.backward()
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, rtol=0.2, atol=0.2)
        assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_adapting_in_one_class_and_in_many() -> None:
    for algorithm in ALGORITHMS:
        made = learner(algorithm, scratch("cnn"))
        one = pair(made, episode(shots=(2,)))
        assert predict(made, one).shape == (2, 1)
        many = pair(made, episode(shots=(1,) * 8))
        assert predict(made, many).shape == (16, 8)


def test_a_state_of_one_class_is_a_copy() -> None:
    made = learner("maml", scratch("cnn"), inner={"test_steps": 0})
    state = made.adapt(pair(made, episode(shots=(2,)))[0])
    assert state["head.label.bias"].data_ptr() != made.heads["label"].bias.data_ptr()
