"""Small languages, tiny encoders that read them, and episodes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.examples import (
    INTENT,
    SLOT,
    Episode,
    Reply,
    SentencePair,
    TaggedExample,
    TextExample,
    Utterance,
    class_of,
)
from kshot.data.replies import replies_of
from kshot.data.tags import Span
from kshot.meta.learner import Learner, Pair
from kshot.models.build import build_encoder
from kshot.models.decoders import EncoderDecoder, EncoderDecoderSettings
from kshot.models.encoder import Encoder
from kshot.models.native import library
from kshot.models.pretrained import PretrainedSettings
from kshot.models.scratch import BagSettings, CNNSettings, LSTMSettings, TransformerSettings
from kshot.models.vocabulary import Vocabulary

_TOPICS = {
    "light/switch_on": "lamp bright bulb switch glow dim",
    "book.table": "table dinner seat evening guests menu",
    "play music": "song album loud singer play tune",
    "WeatherToday": "rain sunny cloud storm degrees wind",
    "send-parcel": "parcel post stamp deliver box courier",
    "open_account": "bank account card money deposit branch",
    "alarm": "wake morning alarm ring snooze clock",
    "train times": "train platform ticket station late express",
}
_FILLERS = ["the", "a", "please", "my", "now", "can", "you", "for", "to", "it", "is"]
CLASSES = tuple(_TOPICS)


def sentence(label: str, rng: np.random.Generator, longest: int = 7) -> str:
    """A text of a class: one to three of its words among words that say nothing."""
    own = rng.choice(_TOPICS[label].split(), size=rng.integers(1, 4), replace=False)
    words = [*own, *rng.choice(_FILLERS, size=rng.integers(0, longest - 2))]
    return " ".join(rng.permutation(words))


def examples(n: int, label: str, rng: np.random.Generator) -> list[TextExample]:
    """Different texts of a class."""
    texts: dict[str, None] = {}
    while len(texts) < n:
        texts[sentence(label, rng)] = None
    return [TextExample(text, label) for text in texts]


def episode(
    *, shots: Sequence[int] = (2, 2, 2), query: int = 2, seed: int = 0, classes: Sequence[str] = CLASSES
) -> Episode:
    """An episode with a class for each number of shots."""
    rng = np.random.default_rng(seed)
    chosen = tuple(str(name) for name in rng.permutation(list(classes))[: len(shots)])
    drawn = {name: examples(shot + query, name, rng) for name, shot in zip(chosen, shots, strict=True)}
    return Episode(
        support=tuple(row for name, shot in zip(chosen, shots, strict=True) for row in drawn[name][:shot]),
        query=tuple(row for name, shot in zip(chosen, shots, strict=True) for row in drawn[name][shot:]),
        classes=chosen,
        index=seed,
    )


def tagged(shots: Sequence[int], seed: int, n: int) -> list[TaggedExample]:
    """Sentences that show each class `shots` times at least: a topic's words are its entities."""
    rng = np.random.default_rng(seed)
    made = []
    for label, shot in zip(CLASSES, shots, strict=False):
        own = _TOPICS[label].split()
        for number in range(max(shot, n)):
            chosen = [str(word) for word in rng.choice(own, size=2, replace=False)]
            before, after = (str(word) for word in rng.choice(_FILLERS, size=2))
            words = (before, *chosen, after) if number % 2 else (chosen[0], after, before)
            tags = ("O", f"B-{label}", f"I-{label}", "O") if number % 2 else (f"B-{label}", "O", "O")
            made.append(TaggedExample(words, tags))
    return made


def tagged_episode(*, shots: Sequence[int] = (2, 2, 2), query: int = 2, seed: int = 0) -> Episode:
    """An episode of sentences; its types are the first classes."""
    support, asked = tagged(shots, seed, 1), tagged([query] * len(shots), seed + 1000, query)
    return Episode(tuple(support), tuple(asked), CLASSES[: len(shots)], seed)


def uttered(sentence: TaggedExample, intent: str, *, said: bool = True, task: str = "") -> Utterance:
    """A sentence as something that a user says, perhaps after two other turns; its entities are slots."""
    ends = np.cumsum([len(word) + 1 for word in sentence.tokens]).tolist()
    starts = [0, *ends[:-1]]
    spans = tuple(Span(starts[each.start], ends[each.end - 1] - 1, each.label) for each in sentence.spans)
    history = (Turn(USER, "can you help"), Turn(SYSTEM, f"what about the {sentence.tokens[0]}")) if said else ()
    return Utterance(sentence.text, intent, spans, history, task)


def utterances(shots: Sequence[int], seed: int, n: int, *, task: str = "") -> list[Utterance]:
    """Utterances of each class as an intent, whose words of its topic are a slot; every other one has a history."""
    return [
        uttered(each, each.labels[0], said=number % 2 == 0, task=task)
        for number, each in enumerate(tagged(shots, seed, n))
    ]


def utterance_episode(*, shots: Sequence[int] = (2, 2, 2), query: int = 2, seed: int = 0) -> Episode:
    """An episode of utterances; its intents and slots are the first classes."""
    support, asked = utterances(shots, seed, 1), utterances([query] * len(shots), seed + 1000, query)
    names = CLASSES[: len(shots)]
    classes = (*(class_of(INTENT, name) for name in names), *(class_of(SLOT, name) for name in names))
    return Episode(tuple(support), tuple(asked), classes, seed)


_LEXICON = {
    "măr": "apple",
    "roșu": "red",
    "яблоко": "fruit",
    "тёплый": "warm",
    "水": "water",
    "नदी": "river",
    "Haus": "house",
    "petit": "small",
    "mare": "sea",
    "și": "and",
}


def translation(source: str) -> str:
    """What a source of the toy language is in the other: word by word, from the end."""
    return " ".join(_LEXICON[word] for word in reversed(source.split()))


def sentence_pairs(n: int, seed: int = 0, *, longest: int = 4, task: str = "") -> list[SentencePair]:
    """Different sources of one word or more, and their translations."""
    rng = np.random.default_rng(seed)
    sources: dict[str, None] = {}
    while len(sources) < n:
        sources[" ".join(rng.choice(list(_LEXICON), size=rng.integers(1, longest + 1)))] = None
    return [SentencePair(source, translation(source), task) for source in sources]


def translation_episode(*, shot: int = 4, query: int = 3, seed: int = 0) -> Episode:
    """An episode of sentence pairs."""
    drawn = sentence_pairs(shot + query, seed)
    return Episode(tuple(drawn[:shot]), tuple(drawn[shot:]), (), seed)


def dialogue(seed: int = 0, *, n_replies: int = 3, task: str = "") -> list[Turn]:
    """A dialogue in which the system answers each turn by its translation, and a word of its own at the end."""
    word = f" {task}" if task else ""
    turns = []
    for each in sentence_pairs(n_replies, seed, longest=3):
        turns += [Turn(USER, each.source), Turn(SYSTEM, each.target + word)]
    return turns


def replies(n: int, seed: int = 0, *, task: str = "") -> list[Reply]:
    """Replies of dialogues of three each, the last of which may be cut."""
    found: list[Reply] = []
    for number in range(-(-n // 3)):
        found += replies_of(dialogue(100 * seed + number, task=task), task=task, dialogue=str(number))
    return found[:n]


def written_episode(kind: str, *, shot: int = 4, query: int = 3, seed: int = 0) -> Episode:
    """An episode of what is written: sentence pairs, or replies."""
    if kind == "translation":
        return translation_episode(shot=shot, query=query, seed=seed)
    return Episode(tuple(replies(shot, seed)), tuple(replies(query, seed + 50)), (), seed)


def pair(learner: Learner, drawn: Episode) -> Pair:
    """An episode as a learner takes it."""
    vocabulary = learner.encoder.vocabulary
    return (
        learner.task.collate(drawn.support, drawn.classes, vocabulary, support=True),
        learner.task.collate(drawn.query, drawn.classes, vocabulary, support=False),
    )


def corpus() -> list[str]:
    """Texts that a vocabulary can be learned from."""
    rng = np.random.default_rng(0)
    return [sentence(label, rng) for label in CLASSES for _ in range(12)]


_SHARED: dict[str, Any] = {"vocabulary_size": 300, "max_length": 16, "embedding_dim": 8, "dropout": 0.0}
SCRATCH: dict[str, Any] = {
    "bag": BagSettings(**_SHARED),
    "cnn": CNNSettings(widths=(2, 3), n_filters=6, **_SHARED),
    "lstm": LSTMSettings(hidden_dim=8, tokens="word", **_SHARED),
    "bilstm": LSTMSettings(hidden_dim=6, bidirectional=True, pooling="mean", **_SHARED),
    "spelled": LSTMSettings(
        hidden_dim=6,
        bidirectional=True,
        pooling="mean",
        tokens="characters",
        n_character_filters=5,
        **{**_SHARED, "max_length": 48},
    ),
    "transformer": TransformerSettings(model_dim=8, n_layers=2, n_heads=2, **_SHARED),
}


def scratch(kind: str, *, seed: int = 0, **changes: Any) -> Encoder:
    """A tiny encoder from scratch: one of `SCRATCH`."""
    return build_encoder(SCRATCH[kind].model_copy(update=changes), corpus(), seed=seed).eval()


_SMALL: dict[str, Any] = {"vocabulary_size": 360, "max_length": 32, "embedding_dim": 8, "dropout": 0.0}
SOURCES: dict[str, Any] = {
    "transformer": TransformerSettings(model_dim=8, n_layers=1, n_heads=2, **_SMALL),
    "lstm": LSTMSettings(hidden_dim=8, **_SMALL),
}
"""What reads the sources of a tiny translator."""


def seq2seq(source: str = "transformer", *, seed: int = 0, n_layers: int = 2, **changes: Any) -> EncoderDecoder:
    """A tiny encoder-decoder; its source is one of `SOURCES`, with changes."""
    settings = EncoderDecoderSettings(source=SOURCES[source].model_copy(update=changes), n_layers=n_layers, n_heads=2)
    texts = [text for each in sentence_pairs(60) for text in each.texts]
    made = build_encoder(settings, texts, seed=seed).eval()
    assert isinstance(made, EncoderDecoder)
    return made


def bert(folder: Path, **changes: Any) -> Encoder:
    """The tiny BERT of a folder, without dropout."""
    settings = PretrainedSettings(model=str(folder), max_length=16, dropout=0.0)
    return build_encoder(settings.model_copy(update=changes), [], seed=0).eval()


def save_tiny_bert(folder: Path) -> Path:
    """Saves a BERT of two layers with random weights as Hugging Face does."""
    import torch
    from transformers import BertConfig, BertModel

    vocabulary = Vocabulary.words(corpus(), size=200, max_length=32)
    vocabulary.save(folder)
    config = BertConfig(
        vocab_size=vocabulary.size,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


def needs_native() -> None:
    """Skips a test of functions in C where there is no compiler."""
    found = library()
    if found.functions is None:
        pytest.skip(f"No functions in C: {found.how}.")
