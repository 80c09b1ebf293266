"""One export: the chosen images of a run, with their names, masks and photos, one after the other."""

import io
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import PIL.Image

from tagmask.errors import ImageError, InputError, OutputError
from tagmask.exporters.image_names import FlatNames, ImageNames
from tagmask.exporters.options import ExportOptions, PhotoChoice, split_of
from tagmask.files import unwritable
from tagmask.images import image_orientation, read_image
from tagmask.masks import IndexMap
from tagmask.regions import Region, RegionKind, regions_of
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow

__all__ = ["Export", "ExportedImage"]

_ENCODERS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Formats in which a turned photo is written again, by its ending; others become PNG."""
_SAME_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".apng": ".png"}
"""Endings of one format."""
_QUALITY = 95
"""Of those, where the format has one."""


@dataclass(frozen=True)
class ExportedImage:
    """An image of an export."""

    row: ImageRow
    name: str
    """Unique relative path of the photo, with `/`; bytes that are not UTF-8 are kept as surrogates."""
    flat_name: str
    """Unique file name without folders, for formats that have none; always text."""
    split: str
    photo: Path | None
    """The photo, unchanged since the run; None if it is gone, changed, or cannot be read."""
    _export: "Export" = field(repr=False)

    @property
    def stem(self) -> str:
        """Unique relative path without an ending, with `/`; always text. It is that of `name`, if free."""
        return self.row.name

    @property
    def suffix(self) -> str:
        """The photo's ending, with its dot; always text."""
        return _suffix(self.name)

    def suffix_among(self, known: Collection[str]) -> str:
        """Return the ending under which a tool that knows only these endings opens the photo.

        Args:
            known: in lower case; .jpg and .png are among them.

        Returns:
            The photo's own ending if it is known, else .jpg or .png.
        """
        suffix = self.suffix.lower()
        if suffix in known:
            return self.suffix
        same = _SAME_FORMAT.get(suffix, suffix)
        return same if same in known else ".png"

    @property
    def flat_stem(self) -> str:
        """`flat_name` without its ending; unique too."""
        return PurePosixPath(self.flat_name).stem

    @cached_property
    def labels(self) -> IndexMap:
        """The mask: the corrected one if there is one.

        Raises:
            ImageError: it cannot be read.
            InputError: it does not fit its run.
        """
        return self._export.run.mask(self.row)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the upright photo and of its mask."""
        height, width = self.labels.shape
        return height, width

    @property
    def corrected(self) -> bool:
        """Whether the mask was corrected by a person."""
        return self._export.run.mask_path(self.row).parent.is_relative_to(self._export.run.path / "corrected")

    def regions(self, kind: RegionKind | None = None) -> Iterator[Region]:
        """Return the regions of all classes but the background, as the options say.

        Args:
            kind: "class" or "component"; None: as the options or the format say.
        """
        export = self._export
        chosen = kind or export.region_kind
        return regions_of(self.labels, chosen, export.first, len(export.words), export.options.min_area)

    def score(self, label: int) -> float | None:
        """Return the confidence of a class in this image, 0..1; None for corrected masks, or if unknown."""
        confidence = None if self.corrected else self.row.class_confidence
        score = confidence.get(self._export.words[label]) if confidence else None
        return None if score is None else round(score, 6)

    def write_photo(self, target: Path) -> None:
        """Copy the photo, or link to it, as the options say; "none" writes nothing.

        A photo that its metadata turns is written again, upright: not every tool turns photos, and the mask
        is upright. So is one whose format is not that of the target's ending. It is then never a link.

        Args:
            target: the file to write, in a folder that is being made.

        Raises:
            InputError: the photo is gone, has changed, or cannot be read.
            OutputError: the file cannot be written.
        """
        choice = self._export.photo_choice
        if choice == "none":
            return
        photo = self.upright_photo(target.suffix)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(photo, bytes):
                target.write_bytes(photo)
            elif choice == "link":
                target.symlink_to(Path(os.path.realpath(photo)))
            else:
                shutil.copyfile(photo, target)
        except OSError as error:
            raise unwritable(target, error) from error

    def upright_photo(self, suffix: str) -> Path | bytes:
        """Return the photo's file, or new content if its metadata turns it or its format is not the ending's.

        Args:
            suffix: the ending under which it will be stored.

        Raises:
            InputError: the photo is gone, has changed, or cannot be read.
            OutputError: the photo cannot be encoded.
        """
        if self.photo is None:
            raise InputError(
                f"The photo {self.row.source} is gone or has changed since the run. Put it back, export with "
                "--no-images, or run `tagmask mask` again."
            )
        wanted, stored = (_SAME_FORMAT.get(end.lower(), end.lower()) for end in (suffix, self.suffix))
        return _upright_bytes(self.photo, suffix, convert=wanted != stored) or self.photo

    def photo_bytes(self, suffix: str) -> bytes:
        """Return the content of `upright_photo`.

        Raises:
            InputError: the photo is gone, has changed, or cannot be read.
            OutputError: the photo cannot be encoded.
        """
        photo = self.upright_photo(suffix)
        try:
            return photo if isinstance(photo, bytes) else photo.read_bytes()
        except OSError as error:
            raise InputError(
                f"The photo {self.row.source} cannot be read: {error.strerror}. Export with --no-images."
            ) from error


class Export:
    """The images to export and how; iterate it for the images, which are read one at a time.

    Args:
        run: the run.
        options: which images and regions.
        regions: kind of regions of the format, unless the options say another.
        photos: what becomes of the photos in the format, unless the options say otherwise.
        splits: of the format, unless the options give others.
    """

    def __init__(
        self,
        run: Run,
        options: ExportOptions,
        *,
        regions: RegionKind = "class",
        photos: PhotoChoice = "none",
        splits: Mapping[str, float] | None = None,
    ) -> None:
        self.run, self.options = run, options
        self.region_kind: RegionKind = options.regions or regions
        self.photo_choice: PhotoChoice = options.photos or photos
        self.splits: Mapping[str, float] = options.splits or splits or {"train": 1.0}

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Name of each label.

        Raises:
            InputError: the run has no masks.
        """
        return self.run.classes.names

    @property
    def has_background(self) -> bool:
        """Whether label 0 is the background."""
        return self.words[:1] == ("background",)

    @property
    def first(self) -> int:
        """The lowest label that is not the background."""
        return int(self.has_background)

    @property
    def ignore_index(self) -> int:
        """The value of pixels without a class in the run's masks."""
        return self.run.classes.ignore_index

    def rows(self) -> Iterator[ImageRow]:
        """Yield the rows that the options choose, of any status."""
        options = self.options
        for row in self.run:
            if options.accepted_only and row.review not in ("accepted", "corrected"):
                continue
            corrected = (options.corrected_only or options.min_confidence is not None) and (
                row.status == "done" and self.run.output_path(row, "corrected").exists()
            )
            if options.corrected_only and not corrected:
                continue
            sure = row.confidence if row.confidence is not None else -1.0
            if options.min_confidence is not None and not corrected and sure < options.min_confidence:
                continue
            yield row

    def __iter__(self) -> Iterator[ExportedImage]:
        """Yield the images to export, in the order of their keys.

        Raises:
            InputError: no image is left, or the run has no masks.
        """
        words = self.words
        names, flat_names, count = ImageNames(self.run), FlatNames(self.run), 0
        for row in self.rows():
            if row.status != "done":
                continue
            name = names.of(row)
            flat = flat_names.with_ending(row, name)
            photo = None if self.photo_choice == "none" else _unchanged(row)
            split = split_of(row.key, self.splits, self.options.seed)
            count += 1
            yield ExportedImage(row, name, flat, split, photo, self)
        if not count and words:
            raise InputError(
                f"No image of {self.run.path} is left to export: {self.run.counts['done']} of "
                f"{len(self.run)} are done, and the options leave none of those. Give other options."
            )


def _unchanged(row: ImageRow) -> Path | None:
    with suppress(OSError, ValueError):
        stat = row.source.stat()
        if (stat.st_size, stat.st_mtime_ns) == (row.size, row.mtime_ns):
            return row.source
    return None


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.encode("utf-8", "backslashreplace").decode()


def _upright_bytes(photo: Path, suffix: str, *, convert: bool) -> bytes | None:
    """Return the photo's file, written again upright; None if it can stay as it is.

    Raises:
        InputError: the photo cannot be read.
        OutputError: the photo cannot be encoded.
    """
    try:
        if image_orientation(photo) == 1 and not convert:
            return None
        upright = PIL.Image.fromarray(read_image(photo))
    except ImageError as error:
        raise InputError(f"{error} Export with --no-images.") from error
    file = io.BytesIO()
    encoder = _ENCODERS.get(suffix.lower(), "PNG")
    try:
        upright.save(file, encoder, quality=_QUALITY)
    except (OSError, ValueError) as error:
        raise OutputError(f"The photo {photo} cannot be turned upright: {error}") from error
    return file.getvalue()
