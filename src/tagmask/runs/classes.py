"""`classes.json`: what the values in masks mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.errors import InputError
from tagmask.masks import palette
from tagmask.reading import TEXT_LIMIT, read_regular
from tagmask.strict_json import json_text, parse_json

__all__ = ["Classes", "read_classes"]


@dataclass(frozen=True)
class Classes:
    """Names of the values in masks."""

    names: tuple[str, ...]
    """In the order of their indices; the background, where there is one, comes first."""
    ignore_index: int
    """The value that means no class."""

    def encode(self) -> bytes:
        """The content of `classes.json`; colours are those of the masks' palette."""
        colours: Sequence[list[int]] = palette(len(self.names)).tolist()
        described = {
            "ignore_index": self.ignore_index,
            "classes": [
                {"index": index, "name": name, "colour": colour}
                for index, (name, colour) in enumerate(zip(self.names, colours, strict=True))
            ],
        }
        text = json_text(described, indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace")


def read_classes(path: Path) -> Classes:
    """Read a `classes.json`, also one of before there were runs (`nothing` in place of `ignore_index`).

    Raises:
        InputError: it cannot be read, or does not name each index once.
    """
    try:
        described = parse_json(read_regular(path, TEXT_LIMIT))
        ignore = int(described["ignore_index"] if "ignore_index" in described else described["nothing"])
        names = {int(entry["index"]): str(entry["name"]) for entry in described["classes"]}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not name the classes of masks ({type(error).__name__}: {error}); expected "
            '{"ignore_index": ..., "classes": [{"index": 0, "name": ...}, ...]}.'
        ) from error
    if sorted(names) != list(range(len(described["classes"]))):
        raise InputError(f"{path} does not name each index from 0 once.")
    if not len(names) <= ignore <= 65535:
        raise InputError(
            f"{path} has {len(names)} classes and {str(ignore)[:20]} for pixels without one. Expected fewer "
            "classes than that value, which is at most 65535."
        )
    return Classes(tuple(names[index] for index in range(len(names))), ignore)
