"""Episodes that are scored together, against the plain way: one after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract import encoder, learner
from kshot.data.augment import build_augmentation
from kshot.data.examples import TextExample
from kshot.data.sampler import EpisodeSampler
from kshot.meta.algorithms import ALGORITHMS
from kshot.run import together
from kshot.run.evaluate import evaluate, score_each
from kshot.run.together import can_score_together, score_together
from kshot.tasks.classification import Classification, ClassificationSettings
from toy import CLASSES, examples

TOGETHER = [
    name
    for name, preset in ALGORITHMS.items()
    if not preset.inner.get("steps") and name not in ("linear-probe", "fine-tuning")
]


def sampler(n_episodes: int = 12, **changes: Any) -> EpisodeSampler:
    rng = np.random.default_rng(0)
    pool = [example for name in CLASSES for example in examples(14, name, rng)]
    pool.append(TextExample(pool[0].text, CLASSES[1]))  # a text of two classes
    settings: dict[str, Any] = {"way": 4, "shot": 2, "query": 3, "seed": 0, **changes}
    return EpisodeSampler(pool, n_episodes=n_episodes, **settings)


def test_all_metric_heads_are_scored_together() -> None:
    assert {"prototypical", "matching", "relation", "induction", "ridge", "anchored", "nearest-neighbour"} == set(
        TOGETHER
    )


@pytest.mark.parametrize("algorithm", TOGETHER)
@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_the_scores_are_those_of_one_after_the_other(algorithm: str, kind: str, tiny_bert: Path) -> None:
    # In double precision, so that the order of sums decides no tie.
    each = learner(algorithm, encoder(kind, tiny_bert)).double()
    episodes = sampler()
    assert can_score_together(episodes, each)
    with torch.no_grad():
        found, wanted = score_together(episodes, each), score_each(each, episodes)[0]
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(wanted)) > 2


@pytest.mark.parametrize(
    "changes",
    [
        {"way": (2, 6), "shot": (1, 3), "query": (1, 4)},
        {"way": "all", "query": "all"},
        {"shot": "all"},
        {"query_examples": [TextExample(f"{name} {i}", name) for name in CLASSES for i in range(5)]},
    ],
)
@pytest.mark.parametrize("task", [{"class_names": False}, {"name_weight": 2.5}])
def test_episodes_of_any_shape(changes: dict[str, Any], task: dict[str, Any], tiny_bert: Path) -> None:
    kind = Classification(ClassificationSettings(**task))
    each = learner("prototypical", encoder("cnn", tiny_bert), task=kind).double()
    episodes = sampler(**changes)
    with torch.no_grad():
        np.testing.assert_array_equal(score_together(episodes, each), score_each(each, episodes)[0])


def test_more_episodes_than_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    monkeypatch.setattr(together, "_DRAWN", 5)
    monkeypatch.setattr(together, "_ITEMS", 50)
    each = learner("ridge", encoder("cnn", tiny_bert)).double()
    with torch.no_grad():
        np.testing.assert_array_equal(score_together(sampler(13), each), score_each(each, sampler(13))[0])


@pytest.mark.parametrize("algorithm", ["maml", "anil", "protomaml", "linear-probe", "fine-tuning"])
def test_what_takes_steps_is_scored_one_by_one(algorithm: str, tiny_bert: Path) -> None:
    each = learner(algorithm, encoder("cnn", tiny_bert))
    assert not can_score_together(sampler(), each)
    assert evaluate(each, sampler(3), time=False).scores.shape == (3, 2)


def test_other_episodes_are_scored_one_by_one(tiny_bert: Path) -> None:
    each = learner("prototypical", encoder("cnn", tiny_bert))
    assert not can_score_together(list(sampler(2)), each)
    assert not can_score_together(sampler(augment=build_augmentation(["swap_words"])), each)


def test_a_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    each = learner("prototypical", encoder("cnn", tiny_bert))
    encoded: list[bytes] = []
    vectors = each.vectors
    monkeypatch.setattr(
        type(each), "vectors", lambda self, batch: (encoded.extend(t.tobytes() for t in batch.texts), vectors(batch))[1]
    )
    with torch.no_grad():
        score_together(sampler(30), each)
    distinct = {
        text
        for i in range(30)
        for example in (*sampler(30)[i].support, *sampler(30)[i].query)
        for text in [example.text]
    }
    assert len(encoded) <= len(distinct) + len(CLASSES)
