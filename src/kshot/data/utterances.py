"""Files -> utterances. An error names the file, the line and the turn, and says what to do.

A line is a turn or a dialogue (JSONL; or items of a list in JSON; each perhaps `.gz`):

    {"text": "Wake me at six.", "intent": "AddAlarm", "slots": [{"slot": "time", "start": 11, "end": 14}]}
    {"turns": [{"speaker": "user", "text": ..., "intent": ..., "slots": [...]}, {"speaker": "system", "text": ...}]}

The first form may have a `history`, a list of turns; in the second it is what stands before. Of a dialogue the turns of
the user that have an intent are learned, the others are read with them.
"""

from collections.abc import Sequence
from pathlib import Path

from kshot.data.dialogue import (
    DIALOGUE_SUFFIXES,
    HISTORY_FIELD,
    TURNS_FIELD,
    USER,
    History,
    dialogue_of,
    read_turns,
)
from kshot.data.examples import Utterance
from kshot.data.files import (
    PART_FIELDS,
    TASK_FIELDS,
    TEXT_FIELDS,
    Row,
    each_row,
    kind_of,
    name_of,
    read_rows,
    read_utf8,
    show_value,
    suffix_of,
    text_of,
    usual_field,
)
from kshot.data.marks import SLOT_MARK, on_words, read_span, words_of
from kshot.data.tags import Span
from kshot.errors import KshotError

INTENT_FIELD, SLOTS_FIELD = "intent", "slots"


def is_utterances(path: str | Path) -> bool:
    """Whether a file has turns with slots or a history, or dialogues whose turns have intents: in any of its rows.

    Raises:
        KshotError: If it has to be looked into and cannot be read.
    """
    path = Path(path)
    if suffix_of(path) not in DIALOGUE_SUFFIXES:
        return False
    content = read_utf8(path)
    if not any(f'"{field}"' in content for field in (SLOTS_FIELD, HISTORY_FIELD, TURNS_FIELD)):
        return False  # as most files of texts, which need not be parsed for this
    return any(_is_utterance(row) for row in each_row(path))


def _is_utterance(row: Row) -> bool:
    turns = row.fields.get(TURNS_FIELD)
    if isinstance(turns, list):
        return any(isinstance(turn, dict) and INTENT_FIELD in turn for turn in turns)
    has_history = HISTORY_FIELD in row.fields and INTENT_FIELD in row.fields  # without an intent it is a reply
    return (SLOTS_FIELD in row.fields or has_history) and usual_field(list(row.fields), TEXT_FIELDS) is not None


def read_utterances(path: str | Path) -> list[Utterance]:
    """Reads turns with intents and slots; see this module for the formats.

    A field ``task`` or ``domain`` of a row is its named task, ``part`` or ``split`` its part.

    Raises:
        KshotError: If the file cannot be read; if a turn has no text, no intent, or an unknown speaker; if slots
            overlap or do not fit the words; or if there is nothing to learn from.
    """
    path = Path(path)
    rows = read_rows(path)
    if not rows:
        raise KshotError(f"{path} has no turns; add at least one.")
    utterances = [each for row in rows for each in (_of_dialogue if TURNS_FIELD in row.fields else _of_turn)(path, row)]
    if not utterances:
        raise KshotError(f'{path} has no turn of a user with an intent; add "intent" to one.')
    return utterances


def _of_turn(path: Path, row: Row) -> list[Utterance]:
    text_field = usual_field(list(row.fields), TEXT_FIELDS)
    if text_field is None:
        raise KshotError(
            f'{path}, {row.place}: there is neither a text nor "turns"; write {{"text": ..., "intent": ...}} or '
            '{"turns": [...]}.'
        )
    history = read_turns(path, row, HISTORY_FIELD) if row.fields.get(HISTORY_FIELD) is not None else []
    return [_utterance(path, row, text_of(path, row, text_field), tuple(each.turn for each in history), row)]


def _of_dialogue(path: Path, row: Row) -> list[Utterance]:
    dialogue = dialogue_of(path, row, of=USER)
    found = []
    for number, each in enumerate(dialogue.turns):
        if each.turn.speaker != USER:
            continue
        if each.row.fields.get(INTENT_FIELD) is not None:
            found.append(_utterance(path, each.row, text_of(path, each.row, "text"), dialogue.before(number), row))
        elif each.row.fields.get(SLOTS_FIELD):
            raise KshotError(
                f'{path}, {each.row.place}: the turn has slots but no intent; add "intent", or take the slots out if '
                "it is not to be learned."
            )
    return found


def _utterance(path: Path, row: Row, text: str, history: History, whole: Row) -> Utterance:
    """The utterance in a row, whose task and part stand in the whole row that it is of."""
    names = list(whole.fields)
    task, part = (
        name_of(path, whole, field, optional=True) if field is not None else ""
        for field in (usual_field(names, TASK_FIELDS), usual_field(names, PART_FIELDS))
    )
    intent = name_of(path, row, INTENT_FIELD)
    slots = row.fields.get(SLOTS_FIELD)
    if not isinstance(slots, list | None):
        raise KshotError(
            f'{path}, {row.place}: the field "{SLOTS_FIELD}" is {kind_of(slots)} ({show_value(slots)}), not a list; '
            'write [{"slot": ..., "start": ..., "end": ...}].'
        )
    return Utterance(text, intent, slots_of(f"{path}, {row.place}", text, slots or ()), history, task, part)


def slots_of(where: str, text: str, slots: Sequence[object]) -> tuple[Span, ...]:
    """The slots that objects describe, in characters, in order and without white space at their ends.

    Args:
        where: What an error is about.
        text: The utterance.
        slots: Objects with `slot`, `start` and `end`.

    Raises:
        KshotError: If the text has no words, or if a slot is no such object, is outside the text, cuts a word, is none,
            or overlaps with another.
    """
    marks = [read_span(where, text, value, number, SLOT_MARK) for number, value in enumerate(slots, 1)]
    words = words_of(where, text)
    return tuple(
        Span(words[each.start][1], words[each.end - 1][2], each.label)
        for each in on_words(where, text, words, marks, SLOT_MARK)
    )
