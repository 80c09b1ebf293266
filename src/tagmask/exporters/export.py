"""One export: the chosen images of a run, with their names, masks and photos, one after the other."""

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import PIL.Image

from tagmask.errors import ImageError, InputError, OutputError
from tagmask.exporters.image_names import ImageNames
from tagmask.exporters.options import ExportOptions, PhotoChoice, split_of
from tagmask.files import unwritable
from tagmask.images import image_orientation, read_image
from tagmask.masks import IndexMap
from tagmask.regions import Region, RegionKind, regions_of
from tagmask.runs.names import free_name
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
}
"""Formats in which a turned photo is written again, by its ending; others become PNG."""
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
        is upright. It is then never a link.

        Args:
            target: the file to write, in a folder that is being made.

        Raises:
            InputError: the photo is gone, has changed, or cannot be read.
            OutputError: the file cannot be written.
        """
        choice = self._export.photo_choice
        if choice == "none":
            return
        if self.photo is None:
            raise InputError(
                f"The photo {self.row.source} is gone or has changed since the run. Put it back, export with "
                "--no-images, or run `tagmask mask` again."
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if turned := _upright_bytes(self.photo):
                target.write_bytes(turned)
            elif choice == "link":
                target.symlink_to(Path(os.path.realpath(self.photo)))
            else:
                shutil.copyfile(self.photo, target)
        except OSError as error:
            raise unwritable(target, error) from error


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
        names, taken, count = ImageNames(self.run), set[str](), 0
        for row in self.rows():
            if row.status != "done":
                continue
            name = names.of(row)
            suffix = PurePosixPath(name).suffix.encode("utf-8", "backslashreplace").decode()
            flat = free_name(row.name.replace("/", "_"), taken) + suffix
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


def _upright_bytes(photo: Path) -> bytes | None:
    """Return the photo's file, written again upright; None if it is upright as it is.

    Raises:
        InputError: the photo cannot be read.
        OutputError: the photo cannot be encoded.
    """
    try:
        if image_orientation(photo) == 1:
            return None
        upright = PIL.Image.fromarray(read_image(photo))
    except ImageError as error:
        raise InputError(f"{error} Export with --no-images.") from error
    file = io.BytesIO()
    encoder = _ENCODERS.get(photo.suffix.lower(), "PNG")
    try:
        upright.save(file, encoder, quality=_QUALITY)
    except (OSError, ValueError) as error:
        raise OutputError(f"The photo {photo} cannot be turned upright: {error}") from error
    return file.getvalue()
