"""Encoder-decoders: what is computed step by step is what is computed at once, and padding is never read."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings
from kshot.models.decoders import EncoderDecoder, EncoderDecoderSettings
from kshot.models.encoder import encode, pad, with_weights
from kshot.models.scratch import LSTMSettings, TransformerSettings
from kshot.models.selection import select
from kshot.models.vocabulary import TokenIds, Vocabulary
from kshot.tasks.translation import Translation
from toy import SOURCES, sentence_pairs, seq2seq

every_source = pytest.mark.parametrize("source", [*SOURCES, "bilstm"])


def network_of(source: str) -> EncoderDecoder:
    """A network as after some training: no bias is zero, and vectors differ."""
    made = seq2seq("lstm", hidden_dim=4, bidirectional=True) if source == "bilstm" else seq2seq(source)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
    return made


def tokens_of(network: EncoderDecoder, pairs: list[SentencePair]) -> tuple[list[TokenIds], list[TokenIds]]:
    """The tokens that are said, the beginning first, and those that are given."""
    batch = Translation().collate(pairs, (), network.vocabulary, support=True)
    assert batch.given is not None
    return list(batch.texts), list(batch.given)


def padded(network: EncoderDecoder, pairs: list[SentencePair]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    said, given = tokens_of(network, pairs)
    return (*pad(said, network.vocabulary.pad_id), *pad(given, network.vocabulary.pad_id))


PAIRS = sentence_pairs(6, seed=3)


@every_source
def test_step_by_step_as_at_once(source: str) -> None:
    network = network_of(source)
    ids, mask, given, given_mask = padded(network, PAIRS)
    assert not mask.all()
    assert not given_mask.all()
    with torch.no_grad():
        at_once = network(ids, mask, given, given_mask)
        memory = network.read(given, given_mask)
        for place in range(ids.shape[1]):
            assert memory.length == place
            vectors, memory = network.step(ids[:, place], memory)
            assert vectors.shape == (len(PAIRS), network.dim)
            there = mask[:, place]
            torch.testing.assert_close(vectors[there], at_once[there, place], rtol=1e-5, atol=1e-5)
        assert (at_once[:, 1:] - at_once[:, :1]).abs().amax() > 0.1


@every_source
def test_the_memory_of_chosen_hypotheses(source: str) -> None:
    network = network_of(source)
    ids, _, given, given_mask = padded(network, PAIRS)
    order = torch.tensor([2, 0, 0, 5])
    with torch.no_grad():
        _, memory = network.step(ids[:, 0], network.read(given, given_mask))
        _, of_chosen = network.step(ids[order, 0], network.read(given[order], given_mask[order]))
        ours, longer = network.step(ids[order, 1], memory.select(order))
        theirs, _ = network.step(ids[order, 1], of_chosen)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert longer.length == 2
        assert {len(each) for each in (*longer.past, *longer.source)} == {4}
        again, _ = network.step(ids[:, 1], memory)  # which choosing has left as it was
        torch.testing.assert_close(again[order], ours, rtol=1e-5, atol=1e-5)


@every_source
def test_what_fills_up_a_batch_is_never_read(source: str) -> None:
    network = network_of(source)
    ids, mask, given, given_mask = padded(network, PAIRS)
    other, other_given = ids.masked_fill(~mask, 9), given.masked_fill(~given_mask, 9)
    wider = torch.nn.functional.pad(other_given, (0, 5), value=9), torch.nn.functional.pad(given_mask, (0, 5))
    with torch.no_grad():
        vectors = network(ids, mask, given, given_mask)[mask]
        assert torch.equal(network(other, mask, other_given, given_mask)[mask], vectors)
        torch.testing.assert_close(network(other, mask, *wider)[mask], vectors, rtol=1e-5, atol=1e-5)
        memory, of_wider = network.read(given, given_mask), network.read(*wider)
        torch.testing.assert_close(network.step(ids[:, 0], of_wider)[0], network.step(ids[:, 0], memory)[0])


def test_nothing_looks_ahead() -> None:
    network = network_of("transformer")
    ids, mask, given, given_mask = padded(network, PAIRS)
    changed = ids.clone()
    changed[:, 3:] = 7
    with torch.no_grad():
        one, other = network(ids, mask, given, given_mask), network(changed, mask, given, given_mask)
    torch.testing.assert_close(one[:, :3], other[:, :3], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(one[:, 3:], other[:, 3:])


@every_source
def test_a_vector_does_not_depend_on_its_company(source: str) -> None:
    network = network_of(source).double()
    said, given = tokens_of(network, [*PAIRS, *sentence_pairs(6, seed=4)])
    words = [np.stack([np.arange(len(each)), np.arange(len(each)) + 1], axis=1).astype(np.int32) for each in said]
    with torch.no_grad():
        together = encode(network, said, words=words, given=given)
        alone = [encode(network, [s], words=[w], given=[g]) for s, w, g in zip(said, words, given, strict=True)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)
        with network.remembering():
            for _ in range(2):
                torch.testing.assert_close(encode(network, said, words=words, given=given), together)
            swapped = encode(network, said[:1], words=words[:1], given=given[1:2])
        assert not torch.allclose(swapped, together[: len(said[0])]), "what is given counts"


@every_source
def test_other_weights_take_the_place_of_its_own_in_steps_too(source: str) -> None:
    network = network_of(source)
    other = deepcopy(network)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        changed = with_weights(network, dict(other.named_parameters()))
        assert isinstance(changed, EncoderDecoder)
        ids, mask, given, given_mask = padded(network, PAIRS)
        assert torch.equal(changed(ids, mask, given, given_mask), other(ids, mask, given, given_mask))
        ours, _ = changed.step(ids[:, 0], changed.read(given, given_mask))
        theirs, _ = other.step(ids[:, 0], other.read(given, given_mask))
        assert torch.equal(ours, theirs)
        assert torch.equal(changed.output[0], other.output[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not torch.equal(network.output[0], other.output[0])


def test_one_table_reads_and_writes() -> None:
    network = seq2seq()
    weight, bias = network.output
    assert weight is network.get_parameter(network.token_table)
    assert bias is None
    assert weight.shape == (network.vocabulary.size, network.dim)
    tokens = {"begin": network.begin_id, "end": network.end_id}
    names = {name: network.vocabulary.tokenizer.id_to_token(number) for name, number in tokens.items()}
    assert names == {"begin": "[BEGIN]", "end": "[END]"}
    assert network.most_tokens == network.settings.max_length == 32


def test_dropout_falls_in_training_alone() -> None:
    network = seq2seq(dropout=0.5)
    with torch.no_grad():
        inputs = padded(network, PAIRS)
        assert torch.equal(network(*inputs), network(*inputs))
        network.train()
        assert not torch.equal(network(*inputs), network(*inputs))


def test_sizes_that_cannot_be() -> None:
    vocabulary = Vocabulary.cased(["a b"], size=300, max_length=16)

    def refused(source: TransformerSettings | LSTMSettings, n_heads: int) -> str:
        with pytest.raises(KshotError) as caught:
            EncoderDecoder(EncoderDecoderSettings(source=source, n_heads=n_heads), vocabulary)
        return str(caught.value)

    assert refused(TransformerSettings(model_dim=8, n_heads=2, embedding_dim=12), 2) == (
        "The source encoder's vectors have 8 elements and its token embeddings 12; the decoder shares both, so make "
        "embedding_dim 8."
    )
    assert refused(LSTMSettings(hidden_dim=8, embedding_dim=8, bidirectional=True), 2) == (
        "The source encoder's vectors have 16 elements and its token embeddings 8; the decoder shares both, so make "
        "embedding_dim 16."
    )
    assert refused(TransformerSettings(model_dim=8, n_heads=2, embedding_dim=8), 3) == (
        "The decoder's size 8 is not a multiple of n_heads 3; choose one."
    )


def test_a_whole_text_has_no_vector() -> None:
    network = seq2seq()
    with pytest.raises(KshotError) as caught:
        encode(network, *(each[:1] for each in tokens_of(network, PAIRS)[:1]), given=tokens_of(network, PAIRS)[1][:1])
    assert str(caught.value) == "An encoder-decoder has a vector for each position, and none for a whole text."


@pytest.mark.parametrize("source", ["transformer", "lstm"])
def test_two_sides_that_may_move_alone(source: str) -> None:
    network = network_of(source)
    names = [name for name, _ in network.named_parameters()]
    assert select(network, "source") == tuple(name for name in names if name.startswith("source."))
    assert "source.embedding.weight" in select(network, "source")
    assert select(network, "decoder") == tuple(name for name in names if name.startswith("decoder."))
    with pytest.raises(KshotError, match='"source" selects none of the'):
        select(network.source, "source")


def test_a_head_that_stays_while_the_source_side_moves() -> None:
    network = network_of("transformer")
    inner = {"moves": "source", "rate": 0.05, "head_rate": 0.0, "test_steps": 5, "hold_out": 0.0}
    made = build_learner(AlgorithmSettings(name="fine-tuning", inner=inner), network, Translation())
    state = made.adapt(made.task.collate(PAIRS, (), network.vocabulary, support=True))
    before = made._start(made.task.collate(PAIRS, (), network.vocabulary, support=True), None)
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("encoder.source.") for name in moved)


def test_the_last_layers_are_those_of_each_stack() -> None:
    vocabulary = network_of("transformer").vocabulary
    source = SOURCES["transformer"].model_copy(update={"n_layers": 4})
    network = EncoderDecoder(EncoderDecoderSettings(source=source, n_layers=2, n_heads=2), vocabulary)
    for word, stacks in (
        ("top:1", ("source.layers.3.", "decoder.layers.1.")),
        ("top:3", ("source.layers.1.", "source.layers.2.", "source.layers.3.", "decoder.layers.")),
    ):
        names = [name for name, _ in network.named_parameters()]
        assert select(network, word) == tuple(name for name in names if name.startswith(stacks))
