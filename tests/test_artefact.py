"""What is saved, and what is said when it cannot be read or written."""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from contract import learner, predict
from kshot import artefact
from kshot.artefact import (
    check_file,
    load_learner,
    new_file,
    new_folder,
    read_manifest,
    read_tensors,
    save_learner,
    write_manifest,
)
from kshot.errors import KshotError
from kshot.meta.learner import Learner
from toy import bert, episode, pair, scratch

FILES = {"kshot.json", "encoder.json", "encoder.safetensors", "tokenizer.json", "learner.safetensors"}


@pytest.fixture
def made() -> Learner:
    return learner("maml++", scratch("cnn"))


@pytest.fixture
def folder(made: Learner, tmp_path: Path) -> Path:
    """A saved learner."""
    save_learner(made, tmp_path / "learner", about={"title": "first"})
    return tmp_path / "learner"


def message(call: Callable[[], Any]) -> str:
    """The words of the KshotError that a call raises."""
    with pytest.raises(KshotError) as caught:
        call()
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- what is there ---------------------------------------------------------------------------------------------------


def test_a_folder_of_json_and_safetensors(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    manifest = json.loads((folder / "kshot.json").read_text())
    assert manifest == {
        "format": 1,
        "kind": "learner",
        "algorithm": {"name": "maml++", "head": {}, "inner": {"steps": 2}},
        "task": {"kind": "classification", "class_names": True, "name_weight": 1.0},
        "about": {"title": "first"},
    }
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_run_leads_to_its_learner(folder: Path) -> None:
    _, about = load_learner(folder.parent)
    assert about == {"title": "first"}


def test_learned_rates_and_heads_come_back(made: Learner, tmp_path: Path) -> None:
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.1)
    save_learner(made, tmp_path / "learner", about={})
    again, _ = load_learner(tmp_path / "learner")
    assert not again.training
    assert again.settings == made.settings
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load_learner(folder)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_learner_in_the_place_of_another(made: Learner, folder: Path) -> None:
    save_learner(made, folder, about={"title": "second"})
    assert load_learner(folder)[1] == {"title": "second"}
    assert {path.name for path in folder.iterdir()} == FILES == set(artefact.LEARNER_FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["learner"]


def test_names_in_any_script(made: Learner, tmp_path: Path) -> None:
    about = {"title": "مرحبا 👋", "classes": ["天气", "हिन्दी"]}
    save_learner(made, tmp_path / "学习 者", about=about)
    assert load_learner(tmp_path / "学习 者")[1] == about


# -- what cannot be read ---------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    assert message(lambda: load_learner(tmp_path / "none")) == (
        f"{tmp_path}/none does not exist; give the folder of a run or of a learner."
    )


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert message(lambda: load_learner(tmp_path)) == (
        f"{tmp_path} is not a kshot learner: it has no kshot.json; give the folder that kshot wrote."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": 1,', "Expecting property name enclosed in double quotes: line 1 column 14 (char 13)"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"kind": "learner"}', "'format'"),
        ('{"format": "new", "kind": "learner"}', "invalid literal for int() with base 10: 'new'"),
        ("[1]", "list indices must be integers or slices, not str"),
        ('{"format": 1, "kind": ["learner"]}', "unhashable type: 'list'"),
        ('{"format": Infinity, "kind": "learner"}', "cannot convert float infinity to integer"),
    ],
)
def test_a_damaged_manifest(folder: Path, text: str, reason: str) -> None:
    (folder / "kshot.json").write_text(text)
    assert message(lambda: load_learner(folder)) == (
        f"{folder}/kshot.json is damaged ({reason}); restore the folder from a copy or make it again."
    )


def test_a_manifest_that_is_not_text(folder: Path) -> None:
    (folder / "kshot.json").write_bytes(b"\xff\xfe\x00")
    assert message(lambda: load_learner(folder)).startswith(
        f"{folder}/kshot.json is damaged ('utf-8' codec can't decode"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm", {"name": "maml", "colour": "red"}),
        ("algorithm", None),
        ("task", ["classification"]),
        ("about", 3),
    ],
)
def test_a_manifest_that_makes_no_sense(folder: Path, key: str, value: Any) -> None:
    manifest = json.loads((folder / "kshot.json").read_text())
    (folder / "kshot.json").write_text(json.dumps({**manifest, key: value}))
    assert message(lambda: load_learner(folder)).startswith(f"{folder}/kshot.json is damaged (")
    del manifest[key]
    (folder / "kshot.json").write_text(json.dumps(manifest))
    assert message(lambda: load_learner(folder)) == (
        f"{folder}/kshot.json is damaged ('{key}'); restore the folder from a copy or make it again."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"algorithm": {"name": "maml+++"}},
            'There is no algorithm "maml+++". Did you mean "maml++"? Known: prototypical, ',
        ),
        (
            {"task": {"kind": "classification", "name_weight": "heavy"}},
            "The setting \"name_weight\" of classification cannot be 'heavy': ",
        ),
    ],
)
def test_what_this_kshot_does_not_know_is_not_damaged(folder: Path, changes: dict[str, Any], words: str) -> None:
    manifest = json.loads((folder / "kshot.json").read_text())
    (folder / "kshot.json").write_text(json.dumps({**manifest, **changes}))
    assert message(lambda: load_learner(folder)).startswith(f"{folder}/kshot.json: {words}")


def test_a_newer_format(folder: Path) -> None:
    manifest = json.loads((folder / "kshot.json").read_text())
    (folder / "kshot.json").write_text(json.dumps({**manifest, "format": 7, "kind": "universe"}))
    assert message(lambda: load_learner(folder)) == (
        f"{folder}/kshot.json has format 7 and this kshot reads up to 1; upgrade it: pip install -U kshot."
    )


def test_another_kind(tmp_path: Path) -> None:
    write_manifest(tmp_path, "task", {"labels": ["a"]})
    assert message(lambda: load_learner(tmp_path)) == f"{tmp_path} holds a task, not a learner."
    assert read_manifest(tmp_path, "task")["labels"] == ["a"]


@pytest.mark.parametrize("name", sorted(FILES - {"kshot.json"}))
def test_a_file_that_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    words = message(lambda: load_learner(folder))
    assert str(folder) in words
    if name == "learner.safetensors":
        assert (
            words == f"{folder}/{name} is missing: the folder is not complete; restore it from a copy or make it again."
        )
    elif name != "tokenizer.json":
        assert words.startswith(f"The encoder in {folder} is incomplete or damaged (")
        assert words.endswith("); restore it from a copy.")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.98])
@pytest.mark.parametrize("name", sorted(FILES - {"kshot.json"}))
def test_a_file_that_is_cut_short(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    words = message(lambda: load_learner(folder))
    assert str(folder) in words
    assert "damaged (" in words
    assert "restore it from a copy" in words


def test_tensors_of_another_encoder(folder: Path, tmp_path: Path) -> None:
    save_learner(learner("maml++", scratch("cnn", n_filters=4)), tmp_path / "other", about={})
    (folder / "learner.safetensors").write_bytes((tmp_path / "other" / "learner.safetensors").read_bytes())
    words = message(lambda: load_learner(folder))
    assert words.startswith(f"{folder}/learner.safetensors does not belong to this learner (")
    assert words.endswith("); restore the folder from a copy or make it again.")
    (folder / "encoder.safetensors").write_bytes((tmp_path / "other" / "encoder.safetensors").read_bytes())
    assert message(lambda: load_learner(folder)).startswith(f"The encoder in {folder} is incomplete or damaged (")


def test_an_encoder_of_an_unknown_kind(folder: Path) -> None:
    (folder / "encoder.json").write_text('{"settings": {"kind": "mamba"}, "architecture": {}}')
    words = message(lambda: load_learner(folder))
    assert words.startswith(f"The encoder in {folder} is incomplete or damaged (")
    assert "\n" not in words


def test_reading_tensors(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    assert message(lambda: read_tensors(path)) == (
        f"{path} is missing: the folder is not complete; restore it from a copy or make it again."
    )
    path.write_bytes(b"\x00" * 3)
    words = message(lambda: read_tensors(path))
    assert words.startswith(f"{path} is damaged (")
    assert words.endswith("); restore it from a copy or make it again.")


# -- what cannot be written ------------------------------------------------------------------------------------------


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk_of_safetensors(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("place", "failure", "reason"),
    [
        ("kshot.artefact.save_file", full_disk, "No space left on device"),
        (
            "kshot.artefact.save_file",
            full_disk_of_safetensors,
            "Error while serializing: I/O error: No space left on device (os error 28)",
        ),
        ("kshot.artefact.save_encoder", full_disk, "No space left on device"),
        ("kshot.artefact.os.fsync", full_disk, "No space left on device"),
        ("kshot.models.build.Path.write_text", full_disk, "No space left on device"),
    ],
)
def test_a_full_disk_leaves_what_was_there(
    made: Learner, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, failure: Callable[..., None], reason: str
) -> None:
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(place, failure)
        words = message(lambda: save_learner(made, folder, about={"title": "second"}))
    assert words == (
        f"{folder} could not be written ({reason}); what was there before is untouched. "
        "Make room or choose another folder."
    )
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["learner"]
    assert load_learner(folder)[1] == {"title": "first"}


def test_a_full_disk_leaves_nothing_half_done(made: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kshot.artefact.save_file", full_disk)
    message(lambda: save_learner(made, tmp_path / "new", about={}))
    assert list(tmp_path.iterdir()) == []


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(
    made: Learner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kshot.artefact._swap", lambda *_: False)  # as on a system that cannot exchange folders
    before = contents(folder)
    rename = Path.replace

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if target == folder and self.name != "old":
            full_disk()
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new_one)
    words = message(lambda: save_learner(made, folder, about={}))
    assert "what was there before is untouched" in words
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["learner"]


@pytest.mark.parametrize("at_one_stroke", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, at_one_stroke: bool, monkeypatch: Any) -> None:
    if not at_one_stroke:
        monkeypatch.setattr("kshot.artefact._swap", lambda *_: False)
    for text in ("old", "new"):
        with new_folder(tmp_path / "folder") as draft:
            (draft / text).write_text(text)
    assert contents(tmp_path / "folder") == {"new": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2")
def test_folders_are_exchanged_at_one_stroke(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert artefact._swap(tmp_path / "one", tmp_path / "other")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["other"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["one"]
    assert not artefact._swap(tmp_path / "one", tmp_path / "nowhere")


@pytest.mark.parametrize("links", [True, False])
def test_what_kshot_did_not_write_stays_as_it_is(
    made: Learner, folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    for name in ("notes.txt", ".DS_Store", "tasks/my task/kshot.json", "tasks/说明.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my own {name}")
    (folder / "notes.txt").chmod(0o700)
    (folder / "link").symlink_to("nowhere")
    (folder / "away").symlink_to(folder.parent)
    before = (folder / "notes.txt").stat()
    if not links:
        monkeypatch.setattr("kshot.artefact.os.link", full_disk)  # a file system without links
    save_learner(made, folder, about={"title": "second"})
    assert load_learner(folder)[1] == {"title": "second"}
    for name in ("notes.txt", ".DS_Store", "tasks/my task/kshot.json", "tasks/说明.md"):
        assert (folder / name).read_text() == f"my own {name}"
    after = (folder / "notes.txt").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert (after.st_ino == before.st_ino) == links  # large ones are not copied where that can be helped
    assert (folder / "link").readlink() == Path("nowhere")
    assert (folder / "away").readlink() == folder.parent
    assert [path.name for path in folder.parent.iterdir()] == ["learner"]


def test_a_mistake_inside_leaves_what_was_there(folder: Path) -> None:
    before = contents(folder)

    def write() -> None:
        with new_folder(folder) as draft:
            (draft / "kshot.json").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["learner"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    def write() -> None:
        with new_folder(tmp_path / "file" / "learner"):
            pass

    assert message(write) == f"{tmp_path}/file/learner cannot be written (File exists); choose another folder."


def write_file(path: Path, text: str) -> None:
    with new_file(path) as file:
        file.write(text)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figures.json"
    (tmp_path / "link").symlink_to(path)
    for text in ("old", "new"):
        write_file(tmp_path / "link", text)
        assert path.read_text() == text
    assert (tmp_path / "link").is_symlink()
    monkeypatch.setattr("kshot.artefact.os.fsync", full_disk)
    assert message(lambda: write_file(path, "newest")) == (
        f"{path} could not be written (No space left on device); choose another place."
    )
    assert path.read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["figures.json", "link"]


def test_a_file_that_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, words in (
        (tmp_path / "file" / "x.json", "could not be written (Not a directory); choose another place."),
        (tmp_path, "is a folder; give the name of a file."),
        (Path(os.devnull), "is a device; give the name of a file."),
        (tmp_path / "no" / "x.json", "could not be written (No such file or directory); choose another place."),
    ):
        assert message(lambda path=path: check_file(path)) == f"{path} {words}"
        assert message(lambda path=path: write_file(path, "")) == f"{path} {words}"
    check_file(tmp_path / "x.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_pickle_anywhere() -> None:
    source = Path(artefact.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "import pickle" not in text, path


def test_a_pretrained_encoder_is_loaded_without_its_source(tiny_bert: Path, tmp_path: Path) -> None:
    made = learner("protomaml", bert(tiny_bert, lora_rank=2), inner={"moves": "lora"})
    save_learner(made, tmp_path / "learner", about={})
    description = json.loads((tmp_path / "learner" / "encoder.json").read_text())
    description["settings"]["model"] = "nobody/has-this-model"
    (tmp_path / "learner" / "encoder.json").write_text(json.dumps(description))
    again, _ = load_learner(tmp_path / "learner")
    assert torch.equal(predict(made, pair(made, episode())), predict(again, pair(again, episode())))
