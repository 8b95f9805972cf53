"""Writing: a text is made of a given one. One item a position of what is written, its label the token that follows."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.models.decoders import Seq2Seq
from kshot.models.encoder import encode
from kshot.models.search import Hypothesis, SearchSettings, search
from kshot.models.utf8 import Characters
from kshot.models.vocabulary import TokenIds, Vocabulary
from kshot.settings import Settings
from kshot.tasks.base import Batch, Scorer, Task, group_of

GROUP = "token"


class WritingSettings(Settings):
    """How examples become items, and vectors a text.

    Attributes:
        search: How a text is looked for.
    """

    search: SearchSettings = SearchSettings()


class Writing(Task):
    """Makes a text of a given one."""

    groups = (GROUP,)
    open = True
    settings: WritingSettings

    @abstractmethod
    def sides(self, examples: Sequence[Any], vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
        """What is given and what is to be made of it, of each example."""

    def collate(
        self, examples: Sequence[Any], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        return batch_of(*self.sides(examples, vocabulary), vocabulary)

    def write(
        self, scorer: Scorer, given: Sequence[TokenIds], settings: SearchSettings | None = None
    ) -> list[Hypothesis]:
        """Finds what is to be made of each text, as tokens.

        Args:
            scorer: What was learned.
            given: The token numbers of the texts.
            settings: How to search; None as the task says.
        """
        return self._search(network_of(scorer), scorer, given, settings)

    def texts(self, scorer: Scorer, given: Sequence[TokenIds], settings: SearchSettings | None = None) -> list[str]:
        """The same as texts."""
        network = network_of(scorer)
        return [network.vocabulary.decode(each.tokens) for each in self._search(network, scorer, given, settings)]

    def _search(
        self, network: Seq2Seq, scorer: Scorer, given: Sequence[TokenIds], settings: SearchSettings | None
    ) -> list[Hypothesis]:
        return search(
            network,
            lambda vectors: scorer.scores(GROUP, vectors),
            given,
            settings or self.settings.search,
            characters_of(network.vocabulary),
        )


def batch_of(sources: Sequence[str], targets: Sequence[str], vocabulary: Vocabulary) -> Batch:
    """A batch with an item for each token of the targets, the end included."""
    given, wanted = vocabulary.encode(sources), vocabulary.encode(targets)
    begin = np.array([vocabulary.begin_id], dtype=np.int32)
    spoken = tuple(np.concatenate([begin, target[:-1]]) for target in wanted)
    n_items = sum(map(len, wanted))
    labels = np.concatenate([np.empty(0, dtype=np.int32), *wanted]).tolist()
    group = group_of(labels, range(n_items), vocabulary.size, [1.0] * n_items)
    return Batch(spoken, {GROUP: group}, words=tuple(_each(len(target)) for target in wanted), given=tuple(given))


def log_likelihoods(scorer: Scorer, batch: Batch, network: Seq2Seq | None = None) -> list[Tensor]:
    """The log-likelihood of each token of each text of a batch under what was learned.

    Args:
        scorer: What was learned.
        batch: The texts; those that the scorer knows are not read again if `network` is None.
        network: What reads other texts: `network_of` the scorer.

    Returns:
        For each text (n_tokens,), the end included.
    """
    with torch.no_grad():
        if network is None:
            scores = scorer(batch)[GROUP]
        else:
            with network.forgetting():  # its weights are those of one task, and vectors are remembered by text alone
                vectors = encode(network, batch.texts, {}, words=batch.words, given=batch.given)
            scores = scorer.scores(GROUP, vectors)
        labels = batch.groups[GROUP].labels.to(scores.device)
        each = -F.cross_entropy(scores.float(), labels, reduction="none")  # (n_items,)
    return list(torch.split(each, [len(text) for text in batch.texts]))


def network_of(scorer: Scorer) -> Seq2Seq:
    """The encoder-decoder with the weights that were learned."""
    network = scorer.network()
    assert isinstance(network, Seq2Seq)
    return network


@lru_cache(maxsize=8)
def characters_of(vocabulary: Vocabulary) -> Characters:
    """What keeps the characters of a vocabulary whole."""
    return Characters.of(vocabulary.tokenizer)


def _each(length: int) -> np.ndarray:
    """A range for each of some tokens, (length, 2)."""
    places = np.arange(length, dtype=np.int32)
    return np.stack([places, places + 1], axis=1)
