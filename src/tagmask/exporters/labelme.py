"""Write masks for labelme: one JSON file per image, beside its photo."""

import base64
import io
import os
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image
from jaxtyping import Bool

from tagmask.exporters.export import Export
from tagmask.exporters.targets import new_folder
from tagmask.files import unwritable
from tagmask.regions import Region, centre_ring, components, outline_loops
from tagmask.strict_json import json_text

__all__ = ["write_labelme"]

_VERSION = "5.5.0"
"""Of labelme's files, which it writes into them."""
_WITHIN = 0.4
"""Where in a pixel its centre is written: labelme cuts points to whole pixels, other readers round them."""


def write_labelme(export: Export, target: Path) -> None:
    """Write `NAME.json` for each image, and its photo beside it.

    A region without holes is a polygon through the centres of its outermost pixels, one with holes is a mask.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: the run has no masks, a photo is gone or has changed, or something is in the way.
        OutputError: a file cannot be written.
    """
    with new_folder(target) as folder:
        for image in export:
            name = image.row.name
            photo = f"{name}{PurePosixPath(image.flat_name).suffix}"
            image.write_photo(folder / photo)
            kept = export.photo_choice == "none"
            described: dict[str, object] = {
                "version": _VERSION,
                "flags": {},
                "shapes": [shape for region in image.regions() for shape in _shapes(region, export.words)],
                "imagePath": os.path.abspath(image.row.source) if kept else PurePosixPath(photo).name,  # noqa: PTH100
                "imageData": None,
                "imageHeight": image.size[0],
                "imageWidth": image.size[1],
            }
            file = folder / f"{name}.json"
            text = json_text(described, ensure_ascii=False, indent=1) + "\n"
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(text.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise unwritable(file, error) from error


def _shapes(region: Region, words: tuple[str, ...]) -> list[dict[str, object]]:
    """Return one shape for each connected part."""
    shapes = []
    for part in components(region.mask.view(np.uint8), 1, 2):
        top, left = region.top + part.top, region.left + part.left
        height, width = part.mask.shape
        shape: dict[str, object] = {"label": words[region.label], "group_id": None, "description": ""}
        if sum(1 for _ in outline_loops(part.mask)) > 1:
            corners = [[left, top], [left + width - 1, top + height - 1]]
            shape |= {"points": corners, "shape_type": "mask", "mask": _png(part.mask)}
        else:
            ring = centre_ring(part.mask) + np.array([left, top]) + _WITHIN
            shape |= {"points": ring.round(2).tolist(), "shape_type": "polygon", "mask": None}
        shapes.append(shape | {"flags": {}})
    return shapes


def _png(mask: Bool[np.ndarray, "h w"]) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(mask.view(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
