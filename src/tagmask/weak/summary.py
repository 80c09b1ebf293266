"""A page on a whole run: curves of what was trained, and seeds, pseudo-masks and student side by side."""

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
from tagmask.weak.mask_folder import mask_file, read_mask, words_of
from tagmask.weak.train_log import read_log

__all__ = ["Looker", "run_curves", "run_page"]

Looker = Callable[[Image], Segmentation]
"""A student, or anything that masks a picture."""


@dataclass(frozen=True)
class _Masks:
    by: str
    folder: Path
    words: tuple[str, ...]


def run_page(
    images: Sequence[FoundImage],
    masks: Mapping[str, Path],
    runs: Mapping[str, Path],
    student: Looker | None,
    metadata: Mapping[str, str],
    *,
    shown: int = 12,
) -> str:
    """The page as HTML.

    Args:
        images: all pictures; some are shown, spread evenly over them.
        masks: folders of masks of the pictures, by what made them, in the order of the steps.
        runs: folders of training runs, by what was trained.
        student: what came out, if it is there.
        metadata: what the reader may want to know.
        shown: how many pictures.

    Raises:
        InputError: a folder of masks that is not finished, or a log that cannot be read.
    """
    made = [_Masks(by, folder, words_of(folder)) for by, folder in masks.items()]
    names = dict(zip(images, map(str, output_names(images)), strict=True))
    step = max(len(images) / max(shown, 1), 1.0)
    chosen = [images[int(i * step)] for i in range(min(shown, len(images)))]
    sights = [sight for image in chosen if (sight := _sight(image, names[image], made, student))]
    charts = [chart for what, folder in runs.items() for chart in run_curves(what, folder)]
    return render("From words to a segmenter", _LEAD, sights, metadata, charts=charts)


_LEAD = (
    "Words and pictures were all that was given. A frozen CLIP made the first masks; WeakCLIP learned from "
    "them and masked the pictures again; a student learned from that, and needs neither CLIP nor words."
)


def run_curves(what: str, folder: Path) -> list[Curves]:
    """Losses and learning rate of a run, step by step; none where it has no log.

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

    return [
        Curves(f"{what}: loss", tuple(curve(name) for name in terms)),
        Curves(f"{what}: learning rate", (curve("lr"),)),
    ]


def _sight(image: FoundImage, name: str, made: Sequence[_Masks], student: Looker | None) -> ReportItem | None:
    """One picture; None where it cannot be read, or no step has a mask of it."""
    try:
        pixels = read_image(image.path)
    except TagmaskError:
        return None
    found = [
        (masks.by, Segmentation(masks.words, read_mask(file, len(masks.words)), None, True, "float32"))
        for masks in made
        if (file := mask_file(masks.folder, name)).exists()
    ]
    if student is not None:
        found.append(("student", student(np.ascontiguousarray(pixels))))
    # the last step first: it is what the reader came for
    return ReportItem(name, pixels, None, tuple(reversed(found))) if found else None
