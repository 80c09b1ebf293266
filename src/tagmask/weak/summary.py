"""HTML report on a whole run: training curves, and seeds, pseudo-masks and student masks side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagmask.errors import TagmaskError
from tagmask.images import read_image
from tagmask.report import Curve, Curves, ReportItem, render
from tagmask.results import Segmentation
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.types import Image
from tagmask.weak.mask_folder import mask_files, read_mask, words_of
from tagmask.weak.train_log import read_log
from tagmask.weak.validation import VALIDATION_FILE

__all__ = ["SegmentFunction", "run_curves", "run_page"]

SegmentFunction = Callable[[Image], Segmentation]
"""A student, or any other function that segments an image."""


@dataclass(frozen=True)
class _MaskSet:
    name: str
    files: Mapping[FoundImage, Path | None]
    words: tuple[str, ...]


def run_page(
    images: Sequence[FoundImage],
    masks: Mapping[str, Path],
    runs: Mapping[str, Path],
    student: SegmentFunction | None,
    metadata: Mapping[str, str],
    *,
    shown: int = 12,
) -> str:
    """Render the report as HTML.

    Args:
        images: all images; an evenly spaced selection is shown.
        masks: mask folders by the name of the step that wrote them, in the order of the steps.
        runs: folders of training runs, by the name of the model.
        student: the trained student, if there is one.
        metadata: facts for the reader, such as words and version.
        shown: number of images to show.

    Raises:
        InputError: a folder of masks is not finished, or a log cannot be read.
    """
    mask_sets = [
        _MaskSet(name, dict(zip(images, mask_files(folder, images), strict=True)), words_of(folder))
        for name, folder in masks.items()
    ]
    names = dict(zip(images, map(str, output_names(images)), strict=True))
    step = max(len(images) / max(shown, 1), 1.0)
    selected = [images[int(i * step)] for i in range(min(shown, len(images)))]
    items = [item for image in selected if (item := _report_item(image, names[image], mask_sets, student))]
    charts = [chart for what, folder in runs.items() for chart in run_curves(what, folder)]
    return render("From words to a segmenter", _LEAD, items, metadata, charts=charts)


_LEAD = (
    "The only inputs were words and images. A frozen CLIP computed seed masks. WeakCLIP was trained on them "
    "and predicted pseudo-masks. A student was trained on those; it needs neither CLIP nor words."
)


def run_curves(what: str, folder: Path) -> list[Curves]:
    """Curves of losses, learning rate and validations of a run; empty if it has no log.

    Raises:
        InputError: the log cannot be read.
    """
    rows = read_log(folder)
    if not rows:
        return []
    steps = tuple(row["step"] for row in rows)
    terms = [name for name in rows[0] if name not in ("step", "lr", "gradient")]
    terms = sorted(terms, key=lambda name: name != "total")

    def curve(name: str) -> Curve:
        return Curve(name, steps, tuple(row[name] for row in rows))

    charts = [
        Curves(f"{what}: loss", tuple(curve(name) for name in terms)),
        Curves(f"{what}: learning rate", (curve("lr"),)),
    ]
    if validations := read_log(folder, VALIDATION_FILE):
        measured = tuple(row["step"] for row in validations), tuple(row["miou"] for row in validations)
        charts.append(Curves(f"{what}: mIoU of validations", (Curve("mIoU", *measured),)))
    return charts


def _report_item(
    image: FoundImage, name: str, mask_sets: Sequence[_MaskSet], student: SegmentFunction | None
) -> ReportItem | None:
    """One image of the report; None if it cannot be read or has no mask."""
    try:
        pixels = read_image(image.path)
    except TagmaskError:
        return None
    results = [
        (masks.name, Segmentation(masks.words, read_mask(file, len(masks.words)), None, True, "float32"))
        for masks in mask_sets
        if (file := masks.files[image]) is not None and file.exists()
    ]
    if student is not None:
        results.append(("student", student(np.ascontiguousarray(pixels))))
    # The last step first: it is the final result.
    return ReportItem(name, pixels, None, tuple(reversed(results))) if results else None
