"""The contract over tagging: what holds for every algorithm, on words as on texts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contract import ALGORITHMS, META_TRAINED, encoder, learner, snapshot
from kshot.artefact import load_learner, save_learner
from kshot.meta.learner import Learner
from kshot.tasks.spans import Found
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import pair, tagged_episode

ENCODERS = ("cnn", "bilstm", "spelled", "bert")  # each way to make a word's vector: windows, order, spelling, pieces
every_scheme = pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


@pytest.fixture
def made(algorithm: str, kind: str, scheme: str, tiny_bert: Path) -> Learner:
    """The learner of a test's algorithm, encoder and scheme."""
    task = Tagging(TaggingSettings(scheme=scheme))  # type: ignore[arg-type]
    return learner(algorithm, encoder(kind, tiny_bert), task=task)


def scores(made: Learner, seed: int = 0, shots: tuple[int, ...] = (2, 2, 2)) -> dict[str, Tensor]:
    support, query = pair(made, tagged_episode(shots=shots, seed=seed))
    with torch.no_grad():
        return made.logits(made.adapt(support), query)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@every_scheme
@every_encoder
@every_algorithm
def test_adapting_leaves_the_learner_as_it_was_and_the_state_survives_safetensors(
    made: Learner, tmp_path: Path
) -> None:
    before = snapshot(made)
    support, query = pair(made, tagged_episode())
    state = made.adapt(support)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    save_file(state, tmp_path / "state.safetensors")
    with torch.no_grad():
        assert same(made.logits(state, query), made.logits(load_file(tmp_path / "state.safetensors"), query))


@every_scheme
@every_encoder
@every_algorithm
def test_any_number_of_types_and_entities_come_out(made: Learner) -> None:
    task = made.task
    assert isinstance(task, Tagging)
    for shots in ((2,), (1, 3), (2, 1, 1, 2)):
        drawn = tagged_episode(shots=shots, seed=1)
        support, query = pair(made, drawn)
        with torch.no_grad():
            scorer = made.scorer(made.adapt(support), query)
            assert all(each.isfinite().all() for each in scorer(query).values())
            found = task.find(scorer, query, [len(each.tokens) for each in drawn.query], drawn.classes)
        assert len(found) == len(drawn.query)
        for one in (one for each in found for one in each):
            assert isinstance(one, Found)
            assert one.span.label in drawn.classes
            assert 0 <= one.confidence <= 1


@every_scheme
@every_encoder
@every_algorithm
def test_a_learner_loaded_again_gives_the_same_bits(made: Learner, tmp_path: Path) -> None:
    save_learner(made, tmp_path / "learner", about={})
    again, _ = load_learner(tmp_path / "learner")
    assert same(scores(made), scores(again))


@every_scheme
@pytest.mark.parametrize("kind", ["cnn"])
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
    loss = made([pair(made, tagged_episode()), pair(made, tagged_episode(seed=1))], progress=0.3)
    loss.backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@every_scheme
@pytest.mark.parametrize("kind", ["cnn", "bilstm"])
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_a_little_training_lowers_the_loss(made: Learner) -> None:
    drawn = [pair(made, tagged_episode(seed=seed)) for seed in range(2)]

    def query_loss() -> float:
        total = 0.0
        for support, query in drawn:
            total += float(made._loss(made.adapt(support), query).detach())
        return total

    optimiser = torch.optim.Adam(made.parameters(), lr=0.03)
    before = query_loss()
    for step in range(15):
        optimiser.zero_grad()
        made(drawn, progress=step / 15).backward()
        optimiser.step()
    assert query_loss() < 0.95 * before
