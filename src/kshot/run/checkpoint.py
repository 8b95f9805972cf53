"""Checkpoints: all that a run needs to go on exactly as if it had never stopped.

Each is a folder `step-000123` that appears whole, by one rename, before the one before it goes; so at any moment of a
run there is either none or a complete one.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kshot.artefact import new_folder, read_tensors
from kshot.errors import KshotError
from kshot.meta.state import part_of, with_prefix

_FORMAT = 1
_WEIGHTS, _BEST, _OPTIMISER, _PROGRESS = (
    "weights.safetensors",
    "best.safetensors",
    "optimiser.safetensors",
    "progress.json",
)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: Updates done.
        best_step: The step of the best validation so far; 0 is the start.
        best_score: Its accuracy.
        waited: Validations since then.
    """

    step: int
    best_step: int
    best_score: float
    waited: int


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment.

    Attributes:
        progress: How far it has come.
        weights: The tensors that learn.
        best: The same at the best validation.
        optimiser: The optimiser's moments, as `flatten` gives them.
    """

    progress: Progress
    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes a checkpoint beside the earlier ones, which then go."""
    target = folder / f"step-{checkpoint.progress.step:06d}"
    with new_folder(target) as draft:
        save_file(_contiguous(checkpoint.weights), draft / _WEIGHTS)
        save_file(_contiguous(checkpoint.best), draft / _BEST)
        save_file(_contiguous(checkpoint.optimiser), draft / _OPTIMISER)
        written = {"format": _FORMAT, **asdict(checkpoint.progress)}
        (draft / _PROGRESS).write_text(json.dumps(written) + "\n", encoding="utf-8")
    for other in (*_complete(folder), *folder.glob(".step-*")):  # and what a run that was killed left half-written
        if other.name != target.name:
            shutil.rmtree(other, ignore_errors=True)  # no reason to stop a training


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint; None if the run was stopped before its first.

    Raises:
        KshotError: If it is damaged, or of a newer format.
    """
    complete = _complete(folder)
    if not complete:
        return None
    newest = complete[-1]
    try:
        written = json.loads((newest / _PROGRESS).read_text(encoding="utf-8"))
        made_by = written.pop("format")
        if made_by > _FORMAT:
            raise KshotError(
                f"{newest} has format {made_by} and this kshot reads up to {_FORMAT}; upgrade it: pip install -U kshot."
            )
        progress = Progress(**written)
    except (OSError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise KshotError(
            f"{newest / _PROGRESS} is damaged ({error}); remove {newest} to begin again from the start."
        ) from error
    return Checkpoint(progress, *(read_tensors(newest / name) for name in (_WEIGHTS, _BEST, _OPTIMISER)))


def _complete(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    by_step = {path.name.removeprefix("step-"): path for path in folder.glob("step-*") if path.is_dir()}
    return [by_step[step] for step in sorted(filter(str.isdecimal, by_step), key=int)]


def flatten(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's moments as tensors by name."""
    state: dict[str, Tensor] = {}
    for number, moments in optimiser.state_dict()["state"].items():
        state |= with_prefix(moments, str(number))
    return state


def unflatten(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser the moments that `flatten` took."""
    numbers = {name.partition(".")[0] for name in tensors}
    state: dict[int, Any] = {int(number): part_of(dict(tensors), number) for number in numbers}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
