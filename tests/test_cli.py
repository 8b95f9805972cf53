"""The commands, as they are typed."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract import learner as toy_learner
from contract import translator
from kshot.artefact import save_learner
from kshot.cli import main
from kshot.meta_learner import MetaLearner, load, load_task
from toy import scratch, sentence_pairs, seq2seq
from users import DRAWN, LABELS, QUERIES, meta_learner

KSHOT = (sys.executable, "-c", "import sys; from kshot.cli import main; sys.exit(main())")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: its status, its output and what it says on the standard error."""

    def run(*words: object, given: str | bytes | None = None) -> tuple[int, str, str]:
        if given is not None:
            content = given.encode() if isinstance(given, str) else given
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        status = main([str(word) for word in words])
        output, errors = capsys.readouterr()
        return status, output, errors

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, examples, texts and a task."""
    folder = tmp_path_factory.mktemp("cli")
    MetaLearner(toy_learner("prototypical", scratch("cnn")), {"title": "toy"}).save(folder / "run" / "learner")
    rows = [{"text": example.text, "label": example.label} for example in DRAWN.support]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.txt").write_text("\n".join(QUERIES))
    assert main(["adapt", str(folder / "run"), str(folder / "examples.jsonl"), "--out", str(folder / "task")]) == 0
    return folder


def rows_of(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


# -- help and errors ---------------------------------------------------------------------------------------------------


def test_help_lists_every_command(run: Run) -> None:
    status, output, _ = run("--help")
    assert status == 0
    for command in ("quickstart", "train", "evaluate", "adapt", "predict", "chat", "data", "task", "algorithms"):
        assert command in output


@pytest.mark.parametrize(
    "words",
    [["train"], ["evaluate"], ["adapt"], ["predict"], ["chat"], ["quickstart"], ["algorithms"], ["task", "show"]]
    + [["data", command] for command in ("list", "show", "check")],
)
def test_every_command_has_help(words: list[str], run: Run) -> None:
    status, output, _ = run(*words, "--help")
    assert status == 0
    assert "Usage" in output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kshot.cli import main; main(['--help']); "
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'numpy', 'huggingface_hub', 'pydantic'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version(run: Run) -> None:
    assert run("--version")[:2] == (0, "kshot 0.1.0\n")


def test_a_mistyped_command(run: Run) -> None:
    status, _, errors = run("predcit")
    assert status == 2
    assert "Did you mean 'predict'?" in errors


def test_an_error_is_one_line_and_no_traceback(run: Run, tmp_path: Path) -> None:
    status, output, errors = run("predict", tmp_path / "nowhere", "-", given="x")
    assert (status, output) == (2, "")
    assert (
        errors == f"Error: {tmp_path / 'nowhere'} does not exist; give the folder of a task, as kshot adapt wrote it.\n"
    )


def test_ctrl_c_ends_quietly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kshot.output.show_algorithms", interrupt)
    status, _, errors = run("algorithms")
    assert status == 130
    assert "Traceback" not in errors


def test_a_reader_that_goes_away_is_not_an_error(place: Path) -> None:
    """As with `kshot predict ... | head -1`."""
    process = subprocess.Popen(
        [*KSHOT, "predict", str(place / "task"), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"wake me up\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["text"] == "wake me up"  # answered before the input ends
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"and a few more\n" * 20_000)
        process.stdin.close()
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors == b""


# -- average -----------------------------------------------------------------------------------------------------------


def test_average_makes_a_learner(run: Run, tmp_path: Path) -> None:
    for name, seen in (("one", ["a", "c"]), ("two", ["b", "c"])):
        made = MetaLearner(toy_learner("ridge", scratch("cnn")), {"title": name, "training_classes": seen})
        made.save(tmp_path / name / "learner")
    status, output, errors = run("average", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "mean")
    assert (status, errors) == (0, "")
    assert output.startswith(f"The mean of 2 learners is in {tmp_path / 'mean'}. Next:\n")
    made = load(tmp_path / "mean")
    assert made.about["title"] == "The mean of: one; two"
    assert made.classes_seen == ("a", "b", "c")
    assert len(made.adapt([each.text for each in DRAWN.support], LABELS).predict(QUERIES)) == len(QUERIES)
    status, output, errors = run("average", tmp_path / "one", "--out", tmp_path / "mean")
    assert (status, output) == (2, "")
    assert errors == "Error: A mean needs two learners or more; give others besides the first.\n"


# -- adapt and predict -------------------------------------------------------------------------------------------------


def test_adapt_says_what_it_learned(place: Path, run: Run, tmp_path: Path) -> None:
    status, output, _ = run("adapt", place / "run", place / "examples.jsonl", "--out", tmp_path / "task")
    assert status == 0
    assert output.startswith("Learned 4 classes from 4 examples each in ")
    assert f"kshot predict {tmp_path / 'task'} TEXTS" in output
    assert set(load_task(tmp_path / "task").classes) == set(LABELS)


def test_adapt_bundles(place: Path, run: Run, tmp_path: Path) -> None:
    status, output, _ = run("adapt", place / "run", place / "examples.jsonl", "--out", tmp_path / "task", "--bundle")
    assert status == 0
    assert "The learner is inside, so the folder can be moved to another machine.\n" in output
    assert (tmp_path / "task" / "learner" / "encoder.safetensors").is_file()


def test_adapt_takes_fields_of_ones_own(place: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,kind\nlamp on,light\nbook it,table\n")
    words = ("adapt", place / "run", tmp_path / "a.csv", "--out", tmp_path / "task")
    assert run(*words, "--text", "body", "--label", "kind")[0] == 0
    assert run(*words)[0] == 2


def test_adapt_refuses_a_folder_of_something_else_before_it_learns(place: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    words = ("adapt", place / "run", place / "examples.jsonl", "--out", tmp_path, "--algorithm", "ridge,prototypical")
    status, output, errors = run(*words)
    assert (status, output) == (2, "")
    assert errors == f"Error: {tmp_path} is not empty and holds no task; give a new folder.\n"


def test_a_name_that_is_too_long_for_a_file(place: Path, run: Run) -> None:
    for words in (("predict", place / "task", "x" * 300 + ".txt"), ("data", "check", "x" * 300 + ".csv")):
        status, output, errors = run(*words)
        assert (status, output) == (2, "")
        assert errors == f'Error: The name "{"x" * 40}…" is too long for a file.\n'


def test_predict_into_a_folder(place: Path, run: Run, tmp_path: Path) -> None:
    status, output, errors = run("predict", place / "task", place / "texts.txt", "--out", tmp_path)
    assert (status, output, errors) == (2, "", f"Error: {tmp_path} is a folder; give the name of a file.\n")


def test_predictions_are_utf8_whatever_the_system_has(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("中文\n".encode())))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["predict", str(place / "task")]) == 0
    assert json.loads(written.getvalue())["text"] == "中文"


def test_adapt_with_what_cannot_be_learned(place: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\nlamp on,light\nlamp off,light\n")
    status, _, errors = run("adapt", place / "run", tmp_path / "one.csv", "--out", tmp_path / "task")
    assert status == 2
    assert errors == 'Error: There is one class only, "light"; give examples of at least two.\n'
    assert not (tmp_path / "task").exists()


def test_predict_writes_jsonl_into_a_pipe(place: Path, run: Run) -> None:
    status, output, _ = run("predict", place / "task", place / "texts.txt")
    assert status == 0
    expected = load_task(place / "task").predict(QUERIES)
    rows = rows_of(output)
    assert [row["text"] for row in rows] == QUERIES
    assert [row["label"] for row in rows] == [prediction.label for prediction in expected]
    assert rows[0] == {
        "text": QUERIES[0],
        "label": expected[0].label,
        "confidence": round(expected[0].confidence, 6),
        "out_of_scope": round(expected[0].out_of_scope, 6),
        "in_scope": expected[0].in_scope,
        "probabilities": {name: round(p, 6) for name, p in expected[0].probabilities.items()},
    }


def test_predict_keeps_the_likeliest_classes(place: Path, run: Run) -> None:
    for top, n in ((2, 2), (0, 4)):
        rows = rows_of(run("predict", place / "task", place / "texts.txt", "--top", top)[1])
        assert {len(row["probabilities"]) for row in rows} == {n}  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["\n".join(QUERIES), "\n".join(json.dumps({"text": t}) for t in QUERIES)])
def test_predict_reads_the_standard_input(given: str, place: Path, run: Run) -> None:
    from_file = numbers_aside(run("predict", place / "task", place / "texts.txt")[1])
    for source in ([place / "task", "-"], [place / "task"]):
        text, numbers = numbers_aside(run("predict", *source, given=given)[1])
        assert text == from_file[0]
        assert numbers == pytest.approx(from_file[1], abs=2e-6)  # texts that come one by one are encoded one by one


def numbers_aside(output: str) -> tuple[str, list[float]]:
    """An output without its fractions, and these."""
    return re.sub(r"\d\.\d+", "", output), [float(each) for each in re.findall(r"-?\d\.\d+", output)]


def test_predict_makes_a_table_that_cuts_nothing(place: Path, run: Run) -> None:
    long = "please " * 80 + "[bold]switch[/bold] the lamp on 😀"
    status, output, _ = run("predict", place / "task", "--format", "table", given=f"{long}\nמה השעה\n")
    assert status == 0
    header, _, first, second = output.splitlines()
    assert header.split() == ["confidence", "label", "none", "of", "these?", "text"]
    assert long in first
    assert "מה השעה" in second


def test_predict_writes_a_file_whole_or_not_at_all(place: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run("predict", place / "task", place / "texts.txt", "--out", out)[:2] == (0, "")
    assert len(rows_of(out.read_text())) == len(QUERIES)
    before = out.read_text()
    assert run("predict", place / "task", "-", "--out", out, given=b"fine\nnot \xe9\n")[0] == 2
    assert out.read_text() == before
    status, _, errors = run("predict", place / "task", place / "texts.txt", "--out", tmp_path / "no" / "out.jsonl")
    assert status == 2
    reason = "could not be written (No such file or directory); choose another place."
    assert errors == f"Error: {tmp_path / 'no' / 'out.jsonl'} {reason}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_predict_on_a_full_disk(place: Path, run: Run) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [*KSHOT, "predict", str(place / "task"), str(place / "texts.txt")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 2
    assert process.stderr == "Error: The output could not be written (No space left on device).\n"


def test_predict_with_a_learner_that_has_moved(place: Path, run: Run, tmp_path: Path) -> None:
    MetaLearner(toy_learner("prototypical", scratch("cnn"))).save(tmp_path / "a" / "b" / "c" / "d" / "learner")
    home = tmp_path / "a" / "b" / "c" / "d"
    assert run("adapt", home, place / "examples.jsonl", "--out", tmp_path / "task")[0] == 0
    home.rename(tmp_path / "moved")
    status, _, errors = run("predict", tmp_path / "task", place / "texts.txt")
    assert status == 2
    assert "--learner on the command line" in errors
    assert run("predict", tmp_path / "task", place / "texts.txt", "--learner", tmp_path / "moved")[0] == 0


# -- looking -----------------------------------------------------------------------------------------------------------


def test_task_show(place: Path, run: Run) -> None:
    status, output, _ = run("task", "show", place / "task")
    assert status == 0
    for word in (*set(LABELS), "prototypical", "temperature", DRAWN.support[0].text):
        assert word in output


def test_algorithms_lists_papers(run: Run) -> None:
    status, output, _ = run("algorithms")
    assert status == 0
    assert "Snell et al. 2017, arXiv:1703.05175" in output
    assert "maml++" in output


def test_data_list(run: Run) -> None:
    status, output, _ = run("data", "list")
    assert status == 0
    assert {"starter", "clinc150"} <= {line.split()[0] for line in output.splitlines() if line.strip()}


def test_data_show(place: Path, run: Run, tmp_path: Path) -> None:
    rows = [f"{word} {label},{label}" for label in "abcdefghij" for word in ("one", "two", "three")]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(rows))
    status, output, _ = run("data", "show", tmp_path / "own.csv")
    assert status == 0
    assert {"train", "valid", "test"} <= {line.split()[0] for line in output.splitlines() if line.strip()}
    status, _, errors = run("data", "show", "clinc15")
    assert status == 2
    assert 'Did you mean "clinc150"?' in errors


def test_data_check(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nhello there,a\nHello  there,b\nbye,b\n")
    status, output, _ = run("data", "check", tmp_path / "bad.csv")
    assert status == 0
    assert '"hello there" under "a" and "b"' in output
    (tmp_path / "one.csv").write_text("text,label\nhello,a\nthere,a\n")
    status, output, _ = run("data", "check", tmp_path / "one.csv")
    assert status == 1
    assert 'There is one class only, "a"' in output


def test_data_show_of_tagged_sentences(run: Run, tmp_path: Path) -> None:
    lines = [f"[Ann {i}](PER) went to [Rome](LOC)\\[{i}\\] ." for i in range(10)]
    (tmp_path / "own.txt").write_text("\n".join(lines))
    status, output, _ = run("data", "show", tmp_path / "own.txt")
    assert status == 0
    assert "split 60/20/20 by sentence" in output
    assert "PER 6, LOC 6" in output or "LOC 6, PER 6" in output
    assert "](PER) went to [Rome](LOC) [ " in output


def test_data_check_of_tagged_sentences(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.conll").write_text("Ann B-PER\nwent O\n\nann O\nwent O\n")
    status, output, _ = run("data", "check", tmp_path / "own.conll")
    assert status == 0
    assert "2 sentences, 1 type" in output
    assert '1 sentence is tagged in more than one way: "Ann went".' in output
    (tmp_path / "full.txt").write_text("[Ann](PER)\n")
    status, output, _ = run("data", "check", tmp_path / "full.txt")
    assert status == 1
    assert "there is nothing to tell an entity from" in output


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"part": "test", "split": None, "way": None, "shot": 5, "query": 5, "episodes": 600, "seed": 0}),
        (
            ["--split", "valid", "--way", "3-7", "--shot", "1"],
            {"part": "valid", "split": None, "way": (3, 7), "shot": 1},
        ),
        (["--split", "fewshot_02", "--all-classes"], {"part": "test", "split": "fewshot_02", "way": "all"}),
        (["--query", "all", "--episodes", "10", "--seed", "4"], {"query": "all", "episodes": 10, "seed": 4}),
    ],
)
def test_evaluate_passes_its_settings_on(
    words: list[str], expected: dict[str, object], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def evaluate_run(path: Path, *, show: Callable[[dict[str, object]], None], **settings: object) -> None:
        asked.update(settings)
        figures = {"accuracy": 0.9, "accuracy_interval": 0.01, "macro_f1": 0.8, "macro_f1_interval": 0.02}
        show(
            {
                **figures,
                "measures": ["accuracy", "macro F1"],
                **{"seconds_per_adaptation": 0.02, "episodes": 10, "algorithm": "ridge", "data": "toy", "part": "test"},
                **{"way": asked["way"], "shot": asked["shot"]},
            }
        )

    monkeypatch.setattr("kshot.run.evaluate.evaluate_run", evaluate_run)
    status, output, _ = run("evaluate", "somewhere", "--data", "toy", *words)
    assert status == 0
    assert {key: asked[key] for key in expected} == expected
    assert output.startswith(f"ridge on toy (test), {'all classes' if asked['way'] == 'all' else 5}"[:20])
    assert "90.00 %" in output
    assert "20.0 ms" in output


def test_evaluate_with_a_way_that_is_none(run: Run) -> None:
    status, _, errors = run("evaluate", "somewhere", "--data", "toy", "--way", "five")
    assert status == 2
    assert errors == 'Error: --way cannot be "five"; give a number, low-high, or all.\n'


@pytest.mark.parametrize("kept_start", [False, True])
def test_train_says_whether_it_paid(
    kept_start: bool, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []
    outcome = SimpleNamespace(
        start=SimpleNamespace(main="80.0 ± 1.0", measures=("accuracy",)),
        trained=SimpleNamespace(main="84.0 ± 1.0", measures=("accuracy",)),
        lift="4.0 ± 0.5",
        best_step=0 if kept_start else 10,
        kept_start=kept_start,
    )
    monkeypatch.setattr("kshot.run.config.load_recipe", lambda *given: given)
    monkeypatch.setattr("kshot.run.train.train", lambda *given, resume: asked.extend((*given, resume)) or outcome)
    status, output, _ = run("train", "toy", "training.steps=3", "seed=2", "--out", tmp_path / "run", "--resume")
    assert status == 0
    assert asked == [("toy", ["training.steps=3", "seed=2"]), tmp_path / "run", True]
    assert "4.0 ± 0.5 points (95% interval)" in output
    assert ("so the start was kept" in output) == kept_start


def test_quickstart_finds_a_new_folder(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("kshot.run.quickstart.quickstart", asked.append)
    monkeypatch.chdir(tmp_path)
    run("quickstart")
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    run("quickstart")
    run("quickstart", "--out", "here")
    assert asked == [Path("runs/quickstart"), Path("runs/quickstart-2"), Path("here")]


def test_adapt_by_another_algorithm(run: Run, tmp_path: Path) -> None:
    save_learner(meta_learner().learner, tmp_path / "run", about={})
    (tmp_path / "examples.csv").write_text("text,label\nlamp on,light\nbulb,light\nrain,weather\nstorm,weather\n")
    status, _, _ = run(
        "adapt", tmp_path / "run", tmp_path / "examples.csv", "--out", tmp_path / "task", "--algorithm", "ridge"
    )
    assert status == 0
    assert load_task(tmp_path / "task").learner.learner.settings.name == "ridge"


def test_adapt_by_the_algorithm_that_suits(run: Run, tmp_path: Path) -> None:
    save_learner(meta_learner().learner, tmp_path / "run", about={})
    (tmp_path / "examples.csv").write_text("text,label\nlamp on,light\nbulb,light\nrain,weather\nstorm,weather\n")
    names = "prototypical,ridge"
    status, output, _ = run(
        "adapt", tmp_path / "run", tmp_path / "examples.csv", "--out", tmp_path / "task", "--algorithm", names
    )
    assert status == 0
    chosen = load_task(tmp_path / "task").learner.learner.settings.name
    assert output.startswith(f"Chose {chosen}: accuracy on examples left out in turn: prototypical ")


def test_plain_text_must_mark_entities(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Nothing is marked here.\n", encoding="utf-8")
    status, _, errors = run("adapt", "minilm", path, "--out", tmp_path / "task")
    assert status == 2
    assert errors == f"Error: {path} has no entity in 1 sentence; mark at least one.\n"


def test_a_learner_of_another_kind(run: Run, tmp_path: Path) -> None:
    save_learner(meta_learner().learner, tmp_path / "run", about={})
    path = tmp_path / "notes.txt"
    path.write_text("[Aspirin](drug) helps.\n", encoding="utf-8")
    status, _, errors = run("adapt", tmp_path / "run", path, "--out", tmp_path / "task")
    assert status == 2
    where = tmp_path / "run"
    assert errors == (
        f"Error: {path} holds tagged sentences, but {where} learns classification; give a learner of tagging.\n"
    )


# -- translators -------------------------------------------------------------------------------------------------------

PAIRS = sentence_pairs(5)
WRITTEN = ["măr roșu", "水 și mare"]


@pytest.fixture(scope="module")
def translating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, sentence pairs as one file and as two, texts and a task."""
    folder = tmp_path_factory.mktemp("translation")
    MetaLearner(translator("first-order-maml", seq2seq()), {"title": "toy"}).save(folder / "run" / "learner")
    rows = "".join(f"{each.source}\t{each.target}\n" for each in PAIRS)
    (folder / "pairs.tsv").write_text(f"source\ttarget\n{rows}", encoding="utf-8")
    (folder / "pairs.ro").write_text("".join(f"{each.source}\n" for each in PAIRS), encoding="utf-8")
    (folder / "pairs.en").write_text("".join(f"{each.target}\n" for each in PAIRS), encoding="utf-8")
    (folder / "texts.txt").write_text("\n".join(WRITTEN), encoding="utf-8")
    assert main(["adapt", str(folder / "run"), str(folder / "pairs.tsv"), "--out", str(folder / "task")]) == 0
    return folder


def test_adapt_to_sentence_pairs(translating: Path, run: Run, tmp_path: Path) -> None:
    status, output, _ = run("adapt", translating / "run", translating / "pairs.tsv", "--out", tmp_path / "one")
    assert status == 0
    assert output.startswith("Learned to translate from 5 sentence pairs in ")
    words = ("adapt", translating / "run", translating / "pairs.ro", "--targets", translating / "pairs.en")
    assert run(*words, "--out", tmp_path / "two")[0] == 0
    one, two = load_task(tmp_path / "one"), load_task(tmp_path / "two")
    assert one.examples == two.examples == tuple(PAIRS)
    assert one.predict(WRITTEN) == two.predict(WRITTEN)


def test_adapt_to_sides_of_different_lengths(translating: Path, run: Run, tmp_path: Path) -> None:
    short = tmp_path / "short.en"
    short.write_text("apple\n", encoding="utf-8")
    words = ("adapt", translating / "run", translating / "pairs.ro", "--targets", short)
    status, output, errors = run(*words, "--out", tmp_path / "task")
    assert (status, output) == (2, "")
    assert errors == (
        f"Error: {translating / 'pairs.ro'} has 5 lines and {short} has 1; a line of one is the translation of the "
        "same line of the other, so give them as many.\n"
    )
    assert not (tmp_path / "task").exists()


def test_adapt_a_learner_of_something_else_to_sentence_pairs(translating: Path, run: Run, tmp_path: Path) -> None:
    save_learner(meta_learner().learner, tmp_path / "run", about={})
    pairs = translating / "pairs.tsv"
    status, _, errors = run("adapt", tmp_path / "run", pairs, "--out", tmp_path / "task")
    assert status == 2
    assert errors == (
        f"Error: {pairs} holds sentence pairs, but {tmp_path / 'run'} learns classification; give a learner of "
        "translation.\n"
    )
    (tmp_path / "own.csv").write_text("text,label\na,b\nc,d\n")
    status, _, errors = run("adapt", translating / "run", tmp_path / "own.csv", "--out", tmp_path / "task")
    assert status == 2
    assert errors == (
        f"Error: {tmp_path / 'own.csv'} holds labelled texts, but {translating / 'run'} learns translation; give a "
        "learner of classification.\n"
    )
    status, _, errors = run("adapt", "minilm", pairs, "--out", tmp_path / "task")
    assert status == 2
    assert errors == (
        "Error: MiniLM reads and does not write, so it learns no translation; give the run of a translation recipe, "
        "such as translation-joint.\n"
    )


def test_predict_translations(translating: Path, run: Run, tmp_path: Path) -> None:
    expected = load_task(translating / "task").predict(WRITTEN)
    words = ("predict", translating / "task", translating / "texts.txt")
    status, output, _ = run(*words)
    assert status == 0
    rows = rows_of(output)
    assert [(row["text"], row["translation"]) for row in rows] == [(each.text, each.translation) for each in expected]
    assert [row["score"] for row in rows] == [round(each.score, 6) for each in expected]
    plain = "".join(" ".join(each.translation.split()) + "\n" for each in expected)
    assert run(*words, "--format", "text")[:2] == (0, plain)
    assert run(*words, "--format", "text", "--out", tmp_path / "out.txt")[:2] == (0, "")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == plain
    status, output, _ = run(*words, "--format", "table")
    assert status == 0
    assert all(text in output for text in WRITTEN)


def test_translations_of_the_standard_input(translating: Path, run: Run) -> None:
    from_file = run("predict", translating / "task", translating / "texts.txt")[1]
    assert run("predict", translating / "task", "-", given="\n".join(WRITTEN))[1] == from_file
    given = "".join(json.dumps({"text": text}) + "\n" for text in WRITTEN)
    assert run("predict", translating / "task", given=given)[1] == from_file


def test_translations_have_no_tags(translating: Path, place: Path, run: Run) -> None:
    status, _, errors = run("predict", translating / "task", translating / "texts.txt", "--format", "conll")
    assert status == 2
    assert errors == 'Error: --format cannot be "conll" for this task; it takes table, jsonl, text.\n'
    status, _, errors = run("predict", place / "task", place / "texts.txt", "--format", "text")
    assert status == 2
    assert errors == 'Error: --format cannot be "text" for this task; it takes table, jsonl.\n'


def test_a_long_line_to_translate(translating: Path, run: Run) -> None:
    status, output, errors = run("predict", translating / "task", "-", given="măr " * 2_500)
    assert (status, output) == (2, "")
    assert errors.startswith(f'Error: Text 1, "{"măr " * 9}măr…", has ')
    assert errors.endswith("more than the 32 that the learner reads at once; split it into sentences.\n")


def test_task_show_of_sentence_pairs(translating: Path, run: Run) -> None:
    status, output, _ = run("task", "show", translating / "task")
    assert status == 0
    for word in ("first-order-maml", "5 sentence pairs", PAIRS[0].source, PAIRS[0].target):
        assert word in output


def test_data_show_of_sentence_pairs(run: Run, tmp_path: Path) -> None:
    rows = "".join(f"{each.source}\t{each.target}\n" for each in sentence_pairs(20))
    (tmp_path / "own.tsv").write_text(f"source\ttarget\n{rows}", encoding="utf-8")
    status, output, _ = run("data", "show", tmp_path / "own.tsv")
    assert status == 0
    lines = [line.split()[:2] for line in output.splitlines() if line.strip()]
    assert ["train", "12"] in lines
    assert ["test", "4"] in lines
