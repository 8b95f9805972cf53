"""BERT against transformers: the same vectors, the same gradients, the same dropout."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kshot.models.bert import Bert, bert_config
from kshot.models.build import build_encoder, load_encoder, save_encoder
from kshot.models.encoder import encode
from kshot.models.pretrained import PretrainedSettings
from kshot.models.products import Linear
from toy import bert, corpus


def pair(folder: Path) -> tuple[Bert, Any]:
    """The same weights here and in transformers."""
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(folder, attn_implementation="sdpa")
    theirs.pooler = None
    ours = bert(folder, dropout=None).model
    assert isinstance(ours, Bert)
    return ours, theirs


def batch() -> tuple[Tensor, Tensor]:
    """Token numbers, the second text padded."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4:] = False
    return torch.randint(5, 50, (3, 9), generator=generator), mask


def test_the_tensors_have_the_names_of_transformers(tiny_bert: Path) -> None:
    ours, theirs = pair(tiny_bert)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


@pytest.mark.parametrize("padded", [True, False])
def test_the_vectors_are_those_of_transformers(tiny_bert: Path, padded: bool) -> None:
    ours, theirs = pair(tiny_bert)
    ids, mask = batch()
    with torch.no_grad():
        wanted = theirs.eval()(input_ids=ids, attention_mask=mask.long() if padded else None).last_hidden_state
        found = ours.eval()(ids, mask if padded else None)
    rows = mask if padded else torch.ones_like(mask)
    torch.testing.assert_close(found[rows], wanted[rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_in_training_dropout_and_gradients_are_those_of_transformers(tiny_bert: Path, precision: torch.dtype) -> None:
    """A run with transformers' forward pass and one with this have the same course."""
    ours, theirs = pair(tiny_bert)
    ids, mask = batch()
    states = []
    for model, forward in (
        (ours, lambda: ours(ids, mask)),
        (theirs, lambda: theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state),
    ):
        model.train()
        torch.manual_seed(3)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            states.append(forward()[mask].float())
        states[-1].square().sum().backward()
    assert torch.equal(*states)
    assert not torch.equal(states[0], ours.eval()(ids, mask)[mask])  # dropout was on
    for (name, tensor), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert tensor.grad is not None, name
        torch.testing.assert_close(tensor.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_an_encoder_that_transformers_wrote_the_configuration_of(tiny_bert: Path, tmp_path: Path) -> None:
    """Learners that were saved before kshot had a BERT of its own."""
    from transformers import AutoConfig

    encoder = bert(tiny_bert)
    save_encoder(encoder, tmp_path)
    path = tmp_path / "encoder.json"
    description = json.loads(path.read_text())
    description["architecture"]["config"] = AutoConfig.from_pretrained(tiny_bert).to_dict()
    path.write_text(json.dumps(description, default=str))
    again = load_encoder(tmp_path).eval()
    texts = encoder.vocabulary.encode(corpus()[:4])
    with torch.no_grad():
        assert torch.equal(encode(encoder, texts), encode(again, texts))


def test_names_of_older_files_and_layers_on_top(tiny_bert: Path, tmp_path: Path) -> None:
    ours, _ = pair(tiny_bert)
    renamed = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in load_file(tiny_bert / "model.safetensors").items()
    }
    save_file({**renamed, "cls.predictions.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    other = Bert(ours.config)
    other.load_weights(tmp_path)
    assert all(torch.equal(mine, tensor) for mine, tensor in zip(other.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "roberta"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"hidden_size": 17},
    ],
)
def test_variants_are_left_to_transformers(tiny_bert: Path, change: dict[str, Any]) -> None:
    config = json.loads((tiny_bert / "config.json").read_text())
    assert bert_config(config) is not None
    assert bert_config(config | change) is None


def test_a_variant_runs_by_transformers(tiny_bert: Path, tmp_path: Path) -> None:
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tiny_bert / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    encoder = bert(tmp_path)
    assert not isinstance(encoder.model, Bert)
    texts = encoder.vocabulary.encode(corpus()[:4])
    (tmp_path / "saved").mkdir()
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(encode(encoder, texts), encode(again, texts))
        assert not torch.allclose(encode(encoder, texts), encode(bert(tiny_bert), texts))


def test_no_call_of_pytorch_is_looked_at_where_all_layers_are_kshots(tiny_bert: Path) -> None:
    """A mode that sees every call takes a tenth of the time to learn a task from 25 texts."""
    encoder = build_encoder(PretrainedSettings(model=str(tiny_bert), lora_rank=2, max_length=32), [], seed=0)
    assert not encoder.foreign
    linear = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    assert linear
    assert all(isinstance(layer, Linear) for layer in linear)
