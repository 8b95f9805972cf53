"""Figures: means, intervals and pairs against NumPy, SciPy and scikit-learn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from contract import encoder, learner
from kshot.data.examples import TextExample
from kshot.data.sampler import EpisodeSampler
from kshot.errors import KshotError
from kshot.run.config import parse_recipe
from kshot.run.evaluate import Evaluation, estimate, evaluate, evaluate_run
from kshot.run.train import train
from kshot.tasks.scores import accuracy, macro_f1
from toy import episode


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_scores_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, predicted = (np.array(each, dtype=np.int64) for each in zip(*pairs, strict=True))
    assert accuracy(true, predicted) == pytest.approx(accuracy_score(true, predicted))
    assert macro_f1(true, predicted, 5) == pytest.approx(f1_score(true, predicted, average="macro"))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_the_interval_is_students_t(values: list[float]) -> None:
    found = estimate(np.array(values))
    if np.ptp(values) > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert found.mean == pytest.approx(np.mean(values))
        assert found.half_width == pytest.approx((high - low) / 2)
    assert math.isinf(estimate(np.array(values[:1])).half_width)


def test_a_lift_is_paired() -> None:
    shared = np.linspace(0, 1, 20)
    measures = ("accuracy", "macro F1")
    ours = Evaluation(measures, np.stack([shared + 0.01, shared], axis=1), 0.0)
    theirs = Evaluation(measures, np.stack([shared, shared], axis=1), 0.0)
    assert ours.lift(theirs).mean == pytest.approx(0.01)
    assert ours.lift(theirs).half_width == pytest.approx(0.0, abs=1e-12)
    assert ours.accuracy.half_width > 0.1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A frozen learner, and data that it cannot get wrong."""
    folder = tmp_path_factory.mktemp("run")
    words = ["red", "green", "blue", "round", "square", "long"]
    rows = [{"text": " ".join([word] * (2 + i)), "label": word} for word in words for i in range(8)]
    data = folder / "words.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = parse_recipe(
        {
            "data": {"name": str(data)},
            "encoder": {"kind": "cnn", "tokens": "bpe", "embedding_dim": 16, "n_filters": 8},
            "algorithm": {"name": "nearest-neighbour"},
            "training": {"steps": 0},
            "validation": {"way": "all", "shot": 1, "query": 2, "episodes": 3},
        },
        "test",
    )
    train(recipe, folder / "out")
    return folder / "out", data


def test_evaluate_run_writes_what_it_returns(run: tuple[Path, Path], tmp_path: Path) -> None:
    out, data = run
    figures = evaluate_run(
        out,
        data=str(data),
        part="test",
        way="all",
        shot=2,
        query="all",
        episodes=4,
        json_file=tmp_path / "figures.json",
    )
    written = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert len(written.pop("each_accuracy")) == len(written.pop("each_macro F1")) == 4
    assert written == figures
    assert figures["accuracy"] == 1.0
    assert figures["macro_f1"] == 1.0
    assert figures["seconds_per_adaptation"] > 0


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kshot.run.evaluate.evaluate", lambda *_, **__: pytest.fail("it worked in vain"))
    with pytest.raises(KshotError) as caught:
        evaluate_run(run[0], data=str(run[1]), json_file=tmp_path / "no" / "x.json")
    assert str(caught.value) == (
        f"{tmp_path / 'no' / 'x.json'} could not be written (No such file or directory); choose another place."
    )


def test_figures_are_shown_before_they_are_written(run: tuple[Path, Path], tmp_path: Path) -> None:
    shown = []

    def show(figures: dict[str, object]) -> None:
        shown.append(figures)
        (tmp_path / "x.json").mkdir()  # someone else was faster

    with pytest.raises(KshotError, match=r"x\.json is a folder; give the name of a file\."):
        evaluate_run(
            run[0], data=str(run[1]), way="all", shot=1, query=1, episodes=2, json_file=tmp_path / "x.json", show=show
        )
    assert shown[0]["accuracy"] == 1.0


def test_evaluating_leaves_the_mode_and_the_weights_alone(run: tuple[Path, Path]) -> None:
    from kshot.artefact import load_learner

    learner, _ = load_learner(run[0])
    examples = [TextExample(f"{word} {i}", word) for word in ("red", "blue") for i in range(5)]
    learner.train()
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    evaluate(learner, EpisodeSampler(examples, way=2, shot=1, query=2, seed=0, n_episodes=3))
    assert learner.training
    assert all((tensor == before[name]).all() for name, tensor in learner.state_dict().items())


def test_timing_encodes_every_text_anew(run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from kshot.artefact import load_learner
    from kshot.models import encoder as encoder_module

    learner, _ = load_learner(run[0])
    examples = [TextExample(f"{word} {i}", word) for word in ("red", "blue") for i in range(5)]
    sampler = EpisodeSampler(examples, way=2, shot=1, query=2, seed=0, n_episodes=3)
    calls = []
    whole = encoder_module._encode
    monkeypatch.setattr(encoder_module, "_encode", lambda *given: (calls.append(len(given[1])), whole(*given))[1])
    with learner.encoder.remembering():
        evaluate(learner, sampler, time=False)
        known = len(calls)
        evaluate(learner, sampler, time=True)
    assert len(calls) - known == len(sampler)


def test_another_algorithm_over_the_same_encoder(run: tuple[Path, Path]) -> None:
    out, data = run
    figures = evaluate_run(out, data=str(data), way="all", shot=2, query=2, episodes=3, algorithm="ridge")
    assert figures["algorithm"] == "ridge"
    with pytest.raises(KshotError) as caught:
        evaluate_run(out, data=str(data), way="all", shot=2, query=2, episodes=3, algorithm="rigde")
    assert str(caught.value).startswith('There is no algorithm "rigde". Did you mean "ridge"?')


def test_episodes_that_move_the_encoder_are_scored_at_once_as_one_by_one(tiny_bert: Path) -> None:
    made = learner("maml", encoder("lstm", tiny_bert))
    episodes = [episode(seed=seed) for seed in range(7)]
    expected = evaluate(made, episodes, time=False)
    torch.set_num_threads(2)
    try:
        found = evaluate(made, episodes, time=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert found.scores.tolist() == expected.scores.tolist()
