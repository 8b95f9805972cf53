"""Viterbi against a search of every sequence, and transitions against counting by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.data.tags import first_problem
from kshot.tasks.viterbi import NEVER, Transitions, count_transitions, transitions, viterbi


def value(path: tuple[int, ...], emissions: np.ndarray, rules: Transitions) -> float:
    score = rules.start[path[0]] + emissions[0, path[0]]
    for t in range(1, len(path)):
        score += rules.follow[path[t - 1], path[t]] + emissions[t, path[t]]
    return float(score)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), min_size=1, max_size=5), st.booleans())
def test_as_good_as_a_search_of_every_sequence(seed: int, lengths: list[int], learned: bool) -> None:
    rng = np.random.default_rng(seed)
    table = count_transitions([("B-A", "I-A", "O"), ("O", "O", "B-A")]) if learned else None
    rules = transitions(1, "bio", table)
    emissions = rng.normal(size=(sum(lengths), 3)) * 3
    begin = 0
    for path, length in zip(viterbi(emissions, lengths, rules), lengths, strict=True):
        assert len(path) == length
        if length:
            own = emissions[begin : begin + length]
            best = max(value(each, own, rules) for each in product(range(3), repeat=length))
            assert value(tuple(path.tolist()), own, rules) == pytest.approx(best)
        begin += length


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9))
def test_a_best_sequence_is_valid(seed: int, n_types: int, length: int) -> None:
    emissions = np.random.default_rng(seed).normal(size=(length, 1 + 2 * n_types))
    names = ["O", *(f"{mark}-{k}" for k in range(n_types) for mark in "BI")]
    (path,) = viterbi(emissions, [length], transitions(n_types, "bio", None))
    assert first_problem([names[label] for label in path]) is None


def test_no_sentences_and_no_words() -> None:
    rules = transitions(1, "bio", None)
    assert viterbi(np.empty((0, 3)), [], rules) == []
    assert [len(path) for path in viterbi(np.empty((0, 3)), [0, 0], rules)] == [0, 0]


def test_transitions_are_counted_with_one_of_each_that_can_be() -> None:
    table = count_transitions([("B-A", "I-A", "O"), ("O", "B-A", "B-B")])
    assert table[0] == pytest.approx((2 / 4, 2 / 4, 0))  # the beginning: one B, one O, and one of each
    assert table[1] == pytest.approx((1 / 3, 2 / 3, 0))
    assert table[2] == pytest.approx((1 / 5, 2 / 5, 2 / 5))
    assert table[3] == pytest.approx((2 / 4, 1 / 4, 1 / 4))


@pytest.mark.parametrize("scheme", ["bio", "io"])
@pytest.mark.parametrize("n_types", [1, 2, 5])
def test_learned_transitions_are_distributions(scheme: str, n_types: int) -> None:
    rules = transitions(n_types, scheme, count_transitions([("B-A", "I-A", "O", "O", "B-B")]))  # type: ignore[arg-type]
    assert np.exp(rules.start).sum() == pytest.approx(1)
    assert np.exp(rules.follow).sum(axis=1) == pytest.approx(1)


def test_strength_is_the_temperature_inverted() -> None:
    table = count_transitions([("B-A", "I-A", "O")])
    plain, strong = transitions(2, "io", table), transitions(2, "io", table, strength=2.0)
    assert strong.follow == pytest.approx(2 * plain.follow)
    assert transitions(1, "bio", table, strength=2.0).follow[0, 2] == NEVER
