"""Translators from a recipe to a figure: the same commands as for the other kinds of task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kshot.artefact import save_learner
from kshot.cli import main
from kshot.errors import KshotError
from kshot.meta_learner import load
from kshot.run.bootstrap import paired_bootstrap
from kshot.run.config import Recipe, parse_recipe
from kshot.run.evaluate import evaluate_run
from kshot.run.train import train
from kshot.tasks.translation import Translation, corpus_scores
from kshot.translator import AdaptedTranslator
from toy import sentence_pairs
from users import meta_learner


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs of languages to train on, one to choose by, one new one."""
    rows = ["source\ttarget\ttask\tpart"]
    for number, part in enumerate(["train", "train", "train", "valid", "test"]):
        rows += [
            f"{each.source} {number}\t{each.target} {number}\ttask {number}\t{part}"
            for each in sentence_pairs(24, number)
        ]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def recipe(data: Path, *, start: Path | None = None, algorithm: str = "fine-tuning", steps: int = 4) -> Recipe:
    source = {"kind": "transformer", "n_layers": 1, "n_heads": 2, "model_dim": 8, "embedding_dim": 8}
    counts = {"way": "all", "shot": 4, "query": 4}
    values: dict[str, Any] = {
        "data": {"name": str(data)},
        "encoder": {
            "kind": "encoder-decoder",
            "n_layers": 1,
            "n_heads": 2,
            "source": {**source, "vocabulary_size": 300, "max_length": 32, "dropout": 0.1},
        },
        "task": {"kind": "translation", "search": {"beam": 1}},
        "algorithm": {"name": algorithm, "inner": {"test_steps": 3}},
        "training": {"steps": steps, "episodes_per_step": 2, "learning_rate": 0.01, **counts},
        "validation": {"every": 2, "episodes": 2, **counts},
    }
    return parse_recipe(values | ({"start": str(start)} if start else {}), "a test")


def test_from_a_recipe_to_a_figure_and_a_task(data: Path, tmp_path: Path) -> None:
    outcome = train(recipe(data), tmp_path / "joint")
    assert outcome.trained.measures == ("BLEU", "chrF")
    train(recipe(data, start=tmp_path / "joint", algorithm="reptile", steps=2), tmp_path / "reptile")
    start, further = (load_file(tmp_path / run / "learner" / "encoder.safetensors") for run in ("joint", "reptile"))
    assert start.keys() == further.keys()
    figures = evaluate_run(
        tmp_path / "reptile",
        data=str(data),
        way="all",
        shot=4,
        query=4,
        episodes=2,
        against=tmp_path / "joint",
        json_file=tmp_path / "figures.json",
    )
    assert 0 <= figures["bleu"] <= 1
    assert [name.partition("|")[0] for name in figures["signatures"]] == ["BLEU", "chrF2"]
    assert {"bleu_difference", "chrf_difference_interval", "bootstrap"} <= figures.keys()
    assert json.loads((tmp_path / "figures.json").read_text())["against"] == str(tmp_path / "joint")
    learner = load(tmp_path / "reptile")
    assert learner.kind == "translation"
    assert "temperature" not in learner.about
    pairs = sentence_pairs(6, 9)
    adapted = learner.adapt([each.source for each in pairs], [each.target for each in pairs])
    assert isinstance(adapted, AdaptedTranslator)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe(data), tmp_path / "whole").learner
    from kshot.run import train as module

    update, done = module._update, 0

    def interrupted(*arguments: Any) -> float:
        nonlocal done
        done += 1
        if done == 4:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(module, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(data), tmp_path / "stopped")
    monkeypatch.setattr(module, "_update", update)
    again = train(recipe(data), tmp_path / "stopped", resume=True).learner
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_command_line_compares_two(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe(data, steps=0), tmp_path / "start")
    words = ["evaluate", tmp_path / "start", "--data", data, "--shot", 4, "--query", 4, "--episodes", 2]
    assert main([*map(str, words), "--against", str(tmp_path / "start")]) == 0
    shown = capsys.readouterr().out
    assert "one pair of languages, 4 sentence pairs" in shown
    assert "+0.00 points" in shown
    assert "Paired bootstrap over the sentences: +0.0 BLEU" in shown
    assert "chrF2|" in shown


def test_comparing_adapts_and_translates_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(data, steps=0), tmp_path / "start")
    searched, texts = [], Translation.texts
    monkeypatch.setattr(Translation, "texts", lambda *given: (searched.append(1), texts(*given))[1])
    counts: dict[str, Any] = {"way": "all", "shot": 2, "query": 2, "episodes": 3}
    evaluate_run(tmp_path / "start", data=str(data), **counts, against=tmp_path / "start")
    assert len(searched) == 6


def test_learners_of_two_kinds_are_not_compared(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(data, steps=0), tmp_path / "one")
    monkeypatch.setattr("kshot.run.evaluate.evaluate", lambda *_, **__: pytest.fail("it worked in vain"))
    save_learner(meta_learner().learner, tmp_path / "other", about={})
    with pytest.raises(KshotError) as caught:
        evaluate_run(
            tmp_path / "one", data=str(data), way="all", shot=2, query=2, episodes=2, against=tmp_path / "other"
        )
    assert str(caught.value) == f"{tmp_path / 'other'} learns classification, not translation; compare two of one kind."


# -- the bootstrap -----------------------------------------------------------------------------------------------------

REFERENCES = [
    f"the {colour} house stands on the {size} hill" for colour in ("red", "blue") for size in ("old", "new", "low")
]


def test_the_difference_is_that_of_the_corpus_scores() -> None:
    one, other = REFERENCES, [text.replace("house", "home") for text in REFERENCES]
    found = paired_bootstrap([one], [other], [REFERENCES], n_samples=200)
    wanted = 100 * (corpus_scores(one, REFERENCES)[0] - corpus_scores(other, REFERENCES)[0])
    assert found.points == pytest.approx(wanted)
    assert found.low <= found.points <= found.high
    assert found.low > 0


def test_what_is_the_same_does_not_differ_and_what_is_turned_round_is() -> None:
    rng = np.random.default_rng(0)
    made = [" ".join(rng.permutation(text.split())) for text in REFERENCES]
    same = paired_bootstrap([made], [made], [REFERENCES], n_samples=50)
    assert (same.points, same.low, same.high) == (0, 0, 0)
    there = paired_bootstrap([REFERENCES], [made], [REFERENCES], n_samples=50)
    back = paired_bootstrap([made], [REFERENCES], [REFERENCES], n_samples=50)
    assert (back.points, back.low, back.high) == pytest.approx((-there.points, -there.high, -there.low))
    assert paired_bootstrap([REFERENCES], [made], [REFERENCES], n_samples=50) == there
