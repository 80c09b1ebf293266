"""File names of images in exported files."""

from pathlib import PurePosixPath

from tagmask.runs.names import free_name
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow

__all__ = ["FlatNames", "ImageNames"]


class ImageNames:
    """Unique file names of a run's images, as other tools look for them.

    A name is the image's path below the folder that was given. If several folders were given, each name
    starts with its folder's.

    Args:
        run: the run; all its rows are read once.
    """

    def __init__(self, run: Run) -> None:
        self._several = len({row.key.partition("/")[0] for row in run}) > 1

    def of(self, row: ImageRow) -> str:
        """Return the name of one image; bytes that are not UTF-8 are kept as surrogates."""
        folder, _, below = row.key.partition("/")
        # From the source, because keys escape what is not text.
        path = "/".join(row.source.parts[-below.count("/") - 1 :])
        return f"{folder}/{path}" if self._several else path


class FlatNames:
    """Unique file names without folders, for formats that have none; always text.

    An image's name depends on the images that joined the run before it, and on nothing else: what a file was
    called when it was exported is known when it comes back.

    Args:
        run: the run; all its rows are read once.
    """

    def __init__(self, run: Run) -> None:
        taken: set[str] = set()
        self._numbered: dict[int, str] = {}
        for row in run.select(order="id"):
            wanted = row.name.replace("/", "_")
            name = free_name(wanted, taken)
            if name != wanted:
                self._numbered[row.id] = name

    def of(self, row: ImageRow) -> str:
        """Return the name of one image, without its ending."""
        return self._numbered.get(row.id) or row.name.replace("/", "_")

    def with_ending(self, row: ImageRow, name: str) -> str:
        """Return the name of one image with the ending of its exported name."""
        return self.of(row) + PurePosixPath(name).suffix.encode("utf-8", "backslashreplace").decode()
