"""Understanding from a recipe to a figure: the same commands as for every other kind of task."""

import json
from pathlib import Path
from typing import Any

import pytest

from kshot.cli import main
from kshot.errors import KshotError
from kshot.meta_learner import load
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import evaluate_run
from kshot.run.train import train
from kshot.tasks.understanding import Understanding
from kshot.understanding import AdaptedUnderstanding
from toy import utterances


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three domains to train on, two to choose by, two new ones; each of two intents with a slot each."""
    rows = []
    for domain, part in enumerate(["train", "train", "train", "valid", "valid", "test", "test"]):
        for number, each in enumerate(utterances([0] * domain + [6, 6], domain, 0)[-12:]):
            slots = [{"slot": span.label, "start": span.start, "end": span.end} for span in each.spans]
            history = [{"speaker": turn.speaker, "text": f"{turn.text} {number}"} for turn in each.history]
            row = {"text": each.text, "intent": each.intent, "slots": slots, "history": history}
            rows.append({**row, "task": f"domain {domain}", "part": part})
    path = tmp_path / "domains.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def recipe(data: Path, *, algorithm: str = "prototypical", scheme: str = "bio", **training: Any) -> Recipe:
    return parse_recipe(
        {
            "data": {"name": str(data)},
            "encoder": {"kind": "cnn", "embedding_dim": 8, "n_filters": 6, "vocabulary_size": 200},
            "task": {"kind": "understanding", "scheme": scheme, "transitions": "learned"},
            "algorithm": {"name": algorithm},
            "training": {"steps": 6, "way": "all", "shot": [1, 2], "query": 2, "learning_rate": 0.01, **training},
            "validation": {"every": 2, "way": "all", "shot": 1, "query": 2, "episodes": 4},
        },
        "a test",
    )


@pytest.mark.parametrize(("algorithm", "scheme"), [("ridge", "bio"), ("decomposed", "spans")])
def test_from_a_recipe_to_a_figure_and_a_task(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str, scheme: str
) -> None:
    outcome = train(recipe(data, algorithm=algorithm, scheme=scheme), tmp_path / "run")
    assert outcome.trained.measures == ("joint accuracy", "intent accuracy", "slot F1")
    figures = evaluate_run(tmp_path / "run", data=str(data), shot=1, query=2, episodes=3)
    assert (figures["way"], figures["shot_counts"]) == ("all", "turns")
    assert 0 <= figures["joint_accuracy"] <= figures["intent_accuracy"] <= 1
    learner = load(tmp_path / "run")
    assert learner.kind == "understanding"
    task = learner.learner.task
    assert isinstance(task, Understanding)
    assert task.settings.table is not None  # measured on the training turns
    assert "intent:alarm" not in learner.classes_seen
    assert "slot:light/switch_on" in learner.classes_seen
    adapted = learner.adapt(utterances((3, 3), 0, 3))
    assert isinstance(adapted, AdaptedUnderstanding)
    assert adapted.predict(["a lamp bulb please"])[0].intent in adapted.intents
    evaluate = ["evaluate", str(tmp_path / "run"), "--data", str(data), "--shot", "1", "--query", "2"]
    assert main([*evaluate, "--episodes", "3"]) == 0
    assert "one domain, 1 turns an intent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"rotate": True}, "training.rotate is for classification: it would take words apart; leave it out."),
        (
            {"augment": ["drop_words"]},
            "training.augment changes texts, and would part slots from their places; leave it out.",
        ),
        ({"way": 2}, 'way is 2, but an episode of a domain has all of its intents; write "all".'),
    ],
)
def test_settings_that_do_not_fit_turns(data: Path, tmp_path: Path, training: Any, expected: str) -> None:
    with pytest.raises(KshotError) as caught:
        train(recipe(data, **training), tmp_path / "run")
    assert str(caught.value) == expected
    assert not (tmp_path / "run").exists()
