"""Write masks as an Ultralytics segmentation data set: one text line per object, with its outline."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagmask.exporters.export import Export, ExportedImage
from tagmask.exporters.targets import new_folder
from tagmask.regions import Region, centre_ring, components
from tagmask.strict_json import json_text

__all__ = ["write_yolo"]

_WITHIN = 0.4
"""Where in a pixel its centre is written. Readers cut pixels to whole numbers or round them: both give the
pixel itself, which 0.5 would not."""


def write_yolo(export: Export, target: Path) -> None:
    """Write `images/SPLIT`, `labels/SPLIT` and `data.yaml`, whose paths are relative to itself.

    Names have no folders. The background is no class: class 0 is the first word after it. Outlines run
    through the centres of the outermost pixels; holes are cut open.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: the run has no masks, a photo is gone or has changed, or something is in the way.
        OutputError: a file cannot be written.
    """
    with new_folder(target) as folder:
        for split in export.splits:
            (folder / "labels" / split).mkdir(parents=True)
            (folder / "images" / split).mkdir(parents=True)
        for image in export:
            image.write_photo(folder / "images" / image.split / image.flat_name)
            lines = (line for region in image.regions() for line in _lines(region, image, export.first))
            label_file = folder / "labels" / image.split / f"{image.flat_stem}.txt"
            label_file.write_text("".join(lines), encoding="utf-8")
        (folder / "data.yaml").write_text(_description(export), encoding="utf-8")


def _lines(region: Region, image: ExportedImage, first: int) -> Iterator[str]:
    """Yield one line for each connected part, since a line holds one outline."""
    height, width = image.size
    for part in components(region.mask.view(np.uint8), 1, 2):
        corner = np.array([region.left + part.left, region.top + part.top]) + _WITHIN
        points = (centre_ring(part.mask) + corner) / np.array([width, height])
        numbers = " ".join(f"{value:.7g}" for value in points.clip(0, 1).ravel().tolist())
        yield f"{region.label - first} {numbers}\n"


def _description(export: Export) -> str:
    # Text in JSON's form is valid YAML, whatever it holds.
    splits = "".join(f"{name}: images/{name}\n" for name in export.splits)
    names = "".join(
        f"  {label}: {json_text(word, ensure_ascii=False)}\n"
        for label, word in enumerate(export.words[export.first :])
    )
    return f"{splits}names:\n{names}"
