"""Responding: what is given and what is wanted, and its measures beside others' arithmetic."""

import math
import random
import re
import string

import pytest
import torch
from torch.nn.functional import cross_entropy

from contract import translator
from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.examples import Reply
from kshot.data.replies import with_candidates
from kshot.meta.learner import Learner
from kshot.models.search import SearchSettings
from kshot.run.evaluate import evaluate
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.replies import distinct, token_f1, words_of
from kshot.tasks.responding import Responding, RespondingSettings, hits
from kshot.tasks.writing import network_of
from toy import pair, replies, seq2seq, written_episode


def made(algorithm: str = "first-order-maml") -> Learner:
    return translator(algorithm, seq2seq(), kind="responding")


def task_of(learner: Learner) -> Responding:
    task = learner.task
    assert isinstance(task, Responding)
    return task


# -- what is read ------------------------------------------------------------------------------------------------------


def test_the_last_turns_are_given_and_the_reply_is_wanted() -> None:
    turns = tuple(Turn(USER if number % 2 == 0 else SYSTEM, f"măr {number}") for number in range(5))
    vocabulary = seq2seq(max_length=64).vocabulary
    task = Responding(RespondingSettings(turns=3))
    examples = [Reply(turns, "mare"), Reply(turns[:1], "și"), Reply((), "petit")]
    assert task.sides(examples, vocabulary) == (
        ["user: măr 2 system: măr 3 user: măr 4", "user: măr 0", ""],
        ["mare", "și", "petit"],
    )


@pytest.mark.parametrize("n_turns", [1, 2, 7, 500])
def test_what_is_read_fits_whole(n_turns: int) -> None:
    """The oldest turns go first, none is cut in two, and the tokens are as many as they were counted."""
    vocabulary = seq2seq().vocabulary  # 32 tokens
    task = Responding(RespondingSettings(turns=1000))
    turns = tuple(Turn(USER if number % 2 else SYSTEM, f"{number} тёплый") for number in range(n_turns))
    read = task.read(turns, vocabulary)
    assert read == turns[len(turns) - len(read) :]
    [source], _ = task.sides([Reply(turns, "și")], vocabulary)
    assert vocabulary.length(source) <= vocabulary.max_length
    if len(read) < n_turns:
        assert 0 < len(read) < 5
        longer = Reply(turns[-len(read) - 1 :], "și")
        assert vocabulary.length(" ".join(f"{each.speaker}: {each.text}" for each in longer.history)) > 32


def test_settings_of_the_task() -> None:
    task = Responding(RespondingSettings(turns=5, search=SearchSettings(beam=2)))
    again = build_task(describe_task(task))
    assert isinstance(again, Responding)
    assert again.settings == task.settings
    assert (again.kind, again.open) == ("responding", True)
    assert RespondingSettings().search.longest == 40


# -- measures of replies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "true", "f1"),
    [
        ("I like the sea.", "i like sea !", 1.0),
        ("i like it", "i like the sea", 2 / 3),
        ("no no no", "no", 0.5),
        ("don't", "don t", 1.0),  # signs are spaces
        ("the a an", "anything", 0.0),
        ("", "", 0.0),
        ("theatre", "atre", 0.0),  # articles are whole words
    ],
)
def test_f1_by_hand(reply: str, true: str, f1: float) -> None:
    assert token_f1(reply, true) == pytest.approx(f1)
    assert token_f1(true, reply) == pytest.approx(f1)


def test_f1_is_that_of_precision_and_recall() -> None:
    """The other way to compute it: words are taken out of the true reply one by one."""
    rng = random.Random(0)
    words = ["sea", "Sea!", "the", "a", "boat,", "it's", "an", "--", "and"]
    for _ in range(200):
        reply, true = (" ".join(rng.choices(words, k=rng.randint(0, 7))) for _ in range(2))
        left = [w for w in re.split(r"\W+", true.lower()) if w and w not in ("a", "an", "the")]
        n_true, n_found, n_right = len(left), 0, 0
        for word in (w for w in re.split(r"\W+", reply.lower()) if w and w not in ("a", "an", "the")):
            n_found += 1
            if word in left:
                left.remove(word)
                n_right += 1
        precision, recall = (n_right / n if n else 0.0 for n in (n_found, n_true))
        expected = 2 * precision * recall / (precision + recall) if n_right else 0.0
        assert token_f1(reply, true) == pytest.approx(expected)


def test_every_sign_of_ascii_is_a_space() -> None:
    assert words_of(f"x{'y'.join(string.punctuation)}z") == ["x", *"y" * (len(string.punctuation) - 1), "z"]


def test_distinct_by_hand() -> None:
    said = ["i am here", "I am there", "here"]  # 7 words: i am here there; i-am am-here am-there
    assert distinct(said, 1) == pytest.approx(4 / 7)
    assert distinct(said, 2) == pytest.approx(3 / 7)
    assert distinct(["", ""], 1) == distinct([], 2) == 0.0
    assert distinct(["a b c d"], 1) == 1.0
    assert distinct(["no"] * 10, 1) == pytest.approx(0.1)


def test_a_hit_is_above_all_others() -> None:
    assert hits([[1.0, 0.5, 0.9], [1.0, 1.0, 0.0], [0.0, -1.0, 2.0]]) == pytest.approx(1 / 3)
    assert math.isnan(hits([]))


# -- measures of a learner ---------------------------------------------------------------------------------------------


def by_hand(learner: Learner, support: list[Reply], context: Reply, text: str) -> list[float]:
    """The log-likelihood of each token of a reply, one text alone, from the network itself."""
    vocabulary = learner.encoder.vocabulary
    task = learner.task
    batch = task.collate(support, (), vocabulary, support=True)
    asked = task.collate([Reply(context.history, text)], (), vocabulary, support=False)
    assert asked.given is not None
    scorer = learner.scorer(learner.adapt(batch), asked)
    network = network_of(scorer)
    [given], [wanted] = asked.given, vocabulary.encode([text])
    spoken = torch.tensor([[vocabulary.begin_id, *wanted[:-1]]])
    source = torch.tensor(given[None])
    with torch.no_grad():
        vectors = network(spoken, spoken >= 0, source, source >= 0)[0]
        losses = cross_entropy(scorer.scores("token", vectors), torch.tensor(wanted).long(), reduction="none")
    return (-losses).tolist()


@pytest.mark.parametrize("algorithm", ["first-order-maml", "matching"])
def test_the_measures_are_those_of_one_reply_after_the_other(algorithm: str) -> None:
    learner = made(algorithm)
    support = replies(5, 1)
    others = [each for number in range(3) for each in replies(6, 10 + number, task=f"p{number}")]
    query = list(with_candidates([*replies(6, 2, task="me"), *others]))[:6]
    found = evaluate(learner, [_Episode(support, query)], time=False)
    values = dict(zip(found.measures, found.scores[0], strict=True))
    tokens = [by_hand(learner, support, each, each.text) for each in query]
    mean = sum(map(sum, tokens)) / sum(map(len, tokens))
    assert values["likelihood"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert values["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-4)
    right = 0
    for each, own in zip(query, tokens, strict=True):
        scores = [sum(s) / len(s) for s in (by_hand(learner, support, each, text) for text in each.candidates)]
        right += sum(own) / len(own) > max(scores)
    assert values["hits@1"] == pytest.approx(right / len(query))


def _Episode(support: list[Reply], query: list[Reply]):  # noqa: N802
    from kshot.data.examples import Episode

    return Episode(tuple(support), tuple(query), (), 0)


def test_candidates_are_read_with_the_weights_of_each_task() -> None:
    """Vectors that are remembered are those of the start, whichever texts are asked for again."""
    learner = made()
    others = [each for number in range(3) for each in replies(6, 10 + number, task=f"p{number}")]
    query = list(with_candidates([*replies(3, 2, task="me"), *others]))[:3]
    episodes = [_Episode(replies(6, seed), query) for seed in (1, 3)]
    together = evaluate(learner, episodes, time=False).scores
    for number, episode in enumerate(episodes):
        assert evaluate(learner, [episode], time=False).scores[0] == pytest.approx(together[number])
    scores = []
    for episode in episodes:
        support, asked = pair(learner, episode)
        with learner.encoder.remembering():
            scorer = learner.scorer(learner.adapt(support), asked)
            scores.append(task_of(learner).candidate_scores(scorer, query))
    assert scores[0] != scores[1]


def test_without_candidates_there_are_no_hits() -> None:
    learner = made()
    found = evaluate(learner, [written_episode("responding")], time=False)
    assert math.isnan(found.scores[0][found.measures.index("hits@1")])
    assert not any(math.isnan(value) for value in found.scores[0][[0, 1, 3, 4, 5]])


def test_perplexity_is_no_share() -> None:
    assert Responding.numbers == {"perplexity"}
    assert set(Responding.numbers) < set(Responding.measures)
