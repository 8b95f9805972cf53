"""The checks: each finding, word for word, and silence where all is well."""

from kshot.data.checks import Finding, check, check_splits, size_of
from kshot.data.dataset import ReplyDataset, TaggedDataset, TextDataset
from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.examples import Reply, SentencePair, TaggedExample, TextExample, Utterance


def pool(label: str, n: int = 10, task: str = "") -> list[TextExample]:
    return [TextExample(f"{label} {i}", label, task) for i in range(n)]


def test_good_examples_have_no_findings() -> None:
    assert check(pool("a") + pool("b")) == []


def test_each_finding_of_examples() -> None:
    examples = [
        *pool("a"),
        *pool("b", 3),
        TextExample("Same  Text", "a"),
        TextExample("same text", "b"),
        TextExample("A 0", "a"),
        TextExample("x" * 5000, "a"),
    ]
    assert check(examples) == [
        Finding("warning", '1 text stands under more than one label: "Same  Text" under "a" and "b".'),
        Finding("warning", '1 class has fewer than 10 different texts: "b" has 4.'),
        Finding("note", '1 text occurs more than once but for case and space: "a 0" 2 times.'),
        Finding(
            "note", "1 text is longer than 4,000 characters (the longest 5,000): an encoder reads the beginning only."
        ),
    ]


def test_one_class_or_none_is_an_error() -> None:
    assert check(pool("a")) == [Finding("error", 'There is one class only, "a": there is nothing to tell it from.')]
    assert check([]) == [Finding("error", "There are no examples.")]


def test_tasks_are_judged_each_on_its_own() -> None:
    examples = [TextExample(f"text {i}", "ab"[(i + t) % 2], f"task {t}") for t in range(2) for i in range(20)]
    assert check(examples, tasks=True) == []
    assert check(examples)[0].message.startswith("20 texts stand under more than one label")
    assert check([*examples, *pool("a", 12, "task 2")], tasks=True) == [
        Finding("error", 'Task "task 2" has one class only, "a": there is nothing to tell it from.')
    ]


def test_parts_must_not_share_what_is_new_in_them() -> None:
    train, valid, test = tuple(pool("a")), (*pool("a", 1), *pool("b")), tuple(pool("c"))
    assert check_splits(TextDataset("data", train, valid, test, "classes")) == [
        Finding("error", '1 class is in both train and valid: "a".'),
        Finding("warning", '1 text is in both train and valid, but for case and space: "a 0".'),
    ]
    assert check_splits(TextDataset("data", train, train[:0], test, "examples")) == [
        Finding("error", '1 class of test is not in train: "c".'),
        Finding("warning", 'The part "valid" is empty.'),
    ]
    one, other = tuple(pool("a", 2, "books")), tuple(TextExample(f"new {i}", "a", "books") for i in range(2))
    films = tuple(pool("f", 2, "films"))
    assert check_splits(TextDataset("data", one, films, other, "tasks")) == [
        Finding("error", '1 task is in both train and test: "books".')
    ]
    assert check_splits(TextDataset("data", train, tuple(pool("b")), test, "classes")) == []


def tagged(name: str, n: int = 10, task: str = "") -> list[TaggedExample]:
    return [TaggedExample((name, str(i), "here"), (f"B-{name}", f"I-{name}", "O"), task) for i in range(n)]


def test_sentences_where_all_is_well() -> None:
    assert check(tagged("a") + tagged("b")) == []


def test_sentences_that_contradict_and_repeat() -> None:
    again = TaggedExample(("A", "0", "here"), ("O", "O", "O"))
    twice = tagged("b", 1)
    assert check(tagged("a", 10) + tagged("b") + [again] + twice + twice) == [
        Finding("warning", '1 sentence is tagged in more than one way: "a 0 here".'),
        Finding("note", '1 sentence occurs more than once but for case and space: "b 0 here" 3 times.'),
    ]


def test_types_that_are_rare_or_alike() -> None:
    assert [finding.message for finding in check(tagged("Per") + tagged("per", 2) + tagged("loc", 3))] == [
        '2 sentences are tagged in more than one way: "Per 0 here".',
        '2 types have fewer than 10 mentions: "per" has 2.',
        'Types differ in case or space alone: "Per" and "per".',
    ]


def test_a_task_where_every_word_is_an_entity() -> None:
    full = [TaggedExample((f"x{i}",), ("B-a",), "full") for i in range(10)]
    told = "is part of an entity: there is nothing to tell an entity from."
    assert check(full) == [Finding("error", f"Every word {told}")]
    assert check(full + tagged("a", task="other"), tasks=True) == [
        Finding("error", f'Every word of task "full" {told}')
    ]


def test_parts_of_tagged_sentences() -> None:
    train, test = tuple(tagged("a")), (*tagged("a", 1), *tagged("b"))
    assert check_splits(TaggedDataset("data", train, tuple(tagged("c")), test, "classes")) == [
        Finding("error", '1 type is in both train and test: "a".'),
        Finding("warning", '1 text is in both train and test, but for case and space: "a 0 here".'),
    ]
    assert check_splits(TaggedDataset("data", train, train, tuple(tagged("b")), "examples"))[0] == Finding(
        "error", '1 type of test is not in train: "b".'
    )


def test_pairs_that_repeat_or_have_several_targets() -> None:
    pairs = [SentencePair(f"s {n}", f"t {n}") for n in range(4)]
    assert check(pairs) == []
    assert check(
        [*pairs, SentencePair("S  0", "t 0"), SentencePair("s 1", "other"), SentencePair("x" * 5000, "y")]
    ) == [
        Finding("note", '1 source has more than one target: "s 1".'),
        Finding("note", '1 pair occurs more than once but for case and space: "s 0" 2 times.'),
        Finding(
            "note", "1 text is longer than 4,000 characters (the longest 5,000): an encoder reads the beginning only."
        ),
    ]


def reply(said: str, text: str, task: str = "anna") -> Reply:
    return Reply((Turn(USER, said),), text, task)


def test_replies_are_known_by_what_was_said_before() -> None:
    assert check([reply("hi", "hello"), reply("bye", "hello"), reply("hi", "hello", "bert")]) == []
    assert check([reply("hi", "hello"), reply("Hi", "hello ")]) == [
        Finding("note", '1 reply to the same turns occurs more than once but for case and space: "hello " 2 times.')
    ]
    train, test = (reply("hi", "hello"), reply("why", "so")), (reply("HI", "hello", "bert"), reply("how", "so", "bert"))
    assert check_splits(ReplyDataset("data", train, train[:0], test, "tasks")) == [
        Finding("warning", 'The part "valid" is empty.'),
        Finding("warning", '1 text is in both train and test, but for case and space: "hi hello".'),
    ]


def test_sizes_in_words() -> None:
    assert size_of([TextExample("a", "b")]) == "1 text, 1 class"
    assert size_of(pool("a") + pool("b")) == "20 texts, 2 classes"
    assert size_of(tagged("a", 2)) == "2 sentences, 1 type"
    assert size_of([Utterance("no", "NONE", (), (Turn(SYSTEM, "more?"),))]) == "1 turn, 1 intent or slot"
    assert size_of([SentencePair("a", "b")] * 3) == "3 pairs"
    assert size_of([reply("hi", "hello"), reply("hi", "hello", "bert")]) == "2 dialogues, 2 replies"
    assert size_of([]) == "0 texts, 0 classes"
