"""The base of every typed setting: frozen, and strict about unknown keys."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that refuse an unknown key instead of swallowing it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
