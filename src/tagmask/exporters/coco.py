"""Write masks as COCO annotations: one run-length encoded region per class and image."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from tagmask.errors import InputError
from tagmask.exporters.image_names import ImageNames
from tagmask.files import atomic_open
from tagmask.runs.reader import Run
from tagmask.strict_json import json_text

__all__ = ["CocoFile", "needs_pycocotools", "write_coco"]


def needs_pycocotools() -> None:
    """Check that pycocotools is installed, before any work is done.

    Raises:
        InputError: it is not; the message gives the command that installs it.
    """
    if find_spec("pycocotools") is None:
        raise InputError("Writing COCO files needs pycocotools. Run: pip install 'tagmask[coco]'")


def write_coco(run: Run, target: Path) -> None:
    """Write the masks of a run, one image after the other; corrected masks replace the run's own.

    Args:
        run: a run with masks. Images that are not done are left out.
        target: the file to write.

    Raises:
        InputError: the run has no masks, or pycocotools is not installed.
        OutputError: the file cannot be written.
    """
    needs_pycocotools()
    words = run.classes.names
    names = ImageNames(run)
    with atomic_open(target) as file:
        coco = CocoFile(file.write, words, background=words[:1] == ("background",))
        for row in run.select(status="done"):
            coco.add(names.of(row), run.mask(row), row.class_confidence)
        coco.finish()


class CocoFile:
    """A COCO annotation file, written image by image. Background and ignored pixels get no annotation.

    Category ids are the mask labels if there is a background, else label + 1, since tools reserve id 0.

    Args:
        write: writes bytes at the end of the file.
        words: the name of each label.
        background: label 0 is the background.
    """

    def __init__(self, write: Callable[[bytes], object], words: Sequence[str], *, background: bool) -> None:
        self._write, self._words, self._background = write, tuple(words), background
        self._images: list[bytes] = []
        self._annotations = 0
        write(b'{"annotations": [')

    def add(
        self,
        file_name: str,
        labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"],
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """Write one image's regions, with holes.

        Args:
            file_name: of the image; unique.
            labels: class per pixel.
            scores: score of each word's region.
        """
        height, width = labels.shape
        image = len(self._images) + 1
        self._images.append(_json({"id": image, "file_name": file_name, "height": height, "width": width}))
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(self._words)))
        for label in (int(i) for i in present if self._background <= i < len(self._words)):
            self._annotations += 1
            annotation: dict[str, object] = {
                "id": self._annotations,
                "image_id": image,
                "category_id": self._category(label),
                "iscrowd": 0,
                **_region(labels == label),
            }
            if scores is not None and self._words[label] in scores:
                annotation["score"] = round(scores[self._words[label]], 6)
            self._write((b", " if self._annotations > 1 else b"") + _json(annotation))

    def finish(self) -> None:
        """Write the images and categories, which end the file."""
        categories = [
            {"id": self._category(label), "name": self._words[label], "supercategory": ""}
            for label in range(int(self._background), len(self._words))
        ]
        self._write(b'], "images": [' + b", ".join(self._images) + b'], "categories": ')
        self._write(_json(categories) + b"}\n")

    def _category(self, label: int) -> int:
        return label if self._background else label + 1


def _region(inside: Bool[np.ndarray, "h w"]) -> dict[str, object]:
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    box: Sequence[float] = coco.toBbox(runs).tolist()
    return {
        "segmentation": {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")},
        "area": int(coco.area(runs)),
        "bbox": box,
    }


def _json(value: object) -> bytes:
    # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
    return json_text(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
