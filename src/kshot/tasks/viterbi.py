"""The best sequence of labels: what a word looks like, and which label may follow which.

    e_t(k)   the log probability of label k at word t       a(j, k)   that of label k after label j
    s(k)     that of label k at the beginning

    best = argmax over k_1 .. k_n of  s(k_1) + e_1(k_1) + sum_t a(k_{t-1}, k_t) + e_t(k_t)

Viterbi 1967; as decoding of few-shot taggers Yang & Katiyar 2020, arXiv:2010.02405, section 3.3 (StructShot).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kshot.data.tags import OUTSIDE

Table = tuple[tuple[float, float, float], ...]
"""Probabilities of going to O, B and I: from the beginning of a sentence, from O, from B and from I."""

NEVER = -1e9
_STATES = "OBI"
_VALID: Table = ((1.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
"""What BIO allows, with no preference."""


@dataclass(frozen=True)
class Transitions:
    """Which label may follow which.

    Attributes:
        start: s, (n_labels,).
        follow: a, (n_labels, n_labels).
    """

    start: NDArray[np.float64]
    follow: NDArray[np.float64]


def count_transitions(tags: Iterable[Sequence[str]]) -> Table:
    """Measures how often entities begin, go on and end, whatever their types; each count begins at one."""
    counts = np.ones((4, 3))
    counts[:2, 2] = 0.0  # an entity does not go on that has not begun
    for sentence in tags:
        before = 0
        for tag in sentence:
            state = 0 if tag == OUTSIDE else _STATES.index(tag[0])
            counts[before, state] += 1
            before = state + 1
    shares = counts / counts.sum(axis=1, keepdims=True)
    return tuple((float(row[0]), float(row[1]), float(row[2])) for row in shares)


def transitions(n_types: int, scheme: Literal["bio", "io"], table: Table | None, strength: float = 1.0) -> Transitions:
    """Spreads a table over the labels of a task, the types being equally likely.

    Args:
        n_types: The number of types.
        scheme: `bio` has the labels O, B-1, I-1, B-2, I-2, ...; `io` has O, I-1, I-2, ...
        table: What was measured; None for what BIO allows, without preference.
        strength: What the log probabilities are multiplied by (the temperature of StructShot, inverted).
    """
    p = np.array(_VALID if table is None else table)
    share = 1.0 if table is None else 1.0 / n_types
    if scheme == "bio":
        start = np.concatenate([[p[0, 0]], np.tile([p[0, 1] * share, 0.0], n_types)])
        follow = np.zeros((1 + 2 * n_types, 1 + 2 * n_types))
        follow[0] = np.concatenate([[p[1, 0]], np.tile([p[1, 1] * share, 0.0], n_types)])
        for k in range(n_types):
            for state, label in ((2, 1 + 2 * k), (3, 2 + 2 * k)):
                follow[label] = np.concatenate([[p[state, 0]], np.tile([p[state, 1] * share, 0.0], n_types)])
                follow[label, 2 + 2 * k] = p[state, 2]
    else:
        inside = (p[2] + p[3]) / 2  # of an entity, its first word or another
        start = np.concatenate([[p[0, 0]], np.full(n_types, p[0, 1] * share)])
        follow = np.full((1 + n_types, 1 + n_types), inside[1] * share)
        follow[0] = np.concatenate([[p[1, 0]], np.full(n_types, p[1, 1] * share)])
        follow[1:, 0] = inside[0]
        for k in range(n_types):
            follow[1 + k, 1 + k] = 1.0 if table is None else inside[2] + inside[1] * share
    with np.errstate(divide="ignore"):
        logs = [np.where(each > 0, strength * np.log(each), NEVER) for each in (start, follow)]
    return Transitions(*logs)


def viterbi(emissions: NDArray[np.float64], lengths: Sequence[int], rules: Transitions) -> list[NDArray[np.int64]]:
    """Finds the best labels of each sentence, all sentences together.

    Args:
        emissions: e, the words of all sentences one after another, (n_words, n_labels).
        lengths: The number of words of each sentence.
        rules: s and a.

    Returns:
        For each sentence the label numbers of its words.
    """
    counts = np.array(lengths, dtype=np.int64)
    n, longest, n_labels = len(counts), int(counts.max(initial=0)), emissions.shape[-1]
    if not longest:
        return [np.empty(0, dtype=np.int64) for _ in counts]
    begins = np.cumsum(counts) - counts
    order = np.argsort(-counts, kind="stable")  # the long ones first: at word t only the first so many go on
    begins, sorted_counts = begins[order], counts[order]
    back = np.zeros((longest, n, n_labels), dtype=np.int32)
    n_alive = int((sorted_counts > 0).sum())
    best = np.full((n, n_labels), NEVER)
    best[:n_alive] = rules.start + emissions[begins[:n_alive]]
    for t in range(1, longest):
        alive = int((sorted_counts > t).sum())
        scores = best[:alive, :, None] + rules.follow  # (alive, from, to)
        back[t, :alive] = scores.argmax(axis=1)
        best[:alive] = scores.max(axis=1) + emissions[begins[:alive] + t]
    paths: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * n
    for place, number in enumerate(order):
        length = int(counts[number])
        path = np.empty(length, dtype=np.int64)
        if length:
            path[-1] = best[place].argmax()
            for t in range(length - 1, 0, -1):
                path[t - 1] = back[t, place, path[t]]
        paths[number] = path
    return paths
