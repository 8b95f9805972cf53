"""Beam search, against exhaustive search by networks that read everything at once, and what it promises always."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from torch import Tensor

from kshot.models.decoders import EncoderDecoder, EncoderDecoderSettings
from kshot.models.encoder import pad
from kshot.models.scratch import TransformerSettings
from kshot.models.search import Hypothesis, SearchSettings, search
from kshot.models.vocabulary import BEGIN, END, PAD, UNKNOWN, TokenIds, Vocabulary
from kshot.tasks.writing import characters_of
from toy import SOURCES, sentence_pairs, seq2seq

TOKENS = (PAD, UNKNOWN, BEGIN, END, "a", "b")
SPOKEN = [TOKENS.index(token) for token in (UNKNOWN, "a", "b")]
GIVEN = [np.array(ids, dtype=np.int32) for ids in ([4, 5, 3], [5, 3], [4, 4, 5, 4, 3], [1, 3])]
Scores = Callable[[Tensor], Tensor]


def tiny(seed: int) -> tuple[EncoderDecoder, Scores]:
    """A network of six tokens with random weights, and its scores, which are far from uniform."""
    vocabulary = Vocabulary(Tokenizer(models.WordLevel({t: n for n, t in enumerate(TOKENS)}, UNKNOWN)), 16)
    source = TransformerSettings(model_dim=8, embedding_dim=8, n_layers=1, n_heads=1, max_length=16, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EncoderDecoder(EncoderDecoderSettings(source=source, n_layers=1, n_heads=2), vocabulary).eval()
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.add_(0.5 * torch.randn_like(tensor))
            table = torch.randn(len(TOKENS), network.dim)
    return network, lambda vectors: vectors @ table.T


def likelihoods(network: EncoderDecoder, scores: Scores, given: TokenIds, said: list[tuple[int, ...]]) -> list[float]:
    """The log-likelihood of each continuation, all of its positions at once."""
    arrays = [np.array([network.begin_id, *tokens], dtype=np.int32) for tokens in said]
    ids, mask = pad(arrays, network.vocabulary.pad_id)
    of_given = pad([given] * len(said), network.vocabulary.pad_id)
    with torch.no_grad():
        steps = scores(network(ids, mask, *of_given)).log_softmax(dim=-1)
    return [float(steps[row, range(len(tokens)), list(tokens)].sum()) for row, tokens in enumerate(said)]


def exhaustive(
    network: EncoderDecoder, scores: Scores, given: TokenIds, longest: int, penalty: float
) -> tuple[tuple[int, ...], float]:
    """The best of all continuations that end."""
    ended = [(*each, network.end_id) for n in range(longest) for each in product(SPOKEN, repeat=n)]
    found = zip(ended, likelihoods(network, scores, given, ended), strict=True)
    best, likelihood = max(found, key=lambda each: each[1] / len(each[0]) ** penalty)
    return best[:-1], likelihood / len(best) ** penalty


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(1, 4))
def test_a_wide_beam_is_exhaustive(seed: int, penalty: float, longest: int) -> None:
    network, scores = tiny(seed)
    wide = SearchSettings(beam=(len(SPOKEN) + 1) ** longest, length_penalty=penalty, longest=longest)
    for given_, found in zip(GIVEN, search(network, scores, GIVEN, wide), strict=True):
        tokens, score = exhaustive(network, scores, given_, longest, penalty)
        assert found.tokens == tokens
        assert found.score == pytest.approx(score, rel=1e-4, abs=1e-5)
        assert found.ended


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_one_beam_takes_the_likeliest_token_each_time(seed: int, longest: int) -> None:
    network, scores = tiny(seed)
    greedy = search(network, scores, GIVEN, SearchSettings(beam=1, longest=longest))
    for given_, found in zip(GIVEN, greedy, strict=True):
        said: tuple[int, ...] = ()
        while len(said) < longest and network.end_id not in said:
            following = [(*said, token) for token in (*SPOKEN, network.end_id)]
            said = following[int(np.argmax(likelihoods(network, scores, given_, following)))]
        assert found.ended == (said[-1] == network.end_id)
        assert found.tokens == tuple(token for token in said if token != network.end_id)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.0, 1.0, 1.5]), st.integers(1, 8))
def test_what_holds_for_every_beam(seed: int, beam: int, penalty: float, longest: int) -> None:
    network, scores = tiny(seed)
    chosen = SearchSettings(beam=beam, length_penalty=penalty, longest=longest)
    together = search(network, scores, GIVEN, chosen)
    for given_, found in zip(GIVEN, together, strict=True):
        [alone] = search(network, scores, [given_], chosen)
        assert (alone.tokens, alone.ended) == (found.tokens, found.ended)
        assert alone.score == pytest.approx(found.score, rel=1e-4, abs=1e-5)
        assert len(found.tokens) <= longest
        assert set(found.tokens) <= set(SPOKEN)
        whole = (*found.tokens, network.end_id) if found.ended else found.tokens
        [likelihood] = likelihoods(network, scores, given_, [whole])
        assert found.score == pytest.approx(likelihood / len(whole) ** penalty, rel=1e-4, abs=1e-5)


def biased(scores: Scores, token: int, by: float) -> Scores:
    """The same scores, one of the tokens likelier or less likely."""
    return lambda vectors: scores(vectors) + by * torch.eye(len(TOKENS))[token]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"longest": 7}, [7, 7, 7, 7]),
        ({}, [15, 14, 15, 14]),  # twice as many as are given and ten more, or what the network has places for
        ({"longest_ratio": 0.5}, [11, 11, 12, 11]),
        ({"longest": 1}, [1, 1, 1, 1]),
    ],
)
def test_what_never_ends_is_cut(beam: int, changes: dict[str, Any], lengths: list[int]) -> None:
    network, scores = tiny(0)
    found = search(network, biased(scores, network.end_id, -1e9), GIVEN, SearchSettings(beam=beam, **changes))
    assert [len(each.tokens) for each in found] == lengths
    assert not any(each.ended for each in found)


@pytest.mark.parametrize("beam", [1, 3])
def test_what_ends_at_once_is_empty(beam: int) -> None:
    network, scores = tiny(0)
    for found in search(network, biased(scores, network.end_id, 50.0), GIVEN, SearchSettings(beam=beam)):
        assert found == Hypothesis((), found.score, True)
        assert found.score == pytest.approx(0, abs=1e-6)


def test_a_translation_that_ended_comes_before_one_that_was_cut() -> None:
    """Likely tokens, and an end that is unlikely everywhere: only what ended is a translation."""
    network, scores = tiny(1)
    late = biased(scores, network.end_id, -6.0)
    [found] = search(network, late, GIVEN[:1], SearchSettings(beam=200, longest=3, length_penalty=0.0))
    assert found.ended


def test_unlikely_ends_do_not_stop_the_search() -> None:
    """As many as there are beams have ended after two tokens, and the likeliest is still open."""
    network, _ = tiny(0)
    a, b, end = TOKENS.index("a"), TOKENS.index("b"), network.end_id
    script = iter([{a: 0.90, end: 0.06, b: 0.04}, {b: 0.95, end: 0.05}, {end: 1.0}])

    def scripted(vectors: Tensor) -> Tensor:
        likely = torch.full((len(TOKENS),), 1e-9)
        for token, probability in next(script).items():
            likely[token] = probability
        return likely.log().expand(len(vectors), -1)

    [found] = search(network, scripted, GIVEN[:1], SearchSettings(beam=2))
    assert found.tokens == (a, b)
    assert found.score == pytest.approx(np.log(0.90 * 0.95) / 3, rel=1e-3)


def test_scores_that_are_no_numbers_end_too() -> None:
    network, _ = tiny(0)
    for value in (float("nan"), float("inf")):
        found = search(network, lambda v: v.new_full((len(v), 6), value), GIVEN, SearchSettings(beam=2, longest=5))  # noqa: B023
        assert all(len(each.tokens) <= 5 for each in found)


def test_no_texts() -> None:
    assert search(*tiny(0), [], SearchSettings()) == []


# -- bytes -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 12), st.sampled_from(list(SOURCES)))
def test_no_half_character_from_any_weights(seed: int, beam: int, longest: int, source: str) -> None:
    network = seq2seq(source)
    vocabulary = network.vocabulary
    generator = torch.Generator().manual_seed(seed)
    table = 3 * torch.randn(vocabulary.size, network.dim, generator=generator)
    parts = [n for token, n in vocabulary.tokenizer.get_vocab().items() if not token.isascii() and n > 3]
    bias = torch.zeros(vocabulary.size)
    bias[parts] = 4.0  # parts of characters are likelier than whole ones
    given_ = vocabulary.encode([each.source for each in sentence_pairs(3, seed)])
    chosen = SearchSettings(beam=beam, longest=longest)
    scores: Scores = lambda vectors: vectors @ table.T + bias  # noqa: E731
    found = search(network, scores, given_, chosen, characters_of(vocabulary))
    for each in found:
        assert "\ufffd" not in vocabulary.tokenizer.decode(list(each.tokens), skip_special_tokens=False)
        assert "\ufffd" not in vocabulary.decode(each.tokens)
        assert len(each.tokens) <= longest
        assert not each.ended or len(each.tokens) < longest, "the end is a token, too"


def test_without_the_automaton_there_are_half_characters() -> None:
    """What the test above would not see if nothing ever broke."""
    network = seq2seq()
    vocabulary = network.vocabulary
    lead = vocabulary.tokenizer.token_to_id("\u00d1")  # stands for the byte D1
    bias = 20.0 * torch.nn.functional.one_hot(torch.tensor(lead), vocabulary.size)
    given_ = vocabulary.encode(["mare"])
    for characters, broken in ((None, True), (characters_of(vocabulary), False)):
        [found] = search(network, lambda v: v @ network.output[0].T + bias, given_, SearchSettings(), characters)
        assert ("\ufffd" in vocabulary.decode(found.tokens)) == broken
