"""Masks as COCO annotations: one run-length encoded region for each class in each image."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from tagmask.errors import InputError
from tagmask.results import Segmentation

__all__ = ["CocoFile", "needs_pycocotools"]


def needs_pycocotools() -> None:
    """Refuse early where the encoder is not installed.

    Raises:
        InputError: with the command that installs it.
    """
    if find_spec("pycocotools") is None:
        raise InputError("COCO files need pycocotools: pip install 'tagmask[coco]'")


@dataclass(eq=False)
class CocoFile:
    """COCO's JSON, grown image by image. The background and pixels that are nothing are no annotation.

    Category ids are the labels of the masks where there is a background, else label + 1: 0 is none to tools.
    """

    words: tuple[str, ...]
    background: bool
    _images: list[dict[str, object]] = field(default_factory=list)
    _annotations: list[dict[str, object]] = field(default_factory=list)

    def add(self, file_name: str, found: Segmentation) -> None:
        """One image's regions, holes kept; the score is the mean over its pixels, where scores are kept."""
        height, width = found.labels.shape
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": file_name, "height": height, "width": width})
        labels = np.unique(found.labels)
        for label in (int(i) for i in labels if i < len(self.words) and not (self.background and i == 0)):
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": self._category(label),
                    "iscrowd": 0,
                    **_region(found, label),
                }
            )

    def encode(self) -> bytes:
        """The file."""
        first = int(self.background)
        categories = [
            {"id": self._category(label), "name": self.words[label], "supercategory": ""}
            for label in range(first, len(self.words))
        ]
        whole = {"images": self._images, "annotations": self._annotations, "categories": categories}
        # A file name need not be text: what is none becomes an escape, which JSON reads back.
        return (json.dumps(whole, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")

    def _category(self, label: int) -> int:
        return label if self.background else label + 1


def _region(found: Segmentation, label: int) -> dict[str, object]:
    from pycocotools import mask as coco

    inside = found.labels == label
    runs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    box: Sequence[float] = coco.toBbox(runs).tolist()
    region: dict[str, object] = {
        "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
        "area": int(coco.area(runs)),
        "bbox": box,
    }
    if found.scores is not None:
        region["score"] = round(float(found.scores[label][inside].mean()), 6)
    return region
