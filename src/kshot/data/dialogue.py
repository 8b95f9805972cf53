"""Dialogues: what was said, by whom, and how much of it is read again.

One dialogue a line (JSONL), or an item of a list (JSON), each perhaps compressed (`.gz`):

    {"turns": [{"speaker": "user", "text": "Wake me at six."}, {"speaker": "system", "text": "Done."}]}

A turn may have more fields (`intent`, `slots`), which whoever reads the dialogue understands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from kshot.data.files import (
    TABLE_SUFFIXES,
    Row,
    first_row,
    kind_of,
    read_rows,
    show_value,
    suffix_of,
    text_of,
    unknown_suffix,
)
from kshot.data.normal import refuse_half_character
from kshot.errors import KshotError, KshotNotice, did_you_mean, several

Speaker = Literal["user", "system"]
"""Who speaks: the one that is to be understood and answered, or the one that answers."""

USER: Speaker = "user"
SYSTEM: Speaker = "system"

SPEAKERS: Mapping[str, Speaker] = MappingProxyType({"user": USER, "system": SYSTEM, "partner": USER, "self": SYSTEM})
"""What files call the speakers; in files of personas `self` is the one whose manner is learned."""

TURNS_FIELD, HISTORY_FIELD = "turns", "history"
DIALOGUE_SUFFIXES = (".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says before the other one speaks.

    Attributes:
        speaker: Who says it.
        text: What is said.
    """

    speaker: Speaker
    text: str


History = tuple[Turn, ...]
"""The turns before one, the oldest first."""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn of a file.

    Attributes:
        turn: Who says what.
        row: All of its fields, and where it stands: ``line 3, turn 2``.
    """

    turn: Turn
    row: Row


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue of a file.

    Attributes:
        turns: Its turns, the oldest first.
        row: Its fields, and where it stands: ``line 3``.
    """

    turns: tuple[TurnRow, ...]
    row: Row

    def before(self, number: int) -> History:
        """The history of turn `number`, from 0."""
        return tuple(each.turn for each in self.turns[:number])


def is_dialogues(path: Path) -> bool:
    """Whether a file has dialogues: rows with turns.

    Raises:
        KshotError: If it has to be looked into and cannot be read.
    """
    if suffix_of(path) not in TABLE_SUFFIXES:
        return False
    row = first_row(path)
    return row is not None and TURNS_FIELD in row.fields


def read_dialogues(path: str | Path, *, of: Speaker) -> list[Dialogue]:
    """Reads dialogues.

    Args:
        path: A file of JSONL or JSON.
        of: Whose turns are to be learned from: each dialogue has one at least.

    Raises:
        KshotError: If the file cannot be read; if a dialogue is no list of turns, or has none of that speaker; or if a
            turn has no speaker that is known, or no text.
    """
    path = Path(path)
    if suffix_of(path) not in DIALOGUE_SUFFIXES:
        raise unknown_suffix(path, DIALOGUE_SUFFIXES, "dialogues")
    rows = read_rows(path)
    if not rows:
        raise KshotError(f"{path} has no dialogues; add at least one.")
    return [dialogue_of(path, row, of=of) for row in rows]


def dialogue_of(path: Path, row: Row, *, of: Speaker) -> Dialogue:
    """The dialogue in a row; see `read_dialogues`."""
    if TURNS_FIELD not in row.fields:
        raise KshotError(f'{path}, {row.place}: the dialogue has no field "{TURNS_FIELD}"; write {{"turns": [...]}}.')
    turns = read_turns(path, row, TURNS_FIELD)
    if not turns:
        raise KshotError(f"{path}, {row.place}: the dialogue has no turns; add one or take it out.")
    if all(each.turn.speaker != of for each in turns):
        names = " or ".join(f'"{name}"' for name, speaker in SPEAKERS.items() if speaker == of)
        raise KshotError(
            f"{path}, {row.place}: no turn of the dialogue is by {names}, so there is nothing to learn from; add one "
            "or take the dialogue out."
        )
    return Dialogue(tuple(turns), row)


def read_turns(path: Path, row: Row, field: str) -> list[TurnRow]:
    """The turns in a field of a row, such as the history of a turn; there may be none.

    Raises:
        KshotError: If the field is no list of turns, or a turn has no speaker that is known, or no text.
    """
    values = row.fields[field]
    if not isinstance(values, list):
        raise KshotError(
            f'{path}, {row.place}: the field "{field}" is {kind_of(values)} ({show_value(values)}), not a list; write '
            '[{"speaker": "user", "text": ...}, ...].'
        )
    return [_turn(path, row, value, number) for number, value in enumerate(values, 1)]


def _turn(path: Path, row: Row, value: object, number: int) -> TurnRow:
    place = f"{row.place}, turn {number}"
    if not isinstance(value, dict):
        raise KshotError(
            f"{path}, {place}: this is {kind_of(value)} ({show_value(value)}), not an object; write "
            '{"speaker": "user", "text": ...}.'
        )
    own = Row(place, value)
    if "speaker" not in value:
        raise KshotError(f'{path}, {place}: the turn has no speaker; add "speaker": "user" or "speaker": "system".')
    speaker = speaker_of(value["speaker"], f"{path}, {place}: the speaker")
    return TurnRow(Turn(speaker, text_of(path, own, "text").strip()), own)


def speaker_of(name: object, what: str) -> Speaker:
    """The speaker of a name.

    Args:
        name: Such as "user" or "self", in any case of letters.
        what: What an error is about.

    Raises:
        KshotError: If there is no such speaker.
    """
    known = SPEAKERS.get(name.strip().lower()) if isinstance(name, str) else None
    if known is None:
        raise KshotError(
            f"{what} is {show_value(name)}, but has to be one of {', '.join(SPEAKERS)}."
            + (did_you_mean(name, SPEAKERS) if isinstance(name, str) else "")
        )
    return known


def check_history(turns: object, what: str) -> History:
    """Returns a history that a user gave: `Turn`s, pairs of speaker and text, or objects with these fields.

    Args:
        turns: The turns, the oldest first.
        what: What an error is about, such as `History 2`.

    Raises:
        KshotError: If it is no list of turns, or if a turn has no speaker that is known, or no text.
    """
    if isinstance(turns, (str, bytes)) or not isinstance(turns, Iterable):
        raise KshotError(f'{what} is {kind_of(turns)}, not a list of turns; write [("user", "..."), ...].')
    found = []
    for number, each in enumerate(turns, 1):
        match each:
            case Turn(speaker, text) | (speaker, text) | {"speaker": speaker, "text": text}:
                pass
            case _:
                raise KshotError(
                    f'{what}, turn {number} is {kind_of(each)}, not a turn; write ("user", "...") or '
                    '{"speaker": "user", "text": "..."}.'
                )
        if not isinstance(text, str) or not text.strip():
            raise KshotError(f"{what}, turn {number} has no text; fill it in or leave the turn out.")
        refuse_half_character(text, f"{what}, turn {number}")
        found.append(Turn(speaker_of(speaker, f"{what}, turn {number}: the speaker"), text.strip()))
    return tuple(found)


def newest(history: Sequence[Turn], room: int, length: Callable[[Turn], int]) -> History:
    """The newest turns that there is room for: a history is cut from its old side, and no turn is cut in two.

    Args:
        history: The turns, the oldest first.
        room: How much they may take together.
        length: How much a turn takes. Of a long history only the turns that are kept, and one more, are measured.
    """
    first = len(history)
    while first and (room := room - length(history[first - 1])) >= 0:
        first -= 1
    return tuple(history[first:])


class HistoryCut(KshotNotice):
    """A history is longer than what is read of it."""


def cut_notice(what: str, n_turns: int, n_read: int) -> str:
    """Says that a history was cut.

    Args:
        what: Whose history, such as `text 2`.
        n_turns: How many turns it has.
        n_read: How many of them, the newest, are read.
    """
    kept = f"the newest {n_read} are read" if n_read else "none is read, the newest being too long"
    return f"The history of {what} has {several(n_turns, 'turn')}, of which {kept}; what is older does not count."
