"""Checkpoints: whole or not there, and read with care."""

import errno
import json
from pathlib import Path

import pytest
import torch

from kshot.errors import KshotError
from kshot.run.checkpoint import Checkpoint, Progress, flatten, load_checkpoint, save_checkpoint, unflatten
from kshot.run.log import Log


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        Progress(step, best_step=1, best_score=0.5, waited=0),
        {"w": torch.full((2,), float(step))},
        {"w": torch.ones(2)},
        {"0.exp_avg": torch.zeros(2)},
    )


def test_the_newest_is_read_and_the_older_is_gone(tmp_path: Path) -> None:
    for step in (2, 10):
        save_checkpoint(checkpoint(step), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000010"]
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.progress == Progress(10, 1, 0.5, 0)
    assert found.weights["w"].tolist() == [10.0, 10.0]


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_half_written_one_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(2), tmp_path)
    (tmp_path / ".step-000004-abc").mkdir()
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.step == 2


def test_what_is_no_checkpoint_stays_and_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "step-000002-the-best-so-far").mkdir()
    (tmp_path / ".step-000001-abc").mkdir()
    save_checkpoint(checkpoint(1), tmp_path)
    save_checkpoint(checkpoint(2), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".DS_Store", "step-000002-the-best-so-far", "step-000002"}
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.step == 2


def test_the_millionth_step_comes_after_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_checkpoint(checkpoint(999_999), tmp_path / "other")
    save_checkpoint(checkpoint(1_000_000), tmp_path)
    (tmp_path / "other" / "step-999999").rename(tmp_path / "step-999999")  # as if killed before it went
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.step == 1_000_000


def test_a_damaged_one_says_so(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(2), tmp_path)
    path = tmp_path / "step-000002" / "progress.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(KshotError) as refusal:
        load_checkpoint(tmp_path)
    assert str(refusal.value) == (
        f"{path} is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
        f"remove {path.parent} to begin again from the start."
    )


def test_a_newer_one_asks_for_an_upgrade(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(2), tmp_path)
    path = tmp_path / "step-000002" / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": 99}), encoding="utf-8")
    with pytest.raises(KshotError) as refusal:
        load_checkpoint(tmp_path)
    assert str(refusal.value) == (
        f"{path.parent} has format 99 and this kshot reads up to 1; upgrade it: pip install -U kshot."
    )


def test_an_optimiser_goes_on_from_flat_tensors() -> None:
    def steps(n: int, saved: dict[str, torch.Tensor] | None, start: torch.Tensor) -> tuple[torch.Tensor, object]:
        weight = start.clone().requires_grad_()
        optimiser = torch.optim.AdamW([weight], lr=0.1)
        if saved is not None:
            unflatten(optimiser, saved)
        for _ in range(n):
            optimiser.zero_grad()
            weight.square().sum().backward()
            optimiser.step()
        return weight.detach(), flatten(optimiser)

    start = torch.tensor([1.0, -2.0])
    whole, _ = steps(5, None, start)
    middle, saved = steps(2, None, start)
    rest, _ = steps(3, saved, middle)  # type: ignore[arg-type]
    assert torch.equal(whole, rest)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Log(tmp_path, n_steps=1, done=0) as log:
        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(KshotError) as refusal:
            log.figures(1, loss=1.0)
    path = tmp_path / "metrics.jsonl"
    assert str(refusal.value) == (
        f"{path} could not be written (No space left on device); make room and go on with --resume."
    )
