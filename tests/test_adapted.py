"""Adapted tasks: predictions, threads, classes that come and go, and what is saved."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import kshot.classifier
import kshot.meta.learner
from contract import learner as toy_learner
from kshot.classifier import AdaptedClassifier
from kshot.errors import KshotError
from kshot.meta.algorithms import ALGORITHMS
from kshot.meta_learner import MetaLearner, load, load_task
from toy import CLASSES, episode, scratch
from users import LABELS, QUERIES, TEXTS, meta_learner, task


def sentence(caught: pytest.ExceptionInfo[KshotError]) -> str:
    return str(caught.value)


# -- predicting --------------------------------------------------------------------------------------------------------


def test_a_prediction_says_what_it_must() -> None:
    adapted = task()
    prediction, row = adapted.predict(QUERIES[:1])[0], adapted.predict_proba(QUERIES[:1])[0]
    assert prediction.label == adapted.classes[row.argmax()]
    assert prediction.confidence == row.max()
    assert list(prediction.probabilities.values()) == sorted(row, reverse=True)
    assert prediction.probabilities == dict(zip(adapted.classes, row, strict=True))
    assert prediction.out_of_scope == adapted.out_of_scope(QUERIES[:1])[0]
    assert prediction.in_scope == (prediction.out_of_scope <= adapted.scope.threshold)


def test_probabilities_are_probabilities() -> None:
    probabilities = task().predict_proba(QUERIES)
    assert probabilities.shape == (len(QUERIES), 4)
    assert probabilities.dtype == np.float64
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert (probabilities >= 0).all()


def test_the_temperature_divides_the_logits() -> None:
    adapted = task()
    core = adapted.learner.learner
    batch = core.task.collate(episode().query, adapted.classes, core.encoder.vocabulary, support=False)
    with torch.no_grad():
        logits = core.logits(adapted._state, batch)["label"].double()
    expected = (logits / adapted.temperature).softmax(-1).numpy()
    assert np.allclose(adapted.predict_proba([e.text for e in episode().query]), expected)


def test_no_texts_give_no_predictions() -> None:
    adapted = task()
    assert adapted.predict([]) == []
    assert adapted.predict_proba([]).shape == (0, 4)
    assert adapted.out_of_scope([]).shape == (0,)


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(KshotError) as caught:
        task().predict("light on")
    assert sentence(caught) == 'One text was given where a list of them is expected; write ["..."].'


def test_many_texts_go_in_blocks_and_each_once_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted, seen = task(), []
    encode = type(adapted.learner.learner).vectors
    monkeypatch.setattr(
        type(adapted.learner.learner),
        "vectors",
        lambda self, batch, state=None: (seen.append(len(batch.texts)), encode(self, batch, state))[1],
    )
    monkeypatch.setattr(kshot.classifier, "BLOCK", 8)
    texts = [QUERIES[0]] * 8 + QUERIES[:4] * 2 + QUERIES[:2]
    blocks = adapted.predict_proba(texts)
    assert seen == [1, 4, 2]
    monkeypatch.setattr(kshot.classifier, "BLOCK", 1024)
    assert np.allclose(blocks, adapted.predict_proba(texts), atol=1e-6)


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["prototypical", "maml", "protomaml"])
@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_tasks_of_one_learner_predict_side_by_side(algorithm: str, kind: str) -> None:
    learner = meta_learner(algorithm, kind)
    episodes = [episode(shots=(3, 3, 3), seed=seed) for seed in range(4)]
    adapted = [learner.adapt(drawn.support) for drawn in episodes]
    alone = [each.predict_proba(QUERIES) for each in adapted]

    def work(number: int) -> np.ndarray:
        learner.learner.encoder.vocabulary.forget()
        if number % 3 == 0:
            return learner.adapt(episodes[number % 4].support).predict_proba(QUERIES)
        return adapted[number % 4].predict_proba(QUERIES)

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(work, range(60))):
            assert np.array_equal(found, alone[number % 4]), number


def test_adapting_leaves_the_learner_as_it_was() -> None:
    learner = meta_learner("maml")
    before = {name: tensor.clone() for name, tensor in learner.learner.state_dict().items()}
    learner.adapt(TEXTS, LABELS).predict(QUERIES)
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.learner.state_dict().items())


# -- classes that come and go ------------------------------------------------------------------------------------------


def same(one: AdaptedClassifier, other: AdaptedClassifier, atol: float = 1e-5) -> None:
    assert one.classes == other.classes
    assert one.temperature == pytest.approx(other.temperature, rel=1e-4)
    assert one.scope.threshold == pytest.approx(other.scope.threshold, abs=1e-5)
    assert np.allclose(one.predict_proba(QUERIES), other.predict_proba(QUERIES), atol=atol)
    assert np.allclose(one.out_of_scope(QUERIES), other.out_of_scope(QUERIES), atol=1e-5)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_adding_a_class_equals_adapting_from_scratch(algorithm: str) -> None:
    learner = meta_learner(algorithm)
    new = [example.text for example in episode(shots=(3,), classes=[CLASSES[6]]).support]
    grown = learner.adapt(TEXTS, LABELS).add_class("alarm", new)
    same(grown, learner.adapt([*TEXTS, *new], [*LABELS, *["alarm"] * 3]), atol=1e-3)


def test_adding_examples_equals_adapting_from_scratch() -> None:
    grown = meta_learner().adapt(TEXTS[:15], LABELS[:15]).add_examples(TEXTS[15:], LABELS[15:])
    same(grown, task())


def test_removing_a_class_equals_adapting_without_it() -> None:
    gone = LABELS[0]
    kept = [(text, label) for text, label in zip(TEXTS, LABELS, strict=True) if label != gone]
    same(task().remove_class(gone), meta_learner().adapt(*map(list, zip(*kept, strict=True))))


def test_a_task_is_not_changed_by_what_is_made_of_it() -> None:
    adapted = task()
    before = adapted.predict_proba(QUERIES)
    adapted.add_class("new", ["something else"]).remove_class(LABELS[0])
    assert adapted.classes == task().classes
    assert np.array_equal(adapted.predict_proba(QUERIES), before)


def test_texts_that_are_known_are_not_encoded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adapted = task()
    adapted.save(tmp_path / "task")
    encoded: list[int] = []
    encode = kshot.meta.learner.encode
    monkeypatch.setattr(
        kshot.meta.learner,
        "encode",
        lambda e, texts, *rest, **own: (encoded.append(len(texts)), encode(e, texts, *rest, **own))[1],
    )
    for each in (adapted, load_task(tmp_path / "task")):
        each.add_class("new", ["something else entirely"])
    assert encoded == [2, 2]  # the text and the name of its class


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: t.add_class(LABELS[0], ["x"]),
            f'There is a class "{LABELS[0]}" already; add_examples adds texts to it.',
        ),
        (lambda t: t.add_class("new", []), 'The class "new" has no example; give at least one.'),
        (lambda t: t.add_examples(["x"], ["nothing"]), 'There is no class "nothing"; add_class adds one.'),
        (
            lambda t: t.add_class("new", [TEXTS[0]]),
            f'The text "{TEXTS[0]}" stands under two labels, "{LABELS[0]}" and "new"; leave it under one.',
        ),
    ],
)
def test_changes_that_cannot_be_made(change, expected) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(KshotError) as caught:
        change(task())
    assert sentence(caught) == expected


def test_the_last_two_classes_stay() -> None:
    two = meta_learner().adapt(["light on", "book it"], ["a", "b"])
    with pytest.raises(KshotError) as caught:
        two.remove_class("a")
    assert sentence(caught) == 'Without "a" there is one class only; add another before you remove it.'
    with pytest.raises(KshotError) as caught:
        two.remove_class("c")
    assert sentence(caught) == 'There is no class "c". Known: a, b.'


def test_an_inner_loop_that_diverges_says_so() -> None:
    learner = MetaLearner(toy_learner("maml", scratch("cnn"), inner={"rate": 1e30}))
    with pytest.raises(KshotError) as caught:
        learner.adapt(TEXTS, LABELS)
    assert sentence(caught) == (
        "Adapting by maml diverged: the steps of its inner loop are too large for this task; "
        "meta-train with a smaller algorithm.inner.rate than 1e+30."
    )


@pytest.mark.parametrize(
    ("algorithm", "head", "cause"),
    [
        ("anchored", {"rate": 1e30}, "settings of its head ({'rate': 1e+30}) are too large; take smaller ones"),
        ("ridge", {}, "weights of its encoder are too large, as after a training that diverged; take another learner"),
    ],
)
def test_what_is_not_finite_without_an_inner_loop_says_so(algorithm: str, head: dict[str, float], cause: str) -> None:
    learner = MetaLearner(toy_learner(algorithm, scratch("cnn"), head=head))
    if not head:
        next(learner.learner.encoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(KshotError) as caught:
        learner.adapt(TEXTS, LABELS)
    assert sentence(caught) == f"Adapting by {algorithm} gave numbers that are not finite: the {cause}."


# -- saving ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A learner's folder in a run's."""
    learner = MetaLearner(toy_learner("prototypical", scratch("cnn")), {"title": "toy"})
    learner.save(tmp_path / "run" / "learner")
    return tmp_path / "run"


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("bundle", [False, True])
def test_a_reloaded_task_predicts_the_same_to_the_last_bit(algorithm: str, bundle: bool, tmp_path: Path) -> None:
    learner = MetaLearner(toy_learner(algorithm, scratch("cnn")))
    learner.save(tmp_path / "learner")
    adapted = learner.adapt(TEXTS, LABELS)
    adapted.save(tmp_path / "task", bundle=bundle)
    loaded = load_task(tmp_path / "task")
    assert (loaded.classes, loaded.examples, loaded.temperature) == (
        adapted.classes,
        adapted.examples,
        adapted.temperature,
    )
    assert np.array_equal(loaded.predict_proba(QUERIES), adapted.predict_proba(QUERIES))
    assert np.array_equal(loaded.out_of_scope(QUERIES), adapted.out_of_scope(QUERIES))
    assert loaded.predict(QUERIES) == adapted.predict(QUERIES)
    changed, expected = loaded.add_class("new", ["a new thing"]), adapted.add_class("new", ["a new thing"])
    assert np.array_equal(changed.predict_proba(QUERIES), expected.predict_proba(QUERIES))


def test_nothing_is_pickled(home: Path) -> None:
    load(home).adapt(TEXTS, LABELS).save(home / "task", bundle=True)
    files = {path.suffix for path in home.rglob("*") if path.is_file()}
    assert files == {".json", ".jsonl", ".safetensors"}


def test_a_bundle_can_be_moved_alone(home: Path, tmp_path: Path) -> None:
    adapted = load(home).adapt(TEXTS, LABELS)
    adapted.save(tmp_path / "task", bundle=True)
    shutil.move(tmp_path / "task", tmp_path / "elsewhere")
    shutil.rmtree(home)
    assert load_task(tmp_path / "elsewhere").predict(QUERIES) == adapted.predict(QUERIES)


def test_task_and_learner_can_be_moved_together(home: Path, tmp_path: Path) -> None:
    adapted = load(home).adapt(TEXTS, LABELS)
    adapted.save(home / "tasks" / "first")
    assert not (home / "tasks" / "first" / "learner").exists()
    shutil.move(home, tmp_path / "elsewhere")
    assert load_task(tmp_path / "elsewhere" / "tasks" / "first").predict(QUERIES) == adapted.predict(QUERIES)


def test_a_learner_that_was_never_saved_goes_into_the_task(tmp_path: Path) -> None:
    MetaLearner(toy_learner("prototypical", scratch("cnn"))).adapt(TEXTS, LABELS).save(tmp_path / "task")
    assert load_task(tmp_path / "task").classes == task().classes


@pytest.mark.parametrize("change", ["gone", "trained anew"])
def test_a_learner_that_is_not_where_it_was_goes_into_the_task(change: str, home: Path, tmp_path: Path) -> None:
    adapted = load(home).adapt(TEXTS, LABELS)
    if change == "gone":
        shutil.rmtree(home)
    else:
        MetaLearner(toy_learner("prototypical", scratch("cnn", seed=1))).save(home / "learner")
    adapted.save(tmp_path / "task")
    assert load_task(tmp_path / "task").predict(QUERIES) == adapted.predict(QUERIES)


def test_a_learner_that_has_moved(home: Path, tmp_path: Path) -> None:
    adapted = load(home).adapt(TEXTS, LABELS)
    adapted.save(tmp_path / "task")
    shutil.move(home, tmp_path / "moved")
    with pytest.raises(KshotError) as caught:
        load_task(tmp_path / "task")
    assert sentence(caught) == (
        f"The learner of the task in {tmp_path / 'task'} is not in {home / 'learner'} any more; say where it is: "
        f'kshot.load_task("{tmp_path / "task"}", learner=...), or --learner on the command line.'
    )
    for learner in (tmp_path / "moved", str(tmp_path / "moved"), load(tmp_path / "moved")):
        assert load_task(tmp_path / "task", learner=learner).predict(QUERIES) == adapted.predict(QUERIES)


def test_a_learner_that_has_changed(home: Path, tmp_path: Path) -> None:
    load(home).adapt(TEXTS, LABELS).save(tmp_path / "task")
    MetaLearner(toy_learner("prototypical", scratch("cnn", seed=1))).save(home / "learner")
    with pytest.raises(KshotError) as caught:
        load_task(tmp_path / "task")
    assert sentence(caught) == (
        f"The learner in {home / 'learner'} is not the one that the task in {tmp_path / 'task'} was adapted with: its "
        "weights or settings have changed; adapt the task again, or give the learner as it was."
    )


def test_saving_never_replaces_anything_but_a_task(home: Path, tmp_path: Path) -> None:
    adapted = load(home).adapt(TEXTS, LABELS)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("dear diary")
    with pytest.raises(KshotError) as caught:
        adapted.save(tmp_path / "notes")
    assert sentence(caught) == f"{tmp_path / 'notes'} is not empty and holds no task; give a new folder."
    with pytest.raises(KshotError) as caught:
        adapted.save(home / "learner")
    assert sentence(caught) == f"{home / 'learner'} holds a learner, not a task."
    with pytest.raises(KshotError) as caught:
        adapted.save(tmp_path / "notes" / "a.txt")
    assert sentence(caught) == f"{tmp_path / 'notes' / 'a.txt'} is a file; give a new folder."
    adapted.save(tmp_path / "task")
    adapted.remove_class(LABELS[0]).save(tmp_path / "task")
    assert len(load_task(tmp_path / "task").classes) == 3


def test_what_lies_in_a_task_and_is_not_kshots_stays(home: Path, tmp_path: Path) -> None:
    adapted, folder = load(home).adapt(TEXTS, LABELS), tmp_path / "task"
    adapted.save(folder, bundle=True)
    for name in ("predictions.jsonl", "learner/notes.txt", "more/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("my own")
    load_task(folder).teach("something else", "new class").save(folder)
    adapted.save(folder, examples=False)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {"predictions.jsonl", "learner/notes.txt", "more/notes.txt"}
    assert left == {"kshot.json", "state.safetensors", *own}  # neither the examples nor the copy of the learner
    assert {(folder / name).read_text() for name in own} == {"my own"}


def test_a_damaged_task_says_what_is_damaged(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    with pytest.raises(KshotError) as caught:
        load_task(folder)
    assert sentence(caught) == f"{folder} does not exist; give the folder of a task, as kshot adapt wrote it."
    load(home).adapt(TEXTS, LABELS).save(folder)
    manifest = json.loads((folder / "kshot.json").read_text())
    (folder / "kshot.json").write_text(json.dumps({**manifest, "temperature": "warm"}))
    with pytest.raises(KshotError) as caught:
        load_task(folder)
    assert sentence(caught).startswith(f'{folder / "kshot.json"} is damaged ("temperature": ')
    (folder / "kshot.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(
        KshotError, match=r"has format 99 and this kshot reads up to 2; upgrade it: pip install -U kshot\."
    ):
        load_task(folder)
    (folder / "kshot.json").write_text(json.dumps(manifest))
    (folder / "state.safetensors").write_bytes(b"half a file")
    with pytest.raises(KshotError, match="is damaged"):
        load_task(folder)
    (folder / "state.safetensors").unlink()
    with pytest.raises(KshotError, match="is missing: the folder is not complete"):
        load_task(folder)
