"""The algorithms by name: each is a head, an inner loop and a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import ValidationError

from kshot.errors import KshotError, did_you_mean
from kshot.meta import heads
from kshot.meta.inner import InnerLoop, InnerSettings
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.decoders import OutputOf, Seq2Seq
from kshot.models.encoder import Encoder
from kshot.models.selection import select
from kshot.settings import Settings
from kshot.tasks.base import Task

HEADS: dict[str, tuple[type[Settings], Any]] = {
    "prototypes": (heads.PrototypeSettings, heads.Prototypes),
    "matching": (heads.MatchingSettings, heads.Matching),
    "relation": (heads.RelationSettings, heads.Relation),
    "induction": (heads.InductionSettings, heads.Induction),
    "ridge": (heads.RidgeSettings, heads.Ridge),
    "linear": (heads.LinearSettings, heads.Linear),
    "prototype-linear": (heads.PrototypeSettings, heads.PrototypeLinear),
    "logistic": (heads.LogisticSettings, heads.Logistic),
    "anchored": (heads.AnchoredSettings, heads.Anchored),
    "nearest": (heads.NearestSettings, heads.Nearest),
    "output": (heads.OutputSettings, heads.Output),
    "datastore": (heads.DatastoreSettings, heads.Datastore),
}


@dataclass(frozen=True)
class Open:
    """How an algorithm works where labels are open: the tokens of a vocabulary, most of which no support shows.

    Attributes:
        head: The name of its head there.
        inner: Where the settings of its inner loop differ there.
    """

    head: str = "output"
    inner: Mapping[str, Any] = field(default_factory=dict)


# Texts are longer than labels: some are seen at a time, a step is smaller, and how many are right depends on the task.
_STEPS = {"rate": 1e-3, "batch": 16, "test_steps": 400, "hold_out": 0.1, "look_every": 20}
_ADAM = {**_STEPS, "rate": 3e-4, "optimiser": "adam"}


@dataclass(frozen=True)
class Algorithm:
    """A preset.

    Attributes:
        title: What people call it.
        source: Authors, year and arXiv number.
        head: The name of its head.
        head_settings: Where they differ from the head's own defaults.
        inner: The settings of its inner loop.
        group_heads: The head and its settings of groups of a task that take another than `head`.
        meta_trained: False for the baselines, which learn a task from the encoder as it is.
        open: How it works where labels are open; None where it needs an example of every label.
    """

    title: str
    source: str
    head: str
    head_settings: Mapping[str, Any] = field(default_factory=dict)
    inner: Mapping[str, Any] = field(default_factory=dict)
    group_heads: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    meta_trained: bool = True
    open: Open | None = None


ALGORITHMS: dict[str, Algorithm] = {
    "prototypical": Algorithm("Prototypical Networks", "Snell et al. 2017, arXiv:1703.05175", "prototypes"),
    "matching": Algorithm(
        "Matching Networks",
        "Vinyals et al. 2016, arXiv:1606.04080; open labels: Khandelwal et al. 2021, arXiv:2010.00710",
        "matching",
        open=Open("datastore"),
    ),
    "relation": Algorithm("Relation Networks", "Sung et al. 2018, arXiv:1711.06025", "relation"),
    "induction": Algorithm("Induction Networks", "Geng et al. 2019, arXiv:1902.10482", "induction"),
    "ridge": Algorithm("Ridge regression (R2D2)", "Bertinetto et al. 2019, arXiv:1805.08136", "ridge"),
    "maml": Algorithm(
        "MAML",
        "Finn et al. 2017, arXiv:1703.03400; shared row: Ye & Chao 2022, arXiv:2106.16245",
        "linear",
        inner={"steps": 5, "rate": 0.1, "moves": "all"},
        open=Open(inner={**_STEPS, "rate": 0.02, "steps": 1}),
    ),
    "first-order-maml": Algorithm(
        "First-order MAML",
        "Finn et al. 2017, arXiv:1703.03400, section 5.2",
        "linear",
        inner={"steps": 5, "rate": 0.1, "moves": "all", "order": 1},
        open=Open(inner={**_ADAM, "steps": 4}),
    ),
    "maml++": Algorithm(
        "MAML++",
        "Antoniou et al. 2019, arXiv:1810.09502",
        "linear",
        inner={"steps": 5, "rate": 0.1, "moves": "all", "rates": "step", "multi_step": True},
        open=Open(inner={**_STEPS, "rate": 0.02, "steps": 2}),
    ),
    "anil": Algorithm(
        "ANIL",
        "Raghu et al. 2020, arXiv:1909.09157",
        "linear",
        inner={"steps": 5, "rate": 0.1},
        open=Open(inner={**_ADAM, "steps": 4, "moves": "decoder", "order": 1}),
    ),
    "meta-sgd": Algorithm(
        "Meta-SGD",
        "Li et al. 2017, arXiv:1707.09835",
        "linear",
        inner={"steps": 2, "rate": 0.1, "moves": "all", "rates": "element"},
        open=Open(inner={**_STEPS, "rate": 0.02, "steps": 1}),
    ),
    "protomaml": Algorithm(
        "ProtoMAML",
        "Triantafillou et al. 2020, arXiv:1903.03096",
        "prototype-linear",
        inner={"steps": 3, "rate": 0.05, "moves": "all", "order": 1},
    ),
    "reptile": Algorithm(
        "Reptile",
        "Nichol et al. 2018, arXiv:1803.02999",
        "linear",
        inner={"steps": 8, "rate": 0.05, "moves": "all", "order": 1, "outer": "displacement"},
        open=Open(inner={**_ADAM, "steps": 8}),
    ),
    "decomposed": Algorithm(
        "Decomposed meta-learning",
        "Ma et al. 2022, arXiv:2204.05751: MAML over prototypes; in tagging also over a detector of entities",
        "prototypes",
        inner={"steps": 3, "rate": 0.02, "moves": "all", "order": 1},
        group_heads={"boundary": ("linear", {"rows": 3})},
    ),
    "anchored": Algorithm(
        "Anchored prototypes",
        "regularisation biased to the prototypes, after Denevi et al. 2019, arXiv:1903.10399",
        "anchored",
    ),
    "fine-tuning": Algorithm(
        "Fine-tuning",
        "baseline: Adam on all tensors, from prototypes",
        "prototype-linear",
        inner={"steps": 20, "rate": 1e-4, "moves": "all", "order": 1, "optimiser": "adam"},
        meta_trained=False,
        open=Open(inner={**_ADAM, "steps": 0}),
    ),
    "linear-probe": Algorithm(
        "Linear probe", "baseline: logistic regression on the features", "logistic", meta_trained=False
    ),
    "nearest-neighbour": Algorithm(
        "Nearest neighbour",
        "baseline: Cover & Hart 1967",
        "nearest",
        meta_trained=False,
        open=Open("datastore"),
    ),
}


def algorithm(name: str) -> Algorithm:
    """Returns a preset.

    Raises:
        KshotError: If there is none of that name.
    """
    if name not in ALGORITHMS:
        raise KshotError(
            f'There is no algorithm "{name}".{did_you_mean(name, ALGORITHMS)} Known: {", ".join(ALGORITHMS)}.'
        )
    return ALGORITHMS[name]


def build_learner(settings: AlgorithmSettings, encoder: Encoder, task: Task, *, seed: int = 0) -> Learner:
    """Puts a learner together.

    Args:
        settings: Which algorithm.
        encoder: Makes its vectors.
        task: The kind of problem.
        seed: Decides the first weights of its heads; the global generator is left as it was.

    Raises:
        KshotError: If the algorithm or one of its settings is unknown, if the encoder is none for such a task, or if it
            has tracked batch statistics.
    """
    preset = algorithm(settings.name)
    if task.open != isinstance(encoder, Seq2Seq):
        can = "cannot write" if task.open else "reads two texts and writes"
        fitting = "an encoder-decoder" if task.open else "one that reads"
        raise KshotError(
            f'An encoder of kind "{encoder.settings.model_dump()["kind"]}" {can}, so it is none for {task.kind}; '
            f"take {fitting}."
        )
    if task.open:
        preset = _opened(settings.name, preset, task)
    inner_settings = _checked(InnerSettings, {**preset.inner, **settings.inner}, f"{settings.name}'s inner loop")
    assert isinstance(inner_settings, InnerSettings)
    if inner_settings.optimiser == "adam" and inner_settings.order == 2:
        raise KshotError(
            f"{settings.name}'s inner loop cannot be differentiated twice through adam; "
            'set order to 1, or optimiser to "sgd".'
        )
    _refuse_batch_norm(encoder)
    for group in settings.heads:
        if group not in task.groups:
            raise KshotError(
                f'There is no group "{group}" in {task.kind}, whose head {settings.name} could set.'
                f"{did_you_mean(group, task.groups)} Its groups: {', '.join(task.groups)}."
            )
    own = dict(encoder.named_parameters())
    takes_steps = inner_settings.steps > 0 or bool(inner_settings.test_steps)
    selected = select(encoder, inner_settings.moves) if takes_steps else ()
    moves = [name for name in selected if own[name].requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = {group: _head(preset, settings, group, encoder.dim) for group in task.groups}
    for head in made.values():
        if isinstance(head, heads.Output):
            assert isinstance(encoder, Seq2Seq)
            head.tie(OutputOf(encoder))
    shapes = {f"encoder.{name}": tuple(own[name].shape) for name in moves}
    for group, head in made.items():
        fits = head.rate_shapes(encoder.dim)
        shapes |= {f"head.{group}.{name}": fits[name] for name in head.moving}
    if takes_steps and not shapes:
        raise KshotError(
            f"{settings.name}'s inner loop has nothing to move: its head is fitted in one go and moves is "
            f'"{inner_settings.moves}"; set steps to 0, or moves to "all".'
        )
    learner = Learner(encoder, task, made, InnerLoop(inner_settings, shapes), moves, settings)
    if inner_settings.batch is not None and len(learner.refits) > len(learner.late):
        raise KshotError(
            f"{settings.name}'s inner loop fits its head to all texts at every step; leave batch "
            f"({inner_settings.batch}) out, or choose an algorithm whose head moves, such as protomaml."
        )
    return learner


def _opened(name: str, preset: Algorithm, task: Task) -> Algorithm:
    """A preset for a task whose labels are open."""
    if preset.open is None:
        others = ", ".join(each for each, made in ALGORITHMS.items() if made.open)
        raise KshotError(
            f"{name} needs an example of every label, and in {task.kind} any token of a vocabulary may come; "
            f"take one of {others}."
        )
    return replace(
        preset, head=preset.open.head, head_settings={}, inner={**preset.inner, **preset.open.inner}, group_heads={}
    )


def _head(preset: Algorithm, settings: AlgorithmSettings, group: str, dim: int) -> heads.Head:
    """The head of one group of a task."""
    own = dict(settings.heads.get(group, {}))
    name, usual = preset.group_heads.get(group, (preset.head, preset.head_settings))
    changed = {} if group in preset.group_heads else settings.head
    kind = own.pop("kind", name)
    if kind not in HEADS:
        raise KshotError(
            f'There is no head "{kind}" for {group}.{did_you_mean(str(kind), HEADS)} Known: {", ".join(HEADS)}.'
        )
    settings_type, head_type = HEADS[kind]
    values = {**usual, **changed, **own} if kind == name else own
    made: heads.Head = head_type(_checked(settings_type, values, f"{settings.name}'s head"), dim)
    return made


def _checked(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(key, kind.model_fields) or f" It takes: {', '.join(kind.model_fields)}."
            raise KshotError(f'The setting "{key}" of {where} is unknown.{hint}') from error
        raise KshotError(f'The setting "{key}" of {where} cannot be {first["input"]!r}: {first["msg"]}.') from error


def _refuse_batch_norm(encoder: Encoder) -> None:
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_mean") and buffer is not None:
            layer = name.rpartition(".")[0]
            raise KshotError(
                f'The encoder\'s layer "{layer}" keeps batch statistics, which leak between tasks; use LayerNorm.'
            )
