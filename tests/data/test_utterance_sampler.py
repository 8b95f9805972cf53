"""Episodes of utterances."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.data.dialogue import SYSTEM, Turn
from kshot.data.examples import Episode, Utterance
from kshot.data.tags import Span
from kshot.data.utterance_sampler import UtteranceSampler
from kshot.errors import KshotError


def turn(n: int, intent: str, slots: str = "", domain: str = "d") -> Utterance:
    """An utterance of its own, each of whose slots is a letter."""
    text = " ".join([f"t{n}", *slots])
    start = len(f"t{n}") + 1
    spans = tuple(Span(start + 2 * k, start + 2 * k + 1, slot) for k, slot in enumerate(slots))
    return Utterance(text, intent, spans, (), domain)


def pool(n: int = 12) -> list[Utterance]:
    """Two intents in each of two domains; one turn of domain `d` shows slot `r`, and one `s` and `t`."""
    rows = []
    for domain in ("d", "e"):
        for place, intent in enumerate(("ask", "tell")):
            rows += [turn(100 * place + k, intent, "a" if k % 2 else "", domain) for k in range(n)]
    return [*rows, turn(900, "ask", "r"), turn(901, "tell", "st")]


def sampler(examples: list[Utterance], **changes: object) -> UtteranceSampler:
    asked = {"way": "all", "shot": 3, "query": 4, "seed": 1, "n_episodes": 20, **changes}
    return UtteranceSampler(examples, **asked)  # type: ignore[arg-type]


def slots_of(episode: Episode) -> set[str]:
    return {span.label for each in episode.support if isinstance(each, Utterance) for span in each.spans}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shot=st.integers(1, 5), i=st.integers(0, 50))
def test_each_intent_has_its_shots_and_every_slot_that_can_be_shown_is(seed: int, shot: int, i: int) -> None:
    drawn = sampler(pool(), seed=seed, shot=shot)
    episode = drawn.episode(i)
    assert episode == drawn.episode(i)
    counts = Counter(each.intent for each in episode.support if isinstance(each, Utterance))
    assert counts == {"ask": shot, "tell": shot}
    assert len({each.task for each in (*episode.support, *episode.query)}) == 1
    assert len({each.text for each in (*episode.support, *episode.query)}) == 2 * shot + 4
    if episode.support[0].task == "d" and shot > 1:
        assert slots_of(episode) == set("arst")
    elif episode.support[0].task == "d":
        assert slots_of(episode) >= set("st") or slots_of(episode) >= {"r"}
    assert episode.classes == ("intent:ask", "intent:tell", *(f"slot:{each}" for each in sorted(slots_of(episode))))


def test_what_brings_a_slot_takes_none_away() -> None:
    rows = [turn(0, "ask", "a"), turn(1, "ask", "b"), turn(2, "ask", ""), *(turn(k, "tell") for k in range(10, 14))]
    for episode in sampler(rows, shot=2, query=1):
        assert slots_of(episode) == {"a", "b"}
    for episode in sampler(rows, shot=1, query=1):
        assert len(slots_of(episode)) == 1


def test_the_same_words_after_other_turns_are_another_example() -> None:
    rows = [Utterance("no", "tell", (), (Turn(SYSTEM, f"what about {k}"),), "d") for k in range(6)]
    rows += [Utterance("NO ", "tell", (), rows[0].history, "d"), *(turn(k, "ask") for k in range(6))]
    (episode,) = sampler(rows, shot=2, query="all", n_episodes=1)
    assert len(episode.support) == 4
    keys = [("\n".join(each.texts)).casefold().split() for each in episode.query]
    assert all(("\n".join(each.texts)).casefold().split() not in keys for each in episode.support)


def test_all_turns_of_one_pool_are_judged_by_another() -> None:
    rows = pool()
    asked = [turn(5000 + k, "ask", domain="d") for k in range(3)]
    drawn = sampler([each for each in rows if each.task == "d"], shot="all", query="all", query_examples=asked)
    episode = drawn[0]
    assert (len(episode.support), len(episode.query)) == (26, 3)
    assert drawn.classes == ("intent:ask", "intent:tell", "slot:a", "slot:r", "slot:s", "slot:t")


@pytest.mark.parametrize("shot", [2, "all"])
def test_what_a_support_may_take_of_the_other_pool_is_not_counted_for_the_query(shot: int | str) -> None:
    rows = [each for each in pool() if each.task == "d"]
    asked = [*rows[:2], *rows[12:14], *(turn(5000 + k, "ask") for k in range(5))]
    for episode in sampler(rows, shot=shot, query=5, query_examples=asked):
        assert len(episode.query) == 5
    with pytest.raises(KshotError) as error:
        sampler(rows, shot=shot, query=6, query_examples=asked)
    assert str(error.value) == (
        'The query of the domain "d" can have 5 different turns that the support leaves, but needs 6 (query 6); lower '
        "it or add turns."
    )
    with pytest.raises(KshotError, match="can have 0 different turns that the support leaves, but needs 1"):
        sampler(rows, shot=shot, query="all", query_examples=asked[:4])


def test_a_turn_under_two_intents_is_left_out() -> None:
    hello = [Utterance("Hello", "ask", (), (), "d"), Utterance("hello ", "tell", (), (), "d")]
    rows = [*hello, *(turn(k, ("ask", "tell")[k % 2]) for k in range(8))]
    for episode in sampler(rows, shot=3, query="all"):
        assert (len(episode.support), len(episode.query)) == (6, 2)
        assert all("ello" not in each.text for each in (*episode.support, *episode.query))
    (episode,) = sampler(rows[1:], shot="all", query="all", query_examples=[hello[0], turn(50, "ask")], n_episodes=1)
    assert (len(episode.support), [each.text for each in episode.query]) == (8, ["t50"])
    with pytest.raises(KshotError) as error:
        sampler(rows, shot=5)
    assert str(error.value) == (
        'The intent "ask" of the domain "d" has 4 different turns that no other intent has but needs 5 (shot 5); add '
        "turns, lower shot, or leave small intents out with skip_small."
    )


def test_small_intents_and_domains_can_be_left_out() -> None:
    rows = [*pool(), turn(1000, "rare"), turn(1001, "ask", domain="small")]
    drawn = sampler(rows, skip_small=True)
    assert drawn.skipped == ("d: rare", "small: ask", "small")
    assert "intent:rare" not in drawn.classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"way": 5}, 'way is 5, but an episode of a domain has all of its intents; write "all".'),
        ({"shot": "all"}, 'shot is "all", which leaves no turn for the query; give a number, or other query_examples.'),
        ({"shot": 0}, 'shot is 0 but has to be a whole number from 1, a range (low, high) or "all".'),
        (
            {"shot": 14},
            'The intent "ask" of the domain "d" has 13 different turns but needs 14 (shot 14); add turns, lower shot, '
            "or leave small intents out with skip_small.",
        ),
        (
            {"shot": 12, "query": 4},
            'The query of the domain "d" can have 2 different turns that the support leaves, but needs 4 (query 4); '
            "lower it or add turns.",
        ),
    ],
)
def test_counts_that_cannot_be_drawn(changes: dict[str, object], message: str) -> None:
    with pytest.raises(KshotError) as error:
        sampler(pool(), **changes)
    assert str(error.value) == message


def test_nothing_to_draw_from() -> None:
    with pytest.raises(KshotError) as error:
        sampler([])
    assert str(error.value) == "There are no turns to draw episodes from; check that the part or file is not empty."
    with pytest.raises(KshotError) as error:
        sampler([turn(0, "ask")], skip_small=True)
    assert str(error.value) == "No domain has enough turns; lower shot and query or add turns."
