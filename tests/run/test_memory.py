"""Memory that is freed stays with the process."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from kshot.run.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

known = keep_freed_memory()
faults()
print(int(known), faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told so")
def test_what_is_freed_is_used_again() -> None:
    """Blocks that are mapped each time take thousands of page faults each."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    known, faults = map(int, done.stdout.split())
    if not known:
        pytest.skip("another C library")
    assert faults < 4_000
