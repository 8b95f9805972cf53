"""What `ner.py` and `understanding.py` do alike: joint training on the sources, draws that the same examples judge."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from kshot.data.dataset import Dataset
from kshot.data.examples import Episode
from kshot.meta_learner import MetaLearner
from kshot.models.attention import twice_differentiable
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, encode
from kshot.models.pretrained import PretrainedSettings
from kshot.models.selection import select
from kshot.run.evaluate import Evaluation, collate, evaluate
from kshot.tasks.base import Task

ENCODER = {"kind": "pretrained", "model": "minilm", "max_length": 128}
PER_DOMAIN = 24  # examples of one domain in an update, two domains an update: what both ways of training see


def fresh_encoder() -> Encoder:
    """MiniLM, of which all layers move, and the token embeddings stay."""
    encoder = build_encoder(PretrainedSettings(**ENCODER), [], seed=1)
    freeze_embeddings(encoder)
    return encoder


def freeze_embeddings(encoder: Encoder) -> None:
    layers = set(select(encoder, "layers"))
    for name, tensor in encoder.named_parameters():
        tensor.requires_grad_(name in layers)


def jointly_trained(task: Task, domains: Mapping[str, Sequence[Any]], *, steps: int, rate: float, seed: int) -> Encoder:
    """MiniLM trained on all domains, each by softmax layers of its own over its labels.

    Args:
        task: How examples become items; each group of items has a layer.
        domains: The examples of each domain.
        steps: Updates.
        rate: The highest learning rate of the encoder.
        seed: What the layers and the order depend on.
    """
    encoder, names = fresh_encoder().train(), sorted(domains)
    classes = {name: sorted({label for each in domains[name] for label in each.labels}) for name in names}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {}
        for name in names:
            groups = task.collate(domains[name][:1], classes[name], encoder.vocabulary, support=False).groups
            heads[name] = {group: nn.Linear(encoder.dim, items.n_labels) for group, items in groups.items()}
        own = [tensor for tensor in encoder.parameters() if tensor.requires_grad]
        of_heads = [tensor for each in heads.values() for head in each.values() for tensor in head.parameters()]
        optimiser = torch.optim.AdamW(
            [{"params": own, "peak": rate}, {"params": of_heads, "peak": 1e-3}], betas=(0.9, 0.98), weight_decay=0.01
        )
        rng = np.random.default_rng(seed)
        for step in range(steps):
            rise, fall = (step + 1) / (0.1 * steps), 1 - step / steps
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * min(1.0, rise) * fall
            optimiser.zero_grad()
            for _ in range(2):
                name = names[int(rng.integers(len(names)))]
                chosen = [domains[name][k] for k in rng.choice(len(domains[name]), PER_DOMAIN, replace=False)]
                batch = task.collate(chosen, classes[name], encoder.vocabulary, support=False)
                with twice_differentiable():  # whose first derivative is the faster one, too
                    vectors = encode(encoder, batch.texts, None, torch.bfloat16, words=batch.words)
                losses = [
                    F.cross_entropy(heads[name][group](items.features(vectors)), items.labels)
                    for group, items in batch.groups.items()
                ]
                (torch.stack(losses).sum() / 2).backward()
            nn.utils.clip_grad_norm_([*own, *of_heads], 1.0)
            optimiser.step()
    return encoder.eval()


class Fixed:
    """The episodes of a sampler from one on, each judged by the same examples.

    Args:
        dataset: What is drawn from, by its `test` part.
        asked: What judges, as far as it is in the query.
        shot: The size of the support.
        draws: The episodes of the sampler.
        queries: How many of `asked` are drawn.
        first: The episodes that are left out at the beginning.
    """

    def __init__(
        self, dataset: Dataset, asked: Sequence[Any], *, shot: int, draws: int, queries: int, first: int = 0
    ) -> None:
        drawn = dataset.sampler("test", way="all", shot=shot, query="all", seed=0, n_episodes=draws)
        kept = {id(asked[k]) for k in np.random.default_rng(0).permutation(len(asked))[:queries].tolist()}
        self.episodes = [
            Episode(each.support, tuple(row for row in each.query if id(row) in kept), each.classes, each.index)
            for each in (drawn[i] for i in range(first, draws))
        ]

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, i: int) -> Episode:
        return self.episodes[i]


def evaluate_choice(
    own: MetaLearner, names: Sequence[str], episodes: Fixed, *, time: bool
) -> tuple[Evaluation, Counter[str]]:
    """As `evaluate`, each draw by the algorithm that suits its support; and how often each was chosen."""
    scores, seconds, chosen = [], [], Counter[str]()
    for episode in episodes.episodes:
        with own.learner.encoder.forgetting() if time else nullcontext():
            begin = perf_counter()
            best, _ = own.choose(names, episode.support)
            best.learner.adapt(collate(best.learner, episode)[0])
            seconds.append(perf_counter() - begin)
        chosen[best.learner.settings.name] += 1
        scores.append(evaluate(best.learner, [episode], time=False).scores[0])
    return Evaluation(own.learner.task.measures, np.array(scores), float(np.median(seconds))), chosen
