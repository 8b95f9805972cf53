"""Utterances as items, the history that is read with them, and what frames are worth."""

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score

from contract import learner
from kshot.data.dialogue import SYSTEM, USER, Turn
from kshot.data.examples import Episode, Utterance
from kshot.data.tags import Span
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.understanding import Understanding, UnderstandingSettings, frame_scores
from toy import CLASSES, pair, scratch, utterance_episode

CORPUS = ["wake me at six please", "user system : what time ?", "alarm set yes no seven"]
WORDS = Vocabulary.words(CORPUS, size=100, max_length=16)
SAID = (Turn(USER, "wake me please"), Turn(SYSTEM, "what time ?"))
SIX = Utterance("at six , please", "SetAlarm", (Span(3, 6, "wake_time"),), SAID)
NO = Utterance("no", "NONE")
BOTH = ("intent:SetAlarm", "intent:NONE", "slot:wake_time")


def task(**settings: object) -> Understanding:
    return Understanding(UnderstandingSettings.model_validate(settings))


def collate(made: Understanding, examples: list[Utterance], *, support: bool = False) -> Batch:
    return made.collate(examples, BOTH, WORDS, support=support)


def test_an_utterance_is_read_after_what_was_said_before() -> None:
    batch = collate(task(), [SIX, NO])
    words = ["user", ":", "wake", "me", "please", "system", ":", "what", "time", "?", "user", ":"]
    words += ["at", "six", "[UNK]", "please"]
    assert batch.texts[0].tolist() == [WORDS.tokenizer.token_to_id(word) for word in words]
    assert batch.texts[1].tolist() == [WORDS.tokenizer.token_to_id("no")]
    assert batch.groups["tag"].rows.tolist() == [12, 13, 14, 15, 16]
    assert batch.groups["intent"].rows.tolist() == [12, 16]
    assert batch.groups["intent"].widths is not None
    assert batch.groups["intent"].widths.tolist() == [4, 1]
    vectors = torch.arange(17.0).unsqueeze(-1)
    assert batch.groups["intent"].features(vectors).flatten().tolist() == [13.5, 16.0]


def test_intents_and_slots_have_label_numbers_of_their_own() -> None:
    batch = collate(task(class_names=False), [SIX, NO], support=True)
    assert batch.groups["intent"].labels.tolist() == [0, 1]
    assert batch.groups["intent"].n_labels == 2
    assert batch.groups["tag"].n_labels == 3
    assert batch.groups["tag"].labels.tolist() == [0, 1, 0, 0, 0, 2]  # the last one borrowed: an I has no example
    unknown = Utterance("seven", "GetAlarm", (Span(0, 5, "hour"),))
    batch = collate(task(), [unknown])
    assert batch.groups["intent"].labels.tolist() == [-1]
    assert batch.groups["tag"].labels.tolist() == [-1]


@pytest.mark.parametrize("scheme", ["bio", "io", "spans"])
def test_names_of_intents_and_slots_are_examples_of_them(scheme: str) -> None:
    batch = collate(task(scheme=scheme, name_weight=0.5), [SIX, NO], support=True)
    group = batch.groups["intent"]
    assert group.labels.tolist() == [0, 1, 0, 1]
    assert group.weights.tolist() == [1, 1, 0.5, 0.5]
    assert group.rows.tolist() == [12, 16, 19, 21]  # the name of the slot stands between: two words from 17 on
    assert group.widths is not None
    assert group.widths.tolist() == [4, 1, 2, 1]
    words = batch.groups["entity" if scheme == "spans" else "tag"]
    assert 17 in words.rows.tolist()
    assert collate(task(scheme=scheme), [SIX, NO]).groups["intent"].labels.tolist() == [0, 1]
    weightless = collate(task(scheme=scheme, name_weight=0.0), [SIX, NO], support=True)
    assert weightless.groups["intent"].labels.tolist() == [0, 1]


def test_a_history_is_cut_from_its_old_side() -> None:
    long = tuple(Turn(USER if n % 2 else SYSTEM, "no " * (1 + n % 3)) for n in range(500))
    made = task(history=3)
    assert made.read_of(long, ("yes",), WORDS) == long[-3:]  # 5 + 3 + 4 tokens of the 13 that the utterance leaves
    assert made.read_of(long, ("yes",) * 3, WORDS) == long[-2:]
    assert made.read_of(long, ("yes",) * 8, WORDS) == long[-1:]
    assert made.read_of(long, ("yes",) * 20, WORDS) == ()
    assert task(history=1).read_of(long, ("yes",), WORDS) == long[-1:]
    assert task(history=0).read_of(long, ("yes",), WORDS) == ()
    one = collate(made, [Utterance("yes yes yes", "NONE", (), long)])
    other = collate(made, [Utterance("yes yes yes", "NONE", (), long[-2:])])
    np.testing.assert_array_equal(one.texts[0], other.texts[0])


def test_an_utterance_longer_than_an_encoder_reads_has_windows_and_one_intent() -> None:
    text = " ".join(["yes"] * 40)
    batch = collate(task(), [Utterance(text, "NONE", (Span(0, 3, "wake_time"),), SAID)])
    assert len(batch.texts) > 1
    assert batch.words is not None
    assert sum(len(each) for each in batch.words) == 40
    assert batch.groups["intent"].widths is not None
    assert batch.groups["intent"].widths.tolist() == [40]
    assert len(batch.groups["tag"].rows) == 40


def test_frames_are_right_as_a_whole_or_not() -> None:
    """By hand: the second has another intent, the third another end, the fourth a slot too many."""
    true = [("A", [Span(0, 1, "x")]), ("B", [Span(2, 3, "x")]), ("A", [Span(0, 2, "y")]), ("C", [])]
    found = [("A", [Span(0, 1, "x")]), ("A", [Span(2, 3, "x")]), ("A", [Span(0, 1, "y")]), ("C", [Span(4, 5, "x")])]
    joint, intents, f1 = frame_scores(true, found)
    assert joint == 1 / 4
    assert intents == 3 / 4
    assert f1 == pytest.approx(2 * 2 / (3 + 4))
    assert frame_scores(true, true) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("algorithm", ["prototypical", "ridge"])
@pytest.mark.parametrize("scheme", ["bio", "spans"])
def test_scores_agree_with_seqeval_and_a_count_by_hand(algorithm: str, scheme: str) -> None:
    made = learner(algorithm, scratch("bilstm", max_length=64), task=task(scheme=scheme))
    drawn = utterance_episode(shots=(3, 3, 3), query=8)
    support, query = pair(made, drawn)
    asked = [each for each in drawn.query if isinstance(each, Utterance)]
    assert isinstance(made.task, Understanding)
    with torch.no_grad():
        scorer = made.scorer(made.adapt(support), query)
        scores = dict(zip(made.task.measures, made.task.score(scorer, query, asked, drawn.classes), strict=True))
        logits = scorer(query)["intent"]
        words = [each.sentence for each in asked]
        understood = made.task.understand(scorer, query, [len(each.tokens) for each in words], drawn.classes)
    chosen = [CLASSES[number] for number in logits.argmax(dim=-1).tolist()]
    tags = []
    for sentence, found in zip(words, understood.slots, strict=True):
        own = ["O"] * len(sentence.tokens)
        for one in found:
            own[one.span.start : one.span.end] = [f"I-{one.span.label}"] * (one.span.end - one.span.start)
            own[one.span.start] = f"B-{one.span.label}"
        tags.append(own)
    assert scores["slot F1"] == pytest.approx(f1_score([list(each.tags) for each in words], tags))
    rights = [name == each.intent for name, each in zip(chosen, asked, strict=True)]
    assert scores["intent accuracy"] == pytest.approx(np.mean(rights))
    whole = [r and list(each.tags) == own for r, each, own in zip(rights, words, tags, strict=True)]
    assert scores["joint accuracy"] == pytest.approx(np.mean(whole))
    assert 0 < scores["intent accuracy"] < 1 or 0 < scores["slot F1"] < 1  # else the comparison says little


def test_what_the_support_does_not_show_counts_as_missed() -> None:
    made = learner("prototypical", scratch("bilstm", max_length=64), task=task())
    drawn = utterance_episode()
    asked = tuple(Utterance(each.text, "unheard of", ()) for each in drawn.query)
    support, query = pair(made, Episode(drawn.support, asked, drawn.classes, 0))
    with torch.no_grad():
        joint, intents, _ = made.task.score(made.scorer(made.adapt(support), query), query, asked, drawn.classes)
    assert (joint, intents) == (0.0, 0.0)


def test_what_follows_what_is_measured_on_the_words_of_utterances() -> None:
    made = task(transitions="learned").learned_from([SIX, NO])
    assert made.settings.table is not None
    assert made.settings.table[0] == pytest.approx((3 / 4, 1 / 4, 0.0))  # two beginnings outside, and one each before
    again = build_task(describe_task(made))
    assert isinstance(again, Understanding)
    assert again.settings == made.settings
    assert again.groups == ("intent", "tag")
    assert build_task({"kind": "understanding", "scheme": "spans"}).groups == ("intent", "boundary", "entity")
