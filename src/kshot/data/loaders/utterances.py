"""Requests with their intents and slots."""

from collections.abc import Iterator
from pathlib import Path

from kshot.data.dataset import PARTS, UtteranceDataset
from kshot.data.dialogue import SPEAKERS, USER, Turn
from kshot.data.entries import Entry
from kshot.data.examples import Utterance
from kshot.data.tags import Span, spans_of
from kshot.data.verified import Fields, strings, verified_rows, verified_split
from kshot.data.words import split_words


def load_utterances(folder: Path, entry: Entry, split: str) -> UtteranceDataset:
    """Each domain is a task: its train rows to learn from, its test rows to be judged by.

    The split of SGD is in a file of its own; a file of SNIPS has all seven.
    """
    name = "domains" if entry.name == "sgd" else "leave_one_out"
    content = verified_split(entry, folder, name)
    domains = content if entry.name == "sgd" else content[split]
    assert isinstance(domains, dict)
    made = {
        part: tuple(
            utterance
            for domain in strings(domains[part])
            for of in ("train", "test")
            for row in verified_rows(entry, folder, f"{domain}/{of}.jsonl")
            for utterance in (_turns(row, domain, of) if "turns" in row else _request(row, domain, of))
        )
        for part in PARTS
    }
    return entry.dataset(UtteranceDataset, split, made)


def _turns(row: Fields, task: str, part: str) -> Iterator[Utterance]:
    """The turns of the user of a dialogue. "NONE" is an intent as others are: that of a goodbye."""
    said: list[Turn] = []
    for turn in _objects(row["turns"]):
        speaker, text = SPEAKERS[str(turn["speaker"])], str(turn["text"])
        if speaker == USER:
            slots = tuple(sorted(_slot(each) for each in _objects(turn["slots"])))
            yield Utterance(text, str(turn["intent"]), slots, tuple(said), task, part)
        said.append(Turn(speaker, text))


def _request(row: Fields, task: str, part: str) -> Iterator[Utterance]:
    """A request of SNIPS, unless words are missing a space, so that a slot ends within one: four of 6,293."""
    text, places, end = str(row["text"]), [], 0
    for token in strings(row["tokens"]):
        start = text.index(token, end)
        end = start + len(token)
        places.append((start, end))
    slots = [
        Span(places[span.start][0], places[span.end - 1][1], span.label) for span in spans_of(strings(row["tags"]))
    ]
    words = split_words(text)
    starts, ends = {start for _, start, _ in words}, {end for _, _, end in words}
    if all(each.start in starts and each.end in ends for each in slots):
        yield Utterance(text, str(row["intent"]), tuple(slots), (), task, part)


def _objects(value: object) -> list[Fields]:
    return list(value) if isinstance(value, list) else []


def _slot(row: Fields) -> Span:
    start, end = row["start"], row["end"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    return Span(start, end, str(row["slot"]))
