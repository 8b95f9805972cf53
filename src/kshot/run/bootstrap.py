"""Paired bootstrap: whether one translator is better than another, or was lucky with the sentences.

    d     BLEU of the one less BLEU of the other on the test sentences
    d_b   the same on as many sentences drawn from them with replacement, the same for both

The interval is that of the middle 95% of the d_b (Koehn 2004, aclanthology W04-3250). BLEU is computed by sacrebleu,
from the n-gram counts of each sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.tasks.translation import measures

_SAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """A difference of corpus BLEU, in points.

    Attributes:
        points: On all sentences.
        low: The lower end of its 95% interval.
        high: The upper end.
    """

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def paired_bootstrap(
    one: Sequence[Sequence[str]],
    other: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    n_samples: int = _SAMPLES,
) -> Difference:
    """The mean difference over some corpora, such as draws of the support, with its interval over sentences.

    Args:
        one: The translations of each corpus by one system.
        other: Those by another.
        references: What is right.
        seed: Which sentences are drawn.
        n_samples: How often.
    """
    counts = [(_counts(a, right), _counts(b, right)) for a, b, right in zip(one, other, references, strict=True)]
    rng = np.random.default_rng(seed)
    differences = []
    for sample in range(n_samples + 1):
        each = []
        for ours, theirs in counts:
            n = len(ours)
            rows = np.arange(n) if sample == 0 else rng.integers(n, size=n)
            each.append(_bleu(ours[rows].sum(axis=0)) - _bleu(theirs[rows].sum(axis=0)))
        differences.append(float(np.mean(each)))
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    return Difference(differences[0], float(low), float(high))


def _counts(translations: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """The matches and the numbers of n-grams, and the lengths of both sides, of each sentence: (n, 10)."""
    bleu, _ = measures()
    rows = []
    for translation, reference in zip(translations, references, strict=True):
        score = bleu.corpus_score([translation], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1)


def _bleu(counts: NDArray[np.int64]) -> float:
    bleu, _ = measures()
    n = bleu.max_ngram_order
    matches, totals = counts[:n].tolist(), counts[n : 2 * n].tolist()
    sys_len, ref_len = int(counts[-2]), int(counts[-1])
    return float(bleu.compute_bleu(matches, totals, sys_len, ref_len, smooth_method="exp").score)
