"""States of lower layers that are made once, against encoding everything anew."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from contract import encoder, learner
from kshot.meta.step import MetaStep
from kshot.models import memory
from kshot.models.encoder import Encoder, encode
from kshot.models.memory import Memory, memory_of
from kshot.models.pretrained import PretrainedEncoder
from kshot.run.evaluate import evaluate
from kshot.tasks.kinds import build_task
from toy import bert, corpus, episode, pair, scratch, tagged_episode

TOP = "model.encoder.layer.1.output.dense.weight"
MOVED = ["maml", "first-order-maml", "maml++", "meta-sgd", "protomaml", "decomposed", "reptile"]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which layers texts went through, and how many texts."""
    found: list[tuple[str, int]] = []
    lower, upper = PretrainedEncoder.lower, PretrainedEncoder.upper

    def lower_watched(self: PretrainedEncoder, ids: Tensor, mask: Tensor, depth: int) -> Tensor:
        found.append(("lower", len(ids)))
        return lower(self, ids, mask, depth)

    def upper_watched(self: PretrainedEncoder, states: Tensor, mask: Tensor, depth: int) -> Tensor:
        found.append(("upper", len(states)))
        return upper(self, states, mask, depth)

    monkeypatch.setattr(PretrainedEncoder, "lower", lower_watched)
    monkeypatch.setattr(PretrainedEncoder, "upper", upper_watched)
    return found


def changed(network: Encoder, name: str = TOP) -> dict[str, Tensor]:
    return {name: network.get_parameter(name).detach() + 0.1}


@pytest.mark.parametrize("of_words", [False, True])
def test_lower_layers_run_once_for_each_text(of_words: bool, tiny_bert: Path, passes: list[tuple[str, int]]) -> None:
    network = bert(tiny_bert)
    texts = network.vocabulary.encode(corpus()[:6])
    words = [np.array([[0, 1], [0, len(text)]]) for text in texts] if of_words else None
    with torch.no_grad():
        anew = encode(network, texts, changed(network), words=words)
        assert passes == []
        with network.remembering():
            for some in (slice(0, 4), slice(None)):
                own = None if words is None else words[some]
                found = encode(network, texts[some], changed(network), words=own)
    torch.testing.assert_close(found, anew, rtol=1e-4, atol=1e-5)
    assert sum(n for what, n in passes if what == "lower") == len({text.tobytes() for text in texts})
    assert sum(n for what, n in passes if what == "upper") == 4 + 6


@pytest.mark.parametrize(
    "why", ["a lower layer moves", "embeddings move", "dropout", "all weights are its own", "another kind"]
)
def test_where_nothing_can_be_used_again(why: str, tiny_bert: Path, passes: list[tuple[str, int]]) -> None:
    network = scratch("transformer") if why == "another kind" else bert(tiny_bert, dropout=0.3)
    moved = {
        "a lower layer moves": ["model.encoder.layer.0.output.dense.weight", TOP],
        "embeddings move": ["model.embeddings.LayerNorm.weight", TOP],
        "dropout": [TOP],
        "all weights are its own": [],
        "another kind": ["layers.1.output.weight"],
    }[why]
    weights = {name: tensor for each in moved for name, tensor in changed(network, each).items()}
    network.train(why == "dropout")
    with torch.no_grad(), network.remembering():
        encode(network, network.vocabulary.encode(corpus()[:3]), weights)
    assert passes == []


@pytest.mark.parametrize("algorithm", MOVED)
def test_meta_gradients_are_those_without_memory(
    algorithm: str, tiny_bert: Path, passes: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = learner(algorithm, encoder("bert", tiny_bert).double(), inner={"moves": "top:1"}).double().train()
    episodes = [pair(made, episode(shots=(2, 1, 2), seed=seed)) for seed in range(2)]

    def step() -> tuple[float, dict[str, Tensor]]:
        made.zero_grad()
        loss = MetaStep(made)(episodes, progress=0.2)
        return loss, {n: t.grad.clone() for n, t in made.named_parameters() if t.grad is not None}

    loss, ours = step()
    assert passes
    passes.clear()
    monkeypatch.setattr(PretrainedEncoder, "depth_below", lambda self, names: 0)
    plain_loss, plain = step()
    assert passes == []
    assert loss == pytest.approx(plain_loss, rel=1e-9)
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("algorithm", MOVED)
def test_adapting_is_that_without_memory(
    algorithm: str, tiny_bert: Path, passes: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = learner(algorithm, encoder("bert", tiny_bert).double(), inner={"moves": "top:1"}).double()
    support, _ = pair(made, episode())
    state = made.adapt(support)
    n_texts = len({text.tobytes() for text in support.texts})
    assert sum(n for what, n in passes if what == "lower") == n_texts
    assert memory_of(made.encoder) is None
    assert all(tensor.grad is None for tensor in made.parameters())
    monkeypatch.setattr(PretrainedEncoder, "depth_below", lambda self, names: 0)
    for name, tensor in made.adapt(support).items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-7, atol=1e-10, msg=name)


def test_tasks_of_an_evaluation_share_what_lower_layers_make(tiny_bert: Path, passes: list[tuple[str, int]]) -> None:
    made = learner("maml", bert(tiny_bert), inner={"moves": "top:1"})
    episodes = [episode(seed=1), episode(seed=1), episode(seed=2)]
    evaluate(made, episodes, time=False)
    texts = {x.text for each in episodes for x in (*each.support, *each.query)} | {
        name for each in episodes for name in each.classes
    }
    assert sum(n for what, n in passes if what == "lower") <= len(texts)


def test_words_of_sentences(tiny_bert: Path, passes: list[tuple[str, int]]) -> None:
    made = learner("maml", bert(tiny_bert), inner={"moves": "top:1"}, task=build_task({"kind": "tagging"}))
    support, _ = pair(made, tagged_episode())
    assert made.adapt(support)
    assert ("lower", len(support.texts)) in passes


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_TOKENS", 10)
    kept = Memory()
    for text in (b"a", b"b", b"c"):
        kept.add_states({(1, text): torch.zeros(4, 2)})
    assert list(kept.states) == [(1, b"c")]
    kept.add_states({(1, b"d"): torch.zeros(50, 2)})
    assert list(kept.states) == [(1, b"d")]


def test_threads_that_remember_do_not_see_each_other(tiny_bert: Path) -> None:
    network = bert(tiny_bert)
    texts = network.vocabulary.encode(corpus()[:2])

    def remembered(_: int) -> tuple[int, Any]:
        with torch.no_grad(), network.remembering():
            encode(network, texts)
            own = memory_of(network)
            assert own is not None
            return len(own.vectors), id(own)

    with network.remembering(), ThreadPoolExecutor(2) as threads:
        found = list(threads.map(remembered, range(2)))
        mine = memory_of(network)
        assert mine is not None
        assert not mine.vectors
    assert [n for n, _ in found] == [len({text.tobytes() for text in texts})] * 2
    assert memory_of(network) is None
