"""The readers of tagged sentences: what is written is read, and an error says where and what to do."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kshot.data.examples import TaggedExample
from kshot.data.readers import is_tagged, read_tagged
from kshot.data.tags import Span, tags_of
from kshot.data.words import split_words
from kshot.errors import KshotError

one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "S"]), min_size=1, max_size=6)
TYPES = st.sampled_from(["PER", "LOC", "fine/type-2"])
TEXT = "Aspirin can cause nausea."


@st.composite
def sentences(draw: st.DrawFn) -> TaggedExample:
    """A sentence with one entity at least."""
    words = draw(st.lists(WORDS, min_size=1, max_size=8))
    start = draw(st.integers(0, len(words) - 1))
    end = draw(st.integers(start + 1, len(words)))
    return TaggedExample(tuple(words), tags_of([Span(start, end, draw(TYPES))], len(words)))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def row(tokens: object, tags: object, **more: object) -> str:
    return json.dumps({"tokens": tokens, "tags": tags, **more}) + "\n"


def spans(*given_spans: object, text: str = TEXT) -> str:
    return json.dumps({"text": text, "spans": given_spans})


def span(start: Any, end: Any, label: Any = "X", **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, **more}


@one_file
@given(st.lists(sentences(), min_size=1, max_size=5))
def test_round_trips(tmp_path: Path, made: list[TaggedExample]) -> None:
    lines = "".join(row(each.tokens, each.tags) for each in made)
    assert read_tagged(write(tmp_path / "data.jsonl", lines)) == made
    assert read_tagged(write(tmp_path / "data.jsonl.gz", gzip.compress(lines.encode()))) == made
    items = json.dumps([{"words": each.tokens, "ner_tags": each.tags} for each in made])
    assert read_tagged(write(tmp_path / "data.json", items)) == made
    for name, between in (("data.conll", " "), ("data.iob2", "\t"), ("data.tsv", "\tNN\t")):
        columns = "\n".join(
            "".join(f"{word}{between}{tag}\n" for word, tag in zip(each.tokens, each.tags, strict=True))
            for each in made
        )
        path = write(tmp_path / name, columns)
        assert is_tagged(path)
        assert read_tagged(path) == made


@one_file
@given(st.lists(sentences(), min_size=1, max_size=5))
def test_marked_text_gives_the_words_that_a_new_text_will_have(tmp_path: Path, made: list[TaggedExample]) -> None:
    by_span, inline = "", ""
    for each in made:
        [entity] = each.spans
        before, words = each.tokens[: entity.start], each.tokens[entity.start : entity.end]
        start = sum(len(word) + 1 for word in before)
        by_span += spans(span(start, start + len(" ".join(words)), entity.label), text=each.text) + "\n"
        inside = f"[{' '.join(words)}]({entity.label})"
        inline += " ".join([*before, inside, *each.tokens[entity.end :]]) + "\n"
    read = read_tagged(write(tmp_path / "data.jsonl", by_span))
    assert read == read_tagged(write(tmp_path / "data.txt", inline))
    assert is_tagged(tmp_path / "data.jsonl")
    assert is_tagged(tmp_path / "data.txt")
    assert [list(each.tokens) for each in read] == [[word for word, _, _ in split_words(each.text)] for each in made]
    for each, original in zip(read, made, strict=True):
        [found], [entity] = each.spans, original.spans
        assert "".join(each.tokens[found.start : found.end]) == "".join(original.tokens[entity.start : entity.end])
        assert found.label == entity.label


def test_text_with_spans(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", spans(span(18, 24, "Disease"), span(0, 8, "Chemical")))
    assert read_tagged(path) == [
        TaggedExample(("Aspirin", "can", "cause", "nausea", "."), ("B-Chemical", "O", "O", "B-Disease", "O"))
    ]
    predicted = {"text": TEXT, "entities": [span(18, 24, "Disease", text="nausea", confidence=0.9)]}
    path = write(tmp_path / "data.jsonl", json.dumps(predicted))
    assert read_tagged(path)[0].spans == (Span(3, 4, "Disease"),)


def test_marks_in_plain_text(tmp_path: Path) -> None:
    content = "[Aspirin](Chemical) can cause [severe nausea](Disease) \\[1\\] (so).\n\nNothing here\n"
    assert read_tagged(write(tmp_path / "data.txt", content)) == [
        TaggedExample(
            ("Aspirin", "can", "cause", "severe", "nausea", "[", "1", "]", "(", "so", ")", "."),
            ("B-Chemical", "O", "O", "B-Disease", "I-Disease", *["O"] * 7),
        ),
        TaggedExample(("Nothing", "here"), ("O", "O")),
    ]


def test_columns_with_headings_and_comments(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O O\n\n# id = 3\nEU NNP B-ORG\nrejects VB O\n# # O\r\n\n\n# O\nRome B-LOC"
    assert read_tagged(write(tmp_path / "data.conll", content)) == [
        TaggedExample(("EU", "rejects", "#"), ("B-ORG", "O", "O")),
        TaggedExample(("#", "Rome"), ("O", "B-LOC")),
    ]


@pytest.mark.parametrize("name", ["data.conll", "data.tsv"])
def test_a_sentence_may_begin_with_the_token_of_a_comment(tmp_path: Path, name: str) -> None:
    content = "# NN I-NP O\nNew NNP B-NP B-LOC\n\n# text = I O\n# 3 O\nYork NNP B-NP B-LOC\n\n# NN I-NP O\n"
    assert [each.tokens for each in read_tagged(write(tmp_path / name, content))] == [("#", "New"), ("York",), ("#",)]


def test_a_new_document_ends_a_sentence(tmp_path: Path) -> None:
    content = "a DT B-X\n-DOCSTART- -X- O\nc DT O\n-DOCSTART- -X- O\n\nd DT O"
    assert [each.tokens for each in read_tagged(write(tmp_path / "data.conll", content))] == [("a",), ("c",), ("d",)]


def test_domains_and_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", row(["x"], ["B-A"], domain="law", split="train", id=4))
    assert read_tagged(path) == [TaggedExample(("x",), ("B-A",), "law", "train")]
    with pytest.raises(KshotError, match='has no field "area" for the task; its fields are "tokens", "tags"'):
        read_tagged(path, task="area")


def test_io_and_bare_types_are_converted_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "data.conll", "Ann I-PER\nRay I-PER\nin O\nRome I-LOC\nBig building-other\n")
    assert read_tagged(path, scheme="io")[0].tags == ("B-PER", "I-PER", "O", "B-LOC", "B-building-other")
    with pytest.raises(KshotError) as caught:
        read_tagged(path, scheme="iob")  # type: ignore[arg-type]
    assert str(caught.value) == 'There is no scheme "iob"; write "bio", or "io" for IO and IOB1.'


@pytest.mark.parametrize(
    ("name", "content", "tagged"),
    [
        ("data.jsonl", row(["x"], ["O"]), True),
        ("data.jsonl", '{"text": "x", "entities": []}', True),
        ("data.jsonl", '{"text": "x", "label": "a"}', False),
        ("data.jsonl", '{"tokens": ["x"], "label": "a"}', False),
        ("data.json", "[]", False),
        ("data.bio", "x O", True),
        ("data.tsv", "text\tlabel\nx\tO\n", False),
        ("data.tsv", "EU\tB-ORG\n\nx\tO\n", True),
        ("data.csv", "token,tag\nx,O\n", False),
        ("data.txt", "see [1] (so)\n", False),
        ("data.txt", "see [Rome](LOC)\n", True),
    ],
)
def test_which_files_are_tagged(tmp_path: Path, name: str, content: str, tagged: bool) -> None:
    assert is_tagged(write(tmp_path / name, content)) == tagged


GOOD = row(["x"], ["B-A"])
NO_BEGIN = "goes on with an entity that does not begin"
IO_WAY = 'or read the file with scheme="io" if its tags are'
OF_SPAN = "start is the first character from 0, and end is one past the last."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "data.jsonl",
            GOOD + row(["the", "Bank"], ["O", "I-ORG"]),
            f', line 2: the tag "I-ORG" of word 2 ("Bank") {NO_BEGIN} (before it stands \'O\'); write "B-ORG", '
            f"{IO_WAY} IO or IOB1.",
        ),
        (
            "data.conll",
            "the O\n\nAnn B-PER\nBank I-ORG\n",
            f', line 4: the tag "I-ORG" of word 2 ("Bank") {NO_BEGIN} (before it stands \'B-PER\'); write "B-ORG", '
            f"{IO_WAY} IO or IOB1.",
        ),
        (
            "data.jsonl",
            row(["x"], ["art-music"]),
            ', line 1: the tag "art-music" of word 1 ("x") is neither "O" nor "B-TYPE" nor "I-TYPE"; write one of '
            f"them, {IO_WAY} bare types.",
        ),
        (
            "data.jsonl",
            row(["x", "y"], ["O"]),
            ", line 1: there are 2 tokens and 1 tag; give one tag for each token.",
        ),
        (
            "data.jsonl",
            GOOD + row([], []),
            ', line 2: the field "tokens" is empty; fill it in or take the row out.',
        ),
        ("data.jsonl", row(["x", " "], ["O", "O"]), ", line 1: word 2 is empty; take it out, with its tag."),
        (
            "data.jsonl",
            row(["x"], [3]),
            ", line 1: tag 1 is a number (3), not a text; write it in quotation marks (the names of the types, not "
            "their numbers).",
        ),
        (
            "data.jsonl",
            row(["x", None], ["O", "O"]),
            ", line 1: word 2 is null (null), not a text; write it in quotation marks.",
        ),
        (
            "data.jsonl",
            row("a b", ["O", "O"]),
            ', line 1: the field "tokens" is a text ("a b"), not a list; write one word for each word, [...].',
        ),
        (
            "data.jsonl",
            row(["\ud83d"], ["O"]),
            ', line 1: the field "tokens" has half a character (a lone surrogate); write the file again as UTF-8.',
        ),
        ("data.jsonl", GOOD + '{"tokens": ["x"]}', ', line 2: there is no field "tags"; the fields are "tokens".'),
        (
            "data.jsonl",
            '{"tokens": ["x"], "label": "a"}',
            ' has neither "tokens" and "tags" nor "text" and "spans"; its fields are "tokens", "label"; rename them.',
        ),
        ("data.jsonl", row(["x"], ["O"]), " has no entity in 1 sentence; mark at least one."),
        ("data.json", "[]", " has no sentences; add at least one."),
        ("data.conll", "-DOCSTART- O\n", " has no sentences; add at least one."),
        ("data.conll", "", " is empty; add at least one line."),
        ("data.conll", b"x\0", " is not a text file (NUL byte at byte 1); if it is UTF-16 text, save it as UTF-8."),
        (
            "data.conll",
            "x O\ncafé O\n".encode("latin-1"),
            ", line 2: byte 7 (0xe9) is not UTF-8; save the file as UTF-8.",
        ),
        (
            "data.conll",
            "EU B-ORG\nrejects\n",
            ', line 2: there is one column only, "rejects"; write the token first and its tag last, with a tab or a '
            "space between them.",
        ),
        ("data.conll", "EU\tB-ORG\n\tO\n", ", line 2: the token is empty; take the line out."),
        (
            "data.jsonl",
            spans(span(0, 7), span(0, 11, "Y")),
            ', line 1: the spans "Aspirin" (X) and "Aspirin can" (Y) overlap; keep one of them.',
        ),
        (
            "data.jsonl",
            spans(span(0, 70)),
            f", line 1: span 1 goes from 0 to 70, but the text has 25 characters; {OF_SPAN}",
        ),
        (
            "data.jsonl",
            spans(span(0, 7), span(3, 3)),
            f", line 1: span 2 goes from 3 to 3, but the text has 25 characters; {OF_SPAN}",
        ),
        (
            "data.jsonl",
            spans(span(-1, 3)),
            f", line 1: span 1 goes from -1 to 3, but the text has 25 characters; {OF_SPAN}",
        ),
        (
            "data.jsonl",
            spans(span(0, 4)),
            ', line 1: the span "Aspi" (X) cuts the word "Aspirin"; let it begin and end with a word, or give tokens '
            "and tags.",
        ),
        (
            "data.jsonl",
            spans(span(7, 8)),
            ", line 1: the span from 7 to 8 (X) holds white space alone; move it to a word or take it out.",
        ),
        (
            "data.jsonl",
            spans({**span(0, 7), "lable": "X"}),
            ', line 1: span 1 has a field "lable" that kshot does not know; the fields of a span are start, end and '
            'label. Did you mean "label"?',
        ),
        (
            "data.jsonl",
            spans({"start": 0, "end": 7}),
            ', line 1: span 1 has no field "label"; a span has start, end and label.',
        ),
        (
            "data.jsonl",
            spans(span("0", 7)),
            ', line 1: the start of span 1 is a text ("0"), not a whole number; count characters from 0.',
        ),
        (
            "data.jsonl",
            spans(span(0, 7, "")),
            ', line 1, span 1: the field "label" is empty; fill it in or take the row out.',
        ),
        (
            "data.jsonl",
            spans(span(0, 7, text="nausea")),
            ', line 1: span 1 says that it is "nausea", but from 0 to 7 stands "Aspirin"; put start and end right.',
        ),
        (
            "data.jsonl",
            spans(3),
            ', line 1: span 1 is a number (3), not an object; write {"start": ..., "end": ..., "label": ...}.',
        ),
        (
            "data.jsonl",
            '{"text": "x", "spans": null}',
            ', line 1: the field "spans" is null (null), not a list; write [{"start": ..., "end": ..., "label": ...}].',
        ),
        (
            "data.jsonl",
            '{"text": " ", "spans": []}',
            ', line 1: the field "text" is empty; fill it in or take the row out.',
        ),
        (
            "data.txt",
            "[a](X)\nas in [1].\n",
            ', line 2: the "[" at character 7 does not mark an entity as in [Aspirin](Chemical); write \\[ for a '
            "bracket of the text.",
        ),
        (
            "data.txt",
            "Aspirin](Chemical)\n",
            ', line 1: the "]" at character 8 does not mark an entity as in [Aspirin](Chemical); write \\] for a '
            "bracket of the text.",
        ),
        ("data.txt", "x [](Chemical)\n", ", line 1: [](Chemical) lacks its words; write [Aspirin](Chemical)."),
        ("data.txt", "x [nausea]( )\n", ", line 1: [nausea]( ) lacks its type; write [Aspirin](Chemical)."),
        (
            "data.txt",
            "[Aspi](Chemical)rin\n",
            ', line 1: the span "Aspi" (Chemical) cuts the word "Aspirin"; let it begin and end with a word, or give '
            "tokens and tags.",
        ),
        ("data.txt", "plain text\n", " has no entity in 1 sentence; mark at least one."),
        (
            "data.csv",
            "token,tag\n",
            ' has the suffix ".csv", which kshot does not read as tagged sentences; use one of .jsonl, .json, .conll, '
            ".bio, .iob, .iob2, .tsv, .txt (or any of them with .gz).",
        ),
    ],
)
def test_errors_name_file_line_value_and_way_out(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(KshotError) as caught:
        read_tagged(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "train.conll", "x O")
    missing = tmp_path / "trian.conll"
    with pytest.raises(KshotError) as caught:
        read_tagged(missing)
    assert str(caught.value) == f'There is no file {missing}; check the path. Did you mean "train.conll"?'
