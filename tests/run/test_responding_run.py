"""Responders from a recipe to a figure: the same commands as for the other kinds of task."""

import json
from pathlib import Path
from typing import Any

import pytest

from kshot.cli import main
from kshot.meta_learner import load
from kshot.responder import AdaptedResponder
from kshot.run.config import Recipe, load_recipe, parse_recipe
from kshot.run.evaluate import evaluate_run
from kshot.run.train import train
from kshot.tasks.responding import RespondingSettings
from toy import dialogue

MEASURES = ("likelihood", "perplexity", "hits@1", "F1", "distinct-1", "distinct-2")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three people to train on, two to choose by, two new ones."""
    rows = []
    for number, part in enumerate(["train", "train", "train", "valid", "valid", "test", "test"]):
        for each in range(5):
            turns = [{"speaker": turn.speaker, "text": turn.text} for turn in dialogue(10 * number + each, task=part)]
            rows.append({"turns": turns, "task": f"person {number}", "part": part})
    path = tmp_path / "people.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def recipe(data: Path, *, start: Path | None = None, algorithm: str = "fine-tuning", steps: int = 2) -> Recipe:
    source = {"kind": "transformer", "n_layers": 1, "n_heads": 2, "model_dim": 8, "embedding_dim": 8}
    counts = {"way": "all", "shot": 2, "query": 2}
    values: dict[str, Any] = {
        "data": {"name": str(data)},
        "encoder": {
            "kind": "encoder-decoder",
            "n_layers": 1,
            "n_heads": 2,
            "source": {**source, "vocabulary_size": 300, "max_length": 48, "dropout": 0.1},
        },
        "task": {"kind": "responding", "turns": 2, "search": {"beam": 1, "longest": 8}},
        "algorithm": {"name": algorithm, "inner": {"test_steps": 2, "hold_out": 0.0}},
        "training": {"steps": steps, "episodes_per_step": 2, "learning_rate": 0.01, **counts},
        "validation": {"every": 2, "episodes": 2, **counts},
    }
    return parse_recipe(values | ({"start": str(start)} if start else {}), "a test")


def test_from_a_recipe_to_a_figure_and_a_task(data: Path, tmp_path: Path) -> None:
    outcome = train(recipe(data), tmp_path / "joint")
    assert outcome.trained.measures == MEASURES
    train(recipe(data, start=tmp_path / "joint", algorithm="first-order-maml"), tmp_path / "maml")
    figures = evaluate_run(
        tmp_path / "maml",
        data=str(data),
        shot=2,
        query=2,
        episodes=2,
        against=tmp_path / "joint",
        json_file=tmp_path / "figures.json",
    )
    assert figures["likelihood"] == pytest.approx(1 / figures["perplexity"], rel=0.01)
    assert 0 <= figures["hits@1"] <= 1
    assert {"perplexity_difference", "hits@1_difference_interval"} <= figures.keys()
    assert (figures["shot_counts"], figures["numbers"], figures["signatures"]) == ("dialogues", ["perplexity"], [])
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [len(written[f"each_{name}"]) for name in MEASURES] == [2] * 6
    learner = load(tmp_path / "maml")
    assert learner.kind == "responding"
    assert isinstance(learner.adapt([dialogue(90)]), AdaptedResponder)


def test_the_command_line_compares_two(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(data, steps=0), tmp_path / "start")
    words = ["evaluate", tmp_path / "start", "--data", data, "--shot", 2, "--query", 2, "--episodes", 2]
    assert main([*map(str, words), "--against", str(tmp_path / "start")]) == 0
    shown = capsys.readouterr().out
    assert "one person, 2 dialogues" in shown
    lines = shown.splitlines()
    assert "%" not in next(line for line in lines if line.startswith("perplexity "))
    assert "%" in next(line for line in lines if line.startswith("distinct-1 "))
    assert any(line.startswith("perplexity less") and "+0.00 " in line for line in lines)
    assert main(["data", "show", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "train" in shown
    assert "turn before" in shown


@pytest.mark.parametrize("name", ["responding-joint", "responding-maml", "responding-matching"])
def test_the_recipes_read_the_same_of_a_dialogue(name: str) -> None:
    found = load_recipe(name)
    assert isinstance(found.task, RespondingSettings)
    assert (found.task.turns, found.data.name, found.data.split) == (2, "personachat", "and_synthetic")
