"""A run of three small images, and what is to be imported into it."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from tests.exporters.made_runs import write_photos, write_run

__all__ = ["MASKS", "WORDS", "coco", "make_run", "packed", "png"]

WORDS = ("background", "cat", "dog", "hot dog")
MASKS = {
    "a.png": np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0]], np.uint8),
    "sub/a.png": np.zeros((3, 4), np.uint8),
    "sub/b.jpg": np.full((6, 5), 3, np.uint8),
}


def make_run(folder: Path, masks: dict[str, np.ndarray] = MASKS, words: tuple[str, ...] = WORDS) -> Path:
    return write_run(folder / "run", write_photos(folder / "photos", masks), masks, words)


def coco(*annotations: dict, image: dict | None = None, **more: object) -> dict:
    """A COCO file of one image, sub/b.jpg."""
    listed = {"id": 1, "file_name": "sub/b.jpg", "height": 6, "width": 5} | (image or {})
    return {
        "images": [listed],
        "categories": [{"id": number + 3, "name": word} for number, word in enumerate(WORDS[1:])],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 1} | annotation
            for number, annotation in enumerate(annotations)
        ],
    } | more


def packed(target: Path, files: dict[str, bytes | dict | list]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            archive.writestr(name, data)
    return target


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    PILImage.fromarray(values).save(file, "PNG")
    return file.getvalue()
