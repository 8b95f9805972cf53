"""Functions in C, compiled where they run: once, by the compiler that is there, for the processor that is there.

What is compiled is kept in the user's cache, named by all that it depends on: the sources, and what the compiler says
of itself and of the processor. Whoever calls has another way for machines without a compiler, and tests hold the two
against each other.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from kshot.cache import cache_folder

_SOURCES = Path(__file__).parent
_FLAGS = (
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O3",
    "-funroll-loops",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
_PROCESSOR = ("-march=native", "-mcpu=native")  # one of them, as the compiler has it
_WIDE = 8  # numbers of a vector
_SECONDS = 120  # that a compiler may take


@dataclass(frozen=True)
class Library:
    """What can be called, or why there is nothing.

    Attributes:
        functions: The functions, or None.
        how: By what they were compiled, or what was missing.
    """

    functions: ctypes.CDLL | None
    how: str


@cache
def library() -> Library:
    """Compiles the functions, if that has not been done on this machine, and loads them."""
    compiler = _compiler()
    if compiler is None:
        return Library(None, "there is no C compiler (cc, gcc or clang)")
    known = ((each, _run([*compiler, each, "-dM", "-E", "-x", "c", os.devnull])) for each in _PROCESSOR)
    processor, macros = next(((each, said) for each, said in known if said is not None), ("", ""))
    command = [*compiler, *_FLAGS, *filter(None, [processor])]
    sources = sorted(_SOURCES.glob("*.c"))
    texts = [path.read_text(encoding="utf-8") for path in (*sources, *sorted(_SOURCES.glob("*.h")))]
    digest = sha256("\0".join([*texts, *command, macros]).encode()).hexdigest()
    try:
        path = cache_folder("native") / f"kshot-{digest[:16]}.so"
    except RuntimeError as error:  # a user without a home
        return Library(None, f"there is no folder to keep them in ({error})")
    try:
        loaded = _loaded(path)
        if loaded is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder) / path.name
                if not _compile(command, sources, made):
                    return Library(None, f"{compiler[0]} does not compile them")
                made.replace(path)
            loaded = ctypes.CDLL(str(path))
        return Library(loaded, compiler[0])
    except OSError as error:
        return Library(None, f"they cannot be kept in {path.parent} ({error.strerror or error})")


def _loaded(path: Path) -> ctypes.CDLL | None:
    """What was compiled before, if it can still be loaded."""
    try:
        return ctypes.CDLL(str(path)) if path.is_file() else None
    except OSError:
        return None


def can_take(*tensors: Tensor) -> bool:
    """Whether there are functions, and tensors are as they need them: of float32, in a CPU's memory."""
    suited = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors)
    return suited and library().functions is not None


def call(name: str, *arguments: int | Tensor | None, threads: int) -> int:
    """Calls a function with numbers, then the number of threads, then tensors: contiguous ones, in a CPU's memory.

    Returns:
        What the function returns.
    """
    functions = library().functions
    assert functions is not None
    numbers = [c_int64(each) for each in arguments if isinstance(each, int)]
    pointers = [c_void_p(None if each is None else each.data_ptr()) for each in arguments if not isinstance(each, int)]
    function = getattr(functions, name)  # which is looked up once
    function.restype = c_int64
    returned: int = function(*numbers, c_int(threads), *pointers)
    return returned


@cache
def kind_of_tiles() -> int:
    """What the processor's units for tiles multiply, as `tiles.h` has it: 0 if there are none, or no functions."""
    return call("kshot_tiles_kind", threads=1) if library().functions is not None else 0


@cache
def has_wide_vectors() -> bool:
    """Whether there are functions, and products by panels are as fast as those of libraries: vectors of 8 numbers.

    Processors whose vectors are shorter have libraries that know more of them, such as Apple's.
    """
    return library().functions is not None and call("kshot_lanes", threads=1) >= _WIDE


def _compiler() -> list[str] | None:
    """The command of the C compiler: that of the variable CC, or one of the usual names."""
    if told := shlex.split(os.environ.get("CC", "")):
        return told if shutil.which(told[0]) else None
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def _compile(command: list[str], sources: Sequence[Path], made: Path) -> bool:
    """Compiles each source in a process of its own, and puts them together; whether that worked."""
    parts = [made.with_name(f"{source.stem}.o") for source in sources]
    commands = [[*command, "-c", "-o", str(to), str(source)] for source, to in zip(sources, parts, strict=True)]
    with ThreadPoolExecutor(len(commands)) as at_once:
        if None in at_once.map(_run, commands):
            return False
    return _run([*command, "-o", str(made), *map(str, parts), "-lpthread", "-ldl"]) is not None


def _run(command: list[str]) -> str | None:
    """What a command prints, in whatever encoding, or None if it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
