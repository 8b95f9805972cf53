"""Hugging Face's causal models: their own scores, their cache, and the ways to adapt them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from contract import snapshot
from kshot.artefact import load_learner, save_learner
from kshot.data.dialogue import check_history
from kshot.data.examples import Episode, SentencePair, script_of
from kshot.errors import KshotError
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.meta_learner import MetaLearner, load_task
from kshot.models.build import build_encoder, load_encoder, save_encoder
from kshot.models.encoder import encode, pad
from kshot.models.pretrained_causal import PretrainedCausal, PretrainedCausalSettings
from kshot.models.search import SearchSettings, search
from kshot.models.selection import select
from kshot.run.evaluate import collate
from kshot.tasks.responding import Responding
from kshot.tasks.translation import Translation
from kshot.tasks.writing import Writing, batch_of

PAIRS = (("eno owt", "one two"), ("owt eerht", "two three"), ("eerht eno", "three one"), ("owt", "two"))
FAMILIES = ("gpt2", "llama")
SPARE = 7  # rows of the tables that no token of the tokeniser has
every_family = pytest.mark.parametrize("family", FAMILIES)


def save_tokenizer(family: str, folder: Path) -> Tokenizer:
    """A tokeniser as the family has it: GPT-2 with one token of all ends, Llama with a beginning before each text."""
    texts = [text for pair in PAIRS for text in pair]
    special = ["<|endoftext|>"] if family == "gpt2" else ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=[] if family == "gpt2" else special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if family == "gpt2":
        tokenizer.add_special_tokens(special)  # the last of all, as GPT-2 has it: "!" is 0
    else:
        begin = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def save_tiny(family: str, folder: Path) -> Path:
    """Saves a model of one of the families with random weights as Hugging Face does."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = save_tokenizer(family, folder)
    size = tokenizer.get_vocab_size() + SPARE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any
        if family == "gpt2":
            end = tokenizer.token_to_id("<|endoftext|>")
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=size,
                    n_positions=64,
                    n_embd=16,
                    n_layer=2,
                    n_head=2,
                    initializer_range=0.2,
                    bos_token_id=end,
                    eos_token_id=end,
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                )
            )
        else:
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=size,
                    hidden_size=16,
                    intermediate_size=24,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=64,
                    initializer_range=0.2,
                    bos_token_id=tokenizer.token_to_id("<s>"),
                    eos_token_id=[tokenizer.token_to_id("</s>"), 9],  # as Llama 3, which has several
                    pad_token_id=5,  # a number that no table of a task's own rows must take for another
                    tie_word_embeddings=False,
                )
            )
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    (tmp_path / family).mkdir()
    return save_tiny(family, tmp_path / family)


def network(folder: Path, **changes: Any) -> PretrainedCausal:
    settings = PretrainedCausalSettings(**{"model": str(folder), "max_length": 32, **changes})
    made = build_encoder(settings, [], seed=0).eval()
    assert isinstance(made, PretrainedCausal)
    return made


def inputs(made: PretrainedCausal) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texts and what they are given, padded on both sides."""
    ids, mask = pad([[made.begin_id, 9, 8, 7], [made.begin_id, 20]], 0)  # type: ignore[list-item]
    given, given_mask = pad([[11, made.end_id], [13, 14, 15, made.end_id]], 0)  # type: ignore[list-item]
    return ids, mask, given, given_mask


def learner(made: PretrainedCausal, algorithm: str = "first-order-maml", **inner: Any) -> Learner:
    return build_learner(AlgorithmSettings(name=algorithm, inner=inner), made, Translation()).eval()


def support_of(made: Learner) -> Any:
    pairs = tuple(SentencePair(*pair) for pair in PAIRS)
    return made.task.collate(pairs, (), made.encoder.vocabulary, support=True)


@every_family
def test_scores_are_the_models_own_on_the_whole_sequence(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = network(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    weight, bias = made.output
    batch = batch_of([source for source, _ in PAIRS], [target for _, target in PAIRS], made.vocabulary)
    assert batch.given is not None
    with torch.no_grad():
        vectors = encode(made, batch.texts, words=batch.words, given=batch.given)
        found = torch.nn.functional.linear(vectors, weight, bias).split([len(each) for each in batch.texts])
        for own, (source, target) in zip(found, PAIRS, strict=True):
            plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
            x, y = (plain.encode(text, add_special_tokens=False).ids for text in (source, target))
            whole = torch.tensor([[made.begin_id, *x, made.end_id, *y]])
            wanted = theirs(input_ids=whole).logits[0, 1 + len(x) :, : made.vocabulary.size]
            torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


@every_family
def test_labels_are_the_continuation_and_its_end(folder: Path) -> None:
    made = network(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    batch = batch_of(["owt"], ["two"], made.vocabulary)
    wanted = [*plain.encode("two", add_special_tokens=False).ids, made.end_id]
    assert batch.groups["token"].labels.tolist() == wanted
    assert batch.texts[0].tolist() == [made.begin_id, *wanted[:-1]]
    assert batch.given is not None
    assert batch.given[0].tolist() == [*plain.encode("owt", add_special_tokens=False).ids, made.end_id]


@every_family
def test_a_name_of_a_special_token_in_a_text_is_characters(folder: Path) -> None:
    vocabulary = network(folder).vocabulary
    name = vocabulary.tokenizer.id_to_token(network(folder).end_id)
    [ids] = vocabulary.encode([f"a{name}b"])
    assert set(ids[:-1].tolist()).isdisjoint(vocabulary.special)
    assert vocabulary.decode(ids.tolist()) == f"a{name}b"
    assert vocabulary.length(f"a{name}b") == len(ids)
    assert vocabulary.length(name * 99) > vocabulary.max_length
    assert len(vocabulary.encode([name * 99])[0]) == vocabulary.max_length


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
def test_what_stands_in_padding_does_not_count(folder: Path) -> None:
    made = network(folder)
    ids, mask, given, given_mask = inputs(made)
    other = torch.where(mask, ids, 17), mask, torch.where(given_mask, given, 18), given_mask
    with torch.no_grad():
        assert torch.equal(made(*other)[mask], made(ids, mask, given, given_mask)[mask])
        ours, theirs = (made.step(ids[:, 0], made.read(each, given_mask))[0] for each in (given, other[2]))
        assert torch.allclose(ours, theirs, atol=1e-6)


@every_family
def test_the_best_of_all_continuations_is_found(folder: Path) -> None:
    """With as many beams as there are hypotheses, beam search is a search through all."""
    made = network(folder)
    weight, bias = made.output
    chosen = [11, 12, 13, made.end_id]
    barred = torch.full((made.vocabulary.size,), -torch.inf)
    barred[chosen] = 0.0

    def scores(vectors: Tensor) -> Tensor:
        return torch.nn.functional.linear(vectors, weight, bias) + barred

    given = made.vocabulary.encode(["owt eno"])
    settings = SearchSettings(beam=64, length_penalty=0.7, longest=3)
    [found] = search(made, scores, given, settings)
    tokens = chosen[:3]
    candidates = [(), *((a,) for a in tokens), *((a, b) for a in tokens for b in tokens)]
    likeliest = []
    with torch.no_grad():
        for candidate in candidates:
            ids = torch.tensor([[made.begin_id, *candidate]])
            vectors = made(ids, torch.ones_like(ids, dtype=torch.bool), *pad(given, 0))[0]
            labels = torch.tensor([*candidate, made.end_id])
            likelihood = -torch.nn.functional.cross_entropy(scores(vectors), labels, reduction="sum")
            likeliest.append((settings.score(float(likelihood), len(labels)), candidate))
    best, candidate = max(likeliest)
    assert found.tokens == candidate
    assert found.score == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2"])
def test_the_likeliest_tokens_are_those_of_generate(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = network(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    weight, _ = made.output
    given = made.vocabulary.encode(["owt", "eno owt eerht", "eno"])
    found = search(made, lambda vectors: vectors @ weight.T, given, SearchSettings(beam=1, longest=12))
    for own, text in zip(found, given, strict=True):
        whole = torch.tensor([[made.begin_id, *text.tolist()]])
        n_new = len(own.tokens)
        spare = list(range(made.vocabulary.size, made.vocabulary.size + SPARE))
        wanted = theirs.generate(
            whole,
            attention_mask=torch.ones_like(whole),
            max_new_tokens=n_new,
            do_sample=False,
            suppress_tokens=spare,
            pad_token_id=made.end_id,
        )
        assert list(own.tokens) == wanted[0, whole.shape[1] :].tolist()
        assert n_new > 1


@every_family
def test_only_special_tokens_are_never_written(folder: Path) -> None:
    made = network(folder)
    assert made.unsaid == made.vocabulary.special - {made.end_id}
    assert len(made.unsaid) == (0 if made.begin_id == made.end_id else 2)


@every_family
def test_saved_and_loaded_it_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    made = network(folder)
    (tmp_path / "saved").mkdir()
    save_encoder(made, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again(*inputs(made)), made(*inputs(made)))
    assert [each.tolist() for each in again.vocabulary.encode(["one <s> two"])] == [
        each.tolist() for each in made.vocabulary.encode(["one <s> two"])
    ]
    (tmp_path / "again").mkdir()
    save_encoder(again, tmp_path / "again")
    assert (tmp_path / "again/encoder.safetensors").stat().st_size == (
        tmp_path / "saved/encoder.safetensors"
    ).stat().st_size


@every_family
@pytest.mark.parametrize("algorithm", ["first-order-maml", "matching"])
def test_a_learner_loaded_again_gives_the_same_bits(folder: Path, tmp_path: Path, algorithm: str) -> None:
    made = learner(network(folder), algorithm)
    save_learner(made, tmp_path / "learner", about={})
    again, _ = load_learner(tmp_path / "learner")
    with torch.no_grad():
        ours, theirs = (each.logits(each.adapt(support_of(each)), support_of(each))["token"] for each in (made, again))
    assert torch.equal(ours, theirs)


@every_family
@pytest.mark.parametrize(("moves", "rank"), [("all", 0), ("norm", 0), ("layers", 0), ("top:1", 0), ("lora", 2)])
def test_adapting_lowers_the_loss_and_leaves_the_model_as_it_was(folder: Path, moves: str, rank: int) -> None:
    made = learner(network(folder, lora_rank=rank), moves=moves, test_steps=30, rate=0.003, hold_out=0.0, batch=None)
    before = snapshot(made)
    support = support_of(made)
    with torch.no_grad():
        losses = [float(made._loss(state, support)) for state in (made._start(support, None), made.adapt(support))]
    assert losses[1] < 0.95 * losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


@every_family
def test_the_rows_that_move_are_those_of_the_whole_table(folder: Path) -> None:
    """An inner loop that carries the used rows alone takes the step that one over the whole table takes."""
    made = learner(network(folder), moves="all", test_steps=1, optimiser="sgd", rate=0.1, hold_out=0.0, batch=None)
    support = support_of(made)
    state = made.adapt(support)
    plain = made.encoder
    assert isinstance(plain, PretrainedCausal)
    table = plain.get_parameter(plain.token_table)
    loss_below_the_output(plain, support).backward()
    assert table.grad is not None
    ids, moved = state[f"encoder.{plain.token_table}.ids"], state[f"encoder.{plain.token_table}"]
    assert len(ids) < len(table)
    torch.testing.assert_close(moved, (table - 0.1 * table.grad)[ids].detach(), rtol=1e-4, atol=1e-6)
    assert float((moved - table[ids]).detach().abs().max()) > 1e-4


def loss_below_the_output(made: PretrainedCausal, batch: Any) -> Tensor:
    """The loss of a batch; the output layer is a constant: within a task it parts from a table that it shares."""
    weight, bias = made.output
    vectors = encode(made, batch.texts, words=batch.words, given=batch.given)
    scores = torch.nn.functional.linear(vectors, weight.detach(), bias)
    return torch.nn.functional.cross_entropy(scores, batch.groups["token"].labels)


@every_family
def test_second_order_reaches_every_tensor(folder: Path) -> None:
    made = learner(network(folder), "maml", steps=1).train()
    drawn = Episode(tuple(SentencePair(*pair) for pair in PAIRS[:3]), (SentencePair(*PAIRS[3]),), (), 0)
    made([collate(made, drawn)]).backward()
    for name, tensor in made.named_parameters():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@every_family
def test_what_is_said_step_by_step_has_the_learned_weights(folder: Path) -> None:
    made = learner(network(folder), moves="all", test_steps=3, rate=0.01, hold_out=0.0)
    support = support_of(made)
    scorer = made.scorer(made.adapt(support), support)
    adapted = scorer.network()
    assert isinstance(adapted, PretrainedCausal)
    assert support.given is not None
    with torch.no_grad():
        expected = scorer(support)["token"].split([len(each) for each in support.texts])
        for text, given, whole in zip(support.texts, support.given, expected, strict=True):
            memory = adapted.read(*pad([given], 0))
            for token, row in zip(text.tolist(), whole, strict=True):
                vectors, memory = adapted.step(torch.tensor([token]), memory)
                torch.testing.assert_close(scorer.scores("token", vectors)[0], row, rtol=1e-4, atol=1e-5)


@every_family
def test_words_of_what_moves(folder: Path, family: str) -> None:
    made = network(folder)
    names = [name for name, _ in made.named_parameters()]
    tables = {name for name in names if "wte" in name or "wpe" in name or "embed_tokens" in name}
    assert len(tables) == {"gpt2": 2, "llama": 1}[family]
    assert set(select(made, "layers")) == set(names) - tables
    assert set(select(made, "norm")) == {name for name in names if "ln_" in name or "norm" in name}
    assert set(select(made, "top:1")) == {name for name in names if ".h.1." in name or ".layers.1." in name}
    for word in ("source", "decoder"):  # there is one network, which reads both
        with pytest.raises(KshotError, match=f'"{word}" selects none of the {len(names)} tensors'):
            select(made, word)


@every_family
def test_lora_stands_beside_every_matrix_below_the_output(folder: Path) -> None:
    made = network(folder, lora_rank=2)
    plain = network(folder)
    with torch.no_grad():
        assert torch.equal(made(*inputs(made)), plain(*inputs(plain)))
    matrices = [
        name for name, tensor in plain.named_parameters() if tensor.dim() == 2 and (".h." in name or ".layers." in name)
    ]
    assert len(select(made, "lora")) == 2 * len(matrices)


@every_family
def test_a_user_adapts_one(folder: Path) -> None:
    sources, targets = zip(*PAIRS, strict=True)
    made = MetaLearner(learner(network(folder), "fine-tuning", test_steps=150, rate=0.01, hold_out=0.0))
    task = made.adapt(sources, targets)
    assert task.translate(sources, beam=1) == list(targets)


@every_family
def test_a_user_teaches_one_to_answer(folder: Path, tmp_path: Path) -> None:
    inner = {"test_steps": 150, "rate": 0.01, "hold_out": 0.0}
    made = build_learner(AlgorithmSettings(name="fine-tuning", inner=inner), network(folder), Responding())
    task = MetaLearner(made).adapt([[("user", source), ("system", target)] for source, target in PAIRS])
    assert task.respond([source for source, _ in PAIRS], beam=1) == [target for _, target in PAIRS]
    task.save(tmp_path / "task")
    assert load_task(tmp_path / "task").predict(["owt"]) == task.predict(["owt"])


@every_family
def test_a_long_history_is_cut_from_its_old_side(folder: Path) -> None:
    vocabulary = network(folder).vocabulary
    history = check_history([("user", "eno " * 20), ("system", "owt"), ("user", "eerht")], "History 1")
    read = Responding().read(history, vocabulary)
    assert [each.text for each in read] == ["owt", "eerht"]
    assert vocabulary.length(script_of(read)) <= vocabulary.max_length


@every_family
def test_many_together_are_as_each_alone(folder: Path) -> None:
    made = learner(network(folder), "matching")
    task, support = made.task, support_of(made)
    assert isinstance(task, Writing)
    scorer = made.scorer(made.adapt(support), support)
    given = made.encoder.vocabulary.encode(["owt", "eno owt eerht eno owt", "eerht", "eno eno"])
    settings = SearchSettings(beam=2, longest=6)
    together = task.write(scorer, given, settings)
    alone = [task.write(scorer, [each], settings)[0] for each in given]
    assert [each.tokens for each in together] == [each.tokens for each in alone]
    assert [each.score for each in together] == pytest.approx([each.score for each in alone], abs=1e-4)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(KshotError) as caught:
        network(folder, **changes)
    return str(caught.value)


def configured(folder: Path, **changes: Any) -> Path:
    """The folder with another configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize("family", ["gpt2"])
def test_texts_that_are_too_long(folder: Path) -> None:
    assert network(folder).most_tokens == 32
    assert refusal(folder, max_length=33) == (
        f'max_length 33 is more than half of the 64 positions of "{folder}", which a given text and its continuation '
        "share."
    )


@pytest.mark.parametrize("family", ["llama"])
def test_a_model_without_a_beginning_begins_with_its_end(folder: Path) -> None:
    made = network(configured(folder, bos_token_id=None))
    assert made.begin_id == made.end_id == 2


@pytest.mark.parametrize("family", ["gpt2"])
def test_ends_that_are_not_there(folder: Path) -> None:
    size = network(folder).vocabulary.size
    assert refusal(configured(folder, eos_token_id=50256)) == (
        f'eos_token_id of "{folder}" is 50256, and its tokeniser has {size} tokens; give the number of one of them in '
        "its config.json."
    )
    assert refusal(configured(folder, eos_token_id=None)) == (
        f'"{folder}" names no token that ends a text, and what it writes must end; give eos_token_id in its '
        "config.json."
    )


@pytest.mark.parametrize("family", ["gpt2"])
def test_fewer_rows_than_tokens(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{number}" for number in range(SPARE + 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    assert refusal(folder) == (
        f'"{folder}" has vectors of {size - 1} tokens, and its tokeniser has {size}; give a model whose token '
        "embeddings were resized to its tokeniser."
    )


def test_a_model_without_an_output_layer(tiny_bert: Path) -> None:
    assert refusal(tiny_bert) == (
        f"{tiny_bert} lacks weights of this causal model, cls.predictions.bias for one; give the folder of an "
        "AutoModelForCausalLM."
    )


@pytest.mark.parametrize("family", ["gpt2"])
def test_scores_that_are_not_linear(family: str, tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    end = save_tokenizer(family, tmp_path).token_to_id("<|endoftext|>")
    config = Gemma2Config(
        vocab_size=end + 1,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        initializer_range=0.2,
        final_logit_softcapping=1.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    assert refusal(tmp_path) == (
        f'The scores of "{tmp_path}" are not a linear layer over its last states, so no head can stand in for it; take '
        "another AutoModelForCausalLM, such as a GPT-2, Llama or Qwen."
    )


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_model_that_reads_otherwise_token_by_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose positions nobody can tell it: padding would move its tokens."""
    monkeypatch.setattr(PretrainedCausal, "_arguments", frozenset({"cache", "past_key_values"}))
    assert refusal(folder) == (
        f'"{folder}" reads otherwise token by token than all at once, so it cannot write; take another '
        "AutoModelForCausalLM, such as a GPT-2, Llama or Qwen."
    )


@pytest.mark.parametrize("family", ["gpt2"])
def test_a_model_that_keeps_a_state(folder: Path, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    end = network(folder).end_id
    config = MambaConfig(vocab_size=end + 1, hidden_size=8, state_size=4, num_hidden_layers=1, eos_token_id=end)
    MambaForCausalLM(config).save_pretrained(folder)
    assert refusal(folder) == (
        f'"{folder}" does not keep keys and values of what it has read, so its continuations cannot be searched; take '
        "another AutoModelForCausalLM, such as a GPT-2, Llama or Qwen."
    )


def test_an_encoder_decoder_is_no_causal_model(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(d_model=16).save_pretrained(tmp_path)
    found = refusal(tmp_path)
    assert found.startswith(f"{tmp_path} holds no causal model that transformers can load (")
    assert found.endswith("give the folder of an AutoModelForCausalLM.")
