"""What the process does with memory that is freed."""

import ctypes
import sys

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD of malloc.h
_KEPT = 1 << 30  # bytes that may lie free before they are given back
_STEP = 64 << 20  # bytes by which the heap grows
_LARGEST = 32 << 20  # bytes from which on a block is mapped by itself, at most what glibc allows


def keep_freed_memory() -> bool:
    """Keeps up to a gigabyte of what is freed, for what is allocated next.

    Every update allocates the same large tensors again. glibc gives them back to the system each time, which maps them
    anew and fills them with zeros, page by page: up to a third of a meta-step. This holds for the whole process.

    Returns:
        Whether the C library is one that can be told so.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    return all([libc.mallopt(_MMAP, _LARGEST), libc.mallopt(_TRIM, _KEPT), libc.mallopt(_TOP_PAD, _STEP)])
