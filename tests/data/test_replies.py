"""Replies: read from dialogues, told from those of others, and drawn into episodes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.catalogue import list_datasets, load_dataset
from kshot.data.dataset import ReplyDataset
from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.entries import CATALOGUE
from kshot.data.examples import Reply, script_of
from kshot.data.loaders.replies import spelled_apart
from kshot.data.local import load_path
from kshot.data.normal import normalise
from kshot.data.replies import ReplySampler, is_replies, persons, read_replies, replies_of, with_candidates
from kshot.errors import KshotError
from toy import dialogue, replies

FOUND = {entry.name: entry.found for entry in list_datasets()}
ROWS: list[dict[str, Any]] = [
    {
        "turns": [
            {"speaker": "partner", "text": "hi !"},
            {"speaker": "self", "text": "ahoy ."},
            {"speaker": "user", "text": "plans ?"},
            {"speaker": "system", "text": "sailing ."},
        ],
        "task": "anna",
    },
    {"turns": [{"speaker": "self", "text": "good day ."}], "task": "bert"},
]


def written(folder: Path, rows: list[dict[str, Any]], name: str = "dialogues.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refused(call: Any, *given: object, **named: object) -> str:
    with pytest.raises(KshotError) as caught:
        call(*given, **named)
    return str(caught.value)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_each_turn_of_the_system_is_a_reply(tmp_path: Path) -> None:
    hi, ahoy, plans = Turn(USER, "hi !"), Turn(SYSTEM, "ahoy ."), Turn(USER, "plans ?")
    assert read_replies(written(tmp_path, ROWS)) == [
        Reply((hi,), "ahoy .", "anna", "0"),
        Reply((hi, ahoy, plans), "sailing .", "anna", "0"),
        Reply((), "good day .", "bert", "1"),  # who opens a dialogue answers nobody
    ]


def test_replies_one_by_one(tmp_path: Path) -> None:
    """As a saved task keeps them; a row that names no dialogue is one of its own."""
    hi = {"speaker": "user", "text": "hi !"}
    path = written(
        tmp_path,
        [
            {"history": [hi], "text": "ahoy .", "task": "anna", "dialogue": "3"},
            {"history": [], "text": "good day ."},
        ],
    )
    assert is_replies(path)
    assert read_replies(path) == [
        Reply((Turn(USER, "hi !"),), "ahoy .", "anna", "3"),
        Reply((), "good day .", "", "line 2"),
    ]
    assert not is_replies(written(tmp_path, [{"history": [hi], "text": "wake me", "label": "alarm"}], "labelled.jsonl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"turns": [{"speaker": "self", "text": "hi"}]},
            "line 2: this is no reply, as the first row is; give each row the fields history and text, or each the "
            "field turns.",
        ),
        ({"history": [], "text": " "}, 'line 2: the field "text" is empty; fill it in or take the row out.'),
        (
            {"history": "hi", "text": "ahoy"},
            'line 2: the field "history" is a text ("hi"), not a list; write [{"speaker": "user", "text": ...}, ...].',
        ),
    ],
)
def test_replies_that_cannot_be_learned_from(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = written(tmp_path, [{"history": [], "text": "ahoy ."}, row])
    assert refused(read_replies, path) == f"{path}, {message}"


def test_a_history_as_a_text_says_who_speaks() -> None:
    turns = [Turn(USER, "hi\n there "), Turn(SYSTEM, "ahoy")]
    assert script_of(turns) == "user: hi there system: ahoy"
    assert script_of([]) == ""
    assert Reply(tuple(turns), "and  you?").texts == ("system: ahoy", "and  you?")


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (
            [{"speaker": "partner", "text": "hi"}],
            'line 1: no turn of the dialogue is by "system" or "self", so there is nothing to learn from; '
            "add one or take the dialogue out.",
        ),
        (
            [{"speaker": "self", "text": " "}],
            'line 1, turn 1: the field "text" is empty; fill it in or take the row out.',
        ),
        (
            [{"speaker": "me", "text": "hi"}],
            'line 1, turn 1: the speaker is "me", but has to be one of user, system, partner, self.',
        ),
        ([], "line 1: the dialogue has no turns; add one or take it out."),
    ],
)
def test_dialogues_that_cannot_be_learned_from(tmp_path: Path, turns: list[dict[str, str]], message: str) -> None:
    path = written(tmp_path, [{"turns": turns}])
    assert refused(read_replies, path) == f"{path}, {message}"


def test_a_dialogue_of_five_hundred_turns() -> None:
    turns = [Turn(USER if number % 2 else SYSTEM, str(number)) for number in range(500)]
    found = replies_of(turns)
    assert [each.text for each in found] == [str(number) for number in range(0, 500, 2)]
    assert [len(each.history) for each in found] == list(range(0, 500, 2))


# -- candidates --------------------------------------------------------------------------------------------------------


def people(n_people: int, n_replies: int) -> list[Reply]:
    return [each for number in range(n_people) for each in replies(n_replies, number, task=f"p{number}")]


def test_candidates_are_replies_of_others_all_different() -> None:
    given = people(9, 7)
    found = with_candidates(given)
    assert [each.text for each in found] == [each.text for each in given]
    of_person = {name: {normalise(each.text) for each in given if each.task == name} for name in persons(given)}
    for each in found:
        texts = [normalise(text) for text in each.candidates]
        assert len(texts) == len(set(texts)) == 19
        assert normalise(each.text) not in texts
        for text in texts:
            assert any(text in own for name, own in of_person.items() if name != each.task)
    assert found == with_candidates(given), "always the same"
    assert len({each.candidates for each in found}) > 50, "each reply has its own"


def test_fewer_candidates_where_there_are_not_as_many() -> None:
    given = [Reply((), "a", "x"), Reply((), "B", "y"), Reply((), "b ", "y"), Reply((), "A", "y")]
    assert [each.candidates for each in with_candidates(given)] == [("B",), ("a",), ("a",), ()]


# -- drawing -----------------------------------------------------------------------------------------------------------


def sampler(given: list[Reply], **changes: Any) -> ReplySampler:
    usual: dict[str, Any] = {"way": "all", "shot": 2, "query": 1, "seed": 3, "n_episodes": 40}
    return ReplySampler(given, **{**usual, **changes})


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_whole_dialogues_of_one_person_are_drawn(shot: int, query: int, seed: int) -> None:
    given = people(3, 18)
    for episode in sampler(given, shot=shot, query=query, seed=seed)[:5]:
        sides = [{(each.task, each.dialogue) for each in side} for side in (episode.support, episode.query)]
        assert [len(side) for side in sides] == [shot, query]
        assert len({task for side in sides for task, _ in side}) == 1
        assert not sides[0] & sides[1]
        for side in (episode.support, episode.query):
            for each in {(each.task, each.dialogue) for each in side}:
                whole = [reply for reply in given if (reply.task, reply.dialogue) == each]
                assert [reply for reply in side if (reply.task, reply.dialogue) == each] == whole
        assert episode.classes == ()


def test_a_dialogue_that_stands_twice_is_not_on_both_sides() -> None:
    own = replies_of(dialogue(1), task="x", dialogue="0")
    again = replies_of(dialogue(1), task="x", dialogue="1")
    other = replies_of(dialogue(2), task="x", dialogue="2")
    for episode in sampler([*own, *again, *other], shot=1, query=1):
        texts = [{each.text for each in side} for side in (episode.support, episode.query)]
        assert not texts[0] & texts[1]


def test_every_dialogue_is_drawn() -> None:
    given = people(2, 12)
    drawn = {(each.task, each.dialogue) for episode in sampler(given, shot=1) for each in episode.support}
    assert len(drawn) == 8


def test_counts_that_cannot_be_used() -> None:
    given = people(2, 9)
    assert refused(sampler, given, way=5) == 'way is 5, but a reply has no classes to draw; write "all".'
    assert refused(sampler, given, shot=3) == (
        'The task "p0" has 3 dialogues to learn from and 3 to be judged by, but an episode needs shot 3 and query 1 of '
        "the same dialogues; lower them or add dialogues."
    )
    assert refused(sampler, given, shot=3, skip_small=True) == (
        "No task has enough dialogues; lower shot and query or add dialogues."
    )
    assert refused(sampler, given, shot="all") == (
        'shot is "all", which leaves no dialogue for the query; give a number, or other query_examples.'
    )


# -- data sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split", "people", "sizes"),
    [
        ("personachat", None, [48, 8, 12], [3802, 650, 1007]),
        ("personachat", "and_synthetic", [130, 8, 12], [19264, 650, 1007]),
        ("synthetic_persona_chat", None, [82, 0, 0], [15462, 0, 0]),
    ],
)
def test_known_dialogues_have_their_sizes(name: str, split: str | None, people: list[int], sizes: list[int]) -> None:
    if FOUND[name] is None or FOUND["synthetic_persona_chat"] is None:
        pytest.skip(f"the data set {name} is not on this machine (set KSHOT_DATA)")
    dataset = load_dataset(name, split=split)
    assert isinstance(dataset, ReplyDataset)
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [len(persons(part)) for part in parts] == people
    assert [len(part) for part in parts] == sizes
    assert (dataset.unit, dataset.shot_counts, dataset.usual_way) == ("tasks", "dialogues", "all")
    assert CATALOGUE[name].task_kind == "responding"
    assert set(dataset.personas) == {each.task for part in parts for each in part}
    assert all(len(each.candidates) == 19 for part in parts[1:] for each in part)


@pytest.mark.skipif(FOUND["personachat"] is None, reason="the data set personachat is not on this machine")
def test_no_learner_reads_a_persona() -> None:
    dataset = load_dataset("personachat")
    assert isinstance(dataset, ReplyDataset)
    episode = dataset.sampler("test", way="all", shot=3, query=2, seed=1, n_episodes=1)[0]
    said = {text for each in (*episode.support, *episode.query) for text in each.texts}
    lines = {line for own in dataset.personas.values() for line in own}
    assert not said & lines


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Hi! I\u2019m Ann.", "hi ! i'm ann ."),
        ("So, what's up (really)?", "so , what's up ( really ) ?"),
        ("already so .", "already so ."),
    ],
)
def test_texts_are_spelled_as_in_persona_chat(text: str, spelled: str) -> None:
    assert spelled_apart(text) == spelled


def test_a_file_of_ones_own_is_split_by_person(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "task": f"person {number}"} for number in range(6)]
    dataset = load_path(written(tmp_path, rows))
    assert isinstance(dataset, ReplyDataset)
    assert [len(persons(part)) for part in (dataset.train, dataset.valid, dataset.test)] == [2, 2, 2]
    assert "(2 train, 2 valid, 2 test tasks)" in dataset.source


def test_a_folder_of_parts(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        turns = [{"speaker": "user", "text": "hi"}, {"speaker": "system", "text": f"I am {number}"}]
        written(tmp_path, [{"turns": turns, "task": f"{part} {name}"} for name in "ab"], f"{part}.jsonl")
    dataset = load_path(tmp_path)
    assert isinstance(dataset, ReplyDataset)
    assert [each.task for each in dataset.test] == ["test a", "test b"]
    assert dataset.train[0].candidates == dataset.test[0].candidates == ()


def test_a_file_that_does_not_say_who_answers(tmp_path: Path) -> None:
    path = written(tmp_path, [{"turns": row["turns"]} for row in ROWS])
    assert refused(load_path, path) == (
        f'{path} has dialogues, which are split by whole persons; give each a task, the name of who "system" is, and '
        'leave unit out or make it "tasks".'
    )


def test_no_augmentation(tmp_path: Path) -> None:
    dataset = load_path(written(tmp_path, [{**ROWS[0], "task": f"person {number}"} for number in range(6)]))
    assert refused(dataset.sampler, "train", way="all", shot=1, query=1, seed=0, n_episodes=1, augment=["swap"]) == (
        "training.augment changes one text, and would part it from the turn that it answers; leave it out."
    )
