"""What kshot saves: folders of JSON and safetensors with a format number, written whole or not at all.

A learner's folder:

    kshot.json           what it is: format, kind, algorithm, task kind, and what is known of its training
    encoder.json         the encoder's settings and shape
    encoder.safetensors  its weights
    tokenizer.json       its vocabulary
    learner.safetensors  the heads and the learned rates of the inner loop
"""

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TextIO

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kshot.errors import KshotError
from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner
from kshot.models.build import load_encoder, save_encoder
from kshot.tasks.kinds import build_task, describe_task

FORMATS = {"learner": 1, "task": 2}
"""The newest format of each kind of artefact: tasks have kept their examples in a file of their own since 2."""

MANIFEST = "kshot.json"
_TENSORS = "learner.safetensors"
LEARNER_FILES = (MANIFEST, "encoder.json", "encoder.safetensors", "tokenizer.json", _TENSORS)


@contextmanager
def new_folder(target: Path, *, replaces: Collection[str] | None = None) -> Iterator[Path]:
    """Gives an empty folder to write into; it becomes `target` at the end, or vanishes if anything went wrong.

    A folder that was there before is replaced at one stroke, and is still there if the new one could not be written.

    Args:
        target: The folder.
        replaces: The files of the one that was there which go with it, such as `learner/kshot.json`: those that kshot
            writes. All others are somebody's own, and stay. None for all.

    Raises:
        KshotError: If the folder cannot be written (no space, no permission).
    """
    target = target.resolve() if target.is_symlink() else target.absolute()  # what a link leads to is replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise KshotError(f"{target} cannot be written ({error.strerror}); choose another folder.") from error
    try:
        yield draft
        mode = _usual_mode(draft)
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(mode)  # safetensors makes its files readable by their owner alone
                _flush(path)
        draft.chmod(mode | 0o111 & mode >> 2)  # who may read a folder may enter it
        if replaces is not None:
            _take_along(target, draft, replaces)
        if target.exists():
            _exchange(draft, target)
        else:
            draft.replace(target)
        _flush(target.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KshotError(
            f"{target} could not be written ({reason}); what was there before is untouched. "
            "Make room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _exchange(draft: Path, target: Path) -> None:
    """Puts a folder in the place of another, which comes back if that fails and goes if it does not."""
    if _swap(draft, target):
        return  # what was there is the draft now, and goes as drafts go
    aside = Path(mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.replace(aside / "old")
        try:
            draft.replace(target)
        except BaseException:  # an interruption too: the old one must not go with `aside`
            (aside / "old").replace(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Exchanges two folders at one stroke, so that a process that is killed leaves either; False where that cannot be.

    It is the system call renameat2 of Linux, which not every file system has.
    """
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextmanager
def new_file(target: Path) -> Iterator[TextIO]:
    """Gives a text file to write into, in UTF-8; it becomes `target` at the end, or vanishes if anything went wrong.

    Raises:
        KshotError: If the file cannot be written (a folder, no space, no permission).
    """
    draft = _draft_of(target)
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target.resolve())  # what a link leads to is replaced
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(OSError):  # it was replaced, or never made
            draft.unlink()


def check_file(target: Path) -> None:
    """Refuses a file that `new_file` could not write, before the work whose outcome it is to hold.

    Raises:
        KshotError: If it is one.
    """
    draft = _draft_of(target)
    try:
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise _unwritable(target, error) from error


def _draft_of(target: Path) -> Path:
    """Where a file is written until it is whole: beside its place."""
    if target.exists() and not target.is_file():
        raise KshotError(f"{target} is a {'folder' if target.is_dir() else 'device'}; give the name of a file.")
    place = target.resolve()
    return place.with_name(f".{place.name}.draft")


def _unwritable(target: Path, error: OSError) -> KshotError:
    return KshotError(f"{target} could not be written ({error.strerror}); choose another place.")


def _take_along(folder: Path, draft: Path, replaces: Collection[str]) -> None:
    """Takes files along into a draft as they are, without copying where the file system can share them."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name.as_posix() in replaces or (path.is_dir() and not path.is_symlink()):
            continue
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, draft / name, follow_symlinks=False)
        except OSError:  # a file system without links
            shutil.copy2(path, draft / name, follow_symlinks=False)


def _usual_mode(folder: Path) -> int:
    """The permissions of a new file here, as the user's umask has it."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    return mode


def _flush(path: Path) -> None:
    """Waits until a file, or what a folder lists, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_manifest(folder: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Writes `kshot.json` with the format number and the kind of the artefact."""
    text = json.dumps({"format": FORMATS[kind], "kind": kind, **values}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Reads `kshot.json`.

    Raises:
        KshotError: If it is missing, damaged, of another kind, or of a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise KshotError(f"{folder} is not a kshot {kind}: it has no {MANIFEST}; give the folder that kshot wrote.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, made_by = manifest["kind"], int(manifest["format"])
        newest = FORMATS.get(found, FORMATS[kind])
    except (ValueError, KeyError, TypeError, OverflowError) as error:  # not JSON, not text, no kind, not a format
        raise damaged(path, error) from error
    if made_by > newest:
        raise KshotError(
            f"{path} has format {made_by} and this kshot reads up to {newest}; upgrade it: pip install -U kshot."
        )
    if found != kind:
        raise KshotError(f"{folder} holds a {found}, not a {kind}.")
    return dict(manifest)


def damaged(path: Path, error: Exception) -> KshotError:
    """The sentence for a file of an artefact that cannot be what was written."""
    return KshotError(f"{path} is damaged ({_one_line(error)}); restore the folder from a copy or make it again.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        KshotError: If it is missing or damaged.
    """
    if not path.is_file():
        raise KshotError(f"{path} is missing: the folder is not complete; restore it from a copy or make it again.")
    try:
        # Copied: where a tensor of a file lies in memory is chance, and sums over it may round otherwise there.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise KshotError(f"{path} is damaged ({error}); restore it from a copy or make it again.") from error


def save_learner(learner: Learner, folder: Path, *, about: Mapping[str, Any]) -> None:
    """Saves a learner.

    Args:
        learner: The learner.
        folder: Where to; a learner that is there is replaced.
        about: What is known of its training, kept in `kshot.json` as it is.

    Raises:
        KshotError: If the folder cannot be written.
    """
    with new_folder(folder, replaces=LEARNER_FILES) as draft:
        algorithm = learner.settings.describe()
        values = {"algorithm": algorithm, "task": describe_task(learner.task), "about": dict(about)}
        write_manifest(draft, "learner", values)
        save_encoder(learner.encoder, draft)
        tensors = learner.state_dict().items()
        save_file(
            {name: each.contiguous() for name, each in tensors if not name.startswith("encoder.")}, draft / _TENSORS
        )


def load_learner(folder: Path) -> tuple[Learner, dict[str, Any]]:
    """Loads a learner, ready to adapt, with what is known of its training.

    Args:
        folder: The learner's folder, or a run's, which has it in `learner/`.

    Raises:
        KshotError: If the folder is missing, incomplete, damaged, or of a newer format.
    """
    if not folder.is_dir():
        raise KshotError(f"{folder} does not exist; give the folder of a run or of a learner.")
    if not (folder / MANIFEST).is_file() and (folder / "learner").is_dir():
        folder = folder / "learner"
    manifest = read_manifest(folder, "learner")
    try:
        encoder = load_encoder(folder)
    except KshotError:
        raise
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise KshotError(
            f"The encoder in {folder} is incomplete or damaged ({_one_line(error)}); restore it from a copy."
        ) from error
    try:
        task, about = build_task(manifest["task"]), dict(manifest["about"])
        learner = build_learner(AlgorithmSettings.model_validate(manifest["algorithm"]), encoder, task)
    except KshotError as error:  # such as an algorithm that this kshot does not have yet
        raise KshotError(f"{folder / MANIFEST}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / MANIFEST, error) from error
    own = read_tensors(folder / _TENSORS)
    try:
        learner.load_state_dict(own | {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()})
    except RuntimeError as error:
        raise KshotError(
            f"{folder / _TENSORS} does not belong to this learner ({_one_line(error)}); "
            "restore the folder from a copy or make it again."
        ) from error
    return learner.eval(), about
