"""File names of images in exported files."""

from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow

__all__ = ["ImageNames"]


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
