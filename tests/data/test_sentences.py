"""Episodes of tagged sentences: the greedy draw by hand, what always holds, and what cannot be drawn."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.data.dataset import TaggedDataset
from kshot.data.examples import Episode, Example, TaggedExample
from kshot.data.normal import normalise
from kshot.data.sentences import SentenceSampler
from kshot.errors import KshotError


def sentence(number: int, types: str, task: str = "", part: str = "") -> TaggedExample:
    """A sentence with one entity of one word for each letter."""
    return TaggedExample(
        (f"s{number}", *(f"{name}{number}" for name in types)), ("O", *(f"B-{name}" for name in types)), task, part
    )


def sentences(*types: str, task: str = "", part: str = "", first: int = 0) -> list[TaggedExample]:
    return [sentence(number, each, task, part) for number, each in enumerate(types, first)]


def mentions(examples: Sequence[Example]) -> Counter[str]:
    return Counter(span.label for each in examples if isinstance(each, TaggedExample) for span in each.spans)


def texts(examples: Sequence[Example]) -> set[str]:
    return {normalise(each.text) for each in examples}


def sampler(examples: Sequence[TaggedExample], **changes: Any) -> SentenceSampler:
    settings: dict[str, Any] = {"way": 2, "shot": 1, "query": 1, "seed": 0, "n_episodes": 20, "domains": False}
    return SentenceSampler(examples, **{**settings, **changes})


def two_sides(episode: Episode) -> None:
    """What holds for every episode."""
    assert episode.support
    assert episode.query
    assert not texts(episode.support) & texts(episode.query)
    assert any("O" in each.tags for each in episode.support if isinstance(each, TaggedExample))


# -- new types ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.text("abcd", max_size=3), min_size=40, max_size=60),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_every_type_has_k_mentions_and_at_most_2k(types: list[str], way: int, shot: int, seed: int) -> None:
    alone = sentences(*("abcd" * 8), first=1000)  # one entity each: then nothing forces a type above 2K
    made = sampler([*sentences(*types), *alone], way=way, shot=shot, query=2, seed=seed, n_episodes=3)
    for episode in made:
        two_sides(episode)
        assert len(set(episode.classes)) == way
        for side, k in ((episode.support, shot), (episode.query, 2)):
            counts = mentions(side)
            assert set(counts) == set(episode.classes), "other types are O"
            assert k <= min(counts.values()) <= max(counts.values()) <= 2 * k


def test_an_episode_depends_on_its_number_alone() -> None:
    made = sentences(*(["a", "b", "ab", "c", "bc", "ca"] * 10))
    forwards, other = sampler(made), sampler(made, n_episodes=30)
    assert [other[i] for i in reversed(range(20))] == list(reversed(forwards))
    assert forwards[3:5] == (forwards[3], forwards[4])
    assert sampler(made, seed=1)[0] != forwards[0]
    assert len({episode.classes for episode in forwards}) > 3


def test_no_type_passes_2k_unless_a_sentence_forces_it() -> None:
    crowded = sentences("aaaa", "aaab")
    made = sampler([*crowded, *sentences("a", "a", "b", "b", first=10)])
    for episode in made:
        assert max(mentions(episode.support + episode.query).values()) <= 4
        assert not texts(episode.support) & texts(crowded)
    forced = sampler([*crowded, *sentences("b", first=20)], query=1)
    for episode in forced:
        assert mentions(episode.support)["a"] >= 3, "no other sentence shows it"


def test_types_that_were_not_drawn_are_outside() -> None:
    made = sampler(sentences(*["abc"] * 8), way=1)
    for episode in made:
        for each in (*episode.support, *episode.query):
            assert isinstance(each, TaggedExample)
            assert each.labels == episode.classes
            assert each.tags.count("O") == 3
            assert len(each.tokens) == 4


def test_a_repeated_sentence_is_one() -> None:
    shouted = TaggedExample(("S0", "A0"), ("O", "B-a"))
    made = sampler([*sentences("a", "a"), shouted], way=1)
    for episode in made:
        two_sides(episode)
    with pytest.raises(KshotError, match='The type "a" has 1 mention but needs 2'):
        sampler([*sentences("a"), shouted], way=1)


def test_all_types_stand_in_the_same_order() -> None:
    assert {episode.classes for episode in sampler(sentences(*("abc" * 4)), way="all")} == {("a", "b", "c")}


def test_ranges_are_drawn() -> None:
    made = sampler(sentences(*("abcd" * 12)), way=(1, 3), shot=(1, 2), n_episodes=60)
    assert {episode.way for episode in made} == {1, 2, 3}
    assert {min(mentions(episode.support).values()) for episode in made} == {1, 2}


def test_rare_types_are_refused_or_left_out() -> None:
    made = sentences(*("ab" * 4), "c")
    with pytest.raises(KshotError) as caught:
        sampler(made)
    assert str(caught.value) == (
        'The type "c" has 1 mention but needs 2 (shot 1, query 1); add sentences, lower them, or leave small types '
        "out with skip_small."
    )
    with pytest.raises(KshotError) as caught:
        sampler(sentences(*("ab" * 4)), query=2, query_examples=sentences(*"aab", first=50))
    assert str(caught.value) == (
        'The type "b" has 1 mention for the query but needs 2 (shot 1, query 2); add sentences, lower them, or leave '
        "small types out with skip_small."
    )
    left = sampler(made, skip_small=True)
    assert (left.classes, left.skipped) == (("a", "b"), ("c",))
    with pytest.raises(KshotError) as caught:
        sampler(made, skip_small=True, way=3)
    assert str(caught.value) == (
        "There are 2 types with enough mentions but an episode needs 3; lower way or add sentences."
    )


def test_types_that_share_their_sentences_cannot_be_drawn() -> None:
    with pytest.raises(KshotError) as caught:
        sampler(sentences("aabb"))[0]
    assert str(caught.value) == (
        "Episode 0 could not be drawn in 10 tries: the types "
        f"{'a, b' if 'types a' in str(caught.value) else 'b, a'} share too many sentences for shot 1 and query 1; "
        "lower them or add sentences."
    )
    with pytest.raises(KshotError) as caught:
        sampler(sentences(*("ab" * 4)), query="all")
    assert str(caught.value) == (
        'query is "all", but episodes of drawn types count mentions; give a number or a range.'
    )


# -- a new domain ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_an_episode_is_sentences_of_one_domain(shot: int, query: int, seed: int) -> None:
    made = [
        each
        for task in ("law", "music")
        for each in sentences("ab", "c", "", "a", "b", "", "d", "ad", "c", "b", task=task, first=100 * (task == "law"))
    ]
    for episode in sampler(made, way="all", shot=shot, query=query, seed=seed, n_episodes=3, domains=True):
        two_sides(episode)
        assert (len(episode.support), len(episode.query)) == (shot, query)
        assert len({each.task for each in (*episode.support, *episode.query)}) == 1
        assert all(each.labels for each in episode.support)
        assert episode.classes == tuple(sorted(mentions(episode.support)))
        assert set(episode.support) | set(episode.query) <= set(made), "the query keeps what the support lacks"


def test_the_whole_rest_is_judged() -> None:
    made = sentences(*("ab" * 5), "", "", "")
    for episode in sampler(made, way="all", shot=4, query="all", domains=True):
        assert len(episode.query) == 9
        assert {each for each in made if not each.labels} <= set(episode.query)
    [episode] = sampler(
        made,
        way="all",
        shot="all",
        query="all",
        domains=True,
        n_episodes=1,
        query_examples=sentences("ab", "c", first=50),
    )
    assert (len(episode.support), len(episode.query), episode.classes) == (10, 2, ("a", "b"))


def test_a_new_domain_has_its_support_from_train_and_its_query_from_test() -> None:
    rows = [
        *sentences(*("ab" * 4), task="law", part="train"),
        *sentences(*("ab" * 4), task="law", part="test", first=50),
    ]
    dataset = TaggedDataset("data", (), (), tuple(rows), "tasks")
    for episode in dataset.sampler("test", way="all", shot=3, query="all", seed=0, n_episodes=5):
        assert {each.part for each in episode.support} == {"train"}
        assert {each.part for each in episode.query} == {"test"}
        assert len(episode.query) == 8


def test_a_sentence_without_a_word_outside_is_no_support() -> None:
    full = [TaggedExample((f"x{i}",), ("B-a",)) for i in range(5)]
    for episode in sampler([*full, *sentences("a", "b")], way="all", shot=1, query=2, domains=True):
        two_sides(episode)
        assert not set(episode.support) & set(full)


def test_domains_that_are_too_small_are_refused_or_left_out() -> None:
    made = [*sentences(*"aaaa", task="law"), *sentences("a", "", task="music", first=10)]
    counts: dict[str, Any] = {"way": "all", "shot": 2, "query": 2, "domains": True}
    with pytest.raises(KshotError) as caught:
        sampler(made, **counts)
    assert str(caught.value) == (
        'The domain "music" has 1 different sentence with an entity and a word outside, and 1 that the support '
        "leaves for the query, but an episode needs shot 2 and query 2; lower them or add sentences."
    )
    assert sampler(made, skip_small=True, **counts).skipped == ("music",)
    with pytest.raises(KshotError) as caught:
        sampler(made[4:], skip_small=True, **counts)
    assert str(caught.value) == "No domain has enough sentences; lower shot and query or add sentences."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"way": 5}, 'way is 5, but an episode of a domain has the types that its support shows; write "all".'),
        (
            {"shot": "all"},
            'shot is "all", which leaves no sentence with an entity for the query; give a number, or other '
            "query_examples.",
        ),
        ({"shot": 0}, 'shot is 0 but has to be a whole number from 1, a range (low, high) or "all".'),
        ({"query": (3, 1)}, "query is (3, 1), but the lower end of a range comes first; write (1, 3)."),
        ({"seed": -1}, "seed is -1 but has to be a whole number from 0."),
    ],
)
def test_counts_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KshotError) as caught:
        sampler(sentences(*"aabb"), **{"way": "all", "domains": True, **changes})
    assert str(caught.value) == message


def test_no_sentences() -> None:
    with pytest.raises(KshotError) as caught:
        sampler([])
    assert str(caught.value) == (
        "There are no sentences to draw episodes from; check that the part or file is not empty."
    )


def test_the_support_is_augmented_and_the_query_is_not() -> None:
    dataset = TaggedDataset("data", tuple(sentences(*"aabbab")), (), (), "examples")
    plain, changed = (
        dataset.sampler("train", way="all", shot=3, query=2, seed=0, n_episodes=9, augment=augment)
        for augment in ((), ("replace_mentions", "lower_case"))
    )
    assert [each.query for each in plain] == [each.query for each in changed]
    assert [each.classes for each in plain] == [each.classes for each in changed]
    assert [each.shots for each in plain] == [each.shots for each in changed]
    assert [each.support for each in plain] != [each.support for each in changed]
    assert changed[4] == changed[4]
    with pytest.raises(KshotError) as caught:
        dataset.sampler("train", way="all", shot=1, query=1, seed=0, n_episodes=1, augment=("drop_words",))
    assert str(caught.value) == (
        'There is no augmentation of sentences "drop_words"; there are replace_mentions, replace_words, '
        'shuffle_segments, lower_case. Did you mean "replace_words"?'
    )
