"""The outer loop: it learns, says whether that paid, and a killed run goes on as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from kshot.artefact import load_learner
from kshot.data.examples import Episode, TextExample
from kshot.errors import KshotError
from kshot.run import train as train_module
from kshot.run.config import Recipe, TrainingSettings, parse_recipe
from kshot.run.train import cut_tokens, rate_factor, rotations, train
from kshot.tasks.base import Batch

WORDS = ["red", "green", "blue", "round", "square", "long", "short", "hot", "cold", "loud", "quiet", "soft"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve classes, each with a word of its own among others."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "text": " ".join(rng.permutation([word, *rng.choice(["a", "the", "of", "it", "is", "so"], 4)])),
            "label": f"c{i}",
        }
        for i, word in enumerate(WORDS)
        for _ in range(12)
    ]
    path = tmp_path / "words.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(data: Path, algorithm: str = "prototypical", **training: Any) -> Recipe:
    """A small run."""
    settings = {"steps": 6, "way": 4, "shot": 1, "query": 2, "learning_rate": 1e-2, **training}
    return parse_recipe(
        {
            "data": {"name": str(data)},
            "encoder": {"kind": "cnn", "tokens": "word", "embedding_dim": 8, "n_filters": 4, "dropout": 0.3},
            "task": {"class_names": False},
            "algorithm": {"name": algorithm, "inner": {"steps": 1} if algorithm == "maml" else {}},
            "training": settings,
            "validation": {"every": 2, "way": 2, "shot": 1, "query": 3, "episodes": 6},
        },
        "test",
    )


def files_of(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's learner."""
    folder = out / "learner"
    return {
        f"{path.name}/{name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def metrics_of(out: Path) -> list[dict[str, float]]:
    """The lines of the log, the times aside."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("algorithm", ["prototypical", "maml"])
@pytest.mark.parametrize("killed_at", [0, 1, 3, 5])
def test_a_killed_run_resumes_bit_for_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, killed_at: int
) -> None:
    settings = recipe(data, algorithm, token_cutoff=0.2)
    train(settings, tmp_path / "whole")

    update = train_module._update

    def dies(*arguments: Any) -> float:
        if arguments[-1] == killed_at:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(train_module, "_update", dies)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "killed")
    monkeypatch.setattr(train_module, "_update", update)
    train(settings, tmp_path / "killed", resume=True)

    whole, resumed = files_of(tmp_path / "whole"), files_of(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")


def test_a_run_killed_while_it_writes_a_checkpoint_has_the_one_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kshot.run import checkpoint

    settings = recipe(data)
    train(settings, tmp_path / "whole")
    write = checkpoint.save_file
    calls = iter(range(100))

    def dies(*arguments: Any) -> None:
        if next(calls) == 4:  # the second file of the second checkpoint
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(checkpoint, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == ["step-000002"]
    monkeypatch.setattr(checkpoint, "save_file", write)
    train(settings, tmp_path / "killed", resume=True)
    whole, resumed = files_of(tmp_path / "whole"), files_of(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("class_names", [False, True])
def test_training_leaves_the_global_generator_as_it_was(data: Path, tmp_path: Path, class_names: bool) -> None:
    settings = recipe(data, "relation")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task = settings.task.model_copy(update={"class_names": class_names})
    train(settings.model_copy(update={"task": task}), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_training_learns_and_says_by_how_much(data: Path, tmp_path: Path) -> None:
    outcome = train(recipe(data, steps=60, episodes_per_step=2), tmp_path / "run")
    assert outcome.lift.mean == pytest.approx(outcome.trained.accuracy.mean - outcome.start.accuracy.mean)
    assert np.isfinite(outcome.lift.half_width)
    learner, about = load_learner(tmp_path / "run")
    assert about["trained_on"].startswith("words")
    assert about["temperature"] > 0
    assert about["kept_start"] == outcome.kept_start
    assert not learner.training


def test_where_training_does_not_pay_the_start_is_kept(data: Path, tmp_path: Path) -> None:
    outcome = train(recipe(data, learning_rate=0.0), tmp_path / "run")
    assert outcome.kept_start
    assert outcome.best_step == 0
    assert outcome.lift.mean == 0.0


def test_a_baseline_is_saved_as_it_is(data: Path, tmp_path: Path) -> None:
    outcome = train(recipe(data, "nearest-neighbour", steps=0), tmp_path / "run")
    assert not outcome.kept_start
    assert load_learner(tmp_path / "run")[0].settings.name == "nearest-neighbour"


def test_patience_ends_a_run(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, learning_rate=0.0, steps=20)
    patient = settings.model_copy(update={"validation": settings.validation.model_copy(update={"patience": 2})})
    train(patient, tmp_path / "run")
    assert max(line["step"] for line in metrics_of(tmp_path / "run")) == 4


def test_a_folder_with_a_run_is_not_written_over(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe(data, steps=2), out)
    with pytest.raises(KshotError) as refusal:
        train(recipe(data, steps=2), out)
    assert (
        str(refusal.value) == f"{out} already holds a run; go on with it by --resume, or give another folder to --out."
    )
    with pytest.raises(KshotError) as refusal:
        train(recipe(data, steps=4), out, resume=True)
    assert str(refusal.value) == (
        f"{out} holds a run of another recipe; resume with the settings in {out / 'recipe.json'}, "
        "or give another --out."
    )


def test_a_run_of_an_older_kshot_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe(data, steps=2), out)
    values = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    del values["training"]["token_cutoff"], values["expect"]  # keys that did not exist yet
    (out / "recipe.json").write_text(json.dumps(values), encoding="utf-8")
    assert train(recipe(data, steps=2), out, resume=True).trained.scores.shape == (6, 2)
    (out / "recipe.json").write_text("{", encoding="utf-8")
    with pytest.raises(KshotError, match=r"recipe\.json is damaged \(.*\); restore the folder from a copy"):
        train(recipe(data, steps=2), out, resume=True)


def test_a_folder_with_other_things_is_not_used(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("important", encoding="utf-8")
    with pytest.raises(KshotError) as refusal:
        train(recipe(data), out)
    assert str(refusal.value) == f"{out} is not empty and holds no run; give a new folder to --out."
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "important"


def test_a_learner_with_nothing_to_learn_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KshotError) as refusal:
        train(recipe(data, "nearest-neighbour", trains="none"), tmp_path / "run")
    assert str(refusal.value) == (
        'Nothing in this learner learns: training.trains is "none" and its head has no weights; set training.steps=0.'
    )


@pytest.mark.parametrize("keeps", [True, False])
def test_what_makes_it_worse_is_kept_where_the_start_is_not(data: Path, tmp_path: Path, keeps: bool) -> None:
    settings = recipe(data, steps=2, learning_rate=1e-9)  # too little to be better at anything
    validation = settings.validation.model_copy(update={"keep_start": keeps, "choose_names": False})
    settings = settings.model_copy(update={"validation": validation})
    start = train_module.start_learner(settings, train_module.load_dataset(str(data))).state_dict()
    outcome = train(settings, tmp_path / "run")
    end = outcome.learner.state_dict()
    assert all(torch.equal(end[name], tensor) for name, tensor in start.items()) == keeps
    assert (outcome.best_step, outcome.kept_start) == ((0, True) if keeps else (2, False))
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["valid"] >= 0


def test_a_rate_of_zero_is_one(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, "relation", steps=2, head_learning_rate=0.0)
    start = train_module.start_learner(settings, train_module.load_dataset(str(data))).state_dict()
    kept = settings.model_copy(update={"validation": settings.validation.model_copy(update={"keep_start": False})})
    end = train(kept, tmp_path / "run").learner.state_dict()
    assert all(torch.equal(end[name], tensor) for name, tensor in start.items() if not name.startswith("encoder."))


def test_a_frozen_encoder_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, "relation", trains="none", steps=4)
    start = train_module.start_learner(settings, train_module.load_dataset(str(data)))
    before = {name: tensor.clone() for name, tensor in start.encoder.state_dict().items()}
    outcome = train(settings, tmp_path / "run")
    assert all(torch.equal(tensor, before[name]) for name, tensor in outcome.learner.encoder.state_dict().items())


# -- what an update is made of -----------------------------------------------------------------------------------------


def episode(way: int, shot: int, query: int) -> Episode:
    """An episode whose texts are all different."""
    classes = tuple(f"c{k}" for k in range(way))
    support = tuple(TextExample(f"s {name} {i}", name) for name in classes for i in range(shot))
    return Episode(
        support, tuple(TextExample(f"q {name} {i}", name) for name in classes for i in range(query)), classes, 0
    )


@given(way=st.integers(2, 4), shot=st.integers(1, 3), query=st.integers(1, 5))
def test_rotations_use_every_text_once_as_support(way: int, shot: int, query: int) -> None:
    whole = episode(way, shot, query)
    turned = rotations(whole)
    assert len(turned) == (shot + query) // shot
    assert turned[0] == whole
    everything = {*whole.support, *whole.query}
    supports = [example for each in turned for example in each.support]
    assert len(supports) == len(set(supports)) == len(turned) * way * shot
    for each in turned:
        assert set(each.support).isdisjoint(each.query)
        assert {*each.support, *each.query} == everything


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8), share=st.floats(0.01, 0.99), seed=st.integers(0, 9)
)
def test_cut_tokens_keeps_the_ends_and_cuts_a_text_the_same_everywhere(
    lengths: list[int], share: float, seed: int
) -> None:
    texts = tuple(np.arange(length, dtype=np.int32) for length in lengths)
    batch = Batch(texts, {})
    [(support, query)] = cut_tokens([(batch, batch)], share, (seed, 0))
    for before, after, again in zip(texts, support.texts, query.texts, strict=True):
        assert after is again
        assert after[0] == before[0]
        assert after[-1] == before[-1]
        assert list(after) == sorted(set(after.tolist()))
    assert [list(text) for text in cut_tokens([(batch, batch)], share, (seed, 0))[0][0].texts] == [
        list(text) for text in support.texts
    ]


def test_the_rate_rises_and_falls() -> None:
    linear = TrainingSettings(steps=10, warmup=0.2, schedule="linear")
    assert [rate_factor(step, linear) for step in range(10)] == [0.5, 1.0, *[1 - i / 8 for i in range(8)]]
    constant = TrainingSettings(steps=10, warmup=0.0, schedule="constant")
    assert {rate_factor(step, constant) for step in range(10)} == {1.0}
    cosine = TrainingSettings(steps=8, warmup=0.0, schedule="cosine")
    assert rate_factor(4, cosine) == pytest.approx(0.5)


def test_a_recipe_that_cannot_run_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KshotError):
        train(recipe(data, way=50), tmp_path / "run")
    with pytest.raises(KshotError):
        train(recipe(data, "nearest-neighbour", trains="none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_few_texts_of_a_class_are_enough_for_a_temperature(data: Path, tmp_path: Path) -> None:
    rows = data.read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join(row for k in range(12) for row in rows[12 * k : 12 * k + 4]) + "\n", encoding="utf-8")
    settings = recipe(data, steps=2)
    assert settings.validation.query == 3  # with one shot all that there is
    train(settings, tmp_path / "run")
    assert load_learner(tmp_path / "run")[1]["temperature"] > 0


@pytest.mark.parametrize("stream", ["judgement", "temperature"])
def test_what_cannot_be_drawn_at_the_end_is_refused_at_the_start(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """Some samplers find out that there is too little only when they draw."""
    build = train_module._temperature_sampler if stream == "temperature" else train_module.sampler

    def failing(*given: Any) -> Any:
        made = build(*given)
        if stream in ("temperature", *given):
            monkeypatch.setattr(made, "draw", lambda i: (_ for _ in ()).throw(KshotError(f"no episode {i}")))
        return made

    monkeypatch.setattr(train_module, build.__name__, failing)
    with pytest.raises(KshotError, match="no episode 0"):
        train(recipe(data, steps=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_small_classes_are_left_out_and_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"one of few {i}", "label": "few", "part": "train"} for i in range(2)]
    parts = ["train"] * 7 + ["valid"] * 3 + ["test"] * 2
    lines = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        rows.append({**line, "part": parts[int(line["label"][1:])]})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = recipe(data, steps=2, shot=2)
    with pytest.raises(KshotError, match='Class "few"'):
        train(settings, tmp_path / "refused")
    lenient = settings.model_copy(update={"data": settings.data.model_copy(update={"skip_small": True})})
    train(lenient, tmp_path / "run")
    assert "Left out of train, with too few examples: few." in capsys.readouterr().err
