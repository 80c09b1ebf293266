"""Which library opens which format, and what it must give back."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from tagmask.exporters import EXPORTERS
from tagmask.regions import components
from tagmask.runs.reader import Run
from tests.bridges.environments import answer_of, run_program

__all__ = ["OPENINGS", "Masks", "Opening", "grown", "iou", "large_ious"]

Masks = dict[str, dict[str, np.ndarray]]
"""Name of an image to the pixels of each word in it."""


@dataclass(frozen=True)
class Opening:
    """A format, and a library that opens it."""

    format: str
    environment: str | None
    """A folder of build/bridges; None for tagmask's own environment."""
    program: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the export."""
    written_in: str | None = None
    """The environment that has a library which the export needs; None for tagmask's own."""
    flat: bool = False
    """Whether names have no folders."""
    endings: bool = True
    """Whether the library gives names with their endings."""
    grows: bool = False
    """Whether the library draws polygons one pixel larger on the right and below."""

    @property
    def name(self) -> str:
        """Of a test, or a row of a table."""
        options = "".join(f" --{name}" for name in self.options)
        return f"{self.format}{options}: {self.program.removesuffix('.py')} {self.environment or ''}".strip()

    def export(self, run_path: Path, out: Path) -> Path:
        """Export a run below a folder, and return what was written."""
        if self.written_in is None:
            with Run(run_path) as run:
                return run.export(self.format, out, **self.options)
        arguments = (run_path, self.format, json.dumps(self.options), out)
        return Path(run_program(self.written_in, "write_export.py", *arguments, tagmask=True).strip())

    def open(self, target: Path) -> tuple[str, Masks]:
        """Return the library with its version, and what it reads."""
        return answer_of(self.environment, self.program, *self.arguments, target)

    def named(self, truth: Masks, flat_names: Mapping[str, str]) -> Masks:
        """Return the truth with the names that the library gives."""
        names = {name: flat_names[name] if self.flat else name for name in truth}
        if not self.endings:
            names = {name: str(PurePosixPath(given).with_suffix("")) for name, given in names.items()}
        return {names[name]: words for name, words in truth.items()}


_ALL = (
    Opening("coco", None, "open_coco_with_pycocotools.py"),
    Opening("coco", None, "open_coco_with_pycocotools.py", options={"polygons": True}),
    Opening("coco", "pycocotools", "open_coco_with_pycocotools.py"),
    Opening("coco", "pycocotools", "open_coco_with_pycocotools.py", options={"polygons": True}),
    Opening("coco", "sdk", "open_with_supervision.py", ("coco",)),
    Opening("coco", "sdk", "open_with_supervision.py", ("coco",), {"polygons": True}, grows=True),
    Opening("coco", "datumaro", "open_with_datumaro.py", ("coco_instances",), endings=False),
    Opening("coco-panoptic", "datumaro", "open_with_datumaro.py", ("coco_panoptic",), endings=False),
    Opening("yolo", "sdk", "open_with_supervision.py", ("yolo",), flat=True),
    Opening("voc", "datumaro", "open_with_datumaro.py", ("voc_segmentation",), endings=False),
    Opening("cvat", "datumaro", "open_with_datumaro.py", ("voc_segmentation",), endings=False),
    Opening("hf", "hf", "open_with_datasets.py"),
    Opening("hf", "hf", "open_with_datasets.py", options={"parquet": True}, written_in="hf"),
    Opening("label-studio", "sdk", "open_label_studio.py"),
)
OPENINGS = tuple(opening for opening in _ALL if opening.format in EXPORTERS)
_LARGE = 100
"""Polygons of components over this number of pixels must come back almost equal."""


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two masks; 1 for two empty ones."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def large_ious(found: np.ndarray, mask: np.ndarray) -> Iterator[float]:
    """Yield the IoU of each large component with what was found there, other components aside."""
    height, width = mask.shape
    for part in components(mask.view(np.uint8), 1, 2, _LARGE + 1):
        x0, y0, x1, y1 = part.box
        box = slice(max(0, y0 - 2), y1 + 2), slice(max(0, x0 - 2), x1 + 2)
        own = part.full((height, width))[box]
        yield iou(found[box] & ~(mask[box] & ~own), own)


def grown(mask: np.ndarray) -> np.ndarray:
    """Return the pixels that have the mask at themselves, on their left, above, or both.

    These are the pixels of a filled polygon along the mask's edges whose line is drawn too, as OpenCV does.
    """
    padded = np.pad(mask, ((1, 0), (1, 0)))
    larger: np.ndarray = padded[1:, 1:] | padded[:-1, 1:] | padded[1:, :-1] | padded[:-1, :-1]
    return larger
