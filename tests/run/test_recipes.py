"""The figures that recipes promise: minutes each, so not part of `make test` (pytest -m slow)."""

from pathlib import Path

import pytest

from kshot.artefact import load_learner
from kshot.data.catalogue import load_dataset
from kshot.run.config import load_recipe, recipes
from kshot.run.evaluate import evaluate
from kshot.run.train import train


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes() if load_recipe(name).expect])
def test_a_recipe_gives_what_it_promises(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    dataset = load_dataset(recipe.data.name, split=recipe.data.split)
    train(recipe, tmp_path / "run")
    learner, _ = load_learner(tmp_path / "run")
    with learner.encoder.remembering():
        for figure in recipe.expect:
            episodes = dataset.sampler("test", way=figure.way, shot=figure.shot, query=10, seed=0, n_episodes=600)
            found = 100 * evaluate(learner, episodes, time=False).accuracy.mean
            assert found == pytest.approx(figure.accuracy, abs=2 * figure.interval + 0.5), (figure, found)
