"""Regions as COCO annotations: run lengths, or polygons."""

import numpy as np

from tagmask.checks import check_installed
from tagmask.regions.components import Region, components
from tagmask.regions.rings import corner_ring
from tagmask.types import Size

__all__ = ["coco_annotation", "coco_category", "needs_pycocotools", "run_lengths"]


def needs_pycocotools() -> None:
    """Check that pycocotools is installed, before any work is done.

    Raises:
        InputError: it is not; the message gives the command that installs it.
    """
    check_installed("Writing COCO files", "coco")


def coco_category(label: int, *, background: bool) -> int:
    """Return the category id of a label: the label if 0 is the background, else label + 1.

    Tools reserve id 0.
    """
    return label if background else label + 1


def coco_annotation(
    region: Region,
    size: Size,
    *,
    annotation_id: int,
    image_id: int,
    category_id: int,
    score: float | None = None,
    polygons: bool = False,
) -> dict[str, object]:
    """Return a region as a COCO annotation.

    Args:
        region: the region, with its holes.
        size: (h, w) of its image.
        annotation_id: unique among all images.
        image_id: of its image.
        category_id: of its label.
        score: how sure it is, 0..1; None for none.
        polygons: outlines with holes cut open, instead of run lengths.
    """
    x0, y0, x1, y1 = region.box
    annotation: dict[str, object] = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": 0,
        "area": region.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": _polygons(region) if polygons else run_lengths(region, size),
    }
    if score is not None:
        annotation["score"] = score
    return annotation


def run_lengths(region: Region, size: Size) -> dict[str, object]:
    """Return a region of an image of `size` as COCO's compressed run lengths: {"size", "counts"}."""
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(region.full(size).view(np.uint8)))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}


def _polygons(region: Region) -> list[list[int]]:
    """Return one outline along the pixels' edges for each connected part."""
    return [
        (corner_ring(part.mask) + np.array([region.left + part.left, region.top + part.top])).ravel().tolist()
        for part in components(region.mask.view(np.uint8), 1, 2)
    ]
