"""The table of known data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kshot.data.dataset import Unit
from kshot.data.download import CONVERTERS


@dataclass(frozen=True)
class Entry:
    """One data set of the catalogue.

    Attributes:
        name: The name to load it by.
        title: What it is, in a line.
        unit: What its parts differ in, see `Dataset`.
        n_classes: The number of its classes.
        licence: The licence of the data.
        source: The address that it comes from.
        splits: The names of its splits; the first is taken unless another is asked for.
        found: The folder where it is on this machine, or None.
        checksums: The SHA-256 of each file's content (see `content_digest`); a file that differs is refused.
    """

    name: str
    title: str
    unit: Unit
    n_classes: int
    licence: str
    source: str
    splits: tuple[str, ...]
    found: Path | None = None
    checksums: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def can_be_downloaded(self) -> bool:
        """Whether it is downloaded when it is asked for and not found."""
        return self.name in CONVERTERS


def _numbered(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{number:02}" for number in range(1, 6))


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Entry(
                name="starter",
                title="short requests, 12 everyday and professional domains; comes with kshot",
                unit="classes",
                n_classes=72,
                licence="CC0-1.0",
                source="written for kshot",
                splits=("domains",),
            ),
            Entry(
                name="clinc150",
                title="requests to an assistant, 10 domains, and out-of-scope requests",
                unit="classes",
                n_classes=150,
                licence="CC BY 3.0 (class splits Apache-2.0)",
                source="https://github.com/clinc/oos-eval",
                splits=(*_numbered("fewshot"), "by_domain"),
                checksums={
                    "all.jsonl": "7e816548f01ecbe5dd970b36e65415e8a2332f01efbd6e99c8d436b9f2152f2b",
                    "oos.jsonl": "9f6b91067b230b3757e23e466d8d72235f4f06cb17dd71d70c04981ff349a225",
                    "splits/by_domain.json": "82d07b4e26bb3aee7d2efd0513b2124fc9400d2fb004d6a3c18684413a1f9331",
                    "splits/fewshot_01.json": "2d7cea569021db24b34c6675e265cd32bb6ff1e46b6bd5d68dcdcc0a0c2a0dd9",
                    "splits/fewshot_02.json": "745feac172079a237f1ebb1dd1df413854f37dd65560193fd9da0e5c9c5f6784",
                    "splits/fewshot_03.json": "dfa881a89147ec937c997ba8e681e6b0df0061e01b04fbd620ef7797ab349965",
                    "splits/fewshot_04.json": "fdc1a31a704c6d67a0de49a35bbca66395212717589701f4fb13bea2ba01e7c2",
                    "splits/fewshot_05.json": "3e4a4291f5ecf2dcfe6b3c80a2ae042cc388b37f6a7a7d376d3524b12223a5e4",
                },
            ),
            Entry(
                name="hwu64",
                title="requests to a home assistant, 18 scenarios, unequal classes",
                unit="classes",
                n_classes=64,
                licence="CC BY 4.0 (this copy and class splits Apache-2.0)",
                source="https://github.com/tdopierre/ProtAugment",
                splits=_numbered("fewshot"),
                checksums={
                    "all.jsonl": "cf3c3a3de96c9a4d6ce195c1ad3cb33fb2db9241048434281bc9bafe9d41358b",
                    "splits/fewshot_01.json": "5677bd5ffef953cf834f8a769769cb6fe9891dfb1587018e1d2abdab892d4c24",
                    "splits/fewshot_02.json": "b53ea01f2de10e9eacff4e371253234b26fdeb2d3677217783cb8e494da40a32",
                    "splits/fewshot_03.json": "07b5f8e9058a4ea40eb8d9b951b18ff31723b908f77fe1cb76e79bc341660c2a",
                    "splits/fewshot_04.json": "76bc39c3c3a37854163d4932d068f6fb23ef3d64d234d9af554dd94e015c2e6d",
                    "splits/fewshot_05.json": "2e38d9cd73c15cb67e1132c323f7fb3bebce09caae8f5a1b9e1fa752c1bdfd94",
                },
            ),
            Entry(
                name="huffpost",
                title="news headlines in 41 sections",
                unit="classes",
                n_classes=41,
                licence="not stated (origin CC0)",
                source="https://github.com/YujiaBao/Distributional-Signatures",
                splits=("bao2020", *_numbered("fold")),
                checksums={
                    "all.jsonl": "b07a3ff9c6f6fd2c16f2c2cfbeb6019c5de8f06900444a8b1b857082cfbcb142",
                    "splits/bao2020.json": "c3650f1bcc594be038e56404a6f54d09e02b8107d2152f4822576bbf244e0557",
                    "splits/fold_01.json": "9332b00e74d154392a3a908f0025001700fa6c78084324550e6d96650c7cf221",
                    "splits/fold_02.json": "9396836a9cd50831173f7d768533fda14b2a52f4de610c6523046191bf4e0f88",
                    "splits/fold_03.json": "0e0c9e5331dc0454f3d6d55b05671bc989aa7d05174b092f52cce1d7c3e8c416",
                    "splits/fold_04.json": "b07d166e8d39186a4cec6035637794516f92f828dace8b329e740394767437bc",
                    "splits/fold_05.json": "31d2d250cfaf6e959c89de99c0ad3367937e94646bf12bb5c1aa6eccb8ef1c16",
                },
            ),
            Entry(
                name="amazon_sentiment",
                title="product reviews, 69 tasks of a domain and a rating threshold (a sample of ARSC)",
                unit="tasks",
                n_classes=2,
                licence="not stated",
                source="https://github.com/Gorov/DiverseFewShot_Amazon",
                splits=("tasks",),
                checksums={
                    "all.jsonl": "a22db984a29b2832eab6d198de2b4f159d43ed27853f979aa621fce13923a17e",
                    "splits/tasks.json": "c824dac48944b24ae16873a3ad2a05afbcfc500d6149b5566c8514ddec8907fa",
                },
            ),
            Entry(
                name="sst2",
                title="sentences of film reviews",
                unit="examples",
                n_classes=2,
                licence="not stated",
                source="https://github.com/clairett/pytorch-sentiment-classification",
                splits=("published",),
                checksums={"all.jsonl": "441dfbbb9978e33054a6d35a7cc7bf54a9b426bc37466a2a86196a18ca319166"},
            ),
            Entry(
                name="fewrel",
                title="relations of two marked entities in a sentence, four domains (a sample of FewRel 1.0 and 2.0)",
                unit="classes",
                n_classes=60,
                licence="MIT",
                source="https://github.com/thunlp/FewRel",
                splits=("wiki", "domains"),
                checksums={
                    "all.jsonl": "3b9c19a9304f67f826e37e0901d0ed5c4098e1a9fd7ab060d4f3bd0b63e513e5",
                    "splits/domains.json": "521951bf9d6abe1d51c765a085825a6287bdd6b82a6baed7aedc77a1ea6b0e20",
                    "splits/wiki.json": "b990b613e54db00b8cd44e25d160142290194de2cb2929471359344499f01179",
                },
            ),
        )
    }
)
"""The known data sets."""
