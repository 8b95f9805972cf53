"""A meta-step as it is run, against the plain path: autograd, the default library, one loss over all episodes."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contract import ENCODERS, META_TRAINED, encoder, gradients, learner
from kshot.meta.step import MetaStep
from kshot.models.build import build_encoder
from kshot.models.scratch import CNNSettings, LSTMSettings, TransformerSettings
from toy import corpus, episode, pair

LARGE: dict[str, Any] = {  # enough for oneDNN to take part
    "cnn": CNNSettings(embedding_dim=128, n_filters=64, dropout=0.0),
    "lstm": LSTMSettings(hidden_dim=128, dropout=0.0),
    "bilstm": LSTMSettings(hidden_dim=128, bidirectional=True, pooling="mean", dropout=0.0),
    "transformer": TransformerSettings(embedding_dim=128, model_dim=128, n_heads=4, n_layers=2, dropout=0.0),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_gradient_is_that_of_the_plain_path(algorithm: str, kind: str, tiny_bert: Path) -> None:
    made = learner(algorithm, encoder(kind, tiny_bert).double()).double().train()
    episodes = [pair(made, episode(shots=shots, seed=seed)) for seed, shots in enumerate([(2, 1, 2), (1, 2)])]
    loss = MetaStep(made)(episodes, progress=0.2)
    ours = gradients(made)
    made.zero_grad()
    made.kernels = "plain"
    plain = made(episodes, progress=0.2)
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-9)
    for name, theirs in gradients(made).items():
        torch.testing.assert_close(
            ours[name], theirs, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("algorithm", ["maml", "first-order-maml", "anil"])
def test_float32_is_as_exact_as_the_plain_path(algorithm: str, kind: str) -> None:
    found: dict[str, Tensor] = {}
    for choice, dtype in (("fast", torch.float32), ("plain", torch.float64)):
        made = learner(algorithm, build_encoder(LARGE[kind], corpus(), seed=0)).to(dtype).train()
        made.kernels = choice  # type: ignore[assignment]
        MetaStep(made)([pair(made, episode(shots=(5, 5, 5), query=5, seed=seed)) for seed in range(2)])
        found[choice] = torch.cat([gradient.double().flatten() for gradient in gradients(made).values()])
    assert (found["fast"] - found["plain"]).norm() < 1e-4 * found["plain"].norm()


def test_gradients_add_up() -> None:
    made = learner("maml", build_encoder(LARGE["cnn"], corpus(), seed=0)).train()
    episodes = [pair(made, episode(seed=seed)) for seed in range(2)]
    MetaStep(made)(episodes)
    once = gradients(made)
    MetaStep(made)(episodes)
    for name, twice in gradients(made).items():
        torch.testing.assert_close(twice, 2 * once[name])


def test_a_table_that_does_not_learn_has_no_gradient() -> None:
    made = learner("maml", build_encoder(LARGE["lstm"], corpus(), seed=0)).train()
    made.encoder.embedding.weight.requires_grad_(False)  # as training.trains may have it
    MetaStep(made)([pair(made, episode())])
    assert made.encoder.embedding.weight.grad is None
    assert made.encoder.recurrences[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["cnn", "bert"])
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_a_step_leaves_no_cycles(algorithm: str, kind: str, tiny_bert: Path) -> None:
    """What it made is freed at once, and not when Python looks for cycles, which hold tensors till then."""
    made = learner(algorithm, encoder(kind, tiny_bert)).train()
    step, episodes = MetaStep(made), [pair(made, episode(seed=seed)) for seed in range(2)]
    step(episodes)
    gc.collect()
    step(episodes)
    assert gc.collect() == 0
