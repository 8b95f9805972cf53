"""Portions of a support: every text has its turn, and what is held out is never learned from."""

from hypothesis import given
from hypothesis import strategies as st

from kshot.data.examples import TextExample
from kshot.meta.portions import hold_out, portions
from kshot.tasks.base import Batch
from kshot.tasks.classification import Classification, ClassificationSettings
from kshot.tasks.tagging import Tagging
from kshot.tasks.translation import Translation
from toy import CLASSES, scratch, sentence_pairs, seq2seq, tagged

VOCABULARY = seq2seq().vocabulary


def batch_of(n: int) -> Batch:
    return Translation().collate(sentence_pairs(n), (), VOCABULARY, support=True)


def names(batch: Batch) -> list[int]:
    """What tells its texts apart."""
    return [id(text) for text in batch.texts]


@given(st.integers(1, 20), st.integers(1, 8))
def test_every_text_has_its_turn_once_a_round(n: int, size: int) -> None:
    batch = batch_of(n)
    portion = portions(batch, size)
    if size >= n:
        assert portion(0) is portion(7) is batch
        return
    n_parts = -(-n // size)
    parts = [names(portion(step)) for step in range(n_parts)]
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(name for part in parts for name in part) == sorted(names(batch))
    assert [names(portion(n_parts + step)) for step in range(n_parts)] == parts
    assert names(portion(0)) == names(batch)[::n_parts]


def test_the_whole_support_is_one_object() -> None:
    batch = batch_of(5)
    assert portions(batch, None)(3) is batch
    assert portions(batch, 5)(3) is batch


def test_a_portion_depends_on_its_number_and_the_number_of_texts_alone() -> None:
    one, other = batch_of(7), batch_of(7)
    for step in (0, 5, 2, 2):
        places = [names(batch).index(name) for batch in (one, other) for name in names(portions(batch, 2)(step))]
        assert places[:2] == places[2:]


@given(st.integers(2, 20), st.floats(0.01, 0.99))
def test_what_is_held_out_is_not_learned_from(n: int, share: float) -> None:
    batch = batch_of(n)
    learned_from, held_out = hold_out(batch, share, open=True)
    assert len(held_out.texts) == min(max(round(share * n), 1), n - 1)
    assert len(learned_from.texts) + len(held_out.texts) == n
    assert set(names(learned_from)) | set(names(held_out)) == set(names(batch))
    again, _ = hold_out(batch, share, open=True)
    assert names(again) == names(learned_from)
    order = {name: place for place, name in enumerate(names(batch))}
    assert [order[name] for name in names(held_out)] == sorted(order[name] for name in names(held_out))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.floats(0.01, 0.99), st.booleans())
def test_every_label_keeps_a_text_to_learn_from(numbers: list[int], share: float, class_names: bool) -> None:
    examples = [TextExample(f"text {place}", CLASSES[number]) for place, number in enumerate(numbers)]
    classes = sorted({each.label for each in examples})
    task = Classification(ClassificationSettings(class_names=class_names))
    batch = task.collate(examples, classes, scratch("bag").vocabulary, support=True)
    learned_from, held_out = hold_out(batch, share)
    n = len(batch.texts)
    assert sorted(names(learned_from) + names(held_out)) == sorted(names(batch))
    assert len(held_out.texts) == min(max(round(share * n), 1), n - len(classes))
    assert set(learned_from.groups["label"].labels.tolist()) == set(range(len(classes)))


def test_every_type_keeps_a_sentence_to_learn_from() -> None:
    sentences = tagged((3, 2, 1), 0, 1)
    batch = Tagging().collate(sentences, CLASSES[:3], scratch("bag").vocabulary, support=True)
    learned_from, held_out = hold_out(batch, 0.9)
    assert 1 <= len(held_out.texts) < len(batch.texts)
    assert set(learned_from.groups["tag"].labels.tolist()) == set(batch.groups["tag"].labels.tolist())
