"""What all tests share: no network, one thread, and a small language to learn."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from toy import save_tiny_bert

# Examples are drawn from a fixed seed, so that a run of the suite says the same as the one before it.
settings.register_profile(
    "kshot", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kshot")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Each test draws the same random numbers, alone or among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT with random weights."""
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))
