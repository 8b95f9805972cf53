"""The mean of learners that went different ways from the same weights, as one learner.

It is often better at what is new than each of them, and adapts as fast as one: model soups (Wortsman et al. 2022,
arXiv:2203.05482). What they were trained by may differ; that is where they gain most from each other.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.errors import KshotError
from kshot.meta.learner import Learner

NEAR = 0.5
"""The cosine between the weights of two encoders from which on they can have begun with the same ones."""


def average(learners: Sequence[Learner]) -> Learner:
    """Makes the mean of some learners, tensor by tensor; they are left as they are.

    Args:
        learners: Two or more over encoders of the same kind and vocabulary. The result adapts as the first does: what
            heads and inner loops have learned is the mean over those whose algorithm and task are the first's.

    Raises:
        KshotError: If there are fewer than two, or their encoders are no two ways from the same weights.
    """
    first, *others = learners
    if not others:
        raise KshotError("A mean needs two learners or more; give others besides the first.")
    for number, other in enumerate(others, 2):
        _refuse_strangers(first, other, number)
    made = copy.deepcopy(first)
    everyone = [each.state_dict() for each in learners]
    alike = [state for state, each in zip(everyone, learners, strict=True) if _adapts_as(each, first)]
    means = {
        name: _mean([state[name] for state in (everyone if name.startswith("encoder.") else alike)])
        for name, tensor in made.state_dict().items()
        if tensor.is_floating_point()
    }
    made.load_state_dict(means, strict=False)
    return made.eval()


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.detach().to(tensors[0].device) for each in tensors]).mean(dim=0)


def _adapts_as(one: Learner, other: Learner) -> bool:
    return one.settings == other.settings and one.task.groups == other.task.groups


def _refuse_strangers(first: Learner, other: Learner, number: int) -> None:
    """Raises KshotError for an encoder that does not fit the first's, or has nothing to do with it."""
    own, its = first.encoder, other.encoder
    if own.settings != its.settings:
        raise KshotError(
            f"The encoder of learner {number} is not built as that of the first: {_difference(first, other)}; only "
            "networks of one structure have a mean."
        )
    if own.vocabulary.tokenizer.to_str() != its.vocabulary.tokenizer.to_str():
        raise KshotError(
            f"The encoder of learner {number} has another vocabulary than that of the first; a mean needs learners "
            "that began with the same weights, such as two that went on from one by `start`."
        )
    theirs = dict(its.named_parameters())
    one, two = (
        torch.cat([tensor.detach().flatten().float().cpu() for tensor in tensors])
        for tensors in zip(*((tensor, theirs[name]) for name, tensor in own.named_parameters()), strict=True)
    )
    cosine = float(F.cosine_similarity(one, two, dim=0))
    if cosine < NEAR:
        raise KshotError(
            f"The weights of learner {number} have nothing to do with those of the first (cosine {cosine:.2f}), and "
            "their mean would be of no use; a mean needs learners that began with the same weights."
        )


def _difference(first: Learner, other: Learner) -> str:
    """The first setting in which two encoders differ, with both values."""
    own, its = first.encoder.settings.model_dump(), other.encoder.settings.model_dump()
    [name, *_] = [key for key in {**own, **its} if own.get(key) != its.get(key)]
    return f"{name} is {its.get(name)!r} and {own.get(name)!r}"
