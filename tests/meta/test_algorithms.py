"""The list of algorithms, and what their settings refuse."""

from typing import Any

import pytest
import torch

from contract import ALGORITHMS, TRANSLATING
from kshot.errors import KshotError
from kshot.meta.algorithms import HEADS, algorithm, build_learner
from kshot.meta.heads import Head
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.encoder import Encoder
from kshot.models.lora import add_lora
from kshot.tasks.classification import Classification
from kshot.tasks.tagging import Tagging
from kshot.tasks.translation import Translation
from kshot.tasks.understanding import Understanding
from toy import scratch, seq2seq


def make(name: str, encoder: Encoder | None = None, **settings: Any) -> Learner:
    return build_learner(AlgorithmSettings(name=name, **settings), encoder or scratch("cnn"), Classification())


def test_every_algorithm_of_the_design_is_listed() -> None:
    assert set(ALGORITHMS) >= {
        "prototypical",
        "matching",
        "relation",
        "induction",
        "ridge",
        "maml",
        "first-order-maml",
        "maml++",
        "anil",
        "meta-sgd",
        "protomaml",
        "reptile",
        "fine-tuning",
        "linear-probe",
        "nearest-neighbour",
    }


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_names_its_source(name: str) -> None:
    preset = ALGORITHMS[name]
    assert preset.title
    assert preset.head in HEADS
    assert "arXiv:" in preset.source or not preset.meta_trained
    if preset.meta_trained:  # and so does its head, or its inner loop does
        head = HEADS[preset.head][1]
        assert issubclass(head, Head)
        assert head.__doc__


def test_an_unknown_algorithm() -> None:
    with pytest.raises(KshotError) as caught:
        algorithm("gpt")
    assert str(caught.value) == f'There is no algorithm "gpt". Known: {", ".join(ALGORITHMS)}.'
    with pytest.raises(KshotError, match=r'^There is no algorithm "mamml"\. Did you mean "maml"\? Known: '):
        algorithm("mamml")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "maml",
            {"inner": {"setps": 3}},
            'The setting "setps" of maml\'s inner loop is unknown. Did you mean "steps"?',
        ),
        (
            "prototypical",
            {"head": {"colour": "red"}},
            'The setting "colour" of prototypical\'s head is unknown. It takes: metric, scale, normalise.',
        ),
        (
            "maml",
            {"inner": {"steps": -1}},
            'The setting "steps" of maml\'s inner loop cannot be -1: Input should be greater than or equal to 0.',
        ),
        (
            "maml",
            {"head": {"rows": "three"}},
            "The setting \"rows\" of maml's head cannot be 'three': Input should be 'shared'.",
        ),
        (
            "ridge",
            {"head": {"penalty": 0}},
            'The setting "penalty" of ridge\'s head cannot be 0: Input should be greater than 0.',
        ),
        (
            "maml",
            {"inner": {"rate": -1}},
            'The setting "rate" of maml\'s inner loop cannot be -1: Input should be greater than or equal to 0.',
        ),
        (
            "anchored",
            {"head": {"momentum": 1.0}},
            'The setting "momentum" of anchored\'s head cannot be 1.0: Input should be less than 1.',
        ),
        (
            "linear-probe",
            {"head": {"max_iter": 0}},
            'The setting "max_iter" of linear-probe\'s head cannot be 0: Input should be greater than or equal to 1.',
        ),
        (
            "maml",
            {"inner": {"optimiser": "adam"}},
            'maml\'s inner loop cannot be differentiated twice through adam; set order to 1, or optimiser to "sgd".',
        ),
        (
            "ridge",
            {"inner": {"steps": 2}},
            'ridge\'s inner loop has nothing to move: its head is fitted in one go and moves is "none"; '
            'set steps to 0, or moves to "all".',
        ),
        (
            "maml",
            {"inner": {"moves": "norm"}},
            '"norm" selects none of the 5 tensors of this encoder; '
            "choose one of all, none, layers, norm, lora, source, decoder, or top:N for the last N layers.",
        ),
    ],
)
def test_settings_that_cannot_be(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(KshotError) as caught:
        make(name, **settings)
    assert str(caught.value) == message


def test_batch_statistics_are_refused() -> None:
    encoder = scratch("cnn")
    encoder.add_module("norm", torch.nn.BatchNorm1d(4))
    with pytest.raises(KshotError) as caught:
        make("prototypical", encoder)
    assert str(caught.value) == (
        'The encoder\'s layer "norm" keeps batch statistics, which leak between tasks; use LayerNorm.'
    )
    untracked = scratch("cnn")
    untracked.add_module("norm", torch.nn.BatchNorm1d(4, track_running_stats=False))
    make("prototypical", untracked)


def test_only_what_learns_moves() -> None:
    frozen = scratch("cnn", train_embeddings=False)
    assert "embedding.weight" not in make("maml", frozen).moves
    assert make("anil").moves == ()
    assert make("prototypical").moves == ()
    lora = scratch("transformer")
    add_lora(lora, rank=2, alpha=4.0)
    moves = make("maml", lora, inner={"moves": "lora"}).moves
    assert moves
    assert all("lora_" in name for name in moves)


def test_presets_are_their_papers() -> None:
    assert make("maml").second_order
    assert not make("first-order-maml").second_order
    assert not make("anil").second_order  # of the encoder, which its inner loop does not move
    assert make("prototypical").shares_weights
    assert not make("maml").shares_weights
    assert {tensor.shape for tensor in make("maml++").inner.rates.values()} == {(5,)}
    meta_sgd = make("meta-sgd")
    own = dict(meta_sgd.encoder.named_parameters())
    for name in meta_sgd.moves:
        assert meta_sgd.inner.rates[f"encoder.{name}".replace(".", "/")].shape == own[name].shape


# -- a head for each group ---------------------------------------------------------------------------------------------


def test_one_group_of_a_task_may_have_another_head() -> None:
    settings = AlgorithmSettings(
        name="nearest-neighbour", heads={"intent": {"kind": "ridge", "scale": 3.0}, "tag": {"scale": 7.0}}
    )
    made = build_learner(settings, scratch("cnn"), Understanding())
    assert type(made.heads["intent"]).__name__ == "Ridge"
    assert made.heads["intent"].settings.scale == 3.0
    assert type(made.heads["tag"]).__name__ == "Nearest"
    assert made.heads["tag"].settings.scale == 7.0
    with pytest.raises(KshotError) as caught:
        build_learner(
            AlgorithmSettings(name="ridge", heads={"intent": {"kind": "ridges"}}), scratch("cnn"), Understanding()
        )
    assert str(caught.value).startswith(
        'There is no head "ridges" for intent. Did you mean "ridge"? Known: prototypes, '
    )
    with pytest.raises(KshotError) as caught:
        build_learner(AlgorithmSettings(name="ridge", heads={"slot": {"scale": 2.0}}), scratch("cnn"), Understanding())
    assert str(caught.value) == (
        'There is no group "slot" in understanding, whose head ridge could set. Its groups: intent, tag.'
    )


# -- open labels -------------------------------------------------------------------------------------------------------


def test_what_learns_where_labels_are_open() -> None:
    assert set(TRANSLATING) == {
        "matching",
        "maml",
        "first-order-maml",
        "maml++",
        "anil",
        "meta-sgd",
        "reptile",
        "fine-tuning",
        "nearest-neighbour",
    }
    for name in TRANSLATING:
        made = build_learner(AlgorithmSettings(name=name), seq2seq(), Translation())
        settings = made.inner.settings
        assert bool(made.moves) == bool(settings.steps or settings.test_steps) == (settings.hold_out > 0)
        assert settings.optimiser == "sgd" or settings.order == 1
    anil = build_learner(AlgorithmSettings(name="anil"), seq2seq(), Translation())
    assert all("decoder." in name for name in anil.moves)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in TRANSLATING])
def test_what_needs_an_example_of_every_label(name: str) -> None:
    with pytest.raises(KshotError) as caught:
        build_learner(AlgorithmSettings(name=name), seq2seq(), Translation())
    assert str(caught.value) == (
        f"{name} needs an example of every label, and in translation any token of a vocabulary may come; take one of "
        "matching, maml, first-order-maml, maml++, anil, meta-sgd, reptile, fine-tuning, nearest-neighbour."
    )


def test_an_encoder_that_does_not_fit_the_task() -> None:
    with pytest.raises(KshotError) as caught:
        build_learner(AlgorithmSettings(name="maml"), scratch("cnn"), Translation())
    assert str(caught.value) == (
        'An encoder of kind "cnn" cannot write, so it is none for translation; take an encoder-decoder.'
    )
    for task, kind in ((Classification(), "classification"), (Tagging(), "tagging")):
        with pytest.raises(KshotError) as caught:
            build_learner(AlgorithmSettings(name="maml"), seq2seq(), task)
        assert str(caught.value) == (
            f'An encoder of kind "encoder-decoder" reads two texts and writes, so it is none for {kind}; take one that '
            "reads."
        )
