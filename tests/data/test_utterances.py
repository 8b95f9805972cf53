"""Files of turns and of dialogues with intents and slots."""

import json
from pathlib import Path

import pytest

from kshot.data.dataset import UtteranceDataset
from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.examples import TextExample, Utterance
from kshot.data.local import load_path
from kshot.data.readers import check, is_utterances, read_utterances
from kshot.data.tags import Span
from kshot.errors import KshotError

TEXT = "Wake me at six thirty."
SLOT = {"slot": "time", "start": 11, "end": 21}
ROW = {"text": TEXT, "intent": "SetAlarm", "slots": [SLOT]}
SAID = [{"speaker": "user", "text": "hi"}, {"speaker": "system", "text": "hello"}]


def write(folder: Path, *rows: object, name: str = "turns.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_turn_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, {"text": "No.", "intent": "NONE", "slots": [], "history": SAID, "domain": "alarms"})
    assert is_utterances(path)
    first, second = read_utterances(path)
    assert first == Utterance(TEXT, "SetAlarm", (Span(11, 21, "time"),))
    assert second.history == (Turn(USER, "hi"), Turn(SYSTEM, "hello"))
    assert (second.intent, second.spans) == ("NONE", ())
    assert first.sentence.tags == ("O", "O", "O", "B-time", "I-time", "O")
    assert first.labels == ("intent:SetAlarm", "slot:time")


def test_a_dialogue_a_line_is_learned_where_a_user_has_an_intent(tmp_path: Path) -> None:
    turns = [*SAID, {"speaker": "user", **ROW}, {"speaker": "system", "text": "Done."}]
    path = write(tmp_path, {"task": "alarms", "turns": turns})
    assert is_utterances(path)
    (only,) = read_utterances(path)
    assert only == Utterance(
        TEXT, "SetAlarm", (Span(11, 21, "time"),), (Turn(USER, "hi"), Turn(SYSTEM, "hello")), "alarms"
    )


def test_a_dialogue_that_begins_with_the_system_gives_its_user_a_history(tmp_path: Path) -> None:
    (only,) = read_utterances(write(tmp_path, {"turns": [SAID[1], {"speaker": "user", **ROW}]}))
    assert only.history == (Turn(SYSTEM, "hello"),)


def test_turns_and_dialogues_may_stand_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"turns": [SAID[1], {"speaker": "user", **ROW}]}, ROW)
    assert [len(each.history) for each in read_utterances(path)] == [1, 0]


def test_predictions_that_were_put_right_can_be_read(tmp_path: Path) -> None:
    slot = {**SLOT, "text": "six thirty", "confidence": 0.9}
    row = {**ROW, "slots": [slot], "confidence": 0.8, "intents": {"SetAlarm": 0.8}}
    assert read_utterances(write(tmp_path, row)) == read_utterances(write(tmp_path, ROW, name="other.jsonl"))


def test_white_space_at_the_ends_of_a_slot_does_not_count(tmp_path: Path) -> None:
    (only,) = read_utterances(write(tmp_path, {**ROW, "slots": [{**SLOT, "start": 10}]}))
    assert only.spans == (Span(11, 21, "time"),)


@pytest.mark.parametrize("other", [ROW, {"text": "No.", "intent": "NONE", "history": SAID}])
@pytest.mark.parametrize("name", ["turns.jsonl", "turns.json"])
def test_any_row_tells_what_a_file_is(tmp_path: Path, name: str, other: dict[str, object]) -> None:
    rows: list[object] = [{"text": f"hi {n}", "intent": "greet"} for n in range(4)]
    for order in ([*rows, other], [other, *rows]):
        path = tmp_path / name
        write(tmp_path, *order, name=name) if name == "turns.jsonl" else path.write_text(json.dumps(order))
        assert is_utterances(path)
        assert len(read_utterances(path)) == 5
    talk = {"turns": [SAID[1], {"speaker": "user", **ROW}]}
    assert is_utterances(write(tmp_path, {"turns": SAID}, talk))


def test_other_files_are_not_utterances(tmp_path: Path) -> None:
    assert not is_utterances(write(tmp_path, {"text": "hi", "intent": "greet"}, name="texts.jsonl"))
    assert not is_utterances(write(tmp_path, {"turns": SAID}, name="talk.jsonl"))
    assert not is_utterances(tmp_path / "texts.csv")
    assert not is_utterances(write(tmp_path, {"text": 'say "slots"', "label": "a"}, {"text": "b", "label": "b"}))
    assert not is_utterances(write(tmp_path, {"history": SAID, "text": "Done."}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"intent": "SetAlarm"},
            ': there is neither a text nor "turns"; write {"text": ..., "intent": ...} or {"turns": [...]}.',
        ),
        ({"turns": []}, ": the dialogue has no turns; add one or take it out."),
        (
            {"turns": [SAID[1]]},
            ': no turn of the dialogue is by "user" or "partner", so there is nothing to learn from; add one or take '
            "the dialogue out.",
        ),
        ({**ROW, "text": " "}, ': the field "text" is empty; fill it in or take the row out.'),
        ({"text": TEXT, "slots": []}, ': there is no field "intent"; the fields are "text", "slots".'),
        (
            {**ROW, "slots": "time"},
            ': the field "slots" is a text ("time"), not a list; write [{"slot": ..., "start": ..., "end": ...}].',
        ),
        (
            {**ROW, "slots": ["time"]},
            ': slot 1 is a text ("time"), not an object; write {"start": ..., "end": ..., "slot": ...}.',
        ),
        (
            {**ROW, "slots": [{"start": 0, "end": 4, "slott": "time"}]},
            ': slot 1 has a field "slott" that kshot does not know; the fields of a slot are start, end and slot. Did '
            'you mean "slot"?',
        ),
        ({**ROW, "slots": [{"start": 0, "end": 4}]}, ': slot 1 has no field "slot"; a slot has start, end and slot.'),
        (
            {**ROW, "slots": [SLOT, {**SLOT, "end": 40}]},
            ": slot 2 goes from 11 to 40, but the text has 22 characters; start is the first character from 0, and end "
            "is one past the last.",
        ),
        (
            {**ROW, "slots": [{**SLOT, "end": "21"}]},
            ': the end of slot 1 is a text ("21"), not a whole number; count characters from 0.',
        ),
        (
            {**ROW, "slots": [{**SLOT, "value": "six"}]},
            ': slot 1 says that it is "six", but from 11 to 21 stands "six thirty"; put start and end right.',
        ),
        (
            {**ROW, "slots": [{**SLOT, "end": 18}]},
            ': the slot "six thi" (time) cuts the word "thirty"; let it begin and end with a word.',
        ),
        (
            {**ROW, "slots": [SLOT, {"slot": "hour", "start": 11, "end": 14}]},
            ': the slots "six" (hour) and "six thirty" (time) overlap; keep one of them.',
        ),
        (
            {**ROW, "slots": [{**SLOT, "start": 4, "end": 5}]},
            ": the slot from 4 to 5 (time) holds white space alone; move it to a word or take it out.",
        ),
        (
            {**ROW, "history": "hi"},
            ': the field "history" is a text ("hi"), not a list; write [{"speaker": "user", "text": ...}, ...].',
        ),
        (
            {**ROW, "history": [{"speaker": "bot", "text": "hi"}]},
            ', turn 1: the speaker is "bot", but has to be one of user, system, partner, self.',
        ),
    ],
)
def test_what_is_no_turn_is_refused_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path, ROW, row)
    with pytest.raises(KshotError) as error:
        read_utterances(path)
    assert str(error.value) == f"{path}, line 2{message}"


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (
            [*SAID, {"speaker": "user", "text": TEXT, "slots": [SLOT]}],
            '{path}, line 1, turn 3: the turn has slots but no intent; add "intent", or take the slots out if it is '
            "not to be learned.",
        ),
        (
            [*SAID, {"speaker": "user", **ROW, "slots": [{**SLOT, "end": 99}]}],
            "{path}, line 1, turn 3: slot 1 goes from 11 to 99, but the text has 22 characters; start is the first "
            "character from 0, and end is one past the last.",
        ),
        (SAID, '{path} has no turn of a user with an intent; add "intent" to one.'),
    ],
)
def test_what_is_no_dialogue_to_learn_from_is_refused(tmp_path: Path, turns: object, message: str) -> None:
    path = write(tmp_path, {"turns": turns})
    with pytest.raises(KshotError) as error:
        read_utterances(path)
    assert str(error.value) == message.format(path=path)


def test_an_empty_file_of_turns(tmp_path: Path) -> None:
    path = tmp_path / "turns.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(KshotError) as error:
        read_utterances(path)
    assert str(error.value) == f"{path} has no turns; add at least one."


def test_a_file_is_split_by_domain_and_drawn_from(tmp_path: Path) -> None:
    rows = [
        {
            "text": f"{verb} {n} now",
            "intent": verb,
            "slots": [{"slot": "n", "start": len(verb) + 1, "end": len(verb) + 3}],
            "domain": domain,
        }
        for domain in ("alarms", "banks", "music")
        for verb in ("add", "drop")
        for n in range(10, 16)
    ]
    dataset = load_path(write(tmp_path, *rows))
    assert isinstance(dataset, UtteranceDataset)
    assert dataset.unit == "tasks"
    assert (dataset.shot_counts, dataset.usual_way) == ("turns", "all")
    episode = dataset.sampler("test", way="all", shot=2, query="all", seed=0, n_episodes=1)[0]
    assert episode.classes == ("intent:add", "intent:drop", "slot:n")
    assert (len(episode.support), len(episode.query)) == (4, 8)
    with pytest.raises(KshotError) as error:
        load_path(tmp_path / "turns.jsonl", unit="classes")
    assert str(error.value) == (
        f'{tmp_path / "turns.jsonl"} has turns, each of several classes; use unit "tasks" or "examples".'
    )


def test_a_folder_of_turns_and_of_texts_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ROW, name="train.jsonl")
    write(tmp_path, {"text": "hi", "label": "greet"}, name="test.jsonl")
    with pytest.raises(KshotError) as error:
        load_path(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has turns with slots in train.jsonl and none in test.jsonl; give those of that one an intent and "
        "slots, or take it away."
    )


def test_utterances_are_checked_as_texts_and_as_sentences() -> None:
    said = (Turn(SYSTEM, "Anything else?"),)
    one = Utterance("no thanks", "NONE", (), said)
    found = [each.message for each in check([one, Utterance("No thanks", "Cancel", (), said)])]
    assert any("under more than one label" in message and '"Cancel" and "NONE"' in message for message in found)
    after_other = Utterance("no thanks", "Cancel", (), ())
    assert not any("more than one label" in each.message for each in check([one, after_other]))
    assert check([TextExample("a", "b")])
