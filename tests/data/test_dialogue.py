"""Dialogues of files and of users, and how much of a history is read."""

import json
from pathlib import Path

import pytest

from kshot.data.dialogue import (
    SYSTEM,
    USER,
    Turn,
    check_history,
    cut_notice,
    is_dialogues,
    newest,
    read_dialogues,
)
from kshot.errors import KshotError

ASK, ANSWER = {"speaker": "user", "text": "Wake me at six."}, {"speaker": "system", "text": "Done."}


def write(folder: Path, *rows: object, name: str = "talk.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_dialogues_have_turns_and_each_turn_a_history(tmp_path: Path) -> None:
    path = write(tmp_path, {"turns": [ASK, ANSWER, {"speaker": "User", "text": " Thanks! "}]})
    assert is_dialogues(path)
    (dialogue,) = read_dialogues(path, of=USER)
    assert dialogue.before(2) == (Turn(USER, "Wake me at six."), Turn(SYSTEM, "Done."))
    assert dialogue.turns[2].turn == Turn(USER, "Thanks!")
    assert dialogue.turns[2].row.place == "line 1, turn 3"


def test_personas_say_partner_and_self(tmp_path: Path) -> None:
    turns = [{"speaker": "partner", "text": "hi"}, {"speaker": "self", "text": "hello"}]
    (dialogue,) = read_dialogues(write(tmp_path, {"turns": turns}), of=SYSTEM)
    assert [each.turn.speaker for each in dialogue.turns] == [USER, SYSTEM]


def test_a_dialogue_may_begin_with_the_system(tmp_path: Path) -> None:
    (dialogue,) = read_dialogues(write(tmp_path, {"turns": [ANSWER, ASK]}), of=USER)
    assert dialogue.before(0) == ()
    assert dialogue.before(1) == (Turn(SYSTEM, "Done."),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "hi"}, 'line 2: the dialogue has no field "turns"; write {"turns": [...]}.'),
        ({"turns": []}, "line 2: the dialogue has no turns; add one or take it out."),
        (
            {"turns": "hi"},
            'line 2: the field "turns" is a text ("hi"), not a list; write [{"speaker": "user", "text": ...}, ...].',
        ),
        (
            {"turns": [ANSWER]},
            'line 2: no turn of the dialogue is by "user" or "partner", so there is nothing to learn from; '
            "add one or take the dialogue out.",
        ),
        (
            {"turns": [ASK, "hi"]},
            'line 2, turn 2: this is a text ("hi"), not an object; write {"speaker": "user", "text": ...}.',
        ),
        (
            {"turns": [{"text": "hi"}]},
            'line 2, turn 1: the turn has no speaker; add "speaker": "user" or "speaker": "system".',
        ),
        (
            {"turns": [ASK, {"speaker": "sistem", "text": "hi"}]},
            'line 2, turn 2: the speaker is "sistem", but has to be one of user, system, partner, self. Did you mean '
            '"system"?',
        ),
        (
            {"turns": [{"speaker": 1, "text": "hi"}]},
            "line 2, turn 1: the speaker is 1, but has to be one of user, system, partner, self.",
        ),
        (
            {"turns": [ASK, {"speaker": "user", "text": " "}]},
            'line 2, turn 2: the field "text" is empty; fill it in or take the row out.',
        ),
    ],
)
def test_what_is_no_dialogue_is_refused_with_its_place(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path, {"turns": [ASK]}, row)
    with pytest.raises(KshotError) as error:
        read_dialogues(path, of=USER)
    assert str(error.value) == f"{path}, {message}"


def test_tables_hold_no_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "talk.csv"
    path.write_text("turns\nhi\n", encoding="utf-8")
    with pytest.raises(KshotError) as error:
        read_dialogues(path, of=USER)
    assert str(error.value) == (
        f'{path} has the suffix ".csv", which kshot does not read as dialogues; use one of .jsonl, .json (or any of '
        "them with .gz)."
    )
    assert not is_dialogues(tmp_path / "talk.txt")


def test_a_history_may_be_given_in_several_ways() -> None:
    expected = (Turn(USER, "hi"), Turn(SYSTEM, "hello"))
    assert check_history(expected, "History 1") == expected
    assert check_history([("user", "hi"), ("self", " hello ")], "History 1") == expected
    assert check_history([{"speaker": "partner", "text": "hi"}, ("system", "hello")], "History 1") == expected


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("hi", 'History 2 is a text, not a list of turns; write [("user", "..."), ...].'),
        (
            ["hi"],
            'History 2, turn 1 is a text, not a turn; write ("user", "...") or {"speaker": "user", "text": "..."}.',
        ),
        ([("user", " ")], "History 2, turn 1 has no text; fill it in or leave the turn out."),
        (
            [("user", "hi"), ("system", "half \ud83d")],
            "History 2, turn 2 has half a character (a lone surrogate); read it again as UTF-8.",
        ),
        (
            [("user", "hi"), ("bot", "hello")],
            'History 2, turn 2: the speaker is "bot", but has to be one of user, system, partner, self.',
        ),
    ],
)
def test_what_is_no_history_is_refused(history: object, message: str) -> None:
    with pytest.raises(KshotError) as error:
        check_history(history, "History 2")  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_long_history_is_cut_from_its_old_side_by_whole_turns() -> None:
    history = [Turn(USER, "a" * n) for n in range(1, 501)]
    measured = []

    def length(turn: Turn) -> int:
        measured.append(turn)
        return len(turn.text)

    assert newest(history, 1_500, length) == tuple(history[-3:])  # 500 + 499 + 498 = 1497
    assert len(measured) == 4
    assert newest(history, 499, length) == ()
    assert newest(history[:3], 6, length) == tuple(history[:3])
    assert newest((), 6, length) == ()


def test_that_a_history_was_cut_is_said() -> None:
    assert cut_notice("text 2", 500, 3) == (
        "The history of text 2 has 500 turns, of which the newest 3 are read; what is older does not count."
    )
    assert cut_notice("text 1", 1, 0) == (
        "The history of text 1 has 1 turn, of which none is read, the newest being too long; what is older does not "
        "count."
    )
