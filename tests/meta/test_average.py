"""The mean of learners, and which have none."""

from typing import Any

import numpy as np
import pytest
import torch

from contract import learner, predict, snapshot, translator
from kshot.errors import KshotError
from kshot.meta.average import average
from kshot.meta.learner import Learner
from toy import episode, pair, scratch, seq2seq, translation_episode


def moved(made: Learner, seed: int, size: float = 0.1) -> Learner:
    """The learner after some training, as it were: each tensor with some noise of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor += size * tensor.std(correction=0).clamp_min(0.1) * torch.randn(tensor.shape, generator=generator)
    return made


@pytest.mark.parametrize("kind", ["cnn", "lstm", "transformer"])
@pytest.mark.parametrize("n_learners", [2, 3])
def test_the_mean_is_that_of_numpy(kind: str, n_learners: int) -> None:
    learners = [moved(learner("ridge", scratch(kind)), seed) for seed in range(n_learners)]
    before = [snapshot(each) for each in learners]
    made = snapshot(average(learners))
    for name, tensor in made.items():
        expected = np.mean([each[name].double().numpy() for each in before], axis=0)
        assert np.allclose(tensor.numpy(), expected, atol=1e-6), name
    for each, old in zip(learners, before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in each.state_dict().items())


def test_a_learner_is_the_mean_of_itself() -> None:
    one = learner("prototypical", scratch("cnn"))
    drawn = pair(one, episode(shots=(2, 2, 2), query=2))
    assert torch.allclose(predict(average([one, one]), drawn), predict(one, drawn), atol=1e-6)


def test_it_adapts_as_the_first() -> None:
    """What another algorithm has learned besides the encoder does not count."""
    first, other = moved(learner("ridge", scratch("cnn")), 0), moved(learner("maml", scratch("cnn")), 1)
    made = average([first, other])
    assert made.settings == first.settings
    own, its = first.state_dict(), other.state_dict()
    for name, tensor in made.state_dict().items():
        expected = (own[name] + its[name]) / 2 if name.startswith("encoder.") else own[name]
        assert torch.allclose(tensor, expected, atol=1e-6), name


def test_a_translator_scores_by_its_own_table() -> None:
    """The output layer of an encoder-decoder is its token table, and that of the mean is the mean's."""
    learners = [moved(translator("matching", seq2seq()), seed) for seed in (0, 1)]
    made = average(learners)
    drawn = pair(made, translation_episode())
    table = "encoder." + made.encoder.token_table
    assert torch.allclose(made.state_dict()[table], sum(each.state_dict()[table] for each in learners) / 2, atol=1e-6)
    scores = predict_open(made, drawn)
    with torch.no_grad():
        for tensor in learners[0].parameters():
            tensor.zero_()
    assert torch.equal(predict_open(made, drawn), scores)
    with torch.no_grad():
        made.get_parameter(table).mul_(2.0)
    assert not torch.equal(predict_open(made, drawn), scores)


def predict_open(made: Learner, drawn: Any) -> torch.Tensor:
    support, query = drawn
    with torch.no_grad():
        [scores] = made.logits(made.adapt(support), query).values()
    return scores


# -- what has no mean --------------------------------------------------------------------------------------------------


def test_one_learner_has_no_mean() -> None:
    with pytest.raises(KshotError) as caught:
        average([learner("ridge", scratch("cnn"))])
    assert str(caught.value) == "A mean needs two learners or more; give others besides the first."


def test_networks_of_other_structure() -> None:
    with pytest.raises(KshotError) as caught:
        average([learner("ridge", scratch("lstm")), learner("ridge", scratch("lstm", hidden_dim=6))])
    assert str(caught.value) == (
        "The encoder of learner 2 is not built as that of the first: hidden_dim is 6 and "
        f"{scratch('lstm').settings.model_dump()['hidden_dim']}; only networks of one structure have a mean."
    )
    with pytest.raises(KshotError, match="The encoder of learner 3 is not built as that of the first: "):
        average([learner("ridge", scratch("lstm"))] * 2 + [learner("ridge", scratch("cnn"))])


def test_networks_of_other_words() -> None:
    one, other = learner("ridge", scratch("cnn")), learner("ridge", scratch("cnn"))
    other.encoder.vocabulary.tokenizer.add_tokens(["a new word"])
    with pytest.raises(KshotError, match=r"The encoder of learner 2 has another vocabulary than that of the first; "):
        average([one, other])


def test_strangers() -> None:
    with pytest.raises(KshotError) as caught:
        average([learner("ridge", scratch("transformer", seed=seed)) for seed in (0, 1)])
    assert str(caught.value).startswith("The weights of learner 2 have nothing to do with those of the first (cosine ")
