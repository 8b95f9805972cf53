"""Responding: what a person answers in a dialogue. The text that is given is the last turns before the reply."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from kshot.data.dialogue import History, newest
from kshot.data.examples import Reply, script_of
from kshot.models.search import SearchSettings
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, Scorer
from kshot.tasks.replies import distinct, token_f1
from kshot.tasks.writing import Writing, WritingSettings, batch_of, log_likelihoods, network_of

_SEQUENCES = 320  # candidates that are read together


class RespondingSettings(WritingSettings):
    """How dialogues become items, and vectors a reply.

    Attributes:
        search: How a reply is looked for.
        turns: How many of the turns before a reply are read at most.
    """

    kind: Literal["responding"] = "responding"
    search: SearchSettings = SearchSettings(longest=40)
    turns: int = Field(3, ge=1)


class Responding(Writing):
    """Answers in a dialogue.

    Measures of the replies of one person, after ConvAI2 (Dinan et al. 2019, arXiv:1902.00098, section 3):

    - `likelihood`: the geometric mean of the probabilities of the tokens of the true replies, their ends included.
    - `perplexity`: 1 / likelihood, of tokens of the learner's own vocabulary: it compares learners that share one.
    - `hits@1`: the share of the true replies that come first among their candidates (`Reply.candidates`, 19 of other
      persons beside it), by the mean log-likelihood of a token; nan where no reply has candidates.
    - `F1`: `token_f1` of what is written and what was said, the mean over the replies.
    - `distinct-1`, `distinct-2`: `distinct` of all that is written.
    """

    measures = ("likelihood", "perplexity", "hits@1", "F1", "distinct-1", "distinct-2")
    numbers: ClassVar[frozenset[str]] = frozenset({"perplexity"})
    settings: RespondingSettings

    def __init__(self, settings: RespondingSettings | None = None) -> None:
        self.settings = settings or RespondingSettings()

    def sides(self, examples: Sequence[Reply], vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
        given = [script_of(self.read(example.history, vocabulary)) for example in examples]
        return given, [example.text for example in examples]

    def read(self, history: History, vocabulary: Vocabulary) -> History:
        """The turns of a history that are read: the newest that the settings and the vocabulary have room for."""
        nothing = vocabulary.length("")
        return newest(
            history[-self.settings.turns :],
            vocabulary.max_length - nothing,
            lambda turn: vocabulary.length(script_of([turn])) - nothing,
        )

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[Reply], classes: Sequence[str]
    ) -> tuple[float, ...]:
        assert batch.given is not None
        tokens = log_likelihoods(scorer, batch)
        mean = sum(float(each.sum()) for each in tokens) / sum(map(len, tokens))
        written = self.texts(scorer, batch.given)
        f1 = [token_f1(reply, example.text) for reply, example in zip(written, examples, strict=True)]
        return (
            math.exp(mean),
            math.exp(-mean),
            hits(self.candidate_scores(scorer, examples)),
            sum(f1) / len(f1),
            distinct(written, 1),
            distinct(written, 2),
        )

    def candidate_scores(self, scorer: Scorer, examples: Sequence[Reply]) -> list[list[float]]:
        """The mean log-likelihood of a token of the true reply and of each candidate, of the replies that have some."""
        network = network_of(scorer)
        vocabulary = network.vocabulary
        told = [each for each in examples if each.candidates]
        found: list[list[float]] = []
        size = max(1, _SEQUENCES // max((1 + len(each.candidates) for each in told), default=1))
        for start in range(0, len(told), size):
            block = told[start : start + size]
            given, _ = self.sides(block, vocabulary)
            listed = [[each.text, *each.candidates] for each in block]
            sources = [source for source, texts in zip(given, listed, strict=True) for _ in texts]
            batch = batch_of(sources, [text for texts in listed for text in texts], vocabulary)
            means = iter([float(each.mean()) for each in log_likelihoods(scorer, batch, network)])
            found += [[next(means) for _ in texts] for texts in listed]
        return found


def hits(scores: Sequence[Sequence[float]]) -> float:
    """The share of rows whose first score is above all others; nan of no rows."""
    return sum(row[0] > max(row[1:]) for row in scores) / len(scores) if scores else math.nan
