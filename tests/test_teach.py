"""Teaching an adapted task, whatever its kind: what it equals, what is kept of it, and a process that is killed."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kshot.meta.learner
from contract import learner, translator
from kshot.adapted import Adapted
from kshot.data.dialogue import Turn
from kshot.data.examples import Example, Reply, SentencePair, TaggedExample, TextExample, Utterance
from kshot.data.tags import Span
from kshot.errors import KshotError
from kshot.meta.algorithms import ALGORITHMS
from kshot.meta_learner import MetaLearner, load_task
from kshot.tasks.tagging import Tagging
from kshot.tasks.understanding import Understanding
from toy import CLASSES, examples, replies, scratch, sentence_pairs, seq2seq, tagged_episode, utterances
from users import DRAWN, LABELS, QUERIES, TEXTS, task


@dataclass(frozen=True)
class Case:
    """A kind of task.

    Attributes:
        learner: Makes a learner of an algorithm.
        support: What a task is adapted to.
        new: What it is taught; of a class that is new, where there are classes.
        asked: What it is asked.
    """

    learner: Callable[[str], MetaLearner]
    support: tuple[Example, ...]
    new: Example
    asked: tuple[Any, ...]


KINDS = {
    "classification": Case(
        lambda algorithm: MetaLearner(learner(algorithm, scratch("cnn"))),
        DRAWN.support,
        TextExample("something else", "new class"),
        tuple(QUERIES),
    ),
    "tagging": Case(
        lambda algorithm: MetaLearner(learner(algorithm, scratch("cnn"), task=Tagging())),
        tagged_episode().support,
        TaggedExample(("wake", "me", "up"), ("B-new", "O", "O")),
        tuple(each.text for each in tagged_episode().query),
    ),
    "translation": Case(
        lambda algorithm: MetaLearner(translator(algorithm, seq2seq())),
        tuple(sentence_pairs(6)),
        SentencePair("mare mare", "sea sea"),
        ("măr roșu", "水"),
    ),
}
UNDERSTOOD = utterances((3, 3), 0, 3)
KINDS["understanding"] = Case(
    lambda algorithm: MetaLearner(learner(algorithm, scratch("cnn", max_length=64), task=Understanding())),
    tuple(UNDERSTOOD),
    Utterance("wake me up", "Wake", (Span(0, 4, "new"),), (Turn("user", "hello"), Turn("system", "hi there"))),
    tuple(each.text for each in utterances((2, 2), 5, 2)),
)
KINDS["responding"] = Case(
    lambda algorithm: MetaLearner(translator(algorithm, seq2seq(), kind="responding")),
    tuple(each for each in replies(3) if len(each.history) <= 3),  # older turns are not read, nor kept
    Reply((Turn("user", "mare"),), "sea", dialogue="1"),
    ([("user", "măr roșu")], "水"),
)
FIRST_FORMAT = ("classification", "tagging", "translation")

every_kind = pytest.mark.parametrize("kind", KINDS)
both_ways = pytest.mark.parametrize("algorithm", ["matching", "first-order-maml"])  # still, and moving the encoder


def adapted(kind: str, algorithm: str = "matching") -> Adapted:
    case = KINDS[kind]
    made = case.learner(algorithm).adapt(case.support)
    assert isinstance(made, Adapted)
    return made


def sentence(call: Callable[..., object], *given: object) -> str:
    with pytest.raises(KshotError) as caught:
        call(*given)
    return str(caught.value)


def same_state(one: Adapted, other: Adapted) -> bool:
    tensors = {**one._state, **one._tensors()}, {**other._state, **other._tensors()}
    return tensors[0].keys() == tensors[1].keys() and all(torch.equal(tensors[0][n], tensors[1][n]) for n in tensors[0])


def predictions(made: Adapted, kind: str) -> list[Any]:
    return made.predict(KINDS[kind].asked)


# -- what it equals ----------------------------------------------------------------------------------------------------


@every_kind
@both_ways
def test_a_correction_joins_as_if_it_had_been_there(kind: str, algorithm: str) -> None:
    """The same State to the last bit, given the same vectors; without `remembering`, texts of other calls round."""
    case = KINDS[kind]
    own = case.learner(algorithm)
    with own.learner.encoder.remembering():
        taught = own.adapt(case.support).teach(case.new)
        at_once = own.adapt([*case.support, case.new])
        assert taught.examples == at_once.examples == (*case.support, case.new)
        assert taught.classes == at_once.classes
        assert taught.temperature == at_once.temperature
        assert same_state(taught, at_once)
        assert predictions(taught, kind) == predictions(at_once, kind)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_can_be_taught(algorithm: str) -> None:
    own = KINDS["classification"].learner(algorithm)
    with own.learner.encoder.remembering():
        taught = own.adapt(TEXTS, LABELS).teach("something else", "new class")
        assert same_state(taught, own.adapt([*TEXTS, "something else"], [*LABELS, "new class"]))
    assert taught.classes == (*dict.fromkeys(LABELS), "new class")


def test_many_corrections_equal_all_of_them_at_once() -> None:
    own = KINDS["classification"].learner("ridge")
    more = examples(3, CLASSES[5], np.random.default_rng(1))
    with own.learner.encoder.remembering():
        taught = own.adapt(TEXTS, LABELS)
        for each in more:
            taught = taught.teach(each)
        assert same_state(taught, own.adapt([*DRAWN.support, *more]))


def test_only_the_new_text_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = kshot.meta.learner.encode
    made = {kind: adapted(kind) for kind in KINDS}
    monkeypatch.setattr(
        kshot.meta.learner,
        "encode",
        lambda e, texts, *rest, **own: (encoded.append(len(texts)), encode(e, texts, *rest, **own))[1],
    )
    for kind, each in made.items():
        encoded.clear()
        each.teach(KINDS[kind].new)
        assert sum(encoded) == 1 + len(KINDS[kind].new.labels), "the text, and the names of its classes"


# -- in words ----------------------------------------------------------------------------------------------------------


def test_in_the_words_of_adapt() -> None:
    text = task().teach("something else", "new class")
    assert text.examples[-1] == TextExample("something else", "new class")
    number = text.teach("another", 3)
    assert number.classes[-2:] == ("new class", "3")
    tags = adapted("tagging").teach(["wake", "me"], ["B-new", "O"])
    assert tags.examples[-1] == TaggedExample(("wake", "me"), ("B-new", "O"))
    pair = adapted("translation").teach("mare", "sea")
    assert pair.examples[-1] == SentencePair("mare", "sea")
    frame = adapted("understanding").teach("wake me", {"intent": "Wake", "history": [("system", "hello")]})
    assert frame.examples[-1] == Utterance("wake me", "Wake", (), (Turn("system", "hello"),))
    reply = adapted("responding").teach([("user", "mare")], "sea")
    assert reply.examples[-1] == KINDS["responding"].new


def test_what_was_learned_of_the_same_text_gives_way() -> None:
    wrong = task().teach("something else", "new clas")
    right = wrong.teach(" something else", "new class")
    assert right.classes == (*dict.fromkeys(LABELS), "new class")
    assert right.examples == (*DRAWN.support, TextExample(" something else", "new class"))
    again = right.teach("something else", LABELS[0])
    assert again.classes == tuple(dict.fromkeys(LABELS))
    pair = adapted("translation").teach("mare", "see").teach("mare", "sea")
    assert [each.target for each in pair.examples if each.source == "mare"] == ["sea"]


def test_a_task_is_not_changed_by_what_it_is_taught() -> None:
    made = task()
    before = made.predict(QUERIES)
    made.teach("something else", "new class")
    assert made.examples == DRAWN.support
    assert made.predict(QUERIES) == before


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (
            "classification",
            ("  ", "a"),
            "Text 1 is empty; fill it in or leave it out.",
        ),
        ("classification", ("text", " "), "Label 1 is empty; name the class."),
        (
            "classification",
            ("text",),
            "adapt needs labels: give adapt(texts, labels), or adapt(examples) with TextExamples.",
        ),
        (
            "tagging",
            (["wake"], ["I-new"]),
            'Sentence 1, word 1 ("wake"): the tag "I-new" goes on with an entity that does not begin (before it stands '
            "'O'); begin each entity with B- and its type.",
        ),
        ("translation", ("mare", ""), "Target 1 is empty; fill it in or leave it out."),
        ("responding", ("mare", ""), "Reply 1 is empty; fill it in or leave it out."),
        (
            "responding",
            ("mare",),
            "teach needs a reply: give teach(history, reply), or teach(example) with a Reply.",
        ),
        ("understanding", ("wake me", {}), "Frame 1 has no intent; name what the text is for."),
    ],
)
def test_what_cannot_be_taught(kind: str, given: tuple[object, ...], expected: str) -> None:
    assert sentence(adapted(kind).teach, *given) == expected


def test_two_classes_at_least() -> None:
    two = KINDS["classification"].learner("prototypical").adapt(["light on", "book it"], ["a", "b"])
    assert sentence(two.teach, "book it", "a") == 'There is one class only, "a"; give examples of at least two.'


# -- what is kept ------------------------------------------------------------------------------------------------------


@every_kind
@both_ways
def test_a_saved_task_can_be_taught_as_if_it_had_never_been_saved(kind: str, algorithm: str, tmp_path: Path) -> None:
    made = adapted(kind, algorithm)
    made.save(tmp_path / "task")
    loaded = load_task(tmp_path / "task")
    assert loaded.examples == made.examples
    new = KINDS[kind].new
    assert same_state(loaded.teach(new), made.teach(new))
    assert predictions(loaded.teach(new), kind) == predictions(made.teach(new), kind)


def test_the_examples_are_a_file_that_adapt_reads(tmp_path: Path) -> None:
    from kshot.data.pairs import read_pairs
    from kshot.data.readers import read_examples, read_tagged, read_utterances

    readers = {
        "classification": read_examples,
        "tagging": read_tagged,
        "translation": read_pairs,
        "understanding": read_utterances,
    }
    for kind, read in readers.items():
        adapted(kind).save(tmp_path / kind)
        assert tuple(read(tmp_path / kind / "examples.jsonl")) == KINDS[kind].support  # type: ignore[operator]


def test_any_text_is_kept_as_it_is(tmp_path: Path) -> None:
    texts = ['a "quoted"\nline', "\u2028 and \x85", "天气 👋", "\t", "back\\slash"]
    made = task()
    for number, text in enumerate(texts):
        made = made.teach(text + "x", f"label {number} \u2029")
    made.save(tmp_path / "task")
    assert load_task(tmp_path / "task").examples == made.examples
    assert len((tmp_path / "task" / "examples.jsonl").read_bytes().splitlines()) == len(made.examples)


@every_kind
def test_examples_can_be_left_out(kind: str, tmp_path: Path) -> None:
    made = adapted(kind)
    made.save(tmp_path / "task", examples=False)
    assert not (tmp_path / "task" / "examples.jsonl").exists()
    for path in (tmp_path / "task").glob("*.json"):
        for each in made.examples:
            assert each.text not in json.loads(path.read_text(encoding="utf-8")).values()
    assert b"support.vectors" not in (tmp_path / "task" / "state.safetensors").read_bytes()
    loaded = load_task(tmp_path / "task")
    assert loaded.examples == ()
    assert predictions(loaded, kind) == predictions(made, kind)
    assert sentence(loaded.teach, KINDS[kind].new) == (
        "The task was saved without its examples, so it can learn nothing more; adapt again, to all of them."
    )
    loaded.save(tmp_path / "again")
    assert predictions(load_task(tmp_path / "again"), kind) == predictions(made, kind)


def test_classes_do_not_come_or_go_without_examples(tmp_path: Path) -> None:
    task().save(tmp_path / "task", examples=False)
    loaded = load_task(tmp_path / "task")
    for change in (
        lambda: loaded.add_class("new", ["text"]),
        lambda: loaded.add_examples(["text"], [LABELS[0]]),
        lambda: loaded.remove_class(LABELS[0]),
    ):
        assert sentence(change).startswith("The task was saved without its examples, ")


@pytest.mark.parametrize("kind", FIRST_FORMAT)
def test_a_task_of_the_first_format_is_read(kind: str, tmp_path: Path) -> None:
    """Which had its examples in the manifest, as pairs."""
    made = adapted(kind)
    made.save(tmp_path / "task")
    pairs = {
        "classification": lambda each: [each.text, each.label],
        "tagging": lambda each: [list(each.tokens), list(each.tags)],
        "translation": lambda each: [each.source, each.target],
    }[kind]
    path = tmp_path / "task" / "kshot.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["n_examples"]
    old = {**manifest, "format": 1, "examples": [pairs(each) for each in made.examples]}  # type: ignore[no-untyped-call]
    path.write_text(json.dumps(old), encoding="utf-8")
    (tmp_path / "task" / "examples.jsonl").unlink()
    loaded = load_task(tmp_path / "task")
    assert loaded.examples == made.examples
    assert same_state(loaded.teach(KINDS[kind].new), made.teach(KINDS[kind].new))


def test_examples_that_are_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    task().save(folder)
    path = folder / "examples.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert sentence(load_task, folder).startswith(f"{path} is damaged (line 16: Unterminated string starting at")
    path.write_bytes(whole.replace(b'"label"', b'"lable"', 1))
    assert sentence(load_task, folder) == (
        f"{path} is damaged (line 1: label: Field required); restore the folder from a copy or make it again."
    )
    path.write_bytes(whole + b'{"text": "more", "label": "a"}\n')
    assert sentence(load_task, folder) == (
        f"{path} has 17 examples, but the task was adapted to 16; adapt again to learn from the file as it is: "
        "kshot adapt."
    )
    path.unlink()
    assert sentence(load_task, folder) == (
        f"{path} is missing: the folder is not complete; restore it from a copy or make it again."
    )


def test_a_bundled_task_keeps_its_learner_when_it_is_saved_again(tmp_path: Path) -> None:
    task().save(tmp_path / "task", bundle=True)
    weights = (tmp_path / "task" / "learner" / "encoder.safetensors").stat().st_ino
    for number in range(2):
        loaded = load_task(tmp_path / "task").teach(f"text {number}", "new class")
        loaded.save(tmp_path / "task")
        assert load_task(tmp_path / "task").predict(QUERIES) == loaded.predict(QUERIES)
    assert (tmp_path / "task" / "learner" / "encoder.safetensors").stat().st_ino == weights, "nothing was copied"
    loaded.save(tmp_path / "task", bundle=True)
    assert load_task(tmp_path / "task").examples == loaded.examples


def test_a_learner_anywhere_inside_a_task_stays_there(tmp_path: Path) -> None:
    task().save(tmp_path / "task", bundle=True)
    (tmp_path / "task" / "learner").rename(tmp_path / "task" / "model")
    loaded = load_task(tmp_path / "task", learner=tmp_path / "task" / "model")
    for bundle, places in ((False, ["model"]), (True, ["learner", "model"])):
        loaded.save(tmp_path / "task", bundle=bundle)
        assert sorted(path.name for path in (tmp_path / "task").iterdir() if path.is_dir()) == places
        assert load_task(tmp_path / "task").predict(QUERIES) == loaded.predict(QUERIES)


def test_a_link_to_a_task_stays_one(tmp_path: Path) -> None:
    task().save(tmp_path / "far" / "task", bundle=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "task")
    taught = load_task(tmp_path / "link").teach("something else", "new class")
    taught.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load_task(tmp_path / "far" / "task").examples == taught.examples
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link"]


# -- a process that is killed ------------------------------------------------------------------------------------------

DIES = """
import os, shutil, signal, sys
from pathlib import Path

from kshot import adapted, artefact
from kshot.meta_learner import load_task

folder = sys.argv[1]
before = load_task(folder)
after = before.teach("something else", "new class")
states = {len(each.examples): each._state for each in (before, after)}
steps = [(os, "fsync"), (os, "link"), (Path, "write_bytes"), (Path, "write_text"), (Path, "chmod"), (Path, "replace"),
         (adapted, "save_file"), (artefact, "mkdtemp"), (artefact, "_swap"), (shutil, "rmtree")]

def die_at(moment):
    left = [moment]
    for place, name in steps:
        def step(*given, real=getattr(place, name), **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)
        setattr(place, name, step)

found, killed, moment = [], True, 0
while killed:
    before.save(folder)
    child = os.fork()
    if not child:
        die_at(moment)
        after.save(folder)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = load_task(folder)
    assert all(tensor.equal(states[len(left.examples)][name]) for name, tensor in left._state.items()), moment
    assert left.predict(["lamp"]) == (before if len(left.examples) == len(before.examples) else after).predict(["lamp"])
    found.append(len(left.examples))
    moment += 1
print(*found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged at one stroke on Linux")
def test_a_process_that_is_killed_at_any_step_of_saving_leaves_a_whole_task(tmp_path: Path) -> None:
    """The old one or the new one, with the State that belongs to its examples, and its learner."""
    task().save(tmp_path / "task", bundle=True)
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path / "task")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    n_examples = [int(number) for number in done.stdout.split()]
    assert n_examples == sorted(n_examples), "once it is there, it stays"
    assert n_examples.count(16) > 12
    assert n_examples.count(17) > 1
