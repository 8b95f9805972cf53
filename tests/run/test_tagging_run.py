"""Taggers from a recipe to a figure: the same commands as for classification."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kshot.artefact import load_learner
from kshot.errors import KshotError
from kshot.meta_learner import load
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import evaluate_run
from kshot.run.train import train
from kshot.tagger import AdaptedTagger
from kshot.tasks.tagging import Tagging
from toy import tagged


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three domains to train on, two to choose by, two new ones; each of two types."""
    rows = []
    for domain, part in enumerate(["train", "train", "train", "valid", "valid", "test", "test"]):
        for example in tagged([0] * domain + [6, 6], domain, 0)[-12:]:
            rows.append({"tokens": example.tokens, "tags": example.tags, "task": f"domain {domain}", "part": part})
    path = tmp_path / "domains.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def recipe(data: Path, *, algorithm: str = "prototypical", scheme: str = "bio", **training: Any) -> Recipe:
    return parse_recipe(
        {
            "data": {"name": str(data)},
            "encoder": {"kind": "cnn", "embedding_dim": 8, "n_filters": 6, "vocabulary_size": 200},
            "task": {"kind": "tagging", "scheme": scheme},
            "algorithm": {"name": algorithm},
            "training": {"steps": 6, "way": "all", "shot": [2, 3], "query": 3, "learning_rate": 0.01, **training},
            "validation": {"every": 2, "way": "all", "shot": 3, "query": 4, "episodes": 4},
        },
        "a test",
    )


@pytest.mark.parametrize(("algorithm", "scheme"), [("prototypical", "bio"), ("ridge", "io"), ("decomposed", "spans")])
def test_from_a_recipe_to_a_figure_and_a_task(data: Path, tmp_path: Path, algorithm: str, scheme: str) -> None:
    outcome = train(recipe(data, algorithm=algorithm, scheme=scheme), tmp_path / "run")
    assert outcome.trained.measures == ("F1", "precision", "recall")
    figures = evaluate_run(tmp_path / "run", data=str(data), way="all", shot=4, query=4, episodes=3)
    assert 0 <= figures["f1"] <= 1
    learner = load(tmp_path / "run")
    assert learner.kind == "tagging"
    task = learner.learner.task
    assert isinstance(task, Tagging)
    assert task.settings.table is not None  # measured on the training sentences
    adapted = learner.adapt(tagged((3, 3), 0, 3))
    assert isinstance(adapted, AdaptedTagger)
    assert adapted.predict(["a lamp bulb please"])[0].tokens == ("a", "lamp", "bulb", "please")


def test_a_run_that_was_resumed_gives_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(data)
    train(settings, tmp_path / "whole")
    saved = 0

    def save_then_stop(*arguments: Any) -> None:
        nonlocal saved
        original(*arguments)
        saved += 1
        if saved == 2:
            raise KeyboardInterrupt

    import kshot.run.train as module

    original = module.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "cut")
    train(settings, tmp_path / "cut", resume=True)
    whole, cut = (load_learner(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"rotate": True}, "training.rotate is for classification: it would take words apart; leave it out."),
        (
            {"token_cutoff": 0.1},
            "training.token_cutoff is for classification: it would take words apart; leave it out.",
        ),
        (
            {"augment": ["drop_words"]},
            'There is no augmentation of sentences "drop_words"; there are replace_mentions, replace_words, '
            'shuffle_segments, lower_case. Did you mean "replace_words"?',
        ),
        (
            {"way": 2},
            'way is 2, but an episode of a domain has the types that its support shows; write "all".',
        ),
    ],
)
def test_settings_that_do_not_fit_sentences(data: Path, tmp_path: Path, training: Any, expected: str) -> None:
    with pytest.raises(KshotError) as caught:
        train(recipe(data, **training), tmp_path / "run")
    assert str(caught.value) == expected
    assert not (tmp_path / "run").exists()


def test_a_task_kind_and_its_keys_are_checked(data: Path) -> None:
    with pytest.raises(KshotError) as caught:
        parse_recipe({"task": {"kind": "tagging", "sceme": "io"}}, "mine.toml")
    assert str(caught.value) == 'mine.toml: the key "task.sceme" is unknown. Did you mean "scheme"?'
    with pytest.raises(KshotError) as caught:
        parse_recipe({"task": {"kind": "parsing"}}, "mine.toml")
    assert str(caught.value) == (
        'mine.toml: "task" needs a kind, one of classification, tagging, translation, understanding, responding.'
    )
