"""Functions in C: compiled once where there is a compiler, and done without where there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kshot.models import native
from toy import needs_native


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, and nothing that is remembered from before or after."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def test_it_is_compiled_once(tmp_path: Path) -> None:
    needs_native()
    [made] = (tmp_path / "kshot" / "native").iterdir()
    before = made.stat().st_mtime_ns
    native.library.cache_clear()
    assert native.library().functions is not None
    assert [made] == list((tmp_path / "kshot" / "native").iterdir())
    assert made.stat().st_mtime_ns == before


def test_another_source_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_native()
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "one.c").write_text("int kshot_one(void) { return 1; }")
    monkeypatch.setattr(native, "_SOURCES", sources)
    native.library.cache_clear()
    functions = native.library().functions
    assert functions is not None
    assert functions.kshot_one() == 1
    assert len(list((tmp_path / "kshot" / "native").iterdir())) == 2


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native.library() == native.Library(None, "there is no C compiler (cc, gcc or clang)")
    monkeypatch.setenv("CC", "no-such-compiler")
    native.library.cache_clear()
    assert native.library() == native.Library(None, "there is no C compiler (cc, gcc or clang)")


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    assert native.library() == native.Library(None, "false does not compile them")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_native()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    native.library.cache_clear()
    found = native.library()
    assert found.functions is None
    assert found.how == f"they cannot be kept in {tmp_path / 'file' / 'kshot' / 'native'} ({os.strerror(20)})"


def test_a_user_without_a_home_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    needs_native()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    native.library.cache_clear()
    assert native.library() == native.Library(
        None, "there is no folder to keep them in (Could not determine home directory.)"
    )


def test_a_compiler_may_write_what_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings, and not in the encoding of the process."""
    needs_native()
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nprintf "\\377 unlikely\\n"; printf "\\377 warning\\n" >&2; exec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    native.library.cache_clear()
    assert native.library().functions is not None
    assert native.library().how == str(script)


def test_a_broken_file_in_the_cache_is_compiled_anew(tmp_path: Path) -> None:
    needs_native()
    [made] = (tmp_path / "kshot" / "native").iterdir()
    made.unlink()
    made.write_bytes(b"not a library")
    native.library.cache_clear()
    assert native.library().functions is not None
