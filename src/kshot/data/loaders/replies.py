"""What persons answer in dialogues."""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from kshot.data.dataset import PARTS, ReplyDataset
from kshot.data.dialogue import Turn, speaker_of
from kshot.data.entries import Entry
from kshot.data.examples import Reply
from kshot.data.replies import replies_of, with_candidates
from kshot.data.verified import Fields, strings, verified_rows


def load_replies(folder: Path, entry: Entry, split: str) -> ReplyDataset:
    """Each person is a task. Those that a learner is chosen or judged by have candidates for each of their replies."""
    parts: dict[str, tuple[Reply, ...]] = {part: () for part in PARTS}
    personas: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        if f"{part}.jsonl" in entry.checksums:
            rows = verified_rows(entry, folder, f"{part}.jsonl")
            personas |= {str(row["id"]): strings(row["persona"]) for row in rows}
            found = tuple(reply for row in rows for reply in _replies(row))
            parts[part] = found if part == "train" else with_candidates(found)
    return entry.dataset(ReplyDataset, split, parts, personas)


def _replies(row: Fields) -> list[Reply]:
    """The replies of one person in all of their dialogues."""
    dialogues = row["dialogues"]
    assert isinstance(dialogues, list)
    name = str(row["id"])
    return [
        reply
        for number, turns in enumerate(dialogues)
        for reply in replies_of(
            [Turn(speaker_of(each["speaker"], name), str(each["text"])) for each in turns],
            task=name,
            dialogue=str(number),
        )
    ]


def in_lower_case(reply: Reply) -> Reply:
    """Spells a reply, and what was said before it, as Persona-Chat is spelled."""
    history = tuple(replace(turn, text=spelled_apart(turn.text)) for turn in reply.history)
    return replace(reply, history=history, text=spelled_apart(reply.text))


@lru_cache(maxsize=100_000)
def spelled_apart(text: str) -> str:
    """Spells a text as Persona-Chat is spelled: in lower case, signs apart from the words: `hi ! i'm fine .`."""
    return " ".join(re.sub(r"([.,!?;:()\"])", r" \1 ", text.lower().replace("\u2019", "'")).split())
