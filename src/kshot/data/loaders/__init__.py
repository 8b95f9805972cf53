"""How the rows of each known data set become its parts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from kshot.data.dataset import Dataset
from kshot.data.entries import CATALOGUE, Entry
from kshot.data.loaders.pairs import load_pairs
from kshot.data.loaders.replies import load_replies
from kshot.data.loaders.tagged import load_tagged
from kshot.data.loaders.texts import TEXT_LOADERS
from kshot.data.loaders.utterances import load_utterances

LOADERS: Mapping[str, Callable[[Path, Entry, str], Dataset]] = MappingProxyType(
    {
        **TEXT_LOADERS,
        **{name: load_tagged for name, entry in CATALOGUE.items() if entry.task_kind == "tagging"},
        **{name: load_pairs for name, entry in CATALOGUE.items() if entry.task_kind == "translation"},
        **{name: load_utterances for name, entry in CATALOGUE.items() if entry.task_kind == "understanding"},
        **{name: load_replies for name, entry in CATALOGUE.items() if entry.task_kind == "responding"},
    }
)
"""What loads a data set of a name: its folder, its entry and the name of a split in, its parts out."""
