"""Write masks as COCO annotations: one run-length encoded region per class and image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from tagmask.errors import InputError
from tagmask.results import Segmentation

__all__ = ["CocoFile", "needs_pycocotools"]


def needs_pycocotools() -> None:
    """Check that pycocotools is installed, before any work is done.

    Raises:
        InputError: it is not; the message gives the command that installs it.
    """
    if find_spec("pycocotools") is None:
        raise InputError("Writing COCO files needs pycocotools. Run: pip install 'tagmask[coco]'")


@dataclass(eq=False)
class CocoFile:
    """A COCO annotation file, built image by image. Background and ignored pixels get no annotation.

    Category ids are the mask labels if there is a background, else label + 1, since tools reserve id 0.
    """

    words: tuple[str, ...]
    background: bool
    _images: list[dict[str, object]] = field(default_factory=list)
    _annotations: list[dict[str, object]] = field(default_factory=list)

    def add(self, file_name: str, segmentation: Segmentation) -> None:
        """Add one image's regions, with holes. A region's score is the mean over its pixels, if available."""
        height, width = segmentation.labels.shape
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": file_name, "height": height, "width": width})
        labels = np.unique(segmentation.labels)
        for label in (int(i) for i in labels if i < len(self.words) and not (self.background and i == 0)):
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": self._category(label),
                    "iscrowd": 0,
                    **_region(segmentation, label),
                }
            )

    def encode(self) -> bytes:
        """Return the content of the file."""
        first = int(self.background)
        categories = [
            {"id": self._category(label), "name": self.words[label], "supercategory": ""}
            for label in range(first, len(self.words))
        ]
        content = {"images": self._images, "annotations": self._annotations, "categories": categories}
        # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
        return (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")

    def _category(self, label: int) -> int:
        return label if self.background else label + 1


def _region(segmentation: Segmentation, label: int) -> dict[str, object]:
    from pycocotools import mask as coco

    inside = segmentation.labels == label
    runs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    box: Sequence[float] = coco.toBbox(runs).tolist()
    region: dict[str, object] = {
        "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
        "area": int(coco.area(runs)),
        "bbox": box,
    }
    if segmentation.scores is not None:
        region["score"] = round(float(segmentation.scores[label][inside].mean()), 6)
    return region
