"""Sentence pairs to items, a teacher-forced loss by hand, and BLEU and chrF by sacrebleu."""

import sys
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contract import translator
from kshot.data.examples import SentencePair
from kshot.errors import KshotError
from kshot.models.decoders import EncoderDecoder
from kshot.models.encoder import n_vectors
from kshot.models.search import SearchSettings
from kshot.models.vocabulary import Vocabulary
from kshot.tasks.base import Batch, Task, join
from kshot.tasks.classification import Classification
from kshot.tasks.kinds import build_task, describe_task
from kshot.tasks.tagging import Tagging, TaggingSettings
from kshot.tasks.translation import Translation, TranslationSettings, corpus_scores
from toy import episode, pair, sentence_pairs, seq2seq, tagged_episode, translation_episode

PAIRS = [SentencePair("măr roșu", "red apple"), SentencePair("mare", "sea"), SentencePair("și 水", "water and")]


def collate(vocabulary: Vocabulary, pairs: list[SentencePair]) -> Batch:
    return Translation().collate(pairs, (), vocabulary, support=True)


# -- pairs to items ----------------------------------------------------------------------------------------------------


def test_each_position_is_labelled_with_what_follows() -> None:
    vocabulary = seq2seq().vocabulary
    batch = collate(vocabulary, PAIRS)
    targets = [each.tolist() for each in vocabulary.encode([each.target for each in PAIRS])]
    begin, end = vocabulary.begin_id, vocabulary.number_of("[END]")
    assert batch.given is not None
    assert batch.words is not None
    assert [each.tolist() for each in batch.given] == [
        each.tolist() for each in vocabulary.encode([each.source for each in PAIRS])
    ]
    labels = iter(batch.groups["token"].labels.tolist())
    for text, words, target in zip(batch.texts, batch.words, targets, strict=True):
        assert target[-1] == end
        assert text.tolist() == [begin, *target[:-1]]
        assert words.tolist() == [[place, place + 1] for place in range(len(target))]
        assert [next(labels) for _ in target] == target
    assert list(labels) == []
    group = batch.groups["token"]
    assert group.rows.tolist() == list(range(sum(map(len, targets))))
    assert group.weights.tolist() == [1.0] * len(group.rows)
    assert (group.n_labels, group.widths) == (vocabulary.size, None)


def test_a_target_that_is_cut_ends() -> None:
    vocabulary = seq2seq().vocabulary
    batch = collate(vocabulary, [SentencePair("mare", "sea " * 50)])
    assert len(batch.texts[0]) == vocabulary.max_length
    assert int(batch.groups["token"].labels[-1]) == vocabulary.number_of("[END]")


def test_no_pairs() -> None:
    batch = collate(seq2seq().vocabulary, [])
    assert (batch.texts, batch.given, len(batch.groups["token"].labels)) == ((), (), 0)


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["maml", "first-order-maml", "fine-tuning"])
def test_the_loss_is_the_cross_entropy_of_each_token(algorithm: str) -> None:
    network = seq2seq().double()
    made = translator(algorithm, network, inner={"test_steps": 0}).double()
    batch = collate(network.vocabulary, sentence_pairs(7))
    total, n_tokens = 0.0, 0
    for each in sentence_pairs(7):
        given_, target = (torch.from_numpy(ids).long() for ids in network.vocabulary.encode([each.source, each.target]))
        said = torch.tensor([network.begin_id])
        for token in target:  # one at a time, each text alone
            with torch.no_grad():
                whole = torch.ones_like(said[None], dtype=torch.bool)
                vector = network(said[None], whole, given_[None], torch.ones_like(given_[None], dtype=torch.bool))
                p = (network.source.embedding.weight @ vector[0, -1]).softmax(dim=0)[token]
            total, n_tokens, said = total - float(p.log()), n_tokens + 1, torch.cat([said, token[None]])
    with torch.no_grad():
        assert float(made._loss(made.adapt(batch), batch)) == pytest.approx(total / n_tokens, rel=1e-9)


# -- measures ----------------------------------------------------------------------------------------------------------

FOUND = ["the red apple is here .", "a small house", "", "water and the sea", "un râu tulbure"]
TRUE = ["the red apple was here .", "the small house stands", "nothing", "the water and the sea", "un râu limpede"]


def test_the_scores_are_sacrebleus() -> None:
    bleu, chrf = corpus_scores(FOUND, TRUE)
    assert bleu == pytest.approx(sacrebleu.corpus_bleu(FOUND, [TRUE]).score / 100)
    assert chrf == pytest.approx(sacrebleu.corpus_chrf(FOUND, [TRUE]).score / 100)
    assert corpus_scores(TRUE, TRUE) == pytest.approx((1.0, 1.0))
    assert corpus_scores(["x"] * 5, TRUE)[0] == 0


def test_the_signatures_say_how() -> None:
    assert Translation().signatures() == (
        f"BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}",
        f"chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}",
    )


def test_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(KshotError) as caught:
        corpus_scores(FOUND, TRUE)
    assert str(caught.value) == (
        'BLEU and chrF are computed by sacrebleu, which is not installed; pip install "kshot[translation]".'
    )


def test_a_query_is_scored_by_its_translations() -> None:
    network = seq2seq()
    made = translator("first-order-maml", network)
    drawn = translation_episode(shot=6, query=5)
    support, query = pair(made, drawn)
    task = made.task
    assert isinstance(task, Translation)
    scorer = made.scorer(made.adapt(support), query)
    assert query.given is not None
    found = [network.vocabulary.decode(each.tokens) for each in task.write(scorer, query.given)]
    expected = corpus_scores(found, [each.target for each in drawn.query if isinstance(each, SentencePair)])
    assert task.score(scorer, query, drawn.query, ()) == expected  # type: ignore[arg-type]


def test_how_to_search_can_be_said() -> None:
    made = translator("first-order-maml", seq2seq())
    support, query = pair(made, translation_episode())
    task = made.task
    assert isinstance(task, Translation)
    assert query.given is not None
    scorer = made.scorer(made.adapt(support), query)
    usual = task.write(scorer, query.given)
    assert usual == task.write(scorer, query.given, SearchSettings(beam=4))
    short = task.write(scorer, query.given, SearchSettings(longest=2))
    assert max(len(each.tokens) for each in short) <= 2 < max(len(each.tokens) for each in usual)


def test_settings_of_the_task() -> None:
    task = build_task({"kind": "translation", "search": {"beam": 2, "length_penalty": 0.6}})
    assert isinstance(task, Translation)
    assert (task.settings.search.beam, task.settings.search.longest) == (2, 200)
    again = build_task(describe_task(task))
    assert again.settings == task.settings == TranslationSettings(search=SearchSettings(beam=2, length_penalty=0.6))


# -- parts of batches --------------------------------------------------------------------------------------------------


def slow_part(batch: Batch, chosen: list[int], vectors: Tensor) -> dict[str, list[tuple[list[float], int, float]]]:
    """The vector, label and weight of each item of some texts, in order, item by item."""
    owner = [text for text, count in enumerate(n_vectors(batch.texts, batch.words)) for _ in range(count)]
    found = {}
    for name, group in batch.groups.items():
        features = group.features(vectors)
        found[name] = [
            (features[item].tolist(), int(group.labels[item]), float(group.weights[item]))
            for item in range(len(group.labels))
            if owner[int(group.rows[item])] in chosen
        ]
    return found


def batch_of(kind: str) -> Batch:
    """A support of one kind of task."""
    drawn: Any = tagged_episode() if kind in ("bio", "io", "spans") else episode(shots=(1, 3, 2))
    task: Task = Classification()
    if kind == "translation":
        drawn, task = translation_episode(shot=6), Translation()
    elif kind != "classification":
        task = Tagging(TaggingSettings(scheme=kind))  # type: ignore[arg-type]
    return task.collate(drawn.support, drawn.classes, seq2seq().vocabulary, support=True)


BATCHES = {kind: batch_of(kind) for kind in ("classification", "bio", "io", "spans", "translation")}


@pytest.mark.parametrize("kind", BATCHES)
@given(data=st.data())
def test_a_part_has_the_items_of_its_texts(kind: str, data: st.DataObject) -> None:
    batch = BATCHES[kind]
    n = len(batch.texts)
    chosen = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n))
    counts = n_vectors(batch.texts, batch.words)
    vectors = torch.randn(sum(counts), 3)
    of_text = torch.split(vectors, counts)
    chosen.sort()
    part = batch.of_texts(chosen)
    assert [id(each) for each in part.texts] == [id(batch.texts[i]) for i in chosen]
    for own, whole in ((part.words, batch.words), (part.given, batch.given)):
        assert (own is None) == (whole is None)
        assert own is None or whole is None or [id(each) for each in own] == [id(whole[i]) for i in chosen]
    own_vectors = torch.cat([vectors[:0], *(of_text[i] for i in chosen)])
    for name, expected in slow_part(batch, chosen, vectors).items():
        group = part.groups[name]
        assert group.n_labels == batch.groups[name].n_labels
        features = group.features(own_vectors).tolist()
        assert list(zip(features, group.labels.tolist(), group.weights.tolist(), strict=True)) == expected


def test_what_each_side_of_an_episode_reads_is_read_together() -> None:
    network = seq2seq().double()
    made = translator("matching", network).double()
    episodes = [pair(made, translation_episode(seed=seed)) for seed in range(2)]
    batches = [batch for each in episodes for batch in each]
    together, places = join(batches)
    with torch.no_grad():
        vectors = made.vectors(together)
        for batch, rows in zip(batches, places, strict=True):
            torch.testing.assert_close(vectors[rows], made.vectors(batch), rtol=1e-9, atol=1e-12)
    assert isinstance(network, EncoderDecoder)
    assert together.given is not None
    assert len(together.given) == len(together.texts) == sum(len(batch.texts) for batch in batches)
    assert np.array_equal(together.tokens[-1], together.given[-1])
