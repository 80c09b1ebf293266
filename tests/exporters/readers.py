"""Read exports back, each in the way of the tools that open it: independent of the code that writes them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

__all__ = ["READERS", "Read"]

Read = dict[str, dict[str, np.ndarray]]
"""Name of an image to the pixels of each word that has any."""


def read_coco(target: Path) -> Read:
    """With pycocotools: run lengths or polygons."""
    coco = COCO(str(target))
    found: Read = {image["file_name"]: {} for image in coco.imgs.values()}
    for annotation in coco.anns.values():
        words = found[coco.imgs[annotation["image_id"]]["file_name"]]
        mask = coco.annToMask(annotation).astype(bool)
        word = coco.cats[annotation["category_id"]]["name"]
        words[word] = words.get(word, np.zeros_like(mask)) | mask
        box = coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
        assert box == annotation["bbox"]
        assert annotation["area"] == mask.sum()
    return found


def read_yolo(target: Path) -> Read:
    """As Ultralytics: points are cut to whole pixels, polygons are filled and their lines drawn.

    Supervision rounds points instead, which must give the same pixels.
    """
    description = _yaml(target / "data.yaml")
    names = [json.loads(text) for text in description["names"].values()]
    assert list(map(int, description["names"])) == list(range(len(names)))
    found: Read = {}
    for split in ("train", "val"):
        folder = target / description[split]
        for photo in sorted(folder.iterdir()):
            with PILImage.open(photo) as opened:
                assert opened.getexif().get(0x0112, 1) == 1
                size = opened.size
            words: dict[str, np.ndarray] = {}
            lines = (target / "labels" / split / f"{photo.stem}.txt").read_text().splitlines()
            for line in lines:
                label, *numbers = line.split()
                points = np.array(numbers, float).reshape(-1, 2)
                assert len(points) >= 3
                assert np.ptp(points, axis=0).min() > 0
                assert points.min() >= 0
                assert points.max() <= 1
                canvas = PILImage.new("1", size)
                cut = (points * size).astype(int)
                np.testing.assert_array_equal(np.round(points.astype(np.float32) * np.float32(size)), cut)
                corners = [tuple(p) for p in cut.tolist()]
                ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
                word, mask = names[int(label)], np.array(canvas)
                words[word] = words.get(word, np.zeros_like(mask)) | mask
            found[photo.name] = words
    return found


def _yaml(path: Path) -> dict[str, dict[str, str] | str]:
    """The few lines of YAML that are written there."""
    content: dict[str, dict[str, str] | str] = {}
    inner: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.strip().partition(": ")
        if line.startswith(" "):
            inner[key] = value
        elif line == "names:":
            content["names"] = inner
        else:
            content[key] = value
    return content


READERS: Mapping[str, Callable[[Path], Read]] = {
    "coco": read_coco,
    "yolo": read_yolo,
}
"""One for each format that holds masks."""

FLAT = {"yolo"}
"""Formats whose names have no folders."""
