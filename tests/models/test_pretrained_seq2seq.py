"""Hugging Face's encoder-decoders: their own scores, their cache, and the ways to adapt them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contract import snapshot
from kshot.data.examples import Episode, SentencePair
from kshot.errors import KshotError
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta_learner import MetaLearner, load_task
from kshot.models.build import build_encoder, load_encoder, save_encoder
from kshot.models.pretrained_seq2seq import PretrainedSeq2Seq, PretrainedSeq2SeqSettings
from kshot.models.selection import select
from kshot.models.vocabulary import END, Vocabulary
from kshot.run.evaluate import collate
from kshot.tasks.responding import Responding
from kshot.tasks.translation import Translation

PAIRS = (("eno owt", "one two"), ("owt eerht", "two three"), ("eerht eno", "three one"), ("owt", "two"))
FAMILIES = ("marian", "bart", "t5")
every_family = pytest.mark.parametrize("family", FAMILIES)


def save_tiny(family: str, folder: Path) -> Path:
    """Saves a model of one of the families with random weights as Hugging Face does."""
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        MarianConfig,
        MarianMTModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    vocabulary = Vocabulary.cased([text for pair in PAIRS for text in pair], size=290, max_length=32)
    vocabulary.save(folder)
    ids: dict[str, Any] = {
        "vocab_size": vocabulary.size + 3,  # as T5, which has rows to spare
        "pad_token_id": vocabulary.pad_id,
        "eos_token_id": vocabulary.number_of(END),
        "decoder_start_token_id": vocabulary.begin_id,
    }
    sizes: dict[str, Any] = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 40,
        "init_std": 0.2,
        "dropout": 0.0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any
        if family == "marian":
            model = MarianMTModel(MarianConfig(**sizes, **ids))
        elif family == "bart":
            model = BartForConditionalGeneration(
                BartConfig(**sizes, **ids, forced_eos_token_id=None, bos_token_id=vocabulary.begin_id)
            )
        else:
            model = T5ForConditionalGeneration(
                T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0, **ids)
            )
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.1)
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    (tmp_path / family).mkdir()
    return save_tiny(family, tmp_path / family)


def network(folder: Path, **changes: Any) -> PretrainedSeq2Seq:
    made = build_encoder(PretrainedSeq2SeqSettings(model=str(folder), max_length=32, **changes), [], seed=0).eval()
    assert isinstance(made, PretrainedSeq2Seq)
    return made


def inputs(made: PretrainedSeq2Seq) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texts and what they are given, padded on both sides."""
    pad = made.vocabulary.pad_id
    ids = torch.tensor([[made.begin_id, 9, 8, 7], [made.begin_id, 20, pad, pad]])
    given = torch.tensor([[11, 12, made.end_id], [13, made.end_id, pad]])
    mask = ids != pad
    mask[:, 0] = True
    return ids, mask, given, given != pad


def learner(made: PretrainedSeq2Seq, algorithm: str = "first-order-maml", **inner: Any) -> Learner:
    return build_learner(AlgorithmSettings(name=algorithm, inner=inner), made, Translation()).eval()


@every_family
def test_scores_are_the_models_own(folder: Path) -> None:
    made = network(folder)
    ids, mask, given, given_mask = inputs(made)
    weight, bias = made.output
    with torch.no_grad():
        found = torch.nn.functional.linear(made(ids, mask, given, given_mask), weight, bias)
        wanted = made.model(
            input_ids=given, attention_mask=given_mask.long(), decoder_input_ids=ids, decoder_attention_mask=mask.long()
        ).logits
    assert torch.allclose(found[mask], wanted[mask, : made.vocabulary.size], atol=1e-5)


@every_family
def test_step_by_step_as_all_at_once(folder: Path) -> None:
    made = network(folder)
    ids, mask, given, given_mask = inputs(made)
    with torch.no_grad():
        wanted = made(ids, mask, given, given_mask)
        memory = made.read(given, given_mask)
        for place in range(ids.shape[1]):
            found, memory = made.step(ids[:, place], memory)
            rows = mask[:, place]
            assert torch.allclose(found[rows], wanted[rows, place], atol=1e-5)
            if place == 1:  # hypotheses are put in another order
                turned = torch.tensor([1, 0])
                again, _ = made.step(ids[turned, 2], memory.select(turned))
                there, _ = made.step(ids[:, 2], memory)
                assert torch.allclose(again, there[turned], atol=1e-6)


@every_family
def test_saved_and_loaded_it_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    made = network(folder)
    (tmp_path / "saved").mkdir()
    save_encoder(made, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again(*inputs(made)), made(*inputs(made)))
    (tmp_path / "again").mkdir()
    save_encoder(again, tmp_path / "again")
    assert (tmp_path / "again/encoder.safetensors").stat().st_size == (
        tmp_path / "saved/encoder.safetensors"
    ).stat().st_size


@every_family
@pytest.mark.parametrize(("moves", "rank"), [("all", 0), ("norm", 0), ("source", 0), ("decoder", 0), ("lora", 2)])
def test_adapting_lowers_the_loss_and_leaves_the_model_as_it_was(folder: Path, moves: str, rank: int) -> None:
    made = learner(network(folder, lora_rank=rank), moves=moves, test_steps=30, rate=0.003, hold_out=0.0, batch=None)
    before = snapshot(made)
    pairs = tuple(SentencePair(*pair) for pair in PAIRS)
    support = made.task.collate(pairs, (), made.encoder.vocabulary, support=True)
    with torch.no_grad():
        losses = [float(made._loss(state, support)) for state in (made._start(support, None), made.adapt(support))]
    assert losses[1] < 0.95 * losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


@every_family
def test_padding_that_is_no_token_of_the_text(folder: Path) -> None:
    """As Marian's, the last of its table: an inner loop carries a table of fewer rows."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": network(folder).vocabulary.size}))
    made = learner(network(folder), moves="all", test_steps=5, rate=0.003, hold_out=0.0, batch=None)
    pairs = tuple(SentencePair(*pair) for pair in PAIRS)
    support = made.task.collate(pairs, (), made.encoder.vocabulary, support=True)
    with torch.no_grad():
        losses = [float(made._loss(state, support)) for state in (made._start(support, None), made.adapt(support))]
    assert losses[1] < losses[0]


@every_family
def test_second_order_reaches_every_tensor(folder: Path) -> None:
    made = learner(network(folder), "maml", steps=1).train()
    drawn = Episode(tuple(SentencePair(*pair) for pair in PAIRS[:3]), (SentencePair(*PAIRS[3]),), (), 0)
    made([collate(made, drawn)]).backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@pytest.mark.parametrize("family", ["t5"])
def test_a_user_adapts_one(folder: Path, tmp_path: Path) -> None:
    sources, targets = zip(*PAIRS, strict=True)
    made = MetaLearner(learner(network(folder), "fine-tuning", test_steps=150, rate=0.01, hold_out=0.0))
    task = made.adapt(sources, targets)
    assert task.translate(sources, beam=1) == list(targets)


@pytest.mark.parametrize("family", ["t5"])
def test_a_user_teaches_one_to_answer(folder: Path, tmp_path: Path) -> None:
    inner = {"test_steps": 150, "rate": 0.01, "hold_out": 0.0}
    made = build_learner(AlgorithmSettings(name="fine-tuning", inner=inner), network(folder), Responding())
    task = MetaLearner(made).adapt([[("user", source), ("system", target)] for source, target in PAIRS])
    assert task.respond([source for source, _ in PAIRS], beam=1) == [target for _, target in PAIRS]
    task.save(tmp_path / "task")
    assert load_task(tmp_path / "task").predict(["owt"]) == task.predict(["owt"])


@pytest.mark.parametrize("family", ["t5"])
def test_words_of_what_moves(folder: Path) -> None:
    made = network(folder)
    names = [name for name, _ in made.named_parameters()]
    assert set(select(made, "layers")) == {name for name in names if ".block." in name or "final_layer_norm" in name}
    assert set(select(made, "top:1")) == {name for name in names if ".block.1." in name}


@pytest.mark.parametrize("family", ["bart"])
def test_what_cannot_be_is_refused(folder: Path, tiny_bert: Path) -> None:
    with pytest.raises(KshotError) as caught:
        build_encoder(PretrainedSeq2SeqSettings(model=str(folder), max_length=64), [], seed=0)
    assert str(caught.value) == f'max_length 64 is more than the 40 positions of "{folder}".'
    with pytest.raises(KshotError, match="holds no encoder-decoder that transformers can load") as caught:
        build_encoder(PretrainedSeq2SeqSettings(model=str(tiny_bert)), [], seed=0)
    assert str(caught.value).endswith("give the folder of an AutoModelForSeq2SeqLM.")
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(KshotError) as caught:
        network(folder)
    assert str(caught.value) == (
        f"{folder} lacks weights of this encoder-decoder, model.decoder.layers.0.fc1.weight for one; give the folder "
        "of an AutoModelForSeq2SeqLM."
    )
