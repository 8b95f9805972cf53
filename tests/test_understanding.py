"""Adapted understanding: frames and where their slots stand, what is saved, and the sentences for bad input."""

import io
import json
from pathlib import Path

import pytest

from contract import learner
from kshot.cli import main
from kshot.data.dialogue import HistoryCut, Turn
from kshot.data.examples import Utterance
from kshot.data.tags import Span
from kshot.errors import KshotError, KshotNotice
from kshot.meta_learner import MetaLearner, load_task
from kshot.predictions import _writers
from kshot.tasks.understanding import Understanding, UnderstandingSettings
from kshot.understanding import AdaptedUnderstanding, Frame, Slot
from toy import scratch, utterances

EXAMPLES = utterances((3, 3), 0, 3)
TEXTS = [each.text for each in EXAMPLES]
FRAMES: list[dict[str, object]] = [
    {
        "intent": each.intent,
        "slots": [{"slot": span.label, "start": span.start, "end": span.end} for span in each.spans],
        "history": [(turn.speaker, turn.text) for turn in each.history],
    }
    for each in EXAMPLES
]
TEXT = "Please, a lamp bulb now! My dinner?"
SAID = [("user", "can you help"), ("system", "what about the lamp")]


def meta_learner(algorithm: str = "ridge", scheme: str = "bio") -> MetaLearner:
    task = Understanding(UnderstandingSettings(scheme=scheme))  # type: ignore[arg-type]
    return MetaLearner(learner(algorithm, scratch("cnn", max_length=64), task=task), {"title": "toy"})


def task(algorithm: str = "ridge", scheme: str = "bio") -> AdaptedUnderstanding:
    adapted = meta_learner(algorithm, scheme).adapt(TEXTS, FRAMES)
    assert isinstance(adapted, AdaptedUnderstanding)
    return adapted


def alike(one: Frame, other: Frame) -> bool:
    """Whether two frames are the same but for the last digits, which depend on what is encoded in the same call."""
    places = [[(each.slot, each.start, each.end) for each in frame.slots] for frame in (one, other)]
    return places[0] == places[1] and one.intents == pytest.approx(dict(other.intents), abs=1e-5)


# -- what is understood ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["bio", "spans"])
def test_slots_stand_where_they_say(scheme: str) -> None:
    adapted = task(scheme=scheme)
    found = adapted.predict([TEXT, TEXTS[0]], [None or (), SAID])
    assert [each.text for each in found] == [TEXT, TEXTS[0]]
    assert any(each.slots for each in found)
    for each in found:
        assert set(each.intents) == set(adapted.intents) == {"light/switch_on", "book.table"}
        assert each.confidence == max(each.intents.values()) == each.intents[each.intent]
        assert sum(each.intents.values()) == pytest.approx(1)
        for slot in each.slots:
            assert each.text[slot.start : slot.end] == slot.text
            assert slot.slot in adapted.slots
            assert 0 <= slot.confidence <= 1


def test_what_was_said_before_counts() -> None:
    adapted = task()
    alone, after = adapted.predict([TEXT, TEXT], [[], SAID])
    assert abs(alone.confidence - after.confidence) > 1e-3
    assert alike(adapted.predict([TEXT])[0], alone)
    turns = [Turn("user", "can you help"), {"speaker": "self", "text": "what about the lamp"}]
    assert alike(adapted.predict([TEXT], [turns])[0], after)


def test_a_history_of_500_turns_is_cut_from_its_old_side_and_that_is_said() -> None:
    adapted = task()
    long = [("user" if n % 2 else "system", f"turn {n}") for n in range(500)]
    with pytest.warns(HistoryCut) as caught:
        found = adapted.predict([TEXT, TEXT], [[], long])
    assert [str(each.message) for each in caught] == [
        "The history of text 2 has 500 turns, of which the newest 2 are read; what is older does not count."
    ]
    assert alike(found[1], adapted.predict([TEXT], [long[-2:]])[0])
    assert not alike(found[1], found[0])
    with pytest.warns(HistoryCut, match="The history of turn 1 has 500 turns"):
        meta_learner().adapt(TEXTS, [{**FRAMES[0], "history": long}, *FRAMES[1:]])


def test_its_own_turns_are_learned() -> None:
    adapted = meta_learner("nearest-neighbour", "io").adapt(TEXTS, FRAMES)
    found = adapted.predict(TEXTS, [each.history for each in EXAMPLES])
    assert [each.intent for each in found] == [each.intent for each in EXAMPLES]
    right = [
        tuple(Span(slot.start, slot.end, slot.slot) for slot in one.slots) == each.spans
        for one, each in zip(found, EXAMPLES, strict=True)
    ]
    assert sum(right) >= len(right) - 1


def test_nothing_asked_and_a_turn_beside_others() -> None:
    adapted = task()
    assert adapted.predict([]) == []
    together = adapted.predict([TEXT, *TEXTS])
    assert alike(adapted.predict([TEXT])[0], together[0])


def test_a_score_is_of_whole_frames() -> None:
    adapted = task()
    asked = utterances((4, 4), 7, 4)
    frames = [{"intent": each.intent, "slots": [vars_of(span) for span in each.spans]} for each in asked]
    found = adapted.predict([each.text for each in asked])
    rights = [one.intent == each.intent for one, each in zip(found, asked, strict=True)]
    whole = [
        right and tuple(Span(slot.start, slot.end, slot.slot) for slot in one.slots) == each.spans
        for right, one, each in zip(rights, found, asked, strict=True)
    ]
    scores = adapted.score([each.text for each in asked], frames)
    assert scores["joint accuracy"] == pytest.approx(sum(whole) / len(whole))
    assert scores["intent accuracy"] == pytest.approx(sum(rights) / len(rights))
    assert adapted.score([each.text for each in asked], found)["joint accuracy"] == 1.0
    unknown = adapted.score(["lamp"], [{"intent": "unheard of"}])
    assert (unknown["joint accuracy"], unknown["intent accuracy"]) == (0.0, 0.0)


def vars_of(span: Span) -> dict[str, object]:
    return {"slot": span.label, "start": span.start, "end": span.end}


# -- learning more, and saving -----------------------------------------------------------------------------------------


def test_examples_bring_their_frames() -> None:
    assert meta_learner().adapt(EXAMPLES).predict([TEXT]) == task().predict([TEXT])


@pytest.mark.parametrize("algorithm", ["ridge", "first-order-maml"])
def test_a_correction_joins_the_support_and_its_new_intent_and_slot_the_classes(algorithm: str) -> None:
    adapted = task(algorithm)
    (wrong,) = adapted.predict(["wake up the alarm"])
    right = Frame(wrong.text, "set_alarm", 1.0, (Slot("clock", "alarm", 12, 17, 1.0),), {})
    wider = adapted.add_examples([wrong.text], [right])
    assert wider.intents == (*adapted.intents, "set_alarm")
    assert wider.slots == (*adapted.slots, "clock")
    assert len(adapted.intents) == 2
    frame = {"intent": "set_alarm", "slots": [{"slot": "clock", "start": 12, "end": 17}]}
    again = meta_learner(algorithm).adapt([*TEXTS, wrong.text], [*FRAMES, frame])
    assert wider.predict([TEXT])[0].intent == again.predict([TEXT])[0].intent
    assert wider.predict([wrong.text])[0].intents.keys() == {*adapted.intents, "set_alarm"}


@pytest.mark.parametrize("algorithm", ["prototypical", "decomposed"])
@pytest.mark.parametrize("scheme", ["bio", "spans"])
def test_a_task_that_was_saved_understands_the_same_to_the_last_bit(
    tmp_path: Path, algorithm: str, scheme: str
) -> None:
    adapted = task(algorithm, scheme)
    adapted.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, AdaptedUnderstanding)
    assert again.examples == adapted.examples
    assert (again.temperature, again.slot_temperature) == (adapted.temperature, adapted.slot_temperature)
    asked = [TEXT, *TEXTS], [SAID, *(each.history for each in EXAMPLES)]
    assert again.predict(*asked) == adapted.predict(*asked)
    assert again.add_examples(TEXTS[:1], FRAMES[:1]).classes == adapted.classes


def test_algorithms_are_chosen_by_left_out_turns() -> None:
    chosen, scores = meta_learner().choose(["ridge", "prototypical"], TEXTS, FRAMES)
    assert set(scores) == {"ridge", "prototypical"}
    assert chosen.learner.settings.name == max(scores, key=lambda name: scores[name])


def test_turns_are_left_out_whose_intent_others_show() -> None:
    """Two turns of two intents share a slot, but without one of them the other's frame cannot be right as a whole."""
    frames = [{"intent": name, "slots": [{"slot": "thing", "start": 3, "end": 7}]} for name in ("light", "buy")]
    with pytest.warns(KshotNotice, match="No two examples are of one class, so none can be left out"):
        assert meta_learner().choose(["ridge"], ["my lamp now", "my bulb please"], frames)[1] == {"ridge": 0.0}


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "frames", "message"),
    [
        (["hi"], None, "adapt needs frames: give adapt(texts, frames), or adapt(examples) with Utterances."),
        (None, None, "adapt needs frames: give adapt(texts, frames), or adapt(examples) with Utterances."),
        (["hi", " "], [{"intent": "a"}, {"intent": "b"}], "Text 2 is empty; fill it in or leave it out."),
        (["hi", "no"], [{"intent": "a"}], "There are 2 texts and 1 frame; give one for each text."),
        ([], [], "There are no turns to learn from; give at least one."),
        (["hi"], {"intent": "a"}, 'One frame was given where a list of them is expected; write [{"intent": ...}].'),
        (
            ["hi"],
            ["greet"],
            'Frame 1 is the text "greet", not an object; write {"intent": ..., "slots": [...]}.',
        ),
        (
            ["hi"],
            [{"intnet": "a"}],
            'Frame 1 has a field "intnet" that kshot does not know; the fields of a frame are intent, slots, history. '
            'Did you mean "intent"?',
        ),
        (["hi"], [{"slots": []}], "Frame 1 has no intent; name what the text is for."),
        (
            ["hi"],
            [{"intent": "a\ud800"}],
            "The intent of frame 1 has half a character (a lone surrogate); read it again as UTF-8.",
        ),
        (
            ["hi"],
            [{"intent": "a", "history": [("user", "ok"), ("system", "h\ud800")]}],
            "The history of frame 1, turn 2 has half a character (a lone surrogate); read it again as UTF-8.",
        ),
        (
            ["hi"],
            [{"intent": "a", "slots": "x"}],
            'The slots of frame 1 are the text "x", not a list; write [{"slot": ..., "start": ..., "end": ...}].',
        ),
        (
            ["hi"],
            [{"intent": "a", "slots": [{"slot": "x", "start": 0, "end": 3}]}],
            "Frame 1: slot 1 goes from 0 to 3, but the text has 2 characters; start is the first character from 0, and "
            "end is one past the last.",
        ),
        (
            ["hello there"],
            [{"intent": "a", "slots": [{"slot": "x", "start": 0, "end": 3}]}],
            'Frame 1: the slot "hel" (x) cuts the word "hello"; let it begin and end with a word.',
        ),
        (
            ["hello there"],
            [{"intent": "a", "slots": [{"slot": s, "start": 0, "end": 5} for s in "xy"]}],
            'Frame 1: the slots "hello" (x) and "hello" (y) overlap; keep one of them.',
        ),
        (
            ["hi"],
            [{"intent": "a", "slots": [{"slot": " ", "start": 0, "end": 2}]}],
            'Frame 1, slot 1: the field "slot" is empty; fill it in or take the row out.',
        ),
        (
            ["hi"],
            [{"intent": "a", "history": [("bot", "yes")]}],
            'The history of frame 1, turn 1: the speaker is "bot", but has to be one of user, system, partner, self.',
        ),
        (
            ["hi", "ho"],
            [{"intent": "a"}, {"intent": "a"}],
            'There is one intent only, "a", and no slot, so there is nothing to tell apart; give examples of another, '
            "or mark a slot.",
        ),
        (
            ["hi", "Hi"],
            [{"intent": "a"}, {"intent": "b"}],
            'The turn "Hi" has two intents after the same turns, "a" and "b"; leave it under one.',
        ),
    ],
)
def test_what_cannot_be_learned(texts: list[str], frames: object, message: str) -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(texts, frames)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["intent:a", "intent:b", "slot:x"], 'The slot "x" has no example; give at least one, or leave it out.'),
        (["intent:a", "intent:b", "c"], 'The class "c" is neither an intent nor a slot; write "intent:c".'),
    ],
)
def test_classes_without_example(classes: list[str], message: str) -> None:
    with pytest.raises(KshotError) as caught:
        meta_learner().adapt(["hi", "bye"], [{"intent": "a"}, {"intent": "b"}], classes=classes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("texts", "histories", "message"),
    [
        (["hi", ""], None, "Text 2 is empty; fill it in or leave it out."),
        ("hi", None, 'One text was given where a list of them is expected; write ["..."].'),
        (["hi", "no"], [[]], "There are 2 texts and 1 histories; give one history for each text."),
        (["hi"], "hi", 'One history was given where a list of them is expected; write [[("user", "..."), ...]].'),
        (["hi"], ["yes"], 'History 1 is a text, not a list of turns; write [("user", "..."), ...].'),
        (
            ["hi"],
            [[("bot", "yes")]],
            'History 1, turn 1: the speaker is "bot", but has to be one of user, system, partner, self.',
        ),
        (["hi"], [[("user", "")]], "History 1, turn 1 has no text; fill it in or leave the turn out."),
    ],
)
def test_what_cannot_be_understood(texts: object, histories: object, message: str) -> None:
    with pytest.raises(KshotError) as caught:
        task().predict(texts, histories)  # type: ignore[arg-type]
    assert str(caught.value) == message


# -- writing, and the command line -------------------------------------------------------------------------------------


def written(adapted: AdaptedUnderstanding, form: str, frames: list[Frame]) -> str:
    file = io.StringIO()
    _writers(adapted, 1)[form](file)([each.text for each in frames], frames)
    return file.getvalue()


FRAME = Frame("wake me at six", "alarm", 0.75, (Slot("time", "six", 11, 14, 0.5),), {"alarm": 0.75, "NONE": 0.25})


def test_predictions_as_json_and_for_people() -> None:
    adapted = meta_learner().adapt(["at six", "no"], [{"intent": "alarm", "slots": [six(3)]}, {"intent": "NONE"}])
    row = json.loads(written(adapted, "jsonl", [FRAME]))
    assert row == {
        "text": "wake me at six",
        "intent": "alarm",
        "confidence": 0.75,
        "slots": [{"slot": "time", "text": "six", "start": 11, "end": 14, "confidence": 0.5}],
        "intents": {"alarm": 0.75},
    }
    assert written(adapted, "table", [FRAME]) == "wake me at six [time 50%]  alarm 75%\n"


def six(start: int) -> dict[str, object]:
    return {"slot": "time", "start": start, "end": start + 3}


def test_from_a_file_of_dialogues_to_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta_learner().save(tmp_path / "run")
    rows = [
        {
            "turns": [
                {"speaker": "system", "text": "What can I do?"},
                {"speaker": "user", "text": each.text, **frame, "history": None},
            ]
        }
        for each, frame in zip(EXAMPLES, FRAMES, strict=True)
    ]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    run, talk, home = str(tmp_path / "run"), str(tmp_path / "talk.jsonl"), str(tmp_path / "task")
    assert main(["adapt", run, talk, "--out", home]) == 0
    assert "Learned 2 intents and 2 slots from 6 turns" in capsys.readouterr().out
    assert main(["predict", home, talk]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["text"] for each in found] == TEXTS
    adapted = load_task(home)
    expected = adapted.predict(TEXTS, [[("system", "What can I do?")]] * len(TEXTS))
    assert [each["intent"] for each in found] == [each.intent for each in expected]
    (tmp_path / "put-right.jsonl").write_text("\n".join(map(json.dumps, found)) + "\n", encoding="utf-8")
    if len({each["intent"] for each in found}) > 1 or any(each["slots"] for each in found):
        assert main(["adapt", run, str(tmp_path / "put-right.jsonl"), "--out", str(tmp_path / "other")]) == 0
    assert main(["task", "show", home]) == 0
    assert "intent:book.table" in capsys.readouterr().out
    assert main(["data", "check", talk]) == 0
    assert "6 turns, 4 intents and slots" in capsys.readouterr().out


def test_a_long_history_is_a_note_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task().save(tmp_path / "task", bundle=True)
    turns = [{"speaker": "user" if n % 2 else "system", "text": f"turn {n}"} for n in range(500)]
    row = {"text": TEXT, "history": turns}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["predict", str(tmp_path / "task"), str(tmp_path / "one.jsonl")]) == 0
    assert capsys.readouterr().err == (
        "Note: The history of text 1 has 500 turns, of which the newest 2 are read; what is older does not count.\n"
    )


def test_files_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta_learner().save(tmp_path / "run")
    (tmp_path / "texts.csv").write_text("text,label\nhi,greet\nbye,part\n", encoding="utf-8")
    assert main(["adapt", str(tmp_path / "run"), str(tmp_path / "texts.csv"), "--out", str(tmp_path / "task")]) == 2
    assert capsys.readouterr().err == (
        f"Error: {tmp_path / 'texts.csv'} holds labelled texts, but {tmp_path / 'run'} learns understanding; give a "
        "learner of classification.\n"
    )


def test_an_utterance_that_is_not_of_kshot_is_read_as_it_is() -> None:
    only = Utterance("no", "NONE", (), (Turn("system", "Anything else?"),))
    assert only.texts == ("Anything else?", "no")
