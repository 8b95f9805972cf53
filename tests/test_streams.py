"""Texts as they come."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from kshot.errors import KshotError
from kshot.streams import BLOCK, text_blocks


def flat(blocks: Iterator[list[str]]) -> list[str]:
    return [text for block in blocks for text in block]


def stream(content: str | bytes) -> io.BytesIO:
    return io.BytesIO(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "\ufeffone\r\n\n  two \nthree"),
        ("a.jsonl", '{"text": "one"}\n\n{"text": "two", "id": 3}\n{"text": "three"}\n'),
        ("a.csv", "id,text\n1,one\n2,two\n3,three\n"),
        ("a.tsv", "utterance\tid\none\t1\ntwo\t2\nthree\t3\n"),
        ("a.json", '[{"query": "one"}, {"query": "two"}, {"query": "three"}]'),
    ],
)
def test_all_kinds_of_files(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert flat(text_blocks(str(tmp_path / name))) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "content",
    ["one\ntwo\n", "one\n\ntwo", '{"text": "one"}\n{"text": "two"}', '\n{"sentence":"one"}\n{"text":"two"}\n'],
)
def test_the_standard_input_is_text_or_jsonl(content: str) -> None:
    assert flat(text_blocks("-", stream=stream(content))) == ["one", "two"]


def test_a_field_of_ones_own() -> None:
    rows = '{"text": "no", "body": "yes"}\n'
    assert flat(text_blocks("-", field="body", stream=stream(rows))) == ["yes"]


def test_a_million_texts_come_in_blocks() -> None:
    class Endless(io.RawIOBase):
        n = 0

        def read1(self, size: int) -> bytes:
            self.n += 1
            return b"some text that goes on\n" * 100 if self.n <= 10_000 else b""

    sizes = [len(block) for block in text_blocks("-", stream=Endless())]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= BLOCK


def test_a_text_is_there_as_soon_as_its_line_is() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        blocks = text_blocks("-", stream=source)
        sink.write(b"first\nsec")
        assert next(blocks) == ["first"]
        late = Timer(0.05, sink.write, [b"ond\n"])
        late.start()
        assert next(blocks) == ["second"]
        late.join()
        sink.close()
        assert list(blocks) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The input has no texts; give one a line."),
        (b"\n \n", "The input has no texts; give one a line."),
        (b"ok\ncaf\xe9\n", "The input, line 2: byte 0xe9 is not UTF-8; save it as UTF-8."),
        (b"ok\n\x00\x01", "The input, line 2: there is a NUL byte, so this is not UTF-8 text; save it as UTF-8."),
        (b"\xff\xfeo\x00", "The input, line 1: there is a NUL byte, so this is not UTF-8 text; save it as UTF-8."),
        (b'{"text": "a"}\n[1]\n', 'The input, line 2: this is not an object; write {"text": ...}.'),
        (
            b'{"text": 3}\n',
            'The input, line 1: the field "text" is a number (3), not a text; write it in quotation marks.',
        ),
        (
            b'{"text": "a"}\n{"text": " "}\n',
            'The input, line 2: the field "text" is empty; fill it in or take the row out.',
        ),
        (
            b'{"text": "a"}\n{"text": "half \\ud83d"}\n',
            'The input, line 2: the field "text" has half a character (a lone surrogate); write the file again as '
            "UTF-8.",
        ),
        (
            b'[{"text": "a"},\n{"text": "b"}]\n',
            "The input begins with a list of JSON, which is read from a file alone; give its name, or an object a "
            "line.",
        ),
    ],
)
def test_what_cannot_be_read(content: bytes, sentence: str) -> None:
    with pytest.raises(KshotError) as caught:
        flat(text_blocks("-", stream=stream(content)))
    assert str(caught.value) == sentence


def test_a_field_that_is_not_there_names_the_line() -> None:
    with pytest.raises(KshotError, match=r'^The input, line 2 has no field for the text .* its fields are "txt"'):
        flat(text_blocks("-", stream=stream('{"text": "a"}\n{"txt": "b"}\n')))


def test_a_text_in_brackets_is_a_text() -> None:
    assert flat(text_blocks("-", stream=stream("[sic] a text\n[]\n"))) == ["[sic] a text", "[]"]


def test_broken_json_names_the_line() -> None:
    with pytest.raises(KshotError, match=r"^The input, line 2: this is not valid JSON"):
        flat(text_blocks("-", stream=stream('{"text": "a"}\n{"text": "b"\n')))


def test_a_missing_file() -> None:
    with pytest.raises(KshotError, match=r"^There is no file nowhere\.txt"):
        flat(text_blocks("nowhere.txt"))
