"""`kshot chat`, as it is typed: in a pipe and at a terminal."""

import errno
import io
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import learner, translator
from kshot.cli import main
from kshot.meta_learner import MetaLearner, load_task
from kshot.tasks.tagging import Tagging
from kshot.tasks.understanding import Understanding
from toy import replies, scratch, sentence_pairs, seq2seq, tagged_episode, utterances
from users import LABELS, TEXTS, task

Chat = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def chat(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Chat:
    """Says lines to a task through a pipe: the status, the lines of the output, and the complaints."""

    def chat(folder: Path, *lines: str | bytes, options: tuple[object, ...] = ()) -> tuple[int, list[str], str]:
        given = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        status = main(["chat", str(folder), *map(str, options)])
        output, errors = capsys.readouterr()
        return status, [re.sub(r"\d+ ms", "0 ms", line) for line in output.splitlines()], errors

    return chat


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier's."""
    own = MetaLearner(learner("prototypical", scratch("cnn")), {"title": "toy"})
    own.save(tmp_path / "run")
    own.adapt(TEXTS, LABELS).save(tmp_path / "task")
    return tmp_path / "task"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shown(folder: Path, text: str) -> str:
    """The line that answers a text."""
    [found] = load_task(folder).predict([text])
    doubt = "" if found.in_scope else f"  perhaps none of these ({found.out_of_scope:.2f})"
    return f"  {found.label}  {found.confidence:.0%}{doubt}"


# -- in a pipe ---------------------------------------------------------------------------------------------------------


def test_turns_are_answered(folder: Path, chat: Chat) -> None:
    before = contents(folder)
    status, lines, errors = chat(folder, TEXTS[0], "", f" {TEXTS[1]}  ")
    assert (status, errors) == (0, "")
    assert lines == [shown(folder, TEXTS[0]), shown(folder, TEXTS[1])]
    assert contents(folder) == before


def test_teach_is_learned_shown_and_saved(folder: Path, chat: Chat) -> None:
    before = shown(folder, "something else")
    status, lines, errors = chat(folder, "something else", "/teach new class", "something else")
    assert (status, errors) == (0, "")
    after = shown(folder, "something else")
    assert after.startswith("  new class  ")
    assert lines == [
        before,
        'Learned 17 examples in 0 ms, saved in 0 ms; the class "new class" is new. The same turn now:',
        after,
        after,
    ]
    rows = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    assert rows[-1] == {"text": "something else", "label": "new class"}
    loaded, expected = load_task(folder), task().teach("something else", "new class")
    assert loaded.examples == expected.examples
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_label_that_is_nearly_another(folder: Path, chat: Chat) -> None:
    status, lines, _ = chat(folder, "something else", f"/teach {LABELS[0]}s")
    assert status == 0
    assert lines[3] == f'Did you mean "{LABELS[0]}"? /undo takes the new class back.'


def test_undo_takes_a_teach_back_as_if_it_had_never_been(folder: Path, chat: Chat) -> None:
    before = contents(folder)
    status, lines, _ = chat(folder, "something else", "/teach new class", "/undo", "/undo")
    assert status == 0
    assert lines[-2:] == ['Took back what was taught about "something else".', 'Took back the turn "something else".']
    assert contents(folder) == before


def test_reset_and_quit(folder: Path, chat: Chat) -> None:
    status, lines, errors = chat(folder, "one", "two", "/reset", "/quit", "/nothing of this is read")
    assert (status, errors) == (0, "")
    assert lines[2:] == ["Forgot 2 turns; what was taught stays."]


def test_help_lists_the_commands(folder: Path, chat: Chat) -> None:
    status, lines, _ = chat(folder, "/help")
    assert status == 0
    assert lines == [
        "/teach  corrects the last answer: /teach LABEL, such as /teach billing",
        "/undo   takes back the last turn, /teach or /reset",
        "/reset  forgets the turns; what was taught stays",
        "/help   says this",
        "/quit   ends, as Ctrl-D does",
        "Anything else is a turn.",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["/teach new class"],
            "There is no answer to correct yet; write something first, then /teach what is right.",
        ),
        (["hello", "/teach"], "/teach needs what is right: /teach LABEL, such as /teach billing."),
        (["/undo"], "There is nothing to take back; a turn, /teach and /reset can be taken back."),
        (
            ["/tech billing"],
            "There is no command /tech; /help lists them, and a space before it makes it a turn. "
            'Did you mean "/teach"?',
        ),
        (["hello", "/undo 3"], '/undo takes nothing after it, but "3" was given; write it alone.'),
    ],
)
def test_what_is_refused_changes_nothing(lines: list[str], expected: str, folder: Path, chat: Chat) -> None:
    before = contents(folder)
    status, output, errors = chat(folder, *lines, "and on")
    assert (status, errors) == (2, f"Error: {expected}\n")
    assert output[-1] == shown(folder, "and on"), "the conversation goes on"
    assert contents(folder) == before


def test_a_slash_after_a_space_begins_a_turn(folder: Path, chat: Chat) -> None:
    assert chat(folder, " /undo")[1] == [shown(folder, "/undo")]


def test_lines_that_are_not_text(folder: Path, chat: Chat) -> None:
    status, lines, errors = chat(folder, "one", b"caf\xe9", "two")
    assert status == 2
    assert lines == [shown(folder, "one")]
    assert errors == "Error: The input, line 2: byte 0xe9 is not UTF-8; save it as UTF-8.\n"


def test_a_folder_that_cannot_be_written(folder: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def read_only(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("kshot.artefact.mkdtemp", read_only)
    status, lines, errors = chat(folder, "something else", "/teach new class", "something else")
    assert status == 2
    assert errors == f"Error: {folder} cannot be written (Permission denied); choose another folder.\n"
    assert lines == [shown(folder, "something else")] * 2, "what is not kept is not learned"
    assert contents(folder) == before


def test_what_is_taught_goes_elsewhere(folder: Path, chat: Chat, tmp_path: Path) -> None:
    before = contents(folder)
    status, _, _ = chat(folder, "something else", "/teach new class", options=("--out", tmp_path / "other"))
    assert status == 0
    assert contents(folder) == before
    assert load_task(tmp_path / "other").classes[-1] == "new class"


def test_two_who_teach_the_same_task(folder: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other one taught is not written over."""
    from kshot.chat.conversation import Conversation

    say = Conversation.say

    def and_another_teaches(self: Conversation, text: str) -> Any:
        load_task(folder).teach("of the other", "their class").save(folder)
        return say(self, text)

    monkeypatch.setattr(Conversation, "say", and_another_teaches)
    status, _, errors = chat(folder, "something else", "/teach new class")
    assert status == 2
    assert errors == (
        f"Error: {folder} was changed by another program, so nothing was saved or learned; begin the chat again to "
        "teach the task as it is now.\n"
    )
    assert load_task(folder).classes[-1] == "their class"


def test_a_task_without_examples_answers_and_cannot_be_taught(folder: Path, chat: Chat) -> None:
    load_task(folder).save(folder, examples=False)
    status, lines, errors = chat(folder, "something else", "/teach new class")
    assert (status, lines) == (2, [shown(folder, "something else")])
    assert errors == (
        "Error: The task was saved without its examples, so it can learn nothing more; adapt again, to all of them.\n"
    )


def test_a_session_of_entities(chat: Chat, tmp_path: Path) -> None:
    own = MetaLearner(learner("prototypical", scratch("cnn"), task=Tagging()))
    own.adapt(tagged_episode().support).save(tmp_path / "task")
    status, lines, errors = chat(
        tmp_path / "task", "call Anna now", "/teach call [Anna](person) now", "/teach call [Ann](person) now"
    )
    assert status == 2
    assert "Anna [person " in lines[2]
    assert errors == (
        'Error: /teach is to mark the words of the last turn as they are, but word 2 is "Ann" and in the turn it is '
        '"Anna"; mark these words: call Anna now\n'
    )
    assert load_task(tmp_path / "task").classes[-1] == "person"


def test_a_session_of_translations(chat: Chat, tmp_path: Path) -> None:
    MetaLearner(translator("matching", seq2seq())).adapt(sentence_pairs(6)).save(tmp_path / "task")
    status, lines, _ = chat(tmp_path / "task", "mare mare", "/teach sea sea")
    assert status == 0
    assert lines[1] == "Learned 7 examples in 0 ms, saved in 0 ms. The same turn now:"
    assert load_task(tmp_path / "task").examples[-1].target == "sea sea"


def test_a_session_of_understanding(chat: Chat, tmp_path: Path) -> None:
    own = MetaLearner(learner("prototypical", scratch("cnn", max_length=64), task=Understanding()))
    own.adapt(utterances((3, 3), 0, 3)).save(tmp_path / "task")
    status, lines, errors = chat(
        tmp_path / "task",
        "send 500 dollars to Anna",
        "/teach TransferMoney: send [500 dollars](amount) to [Anna](recipient_name)",
        "/system To which account?",
        "the second one",
        "and now",
        "and then",
    )
    assert status == 0
    assert lines[1].startswith(
        'Learned 7 examples in 0 ms, saved in 0 ms; the intent "TransferMoney" is new; the slot "amount" is new; the '
        'slot "recipient_name" is new.'
    )
    [frame] = load_task(tmp_path / "task").predict(["send 500 dollars to Anna"])
    assert f"{frame.intent} {frame.confidence:.0%}" in lines[2]
    assert errors == (
        "Note: The history of text 1 has 3 turns, of which the newest 2 are read; what is older does not count. (This "
        "is said once.)\n"
    )
    rows = [json.loads(line) for line in (tmp_path / "task" / "examples.jsonl").read_text().splitlines()]
    assert rows[-1] == {
        "text": "send 500 dollars to Anna",
        "intent": "TransferMoney",
        "slots": [
            {"slot": "amount", "start": 5, "end": 16},
            {"slot": "recipient_name", "start": 20, "end": 24},
        ],
    }
    assert (
        "/system adds what the system says to its user, such as /system Which day?"
        in chat(tmp_path / "task", "/help")[1]
    )


def test_a_session_of_responding(chat: Chat, tmp_path: Path) -> None:
    own = MetaLearner(translator("matching", seq2seq(), kind="responding"))
    own.adapt(replies(3)).save(tmp_path / "task")
    status, lines, errors = chat(tmp_path / "task", "mare", "/teach sea", "roșu", "mare", "/undo", "/reset")
    assert status == 0
    [answered] = load_task(tmp_path / "task").predict(["mare"])
    assert lines[1:3] == [
        f"Learned {len(replies(3)) + 1} examples in 0 ms, saved in 0 ms. The same turn now:",
        f"  {answered.reply}  {answered.score:.2f}",
    ]
    assert lines[-2:] == ['Took back the turn "mare".', "Forgot 4 turns; what was taught stays."]
    assert errors.startswith(
        "Note: The history of dialogue 1 has 5 turns, of which the newest 3 are read; what is older does not count."
    )
    rows = [json.loads(line) for line in (tmp_path / "task" / "examples.jsonl").read_text().splitlines()]
    assert rows[-1] == {"history": [{"speaker": "user", "text": "mare"}], "text": "sea", "dialogue": "1"}


def test_the_learner_that_has_moved(folder: Path, chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "run").rename(tmp_path / "moved")
    assert chat(folder, "hello")[0] == 2
    assert chat(folder, "hello", options=("--learner", tmp_path / "moved"))[0] == 0


def test_examples_need_not_be_kept(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "examples.csv").write_text("text,label\nlamp on,light\nrain,weather\n")
    words = ["adapt", str(tmp_path / "run"), str(tmp_path / "examples.csv"), "--out", str(tmp_path / "new")]
    assert main([*words, "--forget-examples"]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["kshot.json", "state.safetensors"]
    assert all(b"lamp on" not in path.read_bytes() for path in (tmp_path / "new").iterdir())
    capsys.readouterr()
    assert main(["task", "show", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.endswith(
        "The task was saved without its examples, so it can learn nothing more. Its classes: light, weather.\n"
    )


# -- at a terminal -----------------------------------------------------------------------------------------------------


def typed(folder: Path, *lines: str, **environment: str) -> tuple[int, str]:
    """What a terminal of 60 columns shows while lines are typed, each at its prompt, and the status."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "kshot.cli", "chat", str(folder)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**own, "TERM": "xterm-256color", **environment},
        start_new_session=True,
    )
    os.close(theirs)
    output, waiting, seen = b"", list(lines), 0
    while select.select([ours], [], [], 60)[0]:
        try:
            output += os.read(ours, 4096)
        except OSError:  # how a terminal says that nobody is there any more
            break
        if output[seen:].endswith(b"> ") and waiting:
            os.write(ours, waiting.pop(0).encode())
            seen = len(output)
    os.close(ours)
    return process.wait(timeout=60), output.decode().replace("\r\n", "\n")


at_a_terminal = pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")


@at_a_terminal
def test_at_a_terminal(folder: Path) -> None:
    status, screen = typed(folder, "something else\n", "/teach new class\n", "/tech\n", "\x04")
    assert status == 0, "a person has seen what was refused"
    assert "/teach corrects the answer, /help says how," in screen
    assert re.search(r"\x1b\[1;(32|33|37)mnew class\x1b\[0m", screen), "labels are in colour"
    assert "\x1b[31mError: There is no command /tech;" in screen
    assert screen.rstrip().endswith(">")
    assert all(len(re.sub(r"\x1b\[[\d;?]*[a-z]", "", line)) <= 60 for line in screen.split("\n")), "nothing runs over"
    assert load_task(folder).classes[-1] == "new class"


@at_a_terminal
def test_at_a_terminal_without_colours(folder: Path) -> None:
    status, screen = typed(folder, "something else\n", "/quit\n", NO_COLOR="1")
    assert status == 0
    assert re.search(r"\x1b\[[\d;]*3\dm", screen) is None


@at_a_terminal
def test_labels_are_completed(folder: Path) -> None:
    [label] = [name for name in dict.fromkeys(LABELS) if name.startswith("book")]
    status, _ = typed(folder, "something else\n", "/teach bo\t\n", "/quit\n")
    assert status == 0
    assert load_task(folder).examples[-1].label == label
