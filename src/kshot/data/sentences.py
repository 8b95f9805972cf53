"""Episodes of tagged sentences, drawn by number: `sampler[i]` depends on the sentences, the seed and `i` alone.

Two protocols:

- *new types*: some types are drawn, and sentences that show them. The support has at least K mentions of each type and
  at most 2K, unless a sentence forces more (the greedy draw of Ding et al. 2021, aclanthology 2021.acl-long.248,
  algorithm 1). Entities of types that were not drawn are `O` in the episode.
- *new domain*: sentences of one domain are drawn, whatever they show. The types are those of the support; the query
  keeps its other entities, which nobody can find.

The same sentence, case and white space aside, never stands on both sides of an episode.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kshot.data.augment_sentences import SentenceAugmentations
from kshot.data.draws import (
    TRIES,
    Count,
    Sampler,
    count_ends,
    distinct_numbers,
    generator_of,
    least_left,
    pick,
    show_ends,
    whole_number,
)
from kshot.data.examples import Episode, TaggedExample
from kshot.data.normal import normalise
from kshot.data.tags import OUTSIDE
from kshot.errors import KshotError, several


@dataclass(frozen=True, slots=True)
class _Domain:
    """The sentences of one domain.

    Attributes:
        name: Its name; empty if there is only one.
        support: Those that a support may have, by number.
        query: Those that a query may have.
    """

    name: str
    support: tuple[int, ...]
    query: tuple[int, ...]


class SentenceSampler(Sampler):
    """A sequence of episodes of tagged sentences, each drawn when it is asked for.

    Attributes:
        examples: What the support is drawn from.
        query_examples: What the query is drawn from.
        classes: The types that can be drawn.
        skipped: With `skip_small`, the types or domains that have too little.
        n_episodes: The length of the sequence.
        seed: The seed.
    """

    def __init__(
        self,
        examples: Iterable[TaggedExample],
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        domains: bool,
        query_examples: Iterable[TaggedExample] | None = None,
        skip_small: bool = False,
        augment: SentenceAugmentations | None = None,
    ) -> None:
        """Sorts the sentences and decides which types or domains can serve.

        Args:
            examples: The sentences.
            way: The number of types of an episode; with `domains`, "all", which is the types of the support, by name.
            shot: Mentions of each type in the support, K of K~2K. With `domains`, sentences of the support, drawn from
                those that show an entity and a word outside of all; "all" takes each of these, and needs
                `query_examples`.
            query: Mentions of each type in the query, K of K~2K. With `domains`, sentences of the query, drawn from all
                that the support leaves, with and without entities; "all" takes every one.
            seed: Any whole number from 0.
            n_episodes: The length of the sequence.
            domains: Whether an episode is some sentences of one domain (`TaggedExample.task`) instead of some types.
            query_examples: What the query is drawn from, if it is not `examples`.
            skip_small: Whether types or domains that have too little are left out instead of refused.
            augment: Changes made to the support, drawn from the seed and the episode's number too.

        Raises:
            KshotError: If a count cannot be used, or there are too few sentences, types or mentions.
        """
        self.examples = tuple(examples)
        self.query_examples = self.examples if query_examples is None else tuple(query_examples)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 0)
        self.seed = whole_number(seed, "seed", 0)
        self._shot, self._query = count_ends(shot, "shot", 1), count_ends(query, "query", 1)
        self._one_pool = query_examples is None
        self._augment = augment
        if not self.examples:
            raise KshotError("There are no sentences to draw episodes from; check that the part or file is not empty.")
        self._support_texts = [normalise(each.text) for each in self.examples]
        self._query_texts = (
            self._support_texts if self._one_pool else [normalise(each.text) for each in self.query_examples]
        )
        self._domains: list[_Domain] | None = None
        if domains:
            if way != "all":
                raise KshotError(
                    f'way is {way!r}, but an episode of a domain has the types that its support shows; write "all".'
                )
            if shot == "all" and self._one_pool:
                raise KshotError(
                    'shot is "all", which leaves no sentence with an entity for the query; give a number, or other '
                    "query_examples."
                )
            self._domains, self.skipped = self._usable_domains(skip_small)
            seen = {label for domain in self._domains for row in domain.support for label in self.examples[row].labels}
            self.classes = tuple(sorted(seen))
        else:
            self._way = count_ends(way, "way", 1)
            self._mentions = [_mentions(each) for each in self.examples]
            self._query_mentions = (
                self._mentions if self._one_pool else [_mentions(each) for each in self.query_examples]
            )
            self.classes, self.skipped = self._usable_types(skip_small)
            self._rows = _rows_by_type(self._mentions)
            self._query_rows = self._rows if self._one_pool else _rows_by_type(self._query_mentions)

    def episode(self, i: int) -> Episode:
        rng = generator_of(self.seed, i)
        drawn = self._of_types(i, rng) if self._domains is None else self._of_domain(i, rng, self._domains)
        if self._augment is None:
            return drawn
        support = [each for each in drawn.support if isinstance(each, TaggedExample)]
        changed = self._augment(support, generator_of(self.seed, i, 1))  # not the numbers that drew the episode
        return replace(drawn, support=changed)

    # -- new types -----------------------------------------------------------------------------------------------------

    def _of_types(self, i: int, rng: np.random.Generator) -> Episode:
        way = pick(self._way, len(self.classes), rng)
        if self._way[0] < 0:
            types = list(self.classes)
        else:
            types = [self.classes[k] for k in distinct_numbers(rng.random(way).tolist(), len(self.classes))]
        shot, query = pick(self._shot, -1, rng), pick(self._query, -1, rng)
        for _ in range(TRIES):  # a support may take what the query needs; another draw will not
            support = _greedy(self._mentions, self._rows, types, shot, frozenset(), self._support_texts, rng)
            if support is None or not self._shows_outside(support, types):
                continue
            taken = frozenset(self._support_texts[row] for row in support)
            asked = _greedy(self._query_mentions, self._query_rows, types, query, taken, self._query_texts, rng)
            if asked is not None:
                chosen = frozenset(types)
                return Episode(
                    tuple(_only(self.examples[row], chosen) for row in support),
                    tuple(_only(self.query_examples[row], chosen) for row in asked),
                    tuple(types),
                    i,
                )
        raise KshotError(
            f"Episode {i} could not be drawn in {TRIES} tries: the types {', '.join(types)} share too many sentences "
            f"for shot {shot} and query {query}; lower them or add sentences."
        )

    def _shows_outside(self, support: Sequence[int], types: Sequence[str]) -> bool:
        """Whether a word of the support is in no entity of the drawn types: something has to show what is none."""
        return any(tag == OUTSIDE or tag[2:] not in types for row in support for tag in self.examples[row].tags)

    def _usable_types(self, skip_small: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        shot, query = self._most("shot"), self._most("query")
        has = _count(self._mentions, self._support_texts)
        has_query = has if self._one_pool else _count(self._query_mentions, self._query_texts)
        names = sorted({*has, *has_query})
        needed = shot + query if self._one_pool else shot
        small = [name for name in names if has.get(name, 0) < needed or has_query.get(name, 0) < query]
        if small and not skip_small:
            name, of, least, where = small[0], has, needed, ""
            if has.get(name, 0) >= needed:
                of, least, where = has_query, query, " for the query"
            raise KshotError(
                f'The type "{name}" has {several(of.get(name, 0), "mention")}{where} but needs {least} (shot '
                f"{show_ends(self._shot)}, query {show_ends(self._query)}); add sentences, lower them, or leave small "
                "types out with skip_small."
            )
        kept = tuple(name for name in names if name not in small)
        if len(kept) < max(1, self._way[1]):
            there_are = "There is" if len(kept) == 1 else "There are"
            raise KshotError(
                f"{there_are} {several(len(kept), 'type')} with enough mentions but an episode needs "
                f"{show_ends(self._way)}; lower way or add sentences."
            )
        return kept, tuple(small)

    def _most(self, name: str) -> int:
        high = (self._shot if name == "shot" else self._query)[1]
        if high < 0:
            raise KshotError(f'{name} is "all", but episodes of drawn types count mentions; give a number or a range.')
        return high

    # -- a new domain --------------------------------------------------------------------------------------------------

    def _of_domain(self, i: int, rng: np.random.Generator, domains: Sequence[_Domain]) -> Episode:
        domain = domains[int(rng.random() * len(domains))]
        shot = pick(self._shot, len(domain.support), rng)
        support = [domain.support[k] for k in distinct_numbers(rng.random(shot).tolist(), len(domain.support))]
        taken = {self._support_texts[row] for row in support}
        free = [row for row in domain.query if self._query_texts[row] not in taken]
        if self._query[0] >= 0:
            query = min(pick(self._query, -1, rng), len(free))
            free = [free[k] for k in distinct_numbers(rng.random(query).tolist(), len(free))]
        shown = tuple(self.examples[row] for row in support)
        types = sorted({label for each in shown for label in each.labels})
        return Episode(shown, tuple(self.query_examples[row] for row in free), tuple(types), i)

    def _usable_domains(self, skip_small: bool) -> tuple[list[_Domain], tuple[str, ...]]:
        names = sorted({each.task for each in self.examples})
        kept, small = [], []
        shot, query = (max(ends[1], 1) for ends in (self._shot, self._query))
        for name in names:
            support = _first_of_each(
                [row for row, each in enumerate(self.examples) if each.task == name and _can_support(each)],
                self._support_texts,
            )
            asked = [row for row, each in enumerate(self.query_examples) if each.task == name]
            texts, own = [self._query_texts[row] for row in asked], [self._support_texts[row] for row in support]
            n_left = least_left(texts, [own], self._shot[1])
            if len(support) >= shot and n_left >= query:
                kept.append(_Domain(name, tuple(support), tuple(asked)))
            elif skip_small:
                small.append(name)
            else:
                where = f'The domain "{name}"' if name else "The data set"
                raise KshotError(
                    f"{where} has {several(len(support), 'different sentence')} with an entity and a word outside, "
                    f"and {max(n_left, 0)} that the support leaves for the query, but an episode needs shot "
                    f"{show_ends(self._shot)} and query {show_ends(self._query)}; lower them or add sentences."
                )
        if not kept:
            raise KshotError("No domain has enough sentences; lower shot and query or add sentences.")
        return kept, tuple(small)


def _can_support(example: TaggedExample) -> bool:
    """Whether a sentence shows an entity, and something that is none."""
    return bool(example.labels) and OUTSIDE in example.tags


def _first_of_each(rows: Sequence[int], texts: Sequence[str]) -> list[int]:
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(texts[row], row)
    return list(first.values())


def _mentions(example: TaggedExample) -> dict[str, int]:
    """How often each type is mentioned in a sentence."""
    counts: dict[str, int] = {}
    for tag in example.tags:
        if tag.startswith("B-"):
            counts[tag[2:]] = counts.get(tag[2:], 0) + 1
    return counts


def _count(mentions: Sequence[Mapping[str, int]], texts: Sequence[str]) -> dict[str, int]:
    """How often each type is mentioned in different sentences."""
    totals: dict[str, int] = {}
    for row in _first_of_each(range(len(mentions)), texts):
        for name, count in mentions[row].items():
            totals[name] = totals.get(name, 0) + count
    return totals


def _rows_by_type(mentions: Sequence[Mapping[str, int]]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, each in enumerate(mentions):
        for name in each:
            rows.setdefault(name, []).append(row)
    return rows


def _greedy(
    mentions: Sequence[Mapping[str, int]],
    rows: Mapping[str, Sequence[int]],
    types: Sequence[str],
    k: int,
    taken: frozenset[str],
    texts: Sequence[str],
    rng: np.random.Generator,
) -> list[int] | None:
    """Draws sentences until each type has K mentions; None if they do not suffice.

    A sentence that would bring a type above 2K is put off, and taken only where no other brings a type to K.
    """
    have = dict.fromkeys(types, 0)
    chosen: list[int] = []
    seen = set(taken)
    for name in types:
        order = rng.permutation(len(rows[name]))
        put_off: list[int] = []
        for place in order.tolist():
            if have[name] >= k:
                break
            row = rows[name][place]
            if texts[row] in seen:
                continue
            if any(count + have[other] > 2 * k for other, count in mentions[row].items() if other in have):
                put_off.append(row)
                continue
            _take(row, mentions, have, chosen, seen, texts)
        for row in sorted(put_off, key=lambda row: sum(mentions[row].get(other, 0) for other in have)):
            if have[name] >= k:
                break
            if texts[row] not in seen:
                _take(row, mentions, have, chosen, seen, texts)
        if have[name] < k:
            return None
    return chosen


def _take(
    row: int,
    mentions: Sequence[Mapping[str, int]],
    have: dict[str, int],
    chosen: list[int],
    seen: set[str],
    texts: Sequence[str],
) -> None:
    chosen.append(row)
    seen.add(texts[row])
    for other, count in mentions[row].items():
        if other in have:
            have[other] += count


def _only(example: TaggedExample, types: frozenset[str]) -> TaggedExample:
    """The sentence with the entities of some types alone."""
    if all(label in types for label in example.labels):
        return example
    tags = tuple(tag if tag[2:] in types else OUTSIDE for tag in example.tags)
    return replace(example, tags=tags)
