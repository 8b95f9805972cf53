"""How texts go through an encoder: in any company the same, in as few and as full calls as pay."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from contract import ENCODERS, encoder
from kshot.models.attention import twice_differentiable
from kshot.models.encoder import CALL_OVERHEAD, encode, pad, plan_calls
from toy import corpus, scratch

LENGTHS = st.lists(st.integers(1, 70), max_size=60).map(lambda found: np.array(found, dtype=np.int64))


def cost(calls: list[np.ndarray], lengths: np.ndarray) -> int:
    """Padded tokens, and the overhead of each call."""
    return sum(len(call) * int(lengths[call].max()) + CALL_OVERHEAD for call in calls)


@given(LENGTHS, st.integers(1, 2_000))
@example(np.array([30, 30, 30, 30]), 50)
def test_each_text_is_in_one_call_and_no_call_is_too_large(lengths: np.ndarray, most_tokens: int) -> None:
    calls = plan_calls(lengths, most_tokens)
    assert sorted(row for call in calls for row in call) == list(range(len(lengths)))
    for call in calls:
        assert len(call) == 1 or len(call) * lengths[call].max() <= most_tokens


@given(LENGTHS)
def test_no_cut_between_lengths_is_better(lengths: np.ndarray) -> None:
    calls = plan_calls(lengths, most_tokens=1_000_000)
    if not len(lengths):
        assert calls == []
        return
    ordered = np.argsort(lengths, kind="stable")
    one_call = [ordered]
    assert cost(calls, lengths) <= cost(one_call, lengths)
    for cut in range(1, len(lengths)):
        assert cost(calls, lengths) <= cost([ordered[:cut], ordered[cut:]], lengths)


def test_padding() -> None:
    ids, mask = pad([np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_vector_does_not_depend_on_its_company(kind: str, tiny_bert: Path) -> None:
    network = encoder(kind, tiny_bert).double()
    texts = network.vocabulary.encode([*corpus()[:20], "lamp", "", "the " * 40])
    with torch.no_grad():
        for tensor in network.parameters():  # as after some training: no bias is zero
            tensor.add_(0.1 * torch.randn_like(tensor))
        together = encode(network, texts)
        alone = torch.cat([encode(network, [text]) for text in texts])
        backwards = encode(network, texts[::-1]).flip(0)
        ids, mask = pad(texts, network.vocabulary.pad_id)
        in_one_call = network.pooled(ids, mask)
    assert together.shape == (len(texts), network.dim)
    for other in (alone, backwards, in_one_call):
        torch.testing.assert_close(together, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_fills_up_a_batch_is_never_read(kind: str, tiny_bert: Path) -> None:
    network = encoder(kind, tiny_bert)
    ids, mask = pad(network.vocabulary.encode(["lamp", "please switch the lamp on now"]), 0)
    other = torch.where(mask, ids, torch.full_like(ids, 7))
    with torch.no_grad():
        assert torch.equal(network.pool(network(ids, mask), mask), network.pool(network(other, mask), mask))


@pytest.mark.parametrize("kind", ENCODERS)
def test_other_weights_take_the_place_of_its_own(kind: str, tiny_bert: Path) -> None:
    network, other = encoder(kind, tiny_bert), encoder(kind, tiny_bert)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
        texts = network.vocabulary.encode(corpus()[:5])
        own = encode(network, texts)
        given_others = encode(network, texts, dict(other.named_parameters()))
        torch.testing.assert_close(given_others, encode(other, texts), rtol=1e-4, atol=1e-5)  # layers one by one
        assert torch.equal(encode(network, texts), own)
    assert not torch.equal(own, given_others)


def test_no_texts_give_no_vectors() -> None:
    network = scratch("cnn")
    assert encode(network, []).shape == (0, network.dim)


def test_half_precision_gives_float32_vectors_nearby() -> None:
    network = scratch("transformer")
    texts = network.vocabulary.encode(corpus()[:8])
    with torch.no_grad():
        exact, rough = encode(network, texts), encode(network, texts, precision=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_remembered_vectors_are_the_same_and_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = scratch("lstm")
    texts = network.vocabulary.encode(corpus()[:6])
    with torch.no_grad():
        fresh = encode(network, texts)
    n_texts = 0
    pooled = network.pooled

    def counting(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        nonlocal n_texts
        n_texts += len(ids)
        return pooled(ids, mask)

    monkeypatch.setattr(network, "pooled", counting)
    with network.remembering():
        torch.testing.assert_close(encode(network, texts), fresh)
        with network.remembering():
            torch.testing.assert_close(encode(network, texts[::-1]), fresh.flip(0))
        assert torch.equal(encode(network, texts[2:3]), encode(network, texts)[2:3])
    assert n_texts == len({text.tobytes() for text in texts})
    encode(network, texts)
    assert n_texts > 6


@pytest.mark.parametrize("kind", ["transformer", "bert"])
def test_attention_can_be_differentiated_twice(kind: str, tiny_bert: Path) -> None:
    network = encoder(kind, tiny_bert).double()
    # Short and long ones, so that attention has a mask in some calls and none in others.
    texts = network.vocabulary.encode(["lamp", "song album", "the lamp is on my table now please"])
    weights = {name: tensor for name, tensor in network.named_parameters() if name.endswith("weight")}
    name = next(name for name in weights if "query" in name)
    with twice_differentiable():

        def gradient(weight: torch.Tensor) -> torch.Tensor:
            loss = encode(network, texts, {name: weight}).square().sum(dim=0).sin().sum()
            return torch.autograd.grad(loss, weight, create_graph=True)[0]

        at = weights[name].detach().requires_grad_()
        way = torch.randn_like(at)
        [exact] = torch.autograd.grad((gradient(at) * way).sum(), at)
        step = 1e-6
        numeric = (gradient(at + step * way) - gradient(at - step * way)) / (2 * step)
    torch.testing.assert_close(exact, numeric, rtol=1e-5, atol=1e-8)
