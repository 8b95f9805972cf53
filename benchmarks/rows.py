"""What a benchmark has measured, as Markdown: rows of ways to learn, columns of targets, support sizes in a cell.

A file of results is of one row and target: `{"row", "target", "5": {measure: [a value a draw]}, "10": ...}`, and the
draws are the same for all rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kshot.run.evaluate import Estimate, estimate

Figures = Mapping[str, Any]
"""The content of a file."""

NOTHING = "–"  # noqa: RUF001


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, figures: Figures) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def slug(row: str) -> str:
    """A row as a part of a file's name."""
    return row.lower().replace(", ", "-").replace(" ", "-")


def file_of(out: Path, row: str, target: str) -> Path:
    return out / f"{slug(row)}-{target}.json"


def values(figures: Figures, shot: int, measure: str) -> np.ndarray:
    """A measure of each draw, (n_draws,)."""
    return np.array(figures[str(shot)][measure])


def mean(figures: Figures, shot: int, measure: str) -> Estimate:
    return estimate(values(figures, shot, measure))


@dataclass(frozen=True)
class Table:
    """What is shown, in this order.

    Attributes:
        rows: The ways to learn.
        baselines: Those that the others are compared with.
        targets: The columns.
        shots: The sizes of the support.
        unit: What a support is made of.
        timed: The size for which adapting is timed.
    """

    rows: Sequence[str]
    baselines: Sequence[str]
    targets: Sequence[str]
    shots: Sequence[int]
    unit: str
    timed: int

    def found(self, out: Path) -> dict[tuple[str, str], Figures]:
        """The files of a folder by row and target."""
        return {(each["row"], each["target"]): each for each in map(read, sorted(out.glob("*.json")))}

    def show_means(self, found: Mapping[tuple[str, str], Figures], measure: str, *, interval: bool) -> None:
        """Prints the mean of a measure, perhaps with its 95% interval, and the time of an adaptation."""
        print(f"\n{measure} with {' / '.join(map(str, self.shots))} {self.unit}\n")
        _print_header([*self.targets, f"ms to learn {self.timed}"])
        for row in self.rows:
            own = [found.get((row, target), {}) for target in self.targets]
            times = [1000 * each[str(self.timed)]["seconds_to_adapt"] for each in own if self._is_timed(each)]
            if any(own):
                cells = [self._means(each, measure, interval) for each in own]
                _print_row(row, [*cells, f"{np.median(times):.0f}" if times else NOTHING])

    def show_ahead(
        self, found: Mapping[tuple[str, str], Figures], title: str, rows: Sequence[str], measure: str
    ) -> None:
        """Prints how far the best of some rows is ahead of the best baseline; the best are seen on the same draws."""
        print(f"\n{title} ahead of the best baseline, points of {measure} with the paired 95% interval\n")
        _print_header([f"{shot} {self.unit}" for shot in self.shots])
        for target in self.targets:
            of_target = {name: each for (name, where), each in found.items() if where == target}
            _print_row(target, [self._ahead(of_target, rows, shot, measure) for shot in self.shots])

    def _is_timed(self, figures: Figures) -> bool:
        return "seconds_to_adapt" in figures.get(str(self.timed), {})

    def _means(self, figures: Figures, measure: str, interval: bool) -> str:
        means = [mean(figures, shot, measure) if str(shot) in figures else None for shot in self.shots]
        shown = [NOTHING if each is None else str(each) if interval else f"{100 * each.mean:.1f}" for each in means]
        return " / ".join(shown) if set(shown) != {NOTHING} else NOTHING

    def _ahead(self, found: Mapping[str, Figures], rows: Sequence[str], shot: int, measure: str) -> str:
        def best(names: Sequence[str]) -> str:
            measured = [name for name in names if str(shot) in found.get(name, {})]
            return max(measured, key=lambda name: values(found[name], shot, measure).mean(), default="")

        one, other = best(rows), best(self.baselines)
        if not one or not other:
            return NOTHING
        ours, theirs = values(found[one], shot, measure), values(found[other], shot, measure)
        both = min(len(ours), len(theirs))  # the draws are the same from the first on
        difference = estimate(ours[:both] - theirs[:both])
        return f"{difference} ({other if len(rows) == 1 else f'{one} / {other}'})"


def _print_header(columns: Sequence[str]) -> None:
    print(f"| | {' | '.join(columns)} |")
    print(f"|---{'|---' * len(columns)}|")


def _print_row(name: str, cells: Sequence[str]) -> None:
    print(f"| {name} | {' | '.join(cells)} |")
