"""Episodes of utterances, drawn by number: `sampler[i]` depends on the utterances, the seed and `i` alone.

An episode is a domain: some turns of each of its intents to learn from, and others, as they come, to be judged by. A
slot that no turn of the draw shows is brought in by a turn of the same intent that does, where that takes no other slot
away, so a support shows the slots of its domain as far as it can. What it does not show nobody can find.

The same utterance after the same turns, case and white space aside, never stands on both sides of an episode; one that
stands under two intents of its domain is in none.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kshot.data.draws import (
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
from kshot.data.examples import INTENT, SLOT, Episode, Utterance, class_of
from kshot.data.normal import normalise
from kshot.errors import KshotError, several


@dataclass(frozen=True, slots=True)
class _Domain:
    """The utterances of one domain, by number.

    Attributes:
        name: Its name; empty if there is only one.
        support: Different ones that a support may have, by intent.
        query: Those that a query may have.
    """

    name: str
    support: Mapping[str, tuple[int, ...]]
    query: tuple[int, ...]


class UtteranceSampler(Sampler):
    """A sequence of episodes of utterances, each drawn when it is asked for.

    Attributes:
        examples: What the support is drawn from.
        query_examples: What the query is drawn from.
        classes: The intents and slots that can be drawn.
        skipped: With `skip_small`, the intents (`domain: intent`) and domains that have too few turns.
        n_episodes: The length of the sequence.
        seed: The seed.
    """

    def __init__(
        self,
        examples: Iterable[Utterance],
        *,
        way: Count,
        shot: Count,
        query: Count,
        seed: int,
        n_episodes: int,
        query_examples: Iterable[Utterance] | None = None,
        skip_small: bool = False,
    ) -> None:
        """Sorts the utterances by domain and intent.

        Args:
            examples: The utterances.
            way: "all": an episode has the intents of its domain, and the slots that its support shows.
            shot: Turns of each intent in the support; "all" takes every one, and needs `query_examples`.
            query: Turns in the query, drawn from all that the support leaves; "all" takes every one.
            seed: Any whole number from 0.
            n_episodes: The length of the sequence.
            query_examples: What the query is drawn from, if it is not `examples`.
            skip_small: Whether intents and domains that have too few turns are left out instead of refused.

        Raises:
            KshotError: If a count cannot be used, or there are too few utterances.
        """
        if way != "all":
            raise KshotError(f'way is {way!r}, but an episode of a domain has all of its intents; write "all".')
        self.examples = tuple(examples)
        self.query_examples = self.examples if query_examples is None else tuple(query_examples)
        self.n_episodes = whole_number(n_episodes, "n_episodes", 0)
        self.seed = whole_number(seed, "seed", 0)
        self._shot, self._query = count_ends(shot, "shot", 1), count_ends(query, "query", 1)
        self._one_pool = query_examples is None
        if not self.examples:
            raise KshotError("There are no turns to draw episodes from; check that the part or file is not empty.")
        if shot == "all" and self._one_pool:
            raise KshotError(
                'shot is "all", which leaves no turn for the query; give a number, or other query_examples.'
            )
        self._keys = [_key(each) for each in self.examples]
        self._query_keys = self._keys if self._one_pool else [_key(each) for each in self.query_examples]
        self._slots = [frozenset(span.label for span in each.spans) for each in self.examples]
        self._domains, self.skipped = self._usable(skip_small)
        rows = [row for domain in self._domains for own in domain.support.values() for row in own]
        self.classes = tuple(sorted({label for row in rows for label in self.examples[row].labels}))

    def episode(self, i: int) -> Episode:
        rng = generator_of(self.seed, i)
        domain = self._domains[int(rng.random() * len(self._domains))]
        shot = pick(self._shot, -1, rng)
        chosen = {
            intent: [rows[k] for k in distinct_numbers(rng.random(len(rows) if shot < 0 else shot).tolist(), len(rows))]
            for intent, rows in domain.support.items()
        }
        self._cover(chosen, domain, rng)
        support = [row for rows in chosen.values() for row in rows]
        taken = {self._keys[row] for row in support}
        free = [row for row in domain.query if self._query_keys[row] not in taken]
        if self._query[0] >= 0:
            query = min(pick(self._query, -1, rng), len(free))
            free = [free[k] for k in distinct_numbers(rng.random(query).tolist(), len(free))]
        slots = sorted({slot for row in support for slot in self._slots[row]})
        return Episode(
            tuple(self.examples[row] for row in support),
            tuple(self.query_examples[row] for row in free),
            (*(class_of(INTENT, name) for name in chosen), *(class_of(SLOT, name) for name in slots)),
            i,
        )

    def _cover(self, chosen: dict[str, list[int]], domain: _Domain, rng: np.random.Generator) -> None:
        """Changes a draw so that it shows the slots that it has missed, one turn for another of the same intent.

        Of the turns that show a missing slot, one that shows many missing ones is preferred; what gives way shows
        nothing that is not in another turn, too.
        """
        shown = Counter(slot for rows in chosen.values() for row in rows for slot in self._slots[row])
        offers = [(intent, row) for intent, rows in domain.support.items() for row in rows if self._slots[row]]
        offers = [offers[k] for k in rng.permutation(len(offers)).tolist()]
        missing = sorted({slot for _, row in offers for slot in self._slots[row]} - set(shown))
        for slot in (missing[k] for k in rng.permutation(len(missing)).tolist()):
            if shown[slot]:
                continue  # it has come with another
            bringing = [(intent, row) for intent, row in offers if slot in self._slots[row]]
            for intent, row in sorted(bringing, key=lambda offer: -sum(not shown[s] for s in self._slots[offer[1]])):
                spare = [
                    place
                    for place, other in enumerate(chosen[intent])
                    if all(shown[s] > 1 or s in self._slots[row] for s in self._slots[other])
                ]
                if spare:
                    place = spare[int(rng.random() * len(spare))]
                    shown.subtract(self._slots[chosen[intent][place]])
                    shown.update(self._slots[row])
                    chosen[intent][place] = row
                    break

    def _usable(self, skip_small: bool) -> tuple[list[_Domain], tuple[str, ...]]:
        kept: list[_Domain] = []
        small: list[str] = []
        shot, query = (max(ends[1], 1) for ends in (self._shot, self._query))
        for name in sorted({each.task for each in self.examples}):
            contested = self._contested(name)
            support = _by_intent(self.examples, self._keys, name, contested)
            few = [intent for intent, rows in support.items() if len(rows) < shot]
            where = f' of the domain "{name}"' if name else ""
            if few and not skip_small:
                own = " that no other intent has" if contested else ""
                raise KshotError(
                    f'The intent "{few[0]}"{where} has {several(len(support[few[0]]), "different turn")}{own} but '
                    f"needs {shot} (shot {show_ends(self._shot)}); add turns, lower shot, or leave small intents out "
                    "with skip_small."
                )
            small += [f"{name}: {intent}" if name else intent for intent in few]
            support = {intent: rows for intent, rows in support.items() if intent not in few}
            asked = tuple(
                row
                for row, (each, key) in enumerate(zip(self.query_examples, self._query_keys, strict=True))
                if each.task == name and key not in contested
            )
            n_left = least_left(
                [self._query_keys[row] for row in asked],
                [[self._keys[row] for row in rows] for rows in support.values()],
                self._shot[1],
            )
            if support and n_left >= query:
                kept.append(_Domain(name, support, asked))
            elif skip_small:
                small.append(name)
            else:
                raise KshotError(
                    f"The query{where} can have {several(max(n_left, 0), 'different turn')} that the support leaves, "
                    f"but needs {query} (query {show_ends(self._query)}); lower it or add turns."
                )
        if not kept:
            raise KshotError("No domain has enough turns; lower shot and query or add turns.")
        return kept, tuple(small)

    def _contested(self, domain: str) -> set[str]:
        """What stands under two intents of a domain, in either pool."""
        intents_of: dict[str, set[str]] = defaultdict(set)
        for examples, keys in ((self.examples, self._keys), (self.query_examples, self._query_keys)):
            for each, key in zip(examples, keys, strict=True):
                if each.task == domain:
                    intents_of[key].add(each.intent)
        return {key for key, intents in intents_of.items() if len(intents) > 1}


def _by_intent(
    examples: Sequence[Utterance], keys: Sequence[str], domain: str, contested: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """The rows of a domain's different utterances by intent, the intents in order and contested ones left out."""
    first: dict[str, dict[str, int]] = {}
    for row, (each, key) in enumerate(zip(examples, keys, strict=True)):
        if each.task == domain:
            own = first.setdefault(each.intent, {})
            if key not in contested:
                own.setdefault(key, row)
    return {intent: tuple(first[intent].values()) for intent in sorted(first)}


def _key(example: Utterance) -> str:
    """What is the same for the same utterance in the same place."""
    return "\n".join(normalise(text) for text in example.texts)
