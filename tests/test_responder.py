"""Adapted responders: what they answer, what is saved, and the sentences for what cannot be used."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from contract import translator
from kshot.cli import main
from kshot.data.dialogue import SYSTEM, USER, HistoryCut, Turn
from kshot.data.examples import Reply
from kshot.data.replies import read_replies
from kshot.errors import KshotError
from kshot.meta_learner import MetaLearner, default_learner, load_task
from kshot.predictions import _writers
from kshot.responder import AdaptedResponder, Answered
from toy import dialogue, replies, seq2seq

DIALOGUES: list[Any] = [dialogue(number) for number in range(3)]
HISTORIES: list[Any] = [[("user", "măr roșu")], "水 нет!", [Turn(USER, "a"), Turn(SYSTEM, "b")], []]
MOVING, STILL = "first-order-maml", "matching"
both = pytest.mark.parametrize("algorithm", [MOVING, STILL])


def meta_learner(algorithm: str = MOVING, **changes: Any) -> MetaLearner:
    return MetaLearner(translator(algorithm, seq2seq(**changes), kind="responding"), {"title": "toy"})


def task(algorithm: str = MOVING) -> AdaptedResponder:
    adapted = meta_learner(algorithm).adapt(DIALOGUES)
    assert isinstance(adapted, AdaptedResponder)
    return adapted


def refused(call: Any, *given: object, **named: object) -> str:
    with pytest.raises(KshotError) as caught:
        call(*given, **named)
    return str(caught.value)


# -- what is answered --------------------------------------------------------------------------------------------------


@both
def test_a_reply_says_what_it_must(algorithm: str) -> None:
    adapted = task(algorithm)
    found = adapted.predict(HISTORIES)
    assert [each.history for each in found] == [
        (Turn(USER, "măr roșu"),),
        (Turn(USER, "水 нет!"),),
        (Turn(USER, "a"), Turn(SYSTEM, "b")),
        (),
    ]
    for each in found:
        assert isinstance(each, Answered)
        assert each.score <= 0
        assert math.isfinite(each.score)
        assert "\ufffd" not in each.reply
        assert each.n_read == len(each.history)
    assert adapted.respond(HISTORIES) == [each.reply for each in found]
    assert [adapted.respond([history])[0] for history in HISTORIES] == adapted.respond(HISTORIES)
    assert adapted.predict([]) == []
    assert adapted.predict(HISTORIES, beam=4) == found


def test_the_same_turns_in_other_words() -> None:
    adapted = task()
    same = [
        [("user", "a"), ("system", "b")],
        [{"speaker": "partner", "text": "a"}, {"speaker": "Self", "text": "b"}],
        (Turn(USER, "a"), Turn(SYSTEM, "b")),
    ]
    assert len(set(adapted.respond(same))) == 1


def test_five_hundred_turns_are_cut_from_the_old_side_and_it_is_said() -> None:
    adapted = task()
    turns = [("user" if number % 2 else "system", f"măr {number}") for number in range(500)]
    with pytest.warns(HistoryCut) as caught:
        [found, same] = adapted.predict([turns, turns[-3:]])
    assert [str(each.message) for each in caught] == [
        "The history of dialogue 1 has 500 turns, of which the newest 3 are read; what is older does not count."
    ]
    assert (found.n_read, same.n_read) == (3, 3)
    assert len(found.history) == 500
    assert found.reply == same.reply
    with pytest.warns(HistoryCut, match="The history of dialogue 2 has 500 turns") as caught:
        adapted.predict([turns[-3:], turns, turns])
    assert len(caught) == 1


# -- learning, and learning more ---------------------------------------------------------------------------------------


def test_dialogues_in_every_form_are_the_same() -> None:
    expected = task().respond(HISTORIES)
    rows = [{"turns": [{"speaker": turn.speaker, "text": turn.text} for turn in each]} for each in DIALOGUES]
    pairs = [[(turn.speaker, turn.text) for turn in each] for each in DIALOGUES]
    for given in (rows, pairs, task().examples):
        adapted = meta_learner().adapt(given)
        assert adapted.respond(HISTORIES) == expected
        assert adapted.n_dialogues == 3
        assert len(adapted.examples) == 9


@both
def test_more_dialogues_are_as_if_given_at_once(algorithm: str) -> None:
    first = meta_learner(algorithm).adapt(DIALOGUES[:2])
    wider = first.add_examples(DIALOGUES[2:])
    assert (first.n_dialogues, wider.n_dialogues) == (2, 3)
    assert wider.examples == task(algorithm).examples
    assert wider.respond(HISTORIES) == task(algorithm).respond(HISTORIES)


@both
def test_a_single_reply_is_learned_without_what_was_said_before(algorithm: str) -> None:
    history = [("user", "măr"), ("system", "wrong"), ("user", "mare")]
    wider = task(algorithm).add_replies([history], ["sea and sea"])
    assert [each.text for each in wider.examples[9:]] == ["sea and sea"]
    assert wider.n_dialogues == 4
    assert wider.add_examples([[("self", "mare")]]).n_dialogues == 5
    assert refused(wider.add_replies, [history], []) == (
        "There are 1 histories and 0 replies; give one reply to each history."
    )
    assert refused(wider.add_replies, [history], [""]) == "Reply 1 is empty; fill it in or leave it out."


def test_who_opens_a_dialogue_is_learned_too() -> None:
    adapted = meta_learner().adapt([[("self", "mare"), ("partner", "și"), ("self", "măr")]])
    assert [(len(each.history), each.text) for each in adapted.examples] == [(0, "mare"), (2, "măr")]


def test_what_a_task_keeps_can_be_learned_from_again(tmp_path: Path) -> None:
    adapted = task()
    adapted.save(tmp_path / "task", bundle=True)
    kept = read_replies(tmp_path / "task" / "examples.jsonl")
    again = meta_learner().adapt(kept)
    assert isinstance(again, AdaptedResponder)
    assert again.n_dialogues == adapted.n_dialogues
    assert again.respond(HISTORIES) == adapted.respond(HISTORIES)


@both
def test_a_task_that_was_saved_answers_the_same_to_the_last_bit(tmp_path: Path, algorithm: str) -> None:
    adapted = task(algorithm)
    adapted.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, AdaptedResponder)
    assert again.examples == adapted.examples
    assert again.predict(HISTORIES) == adapted.predict(HISTORIES)
    more = [each.add_examples([[("self", "mare")]]) for each in (again, adapted)]
    assert more[0].predict(HISTORIES) == more[1].predict(HISTORIES)


# -- what cannot be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialogues", "message"),
    [
        ([], "There are no dialogues to learn from; give at least one."),
        ("hi", 'One dialogue was given where a list of them is expected; write [[("user", "..."), ...]].'),
        (
            [[("user", "hi")]],
            'Dialogue 1 has no turn by "system", so there is nothing to learn from; add one or take it out.',
        ),
        (
            [DIALOGUES[0], []],
            'Dialogue 2 has no turn by "system", so there is nothing to learn from; add one or take it out.',
        ),
        (
            [[("self", "  ")]],
            "Dialogue 1, turn 1 has no text; fill it in or leave the turn out.",
        ),
        (
            [[("user", "hi"), ("me", "hi")]],
            'Dialogue 1, turn 2: the speaker is "me", but has to be one of user, system, partner, self.',
        ),
        ([[("self", "a\x00")]], "Dialogue 1, turn 1 has a control character (U+0000); take it out."),
        (
            [["self"]],
            'Dialogue 1, turn 1 is a text, not a turn; write ("user", "...") or {"speaker": "user", "text": "..."}.',
        ),
        (
            [*replies(1), [("self", "a")]],
            "Some of the dialogues are Replys and some are not; give dialogues alone, or Replys alone.",
        ),
    ],
)
def test_bad_support(dialogues: Any, message: str) -> None:
    assert refused(meta_learner().adapt, dialogues) == message
    assert refused(task(STILL).add_examples, dialogues) == message


def test_half_a_character_is_refused() -> None:
    sentence = "has half a character (a lone surrogate); read it again as UTF-8."
    turns = [("user", "hi"), ("system", "yes\ud83d")]
    assert refused(meta_learner().adapt, [turns]) == f"Dialogue 1, turn 2 {sentence}"
    reply = Reply((Turn("user", "hi\ud83d"),), "yes")
    assert refused(meta_learner().adapt, [reply]) == f"Reply 1 {sentence}"


def test_labels_are_of_no_use() -> None:
    assert refused(meta_learner().adapt, ["a"], ["b"]) == (
        "adapt needs dialogues alone: their replies are in them; give adapt(dialogues), without labels."
    )


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ("hi", 'One history was given where a list of them is expected; write [[("user", "...")]].'),
        ([[("user", "a")], [("you", "b")]], 'History 2, turn 1: the speaker is "you", but has to be one of user,'),
        ([[("user", "")]], "History 1, turn 1 has no text; fill it in or leave the turn out."),
        ([3], 'History 1 is a number, not a list of turns; write [("user", "..."), ...].'),
    ],
)
def test_bad_histories(histories: Any, message: str) -> None:
    assert refused(task().predict, histories).startswith(message)


def test_a_turn_that_is_too_long_is_refused_and_not_cut() -> None:
    adapted, long = task(), "măr " * 2_500
    said = refused(adapted.predict, ["mare", [("self", long), ("user", long)]])
    assert said.startswith('The newest turn of history 2, "user: măr')
    assert said.endswith("more than the 32 that the learner reads at once; split it into sentences.")
    assert refused(meta_learner().adapt, [[("user", "a"), ("self", long)]]).startswith('Reply 1, "măr')
    assert refused(meta_learner().adapt, [[("user", long), ("self", "a")]]).startswith(
        'The turn before reply 1, "user: măr'
    )


def test_minilm_does_not_answer() -> None:
    assert refused(default_learner, "responding") == (
        "MiniLM reads and does not write, so it learns no responding; give the run of a responding recipe, such as "
        "responding-joint."
    )


# -- how it is written -------------------------------------------------------------------------------------------------


def written(form: str) -> str:
    turns = (Turn(SYSTEM, "ahoy"), Turn(USER, "any\nplans?"))
    found = [Answered(turns, "sailing  .", -0.1234567, True, 1), Answered((), "hi", -2.0, False, 0)]
    file = io.StringIO()
    _writers(task(), 5)[form](file)([each.history for each in found], found)
    return file.getvalue()


def test_forms() -> None:
    turns = [{"speaker": "system", "text": "ahoy"}, {"speaker": "user", "text": "any\nplans?"}]
    assert [json.loads(line) for line in written("jsonl").splitlines()] == [
        {"history": turns, "reply": "sailing  .", "score": -0.123457, "turns_read": 1},
        {"history": [], "reply": "hi", "score": -2.0, "turns_read": 0, "ended": False},
    ]
    assert written("text") == "sailing .\nhi\n"
    assert written("table") == (
        "any plans? (the newest 1 of 2 turns are read)\n  sailing  .  -0.12\n\n  hi  -2.00, cut\n"
    )


def test_from_a_file_to_replies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta_learner().save(tmp_path / "learner")
    rows = [{"turns": [{"speaker": turn.speaker, "text": turn.text} for turn in each]} for each in DIALOGUES]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    place = str(tmp_path / "task")
    assert main(["adapt", str(tmp_path / "learner"), str(tmp_path / "mine.jsonl"), "--out", place]) == 0
    assert "Learned to answer from 9 replies in 3 dialogues" in capsys.readouterr().out
    assert main(["task", "show", place]) == 0
    shown = capsys.readouterr().out
    assert "3 dialogues, the first replies:" in shown
    assert DIALOGUES[0][1].text in shown
    asked = [
        {"turns": [{"speaker": "user", "text": "măr"}]},
        {"text": "măr"},
        {"text": "mare", "history": [{"speaker": "self", "text": "și"}] * 4},
    ]
    adapted = load_task(place)
    for name in ("asked.jsonl", "asked.json"):
        content = "\n".join(map(json.dumps, asked)) if name.endswith("l") else json.dumps(asked)
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert main(["predict", place, str(tmp_path / name), "--format", "jsonl"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [each["turns_read"] for each in found] == [1, 1, 3]
        assert [each["reply"] for each in found[:2]] == adapted.respond(["măr", "măr"])
    (tmp_path / "plain.txt").write_text("măr\nmare\n", encoding="utf-8")
    assert main(["predict", place, str(tmp_path / "plain.txt"), "--format", "text"]) == 0
    assert capsys.readouterr().out.splitlines() == [" ".join(each.split()) for each in adapted.respond(["măr", "mare"])]


def test_a_learner_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MetaLearner(translator(MOVING, seq2seq())).save(tmp_path / "learner")
    (tmp_path / "mine.jsonl").write_text('{"turns": [{"speaker": "self", "text": "hi"}]}', encoding="utf-8")
    place = [str(tmp_path / "learner"), str(tmp_path / "mine.jsonl"), "--out", str(tmp_path / "task")]
    assert main(["adapt", *place]) == 2
    assert (
        f"{tmp_path / 'mine.jsonl'} holds dialogues, but {tmp_path / 'learner'} learns translation; give a learner of "
        "responding."
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"turns": [{"speaker": "me", "text": "a"}]}', 'line 1, turn 1: the speaker is "me"'),
        ('{"history": []}', 'line 1: there is no field "text"'),
        ('{"text": " "}', 'line 1: the field "text" is empty'),
        ("[]", "line 1: this is not an object"),
    ],
)
def test_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    task(STILL).save(tmp_path / "task")
    (tmp_path / "asked.jsonl").write_text(line, encoding="utf-8")
    assert main(["predict", str(tmp_path / "task"), str(tmp_path / "asked.jsonl")]) == 2
    assert f"{tmp_path / 'asked.jsonl'}, {message}" in capsys.readouterr().err
