"""Words with their characters: the tokens, and the vectors against a CNN over each word alone."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kshot.models.build import build_encoder, load_encoder, save_encoder
from kshot.models.encoder import encode, pad
from kshot.models.scratch import LSTMSettings
from kshot.models.spelling import Spelling
from kshot.models.vocabulary import PAD, UNKNOWN, SpelledVocabulary
from toy import SCRATCH, corpus, scratch

VOCABULARY = SpelledVocabulary.learn(corpus(), size=400, max_length=48)


def number(token: str) -> int:
    found = VOCABULARY.tokenizer.token_to_id(token)
    assert found is not None
    return int(found)


def test_a_word_is_followed_by_its_bytes() -> None:
    [ids] = VOCABULARY.encode(["The lamp, é"])
    assert ids.tolist() == [
        *(number("the"), *b"The"),
        *(number("lamp"), *b"lamp"),
        *(number(UNKNOWN), *b","),
        *(number(UNKNOWN), *"é".encode()),
    ]
    assert (VOCABULARY.pad_id, number(PAD), number(UNKNOWN)) == (256, 256, 257)


def test_size_counts_all_tokens() -> None:
    assert SpelledVocabulary.learn(corpus(), size=270, max_length=9).size == 270
    assert SpelledVocabulary.learn(corpus(), size=1, max_length=9).size == 258


@given(st.lists(st.text(min_size=1, max_size=70).filter(lambda word: not word.isspace()), min_size=1, max_size=12))
def test_every_word_of_a_sentence_has_tokens(words: list[str]) -> None:
    [windows] = VOCABULARY.encode_words([tuple(words)])
    assert sum(len(window.words) for window in windows) == len(words)
    for window in windows:
        assert len(window.ids) <= VOCABULARY.max_length
        for start, end in window.words.tolist():
            assert window.ids[start] > VOCABULARY.pad_id
            assert (window.ids[start + 1 : end] < VOCABULARY.pad_id).all()


def test_word_vectors_are_those_of_each_word_alone() -> None:
    spelling = Spelling(8, 5, VOCABULARY.pad_id).double()
    table = torch.randn(VOCABULARY.size, 8, dtype=torch.float64)
    texts = VOCABULARY.encode(["lamp glow Bright", "song", "", "x yy"])
    ids, mask = pad(texts, VOCABULARY.pad_id)
    words, present, word_of = spelling(ids, table[ids], mask)
    assert words.shape[-1] == spelling.dim == 13
    assert present.sum(dim=1).tolist() == [3, 1, 1, 2]
    for row, spoken in enumerate([["lamp", "glow", "Bright"], ["song"], [], ["x", "yy"]]):
        for place, word in enumerate(spoken):
            own = table[list(word.encode())].T.unsqueeze(0)  # (1, 8, n_characters)
            spelled = F.relu(spelling.convolution(own))[0].amax(dim=1)
            known = table[VOCABULARY.tokenizer.token_to_id(word.lower()) or number(UNKNOWN)]
            torch.testing.assert_close(words[row, place], torch.cat([known, spelled]))
    assert not words[2].any()
    assert word_of[0].tolist() == [0] * 5 + [1] * 5 + [2] * 7


@pytest.mark.parametrize("kind", ["bag", "cnn", "lstm", "bilstm", "transformer"])
def test_every_encoder_from_scratch_reads_characters(kind: str) -> None:
    network = scratch(kind, tokens="characters", max_length=48, n_character_filters=5)
    one, other, missing = network.vocabulary.encode(["Lamp glow", "lamp glow", ""])
    alone = encode(network, [one])
    together = encode(network, [one, other, missing])
    torch.testing.assert_close(together[:1], alone)
    assert not torch.equal(together[0], together[1])  # case is seen
    assert together.isfinite().all()
    assert together.shape[1] == network.dim


@pytest.mark.parametrize("kind", ["bag", "transformer"])
def test_a_long_word_counts_as_much_as_a_short_one(kind: str) -> None:
    network = scratch(kind, tokens="characters", max_length=48, n_character_filters=5)
    ids, mask = pad(network.vocabulary.encode(["a lamplighter", "glow"]), network.vocabulary.pad_id)
    states = network(ids, mask)
    wanted = torch.stack([(states[0, 0] + states[0, 2]) / 2, states[1, 0]])  # "a" and its one character come first
    torch.testing.assert_close(network.pooled(ids, mask), wanted)


def test_unknown_words_differ_by_their_spelling() -> None:
    network = scratch("spelled")
    windows = network.vocabulary.encode_words([("zyx", "glow"), ("qqq", "glow"), ("zyx", "glow")])
    vectors = encode(network, [each.ids for (each,) in windows], words=[each.words for (each,) in windows])
    assert not torch.equal(vectors[0], vectors[2])
    torch.testing.assert_close(vectors[0], vectors[4])


def test_second_derivatives_go_through_the_characters() -> None:
    network = scratch("spelled").double()
    ids, mask = pad(network.vocabulary.encode(["lamp glow", "play a tune now"]), network.vocabulary.pad_id)
    weight = network.get_parameter("spelling.convolution.weight")
    tangent = torch.randn_like(weight)

    def gradient(at: torch.Tensor) -> torch.Tensor:
        states = torch.func.functional_call(network, {"spelling.convolution.weight": at}, (ids, mask))
        return torch.autograd.grad(states.square().sum(), at, create_graph=True)[0]

    start = weight.detach().requires_grad_()
    (product,) = torch.autograd.grad((gradient(start) * tangent).sum(), start)
    step = 1e-6
    ahead, behind = (gradient((start.detach() + way * step * tangent).requires_grad_()) for way in (1, -1))
    torch.testing.assert_close(product, (ahead - behind).detach() / (2 * step), rtol=1e-4, atol=1e-7)


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    network = scratch("spelled")
    save_encoder(network, tmp_path)
    again = load_encoder(tmp_path).eval()
    assert isinstance(again.vocabulary, SpelledVocabulary)
    texts = ["Lamp glow", "é", "never seen"]
    assert torch.equal(encode(again, again.vocabulary.encode(texts)), encode(network, network.vocabulary.encode(texts)))


def test_the_words_of_a_pretrained_model_have_no_characters(tmp_path: Path) -> None:
    settings = SCRATCH["spelled"]
    assert isinstance(settings, LSTMSettings)
    assert settings.is_spelled
    assert not settings.model_copy(update={"embeddings": "minilm"}).is_spelled
    made = build_encoder(settings, corpus(), seed=0)
    assert math.prod(made.get_parameter("embedding.weight").shape) == 300 * 8
