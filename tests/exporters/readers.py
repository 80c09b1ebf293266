"""Read exports back, each in the way of the tools that open it: independent of the code that writes them."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

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
    """As Ultralytics: points become whole pixels, polygons are filled and their lines drawn."""
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
                corners = [tuple(p) for p in (points * size).astype(int).tolist()]
                ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
                word, mask = names[int(label)], np.array(canvas)
                words[word] = words.get(word, np.zeros_like(mask)) | mask
            found[photo.name] = words
    return found


def read_label_studio(target: Path) -> Read:
    """As Label Studio: labels of the setup alone, brush masks bit by bit, their opacity."""
    setup = ElementTree.parse(target / "labeling_config.xml").getroot()
    labels = {label.attrib["value"]: label.attrib["background"] for label in setup.iter("Label")}
    assert len(set(labels.values())) == len(labels)
    assert {choice.attrib["value"] for choice in setup.iter("Choice")} == set(labels)
    parts = {part.attrib["name"]: part for part in setup}
    found: Read = {}
    for task in json.loads((target / "tasks.json").read_text(encoding="utf-8")):
        (prediction,) = task["predictions"]
        assert parts["image"].attrib["value"] == "$image"
        path = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        assert path.endswith(task["data"]["file_name"])
        assert Path("/", path).is_file()
        words: dict[str, np.ndarray] = {}
        ids = [result["id"] for result in prediction["result"]]
        assert len(set(ids)) == len(ids)
        for result in prediction["result"]:
            assert parts[result["from_name"]].attrib["toName"] == result["to_name"] == "image"
            if result["type"] == "choices":
                assert set(result["value"]["choices"]) <= set(labels)
                continue
            (word,) = result["value"]["brushlabels"]
            assert word in labels
            size = result["original_height"], result["original_width"]
            rgba = _brush_values(result["value"]["rle"]).reshape(*size, 4)
            assert (rgba == rgba[..., :1]).all()
            words[word] = words.get(word, np.zeros(size, bool)) | (rgba[..., 3] > 0)
        found[task["data"]["file_name"]] = words
    return found


def _brush_values(data: list[int]) -> np.ndarray:
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        is_run = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    return np.array(values)


def read_labelme(target: Path) -> Read:
    """As labelme: points are cut to whole pixels, polygons filled and their lines drawn; masks are pasted."""
    found: Read = {}
    for file in sorted(target.rglob("*.json")):
        described = json.loads(file.read_text(encoding="utf-8"))
        photo = file.parent / described["imagePath"]
        with PILImage.open(photo) as opened:
            assert opened.getexif().get(0x0112, 1) == 1
            assert opened.size == (described["imageWidth"], described["imageHeight"])
            size = opened.size
        words: dict[str, np.ndarray] = {}
        for shape in described["shapes"]:
            canvas = np.zeros(size[::-1], bool)
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = shape["points"]
                with PILImage.open(io.BytesIO(base64.b64decode(shape["mask"]))) as mask:
                    canvas[y0 : y1 + 1, x0 : x1 + 1] = np.array(mask).astype(bool)
            else:
                assert len(shape["points"]) >= 3
                drawn = PILImage.new("1", size)
                corners = [(int(x), int(y)) for x, y in shape["points"]]
                ImageDraw.Draw(drawn).polygon(corners, fill=1, outline=1)
                canvas = np.array(drawn)
            words[shape["label"]] = words.get(shape["label"], np.zeros_like(canvas)) | canvas
        found[photo.relative_to(target).as_posix()] = words
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
    "label-studio": read_label_studio,
    "labelme": read_labelme,
}
"""One for each format that holds masks."""

FLAT = {"yolo"}
"""Formats whose names have no folders."""
