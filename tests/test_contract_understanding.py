"""The contract over understanding: what holds for every algorithm where a task has two groups of items and more."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contract import ALGORITHMS, META_TRAINED, learner, snapshot
from kshot.artefact import load_learner, save_learner
from kshot.data.examples import Utterance
from kshot.meta.learner import Learner
from kshot.tasks.understanding import Understanding, UnderstandingSettings
from toy import bert, pair, scratch, utterance_episode

ENCODERS = ("bilstm", "bert")  # order, and pieces of words
every_scheme = pytest.mark.parametrize("scheme", ["bio", "spans"])  # `io` is the same way, as tagging shows
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


@pytest.fixture
def made(algorithm: str, kind: str, scheme: str, tiny_bert: Path) -> Learner:
    """The learner of a test's algorithm, encoder and scheme."""
    task = Understanding(UnderstandingSettings(scheme=scheme))  # type: ignore[arg-type]
    encoder = bert(tiny_bert, max_length=32) if kind == "bert" else scratch(kind, max_length=64)  # room for a history
    return learner(algorithm, encoder, task=task)


def scores(made: Learner, seed: int = 0, shots: tuple[int, ...] = (2, 2, 2)) -> dict[str, Tensor]:
    support, query = pair(made, utterance_episode(shots=shots, seed=seed))
    with torch.no_grad():
        return made.logits(made.adapt(support), query)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@every_scheme
@every_encoder
@every_algorithm
def test_one_adaptation_learns_all_groups_and_survives_safetensors(made: Learner, tmp_path: Path) -> None:
    before = snapshot(made)
    support, query = pair(made, utterance_episode())
    state = made.adapt(support)
    for group in made.task.groups:
        assert any(name.startswith(f"head.{group}.") for name in state), group
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    save_file(state, tmp_path / "state.safetensors")
    with torch.no_grad():
        assert same(made.logits(state, query), made.logits(load_file(tmp_path / "state.safetensors"), query))


@every_scheme
@every_encoder
@every_algorithm
def test_any_number_of_intents_and_slots_come_out(made: Learner) -> None:
    task = made.task
    assert isinstance(task, Understanding)
    for shots in ((2,), (1, 3), (2, 1, 1, 2)):
        drawn = utterance_episode(shots=shots, seed=1)
        support, query = pair(made, drawn)
        asked = [each for each in drawn.query if isinstance(each, Utterance)]
        with torch.no_grad():
            scorer = made.scorer(made.adapt(support), query)
            assert all(each.isfinite().all() for each in scorer(query).values())
            lengths = [len(each.sentence.tokens) for each in asked]
            understood = task.understand(scorer, query, lengths, drawn.classes)
        assert understood.intents.shape == (len(asked), len(shots))
        torch.testing.assert_close(understood.intents.sum(dim=-1), torch.ones(len(asked), dtype=torch.float64))
        for one in (one for each in understood.slots for one in each):
            assert f"slot:{one.span.label}" in drawn.classes
            assert 0 <= one.confidence <= 1


@every_scheme
@pytest.mark.parametrize("kind", ["bilstm"])
@every_algorithm
def test_a_support_without_slots_has_intents_alone(made: Learner) -> None:
    drawn = utterance_episode()
    classes = drawn.classes[:3]
    support, query = (
        made.task.collate(side, classes, made.encoder.vocabulary, support=side is drawn.support)
        for side in (drawn.support, drawn.query)
    )
    with torch.no_grad():
        scorer = made.scorer(made.adapt(support), query)
        joint, intents, _ = made.task.score(scorer, query, drawn.query, classes)
    assert joint == 0.0  # every query has a slot, which nobody can find
    assert 0 <= intents <= 1


@every_scheme
@every_encoder
@every_algorithm
def test_a_learner_loaded_again_gives_the_same_bits(made: Learner, tmp_path: Path) -> None:
    save_learner(made, tmp_path / "learner", about={})
    again, _ = load_learner(tmp_path / "learner")
    assert same(scores(made), scores(again))


@pytest.mark.parametrize("scheme", ["spans"])
@pytest.mark.parametrize("kind", ["bilstm"])
@every_algorithm
def test_two_threads_adapt_as_one_does(made: Learner) -> None:
    alone = [scores(made, seed) for seed in range(3)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: scores(made, seed), range(3)))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@every_scheme
@every_encoder
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_outer_loss_has_finite_gradients_everywhere(made: Learner) -> None:
    made.train()
    loss = made([pair(made, utterance_episode()), pair(made, utterance_episode(seed=1))], progress=0.3)
    loss.backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@every_scheme
@pytest.mark.parametrize("kind", ["bilstm"])
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_a_little_training_lowers_the_loss(made: Learner) -> None:
    drawn = [pair(made, utterance_episode(seed=seed)) for seed in range(2)]

    def query_loss() -> float:
        total = 0.0
        for support, query in drawn:
            total += float(made._loss(made.adapt(support), query).detach())
        return total

    optimiser = torch.optim.Adam(made.parameters(), lr=0.03)
    before = query_loss()
    for step in range(25):
        optimiser.zero_grad()
        made(drawn, progress=step / 25).backward()
        optimiser.step()
    assert query_loss() < 0.95 * before
