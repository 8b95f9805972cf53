"""Learners on the Hugging Face Hub.

Its library takes a tenth of a second to import, so `MetaLearner` imports this where it is asked for the Hub.
"""

from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from kshot.artefact import LEARNER_FILES
from kshot.errors import KshotError, first_line

PIPELINES = {
    "classification": "text-classification",
    "tagging": "token-classification",
    "translation": "translation",
    "understanding": "text-classification",
    "responding": "text-generation",
}
"""The name that the Hub has for each kind of task."""

_LEARNS_FROM = {
    "classification": "texts, labels",
    "tagging": "sentences, tags",
    "translation": "sources, targets",
    "understanding": "texts, frames",
    "responding": "dialogues",
}

_CARD = "README.md"
_REFUSALS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)


def write_card(folder: Path, kind: str, about: str, name: str) -> None:
    """Writes the card of a learner beside its files, unless there is one.

    Args:
        folder: Where the learner lies.
        kind: The kind of its tasks.
        about: What it is, in a few words.
        name: What `from_pretrained` is to be given: its name on the Hub, or a folder.
    """
    if not (folder / _CARD).exists():
        ModelCard(f"{_front(kind)}\n{_text(kind, about, name)}").save(folder / _CARD)


def _front(kind: str) -> str:
    tags = ["few-shot", "meta-learning"]
    data = ModelCardData(library_name="kshot", pipeline_tag=PIPELINES[kind], tags=tags)
    return f"---\n{data.to_yaml()}\n---"


def _text(kind: str, about: str, name: str) -> str:
    return f"""
# {about}

This learner learns a task of {kind} from a handful of examples, without being trained any more. It was made by
[kshot](https://pypi.org/project/kshot).

```python
import kshot

learner = kshot.MetaLearner.from_pretrained("{name}")
task = learner.adapt({_LEARNS_FROM[kind]})
```
"""


def upload(
    folder: Path, repo: str, *, private: bool | None, token: str | bool | None, revision: str | None, message: str
) -> str:
    """Uploads a folder to a repository of models, which is made if there is none.

    Returns:
        The address of the commit.

    Raises:
        KshotError: If the Hub does not take it.
    """
    api = HfApi(token=token)
    try:
        made = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(made, branch=revision, exist_ok=True)
        return str(api.upload_folder(repo_id=made, folder_path=folder, revision=revision, commit_message=message))
    except _REFUSALS as error:
        raise KshotError(
            f'The Hub did not take "{repo}" ({_reason(error)}); check the name, the connection, and that '
            "you are logged in (hf auth login)."
        ) from error


def download(
    repo: str,
    *,
    revision: str | None,
    cache_dir: str | Path | None,
    force_download: bool,
    local_files_only: bool,
    token: str | bool | None,
) -> Path:
    """Downloads the files of a learner, those that are not in the cache.

    Raises:
        KshotError: If the Hub does not give them.
    """
    try:
        found = snapshot_download(
            repo,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=list(LEARNER_FILES),
        )
    except _REFUSALS as error:
        raise KshotError(
            f'"{repo}" is neither a local folder nor a learner that the Hub gives ({_reason(error)}); check the name '
            "and the connection."
        ) from error
    return Path(found)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
