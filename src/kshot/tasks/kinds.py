"""The kinds of task by name, and between a task and its settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kshot.errors import KshotError, did_you_mean
from kshot.tasks.base import Task
from kshot.tasks.classification import Classification, ClassificationSettings
from kshot.tasks.responding import Responding, RespondingSettings
from kshot.tasks.tagging import Tagging, TaggingSettings
from kshot.tasks.translation import Translation, TranslationSettings
from kshot.tasks.understanding import Understanding, UnderstandingSettings

TaskSettings = Annotated[
    ClassificationSettings | TaggingSettings | TranslationSettings | UnderstandingSettings | RespondingSettings,
    Field(discriminator="kind"),
]
TASKS: dict[str, tuple[Any, Any]] = {
    "classification": (ClassificationSettings, Classification),
    "tagging": (TaggingSettings, Tagging),
    "translation": (TranslationSettings, Translation),
    "understanding": (UnderstandingSettings, Understanding),
    "responding": (RespondingSettings, Responding),
}


def build_task(values: Mapping[str, Any]) -> Task:
    """Makes a task of its settings; `kind` says which.

    Raises:
        KshotError: If the kind or a setting is unknown, or a value cannot be used.
    """
    kind = values.get("kind", "classification")
    if kind not in TASKS:
        raise KshotError(f'There is no task kind "{kind}".{did_you_mean(kind, TASKS)} Known: {", ".join(TASKS)}.')
    settings_type, task_type = TASKS[kind]
    try:
        task: Task = task_type(settings_type.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(settings_type.model_fields)
            raise KshotError(f'The setting "{key}" of {kind} is unknown; it takes: {known}.') from error
        raise KshotError(f'The setting "{key}" of {kind} cannot be {first["input"]!r}: {first["msg"]}.') from error
    return task


def describe_task(task: Task) -> dict[str, Any]:
    """The settings that `build_task` makes the same task of."""
    described: dict[str, Any] = task.settings.model_dump(mode="json")
    return described
