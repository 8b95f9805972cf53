"""The contract: what holds for every algorithm on every encoder."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contract import ALGORITHMS, ENCODERS, HAS_MINILM, META_TRAINED, encoder, learner, predict, query_loss, snapshot
from kshot.artefact import load_learner, save_learner
from kshot.meta.learner import Learner
from kshot.models.build import ENCODER_KINDS
from kshot.tasks.base import Batch
from toy import SCRATCH, episode, pair

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


@pytest.fixture
def made(algorithm: str, kind: str, tiny_bert: Path) -> Learner:
    """The learner of a test's algorithm and encoder."""
    return learner(algorithm, encoder(kind, tiny_bert))


def test_every_kind_of_encoder_is_in_the_contract() -> None:
    assert {settings.kind for settings in SCRATCH.values()} | {"pretrained"} == set(ENCODER_KINDS)


@every_encoder
@every_algorithm
def test_adapting_leaves_the_learner_as_it_was(made: Learner) -> None:
    before = snapshot(made)
    predict(made, pair(made, episode()))
    after = made.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(tensor.grad is None for tensor in made.parameters())


@every_encoder
@every_algorithm
def test_a_state_is_flat_and_survives_safetensors(made: Learner, tmp_path: Path) -> None:
    support, query = pair(made, episode())
    state = made.adapt(support)
    for name, tensor in state.items():
        assert isinstance(name, str)
        assert not tensor.requires_grad
        assert tensor.is_contiguous()
    save_file(state, tmp_path / "state.safetensors")
    again = load_file(tmp_path / "state.safetensors")
    with torch.no_grad():
        assert torch.equal(made.logits(state, query)["label"], made.logits(again, query)["label"])


@every_encoder
@every_algorithm
def test_a_state_is_a_copy(made: Learner) -> None:
    support, _ = pair(made, episode())
    state = made.adapt(support)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(1.0)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@every_encoder
@every_algorithm
def test_adapts_to_another_number_of_classes_than_it_was_trained_with(made: Learner, algorithm: str) -> None:
    if algorithm in META_TRAINED:
        made([pair(made, episode(shots=(2, 2, 2)))]).backward()
    for way in (2, 5):
        drawn = pair(made, episode(shots=(1,) * way, seed=1))
        logits = predict(made, drawn)
        assert logits.shape == (2 * way, way)
        assert logits.isfinite().all()


@every_encoder
@every_algorithm
def test_the_order_of_the_classes_does_not_matter(made: Learner, algorithm: str) -> None:
    tolerance = 5e-3 if algorithm == "linear-probe" else 1e-4  # L-BFGS ends near the optimum, not in it
    drawn = episode(shots=(2, 1, 3, 2))
    turned = (2, 0, 3, 1)
    other = replace(drawn, classes=tuple(drawn.classes[i] for i in turned))
    logits, others = predict(made, pair(made, drawn)), predict(made, pair(made, other))
    torch.testing.assert_close(logits[:, turned], others, rtol=tolerance, atol=tolerance)


@every_encoder
@every_algorithm
def test_unequal_shots(made: Learner) -> None:
    logits = predict(made, pair(made, episode(shots=(1, 4, 2))))
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()


@every_encoder
@every_algorithm
def test_a_query_is_judged_alone(made: Learner) -> None:
    support, query = pair(made, episode(query=3))
    state = made.adapt(support)
    with torch.no_grad():
        together = made.logits(state, query)["label"]
        for rows in ([4], [8, 0, 3], list(reversed(range(9)))):
            apart = made.logits(state, _part(query, rows))["label"]
            torch.testing.assert_close(apart, together[rows], rtol=1e-4, atol=1e-4)


def _part(batch: Batch, rows: list[int]) -> Batch:
    """Some of the items of a batch, with their texts alone."""
    group = batch.groups["label"].part(torch.tensor(rows))
    texts = [int(row) for row in group.rows]
    alone = replace(group, rows=torch.arange(len(rows)))
    return Batch(texts=tuple(batch.texts[text] for text in texts), groups={"label": alone})


@every_encoder
@every_algorithm
def test_a_learner_loaded_again_gives_the_same_bits(made: Learner, tmp_path: Path) -> None:
    drawn = pair(made, episode())
    save_learner(made, tmp_path / "learner", about={"title": "a test"})
    again, about = load_learner(tmp_path / "learner")
    assert about == {"title": "a test"}
    assert torch.equal(predict(made, drawn), predict(again, pair(again, episode())))


@every_encoder
@every_algorithm
def test_two_threads_adapt_as_one_does(made: Learner) -> None:
    drawn = [pair(made, episode(seed=seed)) for seed in range(4)] * 3
    alone = [predict(made, each) for each in drawn]
    before = snapshot(made)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(lambda each: predict(made, each), drawn))
    finally:
        sys.setswitchinterval(usual)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


@every_encoder
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_outer_loss_reaches_all_that_should_learn(made: Learner, algorithm: str, kind: str) -> None:
    made.train()
    loss = made([pair(made, episode()), pair(made, episode(seed=1))], progress=0.3)
    assert loss.ndim == 0
    assert loss.isfinite()
    loss.backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        if not _is_indifferent(name, algorithm, kind):
            assert tensor.grad.abs().sum() > 0, name


def _is_indifferent(name: str, algorithm: str, kind: str) -> bool:
    """Whether the loss does not change with a tensor, so that its gradient is rounding at most."""
    if name.endswith("key.bias"):  # adds the same to all of a query's attention scores
        return True
    if algorithm == "reptile" and name.startswith("heads.label"):  # rows go apart: on the whole a shared one stays
        return True
    return name.endswith(("second.bias", "score.bias", "label.bias"))  # adds the same to all labels' scores


@pytest.mark.parametrize("kind", ["cnn", "lstm", "transformer"])
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_a_little_training_lowers_the_loss(made: Learner, algorithm: str) -> None:
    drawn = [pair(made, episode(shots=(2, 2, 2), seed=seed)) for seed in range(3)]
    optimiser = torch.optim.Adam(made.parameters(), lr=0.01)
    before = sum(query_loss(made, each) for each in drawn)
    for step in range(40):
        optimiser.zero_grad()
        made(drawn, progress=step / 40).backward()
        optimiser.step()
    assert sum(query_loss(made, each) for each in drawn) < 0.95 * before


@every_encoder
@every_algorithm
def test_evaluation_has_no_dropout(algorithm: str, kind: str, tiny_bert: Path) -> None:
    noisy = encoder(kind, tiny_bert)
    for module in noisy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    made = learner(algorithm, noisy)
    drawn = pair(made, episode())
    assert torch.equal(predict(made, drawn), predict(made, drawn))
    made.encoder.train()
    assert not torch.equal(predict(made, drawn), predict(made, drawn))


@pytest.mark.skipif(not HAS_MINILM, reason="all-MiniLM-L6-v2 is not installed")
@every_algorithm
def test_the_journey_of_a_task_with_minilm(algorithm: str, tiny_bert: Path) -> None:
    steps = {"steps": 0} if algorithm == "decomposed" else {}  # its prototypes do not move, nor does the encoder here
    made = learner(algorithm, encoder("minilm", tiny_bert), inner={"moves": "none", **steps})
    support, query = pair(made, episode(shots=(2, 1)))
    state = made.adapt(support)
    with torch.no_grad():
        logits = made.logits(state, query)["label"]
    assert logits.shape == (4, 2)
    assert logits.isfinite().all()
    assert all(name.startswith("head.") for name in state)
