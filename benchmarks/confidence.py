"""Calibration and out-of-scope detection of the learners that `benchmarks/accuracy.py` trained.

    python benchmarks/confidence.py                    after accuracy.py

All test classes at once, 5 shots, every other text a query: the expected calibration error (15 bins of equal width; the
mean over draws, and of all draws together), beside that of scikit-learn's logistic regression on the frozen features;
for clinc150 also the area under the ROC curve of the out-of-scope score on its 1,200 out-of-scope requests, and of the
largest probability. Nothing but the support rows is used.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import kshot
from kshot.data.catalogue import load_dataset
from kshot.data.examples import Episode
from kshot.meta_learner import MetaLearner
from kshot.models.build import build_encoder
from kshot.models.encoder import Encoder, encode
from kshot.models.pretrained import PretrainedSettings
from kshot.run.evaluate import estimate

BINS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/confidence.json"))
    arguments = parser.parse_args()
    encoder = build_encoder(PretrainedSettings(max_length=64), [], seed=0).eval()
    figures = {}
    for run in sorted(arguments.runs.glob("*/learner")):
        data, _, split = run.parent.name.partition("-")
        learner = kshot.load(run)
        with encoder.remembering(), learner.learner.encoder.remembering():  # each text is encoded once
            figures[run.parent.name] = measure(learner, data, split, encoder, arguments.draws, arguments.shot)
        print(run.parent.name, figures[run.parent.name], flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for data in ("clinc150", "hwu64"):
        rows = [row for name, row in figures.items() if name.startswith(data)]
        for key in rows[0] if rows else ():
            print(data, key, f"{np.mean([row[key] for row in rows]):.3f}")


def measure(learner: MetaLearner, data: str, split: str, encoder: Encoder, n_draws: int, shot: int) -> dict[str, float]:
    """The figures of one split."""
    dataset = load_dataset(data, split=split)
    outside = [example.text for example in dataset.out_of_scope]
    ours, theirs, areas, softmax_areas = [], [], [], []
    for episode in dataset.sampler("test", way="all", shot=shot, query="all", seed=1, n_episodes=n_draws):
        task = learner.adapt(episode.support, classes=episode.classes)
        texts = [example.text for example in episode.query]
        truth = np.array([episode.classes.index(example.label) for example in episode.query])
        probabilities = task.predict_proba(texts)
        ours.append((probabilities.max(axis=1), probabilities.argmax(axis=1) == truth))
        theirs.append(logistic(encoder, episode, truth))
        if outside:
            is_outside = np.repeat([0, 1], [len(texts), len(outside)])
            areas.append(roc_auc_score(is_outside, task.out_of_scope(texts + outside)))
            of_outside = task.predict_proba(outside).max(axis=1)
            softmax_areas.append(roc_auc_score(is_outside, -np.concatenate([probabilities.max(axis=1), of_outside])))
    figures: dict[str, Any] = {
        "ece": estimate(np.array([calibration_error(*draw) for draw in ours])).mean,
        "ece_pooled": calibration_error(*map(np.concatenate, zip(*ours, strict=True))),
        "ece_logistic_regression": estimate(np.array([calibration_error(*draw) for draw in theirs])).mean,
    }
    if outside:
        figures |= {"auroc": float(np.mean(areas)), "auroc_largest_probability": float(np.mean(softmax_areas))}
    return figures


def logistic(
    encoder: Encoder, episode: Episode, truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence and rightness of scikit-learn's logistic regression (its defaults) on frozen vectors of length 1."""

    def vectors(texts: list[str]) -> NDArray[np.float64]:
        found = encode(encoder, encoder.vocabulary.encode(texts)).detach().numpy()
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    labels = [episode.classes.index(example.label) for example in episode.support]
    model = LogisticRegression(max_iter=200).fit(vectors([example.text for example in episode.support]), labels)
    probabilities = model.predict_proba(vectors([example.text for example in episode.query]))
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The mean gap of confidence and accuracy over bins of confidence (Guo et al. 2017, arXiv:1706.04599, eq. 3)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.sum(gaps))


if __name__ == "__main__":
    main()
