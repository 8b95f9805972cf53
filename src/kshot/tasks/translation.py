"""Translation: what a text is in another language."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, Scorer
from kshot.tasks.writing import Writing, WritingSettings

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF


class TranslationSettings(WritingSettings):
    """How sentence pairs become items, and vectors a translation.

    Attributes:
        search: How a translation is looked for.
    """

    kind: Literal["translation"] = "translation"


class Translation(Writing):
    """Says a text in another language."""

    measures = ("BLEU", "chrF")
    settings: TranslationSettings

    def __init__(self, settings: TranslationSettings | None = None) -> None:
        self.settings = settings or TranslationSettings()

    def sides(self, examples: Sequence[SentencePair], vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
        return [example.source for example in examples], [example.target for example in examples]

    def signatures(self) -> tuple[str, ...]:
        bleu, chrf = measures()
        for each in (bleu, chrf):
            each.corpus_score(["a"], [["a"]])  # only then it knows that there is one reference
        return f"BLEU|{bleu.get_signature()}", f"chrF2|{chrf.get_signature()}"

    def score(
        self, scorer: Scorer, batch: Batch, examples: Sequence[SentencePair], classes: Sequence[str]
    ) -> tuple[float, ...]:
        assert batch.given is not None
        return self.judge(self.texts(scorer, batch.given), examples)

    @staticmethod
    def judge(translations: Sequence[str], examples: Sequence[Any]) -> tuple[float, float]:
        """The measures of translations that were made of some examples."""
        return corpus_scores(translations, [example.target for example in examples])


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
