"""The recipe: every setting of a run, typed, read from a TOML file and changed by `key=value`."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from kshot.data.files import read_utf8
from kshot.errors import KshotError, did_you_mean
from kshot.meta.learner import AlgorithmSettings
from kshot.meta.step import Tasks
from kshot.models.build import EncoderSettings
from kshot.models.kernels import Kernels
from kshot.models.pretrained import PretrainedSettings
from kshot.settings import Settings
from kshot.tasks.classification import ClassificationSettings
from kshot.tasks.kinds import TaskSettings

Count = int | tuple[int, int] | Literal["all"]


class DataSettings(Settings):
    """Where the examples come from.

    Attributes:
        name: A name of the catalogue (`kshot data list`), or a path.
        split: Which of its published splits; None for the first.
        skip_small: Whether classes and tasks with too few examples are left out (and named) instead of refused.
    """

    name: str = "starter"
    split: str | None = None
    skip_small: bool = False


class TrainingSettings(Settings):
    """The outer loop.

    Attributes:
        steps: Updates of the shared weights; 0 keeps the start, as the baselines do.
        episodes_per_step: Episodes whose losses are averaged for one update.
        way: Classes of an episode: a number, [low, high] to draw it anew each time, or "all".
        shot: Support examples a class, likewise.
        query: Query examples a class.
        rotate: Whether an episode is used several times, each `shot` of its texts being the support in turn and the
            others the query: more to learn from the same texts, which are encoded once.
        learning_rate: Peak rate of AdamW.
        head_learning_rate: Peak rate for heads and inner rates; None for the same.
        weight_decay: AdamW's.
        warmup: The share of the steps over which the rate rises.
        schedule: How the rate falls after that.
        clip: The norm to which the gradient is clipped; 0 for never.
        trains: Which tensors of the encoder learn: all, none, layers, norm, lora, top:N.
        precision: Of the matrix products in training.
        kernels: How encoders multiply and differentiate: `auto`, `fast` or `plain` (`kshot.models.kernels`).
        tasks: How the tasks of an update are run: `auto`, `loop`, `threads`, `vmap` or `compiled` (`kshot.meta.step`).
        augment: Names of augmentations applied to the support (`kshot.data.augment`).
        token_cutoff: The share of the tokens, first and last aside, that each text loses (Shen et al. 2020,
            arXiv:2009.13818).
        average: Shares of the way from the start to the trained weights that are tried at the end, the best on `valid`
            being kept (Wortsman et al. 2022, arXiv:2109.01903).
    """

    steps: int = Field(200, ge=0)
    episodes_per_step: int = Field(1, ge=1)
    way: Count = 5
    shot: Count = 5
    query: Count = 5
    rotate: bool = False
    learning_rate: float = Field(1e-3, ge=0)
    head_learning_rate: float | None = Field(None, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    clip: float = Field(1.0, ge=0)
    trains: str = "all"
    precision: Literal["float32", "bfloat16"] = "float32"
    kernels: Kernels = "auto"
    tasks: Tasks = "auto"
    augment: tuple[str, ...] = ()
    token_cutoff: float = Field(0.0, ge=0, lt=1)
    average: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((1.0,), min_length=1)


class ValidationSettings(Settings):
    """How runs are judged on the `valid` classes while they train, and at their end.

    Attributes:
        every: Steps between validations; each is also a checkpoint.
        way: Classes of an episode.
        shot: Support examples a class.
        query: Query examples a class.
        episodes: Episodes of one validation; the same ones every time.
        patience: Validations without a better one after which training ends; 0 for never.
        choose_names: Whether class names are left out at the end if that is better on `valid`.
        keep_start: Whether the start is kept where training is not better for certain: the interval of the difference
            on fresh episodes has to lie above 0. If not, the best of what training passed through is taken, though it
            be worse than the start.
    """

    every: int = Field(50, ge=1)
    way: Count = 5
    shot: Count = 1
    query: Count = 5
    episodes: int = Field(200, ge=2)
    patience: int = Field(0, ge=0)
    choose_names: bool = True
    keep_start: bool = True


class Figure(Settings):
    """A figure that a recipe is expected to reach.

    Attributes:
        way: Classes of an episode.
        shot: Support examples a class.
        accuracy: Mean accuracy on `test`, in per cent.
        interval: Half the width of its 95% interval over the episodes, in points.
    """

    way: Count
    shot: int
    accuracy: float
    interval: float


class Recipe(Settings):
    """All that decides a run.

    Attributes:
        title: One line for people.
        seed: Decides the first weights, the episodes and the dropout.
        data: See `DataSettings`.
        start: The folder of a run or learner whose encoder it starts from, whatever `encoder` says; None for `encoder`.
        encoder: See the settings in `kshot.models`; `kind` says which.
        task: See `ClassificationSettings` and `TaggingSettings`; `kind` says which.
        algorithm: See `AlgorithmSettings`.
        training: See `TrainingSettings`.
        validation: See `ValidationSettings`.
        expect: The figures that this recipe gave, for reference.
    """

    title: str = ""
    seed: int = Field(1, ge=0, lt=2**32)
    data: DataSettings = DataSettings()
    start: str | None = None
    encoder: EncoderSettings = PretrainedSettings()
    task: TaskSettings = ClassificationSettings()
    algorithm: AlgorithmSettings = AlgorithmSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    expect: tuple[Figure, ...] = ()

    @field_validator("task", mode="before")
    @classmethod
    def _usual_task(cls, value: Any) -> Any:
        """A task that does not say what kind it is, is a classification."""
        return {"kind": "classification", **value} if isinstance(value, Mapping) else value


def recipes() -> list[str]:
    """The names of the recipes that the package carries."""
    return sorted(
        path.name.removesuffix(".toml") for path in files("kshot.recipes").iterdir() if path.name.endswith(".toml")
    )


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies changes to it.

    Args:
        source: A TOML file, or the name of a recipe that the package carries.
        overrides: `section.key=value` each, the value as in TOML; a bare word is a string. Another `data.name` leaves
            out the split that the recipe has.

    Raises:
        KshotError: If there is no such recipe, or it or a change is not valid.
    """
    path = Path(source)
    carried = files("kshot.recipes") / f"{source}.toml"
    if path.is_file():
        text = read_utf8(path)
    elif carried.is_file():
        text = carried.read_text(encoding="utf-8")
    else:
        known = recipes()
        raise KshotError(
            f'There is no recipe "{source}": neither a file nor one of {", ".join(known)}.{did_you_mean(source, known)}'
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KshotError(f"{source} is not valid TOML: {error}.") from error
    for change in sorted(overrides, key=lambda each: not each.startswith("data.name=")):
        _apply(values, change)
    return parse_recipe(values, source)


def parse_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Checks the values of a recipe.

    Raises:
        KshotError: If a key is unknown or a value has the wrong type; names the key and the nearest known one.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise KshotError(_sentence(error, source)) from error


def _apply(values: dict[str, Any], change: str) -> None:
    key, sign, text = change.partition("=")
    if not sign or not key:
        raise KshotError(
            f'"{change}" is not a change of a recipe; write section.key=value, such as training.steps=100.'
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise KshotError(f'"{section}" in "{change}" is a value, not a section of the recipe.')
    place[last] = value
    if key == "data.name":
        place.pop("split", None)  # it was one of the data set that stood here


def _sentence(error: ValidationError, source: str) -> str:
    """One sentence for the first thing that is wrong."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(part for part in path if part not in _KINDS or part == path[-1])
    if first["type"] == "extra_forbidden":
        return f'{source}: the key "{key}" is unknown.{did_you_mean(path[-1], _siblings(path))}'
    if first["type"].startswith("union_tag"):
        union = EncoderSettings if path[-1] == "encoder" else TaskSettings
        kinds = ", ".join(str(each.model_fields["kind"].default) for each in _models_of(union))
        return f'{source}: "{key}" needs a kind, one of {kinds}.'
    return f'{source}: "{key}" cannot be {first["input"]!r}: {first["msg"]}.' if key else f"{source}: {first['msg']}."


def _siblings(path: Sequence[str]) -> list[str]:
    """The keys that are known where an unknown one was found."""
    model: type[BaseModel] = Recipe
    for part in path[:-1]:
        kinds = _models_of(model.model_fields[part].annotation) if part in model.model_fields else []
        if kinds:
            model = kinds[0]
        model = _KINDS.get(part, model)
    return list(model.model_fields)


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    """The settings types inside a type annotation."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_of(part)]


_KINDS: dict[str, type[BaseModel]] = {
    each.model_fields["kind"].default: each for union in (EncoderSettings, TaskSettings) for each in _models_of(union)
}
"""What a `kind` in a recipe stands for."""
