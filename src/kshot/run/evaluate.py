"""How well, and how fast, a learner adapts to tasks it has never seen."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from kshot.artefact import check_file, new_file
from kshot.data.catalogue import load_dataset
from kshot.data.examples import Episode
from kshot.errors import KshotError
from kshot.meta.adaptations import side_by_side
from kshot.meta.learner import Learner, Pair
from kshot.meta_learner import load
from kshot.run.bootstrap import paired_bootstrap
from kshot.run.config import Count
from kshot.run.together import can_score_together, score_together
from kshot.tasks.translation import Translation

_TIMED_EPISODES = 11
_TIMED_SECONDS = 10.0  # after which no further adaptation is timed: slow ones vary less


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        mean: The mean.
        half_width: Half the width of the interval: Student's t over the episodes.
    """

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.half_width:.1f}"


@dataclass(frozen=True)
class Evaluation:
    """The scores of a learner on some episodes.

    Attributes:
        measures: The names of the scores, the one that decides first.
        scores: One row an episode, one column a measure, (n_episodes, n_measures).
        seconds: The median time of an adaptation from raw text, nothing being cached.
        translations: Of translators, what was made of each source, episode by episode.
    """

    measures: tuple[str, ...]
    scores: NDArray[np.float64]
    seconds: float
    translations: Sequence[Sequence[str]] = ()

    def of(self, measure: str) -> Estimate:
        """The mean of a measure over the episodes."""
        return estimate(self.scores[:, self.measures.index(measure)])

    @property
    def main(self) -> Estimate:
        """The mean of the measure that decides."""
        return estimate(self.scores[:, 0])

    @property
    def accuracy(self) -> Estimate:
        """Mean accuracy, of tasks that have one."""
        return self.of("accuracy")

    def lift(self, other: "Evaluation") -> Estimate:
        """The mean difference of the main measure to another learner's on the same episodes, its interval paired."""
        return estimate(self.scores[:, 0] - other.scores[:, 0])

    def summary(self) -> dict[str, float]:
        """The figures, for a file."""
        figures: dict[str, float] = {}
        for measure in self.measures:
            key, value = measure.lower().replace(" ", "_"), self.of(measure)
            figures |= {key: value.mean, f"{key}_interval": value.half_width}
        return {**figures, "seconds_per_adaptation": self.seconds, "episodes": len(self.scores)}


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of some values and its 95% interval by Student's t; infinite for a single value."""
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()), math.inf)
    return Estimate(float(values.mean()), float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)))


def collate(learner: Learner, episode: Episode) -> Pair:
    """An episode as the learner takes it."""
    vocabulary = learner.encoder.vocabulary
    support = learner.task.collate(episode.support, episode.classes, vocabulary, support=True)
    query = learner.task.collate(episode.query, episode.classes, vocabulary, support=False)
    return support, query


def evaluate(learner: Learner, episodes: Sequence[Episode], *, time: bool = True) -> Evaluation:
    """Adapts to each episode and scores the queries.

    Args:
        learner: The learner; it is put into evaluation mode, and back.
        episodes: What to adapt to, usually a sampler.
        time: Whether a few adaptations are timed besides.
    """
    was_training = learner.training
    translations: list[list[str]] = []
    learner.eval()
    try:
        with torch.no_grad(), learner.encoder.remembering():
            if can_score_together(episodes, learner):
                scores = score_together(episodes, learner)
            else:
                scores, translations = score_each(learner, episodes)
        seconds = _seconds(learner, episodes) if time else math.nan
    finally:
        learner.train(was_training)
    return Evaluation(learner.task.measures, scores, seconds, translations)


def score_each(learner: Learner, episodes: Sequence[Episode]) -> tuple[NDArray[np.float64], list[list[str]]]:
    """Adapts to each episode and scores its queries, perhaps several at once (`kshot.meta.adaptations`).

    Returns:
        One row an episode, one column a measure; and the `Evaluation.translations`.
    """

    def scored(number: int) -> tuple[tuple[float, ...], list[str] | None]:
        episode, task = episodes[number], learner.task
        support, query = collate(learner, episode)
        scorer = learner.scorer(learner.adapt(support), query)
        if isinstance(task, Translation):  # kept, since comparing two needs them again
            assert query.given is not None
            texts = task.texts(scorer, query.given)
            return task.judge(texts, episode.query), texts
        return task.score(scorer, query, episode.query, episode.classes), None

    found = list(side_by_side(learner, scored, range(len(episodes))))
    scores = np.array([values for values, _ in found], dtype=np.float64)
    return scores, [texts for _, texts in found if texts is not None]


def _references(episode: Episode) -> list[str]:
    return [target for pair in episode.query for target in pair.texts[1:]]


def _seconds(learner: Learner, episodes: Sequence[Episode]) -> float:
    """The median over a few episodes of the time from texts to a State, tokenising included."""
    times: list[float] = []
    for i in range(min(_TIMED_EPISODES, len(episodes))):
        if sum(times) > _TIMED_SECONDS:
            break
        episode = episodes[i]
        learner.encoder.vocabulary.forget()
        with learner.encoder.forgetting():
            begin = perf_counter()
            learner.adapt(
                learner.task.collate(episode.support, episode.classes, learner.encoder.vocabulary, support=True)
            )
            times.append(perf_counter() - begin)
    return median(times)


def evaluate_run(
    run: Path,
    *,
    data: str,
    split: str | None = None,
    part: str = "test",
    way: Count | None = None,
    shot: Count = 5,
    query: Count = 5,
    episodes: int = 600,
    seed: int = 0,
    algorithm: str | None = None,
    against: Path | None = None,
    json_file: Path | None = None,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Evaluates a saved learner on a part of a data set.

    Args:
        run: The folder of a run or of a learner.
        data: The name of a data set, or a path.
        split: Which of its published splits; None for the first.
        part: `train`, `valid` or `test`.
        way: Classes of an episode, see `Dataset.sampler`; None for `Dataset.usual_way`.
        shot: Examples to learn from.
        query: Examples to be judged by.
        episodes: How many episodes.
        seed: Which episodes.
        algorithm: Another algorithm over the learner's encoder; None for its own.
        against: The folder of a learner to compare with, which adapts to the same episodes; None for none.
        json_file: Where the figures are written as well.
        show: Is given the figures before they are written, so that they are seen even if there is no room for the file.

    Returns:
        The figures and the settings that they belong to; also written to `json_file`, with the scores of each
        episode.

    Raises:
        KshotError: If the run or the data cannot be used, or the file cannot be written.
    """
    if json_file is not None:
        check_file(json_file)
    loaded = load(run)
    learner = (loaded if algorithm is None else loaded.variant(algorithm=algorithm)).learner
    other = None if against is None else load(against).learner
    if other is not None and type(other.task) is not type(learner.task):
        raise KshotError(f"{against} learns {other.task.kind}, not {learner.task.kind}; compare two of one kind.")
    dataset = load_dataset(data, split=split)
    way = dataset.usual_way if way is None else way
    sampler = dataset.sampler(part, way=way, shot=shot, query=query, seed=seed, n_episodes=episodes)
    evaluation = evaluate(learner, sampler)
    compared: Mapping[str, Any] = {}
    if other is not None:
        compared = {"against": str(against), **_differences(evaluation, evaluate(other, sampler, time=False), sampler)}
    settings: Mapping[str, Any] = {
        "run": str(run),
        "algorithm": learner.settings.name,
        "data": dataset.name,
        "part": part,
        "way": way,
        "shot": shot,
        "shot_counts": dataset.shot_counts,
        "query": query,
        "seed": seed,
    }
    figures = {
        **settings,
        "measures": list(evaluation.measures),
        **evaluation.summary(),
        **compared,
        "signatures": list(learner.task.signatures()),
        "numbers": sorted(learner.task.numbers),
    }
    if show is not None:
        show(figures)
    if json_file is not None:
        each = {
            f"each_{name}": column.tolist()
            for name, column in zip(evaluation.measures, evaluation.scores.T, strict=True)
        }
        with new_file(json_file) as file:
            file.write(json.dumps({**figures, **each}, indent=2) + "\n")
    return figures


def _differences(ours: Evaluation, theirs: Evaluation, episodes: Sequence[Episode]) -> dict[str, Any]:
    """The differences of two learners on the same episodes; of translators also by the bootstrap over sentences."""
    figures: dict[str, Any] = {}
    for place, measure in enumerate(ours.measures):
        difference = estimate(ours.scores[:, place] - theirs.scores[:, place])
        key = measure.lower().replace(" ", "_")
        figures |= {f"{key}_difference": difference.mean, f"{key}_difference_interval": difference.half_width}
    if ours.translations:
        references = [_references(episodes[i]) for i in range(len(episodes))]
        found = paired_bootstrap(ours.translations, theirs.translations, references)
        figures["bootstrap"] = {"points": found.points, "low": found.low, "high": found.high}
    return figures
