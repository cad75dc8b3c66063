"""What every configuration section shares: frozen, no unknown keys, paths that know their file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LocatedStr(str):
    """A text value that remembers the directory of the file it was written in."""

    __slots__ = ("directory",)
    directory: Path

    def __new__(cls, value: str, directory: Path) -> LocatedStr:
        """Makes the text; ``directory`` is where relative paths in it start."""
        text = super().__new__(cls, value)
        text.directory = directory
        return text

    def __reduce__(self) -> tuple[type[LocatedStr], tuple[str, Path]]:
        """Returns what a copy is made of: the user's code may copy the arguments that it gets."""
        return LocatedStr, (str(self), self.directory)


def _resolve(value: object) -> object:
    if isinstance(value, LocatedStr):
        try:
            return value.directory / Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{str(value)!r} names no user's home directory") from error
    return value


ConfigPath = Annotated[Path, BeforeValidator(_resolve)]
"""A path; a relative one starts at the directory of the file that wrote it."""
