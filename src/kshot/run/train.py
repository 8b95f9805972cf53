"""Meta-training: the outer loop, from a recipe to a saved learner."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from kshot.artefact import damaged, load_learner, new_folder, save_learner
from kshot.calibration import measure_prior
from kshot.data.catalogue import load_dataset
from kshot.data.dataset import Dataset
from kshot.data.draws import Sampler
from kshot.data.examples import Episode, Example
from kshot.errors import KshotError
from kshot.meta.algorithms import algorithm, build_learner
from kshot.meta.learner import Learner, Pair
from kshot.meta.step import MetaStep
from kshot.models.build import build_encoder
from kshot.models.kernels import explain
from kshot.models.selection import select
from kshot.models.vocabulary import TokenIds
from kshot.run.checkpoint import Checkpoint, Progress, flatten, load_checkpoint, save_checkpoint, unflatten
from kshot.run.config import Recipe, TrainingSettings, parse_recipe
from kshot.run.evaluate import Estimate, Evaluation, collate, evaluate
from kshot.run.log import Log
from kshot.run.memory import keep_freed_memory
from kshot.tasks.base import Batch
from kshot.tasks.kinds import build_task

_RECIPE, _CHECKPOINTS, _LEARNER = "recipe.json", "checkpoints", "learner"
_TEMPERATURE_EPISODES = 20
_STREAMS = {"training": 0, "validation": 1, "judgement": 2}  # each draws other episodes of the same seed


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        learner: The learner that was kept.
        best_step: The step whose weights it has; 0 for the start.
        share: How far they lie on the way from the start to the trained weights.
        start: The start on fresh episodes of the `valid` classes.
        trained: The trained learner on the same episodes.
        lift: The paired difference of the two.
        kept_start: Whether meta-training did not pay and the start was kept.
    """

    learner: Learner
    best_step: int
    share: float
    start: Evaluation
    trained: Evaluation
    lift: Estimate
    kept_start: bool


def train(recipe: Recipe, out: Path, *, resume: bool = False) -> Outcome:
    """Meta-trains a learner and saves it.

    Writes `recipe.json`, `metrics.jsonl`, `checkpoints/` and at the end `learner/` into the folder. On a CPU a run that
    was stopped and resumed gives the same learner, bit for bit, as one that was not. The process keeps memory that is
    freed (`kshot.run.memory`).

    Args:
        recipe: What to train, on what, and how.
        out: The run's folder.
        resume: Whether to go on where a run in this folder stopped.

    Raises:
        KshotError: If the folder holds a run and `resume` is not set, or holds that of another recipe.
    """
    begun = _is_begun(out, recipe, resume)
    dataset = load_dataset(recipe.data.name, split=recipe.data.split)
    learner = start_learner(recipe, dataset)
    _check(recipe, dataset, learner)
    if not begun:  # only now, so that a recipe that cannot run leaves nothing behind
        with new_folder(out) as draft:
            (draft / _RECIPE).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (draft / _CHECKPOINTS).mkdir()
    start = _copy(learner.state_dict())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner.to(device)
    learner.precision = getattr(torch, recipe.training.precision)
    learner.kernels = recipe.training.kernels
    keep_freed_memory()
    best_step = _meta_train(recipe, dataset, learner, out) if recipe.training.steps else 0
    outcome = _judge(recipe, dataset, learner, start, best_step)
    outcome.learner.precision, outcome.learner.kernels = torch.float32, "auto"
    save_learner(outcome.learner, out / _LEARNER, about=_about(recipe, dataset, outcome))
    return outcome


def start_learner(recipe: Recipe, dataset: Dataset) -> Learner:
    """Builds the learner of a recipe with its first weights; what does not learn is frozen."""
    texts = [text for example in dataset.train for text in example.texts]
    if not recipe.start:
        encoder = build_encoder(recipe.encoder, texts, seed=recipe.seed)
    else:
        encoder = load_learner(Path(recipe.start))[0].encoder
    task = build_task(recipe.task.model_dump()).learned_from(dataset.train)
    learner = build_learner(recipe.algorithm, encoder, task, seed=recipe.seed)
    chosen = set(select(encoder, recipe.training.trains))
    for name, tensor in encoder.named_parameters():
        tensor.requires_grad_(tensor.requires_grad and name in chosen)
    return learner


def sampler(recipe: Recipe, dataset: Dataset, stream: str, n_episodes: int) -> Sampler:
    """The episodes of a run's stream: `training`, `validation`, or `judgement`, fresh ones of the `valid` part."""
    settings = recipe.training if stream == "training" else recipe.validation
    part = "train" if stream == "training" else "valid"
    return dataset.sampler(
        part,
        way=settings.way,
        shot=settings.shot,
        query=settings.query,
        seed=recipe.seed * len(_STREAMS) + _STREAMS[stream],
        n_episodes=n_episodes,
        skip_small=recipe.data.skip_small,
        augment=recipe.training.augment if stream == "training" else (),
    )


# -- the outer loop ----------------------------------------------------------------------------------------------------


def _meta_train(recipe: Recipe, dataset: Dataset, learner: Learner, out: Path) -> int:
    """Trains until the end or until patience runs out; leaves the best weights in the learner, returns their step."""
    settings = recipe.training
    episodes = sampler(recipe, dataset, "training", settings.steps * settings.episodes_per_step)
    validation = sampler(recipe, dataset, "validation", recipe.validation.episodes)
    optimiser = _optimiser(learner, settings)
    own = {name: tensor for name, tensor in learner.named_parameters() if tensor.requires_grad}

    checkpoint = load_checkpoint(out / _CHECKPOINTS)
    if checkpoint is None:
        score = evaluate(learner, validation, time=False).main.mean
        to_beat = score if recipe.validation.keep_start else -math.inf
        progress, best = Progress(step=0, best_step=0, best_score=to_beat, waited=0), _copy(own)
    else:
        learner.load_state_dict(dict(checkpoint.weights), strict=False)
        unflatten(optimiser, checkpoint.optimiser)
        progress, best = checkpoint.progress, dict(checkpoint.best)

    frozen = settings.trains == "none" and learner.shares_weights
    with (
        Log(out, n_steps=settings.steps, done=progress.step) as log,
        learner.encoder.remembering() if frozen else nullcontext(),
    ):
        for part, drawn in (("train", episodes), ("valid", validation)):
            if drawn.skipped:
                log.say(f"Left out of {part}, with too few examples: {', '.join(drawn.skipped)}.")
        log.say(explain(learner.kernels, learner.device))
        if checkpoint is None:
            log.figures(0, valid=score)
        take = MetaStep(learner, settings.tasks, ahead=settings.steps - progress.step, say=log.say)
        begin = perf_counter()
        for step in range(progress.step, settings.steps):
            if recipe.validation.patience and progress.waited >= recipe.validation.patience:
                log.say(f"No better validation in {progress.waited}: stopped after {step} steps.")
                break
            loss = _update(recipe, take, learner, optimiser, episodes, step)
            log.step(step + 1, loss)
            log.figures(step + 1, loss=loss)
            if (step + 1) % recipe.validation.every == 0 or step + 1 == settings.steps:
                result = evaluate(learner, validation, time=False).main
                better = result.mean > progress.best_score
                if better:
                    progress, best = Progress(step + 1, step + 1, result.mean, 0), _copy(own)
                else:
                    progress = Progress(step + 1, progress.best_step, progress.best_score, progress.waited + 1)
                log.validation(step + 1, str(result), better)
                log.figures(step + 1, valid=result.mean, seconds=perf_counter() - begin)
                save_checkpoint(Checkpoint(progress, own, best, flatten(optimiser)), out / _CHECKPOINTS)
    learner.load_state_dict(best, strict=False)
    return progress.best_step


def _update(
    recipe: Recipe,
    take: MetaStep,
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    episodes: Sampler,
    step: int,
) -> float:
    """One update of the shared weights; depends on the weights, the moments and the step alone."""
    settings = recipe.training
    progress = step / settings.steps
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * rate_factor(step, settings)
    first = step * settings.episodes_per_step
    drawn = [episodes[first + i] for i in range(settings.episodes_per_step)]
    if settings.rotate:
        drawn = [turned for episode in drawn for turned in rotations(episode)]
    pairs = cut_tokens([collate(learner, episode) for episode in drawn], settings.token_cutoff, (recipe.seed, step))
    learner.train()
    if settings.trains == "none":
        learner.encoder.eval()
    optimiser.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # dropout, so that a resumed run draws the same
        loss = take(pairs, progress)
    if settings.clip:
        torch.nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.grad is not None], settings.clip)
    optimiser.step()
    return loss


def rate_factor(step: int, settings: TrainingSettings) -> float:
    """The share of the peak rate at a step: a linear rise, then constant, or a line or half a cosine down to 0."""
    warm = round(settings.warmup * settings.steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - done
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))


def _optimiser(learner: Learner, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW with a rate for the encoder and one for the rest; vectors and scalars do not decay."""
    of_heads = settings.head_learning_rate
    rates = {True: settings.learning_rate, False: settings.learning_rate if of_heads is None else of_heads}
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, tensor in learner.named_parameters():
        if tensor.requires_grad:
            groups.setdefault((name.startswith("encoder."), tensor.ndim > 1), []).append(tensor)
    if not groups:
        raise KshotError(
            'Nothing in this learner learns: training.trains is "none" and its head has no weights; '
            "set training.steps=0."
        )
    return torch.optim.AdamW(
        [
            {"params": tensors, "peak": rates[encoder], "weight_decay": settings.weight_decay if matrix else 0.0}
            for (encoder, matrix), tensors in groups.items()
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),  # short runs: moments that forget sooner
    )


def rotations(episode: Episode) -> list[Episode]:
    """The episodes in which each `shot` texts of a class are the support in turn, and its other texts the query.

    A class whose texts are not a multiple of its shots gives its last ones to the query every time.
    """
    texts: dict[str, list[Example]] = {name: [] for name in episode.classes}
    for example in (*episode.support, *episode.query):
        texts[example.labels[0]].append(example)
    shots = episode.shots
    n_turns = min(len(texts[name]) // shots[name] for name in episode.classes)
    turned = []
    for turn in range(n_turns):
        support: list[Example] = []
        query: list[Example] = []
        for name, rows in texts.items():
            first, last = turn * shots[name], (turn + 1) * shots[name]
            support += rows[first:last]
            query += rows[:first] + rows[last:]
        turned.append(Episode(tuple(support), tuple(query), episode.classes, episode.index))
    return turned


def cut_tokens(pairs: Sequence[Pair], share: float, seed: tuple[int, int]) -> list[Pair]:
    """Drops a share of each text's tokens, the first and the last aside; a text loses the same wherever it stands."""
    if not share:
        return list(pairs)
    generator = np.random.default_rng(seed)
    shorter: dict[int, TokenIds] = {}

    def shortened(batch: Batch) -> Batch:
        for text in batch.texts:
            if id(text) not in shorter:
                kept = generator.random(len(text)) >= share
                kept[[0, -1]] = True
                shorter[id(text)] = text[kept]
        return replace(batch, texts=tuple(shorter[id(text)] for text in batch.texts))

    return [(shortened(support), shortened(query)) for support, query in pairs]


# -- the judgement -----------------------------------------------------------------------------------------------------


def _judge(recipe: Recipe, dataset: Dataset, learner: Learner, start: Mapping[str, Tensor], best_step: int) -> Outcome:
    """Chooses what is still open on `valid`, and compares with the start on fresh episodes of it."""
    trained = _copy(learner.state_dict())
    candidates = (
        [(start, 0.0)]
        if not best_step
        else [(_between(start, trained, share), share) for share in recipe.training.average]
    )
    weights, share, learner = _best_on_valid(recipe, dataset, learner, candidates)

    fresh = sampler(recipe, dataset, "judgement", recipe.validation.episodes)
    learner.load_state_dict(dict(start))
    of_start = evaluate(learner, fresh)
    learner.load_state_dict(weights)
    of_trained = evaluate(learner, fresh) if best_step else of_start
    lift = of_trained.lift(of_start)
    may_keep = recipe.validation.keep_start and algorithm(recipe.algorithm.name).meta_trained
    keeps_start = may_keep and not lift.mean - lift.half_width > 0
    if keeps_start:
        learner.load_state_dict(dict(start))
    return Outcome(learner, 0 if keeps_start else best_step, share, of_start, of_trained, lift, keeps_start)


def _best_on_valid(
    recipe: Recipe, dataset: Dataset, learner: Learner, candidates: Sequence[tuple[Mapping[str, Tensor], float]]
) -> tuple[dict[str, Tensor], float, Learner]:
    """The best of some weights, with class names or without: they, their share of the way, and the learner to use."""
    learners = [learner]
    if getattr(recipe.task, "class_names", False) and recipe.validation.choose_names:
        nameless = build_task(learner.task.settings.model_copy(update={"class_names": False}).model_dump())
        other = build_learner(learner.settings, learner.encoder, nameless)
        other.precision, other.kernels = learner.precision, learner.kernels
        learners.append(other.to(learner.device))
    if len(candidates) * len(learners) == 1:
        return dict(candidates[0][0]), candidates[0][1], learner
    validation = sampler(recipe, dataset, "validation", recipe.validation.episodes)
    scores: dict[tuple[int, int], float] = {}
    for i, (weights, _) in enumerate(candidates):
        learner.load_state_dict(dict(weights))
        with learner.encoder.remembering():
            for j, each in enumerate(learners):
                each.load_state_dict(dict(weights))
                scores[i, j] = evaluate(each, validation, time=False).main.mean
    i, j = max(scores, key=lambda pair: scores[pair])
    weights, share = candidates[i]
    return dict(weights), share, learners[j]


def _between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The point `share` of the way from `start` to `end`."""
    if share == 1.0:
        return dict(end)
    return {name: torch.lerp(start[name].to(end[name].device), end[name], share) for name in end}


def _temperature_sampler(recipe: Recipe, dataset: Dataset) -> Sampler:
    """The episodes of which the temperature is measured of tasks that have nothing to find their own by: one-shot."""
    one_shot = recipe.validation.model_copy(update={"shot": 1})
    return sampler(recipe.model_copy(update={"validation": one_shot}), dataset, "judgement", _TEMPERATURE_EPISODES)


def _prior_temperature(recipe: Recipe, dataset: Dataset, learner: Learner) -> float:
    with learner.eval().encoder.remembering():
        return measure_prior(learner, [collate(learner, each) for each in _temperature_sampler(recipe, dataset)])


def _about(recipe: Recipe, dataset: Dataset, outcome: Outcome) -> dict[str, object]:
    measured = (
        {} if outcome.learner.task.open else {"temperature": _prior_temperature(recipe, dataset, outcome.learner)}
    )
    return {
        **measured,
        "title": recipe.title,
        "recipe": recipe.model_dump(mode="json"),
        "trained_on": dataset.name,
        "training_classes": sorted({label for example in dataset.train for label in example.labels}),
        "best_step": outcome.best_step,
        "share": outcome.share,
        "kept_start": outcome.kept_start,
        "valid": {"start": outcome.start.summary(), "trained": outcome.trained.summary(), "lift": outcome.lift.mean},
    }


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _is_begun(out: Path, recipe: Recipe, resume: bool) -> bool:
    """Whether the folder holds this run already; refuses one that holds another, or other things."""
    path = out / _RECIPE
    if path.is_file():
        if not resume:
            raise KshotError(f"{out} already holds a run; go on with it by --resume, or give another folder to --out.")
        if _recipe_in(path) != recipe:
            raise KshotError(
                f"{out} holds a run of another recipe; resume with the settings in {path}, or give another --out."
            )
        return True
    if out.is_dir() and any(out.iterdir()):
        raise KshotError(f"{out} is not empty and holds no run; give a new folder to --out.")
    return False


def _recipe_in(path: Path) -> Recipe:
    """The recipe of a run; keys that did not exist yet when it was written have their defaults."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not text
        raise damaged(path, error) from error
    return parse_recipe(values, str(path))


def _check(recipe: Recipe, dataset: Dataset, learner: Learner) -> None:
    """Refuses, before anything is written, episodes that cannot be drawn and learners that cannot learn."""
    if recipe.task.kind != "classification":
        for key in ("rotate", "token_cutoff"):
            if getattr(recipe.training, key):
                raise KshotError(f"training.{key} is for classification: it would take words apart; leave it out.")
    if recipe.training.steps:
        sampler(recipe, dataset, "training", 1)
        _optimiser(learner, recipe.training)
    judging = [sampler(recipe, dataset, each, recipe.validation.episodes) for each in ("validation", "judgement")]
    if not learner.task.open:
        judging.append(_temperature_sampler(recipe, dataset))
    for episodes in judging:
        for _ in episodes:  # drawn, since one that cannot be would cost a finished training
            pass
