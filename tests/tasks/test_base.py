"""Batches: some of the texts of one, against the same batch made of fewer sentences."""

import pytest
import torch

from kshot.data.examples import TaggedExample
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.tagging import Tagging, TaggingSettings
from toy import CLASSES, corpus, tagged

EXAMPLES = tagged((2, 2, 2), 0, 2)


def vocabulary(max_length: int = 16) -> Vocabulary:
    return Vocabulary.bpe(corpus(), size=300, max_length=max_length)


@pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
def test_some_texts_of_a_batch_are_the_batch_of_some_sentences(scheme: str) -> None:
    task = Tagging(TaggingSettings(scheme=scheme, class_names=False))  # type: ignore[arg-type]
    words = vocabulary()
    chosen = [1, 2, 5]
    part = task.collate(EXAMPLES, CLASSES[:3], words, support=False).of_texts(chosen)
    expected = task.collate([EXAMPLES[number] for number in chosen], CLASSES[:3], words, support=False)
    assert [text.tolist() for text in part.texts] == [text.tolist() for text in expected.texts]
    vectors = torch.randn(sum(len(EXAMPLES[number].tokens) for number in chosen), 4)
    assert part.groups.keys() == expected.groups.keys()
    for name, group in part.groups.items():
        assert torch.equal(group.labels, expected.groups[name].labels)
        assert torch.equal(group.features(vectors), expected.groups[name].features(vectors))


def test_an_entity_in_two_windows_needs_both() -> None:
    long = TaggedExample(("lamp",) * 30, ("B-light", *["I-light"] * 29))
    task = Tagging(TaggingSettings(scheme="spans", class_names=False))
    batch = task.collate([long], ("light",), vocabulary(8), support=False)
    n_windows = len(batch.texts)
    assert n_windows > 2
    assert len(batch.of_texts(range(n_windows)).groups["entity"].rows) == 1
    part = batch.of_texts([0, n_windows - 1])
    assert len(part.groups["entity"].rows) == 0
    assert batch.words is not None
    assert len(part.groups["boundary"].rows) == len(batch.words[0]) + len(batch.words[-1])
