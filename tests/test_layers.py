"""Imports go down only, and what is not needed is not imported."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import kshot
from contract import encoder, learner
from kshot.meta_learner import MetaLearner

SOURCE = Path(kshot.__file__).parent
ROOT = SOURCE.parents[1]
MODULES = sorted(SOURCE.rglob("*.py"))


def layers() -> dict[str, int]:
    """The height of each part of the package, as pyproject.toml has it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    lines: list[str] = contract["layers"]
    return {
        name.strip(" ()").removeprefix("kshot."): height
        for height, line in enumerate(reversed(lines))
        for name in line.split(":")
    }


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a file imports, inside functions too, but not of what it imports for types alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield f"{node.module}"


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_only(path: Path) -> None:
    height = layers()
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own == "__init__":  # the package itself names what is above, and imports it when it is asked for
        return
    for module in imports(path):
        if module.startswith("kshot.") and part(module) != own and own in height and part(module) in height:
            assert height[part(module)] <= height[own], f"{path} imports {module}"


HEADS = sorted((SOURCE / "meta" / "heads").glob("*.py"))


@pytest.mark.parametrize(
    "path",
    [*HEADS, SOURCE / "meta" / "inner.py", SOURCE / "meta" / "state.py"],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_heads_and_inner_loops_know_vectors_only(path: Path) -> None:
    found = set(imports(path))
    ours = {module for module in found if module.startswith("kshot")}
    own = {f"kshot.meta.heads.{each.stem}" for each in HEADS if path in HEADS}
    assert ours <= {"kshot.errors", "kshot.settings", "kshot.meta.state", *own}
    others = {module.partition(".")[0] for module in found - ours}
    assert others - set(sys.stdlib_module_names) <= {"torch", "pydantic"}


def test_three_files_know_transformers() -> None:
    knowing = {path.name for path in MODULES if any(name.partition(".")[0] == "transformers" for name in imports(path))}
    assert knowing == {"pretrained.py", "language_model.py", "pretrained_seq2seq.py"}


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("kshot", ["torch", "numpy", "transformers", "sklearn"]),
        ("kshot.cli", ["torch", "numpy", "transformers", "sklearn", "pydantic", "huggingface_hub"]),
        ("kshot.artefact, kshot.models.pretrained", ["transformers", "sklearn", "scipy", "matplotlib"]),
    ],
)
def test_what_is_not_needed_is_not_imported(modules: str, unwanted: list[str]) -> None:
    program = f"import sys, {modules}; print(*sorted({set(unwanted)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_first_prediction_imports_little(tiny_bert: Path, tmp_path: Path) -> None:
    """What a user waits for: what compiles and trains models takes longer to import than all the rest."""
    task = MetaLearner(learner("prototypical", encoder("bert", tiny_bert)), {}).adapt(["lamp", "rain"], ["a", "b"])
    task.save(tmp_path / "t")
    (tmp_path / "text.txt").write_text("the lamp\n")
    program = (
        "import sys; from kshot.cli import main; status = main(sys.argv[1:]); "
        "unwanted = {'transformers', 'torch._dynamo', 'sklearn', 'scipy', 'matplotlib', 'huggingface_hub'}; "
        "print(*sorted(unwanted & set(sys.modules))); "
        "sys.exit(status)"
    )
    words = ["predict", str(tmp_path / "t"), str(tmp_path / "text.txt"), "--format", "jsonl"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    prediction, imported = done.stdout.splitlines()
    assert '"label": ' in prediction
    assert imported == ""
