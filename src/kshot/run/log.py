"""Where a run's figures go: `metrics.jsonl`, TensorBoard where it is installed, and the screen."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kshot.artefact import new_file
from kshot.errors import KshotError


class Log:
    """The log of a run; to be used as a context.

    Args:
        folder: The run's folder.
        n_steps: The steps that the progress bar counts to.
        done: The steps that were done before; later lines of `metrics.jsonl` are dropped, since they will come again.
    """

    def __init__(self, folder: Path, *, n_steps: int, done: int) -> None:
        self.console = Console(stderr=True)
        self._path = folder / "metrics.jsonl"
        self._keep_until(done)
        self._board = _tensorboard(folder, done)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            transient=False,
        )
        self._bar = self._progress.add_task("meta-training", total=n_steps, completed=done, figures="")
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def step(self, step: int, loss: float) -> None:
        """Moves the bar."""
        self._shown["loss"] = f"loss {loss:.3f}"
        self._progress.update(self._bar, completed=step, figures="  ".join(self._shown.values()))

    def figures(self, step: int, **values: float) -> None:
        """Writes a line of `metrics.jsonl`, and each value to TensorBoard.

        Raises:
            KshotError: If there is no room for it.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise KshotError(
                f"{self._path} could not be written ({error.strerror}); make room and go on with --resume."
            ) from error
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def validation(self, step: int, accuracy: str, best: bool) -> None:
        """Shows the newest validation beside the bar."""
        self._shown["valid"] = f"valid {accuracy}" + (" (best)" if best else "")
        self._progress.update(self._bar, figures="  ".join(self._shown.values()))

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, highlight=False)

    def _keep_until(self, step: int) -> None:
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step] if step else []
        with new_file(self._path) as file:
            file.writelines(line + "\n" for line in kept)


def _step_of(line: str) -> float:
    """The step of a line; a line that was cut off in the middle of writing counts as the last."""
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


def _tensorboard(folder: Path, done: int) -> Any:
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
