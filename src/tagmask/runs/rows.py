"""Rows of a run's database, as values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tagmask.errors import InputError
from tagmask.runs.identity import to_json
from tagmask.strict_json import json_text

__all__ = [
    "JSON_COLUMNS",
    "RESULT_COLUMNS",
    "ImageResult",
    "ImageRow",
    "ReviewState",
    "Status",
    "result_columns",
    "strict_json",
]

Status: TypeAlias = Literal["todo", "done", "failed"]
ReviewState: TypeAlias = Literal["unseen", "accepted", "corrected", "rejected"]

RESULT_COLUMNS = (
    "width", "height", "status", "error", "seconds", "tags", "scores", "shares", "class_confidence",
    "confidence", "absent", "record",
)  # fmt: skip
"""Columns that say what became of an image; `updated` says when."""

JSON_COLUMNS = ("tags", "scores", "shares", "class_confidence", "absent", "record")
"""Columns that hold JSON."""


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What a run records of one image that was done; what does not apply stays None."""

    width: int | None = None
    height: int | None = None
    """Of the upright image."""
    seconds: float | None = None
    tags: Sequence[str] | None = None
    scores: Mapping[str, float] | Sequence[float] | None = None
    shares: Mapping[str, int] | None = None
    """Pixels of each class found."""
    class_confidence: Mapping[str, float] | None = None
    confidence: float | None = None
    absent: Sequence[str] | None = None
    record: Mapping[str, object] | None = None
    """Whatever else the kind of run keeps; JSON."""

    def columns(self) -> dict[str, object]:
        """The values of `RESULT_COLUMNS` in the database.

        Raises:
            InputError: a value that strict JSON cannot hold, such as NaN.
        """
        columns: dict[str, object] = {"width": self.width, "height": self.height}
        columns |= {"status": "done", "error": None, "seconds": self.seconds}
        for name in JSON_COLUMNS:
            value = getattr(self, name)
            columns[name] = None if value is None else strict_json(name, value)
        if self.confidence is not None and not math.isfinite(self.confidence):
            raise InputError(f"confidence is {self.confidence}; check the weights")
        columns["confidence"] = None if self.confidence is None else float(self.confidence)
        return columns


def strict_json(name: str, value: object) -> str:
    """One line of JSON, in ASCII.

    Raises:
        InputError: a number in it is NaN or infinite.
    """
    try:
        return json_text(value, separators=(",", ":"), default=to_json)
    except InputError as error:
        raise InputError(f"{name} of this image hold NaN or infinity; check the weights") from error


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image of a run."""

    id: int
    key: str
    """What the image is: name of the folder that was given, and the path below it."""
    name: str
    """Name of its outputs: `masks/NAME.png`."""
    source: Path
    """Where it was found, absolute."""
    size: int | None
    mtime_ns: int | None
    width: int | None
    height: int | None
    status: Status
    error: str | None
    seconds: float | None
    tags: tuple[str, ...] | None
    scores: dict[str, float] | list[float] | None
    shares: dict[str, int] | None
    class_confidence: dict[str, float] | None
    confidence: float | None
    absent: tuple[str, ...] | None
    record: dict[str, Any] | None
    updated: float | None
    """Seconds since 1970."""
    review: ReviewState
    stale: bool
    """The image changed after it was reviewed."""


def result_columns(row: ImageRow) -> dict[str, object]:
    """The values of `RESULT_COLUMNS` in the database, of a row that was read from one."""
    return {
        name: strict_json(name, value) if name in JSON_COLUMNS and value is not None else value
        for name, value in ((name, getattr(row, name)) for name in RESULT_COLUMNS)
    }
