"""Recipes: typed, and refusing what they do not know."""

from pathlib import Path

import pytest

from kshot.errors import KshotError
from kshot.run.config import load_recipe, recipes


@pytest.mark.parametrize("name", recipes())
def test_every_carried_recipe_is_valid(name: str) -> None:
    assert load_recipe(name).title


def test_a_change_replaces_a_value() -> None:
    recipe = load_recipe("minilm-hwu64", ["training.steps=7", "data.split=fewshot_03"])
    assert recipe.training.steps == 7
    assert recipe.data.split == "fewshot_03"


def test_another_data_set_takes_a_split_of_its_own() -> None:
    assert load_recipe("translation-joint").data.split == "into_english"
    assert load_recipe("translation-joint", ["data.name=mine.jsonl"]).data.split is None
    recipe = load_recipe("translation-joint", ["data.split=from_english", "data.name=tico19"])
    assert (recipe.data.name, recipe.data.split) == ("tico19", "from_english")


def test_a_whole_section_may_be_new(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n', encoding="utf-8")
    recipe = load_recipe(str(path), ["training.way=[2, 5]", "algorithm.inner.steps=3", "algorithm.name=maml"])
    assert recipe.training.way == (2, 5)
    assert recipe.algorithm.inner == {"steps": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stesp=3", 'minilm-hwu64: the key "training.stesp" is unknown. Did you mean "steps"?'),
        ("trainin.steps=3", 'minilm-hwu64: the key "trainin" is unknown. Did you mean "training"?'),
        ("encoder.pooling_=cls", 'minilm-hwu64: the key "encoder.pooling_" is unknown. Did you mean "pooling"?'),
        (
            "training.steps=many",
            "minilm-hwu64: \"training.steps\" cannot be 'many': "
            "Input should be a valid integer, unable to parse string as an integer.",
        ),
        (
            "training.learning_rate=-1",
            'minilm-hwu64: "training.learning_rate" cannot be -1: Input should be greater than or equal to 0.',
        ),
        (
            "training.average=[]",
            'minilm-hwu64: "training.average" cannot be []: Tuple should have at least 1 item after validation, not 0.',
        ),
        (
            "training.average=[0.5, 1.5]",
            'minilm-hwu64: "training.average.1" cannot be 1.5: Input should be less than or equal to 1.',
        ),
        (
            "seed=99999999999999",
            'minilm-hwu64: "seed" cannot be 99999999999999: Input should be less than 4294967296.',
        ),
        ("steps", '"steps" is not a change of a recipe; write section.key=value, such as training.steps=100.'),
        ("title.x=1", '"title" in "title.x=1" is a value, not a section of the recipe.'),
    ],
)
def test_a_wrong_change_is_one_sentence(change: str, message: str) -> None:
    with pytest.raises(KshotError) as refusal:
        load_recipe("minilm-hwu64", [change])
    assert str(refusal.value) == message


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(KshotError) as refusal:
        load_recipe("minilm-hwu46")
    assert str(refusal.value) == (
        f'There is no recipe "minilm-hwu46": neither a file nor one of {", ".join(recipes())}. '
        'Did you mean "minilm-hwu64"?'
    )


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("title = \n", encoding="utf-8")
    with pytest.raises(KshotError) as refusal:
        load_recipe(str(path))
    assert str(refusal.value) == f"{path} is not valid TOML: Invalid value (at line 1, column 9)."


def test_a_file_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "caffè"\n', encoding="utf-8-sig")
    assert load_recipe(str(path)).title == "caffè"
    path.write_text('\ntitle = "caffè"\n', encoding="latin-1")
    with pytest.raises(KshotError) as refusal:
        load_recipe(str(path))
    assert str(refusal.value) == f"{path}, line 2: byte 14 (0xe8) is not UTF-8; save the file as UTF-8."


def test_an_unknown_kind_of_encoder_lists_the_known(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[encoder]\nkind = "gru"\n', encoding="utf-8")
    with pytest.raises(KshotError) as refusal:
        load_recipe(str(path))
    assert str(refusal.value) == (
        f'{path}: "encoder" needs a kind, one of bag, cnn, lstm, transformer, pretrained, encoder-decoder, '
        "pretrained-seq2seq, pretrained-causal."
    )
