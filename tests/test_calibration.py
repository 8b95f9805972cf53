"""Temperatures from the support: the folds, the optimum and what few rows do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from contract import learner as toy_learner
from kshot.calibration import calibrate, fit_temperature, measure_prior, prior_temperature
from toy import episode, pair, scratch
from users import LABELS, TEXTS, meta_learner


def test_the_temperature_minimises_the_penalised_loss() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(200, 4)), rng.integers(0, 4, 200)
    logits[np.arange(200), labels] += 4

    def objective(log_temperature: float) -> float:
        scores = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scores[np.arange(200), labels].sum() + 2 * (log_temperature - math.log(0.5)) ** 2)

    best = math.exp(minimize_scalar(objective, bounds=(-4, 4), method="bounded").x)
    found = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels), prior=0.5, prior_rows=2)
    assert found == pytest.approx(best, rel=0.02)


def test_scaled_logits_give_a_scaled_temperature() -> None:
    labels = torch.randint(0, 5, (300,))
    logits = torch.randn(300, 5) + 2 * torch.eye(5)[labels]
    one = fit_temperature(logits, labels, prior=1.0, prior_rows=0)
    assert fit_temperature(10 * logits, labels, prior=1.0, prior_rows=0) == pytest.approx(10 * one, rel=0.05)


def test_a_handful_of_easy_rows_does_not_make_certain() -> None:
    logits = 5 * torch.eye(4)  # all right, so that the likeliest temperature is 0
    assert fit_temperature(logits, torch.arange(4), prior=1.0, prior_rows=0) < 0.05
    assert fit_temperature(logits, torch.arange(4), prior=1.0) > 0.4


def test_one_shot_gives_the_prior() -> None:
    task = meta_learner().adapt(["light on", "book it"], ["a", "b"])
    assert task.temperature == 1.0


def test_the_prior_is_that_of_the_learner_or_of_its_algorithm() -> None:
    assert prior_temperature({"temperature": 0.7}, "ridge") == 0.7
    assert prior_temperature({}, "ridge") == 0.5
    assert prior_temperature({}, "prototypical") == 1.0


def test_the_left_out_text_does_not_take_part() -> None:
    """A class that is told apart by nothing but its own text must look hard when that text is left out."""
    learner = toy_learner("nearest-neighbour", scratch("cnn"), class_names=False)
    support, _ = pair(learner, episode(shots=(3, 3, 3)))
    group = support.groups["label"]
    random = replace(support, groups={"label": replace(group, labels=group.labels[torch.randperm(9)])})
    vectors = learner.vectors(support)
    fitted = calibrate(learner, support, vectors, n_texts=9, prior=1.0)
    shuffled = calibrate(learner, random, vectors, n_texts=9, prior=1.0)
    assert shuffled > fitted


@pytest.mark.parametrize("algorithm", ["prototypical", "ridge", "linear-probe", "protomaml"])
def test_a_temperature_is_found_for_every_kind_of_algorithm(algorithm: str) -> None:
    task = meta_learner(algorithm).adapt(TEXTS, LABELS)
    assert 0.02 <= task.temperature <= 50
    assert task.temperature != prior_temperature({}, algorithm)


def test_the_prior_can_be_measured_on_episodes_of_different_ways() -> None:
    learner = meta_learner().learner
    episodes = [
        pair(learner, episode(shots=shots, seed=seed)) for seed, shots in enumerate([(1, 1), (1, 1, 1), (1, 1)])
    ]
    assert 0.02 <= measure_prior(learner, episodes) <= 50
