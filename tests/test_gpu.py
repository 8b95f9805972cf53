"""What runs on a GPU, against the same in float64 on a CPU. Without a GPU nothing of it runs.

KSHOT_TEST_DEVICE=cpu runs it on a CPU: that says whether the tests themselves are right.
"""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contract import ENCODERS, META_TRAINED, encoder, learner, predict, taken, translator
from kshot.meta.learner import Learner
from kshot.meta.step import MetaStep
from kshot.meta.ways import Compiled, Loop, Vmap
from kshot.meta_learner import MetaLearner, load
from kshot.models.encoder import encode
from kshot.run.evaluate import evaluate
from kshot.tasks.kinds import build_task
from toy import SCRATCH, corpus, episode, pair, seq2seq, tagged_episode, translation_episode, utterance_episode

DEVICE = os.environ.get("KSHOT_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's own modules, as they are imported
]


def twice(made: Learner) -> tuple[Learner, Learner]:
    """The learner in float64, here and on the GPU."""
    here = made.double().train()
    return here, deepcopy(here).to(DEVICE)


def same(ours: tuple[float, dict[str, Tensor]], theirs: tuple[float, dict[str, Tensor]], rtol: float = 1e-7) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=rtol)
    for name, tensor in theirs[1].items():
        torch.testing.assert_close(ours[1][name].cpu(), tensor, rtol=rtol, atol=rtol * 1e-2, msg=name)


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_same_vectors(kind: str, tiny_bert: Path) -> None:
    here = encoder(kind, tiny_bert).eval()
    texts = here.vocabulary.encode(corpus()[:9])
    with torch.no_grad():
        wanted = encode(here, texts)
        torch.testing.assert_close(encode(here.to(DEVICE), texts).cpu(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_same_meta_gradient(algorithm: str, kind: str, tiny_bert: Path) -> None:
    here, there = twice(learner(algorithm, encoder(kind, tiny_bert)))
    given = [pair(here, episode(shots=each, seed=seed)) for seed, each in enumerate([(2, 1, 2), (2, 2)])]
    same(taken(there, Loop(there), given), taken(here, Loop(here), given))


@pytest.mark.parametrize(
    ("algorithm", "kind", "way"),
    [("maml", kind, Vmap) for kind in SCRATCH if kind != "spelled"]
    + [("first-order-maml", "cnn", Vmap), ("maml++", "cnn", Vmap), ("protomaml", "transformer", Vmap)]
    + [("maml", "cnn", Compiled), ("first-order-maml", "transformer", Compiled)],  # half a minute each, or more
)
def test_tasks_abreast(algorithm: str, kind: str, way: Any, tiny_bert: Path) -> None:
    here, there = twice(learner(algorithm, encoder(kind, tiny_bert), inner={"steps": 1 + (algorithm == "maml++")}))
    given = [pair(here, episode(shots=(2, 2), seed=seed)) for seed in range(2)]
    assert way(there).why_not(given) is None
    same(taken(there, way(there), given), taken(here, Loop(here), given), rtol=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_fastest_way_is_found(precision: torch.dtype, tiny_bert: Path) -> None:
    said: list[str] = []
    made = learner("maml", encoder("cnn", tiny_bert)).to(DEVICE).train()
    made.precision = precision
    step = MetaStep(made, ahead=10_000, say=said.append)
    given = [pair(made, episode(shots=(2, 2), seed=seed)) for seed in range(2)]
    losses = [step(given) for _ in range(20)]
    assert max(losses) - min(losses) < 0.05 * max(losses)  # all ways have the same
    assert said


@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_the_same_predictions(algorithm: str, tiny_bert: Path) -> None:
    here, there = twice(learner(algorithm, encoder("bert", tiny_bert), inner={"moves": "top:1"}))
    given = pair(here, episode())
    torch.testing.assert_close(
        predict(there.eval(), given).cpu(), predict(here.eval(), given), rtol=1e-5, atol=1e-7, check_dtype=False
    )


@pytest.mark.parametrize(("kind", "drawn"), [("tagging", tagged_episode), ("understanding", utterance_episode)])
def test_other_tasks(kind: str, drawn: Any, tiny_bert: Path) -> None:
    for algorithm in ("prototypical", "maml"):
        made = learner(algorithm, encoder("cnn", tiny_bert), task=build_task({"kind": kind}))
        here, there = twice(made)
        given = [pair(here, drawn(seed=seed)) for seed in range(2)]
        same(taken(there, Loop(there), given), taken(here, Loop(here), given))


def test_translation() -> None:
    here, there = twice(translator("reptile", seq2seq("transformer")))
    given = [pair(here, translation_episode(seed=seed)) for seed in range(2)]
    same(taken(there, Loop(there), given), taken(here, Loop(here), given), rtol=1e-5)


def test_an_evaluation_and_what_is_saved(tiny_bert: Path, tmp_path: Path) -> None:
    made = learner("prototypical", encoder("bert", tiny_bert))
    episodes = [episode(seed=seed) for seed in range(4)]
    wanted = evaluate(made, episodes, time=False).main.mean
    there = MetaLearner(made.to(DEVICE), {})
    assert evaluate(there.learner, episodes).main.mean == pytest.approx(wanted)
    there.save(tmp_path / "learner")
    task = there.adapt(["lamp", "rain"], ["a", "b"])
    again = load(tmp_path / "learner").adapt(["lamp", "rain"], ["a", "b"])  # on the CPU
    [ours], [theirs] = task.predict(["lamp on"]), again.predict(["lamp on"])
    assert ours.label == theirs.label
    assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-3)
