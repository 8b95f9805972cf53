"""Translation: one item a position of the target, its label the token that follows there."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.models.decoders import Seq2Seq
from kshot.models.search import Hypothesis, SearchSettings, search
from kshot.models.utf8 import Characters
from kshot.models.vocabulary import TokenIds, Vocabulary
from kshot.settings import Settings
from kshot.tasks.base import Batch, Scorer, Task, group_of

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

GROUP = "token"


class TranslationSettings(Settings):
    """How sentence pairs become items, and vectors a translation.

    Attributes:
        search: How a translation is looked for.
    """

    kind: Literal["translation"] = "translation"
    search: SearchSettings = SearchSettings()


class Translation(Task):
    """Says a text in another language."""

    groups = (GROUP,)
    measures = ("BLEU", "chrF")
    open = True
    settings: TranslationSettings

    def __init__(self, settings: TranslationSettings | None = None) -> None:
        self.settings = settings or TranslationSettings()

    def collate(
        self, examples: Sequence[SentencePair], classes: Sequence[str], vocabulary: Vocabulary, *, support: bool
    ) -> Batch:
        given = vocabulary.encode([example.source for example in examples])
        targets = vocabulary.encode([example.target for example in examples])
        begin = np.array([vocabulary.begin_id], dtype=np.int32)
        spoken = tuple(np.concatenate([begin, target[:-1]]) for target in targets)
        n_items = sum(map(len, targets))
        labels = np.concatenate([np.empty(0, dtype=np.int32), *targets]).tolist()
        group = group_of(labels, range(n_items), vocabulary.size, [1.0] * n_items)
        return Batch(spoken, {GROUP: group}, words=tuple(_each(len(target)) for target in targets), given=tuple(given))

    def translate(
        self, scorer: Scorer, given: Sequence[TokenIds], settings: SearchSettings | None = None
    ) -> list[Hypothesis]:
        """Finds the translation of each text, as tokens.

        Args:
            scorer: What was learned.
            given: The token numbers of the texts.
            settings: How to search; None as the task says.
        """
        return self._search(_network(scorer), scorer, given, settings)

    def texts(self, scorer: Scorer, given: Sequence[TokenIds], settings: SearchSettings | None = None) -> list[str]:
        """The same as texts."""
        network = _network(scorer)
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

    def signatures(self) -> tuple[str, ...]:
        bleu, chrf = measures()
        for each in (bleu, chrf):
            each.corpus_score(["a"], [["a"]])  # only then it knows that there is one reference
        return f"BLEU|{bleu.get_signature()}", f"chrF2|{chrf.get_signature()}"

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[SentencePair], classes: Sequence[str]
    ) -> tuple[float, ...]:
        assert batch.given is not None
        return corpus_scores(self.texts(scorer, batch.given), [example.target for example in examples])


def _network(scorer: Scorer) -> Seq2Seq:
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


# -- measures ----------------------------------------------------------------------------------------------------------


def corpus_scores(translations: Sequence[str], references: Sequence[str]) -> tuple[float, float]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a corpus by sacrebleu, both from 0 to 1."""
    bleu, chrf = measures()
    listed = [list(references)]
    return (
        bleu.corpus_score(list(translations), listed).score / 100,
        chrf.corpus_score(list(translations), listed).score / 100,
    )


def measures() -> "tuple[BLEU, CHRF]":
    """The measures of sacrebleu with its defaults; their signatures say which these are.

    Raises:
        KshotError: If sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise KshotError(
            'BLEU and chrF are computed by sacrebleu, which is not installed; pip install "kshot[translation]".'
        ) from error
    return BLEU(), CHRF()
