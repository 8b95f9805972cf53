"""The readers: what is written is read, and an error says where and what to do."""

import csv
import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kshot.data.catalogue import load_dataset
from kshot.data.examples import TextExample
from kshot.data.readers import read_examples, read_hf, read_texts
from kshot.errors import KshotError

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
labels = texts.map(str.strip)
rows = st.lists(st.tuples(texts, labels), min_size=1, max_size=6)
one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

PECULIAR = [
    "😀 👩‍👩‍👧 ok",
    "שלום עולם",
    'مرحبا, "اسم"',
    "a\u2028b\x85c\x1cd",
    "x" * 100_000,
    "ﬃ é e\u0301",
    "line\nbreak",
    "'",
]


def examples(pairs: list[tuple[str, str]]) -> list[TextExample]:
    return [TextExample(text, label) for text, label in pairs]


def jsonl(pairs: list[tuple[str, str]], ascii_only: bool = False) -> str:
    return "".join(json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) + "\n" for text, label in pairs)


def table(pairs: list[tuple[str, str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows([("text", "label"), *pairs])
    return written.getvalue()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@one_file
@given(rows, st.booleans(), st.booleans(), st.booleans())
def test_jsonl_round_trip(
    tmp_path: Path, pairs: list[tuple[str, str]], ascii_only: bool, byte_order_mark: bool, compressed: bool
) -> None:
    content = jsonl(pairs, ascii_only).encode("utf-8-sig" if byte_order_mark else "utf-8")
    path = tmp_path / ("data.jsonl.gz" if compressed else "data.jsonl")
    write(path, gzip.compress(content) if compressed else content)
    assert read_examples(path) == examples(pairs)
    assert read_texts(path) == [text for text, _ in pairs]


@one_file
@given(rows)
def test_json_and_csv_round_trip(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    path = write(tmp_path / "data.json", json.dumps([{"text": text, "label": label} for text, label in pairs]))
    assert read_examples(path) == examples(pairs)
    assert read_examples(write(tmp_path / "data.csv", table(pairs))) == examples(pairs)


@pytest.mark.parametrize("text", PECULIAR)
def test_peculiar_texts_are_read_as_they_are(tmp_path: Path, text: str) -> None:
    pairs = [(text, "a"), ("b", "c")]
    assert read_examples(write(tmp_path / "data.jsonl", jsonl(pairs))) == examples(pairs)
    assert read_examples(write(tmp_path / "data.csv", table(pairs))) == examples(pairs)


def test_a_text_beyond_the_limit_of_csv_is_read_and_the_limit_is_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    pairs = [("long " * 60_000, "a")]
    assert read_examples(write(tmp_path / "data.csv", table(pairs))) == examples(pairs)
    assert csv.field_size_limit() == before


def test_tsv_takes_quotation_marks_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "data.tsv", 'sentence\tlabel\n"quoted\t0\n\n5" screen\t1\r\n')
    assert read_examples(path) == examples([('"quoted', "0"), ('5" screen', "1")])


def test_csv_with_semicolons_and_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", b'\xef\xbb\xbfUtterance;Intent\r\n"a; b";one\r\n\r\n"c\r\nd";two\r\n')
    assert read_examples(path) == examples([("a; b", "one"), ("c\r\nd", "two")])


def test_fields_are_found_or_named(tmp_path: Path) -> None:
    row = {"id": 7, "query": "hi", "intent": " greet ", "domain": "chat", "split": "train", "mood": 2.0}
    path = write(tmp_path / "data.jsonl", json.dumps(row))
    assert read_examples(path) == [TextExample("hi", "greet", "chat", "train")]
    named = read_examples(path, text="intent", label="mood", task="id", part="query")
    assert named == [TextExample(" greet ", "2", "7", "hi")]


@pytest.mark.parametrize(
    ("label", "name"), [(3, "3"), (3.0, "3"), (0.5, "0.5"), (True, "true"), (False, "false"), ("03", "03")]
)
def test_a_label_may_be_a_number(tmp_path: Path, label: object, name: str) -> None:
    path = write(tmp_path / "data.jsonl", json.dumps({"text": "x", "label": label}))
    assert read_examples(path) == [TextExample("x", name)]


def test_a_task_may_be_missing_in_some_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", '{"text": "x", "label": 1, "task": null}\n{"text": "y", "label": 2}\n')
    assert read_examples(path) == examples([("x", "1"), ("y", "2")])


GOOD = '{"text": "x", "label": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.jsonl", "", "is empty; add at least one line."),
        ("data.jsonl", " \n\n", "is empty; add at least one line."),
        ("data.json", "[]", "has no examples; add at least one."),
        ("data.csv", "text,label\n", "has no examples; add at least one."),
        (
            "data.jsonl",
            GOOD + '{"text": "y"}\n',
            ', line 2: there is no field "label"; the fields are "text".',
        ),
        (
            "data.jsonl",
            '{"body": "x", "Kind": "a"}',
            ' has no field for the text that kshot knows (text, sentence, utterance, query); its fields are "body", '
            '"Kind"; rename one, or say which it is with text=... or --text of kshot '
            "adapt and predict.",
        ),
        (
            "data.csv",
            "I lost my card,card_lost\n",
            " has no examples; add at least one.",
        ),
        (
            "data.csv",
            "I lost my card,card_lost\nWhere is it,where\n",
            " has no field for the text that kshot knows (text, sentence, utterance, query); its fields are "
            '"I lost my card", "card_lost"; rename one, or say which it is with text=... or --text of kshot '
            "adapt and predict.",
        ),
        (
            "data.jsonl",
            GOOD + '\n{"text": " ", "label": "a"}',
            ', line 3: the field "text" is empty; fill it in or take the row out.',
        ),
        (
            "data.jsonl",
            '{"text": ["x"], "label": "a"}',
            ', line 1: the field "text" is a list (["x"]), not a text; write it in quotation marks.',
        ),
        (
            "data.jsonl",
            '{"text": 5, "label": "a"}',
            ', line 1: the field "text" is a number (5), not a text; write it in quotation marks.',
        ),
        (
            "data.jsonl",
            '{"text": "x", "label": null}',
            ', line 1: the field "label" is null (null), not a name; write one text or number.',
        ),
        (
            "data.jsonl",
            '{"text": "x", "label": ""}',
            ', line 1: the field "label" is empty; fill it in or take the row out.',
        ),
        (
            "data.jsonl",
            GOOD + '{"text": "x", "label": NaN}',
            ', line 2: the field "label" is NaN, which names nothing; fill it in or take the row out.',
        ),
        (
            "data.json",
            '[{"text": "x", "label": -Infinity}]',
            ', item 1: the field "label" is -Infinity, which names nothing; fill it in or take the row out.',
        ),
        (
            "data.jsonl",
            '{"text": "\\ud83d", "label": "a"}',
            ', line 1: the field "text" has half a character (a lone surrogate); write the file again as UTF-8.',
        ),
        (
            "data.jsonl",
            GOOD + '{"text": "y", "label": "a"\n',
            ", line 2, column 27: this is not valid JSON (Expecting ',' delimiter); correct the line.",
        ),
        (
            "data.json",
            '[\n{"text": "y"},,\n]',
            ", line 2, column 15: this is not valid JSON (Expecting value); correct the line.",
        ),
        ("data.jsonl", '"x"\n', ', line 1: "x" is a text, not an object; write {"text": ..., "label": ...}.'),
        (
            "data.json",
            '{"text": "x"}',
            " holds an object, not a list; write [{...}, {...}], or one object a line in a .jsonl file.",
        ),
        (
            "data.json",
            '[{"text": "x"}, 3]',
            ', item 2: 3 is a number, not an object; write {"text": ..., "label": ...}.',
        ),
        ("data.jsonl", GOOD.encode("utf-16"), " is UTF-16, not UTF-8; save it as UTF-8."),
        (
            "data.jsonl",
            GOOD.encode() + '{"text": "café", "label": "a"}'.encode("latin-1"),
            ", line 2: byte 41 (0xe9) is not UTF-8; save the file as UTF-8.",
        ),
        (
            "data.csv",
            b"text,label\n\x00\x01",
            " is not a text file (NUL byte at byte 11); if it is UTF-16 text, save it as UTF-8.",
        ),
        (
            "data.csv",
            'text,label\n"a\nb",c\nd, e,f\n',
            ", line 4: 3 columns where the first row has 2 (text, label); put a text with the separator in it in "
            "quotation "
            "marks.",
        ),
        (
            "data.tsv",
            "text\tlabel\na\n",
            ", line 2: 1 columns where the first row has 2 (text, label); write a tab inside a text as a space.",
        ),
        (
            "data.csv",
            'text,label\na,b\n"c" d,e\n',
            ", line 3: this row cannot be read (',' expected after '\"'); put a text with quotation marks in quotation "
            'marks and double them ("").',
        ),
        (
            "data.csv",
            "text,label,text\na,b,c\n",
            ', line 1: the field "text" stands twice in the first row; give each column its own name.',
        ),
        (
            "data.xlsx",
            "x",
            ' has the suffix ".xlsx", which kshot does not read; use one of .jsonl, .json, .csv, .tsv (or any of them '
            "with .gz).",
        ),
        (
            "data.jsonl.gz",
            GOOD,
            " is not a whole gzip file (Not a gzipped file (b'{\"')); compress it again, or leave .gz off its name.",
        ),
    ],
)
def test_errors_name_file_line_and_way_out(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(KshotError) as caught:
        read_examples(path)
    assert str(caught.value) == f"{path}{message if message[0] in ' ,' else f' {message}'}"


def test_errors_about_the_file_itself(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", GOOD)
    missing = tmp_path / "trian.jsonl"
    with pytest.raises(KshotError) as caught:
        read_examples(missing)
    assert str(caught.value) == f'There is no file {missing}; check the path. Did you mean "train.jsonl"?'
    with pytest.raises(KshotError) as caught:
        read_examples(tmp_path)
    assert str(caught.value) == f"{tmp_path} is a folder, not a file; name a file in it."
    with pytest.raises(KshotError) as caught:
        read_examples(tmp_path / "train")
    assert str(caught.value) == f'There is no file {tmp_path / "train"}; check the path. Did you mean "train.jsonl"?'
    long = tmp_path / ("x" * 300)
    for name in (long, long / "train.csv", tmp_path / f"{long.name}.jsonl"):
        for read in (read_examples, load_dataset):
            with pytest.raises(KshotError) as caught:
                read(name)
            assert str(caught.value) == f'The name "{"x" * 40}…" is too long for a file.'
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(KshotError, match=r"folder\.jsonl is a folder, not a file; name a file in it\."):
        read_examples(tmp_path / "folder.jsonl")
    whole = gzip.compress(GOOD.encode() * 50)
    with pytest.raises(KshotError, match="is not a whole gzip file"):
        read_examples(write(tmp_path / "cut.jsonl.gz", whole[:-9]))
    with pytest.raises(KshotError, match="line 1: this JSON cannot be read"):
        read_examples(write(tmp_path / "deep.jsonl", "[" * 200_000))
    with pytest.raises(KshotError, match="line 1: this JSON cannot be read"):
        read_examples(write(tmp_path / "digits.jsonl", "1" * 5000))


def test_a_named_field_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", GOOD)
    with pytest.raises(KshotError) as caught:
        read_examples(path, text="txt")
    assert str(caught.value) == (
        f'{path} has no field "txt" for the text; its fields are "text", "label". Did you mean "text"?'
    )
    with pytest.raises(KshotError, match='has no field "area" for the task; its fields are "text", "label"'):
        read_examples(path, task="area")


def test_texts_to_predict(tmp_path: Path) -> None:
    plain = write(tmp_path / "texts.txt", b"\xef\xbb\xbf one \r\n\r\ntwo\xe2\x80\xa8more\n  \n")
    assert read_texts(plain) == ["one", "two\u2028more"]
    assert read_texts(io.StringIO("one\n\n two\n")) == ["one", "two"]
    assert read_texts(write(tmp_path / "texts.csv", "id,text\n1,one\n2,two\n")) == ["one", "two"]
    assert read_texts(write(tmp_path / "other.csv", "id,body\n1,one\n"), text="body") == ["one"]


def test_errors_of_texts_to_predict(tmp_path: Path) -> None:
    with pytest.raises(KshotError) as caught:
        read_texts(io.StringIO(" \n"))
    assert str(caught.value) == "The input has no texts; give one a line."
    with pytest.raises(KshotError) as caught:
        read_texts(io.TextIOWrapper(io.BytesIO("café".encode("latin-1")), encoding="utf-8"))
    assert str(caught.value) == "The input is not UTF-8 (byte 0xe9); give it as UTF-8."
    with pytest.raises(KshotError) as caught:
        read_texts(write(tmp_path / "texts.md", "x"))
    assert str(caught.value) == (
        f'{tmp_path / "texts.md"} has the suffix ".md", which kshot does not read; use one of .jsonl, .json, .csv, '
        ".tsv, "
        ".txt (or any of them with .gz)."
    )
    with pytest.raises(KshotError, match="has no texts; add at least one"):
        read_texts(write(tmp_path / "texts.csv", "text\n"))


def test_hub_data_sets_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError) as caught:
        read_hf("some/name")
    assert str(caught.value) == (
        'Data sets of the Hugging Face Hub need one more package: pip install "kshot[datasets]"'
    )


@pytest.mark.filterwarnings("ignore")
def test_hub_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    classes = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "image": datasets.Value("int8"),
        }
    )
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0], "image": [0, 0]}, features=classes)
    asked = []

    def load(name: str, config: str | None, split: str) -> object:
        asked.append((name, config, split))
        return table

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_hf("some/name", config="small", split="test") == examples([("a", "yes"), ("b", "no")])
    assert asked == [("some/name", "small", "test")]
    with pytest.raises(KshotError, match=r'hf:some/name has no field "intent" for the label; its fields are "text", '):
        read_hf("some/name", label="intent")
    monkeypatch.undo()
    with pytest.raises(
        KshotError, match=r'The data set ".*nowhere" \(split "train"\) cannot be loaded: .*; check the '
    ):
        read_hf(str(tmp_path / "nowhere"))
