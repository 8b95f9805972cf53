"""The contract over tasks that write: what holds for every algorithm that learns where labels are open."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contract import ALGORITHMS, TRANSLATING, snapshot, translator
from kshot.artefact import load_learner, save_learner
from kshot.meta.learner import Learner
from kshot.models.decoders import EncoderDecoder
from kshot.models.encoder import pad
from kshot.models.search import SearchSettings
from kshot.tasks.writing import Writing
from toy import SOURCES, pair, sentence_pairs, seq2seq, written_episode

META_TRAINED = tuple(name for name in TRANSLATING if ALGORITHMS[name].meta_trained)
every_algorithm = pytest.mark.parametrize("algorithm", TRANSLATING)
every_source = pytest.mark.parametrize(
    ("kind", "source"), [*(("translation", source) for source in SOURCES), ("responding", "transformer")]
)


@pytest.fixture
def made(algorithm: str, kind: str, source: str) -> Learner:
    """The learner of a test's algorithm, kind of task and source encoder."""
    return translator(algorithm, seq2seq(source), kind=kind)


def scores(made: Learner, seed: int = 0) -> Tensor:
    support, query = pair(made, written_episode(made.task.kind, shot=6, seed=seed))
    with torch.no_grad():
        return made.logits(made.adapt(support), query)["token"]


@every_source
@every_algorithm
def test_adapting_leaves_the_learner_as_it_was_and_the_state_survives_safetensors(
    made: Learner, tmp_path: Path
) -> None:
    before = snapshot(made)
    support, query = pair(made, written_episode(made.task.kind, shot=6))
    state = made.adapt(support)
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    save_file(state, tmp_path / "state.safetensors")
    with torch.no_grad():
        ours, theirs = (
            made.logits(each, query)["token"] for each in (state, load_file(tmp_path / "state.safetensors"))
        )
    assert torch.equal(ours, theirs)
    assert ours.shape == (sum(map(len, query.texts)), made.encoder.vocabulary.size)


@every_source
@every_algorithm
def test_one_pair_and_many_pairs_give_a_translation(made: Learner) -> None:
    task = made.task
    assert isinstance(task, Writing)
    for shot in (1, 2, 9):
        support, query = pair(made, written_episode(made.task.kind, shot=shot, seed=1))
        scorer = made.scorer(made.adapt(support), query)
        assert query.given is not None
        found = task.write(scorer, query.given, SearchSettings(beam=2, longest=6))
        assert [len(each.tokens) <= 6 for each in found] == [True] * len(query.given)
        assert all(math.isfinite(each.score) and each.score <= 0 for each in found)


@every_source
@every_algorithm
def test_what_is_said_step_by_step_has_the_learned_weights(made: Learner) -> None:
    """The rows of the token table that moved are in the table that decoding reads."""
    support, query = pair(made, written_episode(made.task.kind, shot=6))
    scorer = made.scorer(made.adapt(support), query)
    network = scorer.network()
    assert isinstance(network, EncoderDecoder)
    assert query.given is not None
    with torch.no_grad():
        expected = scorer(query)["token"].split([len(each) for each in query.texts])
        for text, given, whole in zip(query.texts, query.given, expected, strict=True):
            memory = network.read(*pad([given], network.vocabulary.pad_id))
            for token, row in zip(text.tolist(), whole, strict=True):
                vectors, memory = network.step(torch.tensor([token]), memory)
                torch.testing.assert_close(scorer.scores("token", vectors)[0], row, rtol=1e-4, atol=1e-5)


@every_source
@every_algorithm
def test_a_learner_loaded_again_gives_the_same_bits(made: Learner, tmp_path: Path) -> None:
    save_learner(made, tmp_path / "learner", about={})
    again, _ = load_learner(tmp_path / "learner")
    assert torch.equal(scores(made), scores(again))


@pytest.mark.parametrize(("kind", "source"), [("translation", "transformer"), ("responding", "transformer")])
@every_algorithm
def test_two_threads_adapt_as_one_does(made: Learner) -> None:
    alone = [scores(made, seed) for seed in range(3)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: scores(made, seed), range(3)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@every_source
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_outer_loss_has_finite_gradients_everywhere(made: Learner) -> None:
    made.train()
    loss = made([pair(made, written_episode(made.task.kind, seed=seed)) for seed in range(2)], progress=0.3)
    loss.backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@every_source
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_a_little_training_lowers_the_loss(made: Learner) -> None:
    drawn = [pair(made, written_episode(made.task.kind, shot=6, seed=seed)) for seed in range(2)]

    def query_loss() -> float:
        return sum(float(made._loss(made.adapt(support), query).detach()) for support, query in drawn)

    optimiser = torch.optim.Adam(made.parameters(), lr=0.02)
    before = query_loss()
    for step in range(15):
        optimiser.zero_grad()
        made(drawn, progress=step / 15).backward()
        optimiser.step()
    assert query_loss() < 0.8 * before


# -- a language that can be learned whole ------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_a_toy_language_is_learned_to_the_last_word(source: str) -> None:
    """Word by word and from the end: the loss goes to zero, and the translations are exactly right."""
    size = {"model_dim": 32} if source == "transformer" else {"hidden_dim": 32}
    network = seq2seq(source, n_layers=1, embedding_dim=32, vocabulary_size=400, **size)
    made = translator("fine-tuning", network, inner={"test_steps": 0}).train()
    pairs = sentence_pairs(360, 1, longest=3)
    learned = made.task.collate(pairs[:320], (), network.vocabulary, support=True)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.01)
    n_steps = 300
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 - step / n_steps)
        part = learned.of_texts(torch.randperm(320)[:48].tolist())
        optimiser.zero_grad()
        made([(part, part)]).backward()
        optimiser.step()
    made.eval()
    task = made.task
    assert isinstance(task, Writing)
    state = made.adapt(learned)
    with torch.no_grad():
        assert float(made._loss(state, learned)) < 0.01
    scorer = made.scorer(state, learned)
    found = task.write(scorer, network.vocabulary.encode([each.source for each in pairs[260:]]))
    right = [
        network.vocabulary.decode(translated.tokens) == each.target and translated.ended
        for each, translated in zip(pairs[260:], found, strict=True)
    ]
    assert all(right[:60])
    assert sum(right[60:]) >= 34, "what is learned is the language, not the 320 sentences"
