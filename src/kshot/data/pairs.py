"""Sentence pairs: read from files, and drawn into episodes.

{"source": "Bună ziua.", "target": "Good day."}        JSONL, JSON; CSV and TSV with these fields
Bună ziua.<TAB>Good day.                               TSV without a row of names
corpus.ro and corpus.en, line by line                  two files of plain text
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kshot.data.augment_pairs import PairAugmentations
from kshot.data.draws import Count, Sampler, count_ends, distinct_numbers, generator_of, pick, show_ends, whole_number
from kshot.data.examples import Episode, SentencePair
from kshot.data.files import (
    PART_FIELDS,
    TABLE_SUFFIXES,
    TASK_FIELDS,
    field_names,
    find_field,
    find_optional_field,
    first_row,
    name_of,
    read_rows,
    read_utf8,
    suffix_of,
    text_of,
)
from kshot.data.normal import normalise
from kshot.errors import KshotError, several

SOURCE_FIELDS = ("source", "src")
TARGET_FIELDS = ("target", "tgt", "translation")


def is_pairs(path: Path) -> bool:
    """Whether a file has the fields of sentence pairs."""
    if suffix_of(path) not in TABLE_SUFFIXES:
        return False
    row = first_row(path)
    names = {name.lower() for name in row.fields} if row else set()
    return any(name in names for name in SOURCE_FIELDS) and any(name in names for name in TARGET_FIELDS)


def read_pairs(
    path: Path, targets: Path | None = None, *, source: str | None = None, target: str | None = None
) -> list[SentencePair]:
    """Reads sentence pairs.

    Args:
        path: A file with a field for each side; or the sources, a text a line, if `targets` is given.
        targets: Their translations, line by line.
        source: The field with the source; None finds ``source`` or ``src``.
        target: The field with the target; None finds ``target``, ``tgt`` or ``translation``.

    Raises:
        KshotError: If a file cannot be read, if a side of a pair is missing or empty, or if two files differ in their
            number of lines.
    """
    if targets is not None:
        return _side_by_side(path, targets)
    rows = read_rows(path)
    if not rows:
        raise KshotError(f"{path} has no pairs; add at least one.")
    names = field_names(rows)
    source_field = find_field(path, names, source, SOURCE_FIELDS, "source")
    target_field = find_field(path, names, target, TARGET_FIELDS, "target")
    task = find_optional_field(path, names, None, TASK_FIELDS, "task")
    part = find_optional_field(path, names, None, PART_FIELDS, "part")
    return [
        SentencePair(
            text_of(path, row, source_field).strip(),
            text_of(path, row, target_field).strip(),
            name_of(path, row, task, optional=True) if task else "",
            name_of(path, row, part, optional=True) if part else "",
        )
        for row in rows
    ]


def _side_by_side(path: Path, targets: Path) -> list[SentencePair]:
    sides = [read_utf8(each).removesuffix("\n").split("\n") for each in (path, targets)]
    if len(sides[0]) != len(sides[1]):
        raise KshotError(
            f"{path} has {several(len(sides[0]), 'line')} and {targets} has {len(sides[1])}; a line of one is the "
            "translation of the same line of the other, so give them as many."
        )
    for number, pair in enumerate(zip(*sides, strict=True), 1):
        for each, file in zip(pair, (path, targets), strict=True):
            if not each.strip():
                raise KshotError(f"{file}, line {number} is empty; fill it in, or take the line out of both files.")
    return [SentencePair(source.strip(), target.strip()) for source, target in zip(*sides, strict=True)]


@dataclass(frozen=True, slots=True)
class _Pool:
    """The pairs of one task: those that a support may have, and a query, by number."""

    name: str
    support: tuple[int, ...]
    query: tuple[int, ...]


class PairSampler(Sampler):
    """A sequence of episodes of sentence pairs, each of one task: pairs to learn from, and pairs to be judged by.

    No source and no target, case and white space aside, stands on both sides of an episode.

    Attributes:
        examples: What the support is drawn from.
        query_examples: What the query is drawn from.
        skipped: With `skip_small`, the tasks that have too few pairs.
        n_episodes: The length of the sequence.
        seed: The seed.
    """

    def __init__(
        self,
        examples: Iterable[SentencePair],
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        query_examples: Iterable[SentencePair] | None = None,
        skip_small: bool = False,
        augment: PairAugmentations | None = None,
    ) -> None:
        """Sorts the pairs by task.

        Args:
            examples: The pairs.
            way: "all": a translation has no classes to draw.
            shot: Pairs of the support; "all" takes every one, and needs `query_examples`.
            query: Pairs of the query; "all" takes every one that the support leaves.
            seed: Any whole number from 0.
            n_episodes: The length of the sequence.
            query_examples: What the query is drawn from, if it is not `examples`.
            skip_small: Whether tasks that have too few pairs are left out instead of refused.
            augment: Changes made to both sides of an episode, drawn from the seed and the episode's number too.

        Raises:
            KshotError: If a count cannot be used, or there are too few pairs.
        """
        if way != "all":
            raise KshotError(f'way is {way!r}, but a translation has no classes to draw; write "all".')
        self.examples = tuple(examples)
        self.query_examples = self.examples if query_examples is None else tuple(query_examples)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 0)
        self.seed = whole_number(seed, "seed", 0)
        self._augment = augment
        self._shot, self._query = count_ends(shot, "shot", 1), count_ends(query, "query", 1)
        if shot == "all" and query_examples is None:
            raise KshotError(
                'shot is "all", which leaves no pair for the query; give a number, or other query_examples.'
            )
        self._pools, self.skipped = self._usable(skip_small)

    def _usable(self, skip_small: bool) -> tuple[list[_Pool], tuple[str, ...]]:
        rows, asked = _by_task(self.examples), _by_task(self.query_examples)
        shot, query = max(self._shot[1], 1), max(self._query[1], 1)
        one_pool = self.query_examples is self.examples
        kept, small = [], []
        for name, own in sorted(rows.items()):
            others = asked.get(name, ())
            if len(own) >= shot + (query if one_pool else 0) and len(others) >= query:
                kept.append(_Pool(name, own, others))
            elif skip_small:
                small.append(name)
            else:
                where = f'The task "{name}"' if name else "The data set"
                raise KshotError(
                    f"{where} has {several(len(own), 'pair')} to learn from and {len(others)} to be judged by, but an "
                    f"episode needs shot {show_ends(self._shot)} and query {show_ends(self._query)}"
                    f"{' of the same pairs' if one_pool else ''}; lower them or add pairs."
                )
        if not kept:
            raise KshotError("No task has enough sentence pairs; lower shot and query or add pairs.")
        return kept, tuple(small)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that can be drawn."""
        return tuple(pool.name for pool in self._pools)

    def episode(self, i: int) -> Episode:
        rng = generator_of(self.seed, i)
        pool = self._pools[int(rng.random() * len(self._pools))]
        shot = pick(self._shot, len(pool.support), rng)
        support = [pool.support[k] for k in distinct_numbers(rng.random(shot).tolist(), len(pool.support))]
        shown = tuple(self.examples[row] for row in support)
        taken = {normalise(text) for pair in shown for text in pair.texts}
        query = pick(self._query, len(pool.query), rng)
        asked: list[SentencePair] = []
        for k in rng.permutation(len(pool.query)).tolist() if query < len(pool.query) else range(len(pool.query)):
            pair = self.query_examples[pool.query[k]]
            if not taken & {normalise(text) for text in pair.texts}:
                asked.append(pair)
                if len(asked) == query:
                    break
        if not asked:
            raise KshotError(
                f'Episode {i} of the task "{pool.name}" has no pair for its query that is not in its support as well; '
                "lower shot or add pairs."
            )
        drawn = Episode(shown, tuple(asked), (), i)
        return drawn if self._augment is None else self._augment(drawn, generator_of(self.seed, i, 1))


def _by_task(examples: Sequence[SentencePair]) -> dict[str, tuple[int, ...]]:
    rows: dict[str, list[int]] = {}
    for row, each in enumerate(examples):
        rows.setdefault(each.task, []).append(row)
    return {name: tuple(found) for name, found in rows.items()}
