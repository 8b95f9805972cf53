"""What a person answers: read from dialogues, and drawn into episodes of one person each.

One dialogue a line, in JSONL; where there are several persons, `task` says who "system" (or "self") is:

    {"turns": [{"speaker": "user", "text": "Any plans?"}, {"speaker": "system", "text": "Sailing."}], "task": "anna"}

Or one reply a line, as a saved task keeps its examples; replies of one `dialogue` belong together:

    {"history": [{"speaker": "user", "text": "Any plans?"}], "text": "Sailing.", "task": "anna", "dialogue": "3"}
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kshot.data.dialogue import (
    DIALOGUE_SUFFIXES,
    HISTORY_FIELD,
    SYSTEM,
    TURNS_FIELD,
    Turn,
    is_dialogues,
    read_dialogues,
    read_turns,
)
from kshot.data.draws import generator_of
from kshot.data.examples import Reply
from kshot.data.files import (
    PART_FIELDS,
    TASK_FIELDS,
    Row,
    field_names,
    find_optional_field,
    first_row,
    name_of,
    read_rows,
    suffix_of,
    text_of,
)
from kshot.data.normal import normalise
from kshot.data.pieces import PieceSampler
from kshot.errors import KshotError

_REPLY_FIELDS, _OPTIONAL_FIELDS = {HISTORY_FIELD, "text"}, ("task", "dialogue", "part")

N_CANDIDATES = 20
"""Among how many replies the true one is to be told, as in ConvAI2."""


def replies_of(turns: Sequence[Turn], *, task: str = "", dialogue: str = "", part: str = "") -> list[Reply]:
    """What the system says in a dialogue, each with the turns before it.

    Args:
        turns: The dialogue, the oldest turn first.
        task: Who the system is.
        dialogue: Which of the dialogues of that person it is.
        part: See `Reply`.
    """
    return [
        Reply(tuple(turns[:number]), turn.text, task, dialogue, part)
        for number, turn in enumerate(turns)
        if turn.speaker == SYSTEM
    ]


def is_replies(path: Path) -> bool:
    """Whether a file has dialogues, or replies one by one.

    Raises:
        KshotError: If it has to be looked into and cannot be read.
    """
    return is_dialogues(path) or _is_one_by_one(path)


def _is_one_by_one(path: Path) -> bool:
    row = first_row(path) if suffix_of(path) in DIALOGUE_SUFFIXES else None
    return row is not None and _is_reply(row)


def _is_reply(row: Row) -> bool:
    return _REPLY_FIELDS <= set(row.fields) <= _REPLY_FIELDS.union(_OPTIONAL_FIELDS)


def read_replies(path: Path) -> list[Reply]:
    """Reads the replies of dialogues, see `kshot.data.dialogue`, or replies one by one.

    Raises:
        KshotError: If the file cannot be read, or a dialogue in it: as `read_dialogues`.
    """
    if _is_one_by_one(path):
        return [_reply(path, row) for row in read_rows(path)]
    dialogues = read_dialogues(path, of=SYSTEM)
    names = field_names([each.row for each in dialogues])
    task, part = (find_optional_field(path, names, None, fields, fields[0]) for fields in (TASK_FIELDS, PART_FIELDS))
    return [
        reply
        for number, each in enumerate(dialogues)
        for reply in replies_of(
            [turn.turn for turn in each.turns],
            task=_named(path, each.row, task),
            dialogue=str(number),
            part=_named(path, each.row, part),
        )
    ]


def _reply(path: Path, row: Row) -> Reply:
    if not _is_reply(row):
        raise KshotError(
            f"{path}, {row.place}: this is no reply, as the first row is; give each row the fields "
            f"{HISTORY_FIELD} and text, or each the field {TURNS_FIELD}."
        )
    history = tuple(each.turn for each in read_turns(path, row, HISTORY_FIELD))
    task, dialogue, part = (_named(path, row, field if field in row.fields else None) for field in _OPTIONAL_FIELDS)
    return Reply(history, text_of(path, row, "text").strip(), task, dialogue or row.place, part)


def _named(path: Path, row: Row, field: str | None) -> str:
    return name_of(path, row, field, optional=True) if field else ""


def with_candidates(replies: Sequence[Reply], n: int = N_CANDIDATES) -> tuple[Reply, ...]:
    """Gives each reply others from which it is to be told: replies of other tasks, all different from it.

    They depend on the replies alone: the same ones have the same candidates in every episode, under every method.

    Args:
        replies: The replies of one part of a data set.
        n: How many candidates there are, the reply itself being one; fewer where there are not as many.
    """
    by_text: dict[str, dict[str, str]] = {}  # normalised text -> by task, as it is written
    for each in replies:
        by_text.setdefault(normalise(each.text), {}).setdefault(each.task, each.text)
    texts = sorted(by_text)
    found = []
    for number, each in enumerate(replies):
        own = normalise(each.text)
        others: list[str] = []
        for place in generator_of(n, number).permutation(len(texts)).tolist():
            if len(others) == n - 1:
                break
            told = [text for task, text in by_text[texts[place]].items() if task != each.task]
            if told and texts[place] != own:
                others.append(told[0])
        found.append(replace(each, candidates=tuple(others)))
    return tuple(found)


def persons(replies: Iterable[Reply]) -> Mapping[str, int]:
    """How many dialogues each person has."""
    dialogues: dict[str, set[str]] = {}
    for each in replies:
        dialogues.setdefault(each.task, set()).add(each.dialogue)
    return {task: len(found) for task, found in dialogues.items()}


class ReplySampler(PieceSampler):
    """Episodes of dialogues of one person; no reply and all that was said before it stand on both sides of one."""

    piece, pieces, made = "dialogue", "dialogues", "reply"

    @staticmethod
    def piece_of(example: Reply) -> str:
        return example.dialogue

    @staticmethod
    def marks_of(example: Reply) -> tuple[str, ...]:
        return (normalise("\n".join([*(turn.text for turn in example.history), example.text])),)
