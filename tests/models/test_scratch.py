"""Encoders from scratch, against PyTorch's own layers and by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from kshot.errors import KshotError
from kshot.models.encoder import pad
from kshot.models.scratch import CNN, LSTM, Transformer, TransformerSettings, mean_pool
from kshot.models.vocabulary import Vocabulary
from kshot.run.config import parse_recipe
from toy import SCRATCH, corpus, scratch

TEXTS = ["the lamp is on", "song", "please book a table for my guests now", "rain"]


def padded(vocabulary: Vocabulary) -> tuple[Tensor, Tensor, list[int]]:
    texts = vocabulary.encode(TEXTS)
    return (*pad(texts, vocabulary.pad_id), [len(text) for text in texts])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "max", "mean"])
def test_lstm_is_pytorchs_on_packed_sequences(bidirectional: bool, pooling: str) -> None:
    network = scratch("lstm", bidirectional=bidirectional, pooling=pooling).double()
    assert isinstance(network, LSTM)
    h = network.settings.hidden_dim
    reference = nn.LSTM(8, h, batch_first=True, bidirectional=bidirectional).double()
    with torch.no_grad():
        for tensor in network.parameters():  # as after some training: no bias is zero
            tensor.add_(0.3 * torch.randn_like(tensor))
        for number, suffix in enumerate(["", "_reverse"][: 1 + bidirectional]):
            getattr(reference, f"weight_ih_l0{suffix}").copy_(network.input_projections[number].weight)
            getattr(reference, f"bias_ih_l0{suffix}").copy_(network.input_projections[number].bias)
            getattr(reference, f"weight_hh_l0{suffix}").copy_(network.recurrences[number].weight)
            getattr(reference, f"bias_hh_l0{suffix}").zero_()
        ids, mask, lengths = padded(network.vocabulary)
        packed = nn.utils.rnn.pack_padded_sequence(
            network.embedding(ids), torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        outputs, (last, _) = reference(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        got = network(ids, mask)
        pooled = network.pool(got, mask)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(got[row, :length], states[row, :length], rtol=1e-9, atol=1e-12)
        expected = {
            "last": torch.cat(list(last[:, row])),
            "max": states[row, :length].amax(dim=0),
            "mean": states[row, :length].mean(dim=0),
        }[pooling]
        torch.testing.assert_close(pooled[row], expected, rtol=1e-9, atol=1e-12)


def test_lstm_can_be_differentiated_twice() -> None:
    network = scratch("bilstm").double()
    ids, mask, _ = padded(network.vocabulary)
    weight = network.recurrences[0].weight

    def gradient(of: Tensor) -> Tensor:
        vectors = torch.func.functional_call(network, {"recurrences.0.weight": of}, (ids, mask))
        return torch.autograd.grad(network.pool(vectors, mask).sin().sum(), of, create_graph=True)[0]

    at, way, step = weight.detach().requires_grad_(), torch.randn_like(weight), 1e-6
    [exact] = torch.autograd.grad((gradient(at) * way).sum(), at)
    numeric = (gradient(at + step * way) - gradient(at - step * way)) / (2 * step)
    torch.testing.assert_close(exact, numeric, rtol=1e-5, atol=1e-9)


def test_bag_is_the_weighted_mean_of_its_tokens() -> None:
    network = scratch("bag").double()
    ids, mask, lengths = padded(network.vocabulary)
    with torch.no_grad():
        network.embedding.weight[:, 0].normal_()
        pooled = network.pool(network(ids, mask), mask)
        for row, length in enumerate(lengths):
            weights, vectors = network.embedding.weight[ids[row, :length]].split([1, network.dim], dim=-1)
            share = weights.exp() / weights.exp().sum()
            torch.testing.assert_close(pooled[row], (share * vectors).sum(dim=0), rtol=1e-9, atol=1e-12)


def test_cnn_is_the_maximum_over_rectified_windows() -> None:
    network = scratch("cnn", widths=(1, 2, 3)).double()
    assert isinstance(network, CNN)
    ids, mask, lengths = padded(network.vocabulary)
    with torch.no_grad():
        pooled = network.pool(network(ids, mask), mask)
        for row, length in enumerate(lengths):
            x = network.embedding(ids[row, :length])  # (L, d)
            expected = []
            for width, layer in zip(network.widths, network.convolutions, strict=True):
                rows = torch.cat([x.new_zeros((width - 1) // 2, 8), x, x.new_zeros(width // 2, 8)])
                windows = torch.stack([rows[t : t + width].T for t in range(length)])  # (L, d, width)
                scores = torch.einsum("ldw,fdw->lf", windows, layer.weight) + layer.bias
                expected.append(scores.relu().amax(dim=0))
            torch.testing.assert_close(pooled[row], torch.cat(expected), rtol=1e-9, atol=1e-12)


def test_transformer_layer_is_pytorchs() -> None:
    network = scratch("transformer").double()
    assert isinstance(network, Transformer)
    d, n_heads = network.dim, network.settings.n_heads
    reference = nn.TransformerEncoderLayer(
        d, n_heads, 4 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    ids, mask, _ = padded(network.vocabulary)
    x = torch.randn(*ids.shape, d, dtype=torch.float64)
    layer = network.layers[0]
    with torch.no_grad():
        for theirs, ours in (
            (reference.self_attn.in_proj_weight, layer.query_key_value.weight),
            (reference.self_attn.in_proj_bias, layer.query_key_value.bias),
            (reference.self_attn.out_proj.weight, layer.output.weight),
            (reference.self_attn.out_proj.bias, layer.output.bias),
            (reference.linear1.weight, layer.widen.weight),
            (reference.linear1.bias, layer.widen.bias),
            (reference.linear2.weight, layer.narrow.weight),
            (reference.linear2.bias, layer.narrow.bias),
        ):
            theirs.copy_(ours)
        reference.train()  # the plain path, without the fused one that has rounding of its own
        expected = reference(x, src_key_padding_mask=~mask)
        got = layer(x, mask[:, None, None, :])
    torch.testing.assert_close(got[mask], expected[mask], rtol=1e-9, atol=1e-12)


def test_a_transformer_knows_the_order_of_words() -> None:
    network = scratch("transformer")
    ids, mask = pad(network.vocabulary.encode(["lamp on my table", "table on my lamp"]), 0)
    with torch.no_grad():
        one, other = network.pool(network(ids, mask), mask)
    assert not torch.allclose(one, other, atol=1e-4)


def test_heads_must_divide_the_dimension() -> None:
    settings = TransformerSettings(model_dim=10, n_heads=3)
    with pytest.raises(KshotError) as caught:
        Transformer(settings, Vocabulary.words(corpus(), size=100, max_length=8))
    assert str(caught.value) == "model_dim 10 is not a multiple of n_heads 3; choose one that is."


def test_mean_over_real_tokens_alone() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert mean_pool(states, mask).tolist() == [[2.0, 4.0]]
    assert mean_pool(states, torch.zeros_like(mask)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("kind", SCRATCH)
def test_the_seed_decides_the_weights_and_nothing_else(kind: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = scratch(kind, seed=5), scratch(kind, seed=5), scratch(kind, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert any(not torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_embeddings_that_do_not_learn() -> None:
    network = scratch("cnn", train_embeddings=False)
    assert not network.embedding.weight.requires_grad
    assert all(tensor.requires_grad for name, tensor in network.named_parameters() if name != "embedding.weight")


def test_no_weight_is_extreme_at_the_start() -> None:
    for kind in SCRATCH:
        for tensor in scratch(kind).parameters():
            assert tensor.isfinite().all()
            assert tensor.abs().max() < 10 / math.sqrt(2)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("bag", "embedding_dim", -3, "Input should be greater than or equal to 1"),
        ("bag", "vocabulary_size", 0, "Input should be greater than or equal to 1"),
        ("bag", "dropout", 1.5, "Input should be less than 1"),
        ("bag", "dropout", -0.1, "Input should be greater than or equal to 0"),
        ("cnn", "embedding_dim", 0, "Input should be greater than or equal to 1"),
        ("cnn", "n_filters", 0, "Input should be greater than or equal to 1"),
        ("cnn", "widths", [], "Tuple should have at least 1 item after validation, not 0"),
        ("cnn", "widths.0", 0, "Input should be greater than or equal to 1"),
        ("lstm", "hidden_dim", 0, "Input should be greater than or equal to 1"),
        ("lstm", "max_length", -5, "Input should be greater than or equal to 1"),
        ("transformer", "model_dim", 0, "Input should be greater than or equal to 1"),
        ("transformer", "n_heads", 0, "Input should be greater than or equal to 1"),
        ("transformer", "n_layers", -1, "Input should be greater than or equal to 1"),
        ("pretrained", "max_length", 0, "Input should be greater than or equal to 1"),
        ("pretrained", "lora_rank", -1, "Input should be greater than or equal to 0"),
        ("pretrained", "dropout", 1.0, "Input should be less than 1"),
        ("pretrained-causal", "max_length", 0, "Input should be greater than or equal to 1"),
        ("pretrained-seq2seq", "lora_rank", -1, "Input should be greater than or equal to 0"),
    ],
)
def test_a_setting_that_no_encoder_can_have_is_one_sentence(kind: str, key: str, value: object, message: str) -> None:
    name, _, place = key.partition(".")
    encoder = {"kind": kind, "model": "m", name: [value] if place else value}
    if "pretrained" not in kind:
        del encoder["model"]
    with pytest.raises(KshotError) as caught:
        parse_recipe({"encoder": encoder}, "mine.toml")
    assert str(caught.value) == f'mine.toml: "encoder.{key}" cannot be {value!r}: {message}.'
