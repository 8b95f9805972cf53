"""Every way to run the tasks of a meta-step, against the loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from contract import META_TRAINED, encoder, learner, taken, translator
from kshot.errors import KshotError
from kshot.meta.learner import Learner, Pair, Rows
from kshot.meta.step import WAYS, MetaStep
from kshot.meta.ways import Compiled, Fastest, Loop, Vmap, Way
from kshot.models.build import build_encoder
from kshot.models.scratch import CNNSettings, TransformerSettings
from kshot.tasks.kinds import build_task
from toy import SCRATCH, corpus, episode, pair, seq2seq, tagged_episode, translation_episode

ABREAST = {"maml", "first-order-maml", "maml++", "anil", "meta-sgd", "protomaml"}
"""Those of several steps that torch.func.vmap can run."""


@pytest.fixture
def two_threads() -> Any:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def pairs(made: Learner, shots: Sequence[Sequence[int]] = ((2, 1, 2), (1, 2, 2), (2, 2))) -> list[Pair]:
    return [pair(made, episode(shots=each, seed=seed)) for seed, each in enumerate(shots)]


def same(made: Learner, way: Way, given: Sequence[Pair], *, rtol: float = 1e-7, atol: float = 1e-10) -> None:
    """Checks a way's loss and gradients by those of the loop."""
    loss, ours = taken(made, way, given)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, sums are made in another order
    expected, theirs = taken(made, Loop(made), given)
    torch.set_num_threads(n_threads)
    assert loss == pytest.approx(expected, rel=rtol)
    assert any(each.abs().sum() > 0 for each in ours.values())
    for name, tensor in theirs.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name} {text}"
        )


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*SCRATCH, "bert"])
@pytest.mark.parametrize("algorithm", ["maml", "first-order-maml", "meta-sgd", "reptile"])
def test_threads_give_the_gradient_of_the_loop_to_the_last_bit(
    algorithm: str, kind: str, tiny_bert: Path, two_threads: None
) -> None:
    made = learner(algorithm, encoder(kind, tiny_bert)).train()
    made.encoder.eval()
    given = pairs(made)
    way = WAYS["threads"](made)
    assert way.why_not(given) is None
    torch.set_num_threads(1)
    expected = taken(made, Loop(made), given)
    torch.set_num_threads(2)
    for _ in range(3):
        loss, ours = taken(made, way, given)
        assert loss == expected[0]
        for name, tensor in ours.items():
            assert torch.equal(tensor, expected[1][name]), name
    assert torch.get_num_threads() == 2


def test_threads_run_what_writes_and_what_tags(two_threads: None) -> None:
    made = translator("first-order-maml", seq2seq("transformer")).train()
    same(made, WAYS["threads"](made), [pair(made, translation_episode(seed=seed)) for seed in range(3)], rtol=0)
    tagger = learner("maml", build_encoder(SCRATCH["lstm"], corpus(), seed=0), task=build_task({"kind": "tagging"}))
    same(
        tagger, WAYS["threads"](tagger.train()), [pair(tagger, tagged_episode(seed=seed)) for seed in range(3)], rtol=0
    )


def test_dropout_is_drawn_for_each_task_whichever_thread_is_first(two_threads: None) -> None:
    made = learner("maml", build_encoder(CNNSettings(embedding_dim=16, dropout=0.5), corpus(), seed=0)).train()
    given, way, found = pairs(made), WAYS["threads"](made), []
    for _ in range(4):
        torch.manual_seed(3)
        found.append(taken(made, way, given)[0])
    torch.manual_seed(4)
    assert len(set(found)) == 1
    assert taken(made, way, given)[0] != found[0]


def test_threads_are_left_as_they_were_when_a_task_fails(two_threads: None) -> None:
    made = learner("maml", build_encoder(SCRATCH["cnn"], corpus(), seed=0), head={"rows": 3}).train()
    with pytest.raises(KshotError, match="fixed rows"):
        MetaStep(made, "threads")(pairs(made, ((1, 1), (1, 1))))
    assert torch.get_num_threads() == 2


# -- abreast -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCRATCH)
@pytest.mark.parametrize("algorithm", META_TRAINED)
def test_tasks_abreast_have_the_gradient_of_the_loop(algorithm: str, kind: str, tiny_bert: Path) -> None:
    made = learner(algorithm, encoder(kind, tiny_bert).double()).double().train()
    given, way = pairs(made), Vmap(made)
    if made.inner.settings.steps:
        spelled = kind == "spelled" and bool(made.moves)
        assert (way.why_not(given) is None) == (algorithm in ABREAST and not spelled)
    if way.why_not(given) is None:
        same(made, way, given)


def test_tasks_abreast_in_bfloat16(tiny_bert: Path) -> None:
    made = learner("maml", build_encoder(TransformerSettings(model_dim=24, n_layers=2, dropout=0.0), corpus(), seed=0))
    made.train().precision = torch.bfloat16
    given = pairs(made)
    ours, theirs = (
        torch.cat([g.flatten() for g in taken(made, way, given)[1].values()]) for way in (Vmap(made), Loop(made))
    )
    assert 0 < (ours - theirs).norm() < 0.05 * theirs.norm()


def test_tasks_abreast_by_adam(tiny_bert: Path) -> None:
    made = learner("first-order-maml", encoder("cnn", tiny_bert).double(), inner={"optimiser": "adam"}).double().train()
    same(made, Vmap(made), pairs(made))


def test_rates_of_each_element_learn_abreast_where_the_table_does_not(tiny_bert: Path) -> None:
    made = learner("meta-sgd", encoder("lstm", tiny_bert).double()).double().train()
    made.encoder.embedding.weight.requires_grad_(False)
    same(made, Vmap(made), pairs(made))


# -- compiled ----------------------------------------------------------------------------------------------------------

compiling = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""PyTorch's own modules warn as they are imported."""


@compiling
@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("maml", "bag"),
        ("maml", "lstm"),
        ("first-order-maml", "cnn"),
        ("maml++", "cnn"),
        ("meta-sgd", "bag"),
        ("protomaml", "transformer"),
    ],
)
def test_the_graph_that_is_compiled_has_the_gradient_of_the_loop(
    algorithm: str, kind: str, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    made = learner(algorithm, encoder(kind, tiny_bert).double(), inner={"steps": 1 + (algorithm == "maml++")})
    made.double().train()
    way = Compiled(made)
    same(made, way, pairs(made))
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.mul_(1.1)  # nothing of the weights may stay in the graph
    same(made, way, pairs(made))


@compiling
def test_compiled(tiny_bert: Path) -> None:
    made = learner("maml", encoder("bag", tiny_bert), inner={"steps": 1}).train()
    same(made, Compiled(made), pairs(made, ((2, 2), (2, 2))), rtol=1e-4, atol=1e-6)


@compiling
def test_few_shapes_are_compiled(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: made_of.append(graph) or graph)
    made = learner("maml", encoder("cnn", tiny_bert), inner={"steps": 1}).train()
    way = Compiled(made)
    for seed in range(12):
        taken(made, way, [pair(made, episode(shots=(2, 2), seed=seed)), pair(made, episode(shots=(2, 2), seed=99))])
    assert 1 <= len(made_of) <= 2


# -- the choice --------------------------------------------------------------------------------------------------------


def test_on_a_cpu_threads_are_chosen_where_they_suit(two_threads: None, tiny_bert: Path) -> None:
    said: list[str] = []
    made = learner("maml", encoder("cnn", tiny_bert)).train()
    MetaStep(made, say=said.append)(pairs(made))
    assert said == ["The tasks of an update are run side by side in threads (tasks: auto)."]
    torch.set_num_threads(1)
    MetaStep(made, say=said.append)(pairs(made))
    assert said[1] == "The tasks of an update are run one after the other: there is one thread (tasks: auto)."


def test_dropout_of_a_pretrained_model_keeps_tasks_from_threads(two_threads: None, tiny_bert: Path) -> None:
    made = learner("maml", encoder("bert", tiny_bert)).train()
    given = pairs(made)
    made.encoder.draws_apart = False
    assert "dropout" in str(WAYS["threads"](made).why_not(given))
    made.encoder.eval()
    assert WAYS["threads"](made).why_not(given) is None


@pytest.mark.parametrize("name", ["vmap", "compiled", "threads"])
def test_a_way_that_does_not_suit_is_refused(name: Any, tiny_bert: Path, two_threads: None) -> None:
    made = learner("reptile" if name != "threads" else "prototypical", encoder("cnn", tiny_bert)).train()
    with pytest.raises(KshotError, match=r'^Tasks cannot be run .*; set training\.tasks to "auto"\.$'):
        MetaStep(made, name)(pairs(made))


class _Told(Way):
    """A way that takes as long as it is told, by a clock that it moves."""

    def __init__(self, made: Learner, title: str, clock: list[float], seconds: float, fails: Exception | None) -> None:
        super().__init__(made)
        self.title = title  # type: ignore[misc]
        self.clock, self.seconds, self.fails, self.taken = clock, seconds, fails, 0

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        self.taken += 1
        self.clock[0] += self.seconds
        if self.fails is not None:
            raise self.fails
        return 1.0


@pytest.fixture
def race(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a `Fastest` over ways of given seconds, and these ways."""
    made = learner("maml", encoder("cnn", tiny_bert)).train()

    def start(
        seconds: Sequence[float], ahead: int = 10**6, fails: Exception | None = None
    ) -> tuple[Fastest, list[_Told], list[str]]:
        clock, said = [0.0], list[str]()
        monkeypatch.setattr("kshot.meta.ways.fastest.perf_counter", lambda: clock[0])
        ways = [_Told(made, name, clock, each, None) for name, each in zip(("loop", "vmap"), seconds, strict=False)]

        class Last(_Told, Compiled):
            pass

        ways.append(Last(made, "compiled", clock, seconds[2], fails))
        fastest = Fastest(made, ahead, said.append)
        fastest._loop = ways[0]  # type: ignore[assignment]
        fastest._seconds = {way: [] for way in ways}
        return fastest, ways, said

    return start


@pytest.mark.parametrize("seconds", [(1.0, 2.0, 3.0), (3.0, 1.0, 2.0), (2.0, 3.0, 1.0)])
def test_the_fastest_way_is_kept(race: Any, seconds: tuple[float, ...]) -> None:
    fastest, ways, said = race(seconds)
    for _ in range(40):
        assert fastest.step([], 0.0, None) == 1.0
    assert [way.taken for way in ways] == [32 if each == 1.0 else 4 for each in seconds]
    assert len(said) == 1
    assert "measured to be the fastest" in said[0]


def test_compiling_has_no_turn_in_a_short_training(race: Any) -> None:
    fastest, ways, _ = race((1.0, 2.0, 0.1), ahead=299)
    for _ in range(20):
        fastest.step([], 0.0, None)
    assert [way.taken for way in ways] == [16, 4, 0]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no memory. Of 80 GiB"), KshotError("no compiler."), NotImplementedError("no rule")],
)
def test_a_way_that_fails_is_left(race: Any, error: Exception) -> None:
    fastest, ways, said = race((1.0, 2.0, 0.1), fails=error)
    for _ in range(20):
        assert fastest.step([], 0.0, None) == 1.0
    assert [way.taken for way in ways] == [16, 4, 1]
    assert said[0].startswith("Tasks cannot be run compiled: no ")
