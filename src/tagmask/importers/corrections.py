"""Bring corrected masks back into a run: check all of them first, then write, one image after the other."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tagmask.errors import ImageError, InputError
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import ForeignImage, ImportOptions, Reader
from tagmask.importers.image_index import ImageIndex
from tagmask.importers.source import Source
from tagmask.masks import IndexMap, read_index_png
from tagmask.printable import printable, shortened
from tagmask.runs.corrections import keep_correction
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow
from tagmask.types import Size

__all__ = ["ImportReport", "Refusal", "import_corrections"]

_SHOWN = 8
"""Refused images that an error names."""

_Decision = Literal["write", "accept", "keep"]


@dataclass(frozen=True)
class Refusal:
    """An image that cannot be imported."""

    name: str
    reason: str
    """What is wrong, and what to do; sentences, of which the first goes on from the name."""


@dataclass
class ImportReport:
    """What became of the images in another tool's files."""

    imported: int = 0
    """Their masks are corrections now."""
    unchanged: int = 0
    """Their masks are those of the run, so a person accepted them."""
    absent: list[str] = field(default_factory=list)
    """Names of images that are not in the run."""
    refused: list[Refusal] = field(default_factory=list)

    def summary(self) -> str:
        """Describe the import in one line."""
        counts = (
            (self.imported, "corrected"),
            (self.unchanged, "unchanged (accepted)"),
            (len(self.absent), "not in the run"),
            (len(self.refused), "refused"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count) or "No images"


@dataclass(frozen=True)
class _Planned:
    key: str
    decision: _Decision
    digest: bytes


def import_corrections(
    run: Run, path: Path, reader: Reader, options: ImportOptions, *, flat: bool = False
) -> ImportReport:
    """Import corrected masks.

    Args:
        run: the run. A producer may be at work in it.
        path: the other tool's files.
        reader: reads them.
        options: how.
        flat: names in the files have no folders.

    Raises:
        InputError: the files as a whole are invalid, none of their images is in the run, or images are
            refused; nothing was written.
        OutputError: a mask cannot be written. The same import goes on where this one ended.
    """
    classes = ClassMap(run.classes, options.names)
    with Source(path) as source:
        index = ImageIndex(run)
        report, planned = _checked(run, source, index, classes, reader, options, flat)
        if report.refused and not options.skip_refused:
            raise InputError(_refusals(path, report))
        if not planned and not report.refused:
            raise InputError(_nothing(path, report, run, index))
        _write(run, source, classes, reader, options, planned, report)
    return report


def _checked(
    run: Run,
    source: Source,
    index: ImageIndex,
    classes: ClassMap,
    reader: Reader,
    options: ImportOptions,
    flat: bool,
) -> tuple[ImportReport, dict[int, _Planned]]:
    """Draw every mask, and decide what is to be done; images of the files by their place."""
    report, planned, seen = ImportReport(), dict[int, _Planned](), dict[str, str]()
    for place, image in enumerate(reader(source, classes, options)):
        name = shortened(image.names[0], 160)
        try:
            key = index.find(image.names, flat=flat, address=image.address)
            if key is None:
                report.absent.append(name)
                continue
            if key in seen:
                raise InputError(f"{seen[key]} is the same image of the run. Leave one of them out.")
            seen[key] = name
            planned[place] = _decided(run, run[key], image, classes, options)
        except (InputError, ImageError) as error:
            report.refused.append(Refusal(name, _sentence(str(error))))
    return report, planned


def _decided(
    run: Run, row: ImageRow, image: ForeignImage, classes: ClassMap, options: ImportOptions
) -> _Planned:
    if row.status != "done":
        raise InputError("it has no mask in the run yet. Run the run's command again first.")
    machine = read_index_png(run.output_path(row, "masks"))
    labels = _labels(image, machine.shape, classes)
    digest = hashlib.blake2b(labels.tobytes(), digest_size=16).digest()
    corrected = run.output_path(row, "corrected")
    if not corrected.exists():
        same = _same(labels, machine, classes)
        return _Planned(row.key, "accept" if same else "write", digest)
    if not options.replace and not _same(labels, run.mask(row), classes):
        raise InputError("it has another correction already. Replace those with --replace.")
    return _Planned(row.key, "write" if options.replace else "keep", digest)


def _labels(image: ForeignImage, size: tuple[int, ...], classes: ClassMap) -> IndexMap:
    height, width = size
    labels = image.labels((height, width))
    if labels.shape != (height, width):
        raise InputError(f"its mask is {labels.shape} (h, w), expected is {size}. Was the image resized?")
    return labels.astype(classes.dtype, copy=False)


def _same(labels: IndexMap, mask: IndexMap, classes: ClassMap) -> bool:
    """Whether nothing was changed. Pixels without a class, which few tools have, come back as background."""
    equal = labels == mask
    equal |= (mask == classes.ignore_index) & (labels == classes.ground)
    return bool(equal.all())


def _write(
    run: Run,
    source: Source,
    classes: ClassMap,
    reader: Reader,
    options: ImportOptions,
    planned: dict[int, _Planned],
    report: ImportReport,
) -> None:
    database = run.reviews()
    for image, plan in _in_order(reader(source, classes, options), planned):
        row = run[plan.key]
        if plan.decision == "write":
            size: Size = read_index_png(run.output_path(row, "masks")).shape
            labels = _labels(image, size, classes)
            if hashlib.blake2b(labels.tobytes(), digest_size=16).digest() != plan.digest:
                raise InputError(f"{source.path} was changed during the import. Import it again.")
            keep_correction(run, database, row, labels)
            report.imported += 1
            continue
        state: Literal["accepted", "corrected"] = "accepted" if plan.decision == "accept" else "corrected"
        if row.review != state or row.stale:
            database.set_review(row.id, state)
        report.unchanged += 1


def _in_order(
    images: Iterable[ForeignImage], planned: dict[int, _Planned]
) -> Iterator[tuple[ForeignImage, _Planned]]:
    for place, image in enumerate(images):
        if place in planned:
            yield image, planned[place]


def _refusals(path: Path, report: ImportReport) -> str:
    shown = " ".join(f"{refusal.name}: {refusal.reason}" for refusal in report.refused[:_SHOWN])
    more = f" And {len(report.refused) - _SHOWN} more." if len(report.refused) > _SHOWN else ""
    images = "1 image is" if len(report.refused) == 1 else f"{len(report.refused)} images are"
    return (
        f"{path}: {images} refused, so nothing was imported. {shown}{more} Correct that in the tool, or "
        "leave such images out with --skip-refused."
    )


def _sentence(reason: str) -> str:
    return reason if reason.endswith((".", "?")) else f"{reason}."


def _nothing(path: Path, report: ImportReport, run: Run, index: ImageIndex) -> str:
    if not report.absent:
        return f"{path} holds no image that a person annotated. Annotate some, and export again."
    first = next(iter(run), None)
    known = "" if first is None else f" Names there are such as {printable(index.name(first.key))}."
    return (
        f"None of the {len(report.absent)} images in {path}, such as {report.absent[0]}, is in the run "
        f"{run.path}.{known} Give the run that was exported."
    )
