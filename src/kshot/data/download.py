"""Known data sets from their original public sources, converted to the layout of one folder a data set.

The layout is `all.jsonl` (rows with ``text``, ``label`` and more), `splits/<split>.json` (``{"train": labels, "valid":
labels, "test": labels}``) and for clinc150 `oos.jsonl`. What was downloaded is only taken if its checksum is that of
the catalogue, so a conversion that goes wrong is an error and never another data set under a known name.
"""

import hashlib
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType

from kshot.errors import KshotError

Fetch = Callable[[str], bytes]
"""Gets what stands at an address; raises OSError if it cannot."""

Files = dict[str, str]
"""The files of a data set by their path in its folder."""

CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data"
PROTAUGMENT = "https://raw.githubusercontent.com/tdopierre/ProtAugment/4233bbae0d7544e632692c4d2c185b2ed2a19eef/data"

CLINC_BY_DOMAIN = {
    "train": ("kitchen_and_dining", "home", "auto_and_commute", "utility", "work"),
    "valid": ("small_talk", "meta"),
    "test": ("banking", "credit_cards", "travel"),
}
"""A split by whole domains that was made for kshot and is not published."""

TIMEOUT_S = 60


def content_digest(rows: Iterable[object]) -> str:
    """Returns the SHA-256 of rows.

    The order of the rows and of their fields does not count, nor does the compression of their file.
    """
    lines = sorted(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def fetch_url(url: str) -> bytes:
    """Gets what stands at an address.

    Raises:
        OSError: If it cannot be had.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
    except HTTPException as error:  # a connection that breaks in the middle is no OSError
        raise OSError(str(error) or type(error).__name__) from error
    return content


def convert_clinc150(fetch: Fetch) -> Files:
    """Converts CLINC150.

    `data_full.json` has for each of ``train``, ``val``, ``test``, ``oos_train``, ``oos_val`` and ``oos_test`` a list of
    ``[text, intent]``, and `domains.json` has the intents of each domain. The class splits are ProtAugment's.
    """
    full = json.loads(fetch(f"{CLINC}/data_full.json"))
    domains: dict[str, list[str]] = json.loads(fetch(f"{CLINC}/domains.json"))
    domain_of = {intent: domain for domain, intents in domains.items() for intent in intents}
    published = {"train": "train", "valid": "val", "test": "test"}
    rows = [
        {"text": text, "label": intent, "domain": domain_of[intent], "split": part}
        for part, key in published.items()
        for text, intent in full[key]
    ]
    out_of_scope = [
        {"text": text, "label": intent, "domain": None, "split": part}
        for part, key in published.items()
        for text, intent in full[f"oos_{key}"]
    ]
    by_domain = {
        part: [intent for domain in names for intent in domains[domain]] for part, names in CLINC_BY_DOMAIN.items()
    }
    return {
        "all.jsonl": _jsonl(rows),
        "oos.jsonl": _jsonl(out_of_scope),
        "splits/domains.json": json.dumps(domains),
        "splits/by_domain.json": json.dumps(by_domain),
        **_protaugment_splits(fetch, "OOS"),
    }


def convert_hwu64(fetch: Fetch) -> Files:
    """Converts HWU64 as ProtAugment has it.

    `full.jsonl` has ``sentence`` and ``label`` in each line, and a label is ``scenario/intent``.
    """
    lines = fetch(f"{PROTAUGMENT}/HWU64/full.jsonl").decode("utf-8").split("\n")
    source = [json.loads(line) for line in lines if line.strip()]
    rows = [{"text": row["sentence"], "label": row["label"], "domain": row["label"].split("/")[0]} for row in source]
    return {"all.jsonl": _jsonl(rows), **_protaugment_splits(fetch, "HWU64")}


def _protaugment_splits(fetch: Fetch, folder: str) -> Files:
    """The five class splits of ProtAugment: a text file for each part, one label a line."""
    splits = {}
    for number in range(1, 6):
        parts = {}
        for part in ("train", "valid", "test"):
            content = fetch(f"{PROTAUGMENT}/{folder}/few_shot/{number:02}/labels.{part}.txt").decode("utf-8")
            parts[part] = [line.strip() for line in content.split("\n") if line.strip()]
        splits[f"splits/fewshot_{number:02}.json"] = json.dumps(parts)
    return splits


def _jsonl(rows: Iterable[object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CONVERTERS: Mapping[str, Callable[[Fetch], Files]] = MappingProxyType(
    {"clinc150": convert_clinc150, "hwu64": convert_hwu64}
)
"""The data sets that can be downloaded, and how."""


def download(name: str, folder: Path, *, verify: Callable[[Path], None], fetch: Fetch = fetch_url) -> None:
    """Downloads a data set into a folder, which appears when it is whole and verified.

    Args:
        name: A name of `CONVERTERS`.
        folder: The folder to make.
        verify: Called with the finished files, before they take their place; raises `KshotError` if they are not what
            they should be.
        fetch: How to get an address.

    Raises:
        KshotError: If an address cannot be had, if what stands there is not of the form that it had, or if the result
            cannot be written or verified.
    """
    way_out = f'; put a copy of the folder "{name}" somewhere and set KSHOT_DATA to the folder above it'
    try:
        files = CONVERTERS[name](fetch)
    except OSError as error:
        raise KshotError(
            f'The data set "{name}" is not on this machine and cannot be downloaded ({error}){way_out}.'
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KshotError(
            f'The source of the data set "{name}" no longer has the form that kshot knows ({error!r}){way_out}.'
        ) from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    except OSError as error:
        raise KshotError(f"{folder} cannot be written ({error}){way_out}.") from error
    try:
        _write(unfinished, files)
        verify(unfinished)
        _put_in_place(unfinished, folder)
    except OSError as error:
        raise KshotError(f"{folder} cannot be written ({error}){way_out}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8", newline="\n")


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Renames the finished folder; another process may have been faster, with the same files."""
    unfinished.chmod(0o755)
    try:
        unfinished.rename(folder)
    except OSError:
        if not _is_data(folder, ("all.jsonl",)):
            raise


def _is_data(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)
