"""Sentences and their translations."""

from pathlib import Path

from kshot.data.dataset import PARTS, PairDataset
from kshot.data.entries import INTO_ENGLISH, Entry
from kshot.data.examples import SentencePair
from kshot.data.verified import strings, verified_rows, verified_split


def load_pairs(folder: Path, entry: Entry, split: str) -> PairDataset:
    """Each pair of languages is a task, from or into English, the other side of all of them.

    The meta-training tasks have their train rows alone; of a new pair those of its train part are to learn from, and
    those of valid or test to be judged by.
    """
    languages = verified_split(entry, folder, "pairs")
    parts: dict[str, tuple[SentencePair, ...]] = {}
    for part in PARTS:
        pairs: list[SentencePair] = []
        for name in strings(languages[part]):
            for of in ("train",) if part == "train" else ("train", part):
                for row in verified_rows(entry, folder, f"{name}/{of}.jsonl"):
                    source, target = str(row["src"]), str(row["tgt"])
                    task = f"{row['src_lang']}-{row['tgt_lang']}"
                    if split == INTO_ENGLISH:
                        source, target, task = target, source, f"{row['tgt_lang']}-{row['src_lang']}"
                    pairs.append(SentencePair(source, target, task, of))
        parts[part] = tuple(pairs)
    return entry.dataset(PairDataset, split, parts)
