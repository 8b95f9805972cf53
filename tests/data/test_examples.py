"""What an example shows, whatever its kind."""

from kshot.data.examples import Episode, Example, TaggedExample, TextExample
from kshot.data.tags import Span

SENTENCE = TaggedExample(("Ann", "met", "Bob", "Ray", "in", "Rome"), ("B-PER", "O", "B-PER", "I-PER", "O", "B-LOC"))


def test_a_text_shows_its_class() -> None:
    example: Example = TextExample("hello", "greet", "chat", "train")
    assert (example.text, example.labels, example.task, example.part) == ("hello", ("greet",), "chat", "train")


def test_a_sentence_shows_its_types_once_each() -> None:
    example: Example = SENTENCE
    assert (example.text, example.labels) == ("Ann met Bob Ray in Rome", ("PER", "LOC"))
    assert SENTENCE.spans == (Span(0, 1, "PER"), Span(2, 4, "PER"), Span(5, 6, "LOC"))


def test_an_episode_derives_its_way_and_shots() -> None:
    other = TaggedExample(("Oslo",), ("B-LOC",))
    episode = Episode((SENTENCE, other), (), ("LOC", "PER"), 0)
    assert episode.way == 2
    assert episode.shots == {"LOC": 2, "PER": 1}
