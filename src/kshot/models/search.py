"""Beam search: the likeliest continuations of given texts, many texts at a time.

    y          a continuation y_1 ... y_n, the end included        x    the text that is given
    score(y)   log p(y | x) / n^a                                  a    the length penalty

Each text keeps `beam` open hypotheses; one that ends is put aside with its score. A text is done when no open
hypothesis can still be better than the best that ended, or when as many have ended as there are beams.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from kshot.models.decoders import Seq2Seq
from kshot.models.encoder import pad, plan_calls
from kshot.models.products import kernels
from kshot.models.utf8 import WHOLE, Characters
from kshot.models.vocabulary import TokenIds
from kshot.settings import Settings

_TOKENS_PER_CALL = 4096  # of given texts, in each of their beams


class SearchSettings(Settings):
    """How a continuation is looked for.

    Attributes:
        beam: Open hypotheses of a text; 1 takes the likeliest token each time.
        length_penalty: The power of the length that a log-likelihood is divided by; 0 favours the short.
        longest: Tokens of a continuation at most.
        longest_ratio: Tokens of a continuation at most for each of the given text, besides ten more.
    """

    beam: int = Field(4, ge=1)
    length_penalty: float = Field(1.0, ge=0)
    longest: int = Field(200, ge=1)
    longest_ratio: float = Field(2.0, gt=0)

    def score(self, likelihood: float, length: int) -> float:
        """What hypotheses are compared by."""
        return likelihood / float(length**self.length_penalty)


@dataclass(frozen=True)
class Hypothesis:
    """A continuation.

    Attributes:
        tokens: Its tokens, without the end.
        score: Its log-likelihood, the end included, over its length to the power of the length penalty.
        ended: Whether it ended by itself, and was not cut.
    """

    tokens: tuple[int, ...]
    score: float
    ended: bool


@dataclass(frozen=True)
class _Open:
    """A hypothesis that goes on: its log-likelihood, the row of what it continues, and its last token."""

    likelihood: float
    row: int
    token: int


@dataclass
class _Text:
    """A text whose continuation is being looked for."""

    place: int  # among the given texts
    longest: int
    ended: list[Hypothesis] = field(default_factory=list)

    def is_done(self, going: Sequence[_Open], length: int, settings: SearchSettings) -> bool:
        """Whether the best that ended is better than what the open hypotheses can become.

        Once as many ended as there are beams, open ones are taken for what they are, and not for what they would be if
        all that followed were certain.

        Args:
            going: The open hypotheses.
            length: Their tokens.
            settings: How to search.
        """
        if not going:
            return True
        best = max((each.score for each in self.ended), default=-math.inf)
        likeliest = max(each.likelihood for each in going)
        enough = len(self.ended) >= settings.beam
        return best >= settings.score(likeliest, length if enough else self.longest)

    def best(self) -> Hypothesis:
        return max(self.ended, key=lambda each: (each.ended, each.score))


def search(
    network: Seq2Seq,
    scores: Callable[[Tensor], Tensor],
    given: Sequence[TokenIds],
    settings: SearchSettings,
    characters: Characters | None = None,
) -> list[Hypothesis]:
    """Finds the best continuation of each text.

    Args:
        network: What reads and goes on.
        scores: Scores of each token from vectors, (n, dim) -> (n, n_tokens).
        given: The token numbers of the given texts.
        settings: How to search.
        characters: What keeps characters whole; None where every token is whole.
    """
    lengths = np.array([len(each) for each in given], dtype=np.int64)
    found: dict[int, Hypothesis] = {}
    with torch.no_grad(), kernels("auto", foreign=True):  # the head's product is the largest
        for call in plan_calls(lengths, max(1, _TOKENS_PER_CALL // settings.beam)):
            searching = _Search(network, scores, [given[i] for i in call], settings, characters)
            found |= zip(call.tolist(), searching.run(), strict=True)
    return [found[place] for place in range(len(given))]


class _Search:
    """The search for some texts that are read together. Its tensors have a row for each beam of each open text."""

    def __init__(
        self,
        network: Seq2Seq,
        scores: Callable[[Tensor], Tensor],
        given: Sequence[TokenIds],
        settings: SearchSettings,
        characters: Characters | None,
    ) -> None:
        self.network, self.scores, self.settings, self.characters = network, scores, settings, characters
        self.device = next(network.parameters()).device
        self.unsaid = torch.tensor(sorted(network.unsaid), dtype=torch.long, device=self.device)
        longest = min(settings.longest, network.most_tokens - 1)
        self.texts = [
            _Text(place, max(1, min(longest, int(settings.longest_ratio * len(each)) + 10)))
            for place, each in enumerate(given)
        ]
        k, n = settings.beam, len(given)
        ids, mask = (each.to(self.device) for each in pad(given, network.vocabulary.pad_id))
        self.memory = network.read(ids, mask).select(torch.arange(n, device=self.device).repeat_interleave(k))
        self.tokens = torch.full((n * k,), network.begin_id, device=self.device)  # the last of each
        self.said = self.tokens.new_empty(n * k, 0)  # all of them, the beginning aside
        self.states = torch.full_like(self.tokens, WHOLE)  # see `Characters`
        self.likelihoods = torch.full((n, k), -math.inf, device=self.device)
        self.likelihoods[:, 0] = 0.0  # the other beams are copies of the first

    def run(self) -> list[Hypothesis]:
        """The best continuation of each text."""
        done: dict[int, Hypothesis] = {}
        while self.texts:
            staying: list[tuple[_Text, list[_Open]]] = []
            for text, going in zip(self.texts, self._step(), strict=True):
                if text.is_done(going, self.said.shape[1] + 1, self.settings):
                    done[text.place] = text.best()
                else:
                    staying.append((text, going))
            if staying:
                self._go_on([each for _, going in staying for each in going])
            self.texts = [text for text, _ in staying]
        return [done[place] for place in sorted(done)]

    def _step(self) -> list[list[_Open]]:
        """Takes one token more; returns the hypotheses of each text that go on, and puts aside those that end."""
        k = self.settings.beam
        vectors, self.memory = self.network.step(self.tokens, self.memory)
        step = self._likelihoods(vectors)  # (n * k, n_tokens)
        sums = step.add_(self.likelihoods.view(-1, 1)).view(len(self.texts), -1)
        best, places = sums.topk(min(2 * k, sums.shape[1]), dim=-1)  # twice as many, since k of them may end
        opened = []
        for number, (text, likelihoods, found) in enumerate(
            zip(self.texts, best.tolist(), places.tolist(), strict=True)
        ):
            going: list[_Open] = []
            for rank, (likelihood, place) in enumerate(zip(likelihoods, found, strict=True)):
                row, token = number * k + place // step.shape[1], place % step.shape[1]
                if likelihood == -math.inf or len(going) == k:
                    break
                if token != self.network.end_id:
                    going.append(_Open(likelihood, row, token))
                elif rank < k:
                    text.ended.append(self._hypothesis(row, likelihood, None))
            if self.said.shape[1] + 1 == text.longest:
                text.ended += [self._hypothesis(each.row, each.likelihood, each.token) for each in going]
                going = []
            # Where there are fewer than beams, as where a vocabulary is tiny, copies that nobody can choose fill up.
            opened.append(going + [replace(each, likelihood=-math.inf) for each in going[:1] * (k - len(going))])
        return opened

    def _likelihoods(self, vectors: Tensor) -> Tensor:
        """The log-likelihood of each token, -inf where it must not come: (n * k, dim) -> (n * k, n_tokens)."""
        step = self.scores(vectors).float().log_softmax(dim=-1)
        step[:, self.unsaid] = -math.inf
        if self.characters is not None:
            step.masked_fill_(~self.characters.allowed(self.states), -math.inf)
            step[:, self.network.end_id].masked_fill_(self.states != WHOLE, -math.inf)
        return step

    def _hypothesis(self, row: int, likelihood: float, last: int | None) -> Hypothesis:
        """One that ends; or, with a last token, one that is cut."""
        tokens = self.said[row].tolist() + ([] if last is None else [last])
        score = self.settings.score(likelihood, self.said.shape[1] + 1)
        if last is not None and self.characters is not None:
            tokens = self.characters.whole(tokens)
        return Hypothesis(tuple(tokens), score, last is None)

    def _go_on(self, going: Sequence[_Open]) -> None:
        """Keeps what belongs to the hypotheses that go on, `beam` of each text."""
        k = self.settings.beam
        rows = [each.row for each in going]
        order = torch.tensor(rows, device=self.device)
        if rows != list(range(len(self.tokens))):
            self.memory = self.memory.select(order)
        self.tokens = torch.tensor([each.token for each in going], device=self.device)
        self.said = torch.cat([self.said[order], self.tokens.unsqueeze(-1)], dim=1)
        if self.characters is not None:
            self.states = self.characters.after(self.states[order], self.tokens)
        self.likelihoods = torch.tensor([each.likelihood for each in going], device=self.device).view(-1, k)
